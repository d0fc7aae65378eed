"""One direction of a bridge in the Python engine.

A lane reads from its source, cuts what it got into frames, writes those to its
target, and only then reads again: so no more is taken than can be delivered, and
what stands before an error or an end is delivered before that is noticed. With
the framing "stream" all that one read gives is one frame.

Reads go into a buffer that all lanes of a thread share (`_scratch`). Most of the
time the target takes everything at once and nothing is copied; a lane that has to
wait copies first what it still holds, for the next lane will use the buffer. So a
lane that waits for its source holds nothing but an incomplete packet.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, Protocol, final

from ..errors import SocketError
from ..runtime import Line, Runtime
from ..runtime.gate import Want
from . import segments
from .edges import Broken, ConnectionEdge, Edge, FdEdge, Obstacle
from .framing import LENGTH, Buffer, Cutter, Datagrams
from .work import BridgeEnd, Direction, Framing, Work

__all__ = ["Lane", "Owner"]

# Bytes that one read takes; a turn of packets is shorter, as each is a call.
_STREAM: Final = 1 << 18
_PACKETS: Final = 1 << 16
# What a lane may do before others get their turn: bytes, and what a call counts.
_BUDGET: Final = 1 << 18
_CALL: Final = 1 << 12

# Seconds after which a device without buffers is tried again.
_NO_BUFFERS: Final = 0.002
# Seconds between two looks at whether a source broke whose target takes nothing.
_LOOK: Final = 1.0
# Bytes that are read at most from an end that can no longer be written to: more
# than the kernel keeps for it.
_DRAIN: Final = 1 << 23


class _Scratch(threading.local):
    """One buffer a thread: what was read is used up, or copied, before a wait."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_STREAM))


_scratch: Final = _Scratch()


class Owner(Protocol):
    """Who is told what a lane notices."""

    runtime: Runtime
    # It has ended: nothing may be touched any more.
    over: bool

    def moved(self) -> None:
        """Bytes were read or written."""

    def done(self, lane: Lane, *, ended: bool) -> None:
        """The lane is through; `ended`: with everything that its source had."""

    def fail(self, lane: Lane, broken: Broken) -> None:
        """The lane cannot go on."""

    def decide(self, end: BridgeEnd) -> None:
        """The bridge ends like this, when the lanes have delivered what they hold."""

    def crash(self, error: BaseException | None) -> None:
        """The lane was cancelled, or met with what nobody thought of."""


