"""The readable whose queue is the kernel's; see channel for the theory."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, cast, final

from ..errors import SocketError
from ..promise import FULFILLED, PENDING, Promise, fulfilled, rejected
from ..runtime import Line, Runtime, protect
from ..runtime.gate import Gate, Want
from .channel import Channel, Messages, Owner, Source
from .prepended import Prepended
from .readable import Ferry, ReadableState, ReadableStream, ReadResult
from .writable import WritableController

__all__ = ["CHUNK", "DirectReadable"]

# How much one read takes at most, in bytes.
CHUNK: Final = 65536


class ReadRequest(Promise[ReadResult]):
    """The promise of one read; whoever awaits it may have to do the reading."""

    __slots__ = (
        "_awaiters",
        "_controller",
        "_filled",
        "_limit",
        "_minimum",
        "_reader",
        "_view",
    )

    _awaiters: int
    _controller: DirectReadable
    _filled: int
    _limit: int
    _minimum: int
    _reader: int
    _view: memoryview | None

    def _wait(self) -> Any:
        return self._controller._drive(self)

    def _checkpoint(self) -> Any:
        # Data must not be lost to a cancellation; the end cannot be.
        if self._state == FULFILLED and self._value[0]:
            return self._runtime.shielded_checkpoint()
        return self._runtime.checkpoint()

    def _watched(self) -> None:
        # A reaction is a reader too: let a task of its own await the data.
        self._runtime.spawn(_settle_quietly, self, name="wsockets read")


# Shared by all that nobody reads just now. An empty dict is 64 bytes.
_NO_REQUESTS: Final = cast("dict[ReadRequest, None]", MappingProxyType({}))


async def _settle_quietly(promise: Promise[Any]) -> None:
    try:
        await promise
    except Exception:
        pass  # it is the promise's, and whoever reacts to it gets it


# Python 3.11 finds the members of an enum by a function, which costs two calls.
_READABLE: Final = ReadableState.READABLE
_new: Final = Promise.__new__
# What ReadResult(…) does, without its function in Python.
_tuple: Final = tuple.__new__


@final
class DirectReadable:
    """The controller of a readable that receives in the task that reads.

    With `messages` the stream is not one of bytes: see `Messages`.
    """

    __slots__ = (
        "_channel",
        "_expect_wait",
        "_gate",
        "_leader",
        "_owner",
        "_reader",
        "_requests",
        "_runtime",
        "_untried",
        "_vacant",
        "_want",
        "_wanted",
        "fills_buffers",
        "stream",
    )

    def __init__(
        self, runtime: Runtime, gate: Gate, owner: Owner, *, messages: bool = False
    ) -> None:
        self._runtime = runtime
        self._gate = gate
        self._owner = owner
        self.fills_buffers = not messages
        self._channel: Source | Messages | None = None
        self._requests = _NO_REQUESTS
        # Whose awaiter leads; vacant while that one has not woken up yet.
        self._leader: ReadRequest | None = None
        self._vacant = False
        # Counts the readers; a request belongs to the one that was current.
        self._reader = 0
        # Whether a request is queued for which nothing was tried yet.
        self._untried = False
        # The last read had to wait and took all there was: so will the next.
        self._expect_wait = False
        self._want = Want.OPEN
        self._wanted: Callable[[], None] | None = None
        self.stream = ReadableStream._make(runtime, self)

    @protect
    def open(self, channel: Channel | Messages) -> None:
        """From now on there is something to receive from."""
        self._channel = channel
        self._want = Want.READ

    @protect
    def lend(self, wanted: Callable[[], None] | None = None) -> bytes:
        """Receive nothing until `resume`; what was received and not delivered.

        `wanted` is called when somebody reads meanwhile.
        """
        self._wanted = wanted
        self._want = Want.OPEN
        channel, self._channel = self._channel, None
        return channel.left if isinstance(channel, Prepended) else b""

    @protect
    def resume(self, channel: Channel, unread: bytes) -> None:
        """Go on receiving; `unread` comes before what the channel gives."""
        self._wanted = None
        if self.stream._state is not ReadableState.READABLE:
            return
        self._channel = Prepended(unread, channel) if unread else channel
        self._expect_wait = False
        self._want = Want.READ
        if self._requests:
            self._untried = True
            self._gate.interrupt()

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for a read."""
        return bool(self._requests)

    def ferry(self, destination: WritableController) -> Ferry | None:
        find = getattr(self._owner, "_ferry_to", None)
        ferry: Ferry | None = None if find is None else find(destination)
        return ferry

    # -- the stream's calls

    @protect
    def pull(self, limit: int = CHUNK) -> Promise[ReadResult]:
        channel = self._channel
        if (
            channel is not None
            and not self._expect_wait
            and not self._requests
            and self.stream._state is _READABLE
            and not self._runtime.cancelled_now()
        ):
            try:
                got = channel.receive(limit)
            except SocketError as error:
                self._owner._failed(error)
                return rejected(self._runtime, error)
            if got.__class__ is not Want:
                # Every field that a settled promise is asked for, and no more.
                request: ReadRequest = _new(ReadRequest)
                request._runtime = self._runtime
                request._state = FULFILLED
                request._value = _tuple(ReadResult, (got or None, not got))
                if not got:
                    self._end()
                return request
            self._want = got
        elif not self._expect_wait:
            self._untried = True
        return self._queue(limit, None, 0)

    @protect
    def pull_into(self, view: memoryview, minimum: int) -> Promise[ReadResult]:
        first = not self._requests
        self._expect_wait = False
        request = self._queue(0, view, minimum)
        if first and not self._runtime.cancelled_now():
            self._serve()
        else:
            self._untried = True
        return request

    def cancel(self, reason: object) -> Promise[None]:
        self._owner._read_cancelled()
        return fulfilled(self._runtime, None)

    @protect
    def settle(self) -> None:
        self._channel = None
        for request in self._dismiss():
            self._settle(request)

    @protect
    def release(self, error: TypeError) -> None:
        self._reader += 1
        for request in self._dismiss():
            request._reject(error)

    def _dismiss(self) -> list[ReadRequest]:
        """Nobody is to be served any more; the leader need not wait on."""
        requests, self._requests = list(self._requests), _NO_REQUESTS
        if self._leader is not None:
            self._gate.interrupt()
        return requests

    # -- serving

    def _queue(self, limit: int, view: memoryview | None, minimum: int) -> ReadRequest:
        request = ReadRequest(self._runtime)
        request._controller = self
        request._limit = limit
        request._view = view
        request._minimum = minimum
        request._filled = 0
        request._awaiters = 0
        request._reader = self._reader
        if self.stream._state is _READABLE:
            self._enter(request)
            if self._wanted is not None:
                self._wanted()
        else:
            self._settle(request)
        return request

    def _enter(self, request: ReadRequest) -> None:
        if self._requests is _NO_REQUESTS:
            self._requests = {}
        self._requests[request] = None

    def _settle(self, request: ReadRequest) -> None:
        """Settle a request of a stream that has ended."""
        error = self.stream._error
        view = request._view
        if error is not None:
            request._reject_from(error, self.stream._traceback)
        elif view is None:
            request._fulfil(ReadResult(None, True))
        else:
            request._fulfil(ReadResult(view[: request._filled], True))

    @protect
    def _serve(self) -> None:
        """Receive for the requests in their order until it would block."""
        channel: Any = self._channel
        if channel is None:
            return
        self._untried = False
        while (request := self._next()) is not None:
            view = request._view
            try:
                if view is None:
                    got = channel.receive(request._limit)
                else:
                    got = channel.receive_into(view[request._filled :])
            except SocketError as error:
                self._owner._failed(error)
                return
            if got.__class__ is Want:
                self._want = got
                return
            if not got:
                self._end()
                return
            if view is not None:
                request._filled += got
                if request._filled < request._minimum:
                    continue
                got = view[: request._filled]
            request._fulfil(_tuple(ReadResult, (got, False)))
            del self._requests[request]
            if not self._requests:
                # A dict that once held something is 232 bytes.
                self._requests = _NO_REQUESTS
                return

    def _next(self) -> ReadRequest | None:
        """The first request that somebody will take the result of.

        One whose awaiters have all left their line, and are not the leader, is
        about to be given up: their cancellation is on its way.
        """
        for request in self._requests:
            if (
                not request._awaiters
                or request._line
                or request._filled
                or request is self._leader
            ):
                return request
        return None

    def _end(self) -> None:
        self.stream._close()
        self._owner._read_ended()

    @protect
    async def _drive(self, request: ReadRequest) -> None:
        """Await a pending request: follow the leader, or lead."""
        line: Line | None = request._line
        if line is None:
            line = request._line = {}
        if request not in self._requests:
            if not self._taken_back(request):
                await request._checkpoint()
                return
            self._enter(request)
            self._untried = True
        request._awaiters += 1
        try:
            while request._state == PENDING:
                leader = self._leader
                if leader is None or (leader is request and self._vacant):
                    self._leader = request
                    self._vacant = False
                    try:
                        if self._untried and not self._runtime.cancelled_now():
                            self._serve()
                        if request._state == PENDING:
                            await self._gate.wait(self._want)
                            if request._state == PENDING:
                                self._serve()
                                self._expect_wait = self.fills_buffers and _is_short(
                                    request
                                )
                    finally:
                        self._leader = None
                else:
                    await self._runtime.park(line)
        finally:
            self._leave(request)
        if not _has_data(request) and self._runtime.cancelled_now():
            await request._checkpoint()

    @protect
    def attend(self) -> None:
        """Somebody waits for the end: see to it that queued reads are awaited."""
        if self._requests and not any(each._awaiters for each in self._requests):
            # Whoever leads serves all that come before.
            next(reversed(self._requests))._watched()

    @protect
    def _taken_back(self, request: ReadRequest) -> bool:
        """Whether a request that was given up may be queued again."""
        if self.stream._state is not ReadableState.READABLE:
            self._settle(request)
        elif request._reader != self._reader:
            request._reject(TypeError("the reader has released its lock"))
        return request._state == PENDING

    @protect
    def _leave(self, request: ReadRequest) -> None:
        request._awaiters -= 1
        # A buffer that is partly filled keeps its place, and its bytes.
        unwanted = not request._awaiters and not request._filled
        if unwanted and request._state == PENDING:
            del self._requests[request]
        if self._leader is request and self._vacant:
            self._leader = None
        if self._leader is None and self._requests:
            self._appoint()

    def _appoint(self) -> None:
        """Let an awaiter of the first request that has one lead on."""
        for request in self._requests:
            if request._line:
                self._leader = request
                self._vacant = True
                self._runtime.wake(request._line, 1)
                return


def _has_data(request: ReadRequest) -> bool:
    return request._state == FULFILLED and bool(request._value[0])


def _is_short(request: ReadRequest) -> bool:
    """Whether a whole-chunk read got less than it would have taken."""
    if request._state != FULFILLED:
        return False
    chunk = request._value[0]
    return bool(chunk) and len(chunk) < request._limit
