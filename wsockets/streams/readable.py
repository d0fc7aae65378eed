"""ReadableStream and its readers (https://streams.spec.whatwg.org/#rs-model)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, final, overload

from ..promise import Promise, fulfilled, rejected
from ..runtime import Runtime, protect
from .chunks import minimum_of, writable_bytes
from .held import HELD, Held
from .members import read_flags

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..abort import AbortSignal
    from .writable import WritableController, WritableStream

__all__ = [
    "Ferry",
    "ReadResult",
    "ReadableController",
    "ReadableState",
    "ReadableStream",
    "ReadableStreamAsyncIterator",
    "ReadableStreamBYOBReader",
    "ReadableStreamDefaultReader",
]


class ReadResult(NamedTuple):
    """What a read gives: a chunk, or the news that there will be none.

    `value` is bytes from a default reader (or whatever else the stream's chunks
    are; None when `done`), and a memoryview of the filled part of the given
    buffer from a BYOB reader (empty when `done`). https://streams.spec.whatwg.org/#dictdef-readablestreamreadresult
    """

    value: Any
    done: bool


class ReadableState(enum.Enum):
    """https://streams.spec.whatwg.org/#readablestream-state"""

    READABLE = "readable"
    CLOSED = "closed"
    ERRORED = "errored"


class Ferry(Protocol):
    """A short cut from a source to a destination, past the streams."""

    async def carry(self) -> None:
        """Move what the source gives into the destination, as long as that goes.

        The streams' states tell afterwards whether there is more to be done the
        long way. Cancelled, it returns when nothing is under way any more.
        """


class ReadableController(Protocol):
    """What a ReadableStream asks of the one who has the data."""

    @property
    def fills_buffers(self) -> bool:
        """Whether it is a byte stream's, with `pull_into`."""

    def ferry(self, destination: WritableController) -> Ferry | None:
        """Who moves chunks from here into `destination` by himself, if anybody."""

    def pull(self) -> Promise[ReadResult]:
        """The next chunk. The stream may be in any state."""

    def pull_into(self, view: memoryview, minimum: int) -> Promise[ReadResult]:
        """At least `minimum` bytes into `view`. The stream may be in any state."""

    def cancel(self, reason: object) -> Promise[None]:
        """Nobody will read again. The stream is closed already."""

    def settle(self) -> None:
        """The stream has ended: settle what still waits by its state."""

    def release(self, error: TypeError) -> None:
        """The reader gave up its lock: reject what still waits with `error`."""


