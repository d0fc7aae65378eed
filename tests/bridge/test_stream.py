"""Bytes through a bridge, between everything that can be bridged."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from pathlib import Path

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Far,
    Kind,
    bridged,
    either,
    joined,
    nonblocking,
    receive,
    sink_of,
)
from wsockets.bridge.work import BridgeEnd

pytestmark = pytest.mark.every_loop

SIZE = 3 << 20  # bytes, more than all buffers on the way hold


async def test_bytes_go_both_ways_at_once(
    engine: Engine, kind: Kind, sink_kind: str, rng: random.Random
) -> None:
    down, up = rng.randbytes(SIZE), rng.randbytes(SIZE)
    found: dict[str, bytes] = {}

    async def take(name: str, far: Far, count: int) -> None:
        found[name] = await far.receive_exactly(count)

    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(peer.send, down)
                    nursery.start_soon(other.send, up)
                    nursery.start_soon(take, "up", peer, SIZE)
                    nursery.start_soon(take, "down", other, SIZE)
            assert found["down"] == down
            assert found["up"] == up
            await running.counts("decrypt", bytes=SIZE, packets=0, drops=0)
            await running.counts("encrypt", bytes=SIZE, packets=0, drops=0)
            assert (running.pump.stats.decrypt.records > 0) == (kind == "tls")
            assert (running.pump.stats.encrypt.records > 0) == (kind == "tls")
            assert running.pump.ended is None


@pytest.mark.parametrize("sink_kind", ["tcp", "unix"])
async def test_nothing_stands_still_behind_urgent_data(
    engine: Engine, sink_kind: str
) -> None:
    async with joined("plain") as (connection, peer), either(sink_kind) as (sink, far):
        async with bridged(engine, connection, sink):
            with loops.fail_after(WITHIN), peer_socket(peer) as sock:
                for number in range(5):
                    await peer.send(b"x")
                    assert await far.receive_exactly(1) == b"x"
                    # As one segment, or nearly so.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                    sock.send(b"before, ")
                    sock.send(b"!", socket.MSG_OOB)
                    sock.send(b"after %d" % number)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
                    found = await far.receive_exactly(15)
                    assert found == b"before, after %d" % number


def peer_socket(peer: Far) -> socket.socket:
    return socket.socket(fileno=os.dup(peer.write_fd))


async def test_a_small_message_goes_at_once(
    engine: Engine, kind: Kind, sink_kind: str
) -> None:
    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        async with bridged(engine, connection, sink):
            with loops.fail_after(WITHIN):
                for number in range(20):
                    await other.send(b"ping %d" % number)
                    assert await peer.receive() == b"ping %d" % number
                    await peer.send(b"pong %d" % number)
                    assert await other.receive() == b"pong %d" % number


async def test_what_was_received_before_comes_first(engine: Engine, kind: Kind) -> None:
    early = b"early " * 1000
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        await peer.send(b"late")
        async with bridged(engine, connection, sink, to_sink=early):
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(len(early) + 4) == early + b"late"


async def test_so_does_what_a_socket_as_the_sink_had_received(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), joined("tls") as (sink, other):
        await other.send(b"late")
        async with bridged(engine, connection, sink, to_connection=b"early "):
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(10) == b"early late"


async def test_what_TLS_has_decrypted_already_is_delivered(engine: Engine) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        await peer.send(b"0123456789")
        assert await receive(connection, 4) == b"0123"
        async with bridged(engine, connection, sink):
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(6) == b"456789"


async def test_a_record_may_be_half_received_when_it_begins(engine: Engine) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        wire = peer.seal(b"first") + peer.seal(b"second")
        await peer.put(wire[:-3])
        assert await receive(connection, 5) == b"first"
        with loops.move_on_after(0.01):
            await receive(connection, 1)
        async with bridged(engine, connection, sink):
            await peer.put(wire[-3:])
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(6) == b"second"


@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
async def test_one_direction_alone(
    engine: Engine, kind: Kind, sink_kind: str, direction: str
) -> None:
    only = {"encrypt": direction == "encrypt", "decrypt": direction == "decrypt"}
    data = random.Random(3).randbytes(1 << 20)
    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        source, target = (other, peer) if only["encrypt"] else (peer, other)
        async with bridged(engine, connection, sink, **only) as running:
            found = []

            async def take() -> None:
                found.append(await target.receive_exactly(len(data)))

            with loops.fail_after(WITHIN):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(take)
                    await source.send(data)
            assert found == [data]
            moved = {True: len(data), False: 0}
            await running.counts("encrypt", bytes=moved[only["encrypt"]])
            await running.counts("decrypt", bytes=moved[only["decrypt"]])


async def test_a_regular_file_is_sent_to_its_end(
    engine: Engine, kind: Kind, tmp_path: Path
) -> None:
    data = random.Random(4).randbytes(SIZE + 17)
    path = tmp_path / "file"
    path.write_bytes(data)
    async with joined(kind) as (connection, peer):
        with path.open("rb") as file:
            async with bridged(engine, connection, file, decrypt=False) as running:
                with loops.fail_after(WITHIN):
                    found = await peer.receive_to_end()
                assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()
                assert await running.end() == BridgeEnd("sink", "encrypt", "eof")
                assert running.pump.finished == {"encrypt"}
                assert running.pump.stats.encrypt.bytes == len(data)


async def test_a_regular_file_takes_what_comes(
    engine: Engine, kind: Kind, tmp_path: Path
) -> None:
    data = random.Random(5).randbytes(1 << 20)
    path = tmp_path / "file"
    async with joined(kind) as (connection, peer):
        with path.open("wb") as file:
            async with bridged(engine, connection, file, encrypt=False) as running:
                with loops.fail_after(WITHIN):
                    await peer.send(data)
                    await peer.end()
                end = await running.end()
                assert end == BridgeEnd("connection", "decrypt", "eof")
    assert path.read_bytes() == data


async def test_buffers_may_be_tiny_and_both_directions_busy(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    size = 1 << 20
    down, up = rng.randbytes(size), rng.randbytes(size)
    found: dict[str, bytes] = {}

    async def take(name: str, far: Far) -> None:
        data = bytearray()
        while len(data) < size:
            data += await far.receive(rng.randint(1, 8192))
        found[name] = bytes(data)

    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink):
                with loops.fail_after(WITHIN):
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(peer.send, down)
                        nursery.start_soon(other.send, up)
                        nursery.start_soon(take, "up", peer)
                        nursery.start_soon(take, "down", other)
    assert found == {"up": up, "down": down}


async def test_the_caller_may_close_the_sink_and_reuse_its_number(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("unix") as (sink, other):
            async with bridged(engine, connection, sink):
                number = sink.fileno()
                sink.close()
                read_fd, write_fd = os.pipe()
                try:
                    assert number in (read_fd, write_fd)
                    with loops.fail_after(WITHIN):
                        await peer.send(b"for the sink")
                        assert await other.receive() == b"for the sink"
                        await other.send(b"from the sink")
                        assert await peer.receive() == b"from the sink"
                    nonblocking(read_fd)
                    with pytest.raises(BlockingIOError):
                        os.read(read_fd, 1)
                finally:
                    os.close(read_fd)
                    os.close(write_fd)


async def test_many_bridges_at_once(engine: Engine, rng: random.Random) -> None:
    count, size = 20, 1 << 16

    async def one(number: int) -> None:
        data = random.Random(number).randbytes(size)
        kind: Kind = "tls" if number % 2 else "plain"
        async with joined(kind) as (connection, peer), either("unix") as (sink, other):
            async with bridged(engine, connection, sink):
                async with loops.open_nursery() as inner:
                    inner.start_soon(peer.send, data)
                    assert await other.receive_exactly(size) == data
                    inner.start_soon(other.send, data)
                    assert await peer.receive_exactly(size) == data

    with loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, number)
