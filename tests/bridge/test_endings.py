"""How a bridge ends in good order."""

from __future__ import annotations

import os
import random
import select

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Kind,
    bridged,
    either,
    joined,
    lend,
    packet,
    sink_of,
    streams,
    until,
)
from tests.leaks import Snapshot, left_behind
from wsockets.bridge.sink import open_sink
from wsockets.bridge.work import (
    BridgeEnd,
    BridgeStats,
    Direction,
    End,
    Framing,
    Pump,
    Remains,
    Side,
    Work,
)
from wsockets.connection import PlainConnection
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

DATA = random.Random(6).randbytes(1 << 18)

# Sinks that pass on the end of one direction while the other goes on.
HALVES = ("unix", "tcp", "pipes", "plain", "tls")


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> str:
    """A sink that knows half-closed."""
    found: str = request.param
    return found


async def test_the_connections_end_is_passed_on_and_the_other_direction_lives(
    engine: Engine, kind: Kind, half: str
) -> None:
    async with joined(kind) as (connection, peer), either(half) as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                await peer.send(b"last words")
                await peer.end()
                await running.until_finished("decrypt")
                assert await other.receive_to_end() == b"last words"
                assert running.pump.ended is None
                await other.send(b"an answer")
                assert await peer.receive_exactly(9) == b"an answer"
                await other.end()
                assert await peer.receive_to_end() == b""
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")
            assert running.pump.finished == {"encrypt", "decrypt"}
            assert running.pump.remains() == Remains()


async def test_the_sinks_end_is_passed_on_and_the_other_direction_lives(
    engine: Engine, kind: Kind, half: str
) -> None:
    async with joined(kind) as (connection, peer), either(half) as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                await other.send(b"last words")
                await other.end()
                # For TLS that is close_notify, or it would be an error.
                assert await peer.receive_to_end() == b"last words"
                await running.until_finished("encrypt")
                assert running.pump.ended is None
                await peer.send(b"an answer")
                assert await other.receive_exactly(9) == b"an answer"
                await peer.end()
                await running.until_finished("decrypt")
                assert await other.receive_to_end() == b""
            assert await running.end() == BridgeEnd("connection", "decrypt", "eof")
            assert running.pump.finished == {"encrypt", "decrypt"}