@final
class ReadableStream:
    """A source of bytes, or of other chunks, read by one reader at a time.

    Streams are attributes of a Socket or a ServerSocket; they are not constructed.
    https://streams.spec.whatwg.org/#rs-class
    """

    __slots__ = (
        "__weakref__",
        "_controller",
        "_error",
        "_reader",
        "_runtime",
        "_state",
        "_traceback",
    )

    _controller: ReadableController
    _error: BaseException | None
    _reader: ReadableStreamDefaultReader | ReadableStreamBYOBReader | Held | None
    _runtime: Runtime
    _state: ReadableState
    # What the error's traceback was before anybody raised it.
    _traceback: TracebackType | None

    def __init__(self) -> None:
        raise TypeError("a ReadableStream is not constructed: it comes with a Socket")

    @classmethod
    def _make(cls, runtime: Runtime, controller: ReadableController) -> ReadableStream:
        stream = cls.__new__(cls)
        stream._runtime = runtime
        stream._controller = controller
        stream._reader = None
        stream._state = ReadableState.READABLE
        stream._error = None
        stream._traceback = None
        return stream

    # -- the standard's members

    @property
    def locked(self) -> bool:
        """Whether a reader (or a pipe) holds the stream."""
        return self._reader is not None

    def cancel(self, reason: object = None) -> Promise[None]:
        """Say that nobody will read the rest.

        Pending reads are done. Rejects with TypeError while the stream is
        locked, and with the stream's error once it has failed.
        """
        if self._reader is not None:
            return rejected(
                self._runtime,
                TypeError("a locked stream cannot be cancelled; cancel its reader"),
            )
        return self._cancel(reason)

    @overload
    def getReader(
        self, options: None = None, /, *, mode: None = None
    ) -> ReadableStreamDefaultReader: ...

    @overload
    def getReader(
        self, options: None = None, /, *, mode: Literal["byob"]
    ) -> ReadableStreamBYOBReader: ...

    @overload
    def getReader(
        self, options: Mapping[str, object], /
    ) -> ReadableStreamDefaultReader | ReadableStreamBYOBReader: ...

    def getReader(
        self,
        options: Mapping[str, object] | None = None,
        /,
        *,
        mode: str | None = None,
    ) -> ReadableStreamDefaultReader | ReadableStreamBYOBReader:
        """Lock the stream to a new reader; with mode "byob" one that fills buffers.

        TypeError if the stream is locked already.
        """
        if options is not None:
            if not isinstance(options, Mapping):
                raise TypeError(f"options are a mapping or None, not {options!r}")
            wanted = options.get("mode")
            if mode is not None and wanted is not None:
                raise TypeError("getReader() got the member 'mode' twice")
            mode = mode if wanted is None else str(wanted)
        if mode is None:
            return ReadableStreamDefaultReader(self)
        if mode == "byob":
            return ReadableStreamBYOBReader(self)
        raise TypeError(f"mode must be 'byob' or None, not {mode!r}")

    def values(
        self,
        options: Mapping[str, object] | None = None,
        /,
        **members: bool,
    ) -> ReadableStreamAsyncIterator:
        """Iterate over the chunks.

        Leaving the loop early cancels the stream unless `preventCancel`.
        """
        flags = read_flags("values", ("preventCancel",), options, members)
        return ReadableStreamAsyncIterator(
            ReadableStreamDefaultReader(self), flags["preventCancel"]
        )

    def __aiter__(self) -> ReadableStreamAsyncIterator:
        return self.values()

    def pipeTo(
        self,
        destination: WritableStream,
        options: Mapping[str, object] | None = None,
        /,
        *,
        signal: AbortSignal | None = None,
        **members: bool,
    ) -> Promise[None]:
        """Write everything that comes from here to `destination`.

        Both streams are locked meanwhile. An end or error here closes or
        aborts the destination, one there cancels this stream, unless
        `preventClose`, `preventAbort` or `preventCancel`; an aborted `signal`
        does both. https://streams.spec.whatwg.org/#rs-pipe-to
        """
        from .pipe import pipe_to

        return pipe_to(self, destination, options, signal, members)

    def pipeThrough(
        self,
        transform: Any,
        options: Mapping[str, object] | None = None,
        /,
        *,
        signal: AbortSignal | None = None,
        **members: bool,
    ) -> ReadableStream:
        """pipeTo `transform.writable`, and return `transform.readable`.

        https://streams.spec.whatwg.org/#rs-pipe-through
        """
        from .pipe import start_pipe

        destination, result = _two_ends(transform)
        start_pipe("pipeThrough", self, destination, options, signal, members)
        return result

    get_reader = getReader
    pipe_to = pipeTo
    pipe_through = pipeThrough

    # -- for readers, pipes, loans and controllers

    def _hold(self) -> None:
        """Lock the stream, which is not locked, without a reader."""
        self._reader = HELD

    def _let_go(self) -> None:
        """Unlock what `_hold` has locked."""
        self._reader = None

    def _cancel(self, reason: object) -> Promise[None]:
        if self._state is ReadableState.CLOSED:
            return fulfilled(self._runtime, None)
        if self._state is ReadableState.ERRORED:
            cancelled: Promise[None] = Promise(self._runtime)
            self._settle_closed(cancelled)
            return cancelled
        self._close()
        return self._controller.cancel(reason)

    @protect
    def _close(self) -> None:
        """There will be no more chunks; nothing if the stream has ended."""
        if self._state is ReadableState.READABLE:
            self._state = ReadableState.CLOSED
            self._ended()

    @protect
    def _fail(self, error: BaseException) -> None:
        """Reads raise `error` from now on; nothing if the stream has ended."""
        if self._state is ReadableState.READABLE:
            self._state = ReadableState.ERRORED
            self._error = error
            self._traceback = error.__traceback__
            self._ended()

    def _ended(self) -> None:
        self._controller.settle()
        reader = self._reader
        if reader is not None and reader._closed is not None:
            self._settle_closed(reader._closed)

    def _settle_closed(self, closed: Promise[None]) -> None:
        if self._state is ReadableState.CLOSED:
            closed._fulfil(None)
        elif self._error is not None:
            closed._reject_from(self._error, self._traceback)


def _two_ends(transform: Any) -> tuple[WritableStream, ReadableStream]:
    """The ends of a transform: a mapping, or any object that has them."""
    try:
        if isinstance(transform, Mapping):
            writable, readable = transform["writable"], transform["readable"]
        else:
            writable, readable = transform.writable, transform.readable
    except (KeyError, AttributeError):
        readable = None
    if not isinstance(readable, ReadableStream):
        raise TypeError(
            "pipeThrough() needs an object with a readable and a writable, not "
            f"{transform!r}"
        )
    return writable, readable


