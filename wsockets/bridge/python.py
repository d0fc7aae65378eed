"""The engine in Python: a bridge on the event loop, for where there is no other.

A bridge has up to two lanes, one for each direction, each a task of its own.

How it ends. The first to end it says how (`_verdict`): an end of a source, a
failure, the clock. Then the lanes stop reading (`quit`) and may deliver what they
hold. One of them reads on what is there already (`drain`): where writing to an end
failed, what that end had sent before it broke is still in the kernel. The clock, a
third task while it is needed, bounds all of this. `_close` is the very end, the
same for all: tasks that still wait find that it is over and return.

Everything runs in the thread of the event loop, and the state is consistent
wherever a task may wait; so the methods of the pump need no lock.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from typing import Final, final

from ..runtime import Line, Runtime, protect
from .edges import Broken, ConnectionEdge, FdEdge
from .lanes import Lane
from .work import (
    BridgeEnd,
    BridgeFlow,
    BridgeStats,
    Direction,
    Framing,
    Pump,
    Remains,
    Work,
)

__all__ = ["python_pump"]

# Seconds without progress that the last bytes of a broken bridge are given.
_GRACE: Final = 5.0


def python_pump(runtime: Runtime, work: Work, notify: Callable[[], None]) -> Pump:
    """A pump that moves the bytes of `work` in tasks of `runtime`."""
    return _PythonPump(runtime, work, notify)


@final
class _PythonPump:
    """The lanes of one bridge, and how it ends."""

    _eventfd = -1

    def __init__(
        self, runtime: Runtime, work: Work, notify: Callable[[], None]
    ) -> None:
        self.runtime = runtime
        self.over = False
        self._notify = notify
        self._packets = work.framing is not Framing.STREAM
        self._connection = ConnectionEdge(runtime, "connection", work.connection)
        self._sink: ConnectionEdge | FdEdge
        if work.sink.connection is not None:
            self._sink = ConnectionEdge(runtime, "sink", work.sink)
        else:
            self._sink = FdEdge(runtime, work.sink, packets=self._packets)
        self._lanes: dict[Direction, Lane] = {}
        if work.decrypt:
            self._lanes["decrypt"] = Lane(
                self, "decrypt", self._connection, self._sink, work
            )
        if work.encrypt:
            self._lanes["encrypt"] = Lane(
                self, "encrypt", self._sink, self._connection, work
            )
        self._active = set(self._lanes.values())
        # The only lane, whose target nobody reads from.
        self._alone = None
        if work.half_close and len(self._lanes) == 1:
            (self._alone,) = self._lanes.values()
        self._started = False
        self._finished: frozenset[Direction] = frozenset()
        # How it will end, once that is decided.
        self._verdict: BridgeEnd | None = None
        self._ended: BridgeEnd | None = None
        self._remains: Remains | None = None
        # The clock: when bytes moved last, and when a stop has to be over.
        self._idle = work.idle_timeout
        self._last = runtime.time()
        self._stop_by = math.inf
        self._ticking = False
        self._alarm: Line = {}

    def __del__(self) -> None:
        if self._eventfd >= 0:
            os.close(self._eventfd)

    # -- what a Pump does

    @protect
    def start(self) -> None:
        self._started = True
        try:
            self.moved()
            for lane in self._lanes.values():
                self.runtime.spawn(lane.run, name=f"wsockets bridge {lane.direction}")
            if self._alone is not None:
                self.runtime.spawn(self._guard, name="wsockets bridge guard")
            if self._idle < math.inf:
                self._tick()
        except BaseException:
            self.crash(None)
            raise

    @protect
    def stop(self, drain: float) -> None:
        if self.over or self._stop_by < math.inf:
            return
        self._stop_by = self.runtime.time() + drain
        self.decide(BridgeEnd("connection", "decrypt", "stopped"))
        if not self._started:
            self._close()

    @protect
    def abandon(self) -> None:
        self.crash(None)

    @property
    def ended(self) -> BridgeEnd | None:
        return self._ended

    @property
    def finished(self) -> frozenset[Direction]:
        return self._finished

    @property
    def stats(self) -> BridgeStats:
        encrypt, decrypt = self._lanes.get("encrypt"), self._lanes.get("decrypt")
        return BridgeStats(
            BridgeFlow()
            if encrypt is None
            else BridgeFlow(
                encrypt.bytes, encrypt.packets, self._connection.sent, encrypt.drops
            ),
            BridgeFlow()
            if decrypt is None
            else BridgeFlow(
                decrypt.bytes, decrypt.packets, self._connection.received, decrypt.drops
            ),
        )

    def fileno(self) -> int:
        if self._eventfd < 0:
            flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
            self._eventfd = os.eventfd(int(self.over), flags)
        return self._eventfd

    def remains(self) -> Remains:
        assert self._remains is not None, "the pump has not ended"
        return self._remains

    # -- what the lanes tell

    def moved(self) -> None:
        """Bytes were read or written."""
        self._last = self.runtime.time()

    @protect
    def done(self, lane: Lane, *, ended: bool) -> None:
        """A lane is through; `ended`: with everything that its source had."""
        if self.over:
            return
        self._active.discard(lane)
        end = BridgeEnd(lane.source.side, lane.direction, "eof")
        if ended and self._verdict is None:
            self._finished |= {lane.direction}
            if self._packets:
                self.decide(end)
            elif self._active:
                self.runtime.soon(self._notify)
        if not self._active:
            self._verdict = self._verdict or end
            self._close()

    @protect
    def fail(self, lane: Lane, broken: Broken) -> None:
        """A lane cannot go on."""
        if self.over:
            return
        self._active.discard(lane)
        end = BridgeEnd(broken.side, lane.direction, broken.reason, broken.error)
        if broken.side == lane.target.side:
            for other in self._active:
                other.drain = True
            self.decide(end)
        if not self._active or broken.side == lane.source.side:
            self._verdict = self._verdict or end
            self._close()

    @protect
    def decide(self, end: BridgeEnd) -> None:
        """It ends like this, as soon as the lanes have delivered what they hold."""
        if self._verdict is None or self._verdict.reason == "stopped":
            # A failure says more than that it was to stop.
            self._verdict = end
        self.moved()
        for lane in self._active:
            lane.quit = not lane.drain
            lane.wake()
        self._tick()

    # -- the clock

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self.runtime.spawn(self._clock, name="wsockets bridge clock")
        else:
            self.runtime.wake(self._alarm)

    async def _clock(self) -> None:
        try:
            while not self.over:
                seconds = self._deadline() - self.runtime.time()
                if seconds <= 0:
                    self._verdict = self._verdict or BridgeEnd(
                        "connection", "decrypt", "idle"
                    )
                    self._close()
                    break
                with self.runtime.scope(seconds):
                    await self.runtime.park(self._alarm)
        except BaseException:
            self.crash(None)
            raise

    def _deadline(self) -> float:
        """When it has to be over if nothing moves until then."""
        if self._verdict is None:
            return self._last + self._idle
        if self._verdict.reason == "stopped":
            return self._stop_by
        return min(self._stop_by, self._last + _GRACE)

    # -- what nobody reads from

    async def _guard(self) -> None:
        """Notice at once that the target is broken, and not with the next write."""
        assert self._alone is not None
        if self.over:
            return
        try:
            broken = await self._alone.target.breaks()
        except BaseException:
            self.crash(None)
            raise
        if broken is not None and self._alone in self._active:
            self.fail(self._alone, broken)

    # -- the very end

    @protect
    def crash(self, error: BaseException | None) -> None:
        """End it now, however it was to end."""
        if not self.over:
            self._verdict = BridgeEnd("connection", "decrypt", "closed", error)
            self._close()

    def _close(self) -> None:
        self.over = True
        self._ended = self._verdict
        self._remains = self._collect()
        if self._ended is not None and self._ended.reason == "stopped":
            for lane in self._lanes.values():
                lane.count_left()
        for lane in self._lanes.values():
            lane.wake()
        self.runtime.wake(self._alarm)
        self._connection.close()
        self._sink.close()
        if self._eventfd >= 0:
            os.eventfd_write(self._eventfd, 1)
        # There is no loop to be told in any more if it refuses.
        with contextlib.suppress(RuntimeError):
            self.runtime.soon(self._notify)

    def _collect(self) -> Remains:
        left = {direction: lane.left() for direction, lane in self._lanes.items()}
        to_sink, to_connection = left.get("decrypt", b""), left.get("encrypt", b"")
        found = {
            "owed_clear" if self._connection.encrypts else "owed": to_connection,
        }
        if isinstance(self._sink, FdEdge):
            found["unread"] = to_sink
        else:
            found["sink_owed_clear" if self._sink.encrypts else "sink_owed"] = to_sink
            for direction, name in (("decrypt", "unread"), ("encrypt", "sink_unread")):
                if direction in self._lanes:
                    found[name] = self._lanes[direction].rest()
        return Remains(**found)