@final
class Lane:
    """One direction."""

    def __init__(
        self,
        pump: Owner,
        direction: Direction,
        source: Edge,
        target: Edge,
        work: Work,
    ) -> None:
        self._pump = pump
        self._runtime = pump.runtime
        self.direction: Direction = direction
        self.source = source
        self.target = target
        # What is to be written, in order; the first has begun if `_begun`.
        self._frames: deque[Buffer] = deque()
        self._begun = False
        # Whether frames may be views of the shared buffer.
        self._borrowed = False
        # What is to be written before the rest of the first frame.
        self._head = b""
        # How many bytes at the beginning of a frame are not written.
        self._skip = 0
        # What is written before each frame.
        self._prefix = b""
        # How many bytes of a frame are not payload.
        self._extra = 0
        self._cutter: Cutter | None = None
        self._datagrams: Datagrams | None = None
        # The length of what says how many packets a read gave.
        self._header = 0
        self._packets = work.framing is not Framing.STREAM
        self._half_close = work.half_close
        self._size = _STREAM
        if self._packets:
            self._arrange(work)
        # Sleeps here where no fd tells when to go on.
        self._line: Line = {}
        # Spent of the budget of this turn.
        self._spent = 0
        # Read no more; read only what is there.
        self.quit = False
        self.drain = False
        self._drained = 0
        self.bytes = 0
        self.packets = 0
        self.drops = 0
        first = work.to_sink if direction == "decrypt" else work.to_connection
        if self._cutter is not None:
            self._frames.extend(self._cutter.feed(first))
        elif first:
            self._frames.append(first)

    def _arrange(self, work: Work) -> None:
        """What the packet framing means between these two ends.

        The prefix is on the side of the sink. Where the sink is a connection, its
        bytes are a stream of frames, too.
        """
        self._size = _PACKETS
        framed = isinstance(self.target, ConnectionEdge)
        length = LENGTH if work.framing is Framing.LENGTH16 else 0
        if self.direction == "decrypt":
            self._cutter = Cutter(work.framing, work.mtu)
            self._prefix = work.prefix
            self._skip = 0 if framed else length
        elif isinstance(self.source, FdEdge) and work.segmented:
            self._header = len(work.prefix)
            self._datagrams = Datagrams(work.framing, work.mtu, 0)
            self._size = self._header + segments.LONGEST
        elif isinstance(self.source, FdEdge):
            self._datagrams = Datagrams(work.framing, work.mtu, len(work.prefix))
            self._size = self._datagrams.limit
        else:
            self._cutter = Cutter(work.framing, work.mtu, header=len(work.prefix))
            self._skip = len(work.prefix)
        self._extra = length if framed else 0

    # -- the task

    async def run(self) -> None:
        """Until this direction has nothing more to do."""
        pump = self._pump
        try:
            ended = await self._move()
        except Broken as broken:
            pump.fail(self, broken)
        except pump.runtime.Cancelled:
            pump.crash(None)
            raise
        except BaseException as error:
            pump.crash(error)
            raise
        else:
            pump.done(self, ended=ended)

    async def _move(self) -> bool:
        """Whether the source came to its end, and everything was delivered."""
        while not self._pump.over:
            if self._frames:
                await self._deliver()
                continue
            if self._cutter is not None and self._cutter.error is not None:
                raise Broken(self.source.side, "framing", self._cutter.error)
            if self.quit:
                break
            if self._spent > _BUDGET:
                await self._pause()
                continue
            got = self._take()
            if got is None:
                return await self._end()
            if isinstance(got, Want):
                if self.drain:
                    # TLS may have read a ticket, and nothing that counts.
                    self._drained += _CALL
                    self.quit = not self.source.readable() or self._drained > _DRAIN
                    continue
                self._spent = 0
                await self.source.wait(got)
        return False

    def _take(self) -> int | Want | None:
        """Read once, and load what came."""
        view = _scratch.view
        if self._size > len(view):
            view = memoryview(bytearray(self._size))
        got = self.source.read(view[: self._size])
        if isinstance(got, int):
            self._spent += got + _CALL
            self._pump.moved()
            self._load(view[:got])
            self._borrowed = True
            if self.drain:
                self._drained += got
                self.quit = self._drained > _DRAIN
        return got

    def _load(self, data: memoryview) -> None:
        """Make frames of what was read."""
        if self._datagrams is not None:
            for packet in segments.cut(data, self._header) if self._header else (data,):
                try:
                    frame = self._datagrams.frame(packet)
                except SocketError as error:
                    raise Broken(self.source.side, "framing", error) from error
                if frame is None:
                    self.drops += 1
                else:
                    self._frames.append(frame)
        elif self._cutter is not None:
            self._frames.extend(self._cutter.feed(data))
        elif data:
            self._frames.append(data)

    async def _end(self) -> bool:
        """The source has ended: pass that on."""
        if self._cutter is not None:
            self._cutter.end()
            if self._cutter.error is not None:
                raise Broken(self.source.side, "framing", self._cutter.error)
        outlives = self._packets and self.direction == "decrypt"
        if outlives or not self._half_close:
            # A device goes on without the connection.
            return True
        while not self._pump.over and (want := self.target.finish()) is not None:
            await self._wait_for_target(want)
        return True

    # -- delivering

    async def _deliver(self) -> None:
        """Write once, or wait until it is worth trying."""
        frame = self._frames[0]
        head = self._head if self._begun else self._prefix
        body = frame[self._skip :] if self._skip and not self._begun else frame
        done = self.target.write(head, body)
        if isinstance(done, int):
            self._wrote(done, head, body)
        elif done is Obstacle.REFUSED:
            self._frames.popleft()
            self._begun = False
            self.drops += 1
            self._spent += _CALL
        elif done is Obstacle.NO_BUFFERS:
            self._keep()
            with self._runtime.scope(_NO_BUFFERS):
                await self._runtime.park(self._line)
        else:
            await self._wait_for_target(done)

    def _wrote(self, done: int, head: bytes, body: Buffer) -> None:
        payload = max(0, done - len(head))
        self.bytes += payload
        if done < len(head) + len(body):
            self._begun = True
            self._head = head[done:]
            self._frames[0] = memoryview(body)[payload:]
        else:
            self._frames.popleft()
            self._begun = False
            if self._packets:
                self.packets += 1
                self.bytes -= self._extra
                self._spent += _CALL
        self._pump.moved()

    async def _wait_for_target(self, want: Want) -> None:
        self._keep()
        self._spent = 0
        with self._runtime.scope(_LOOK):
            await self.target.wait(want)
            return
        # Nobody reads from the source meanwhile, so nobody would notice.
        if not self._pump.over and (failure := self.source.failure()) is not None:
            self.drain = True
            self._pump.decide(
                BridgeEnd(self.source.side, self.direction, "reset", failure)
            )

    async def _pause(self) -> None:
        """Let other tasks have their turn."""
        self._spent = 0
        await self._runtime.turn()

    def _keep(self) -> None:
        """Own what is to be written: the shared buffer is used by others now."""
        if self._borrowed:
            self._frames = deque(bytes(frame) for frame in self._frames)
            self._borrowed = False

    # -- the end

    def wake(self) -> None:
        """See what is to be done now."""
        self.source.interrupt()
        self._runtime.wake(self._line)

    def left(self) -> bytes:
        """What was taken from the source and not delivered.

        As the target wants it, where that is a connection; else as the source
        gave it, but for a frame that has begun.
        """
        parts: list[Buffer] = []
        for index, frame in enumerate(self._frames):
            begun = self._begun and index == 0
            if not isinstance(self.target, ConnectionEdge):
                parts.append(frame)
            elif begun:
                parts += (self._head, frame)
            else:
                parts += (self._prefix, frame[self._skip :])
        if not isinstance(self.target, ConnectionEdge):
            parts.append(self.rest())
        return b"".join(parts)

    def count_left(self) -> None:
        """Count what is owed to a connection, which sends it when it is back."""
        if not isinstance(self.target, ConnectionEdge):
            return
        for index, frame in enumerate(self._frames):
            begun = self._begun and index == 0
            self.bytes += len(frame) - (0 if begun else self._skip)
            if self._packets:
                self.packets += 1
                self.bytes -= self._extra

    def rest(self) -> bytes:
        """The incomplete packet that came last, as the source gave it."""
        return b"" if self._cutter is None else bytes(self._cutter.rest)
