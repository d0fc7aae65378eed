"""pipeTo (https://streams.spec.whatwg.org/#readable-stream-pipe-to).

One task reads and writes. What may end the pipe from outside while that task
waits (the destination's end, an abort signal) cancels the scope it waits in;
the task then looks at what has happened and shuts down in the standard's
order: errors of the source, errors of the destination, the source's end, the
destination's end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

from ..errors import as_exception
from ..promise import Promise, rejected
from ..runtime import Scope
from .members import read_flags
from .readable import ReadableState, ReadableStream, ReadableStreamDefaultReader
from .writable import WritableState, WritableStream, WritableStreamDefaultWriter

if TYPE_CHECKING:
    from ..abort import AbortSignal

__all__ = ["pipe_to"]

_FLAGS = ("preventClose", "preventAbort", "preventCancel")


def pipe_to(
    source: ReadableStream,
    destination: WritableStream,
    options: Mapping[str, object] | None,
    signal: AbortSignal | None,
    members: Mapping[str, object],
) -> Promise[None]:
    """Start a pipe; the promise settles when it has ended and let go."""
    runtime = source._runtime
    try:
        flags = read_flags("pipeTo", _FLAGS, options, members)
        if options is not None and options.get("signal") is not None:
            if signal is not None:
                raise TypeError("pipeTo() got the member 'signal' twice")
            signal = options["signal"]  # type: ignore[assignment]
        if signal is not None and not hasattr(signal, "aborted"):
            raise TypeError(f"signal must be an AbortSignal, not {signal!r}")
        if not isinstance(destination, WritableStream):
            raise TypeError(f"pipeTo() needs a WritableStream, not {destination!r}")
        if source.locked or destination.locked:
            raise TypeError("pipeTo() needs two streams that are not locked")
    except TypeError as error:
        return rejected(runtime, error.with_traceback(None))
    pipe = _Pipe(source, destination, signal, flags)
    runtime.spawn(pipe.run, name="wsockets pipe")
    return pipe.done


@final
class _Pipe:
    """One pipe: what it holds, and why it ends."""

    __slots__ = (
        "_destination",
        "_flags",
        "_reader",
        "_scope",
        "_signal",
        "_source",
        "_writer",
        "done",
    )

    def __init__(
        self,
        source: ReadableStream,
        destination: WritableStream,
        signal: AbortSignal | None,
        flags: dict[str, bool],
    ) -> None:
        self._source = source
        self._destination = destination
        self._signal = signal
        self._flags = flags
        self._reader: ReadableStreamDefaultReader = source.getReader()
        self._writer: WritableStreamDefaultWriter = destination.getWriter()
        self._scope: Scope = source._runtime.scope()
        self.done: Promise[None] = Promise(source._runtime)

    async def run(self) -> None:
        signal = self._signal
        if signal is not None:
            signal.addEventListener("abort", self._stop)
        self._writer.closed._when_settled(self._scope.cancel)
        try:
            with self._scope:
                if signal is None or not signal.aborted:
                    await self._move()
            error = await self._shut_down()
        finally:
            if signal is not None:
                signal.removeEventListener("abort", self._stop)
            self._reader.releaseLock()
            self._writer.releaseLock()
        if error is None:
            self.done._fulfil(None)
        else:
            self.done._reject(error)

    def _stop(self, _event: object) -> None:
        self._scope.cancel()

    async def _move(self) -> None:
        """Until either stream ends."""
        reader, writer = self._reader, self._writer
        try:
            while self._destination._state is WritableState.WRITABLE:
                await writer.ready
                value, done = await reader.read()
                if done:
                    return
                # Not awaited: `ready` is what slows the pipe down.
                writer.write(value)
        except Exception:
            # Either stream's error; the states tell which.
            return

    async def _shut_down(self) -> BaseException | None:
        """End the other side as the flags say; the error that `done` gets."""
        source, destination = self._source, self._destination
        flags = self._flags
        if self._signal is not None and self._signal.aborted:
            reason = self._signal.reason
            error = as_exception(reason)
            actions: list[Callable[[], Promise[None]]] = []
            if not flags["preventAbort"]:
                actions.append(lambda: destination._abort(reason))
            if not flags["preventCancel"]:
                actions.append(lambda: source._cancel(reason))
            failed = None
            for action in actions:
                failed = await _attempt(action) or failed
            return failed or error
        if source._state is ReadableState.ERRORED:
            error = source._error or TypeError("the source failed")
            if not flags["preventAbort"]:
                return await _attempt(lambda: destination._abort(error)) or error
            return error
        if destination._error is not None:
            error = destination._error
            if not flags["preventCancel"]:
                return await _attempt(lambda: source._cancel(error)) or error
            return error
        if source._state is ReadableState.CLOSED:
            if flags["preventClose"]:
                return await _attempt(lambda: self._written())
            if destination._state is not WritableState.WRITABLE:
                return None
            return await _attempt(destination._close)
        error = TypeError("the destination was closed before the source had ended")
        if not flags["preventCancel"]:
            return await _attempt(lambda: source._cancel(error)) or error
        return error

    def _written(self) -> Promise[None]:
        """Everything written so far: an empty chunk goes behind it."""
        return self._destination._controller.write(b"")


async def _attempt(action: Callable[[], Promise[None]]) -> BaseException | None:
    try:
        await action()
    except Exception as error:
        return error
    return None