async def test_both_may_end_at_once(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        await peer.send(b"from the peer")
        await peer.end()
        await other.send(b"from the sink")
        await other.end()
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_to_end() == b"from the peer"
                assert await peer.receive_to_end() == b"from the sink"
            end = await running.end()
            assert end.reason == "eof"
            assert end.error is None
            assert running.pump.finished == {"encrypt", "decrypt"}


@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
async def test_the_end_of_the_only_direction_is_the_end(
    engine: Engine, kind: Kind, half: str, direction: Direction
) -> None:
    only = {"encrypt": direction == "encrypt", "decrypt": direction == "decrypt"}
    side: Side = "sink" if only["encrypt"] else "connection"
    async with joined(kind) as (connection, peer), either(half) as (sink, other):
        source, target = (other, peer) if only["encrypt"] else (peer, other)
        async with bridged(engine, connection, sink, **only) as running:
            with loops.fail_after(WITHIN):
                await source.send(DATA)
                await source.end()
                found = await target.receive_exactly(len(DATA))
                await running.until_finished(direction)
                assert await target.receive_to_end() == b""
            assert found == DATA
            assert await running.end() == BridgeEnd(side, direction, "eof")
            assert running.pump.finished == {direction}


async def test_the_last_bytes_of_a_sink_whose_other_side_is_gone_are_sent(
    engine: Engine, kind: Kind, half: str
) -> None:
    # POLLIN and POLLHUP together.
    async with joined(kind) as (connection, peer), either(half) as (sink, other):
        last = DATA[:4000]
        await other.send(last)
        await other.end()
        other.close()
        async with bridged(engine, connection, sink, decrypt=False) as running:
            with loops.fail_after(WITHIN):
                assert await peer.receive_to_end() == last
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")


async def test_so_are_those_of_a_terminal(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("pty") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await other.send(b"last words")
            other.close()
            with loops.fail_after(WITHIN):
                assert await peer.receive_to_end() == b"last words"
            await running.until_finished("encrypt")


async def test_what_follows_close_notify_is_ignored(engine: Engine) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"before")
            await peer.end_of_tls()
            await peer.put(b"\x17\x03\x03\x00\x20" + bytes(32))
            with loops.fail_after(WITHIN):
                assert await other.receive_to_end() == b"before"
            await running.until_finished("decrypt")
            await other.send(b"still open")
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(10) == b"still open"
                await other.end()
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")


async def test_with_packets_the_end_of_the_connection_ends_both(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=Framing.IP) as running:
            await peer.send(packet(100) + packet(200))
            await peer.end()
            assert await running.end() == BridgeEnd("connection", "decrypt", "eof")
            assert running.pump.finished == {"decrypt"}
            assert await other.get() == packet(100)
            assert await other.get() == packet(200)
            assert running.pump.remains() == Remains()


async def test_with_packets_the_end_of_the_device_ends_both(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=Framing.IP) as running:
            await other.put(packet(100))
            await other.put(packet(200))
            other.cut()
            with loops.fail_after(WITHIN):
                # close_notify, where there is TLS, and FIN.
                assert await peer.receive_to_end() == packet(100) + packet(200)
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")
            assert running.pump.finished == {"encrypt"}


async def test_a_completion_fd_becomes_readable(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            fd = running.pump.fileno()
            assert running.pump.fileno() == fd
            assert not os.get_inheritable(fd)
            await peer.end()
            await running.until_finished("decrypt")
            assert select.select([fd], [], [], 0)[0] == []
            await other.end()
            with loops.fail_after(WITHIN):
                await loops.wait_readable(fd)
            await running.end()
            assert select.select([fd], [], [], 0)[0] == [fd]


async def test_it_is_readable_at_once_where_all_is_over(engine: Engine) -> None:
    async with joined("plain") as (connection, _), either("unix") as (sink, _):
        async with bridged(engine, connection, sink) as running:
            running.pump.abandon()
            assert select.select([running.pump], [], [], 0)[0] == [running.pump]


async def test_the_pump_closes_its_descriptors(
    engine: Engine, kind: Kind, sink_kind: str
) -> None:
    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        before = Snapshot.take()
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"x")
            assert await other.receive() == b"x"
            running.pump.abandon()
            end = running.pump.ended
            assert end == BridgeEnd("connection", "decrypt", "closed")
        del running
        assert left_behind(before) == []


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_event_loop_closes_it(engine: Engine, loop: str) -> None:
    made: list[Pump] = []

    async def main(connection: PlainConnection, sink: End) -> None:
        pump = engine(current(), Work(lend(connection), sink), lambda: None)
        made.append(pump)
        pump.start()
        await loops.settle()

    with streams() as (near, _), sink_of("unix") as (given, _):
        sink = open_sink(given, reading=True, writing=True)
        before = Snapshot.take()
        loops.run(loop, main, PlainConnection(near), sink.end)
        assert made[0].ended == BridgeEnd("connection", "decrypt", "closed")
        assert left_behind(before) == []
        sink.restore()


async def test_nothing_that_comes_later_changes_how_it_ended(engine: Engine) -> None:
    async with joined("tls") as (connection, _), either("unix") as (sink, _):
        async with bridged(engine, connection, sink) as running:
            running.pump.abandon()
            end = await running.end()
            running.pump.abandon()
            running.pump.stop(1.0)
            assert running.pump.ended is end
            assert running.pump.stats == BridgeStats()


@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
async def test_an_end_that_is_not_to_be_passed_on_is_told_only(
    engine: Engine, kind: Kind, half: str, direction: Direction
) -> None:
    async with joined(kind) as (connection, peer), either(half) as (sink, other):
        source, target = (other, peer) if direction == "encrypt" else (peer, other)
        async with bridged(engine, connection, sink, half_close=False) as running:
            with loops.fail_after(WITHIN):
                await source.send(b"last words")
                await source.end()
                assert await target.receive_exactly(10) == b"last words"
            await until(lambda: direction in running.finished)
            # The other direction goes on, and nobody has told the target.
            with loops.fail_after(WITHIN):
                await target.send(b"an answer")
                assert await source.receive_exactly(9) == b"an answer"
            with loops.move_on_after(0.05) as scope:
                await target.receive()
            assert scope.cancelled_caught
            assert running.pump.ended is None
