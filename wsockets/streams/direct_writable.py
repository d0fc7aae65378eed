"""The writable whose queue is the kernel's; see channel for the theory."""

from __future__ import annotations

import enum
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, final

from ..errors import SocketError
from ..promise import Promise, fulfilled, rejected
from ..runtime import Runtime, protect
from ..runtime.gate import Gate, Want
from .channel import Channel, PatientOwner
from .chunks import as_bytes
from .writable import WritableStream

__all__ = ["DirectWritable"]

Queue: TypeAlias = "deque[tuple[memoryview, Promise[None]]]"


class Ending(enum.Enum):
    """How a writable ends once nothing is queued any more."""

    NOT = "not"
    FINISH = "finish"
    CUT = "cut"
    HAND_OVER = "hand over"


@final
class DirectWritable:
    """The controller of a writable that sends in the task that writes."""

    __slots__ = (
        "_channel",
        "_ended",
        "_ending",
        "_flusher",
        "_gate",
        "_high_water_mark",
        "_owner",
        "_queue",
        "_queued",
        "_runtime",
        "_used",
        "_wanted",
        "_written",
        "stream",
    )

    def __init__(
        self,
        runtime: Runtime,
        gate: Gate,
        owner: PatientOwner,
        high_water_mark: int,
    ) -> None:
        self._runtime = runtime
        self._gate = gate
        self._owner = owner
        self._high_water_mark = high_water_mark
        self._channel: Channel | None = None
        # A deque is large, and most sockets never queue anything.
        self._queue: Queue | tuple[()] = ()
        self._queued = 0
        self._used = False
        self._flusher = False
        self._ending = Ending.NOT
        self._ended: Promise[None] | None = None
        self._wanted: Callable[[], None] | None = None
        # What every write that went out at once returns.
        self._written: Promise[None] | None = None
        self.stream = WritableStream._make(runtime, self)

    @protect
    def open(self, channel: Channel) -> None:
        """From now on there is something to send to; send what has gathered."""
        self._channel = channel
        if self._queue or self._ending is not Ending.NOT:
            self._flush()

    def flushed(self) -> Promise[None] | None:
        """Settles when what is queued now is sent; None if nothing is."""
        return self._queue[-1][1] if self._queue else None

    @protect
    def lend(self, wanted: Callable[[], None] | None = None) -> None:
        """Send nothing until `resume`. Nothing may be queued.

        `wanted` is called when somebody writes meanwhile, or ends the stream.
        """
        assert not self._queue
        self._wanted = wanted
        self._channel = None

    @protect
    def resume(self, channel: Channel, first: bytes) -> None:
        """Go on sending: what the channel holds back, `first`, then the rest."""
        self._used = True
        self._wanted = None
        self._queue = deque(self._queue)
        self._queue.appendleft((memoryview(first), Promise(self._runtime)))
        self._queued += len(first)
        self.open(channel)

    @protect
    def lent_end(self) -> None:
        """The end was sent by whom the channel was lent to."""
        self._wanted = None
        self._used = True
        self.stream._closing()
        self._sent_end(Ending.FINISH)

    @property
    def desired_size(self) -> int:
        return self._high_water_mark - self._queued

    @property
    def high_water_mark(self) -> int:
        """How many bytes may be queued before writers are asked to wait."""
        return self._high_water_mark

    @property
    def owner(self) -> PatientOwner:
        """Who is told what the stream notices."""
        return self._owner

    @property
    def used(self) -> bool:
        """Whether anything may have been sent."""
        return self._used

    # -- the stream's calls

    @protect
    def write(self, chunk: Any) -> Promise[None]:
        if chunk.__class__ is not bytes:
            try:
                chunk = as_bytes(chunk)
            except TypeError as error:
                return rejected(self._runtime, error.with_traceback(None))
        self._used = True
        channel = self._channel
        done = 0
        if channel is not None and not self._queue:
            try:
                sent = channel.send(chunk) if chunk else 0
            except SocketError as error:
                self._owner._failed(error)
                return rejected(self._runtime, error)
            if sent == len(chunk):
                if self._written is None:
                    self._written = fulfilled(self._runtime, None)
                return self._written
            if not isinstance(sent, Want):
                done = sent
        rest = memoryview(chunk)[done:]
        promise: Promise[None] = Promise(self._runtime)
        if not isinstance(self._queue, deque):
            self._queue = deque()
        self._queue.append((rest, promise))
        self._queued += len(rest)
        if channel is not None:
            self._wake_flusher()
        elif self._wanted is not None:
            self._wanted()
        return promise

    def close(self) -> Promise[None]:
        return self._end(Ending.FINISH)

    def abort(self, error: BaseException) -> Promise[None]:
        if self._ending is Ending.CUT and self._ended is not None:
            return self._ended
        return self._end(Ending.CUT)

    @protect
    def settle(self, error: BaseException) -> None:
        queue, self._queue = self._queue, ()
        self._queued = 0
        for _, promise in queue:
            promise._reject(error)
        if self._ended is not None and self._ending is not Ending.CUT:
            self._ended._reject(error)
            self._ended = None

    @protect
    def hand_over(self) -> Promise[None]:
        """Take no more; fulfilled once what was written is sent, without an end."""
        self.stream._closing()
        return self._end(Ending.HAND_OVER)

    @protect
    def end_unused(self) -> None:
        """End where closing the connection is all the end that has to be sent."""
        self._channel = None
        self.stream._closing()
        self.stream._finish()

    # -- sending

    @protect
    def _end(self, how: Ending) -> Promise[None]:
        self._ending = how
        ended = self._ended = Promise(self._runtime)
        if self._channel is not None:
            self._flush()
        elif self._wanted is not None:
            self._wanted()
        return ended

    @protect
    def _flush(self) -> None:
        """Send what can be sent now, and have the rest sent."""
        if self._send_queued() is not None:
            self._wake_flusher()

    @protect
    def _send_queued(self) -> Want | None:
        """Send the queue and the end; what it waits for if it could not."""
        channel = self._channel
        assert channel is not None
        try:
            while queue := self._queue:
                rest, promise = queue[0]
                sent = channel.send(rest) if rest else channel.flush()
                if isinstance(sent, Want):
                    return sent
                self._queued -= sent
                if sent < len(rest):
                    queue[0] = (rest[sent:], promise)
                else:
                    queue.popleft()
                    if not queue:
                        self._queue = ()
                    promise._fulfil(None)
                if self.desired_size > 0:
                    self.stream._relieved()
            if self._ending is Ending.NOT:
                return None
            want = None
            if self._ending is Ending.FINISH:
                want = channel.finish()
            elif self._ending is Ending.CUT:
                want = channel.cut()
        except SocketError as error:
            self._owner._failed(error)
            return None
        if want is None:
            how, self._ending = self._ending, Ending.NOT
            self._sent_end(how)
        return want

    @protect
    def fail(self, error: BaseException) -> None:
        """The connection is gone: nothing can be sent any more."""
        self._channel = None
        self.stream._fail(error)
        self._ending = Ending.NOT
        if self._ended is not None:
            # Of an abort: it got what it wanted.
            self._ended._fulfil(None)
            self._ended = None

    def _sent_end(self, how: Ending) -> None:
        stream = self.stream
        if stream._error is not None:
            stream._fail(stream._error)
        else:
            stream._finish()
        if self._ended is not None:
            self._ended._fulfil(None)
            self._ended = None
        self._channel = None
        if how is not Ending.HAND_OVER:
            self._owner._write_ended()

    def _wake_flusher(self) -> None:
        if not self._flusher:
            self._flusher = True
            self._runtime.spawn(self._run, name="wsockets flusher")

    async def _run(self) -> None:
        """The flusher: lives until the queue is sent, or cannot be."""
        try:
            while self._channel is not None:
                want = self._send_queued()
                if want is None:
                    break
                await self._wait(want)
        finally:
            self._flusher = False
            self.warn_of_loss()

    def warn_of_loss(self) -> None:
        """The event loop ends: say what it takes with it."""
        if self._queue:
            warnings.warn(
                f"{self._queued} bytes written to a socket were not sent before "
                "the event loop ended; await close()",
                ResourceWarning,
                stacklevel=2,
            )

    async def _wait(self, want: Want) -> None:
        """Until it is worth trying again, or the peer has taken nothing for long."""
        limit, channel = self._owner._stall_limit(), self._channel
        if limit is None or channel is None:
            await self._gate.wait(want)
            return
        # The kernel reports room late: what it still holds shows progress.
        left = channel.unsent()
        while True:
            with self._runtime.scope(limit) as scope:
                await self._gate.wait(want)
            if not scope.cancelled_caught:
                return
            if self._channel is not channel:
                return
            before, left = left, channel.unsent()
            if left >= before:
                self._owner._stalled()
                return
