"""Stopping: the connection is handed back, no byte lost or repeated."""

from __future__ import annotations

import random
import struct

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Family,
    Far,
    Kind,
    bridged,
    either,
    joined,
    packet,
    receive,
    send,
    sink_of,
)
from wsockets.bridge.work import BridgeEnd, Framing, Remains
from wsockets.connection import PlainConnection, TlsConnection

pytestmark = pytest.mark.every_loop

STOPPED = BridgeEnd("connection", "decrypt", "stopped")
# Seconds for what hands over hundreds of times: one where nothing else runs.
LONG = 2.5 * WITHIN


async def give_back(
    connection: PlainConnection | TlsConnection, owed: bytes, clear: bytes
) -> None:
    """What whoever takes the connection back sends first."""
    view = memoryview(owed)
    while view:
        try:
            view = view[connection.socket.send(view) :]
        except BlockingIOError:
            await loops.wait_writable(connection.socket)
    await send(connection, clear)


async def test_an_idle_bridge_stops_at_once(
    engine: Engine, kind: Kind, sink_kind: str
) -> None:
    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"x")
            assert await other.receive() == b"x"
            running.pump.stop(10.0)
            with loops.fail_after(5.0):
                assert await running.end() == STOPPED
            assert running.pump.remains() == Remains()
            assert running.pump.finished == frozenset()
        await peer.send(b"afterwards")
        await send(connection, b"as before")
        with loops.fail_after(WITHIN):
            assert await receive(connection, 10) == b"afterwards"
            assert await peer.receive_exactly(9) == b"as before"


async def test_stopping_again_changes_nothing(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, _), either("unix") as (sink, _):
        async with bridged(engine, connection, sink) as running:
            running.pump.stop(1.0)
            running.pump.stop(0)
            end = await running.end()
            assert end == STOPPED
            running.pump.stop(1.0)
            assert running.pump.ended is end
            assert running.notified == 1


async def test_one_direction_may_have_ended_before(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, _):
        async with bridged(engine, connection, sink) as running:
            await peer.end()
            await running.until_finished("decrypt")
            running.pump.stop(1.0)
            assert await running.end() == STOPPED
            assert running.pump.finished == {"decrypt"}
        await send(connection, b"goes on")
        with loops.fail_after(WITHIN):
            assert await peer.receive_exactly(7) == b"goes on"


