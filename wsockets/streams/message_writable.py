"""The writable of messages, each of which goes out whole or not at all.

Like the byte streams' it has no queue but the kernel's as long as that takes
everything: a message is sent in the task that writes it. What cannot go at once
is queued, because the kernel is full or because something else has to be waited
for first (a datagram's destination that is a name); whatever comes after it
stays behind it, and the flusher, a task that lives while something is queued,
sends it all in order.

A message may fail by itself: too long, or for a destination that cannot be
reached. Then its write rejects, and the stream goes on. A failure that is raised
is one of the connection, and final.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, final

from ..errors import SocketError
from ..promise import Promise, fulfilled, rejected
from ..runtime import Runtime, Scope, protect
from ..runtime.gate import Gate, Want
from .channel import Owner
from .writable import WritableState, WritableStream

__all__ = ["Message", "MessageWritable"]


class Message(Protocol):
    """What was written, as the one who sends it keeps it."""

    @property
    def size(self) -> int:
        """How many bytes it counts for in desiredSize; above 0."""

    @property
    def ready(self) -> bool:
        """Whether it can be sent; if not, `prepare` comes first."""

    async def prepare(self) -> None:
        """Make it ready. SocketError: it cannot be sent; the stream goes on."""

    def send(self) -> Want | SocketError | None:
        """Try to send it now: None if it is out, or what has to be waited for.

        A SocketError that is returned is this message's own; one that is raised
        is the connection's.
        """


@final
class MessageWritable:
    """The controller of a writable that sends messages in the task that writes.

    `take` makes a Message of a chunk, or raises TypeError; the chunk is the
    caller's again afterwards. The connection is there already.
    """

    __slots__ = (
        "_ended",
        "_flusher",
        "_gate",
        "_high_water_mark",
        "_owner",
        "_preparing",
        "_queue",
        "_queued",
        "_runtime",
        "_take",
        "_written",
        "stream",
    )

    def __init__(
        self,
        runtime: Runtime,
        gate: Gate,
        owner: Owner,
        high_water_mark: int,
        take: Callable[[Any], Message],
    ) -> None:
        self._runtime = runtime
        self._gate = gate
        self._owner = owner
        self._high_water_mark = high_water_mark
        self._take = take
        self._queue: deque[tuple[Message, Promise[None]]] = deque()
        self._queued = 0
        self._flusher = False
        # The scope of the message that is being made ready.
        self._preparing: Scope | None = None
        # Of a close that waits for the queue.
        self._ended: Promise[None] | None = None
        # What every write that went out at once returns.
        self._written: Final = fulfilled(runtime, None)
        self.stream: Final = WritableStream._make(runtime, self)

    @property
    def desired_size(self) -> int:
        return self._high_water_mark - self._queued

    # -- the stream's calls

    @protect
    def write(self, chunk: Any) -> Promise[None]:
        try:
            message = self._take(chunk)
        except TypeError as error:
            return rejected(self._runtime, error.with_traceback(None))
        if not self._queue and message.ready:
            try:
                outcome = message.send()
            except SocketError as error:
                self._owner._failed(error)
                return rejected(self._runtime, error)
            if outcome is None:
                return self._written
            if isinstance(outcome, SocketError):
                return rejected(self._runtime, outcome)
        promise: Promise[None] = Promise(self._runtime)
        self._queue.append((message, promise))
        self._queued += message.size
        if not self._flusher:
            self._flusher = True
            self._runtime.spawn(self._run, name="wsockets message flusher")
        return promise

    @protect
    def close(self) -> Promise[None]:
        ended = self._ended = Promise(self._runtime)
        if not self._queue:
            self._finish()
        return ended

    @protect
    def abort(self, error: BaseException) -> Promise[None]:
        self.stream._fail(error)
        self._owner._write_ended()
        return fulfilled(self._runtime, None)

    @protect
    def settle(self, error: BaseException) -> None:
        queue, self._queue = self._queue, deque()
        self._queued = 0
        if self._preparing is not None:
            self._preparing.cancel()
        for _, promise in queue:
            promise._reject(error)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended._reject(error)

    # -- sending

    async def _run(self) -> None:
        """The flusher: lives until the queue is sent, or cannot be."""
        try:
            while self._queue:
                want = await self._send_first()
                if want is not None:
                    await self._gate.wait(want)
        finally:
            self._flusher = False
            self._warn_of_loss()

    @protect
    async def _send_first(self) -> Want | None:
        message, promise = self._queue[0]
        error: SocketError | None = None
        if not message.ready:
            try:
                with self._runtime.scope() as scope:
                    self._preparing = scope
                    await message.prepare()
            except SocketError as failure:
                error = failure
            finally:
                self._preparing = None
            if not promise._is_pending():
                return None  # The stream has failed meanwhile.
        if error is None:
            try:
                outcome = message.send()
            except SocketError as failure:
                self._owner._failed(failure)
                return None
            if isinstance(outcome, Want):
                return outcome
            error = outcome
        self._queue.popleft()
        self._queued -= message.size
        if error is None:
            promise._fulfil(None)
        else:
            promise._reject(error)
        if self.desired_size > 0:
            self.stream._relieved()
        if not self._queue and self.stream._state is WritableState.CLOSING:
            self._finish()
        return None

    def _finish(self) -> None:
        self.stream._finish()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended._fulfil(None)
        self._owner._write_ended()

    def _warn_of_loss(self) -> None:
        """The event loop ends: say what it takes with it."""
        if self._queue:
            warnings.warn(
                f"{len(self._queue)} messages written to a socket were not sent "
                "before the event loop ended; await what write() returns",
                ResourceWarning,
                stacklevel=2,
            )
