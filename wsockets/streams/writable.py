"""WritableStream and its writer (https://streams.spec.whatwg.org/#ws-model)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, final

from ..errors import as_exception
from ..promise import Promise, fulfilled, rejected
from ..runtime import Runtime, protect
from .held import HELD, Held

__all__ = [
    "WritableController",
    "WritableState",
    "WritableStream",
    "WritableStreamDefaultWriter",
]


class WritableState(enum.Enum):
    """https://streams.spec.whatwg.org/#writablestream-state

    The standard keeps "close requested" in a slot of its own; here it is the
    state CLOSING. ERRORING is for a controller that has to finish something
    before it lets go; the stream rejects writes in it like in ERRORED.
    """

    WRITABLE = "writable"
    CLOSING = "closing"
    CLOSED = "closed"
    ERRORING = "erroring"
    ERRORED = "errored"


# Python 3.11 finds the members of an enum by a function, which costs two calls.
_WRITABLE: Final = WritableState.WRITABLE


class WritableController(Protocol):
    """What a WritableStream asks of the one who takes the data."""

    def write(self, chunk: Any) -> Promise[None]:
        """Take a chunk. The stream is WRITABLE."""

    def close(self) -> Promise[None]:
        """Finish what was written, then end. The stream is CLOSING."""

    def abort(self, error: BaseException) -> Promise[None]:
        """Drop what was written and end. The stream is ERRORING already."""

    def settle(self, error: BaseException) -> None:
        """The stream has failed: reject what still waits."""

    @property
    def desired_size(self) -> int:
        """How many more bytes are welcome; negative when over the mark.

        When it becomes positive again, the stream's `_relieved` is called.
        """


@final
class WritableStream:
    """A sink of bytes or messages, written to by one writer at a time.

    Streams are attributes of a Socket; they are not constructed.
    https://streams.spec.whatwg.org/#ws-class
    """

    __slots__ = (
        "__weakref__",
        "_controller",
        "_error",
        "_runtime",
        "_state",
        "_traceback",
        "_when_leaving",
        "_writer",
    )

    _controller: WritableController
    _error: BaseException | None
    _runtime: Runtime
    _state: WritableState
    # What the error's traceback was before anybody raised it.
    _traceback: TracebackType | None
    # A pipe's: called when the stream takes no more.
    _when_leaving: Callable[[], None] | None
    _writer: WritableStreamDefaultWriter | Held | None

    def __init__(self) -> None:
        raise TypeError("a WritableStream is not constructed: it comes with a Socket")

    @classmethod
    def _make(cls, runtime: Runtime, controller: WritableController) -> WritableStream:
        stream = cls.__new__(cls)
        stream._runtime = runtime
        stream._controller = controller
        stream._writer = None
        stream._when_leaving = None
        stream._state = WritableState.WRITABLE
        stream._error = None
        stream._traceback = None
        return stream

    # -- the standard's members

    @property
    def locked(self) -> bool:
        """Whether a writer (or a pipe) holds the stream."""
        return self._writer is not None

    def abort(self, reason: object = None) -> Promise[None]:
        """Drop what is queued and end; writes reject with the reason.

        Rejects with TypeError while the stream is locked.
        """
        if self._writer is not None:
            return rejected(
                self._runtime,
                TypeError("a locked stream cannot be aborted; abort its writer"),
            )
        return self._abort(reason)

    def close(self) -> Promise[None]:
        """End after everything that was written has been sent.

        Rejects with TypeError while the stream is locked, or if it is closed.
        """
        if self._writer is not None:
            return rejected(
                self._runtime,
                TypeError("a locked stream cannot be closed; close its writer"),
            )
        return self._close()

    def getWriter(self) -> WritableStreamDefaultWriter:
        """Lock the stream to a new writer. TypeError if it is locked already."""
        return WritableStreamDefaultWriter(self)

    get_writer = getWriter

    # -- for writers, pipes, loans and controllers

    def _hold(self) -> None:
        """Lock the stream, which is not locked, without a writer."""
        self._writer = HELD

    def _let_go(self) -> None:
        """Unlock what `_hold` has locked."""
        self._writer = None

    def _abort(self, reason: object) -> Promise[None]:
        if self._state in (WritableState.CLOSED, WritableState.ERRORED):
            return fulfilled(self._runtime, None)
        error = as_exception(reason)
        if self._state is not WritableState.ERRORING:
            self._start_failing(error)
        return self._controller.abort(error)

    def _close(self) -> Promise[None]:
        if self._state is not WritableState.WRITABLE:
            error = self._error
            if error is None or isinstance(error, TypeError):
                return self._refused()
            refusal = TypeError("a writable that has failed cannot be closed")
            refusal.__cause__ = error
            return rejected(self._runtime, refusal)
        self._closing()
        return self._controller.close()

    def _closing(self) -> None:
        """Take no more writes."""
        if self._state is WritableState.WRITABLE:
            self._state = WritableState.CLOSING
            self._relieved()
            if self._when_leaving is not None:
                self._when_leaving()

    @protect
    def _relieved(self) -> None:
        """There is room again, or it no longer matters."""
        writer = self._writer
        if writer is not None and writer._ready is not None:
            writer._ready._fulfil(None)

    def _refused(self) -> Promise[None]:
        """What a write or close gets that is not possible any more."""
        promise: Promise[None] = Promise(self._runtime)
        error = self._error or TypeError("the writable was closed before")
        promise._reject_from(error, self._traceback)
        return promise

    @protect
    def _start_failing(self, error: BaseException) -> None:
        self._state = WritableState.ERRORING
        self._error = error
        self._traceback = error.__traceback__
        self._controller.settle(error)
        writer = self._writer
        if writer is not None and writer._ready is not None:
            writer._ready._reject(error)
        if self._when_leaving is not None:
            self._when_leaving()

    @protect
    def _fail(self, error: BaseException) -> None:
        """Writes raise `error` from now on; nothing if the stream has ended."""
        if self._state in (WritableState.CLOSED, WritableState.ERRORED):
            return
        if self._state is not WritableState.ERRORING:
            self._start_failing(error)
        self._state = WritableState.ERRORED
        self._settle_closed()

    @protect
    def _finish(self) -> None:
        """Everything was sent and the end as well."""
        if self._state in (WritableState.WRITABLE, WritableState.CLOSING):
            self._state = WritableState.CLOSED
            self._settle_closed()

    def _settle_closed(self) -> None:
        writer = self._writer
        if writer is not None and writer._closed is not None:
            writer._settle(writer._closed)


@final
class WritableStreamDefaultWriter:
    """Writes to a stream (https://streams.spec.whatwg.org/#default-writer-class)."""

    __slots__ = ("_closed", "_ready", "_runtime", "_stream")

    _closed: Promise[None] | None
    _ready: Promise[None] | None

    def __init__(self, stream: WritableStream) -> None:
        if not isinstance(stream, WritableStream):
            raise TypeError(f"a writer writes to a WritableStream, not {stream!r}")
        if stream._writer is not None:
            raise TypeError(
                "the stream is locked: release its writer (or end its pipe) first"
            )
        self._stream: WritableStream | None = stream
        self._runtime = stream._runtime
        self._closed = None
        self._ready = None
        stream._writer = self

    @property
    def closed(self) -> Promise[None]:
        """Settles when the stream has ended, or when the lock is released."""
        closed = self._closed
        if closed is None:
            closed = self._closed = Promise(self._runtime)
            self._settle(closed)
        return closed

    def _settle(self, closed: Promise[None]) -> None:
        stream = self._stream
        if stream is None:
            closed._reject(_released())
        elif stream._state is WritableState.CLOSED:
            closed._fulfil(None)
        elif stream._state is WritableState.ERRORED:
            assert stream._error is not None
            closed._reject_from(stream._error, stream._traceback)

    @property
    def desiredSize(self) -> int | None:
        """How many more bytes are welcome before `ready` is pending.

        Negative when over the high water mark, 0 when closed, None when the
        stream has failed. TypeError once the lock is released.
        """
        stream = self._stream
        if stream is None:
            raise _released()
        if stream._state in (WritableState.WRITABLE, WritableState.CLOSING):
            return stream._controller.desired_size
        return 0 if stream._state is WritableState.CLOSED else None

    @property
    def ready(self) -> Promise[None]:
        """Fulfilled while there is room: await it before writing more."""
        stream = self._stream
        if stream is None:
            return rejected(self._runtime, _released())
        ready = self._ready
        if stream._error is not None:
            if ready is None or not ready._is_rejected():
                ready = self._ready = stream._refused()
        elif (
            stream._state is WritableState.WRITABLE
            and stream._controller.desired_size <= 0
        ):
            if ready is None or not ready._is_pending():
                ready = self._ready = Promise(self._runtime)
        elif ready is None:
            ready = self._ready = fulfilled(self._runtime, None)
        return ready

    def write(self, chunk: Any) -> Promise[None]:
        """Send a chunk: a bytes-like object, or a str (as UTF-8).

        Fulfilled once the operating system has all of it. The data goes out
        whether or not the promise is awaited. Rejects with TypeError for any
        other chunk and for a stream that is closed, and with the stream's
        error once it has failed.
        """
        stream = self._stream
        if stream is None:
            return rejected(self._runtime, _released())
        if stream._state is not _WRITABLE:
            return stream._refused()
        return stream._controller.write(chunk)

    def close(self) -> Promise[None]:
        """End after everything that was written has been sent."""
        if self._stream is None:
            return rejected(self._runtime, _released())
        return self._stream._close()

    def abort(self, reason: object = None) -> Promise[None]:
        """Drop what is queued and end; writes reject with the reason."""
        if self._stream is None:
            return rejected(self._runtime, _released())
        return self._stream._abort(reason)

    @protect
    def releaseLock(self) -> None:
        """Give the stream back. Writes go on; `closed` and `ready` reject."""
        stream = self._stream
        if stream is None:
            return
        self._stream = None
        stream._writer = None
        closed, self._closed = self._closed, None
        if closed is not None:
            closed._reject(_released())
        ready, self._ready = self._ready, None
        if ready is not None:
            ready._reject(_released())

    desired_size = desiredSize
    release_lock = releaseLock


def _released() -> TypeError:
    return TypeError("the writer has released its lock; get a new one")
