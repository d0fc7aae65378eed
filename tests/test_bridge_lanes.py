"""Lanes between edges that follow a script: every turn of a peer, at will."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from tests import loops
from tests.bridge.harness import WITHIN, packet, until
from wsockets import SocketError
from wsockets.bridge.edges import Broken, ConnectionEdge, FdEdge, Obstacle
from wsockets.bridge.framing import Buffer
from wsockets.bridge.lanes import Lane
from wsockets.bridge.work import BridgeEnd, Direction, End, Framing, Side, Work
from wsockets.connection import PlainConnection
from wsockets.runtime import current
from wsockets.runtime.gate import Want

pytestmark = pytest.mark.every_loop

RESET = SocketError("could not go on: it broke", code="reset")


@attrs.define(eq=False)
class Scripted:
    """An edge that gives and takes what it is told, and waits for nothing else."""

    side: Side
    # What reads give: bytes, a Want, an exception; None is the end, as is the end.
    gives: list[Any] = attrs.field(factory=list)
    # What becomes of writes: how much is taken, a Want, an obstacle, an exception.
    takes: list[Any] = attrs.field(factory=list)
    ends: list[Any] = attrs.field(factory=list)
    written: list[bytes] = attrs.field(factory=list)
    waits: list[Want] = attrs.field(factory=list)
    finished: int = 0
    # Whether waiting goes on until an interrupt.
    asleep: bool = False
    broke: SocketError | None = None
    more: list[bool] = attrs.field(factory=list)
    line: dict[Any, None] = attrs.field(factory=dict)

    def read(self, view: memoryview) -> int | Want | None:
        given = self.gives.pop(0) if self.gives else None
        if isinstance(given, Exception):
            raise given
        if isinstance(given, bytes):
            assert len(given) <= len(view)
            view[: len(given)] = given
            return len(given)
        assert given is None or isinstance(given, Want)
        return given

    def write(self, head: bytes, data: Buffer) -> Any:
        whole = head + bytes(data)
        taken = self.takes.pop(0) if self.takes else len(whole)
        if isinstance(taken, Exception):
            raise taken
        if isinstance(taken, int):
            self.written.append(whole[:taken])
        return taken

    def finish(self) -> Want | None:
        if self.ends:
            return Want.WRITE if self.ends.pop(0) else None
        self.finished += 1
        return None

    async def wait(self, want: Want) -> None:
        self.waits.append(want)
        if self.asleep:
            await current().park(self.line)
        else:
            await loops.checkpoint()

    def interrupt(self) -> None:
        current().wake(self.line)

    def readable(self) -> bool:
        return self.more.pop(0) if self.more else False

    def failure(self) -> SocketError | None:
        return self.broke

    async def breaks(self) -> Broken | None:
        return None

    def close(self) -> None: ...


@attrs.define(eq=False)
class Told:
    """What a lane told its owner."""

    over: bool = False
    ended: list[bool] = attrs.field(factory=list)
    failed: list[Broken] = attrs.field(factory=list)
    decided: list[BridgeEnd] = attrs.field(factory=list)
    crashed: list[BaseException | None] = attrs.field(factory=list)
    moves: int = 0
    runtime: Any = attrs.field(factory=current)

    def moved(self) -> None:
        self.moves += 1

    def done(self, lane: Lane, *, ended: bool) -> None:
        self.ended.append(ended)

    def fail(self, lane: Lane, broken: Broken) -> None:
        self.failed.append(broken)

    def decide(self, end: BridgeEnd) -> None:
        self.decided.append(end)

    def crash(self, error: BaseException | None) -> None:
        self.crashed.append(error)


def lane_of(
    source: Scripted,
    target: Scripted,
    direction: Direction = "decrypt",
    *,
    device: bool = True,
    **members: Any,
) -> tuple[Lane, Told]:
    """A lane between these two; the sink is a `device`, or a connection."""
    told = Told()
    # It looks at what its ends are.
    types = {True: (ConnectionEdge, FdEdge), False: (ConnectionEdge, ConnectionEdge)}
    kinds = types[device]
    source_kind, target_kind = kinds if direction == "decrypt" else kinds[::-1]
    work = Work(End(-1, -1), End(-1, -1), **members)
    lane = Lane(
        told,
        direction,
        _as(source_kind, source),
        _as(target_kind, target),
        work,
    )
    return lane, told


def _as(kind: type, edge: Scripted) -> Any:
    """`edge`, which says it is of this kind."""
    return type("Edge", (_Double,), {"__class__": property(lambda _: kind)})(edge)


class _Double:
    def __init__(self, edge: Scripted) -> None:
        self.edge = edge

    def __getattr__(self, name: str) -> Any:
        return getattr(self.edge, name)


async def ran(lane: Lane) -> None:
    with loops.fail_after(WITHIN):
        await lane.run()


def connection(*gives: Any, **more: Any) -> Scripted:
    return Scripted("connection", list(gives), **more)


def sink(*gives: Any, **more: Any) -> Scripted:
    return Scripted("sink", list(gives), **more)


# -- streams


async def test_what_is_read_is_written_and_the_end_is_passed_on() -> None:
    source, target = connection(b"one", Want.READ, b"two"), sink()
    lane, told = lane_of(source, target)
    await ran(lane)
    assert target.written == [b"one", b"two"]
    assert target.finished == 1
    assert source.waits == [Want.READ]
    assert told.ended == [True]
    assert (lane.bytes, lane.packets, lane.drops) == (6, 0, 0)
    assert lane.left() == b""


async def test_what_came_before_goes_first() -> None:
    target = sink()
    lane, _ = lane_of(connection(b"late"), target, to_sink=b"early")
    assert lane.left() == b"early"
    await ran(lane)
    assert target.written == [b"early", b"late"]


async def test_the_rest_of_what_was_taken_in_part_follows() -> None:
    target = sink(takes=[3, Want.WRITE, 2, Want.WRITE])
    lane, _ = lane_of(connection(b"0123456789"), target)
    await ran(lane)
    assert target.written == [b"012", b"34", b"56789"]
    assert target.waits == [Want.WRITE, Want.WRITE]
    assert lane.bytes == 10


async def test_what_waits_to_be_written_is_its_own() -> None:
    # The buffer that was read into is used for the other lane meanwhile.
    first = sink(takes=[Want.WRITE], asleep=True)
    one, _ = lane_of(connection(b"aaaa"), first)
    two, _ = lane_of(connection(b"bbbb"), sink())
    async with loops.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await loops.settle()
        await ran(two)
        first.interrupt()
    assert first.written == [b"aaaa"]


async def test_a_device_without_buffers_is_tried_again_soon() -> None:
    target = sink(takes=[Obstacle.NO_BUFFERS, Obstacle.NO_BUFFERS])
    lane, _ = lane_of(connection(b"data"), target)
    await ran(lane)
    assert target.written == [b"data"]
    assert target.waits == []


async def test_the_end_may_have_to_wait() -> None:
    target = sink(ends=[True, True])
    lane, told = lane_of(connection(b"data"), target)
    await ran(lane)
    assert target.finished == 1
    assert target.waits == [Want.WRITE, Want.WRITE]
    assert told.ended == [True]


async def test_it_need_not_be_passed_on() -> None:
    target = sink()
    lane, told = lane_of(connection(b"data"), target, half_close=False)
    await ran(lane)
    assert target.finished == 0
    assert told.ended == [True]


async def test_a_source_that_never_waits_lets_others_run() -> None:
    count = 200
    target = sink()
    lane, _ = lane_of(connection(*[bytes(65536)] * count), target)
    turns = 0
    async with loops.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        while target.finished == 0:
            turns += 1
            await loops.checkpoint()
    assert turns > count // 8


# -- stopping


async def test_what_is_owed_to_a_connection_is_counted_when_it_stops() -> None:
    frames = b"PFX\0\2abPFX\0\0"
    near, far = socket.socketpair()
    with near, far:
        end = End(os.dup(near.fileno()), -1, PlainConnection(near))
        edge = ConnectionEdge(current(), "connection", end)
        nothing = End(-1, -1)
        for framing, prefix, counted in (
            (Framing.STREAM, b"", (len(frames), 0)),
            (Framing.LENGTH16, b"PFX", (2, 2)),
        ):
            work = Work(
                nothing, nothing, framing=framing, prefix=prefix, to_connection=frames
            )
            lane = Lane(Told(), "encrypt", sink(), edge, work)
            lane.count_left()
            assert (lane.bytes, lane.packets) == counted
        edge.close()
    lane, _ = lane_of(connection(), sink(), to_sink=b"early")
    lane.count_left()
    assert lane.bytes == 0


async def test_a_lane_that_is_to_stop_delivers_what_it_has() -> None:
    target = sink(takes=[2, Want.WRITE], asleep=True)
    source = connection(b"0123", b"never")
    lane, told = lane_of(source, target)
    async with loops.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        await until(lambda: target.waits)
        lane.quit = True
        assert lane.left() == b"23"
        target.interrupt()
    assert target.written == [b"01", b"23"]
    assert source.gives == [b"never"]
    assert told.ended == [False]


async def test_a_lane_that_waits_for_its_source_stops_at_once() -> None:
    source = connection(Want.READ, asleep=True)
    lane, told = lane_of(source, sink())
    async with loops.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        await until(lambda: source.waits)
        lane.quit = True
        lane.wake()
    assert told.ended == [False]


async def test_when_it_is_over_nothing_is_touched() -> None:
    source, target = connection(b"never"), sink()
    lane, told = lane_of(source, target)
    told.over = True
    await ran(lane)
    assert source.gives == [b"never"]
    assert target.written == []


async def test_what_is_there_already_is_read_to_the_last() -> None:
    # Tickets are read without a byte of data.
    source = connection(b"one", Want.READ, b"two", Want.READ, b"never")
    source.more = [True, False]
    target = sink()
    lane, told = lane_of(source, target)
    lane.drain = True
    await ran(lane)
    assert target.written == [b"one", b"two"]
    assert source.waits == []
    assert told.ended == [False]


async def test_but_not_for_ever() -> None:
    source = connection(*[bytes(1 << 18)] * 100)
    target = sink()
    lane, told = lane_of(source, target)
    lane.drain = True
    await ran(lane)
    assert 20 < len(target.written) < 50
    assert told.ended == [False]


# -- failures


async def test_a_failure_is_told_when_all_before_it_is_delivered() -> None:
    broken = Broken("connection", "reset", RESET)
    target = sink()
    lane, told = lane_of(connection(b"last", broken), target)
    await ran(lane)
    assert target.written == [b"last"]
    assert told.failed == [broken]
    assert told.ended == []


async def test_what_could_not_be_written_is_left() -> None:
    broken = Broken("sink", "sink", RESET)
    lane, told = lane_of(connection(b"0123"), sink(takes=[1, broken]))
    await ran(lane)
    assert told.failed == [broken]
    assert lane.left() == b"123"


async def test_what_nobody_thought_of_ends_the_bridge_and_is_raised() -> None:
    error = RuntimeError("a mistake")
    lane, told = lane_of(connection(error), sink())
    with pytest.raises(RuntimeError):
        await lane.run()
    assert told.crashed == [error]


async def test_so_does_a_cancellation() -> None:
    lane, told = lane_of(connection(Want.READ, asleep=True), sink())
    with loops.move_on_after(0) as scope:
        await lane.run()
    assert scope.cancelled_caught
    assert told.crashed == [None]


@pytest.mark.parametrize("over", [True, False])
async def test_a_source_that_breaks_while_nothing_is_taken_is_noticed(
    autojump_clock: MockClock, over: bool
) -> None:
    source = connection(b"data")
    target = sink(takes=[Want.WRITE, Want.WRITE, Want.WRITE], asleep=True)
    lane, told = lane_of(source, target)
    async with loops.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        await loops.sleep(1.5)
        assert told.decided == []
        source.broke = RESET
        told.over = over
        await loops.sleep(1)
        nursery.cancel_scope.cancel()
    if over:
        assert told.decided == []
    else:
        assert told.decided == [BridgeEnd("connection", "decrypt", "reset", RESET)]
        # What it had received is still to be read.
        assert lane.drain


# -- packets


@pytest.mark.parametrize("prefix", [b"", b"pre."])
async def test_packets_are_cut_for_a_device(prefix: bytes) -> None:
    one, two = packet(40, fill=1), packet(60, fill=2)
    target = sink()
    source = connection((one + two)[:70], (one + two)[70:])
    lane, told = lane_of(source, target, framing=Framing.IP, prefix=prefix)
    await ran(lane)
    assert target.written == [prefix + one, prefix + two]
    # A device goes on without the connection.
    assert target.finished == 0
    assert told.ended == [True]
    assert (lane.bytes, lane.packets) == (100, 2)


async def test_a_packet_that_is_refused_is_dropped() -> None:
    packets = [packet(40, fill=number) for number in range(3)]
    target = sink(takes=[40, Obstacle.REFUSED])
    lane, _ = lane_of(connection(b"".join(packets)), target, framing=Framing.IP)
    await ran(lane)
    assert target.written == [packets[0], packets[2]]
    assert (lane.packets, lane.drops) == (2, 1)


@pytest.mark.parametrize("taken", [2, 4, 10])
async def test_a_packet_that_was_begun_is_finished(taken: int) -> None:
    one = packet(40, fill=1)
    target = sink(takes=[taken, Want.WRITE])
    lane, _ = lane_of(connection(one + one), target, framing=Framing.IP, prefix=b"pre.")
    await ran(lane)
    assert b"".join(target.written) == 2 * (b"pre." + one)
    assert (lane.bytes, lane.packets) == (80, 2)


async def test_what_is_left_of_packets_is_as_the_source_gave_it() -> None:
    frames = [struct.pack("!H", 5) + b"data%d" % number for number in range(3)]
    stream = b"".join(frames) + b"\0\x09in"
    broken = Broken("sink", "sink", RESET)
    for taken, expected in ((5, stream[7:]), (3, stream[5:])):
        lane, _ = lane_of(
            connection(stream),
            sink(takes=[taken, broken]),
            framing=Framing.LENGTH16,
        )
        await ran(lane)
        assert lane.left() == expected


async def test_datagrams_are_framed_for_a_connection() -> None:
    target = connection()
    lane, told = lane_of(
        sink(b"pre.one", b"pre.", b"pr", Want.READ, b"pre.two"),
        target,
        "encrypt",
        framing=Framing.LENGTH16,
        prefix=b"pre.",
    )
    await ran(lane)
    assert target.written == [b"\0\3one", b"\0\0", b"\0\3two"]
    assert target.finished == 1
    assert told.ended == [True]
    assert (lane.bytes, lane.packets, lane.drops) == (6, 3, 1)


async def test_a_datagram_of_any_length_is_read_whole() -> None:
    long = packet(65535 + 40)
    target = connection()
    lane, _ = lane_of(
        sink(b"\0" * (1 << 19) + long),
        target,
        "encrypt",
        framing=Framing.IP,
        prefix=b"\0" * (1 << 19),
        mtu=1 << 17,
    )
    await ran(lane)
    assert target.written == [long]


@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
async def test_what_is_no_packet_ends_it(direction: Direction) -> None:
    source = Scripted("sink" if direction == "encrypt" else "connection")
    source.gives = [packet(40), b"\0" * 20, packet(40)]
    target = Scripted("sink" if direction == "decrypt" else "connection")
    lane, told = lane_of(source, target, direction, framing=Framing.IP)
    await ran(lane)
    assert target.written == [packet(40)]
    (broken,) = told.failed
    assert (broken.side, broken.reason) == (source.side, "framing")
    assert broken.error.code == "state"
    assert lane.left() == (b"" if direction == "encrypt" else b"\0" * 20)


async def test_an_end_inside_a_packet_does_too() -> None:
    lane, told = lane_of(connection(packet(40)[:30]), sink(), framing=Framing.IP)
    await ran(lane)
    (broken,) = told.failed
    assert broken.reason == "framing"
    assert "30 bytes into" in str(broken.error)


# -- packets between two connections


async def test_frames_pass_as_they_are() -> None:
    frames = [struct.pack("!H", 5) + b"data%d" % number for number in range(3)]
    for direction in ("encrypt", "decrypt"):
        target = connection()
        lane, _ = lane_of(
            sink(b"".join(frames)),
            target,
            direction,
            device=False,
            framing=Framing.LENGTH16,
        )
        await ran(lane)
        assert target.written == frames
        assert (lane.bytes, lane.packets) == (15, 3)


async def test_the_prefix_is_on_the_side_of_the_sink() -> None:
    target = connection()
    lane, _ = lane_of(
        sink(b"pre." + packet(40)),
        target,
        "encrypt",
        device=False,
        framing=Framing.IP,
        prefix=b"pre.",
        to_connection=b"pre." + packet(50),
    )
    await ran(lane)
    assert target.written == [packet(50), packet(40)]
    target = sink()
    lane, _ = lane_of(
        connection(packet(40)), target, device=False, framing=Framing.IP, prefix=b"pre."
    )
    await ran(lane)
    assert target.written == [b"pre." + packet(40)]


async def test_what_is_left_is_as_a_connection_wants_it() -> None:
    broken = Broken("sink", "reset", RESET)
    one = packet(40, fill=1)
    lane, _ = lane_of(
        connection(one * 3 + one[:5]),
        sink(takes=[2, broken]),
        device=False,
        framing=Framing.IP,
        prefix=b"pre.",
    )
    await ran(lane)
    assert lane.left() == (b"pre." + one)[2:] + 2 * (b"pre." + one)
    assert lane.rest() == one[:5]
