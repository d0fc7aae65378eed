"""Who is slow is waited for, who is busy leaves others their turn."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading

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
    packet,
    sink_of,
    until,
)
from wsockets.bridge.work import Framing

pytestmark = pytest.mark.every_loop

# Two buffers of an engine, and what the kernel keeps on the way besides.
BOUND = (2 << 19) + (1 << 20)


async def clog(far: Far) -> int:
    """Write until nothing more has been taken for a while; how many bytes were."""
    taken = 0
    piece = far.seal(os.urandom(1 << 14))
    while True:
        with loops.move_on_after(0.2) as scope:
            await loops.wait_writable(far.write_fd)
        if scope.cancelled_caught:
            return taken
        with contextlib.suppress(BlockingIOError):
            count = os.write(far.write_fd, piece)
            taken += count
            piece = piece[count:] or far.seal(os.urandom(1 << 14))


async def test_a_sink_that_takes_nothing_stops_the_peer(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, _):
            async with bridged(engine, connection, sink):
                with loops.fail_after(WITHIN):
                    assert await clog(peer) < BOUND


async def test_a_peer_that_takes_nothing_stops_the_sink(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind, "unix", buffer=4608) as (connection, _):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink):
                with loops.fail_after(WITHIN):
                    assert await clog(other) < BOUND


async def test_packets_wait_as_well(engine: Engine, kind: Kind) -> None:
    async with joined(kind, "unix", buffer=4608) as (connection, _):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, framing=Framing.IP):
                taken = 0
                with loops.fail_after(WITHIN):
                    while True:
                        with loops.move_on_after(0.2) as scope:
                            await other.put(packet(1280))
                        if scope.cancelled_caught:
                            break
                        taken += 1280
                assert taken < BOUND


async def test_one_clogged_direction_does_not_hold_up_the_other(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink):
                with loops.fail_after(WITHIN):
                    await clog(peer)
                    for number in range(10):
                        await other.send(b"still %d" % number)
                        assert await peer.receive() == b"still %d" % number


async def test_a_reader_of_single_bytes_gets_them_all(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    data = rng.randbytes(20000)
    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink):
                found = bytearray()
                with loops.fail_after(WITHIN):
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(peer.send, data)
                        while len(found) < len(data):
                            found += await other.receive(1)
                assert found == data


async def test_a_writer_of_single_bytes_is_heard_at_once(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                for number in range(200):
                    await other.send(bytes([number]))
                    assert await peer.receive() == bytes([number])
            await running.counts("encrypt", bytes=200)


async def test_a_source_that_never_waits_leaves_others_their_turns(
    engine: Engine, kind: Kind
) -> None:
    swallowed = 0

    def swallow(fd: int) -> None:
        nonlocal swallowed
        with socket.socket(fileno=os.dup(fd)) as sock:
            sock.setblocking(True)
            while chunk := sock.recv(1 << 20):
                swallowed += len(chunk)

    async with joined("plain", "unix") as (connection, peer):
        reader = threading.Thread(target=swallow, args=(peer.read_fd,))
        reader.start()
        try:
            with open("/dev/zero", "rb", buffering=0) as zero:
                async with bridged(engine, connection, zero, decrypt=False) as busy:
                    async with joined(kind) as (quiet, one), either("unix") as two:
                        sink, other = two
                        async with bridged(engine, quiet, sink):
                            with loops.fail_after(WITHIN):
                                for _ in range(100):
                                    await other.send(b"ping")
                                    assert await one.receive() == b"ping"
                                # And so does the event loop.
                                while busy.pump.stats.encrypt.bytes < 64 << 20:
                                    await loops.checkpoint()
                    assert busy.pump.ended is None
        finally:
            connection.socket.shutdown(socket.SHUT_RDWR)
            reader.join()
    assert swallowed >= 64 << 20


async def test_busy_bridges_share(engine: Engine) -> None:
    """Ten bridges with as much to do as they can; none is left behind."""
    size = 4 << 20
    order: list[int] = []
    moved: list[list[int]] = []

    async with loops.open_nursery() as nursery:
        pumps = []

        async def one(number: int) -> None:
            async with joined("plain", "unix") as (connection, peer):
                async with either("unix") as (sink, other):
                    async with bridged(engine, connection, sink) as running:
                        pumps.append(running.pump)
                        async with loops.open_nursery() as inner:
                            inner.start_soon(peer.send, bytes(size))
                            await other.receive_exactly(size)
                        order.append(number)
                        moved.append([pump.stats.decrypt.bytes for pump in pumps])
                        await until(lambda: len(order) == 10)

        for number in range(10):
            nursery.start_soon(one, number)
    # When the first was through, the last was well on its way.
    assert min(moved[0]) > size // 8