class _Reader:
    """What both readers have (https://streams.spec.whatwg.org/#generic-reader-mixin)."""

    __slots__ = ("_closed", "_runtime", "_stream")

    _closed: Promise[None] | None

    def __init__(self, stream: ReadableStream) -> None:
        if not isinstance(stream, ReadableStream):
            raise TypeError(f"a reader reads a ReadableStream, not {stream!r}")
        if stream._reader is not None:
            raise TypeError(
                "the stream is locked: release its reader (or end its pipe) first"
            )
        self._stream: ReadableStream | None = stream
        self._runtime = stream._runtime
        self._closed = None
        stream._reader = self  # type: ignore[assignment]

    @property
    def closed(self) -> Promise[None]:
        """Settles when the stream ends, or when the lock is released (TypeError)."""
        closed = self._closed
        if closed is None:
            closed = self._closed = Promise(self._runtime)
            if self._stream is None:
                closed._reject(_released())
            else:
                self._stream._settle_closed(closed)
        return closed

    def cancel(self, reason: object = None) -> Promise[None]:
        """Say that nobody will read the rest; pending reads are done."""
        if self._stream is None:
            return rejected(self._runtime, _released())
        return self._stream._cancel(reason)

    @protect
    def releaseLock(self) -> None:
        """Give the stream back. Reads still pending reject with TypeError."""
        stream = self._stream
        if stream is None:
            return
        if self._closed is not None and stream._state is ReadableState.READABLE:
            self._closed._reject(_released())
        else:
            self._closed = None
        stream._controller.release(_released())
        stream._reader = None
        self._stream = None

    release_lock = releaseLock


def _released() -> TypeError:
    return TypeError("the reader has released its lock; get a new one")


@final
class ReadableStreamDefaultReader(_Reader):
    """Reads whole chunks (https://streams.spec.whatwg.org/#default-reader-class)."""

    __slots__ = ()

    def read(self) -> Promise[ReadResult]:
        """The next chunk, 1 to 65,536 bytes, as soon as there is one.

        Rejects with the stream's error. A read whose last awaiter is cancelled
        takes no data; awaiting its promise again takes part again.
        """
        stream = self._stream
        if stream is None:
            return rejected(self._runtime, _released())
        return stream._controller.pull()


@final
class ReadableStreamBYOBReader(_Reader):
    """Reads into the caller's buffers (https://streams.spec.whatwg.org/#byob-reader-class)."""

    __slots__ = ()

    def __init__(self, stream: ReadableStream) -> None:
        if isinstance(stream, ReadableStream) and not stream._controller.fills_buffers:
            raise TypeError("only a byte stream has readers that fill buffers")
        super().__init__(stream)

    def read(
        self,
        view: Buffer,
        options: Mapping[str, object] | None = None,
        /,
        *,
        min: int | None = None,
    ) -> Promise[ReadResult]:
        """Fill `view`, a writable contiguous buffer, with at least `min` bytes.

        `value` is a memoryview (format "B") of the filled part of the same
        memory. Rejects with TypeError for a buffer that cannot be written to
        or is empty, and for a `min` that is not 1 to its length in bytes. If
        the stream ends first, `done` is True and `value` has what arrived.
        """
        stream = self._stream
        if stream is None:
            return rejected(self._runtime, _released())
        minimum = min
        try:
            if options is not None:
                if not isinstance(options, Mapping):
                    raise TypeError(f"options are a mapping or None, not {options!r}")
                minimum = options.get("min", minimum)  # type: ignore[assignment]
            target = writable_bytes(view)
            minimum = minimum_of(minimum, len(target))
        except TypeError as error:
            return rejected(self._runtime, error.with_traceback(None))
        return stream._controller.pull_into(target, minimum)


@final
class ReadableStreamAsyncIterator:
    """The chunks of a stream, for `async for`.

    The stream is locked until the iteration ends. Ending it early (`break`, an
    exception, `aclose()`) cancels the stream unless `preventCancel` was given.
    https://streams.spec.whatwg.org/#rs-asynciterator
    """

    __slots__ = ("_prevent_cancel", "_reader")

    def __init__(
        self, reader: ReadableStreamDefaultReader, prevent_cancel: bool
    ) -> None:
        self._reader = reader
        self._prevent_cancel = prevent_cancel

    def __aiter__(self) -> ReadableStreamAsyncIterator:
        return self

    async def __anext__(self) -> Any:
        if self._reader._stream is None:
            raise StopAsyncIteration
        try:
            value, done = await self._reader.read()
        except Exception:
            self._reader.releaseLock()
            raise
        except BaseException:
            self._finish()
            raise
        if done:
            self._reader.releaseLock()
            raise StopAsyncIteration
        return value

    async def aclose(self) -> None:
        """End the iteration now."""
        cancelled = self._finish()
        if cancelled is not None:
            await cancelled

    def _finish(self) -> Promise[None] | None:
        reader = self._reader
        if reader._stream is None:
            return None
        cancelled = None if self._prevent_cancel else reader.cancel()
        reader.releaseLock()
        return cancelled

    def __del__(self) -> None:
        # `break` drops the iterator without a word.
        if self._reader._runtime.is_current():
            self._finish()