async def test_a_sink_that_takes_nothing_leaves_it_unread(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    data = rng.randbytes(3 << 20)
    async with joined(kind) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(peer.send, data)
                async with bridged(engine, connection, sink) as running:
                    with loops.fail_after(WITHIN):
                        found = await other.receive_exactly(10000)
                    running.pump.stop(0)
                    assert await running.end() == STOPPED
                    remains = running.pump.remains()
                    assert remains.unread
                    assert remains.owed == remains.owed_clear == b""
                    assert running.sink is not None
                    running.sink.restore()
                sink.close()
                with loops.fail_after(WITHIN):
                    found += await other.receive_to_end()
                    found += remains.unread
                    found += await receive(connection, len(data) - len(found))
    assert found == data


async def test_a_connection_that_takes_nothing_owes_it(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    data = rng.randbytes(1 << 20)
    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        async with either("unix") as (sink, other):
            async with loops.open_nursery() as nursery:

                async def feed() -> None:
                    await other.send(data)
                    fed.set()

                fed = loops.Event()
                nursery.start_soon(feed)
                async with bridged(engine, connection, sink) as running:
                    with loops.fail_after(WITHIN):
                        found = await peer.receive_exactly(10000)
                    running.pump.stop(0)
                    assert await running.end() == STOPPED
                    remains = running.pump.remains()
                    assert remains.unread == b""
                with loops.fail_after(WITHIN):

                    async def rest() -> None:
                        await give_back(connection, remains.owed, remains.owed_clear)
                        # The sink is the caller's again.
                        sink.setblocking(False)
                        done = False
                        while not done:
                            await loops.checkpoint()
                            all_there = fed.is_set()
                            done = drained() and all_there
                        await send(connection, b"the end")

                    kept = bytearray()

                    def drained() -> bool:
                        try:
                            kept.extend(sink.recv(65536))
                        except BlockingIOError:
                            return True
                        return False

                    nursery.start_soon(rest)
                    while not found.endswith(b"the end"):
                        found += await peer.receive()
    assert found[: -len(b"the end")] + kept == data


async def test_what_can_be_delivered_in_time_is(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    data = rng.randbytes(1 << 20)
    async with joined(kind) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(peer.send, data)
                async with bridged(engine, connection, sink) as running:
                    found = bytearray(await other.receive_exactly(10000))
                    running.pump.stop(WITHIN)
                    with loops.fail_after(WITHIN):
                        # It is not told of an end: the sink only falls silent.
                        while running.pump.ended is None:
                            with loops.move_on_after(0.01):
                                found += await other.receive()
                    assert await running.end() == STOPPED
                    assert running.pump.remains() == Remains()
                sink.close()
                with loops.fail_after(WITHIN):
                    found += await other.receive_to_end()
                    found += await receive(connection, len(data) - len(found))
    assert found == data


@pytest.mark.parametrize("number", range(12))
async def test_at_a_random_moment_every_byte_is_there_once(
    engine: Engine, kind: Kind, rng: random.Random, number: int
) -> None:
    """Both directions are busy; the bridge is stopped and begun again, many times."""
    size = 1 << 20 if loops.on_trio() else 1 << 18
    down, up = rng.randbytes(size), rng.randbytes(size)
    at_sink, at_peer = bytearray(), bytearray()
    family: Family = "unix" if number % 2 else "tcp"
    buffer = rng.choice([4608, 65536, None])

    async def take(found: bytearray, far: Far) -> None:
        while len(found) < size:
            found += await far.receive(rng.choice([100, 5000, 65536]))
            if rng.random() < 0.05:
                await loops.checkpoint()

    async with joined(kind, family, buffer=buffer) as (connection, peer):
        with sink_of("unix", buffer=rng.choice([4608, None])) as (sink, other):
            unread = b""
            with loops.fail_after(LONG):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(peer.send, down)
                    nursery.start_soon(other.send, up)
                    nursery.start_soon(take, at_sink, other)
                    nursery.start_soon(take, at_peer, peer)
                    while len(at_sink) < size or len(at_peer) < size:
                        async with bridged(
                            engine, connection, sink, to_sink=unread
                        ) as running:
                            for _ in range(rng.randrange(40)):
                                await loops.checkpoint()
                            running.pump.stop(rng.choice([0, 0, 0.001]))
                            assert await running.end() == STOPPED
                            remains = running.pump.remains()
                        unread = remains.unread
                        await give_back(connection, remains.owed, remains.owed_clear)
    assert bytes(at_sink) == down
    assert bytes(at_peer) == up


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("sink_kind", ["plain", "tls"])
async def test_between_two_connections_too(
    engine: Engine, kind: Kind, sink_kind: Kind, rng: random.Random, number: int
) -> None:
    size = 1 << 20 if loops.on_trio() else 1 << 18
    down, up = rng.randbytes(size), rng.randbytes(size)
    at_sink, at_peer = bytearray(), bytearray()

    async def take(found: bytearray, far: Far) -> None:
        while len(found) < size:
            found += await far.receive(rng.choice([100, 5000, 65536]))

    buffer = rng.choice([4608, None])
    async with joined(kind, "unix", buffer=buffer) as (connection, peer):
        async with joined(sink_kind, "unix", buffer=buffer) as (sink, other):
            with loops.fail_after(LONG):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(peer.send, down)
                    nursery.start_soon(other.send, up)
                    nursery.start_soon(take, at_sink, other)
                    nursery.start_soon(take, at_peer, peer)
                    moved = [0, 0]
                    while len(at_sink) < size or len(at_peer) < size:
                        async with bridged(engine, connection, sink) as running:
                            for _ in range(rng.randrange(40)):
                                await loops.checkpoint()
                            running.pump.stop(0)
                            assert await running.end() == STOPPED
                            remains = running.pump.remains()
                        # What is owed has left the other side, and is counted.
                        moved[0] += running.pump.stats.decrypt.bytes
                        moved[1] += running.pump.stats.encrypt.bytes
                        assert remains.unread == remains.sink_unread == b""
                        await give_back(connection, remains.owed, remains.owed_clear)
                        await give_back(
                            sink, remains.sink_owed, remains.sink_owed_clear
                        )
    assert bytes(at_sink) == down
    assert bytes(at_peer) == up
    assert moved == [size, size]


@pytest.mark.parametrize("framing", [Framing.IP, Framing.LENGTH16])
async def test_packets_are_left_whole(
    engine: Engine, kind: Kind, framing: Framing, rng: random.Random
) -> None:
    packets = [packet(rng.randint(40, 1400), fill=n % 256) for n in range(2000)]
    length16 = framing is Framing.LENGTH16
    frames = [
        (struct.pack("!H", len(one)) if length16 else b"") + one for one in packets
    ]
    stream = b"".join(frames)
    found: list[bytes] = []
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket", buffer=16384) as (sink, other):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(peer.send, stream)
                unread = b""
                with loops.fail_after(WITHIN):
                    while len(found) < len(packets):
                        async with bridged(
                            engine, connection, sink, framing=framing, to_sink=unread
                        ) as running:
                            for _ in range(rng.randrange(20)):
                                with loops.move_on_after(0.02):
                                    found.append(await other.get())
                            running.pump.stop(0)
                            assert await running.end() == STOPPED
                            unread = running.pump.remains().unread
    assert found == packets


async def test_an_incomplete_packet_is_unread(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=Framing.IP) as running:
            await peer.send(packet(100) + packet(200)[:77])
            with loops.fail_after(WITHIN):
                assert await other.get() == packet(100)
            await running.counts("decrypt", packets=1)
            running.pump.stop(1.0)
            assert await running.end() == STOPPED
            found = running.pump.remains().unread
        if len(found) < 77:
            found += await receive(connection, 77 - len(found))
        assert found == packet(200)[:77]


@pytest.mark.parametrize("framing", [Framing.IP, Framing.LENGTH16])
async def test_between_connections_an_incomplete_packet_is_its_sources(
    engine: Engine, kind: Kind, framing: Framing
) -> None:
    length = b"\0\x64" if framing is Framing.LENGTH16 else b""
    down, up = length + packet(100), length + packet(100, version=4)
    async with joined(kind) as (connection, peer), joined(kind) as (sink, other):
        async with bridged(engine, connection, sink, framing=framing) as running:
            await peer.send(down + down[:50])
            await other.send(up + up[:60])
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(len(down)) == down
                assert await peer.receive_exactly(len(up)) == up
            running.pump.stop(0)
            assert await running.end() == STOPPED
            remains = running.pump.remains()
        assert (remains.owed, remains.owed_clear) == (b"", b"")
        assert (remains.sink_owed, remains.sink_owed_clear) == (b"", b"")
        with loops.fail_after(WITHIN):
            left = 50 - len(remains.unread)
            assert remains.unread + await receive(connection, left) == down[:50]
            left = 60 - len(remains.sink_unread)
            assert remains.sink_unread + await receive(sink, left) == up[:60]


async def test_the_peer_may_die_while_it_stops(engine: Engine, kind: Kind) -> None:
    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        async with either("unix") as (sink, other):
            async with bridged(engine, connection, sink) as running:
                with loops.move_on_after(0.05):
                    await other.send(bytes(1 << 20))
                running.pump.stop(WITHIN)
                peer.close()
                end = await running.end()
                assert end.reason in ("reset", "stopped")


async def test_abandoned_it_touches_nothing_any_more(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"one")
            assert await other.receive() == b"one"
            running.pump.abandon()
            await peer.send(b"two")
            with loops.fail_after(WITHIN):
                assert await receive(connection, 3) == b"two"
            end = await running.end()
            assert end == BridgeEnd("connection", "decrypt", "closed")


async def test_it_may_stop_before_it_has_begun(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, _), either("unix") as (sink, _):
        async with bridged(
            engine, connection, sink, start=False, to_sink=b"early"
        ) as running:
            running.pump.stop(1.0)
            assert await running.end() == STOPPED
            assert running.pump.remains().unread == b"early"
