"""pipeTo (https://streams.spec.whatwg.org/#readable-stream-pipe-to).

One task reads and writes, unless the source knows a short cut into this
destination (`Ferry`): then that is taken first, and what is left when it ends,
such as the end of the source, goes the long way. What may end the pipe from
outside while that task waits (the destination's end, an abort signal) cancels
the scope it waits in; the task then looks at what has happened and shuts down in
the standard's order: errors of the source, errors of the destination, the
source's end, the destination's end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, final

from ..errors import as_exception
from ..promise import Promise, rejected
from ..runtime import Scope
from .members import read_flags
from .readable import ReadableState, ReadableStream, ReadableStreamDefaultReader
from .writable import WritableState, WritableStream, WritableStreamDefaultWriter

if TYPE_CHECKING:
    from ..abort import AbortSignal

__all__ = ["pipe_to", "start_pipe"]

Action: TypeAlias = "Callable[[], Promise[None]]"

_FLAGS = ("preventClose", "preventAbort", "preventCancel")


def pipe_to(
    source: ReadableStream,
    destination: WritableStream,
    options: Mapping[str, object] | None,
    signal: AbortSignal | None,
    members: Mapping[str, object],
) -> Promise[None]:
    """Start a pipe; the promise settles when it has ended and let go."""
    try:
        return start_pipe("pipeTo", source, destination, options, signal, members)
    except TypeError as error:
        return rejected(source._runtime, error.with_traceback(None))


def start_pipe(
    where: str,
    source: ReadableStream,
    destination: WritableStream,
    options: Mapping[str, object] | None,
    signal: AbortSignal | None,
    members: Mapping[str, object],
) -> Promise[None]:
    """The same, but TypeError at the call for what is not acceptable."""
    flags = read_flags(where, _FLAGS, options, members)
    if options is not None and options.get("signal") is not None:
        if signal is not None:
            raise TypeError(f"{where}() got the member 'signal' twice")
        signal = options["signal"]  # type: ignore[assignment]
    if signal is not None and not hasattr(signal, "aborted"):
        raise TypeError(f"signal must be an AbortSignal, not {signal!r}")
    if not isinstance(destination, WritableStream):
        raise TypeError(f"{where}() needs a WritableStream, not {destination!r}")
    if source.locked or destination.locked:
        raise TypeError(f"{where}() needs two streams that are not locked")
    pipe = _Pipe(source, destination, signal, flags)
    source._runtime.spawn(pipe.run, name="wsockets pipe")
    return pipe.done


@final
class _Pipe:
    """One pipe: what it holds, and why it ends."""

    __slots__ = (
        "_destination",
        "_ferry",
        "_flags",
        "_last",
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
        # Asked for at once, that two pipes can find each other.
        self._ferry = source._controller.ferry(destination._controller)
        # The last write that was queued; what comes before it is sent before.
        self._last: Promise[None] | None = None
        self.done: Promise[None] = Promise(source._runtime)

    async def run(self) -> None:
        signal, destination = self._signal, self._destination
        if signal is not None:
            signal.addEventListener("abort", self._stop)
        destination._when_leaving = self._scope.cancel
        try:
            with self._scope:
                if signal is None or not signal.aborted:
                    await self._move()
            error = await self._shut_down()
        finally:
            destination._when_leaving = None
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
        if self._ferry is not None:
            await self._ferry.carry()
        try:
            while True:
                await writer.ready
                if self._destination._state is not WritableState.WRITABLE:
                    return
                value, done = await reader.read()
                if done:
                    return
                # Not awaited: `ready` is what slows the pipe down.
                written = writer.write(value)
                if written._is_pending():
                    self._last = written
        except Exception:
            # Either stream's error; the states tell which.
            return

    async def _shut_down(self) -> BaseException | None:
        """End what is to be ended; the error that `done` gets, if any."""
        actions, error = self._decide()
        last = self._last
        if last is not None and self._destination._state is WritableState.WRITABLE:
            # Every chunk that was read is written first.
            await _outcome(last)
        failures = [await _outcome(promise) for promise in [act() for act in actions]]
        return next((failure for failure in failures if failure is not None), error)

    def _decide(self) -> tuple[list[Action], BaseException | None]:
        """What to do, and with which error to end, by the first rule that applies."""
        source, destination = self._source, self._destination
        abort, cancel = self._abort, self._cancel
        if self._signal is not None and self._signal.aborted:
            reason = self._signal.reason
            actions = abort(reason) if destination._error is None else []
            if source._state is ReadableState.READABLE:
                actions += cancel(reason)
            return actions, as_exception(reason)
        if source._error is not None:
            return abort(source._error), source._error
        if destination._error is not None:
            return cancel(destination._error), destination._error
        if source._state is ReadableState.CLOSED:
            if self._flags["preventClose"] or (
                destination._state is not WritableState.WRITABLE
            ):
                return [], None
            return [destination._close], None
        error = TypeError("the destination was closed before the source had ended")
        return cancel(error), error

    def _abort(self, reason: object) -> list[Action]:
        if self._flags["preventAbort"]:
            return []
        return [lambda: self._destination._abort(reason)]

    def _cancel(self, reason: object) -> list[Action]:
        if self._flags["preventCancel"]:
            return []
        return [lambda: self._source._cancel(reason)]


async def _outcome(promise: Promise[None]) -> BaseException | None:
    try:
        await promise
    except Exception as error:
        return error
    return None
