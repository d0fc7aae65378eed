"""The readable with a queue of its own, for chunks of any kind.

https://streams.spec.whatwg.org/#rs-default-controller-class

This is the standard's default controller: a source puts chunks in with `enqueue`,
is asked for more (`pull`) while there is room or somebody waits, and the names
below are those of the standard's algorithms. What it adds is Python's cancellation
(see also channel): a read whose last awaiter was cancelled leaves the line, so
that a timeout takes no chunk with it, and awaiting its promise again queues it
anew. One that nobody has awaited yet is served like any other.

A cancelled awaiter leaves in two steps: it is taken out of its promise's line, and
some turns later it runs and says so. In between its request is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

from ..promise import FULFILLED, PENDING, Promise, fulfilled, rejected
from ..runtime import Runtime, protect
from .readable import Ferry, ReadableState, ReadableStream, ReadResult
from .writable import WritableController

__all__ = ["ReadableStreamDefaultController"]

# What a source's method returns: None, or a promise of when it will be done.
Outcome: TypeAlias = "Promise[None] | None"

_NOT_READABLE: Final = "the stream is closed, closing or errored; it takes no chunk"


class _ReadRequest(Promise[ReadResult]):
    """The promise of one read."""

    __slots__ = ("_awaiters", "_controller", "_reader")

    _awaiters: int
    _controller: ReadableStreamDefaultController
    _reader: int

    def _wait(self) -> Any:
        return self._controller._await(self)

    def _checkpoint(self) -> Any:
        # A chunk must not be lost to a cancellation; the end cannot be.
        if self._state == FULFILLED and not self._value.done:
            return self._runtime.shielded_checkpoint()
        return self._runtime.checkpoint()

    def _is_wanted(self) -> bool:
        """Whether somebody will take the result; see above."""
        return not self._awaiters or bool(self._line) or self._reactions is not None

    def _watched(self) -> None:
        self._controller._serve()


@final
class ReadableStreamDefaultController:
    """The controller of a stream whose chunks wait in a queue."""

    __slots__ = (
        "_cancel_algorithm",
        "_close_requested",
        "_discard",
        "_high_water_mark",
        "_pull_again",
        "_pull_algorithm",
        "_pulling",
        "_queue",
        "_queue_total_size",
        "_reader",
        "_requests",
        "_runtime",
        "_size_algorithm",
        "_started",
        "stream",
    )

    _cancel_algorithm: Callable[[object], Outcome]
    _close_requested: bool
    _discard: Callable[[Any], object] | None
    _high_water_mark: float
    _pull_again: bool
    _pull_algorithm: Callable[[], Outcome]
    _pulling: bool
    _queue: deque[tuple[Any, float]]
    _queue_total_size: float
    # Counts the readers; a request belongs to the one that was current.
    _reader: int
    _requests: dict[_ReadRequest, None]
    _runtime: Runtime
    _size_algorithm: Callable[[Any], float] | None
    _started: bool
    stream: ReadableStream

    # No reader can have it fill a buffer.
    fills_buffers = False

    def __init__(self) -> None:
        raise TypeError(
            "a ReadableStreamDefaultController is not constructed: it comes with "
            "its stream"
        )

    @classmethod
    def _set_up(
        cls,
        runtime: Runtime,
        *,
        pull: Callable[[], Outcome],
        cancel: Callable[[object], Outcome],
        high_water_mark: float = 1,
        size: Callable[[Any], float] | None = None,
        discard: Callable[[Any], object] | None = None,
    ) -> ReadableStreamDefaultController:
        """A stream, and its controller.

        `pull` is asked for more and `cancel` told that no more is wanted; both may
        return a promise. `size` gives the weight of a chunk, 1 without it, and
        `high_water_mark` how much may be queued before `pull` is left alone.
        `discard` is called with each chunk that was queued when the stream was
        cancelled or errored: unlike in JavaScript it may hold more than memory.
        (https://streams.spec.whatwg.org/#set-up-readable-stream-default-controller)
        """
        self = cls.__new__(cls)
        self._runtime = runtime
        self._pull_algorithm = pull
        self._cancel_algorithm = cancel
        self._high_water_mark = high_water_mark
        self._size_algorithm = size
        self._discard = discard
        self._queue = deque()
        self._queue_total_size = 0.0
        self._requests = {}
        self._reader = 0
        self._started = False
        self._close_requested = False
        self._pulling = self._pull_again = False
        self.stream = ReadableStream._make(runtime, self)
        return self

    @protect
    def _start(self) -> None:
        """The source is ready to be pulled from."""
        self._started = True
        self._call_pull_if_needed()

    # -- the standard's members, for the source

    @property
    def desiredSize(self) -> float | None:
        """How much more may be queued; None once errored, 0 once closed."""
        state = self.stream._state
        if state is ReadableState.ERRORED:
            return None
        if state is ReadableState.CLOSED:
            return 0
        return self._high_water_mark - self._queue_total_size

    @protect
    def close(self) -> None:
        """No chunk will follow; those in the queue are still read. TypeError."""
        if not self._can_close_or_enqueue():
            raise TypeError(_NOT_READABLE)
        self._close_requested = True
        if not self._queue:
            self.stream._close()

    @protect
    def enqueue(self, chunk: Any) -> None:
        """Add a chunk. TypeError on a stream that has ended, or is about to."""
        if not self._can_close_or_enqueue():
            raise TypeError(_NOT_READABLE)
        request = None if self._queue else self._next()
        if request is not None:
            del self._requests[request]
            request._fulfil(ReadResult(chunk, False))
        else:
            weight = 1 if self._size_algorithm is None else self._size_algorithm(chunk)
            self._queue.append((chunk, weight))
            self._queue_total_size += weight
        self._call_pull_if_needed()

    @protect
    def error(self, error: BaseException) -> None:
        """Let reads raise `error`; nothing if the stream has ended."""
        if self.stream._state is ReadableState.READABLE:
            self._reset_queue()
            self.stream._fail(error)

    desired_size = desiredSize

    # -- for the source within the library

    def _can_close_or_enqueue(self) -> bool:
        readable = self.stream._state is ReadableState.READABLE
        return readable and not self._close_requested

    def _should_call_pull(self, coming: float = 0) -> bool:
        """Whether there is room or somebody waits, with `coming` on its way."""
        if not (self._started and self._can_close_or_enqueue()):
            return False
        if self._requests:
            return True
        return self._high_water_mark - self._queue_total_size > coming

    def _queued(self) -> int:
        """How many chunks wait for a reader."""
        return len(self._queue)

    @protect
    def _drop(self) -> None:
        """End the stream now: reads are done, and what was queued is discarded."""
        self.stream._close()
        self._reset_queue()

    def _call_pull_if_needed(self) -> None:
        if not self._should_call_pull():
            return
        if self._pulling:
            self._pull_again = True
            return
        self._pulling = True
        try:
            pulled = self._pull_algorithm()
        except Exception as error:
            self.error(error)
            return
        if pulled is None:
            self._pulled(None)
        else:
            promise = pulled
            promise._when_settled(lambda: self._pulled(promise))

    def _pulled(self, pulled: Promise[None] | None) -> None:
        self._pulling = False
        if pulled is not None and pulled._is_rejected():
            self.error(pulled._value)
        elif self._pull_again:
            self._pull_again = False
            self._call_pull_if_needed()

    # -- the stream's calls

    @protect
    def ferry(self, destination: WritableController) -> Ferry | None:
        return None

    def pull(self) -> Promise[ReadResult]:
        request = _ReadRequest(self._runtime)
        request._controller = self
        request._awaiters = 0
        request._reader = self._reader
        if self.stream._state is not ReadableState.READABLE:
            self._settle(request)
        else:
            self._requests[request] = None
            if self._queue and not self._runtime.cancelled_now():
                self._serve()
            if request in self._requests:
                self._call_pull_if_needed()
        return request

    def pull_into(self, view: memoryview, minimum: int) -> Promise[ReadResult]:
        # getReader() sees to it that nobody gets here.
        return rejected(self._runtime, TypeError("this is not a byte stream"))

    @protect
    def cancel(self, reason: object) -> Promise[None]:
        self._reset_queue()
        try:
            cancelled = self._cancel_algorithm(reason)
        except Exception as error:
            return rejected(self._runtime, error)
        return fulfilled(self._runtime, None) if cancelled is None else cancelled

    @protect
    def settle(self) -> None:
        requests, self._requests = self._requests, {}
        for request in requests:
            self._settle(request)

    @protect
    def release(self, error: TypeError) -> None:
        self._reader += 1
        requests, self._requests = self._requests, {}
        for request in requests:
            request._reject(error)

    # -- serving

    def _settle(self, request: _ReadRequest) -> None:
        """Settle a request of a stream that has ended."""
        error = self.stream._error
        if error is not None:
            request._reject_from(error, self.stream._traceback)
        else:
            request._fulfil(ReadResult(None, True))

    def _next(self, also: _ReadRequest | None = None) -> _ReadRequest | None:
        """The first request that somebody will take the result of."""
        for request in self._requests:
            if request is also or request._is_wanted():
                return request
        return None

    def _dequeue(self) -> Any:
        chunk, weight = self._queue.popleft()
        # Rounding must not leave it below 0.
        self._queue_total_size = max(0.0, self._queue_total_size - weight)
        if self._close_requested and not self._queue:
            self.stream._close()
        else:
            self._call_pull_if_needed()
        return chunk

    @protect
    def _serve(self, also: _ReadRequest | None = None) -> None:
        """Give what is queued to those who wait for it, in order.

        The request `also` is wanted, though nobody is in its line yet.
        """
        while self._queue and (request := self._next(also)) is not None:
            # First, for the stream may close with the last chunk.
            del self._requests[request]
            request._fulfil(ReadResult(self._dequeue(), False))

    def _reset_queue(self) -> None:
        queue, self._queue = self._queue, deque()
        self._queue_total_size = 0.0
        if self._discard is not None:
            for chunk, _ in queue:
                self._discard(chunk)

    @protect
    async def _await(self, request: _ReadRequest) -> None:
        """Await a pending request."""
        if request not in self._requests and not self._taken_back(request):
            await request._checkpoint()
            return
        line = request._line
        if line is None:
            line = request._line = {}
        request._awaiters += 1
        parked = False
        try:
            if self._queue and not self._runtime.cancelled_now():
                self._serve(request)
            while request._state == PENDING:
                parked = True
                await self._runtime.park(line)
        finally:
            self._leave(request)
        if not parked:
            await request._checkpoint()

    def _taken_back(self, request: _ReadRequest) -> bool:
        """Whether a request that was given up is queued again."""
        if self.stream._state is not ReadableState.READABLE:
            self._settle(request)
        elif request._reader != self._reader:
            request._reject(TypeError("the reader has released its lock"))
        else:
            self._requests[request] = None
            self._call_pull_if_needed()
        return request._state == PENDING

    def _leave(self, request: _ReadRequest) -> None:
        request._awaiters -= 1
        if request._state != PENDING or request._awaiters:
            return
        if request._reactions is None:
            self._requests.pop(request, None)
        # It may have been passed over.
        self._serve()
