"""What the sink does wrong, and what a bridge makes of it."""

from __future__ import annotations

import errno
import os
import random
from typing import Any

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Kind,
    Running,
    bridged,
    either,
    joined,
    packet,
    sink_of,
)
from wsockets import SocketError
from wsockets.bridge.work import BridgeEnd, Direction, Framing

pytestmark = pytest.mark.every_loop

DATA = random.Random(7).randbytes(1 << 16)


async def assert_sink_failed(
    running: Running, number: int, direction: Direction = "decrypt"
) -> None:
    """It has ended by an error of the sink with this number."""
    end = await running.end()
    assert end == BridgeEnd("sink", direction, "sink")
    assert isinstance(end.error, SocketError)
    assert end.error.code == "os"
    assert end.error.errno == number
    cause = end.error.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == number
    assert os.strerror(number) in str(end.error)


# -- real ones


@pytest.mark.parametrize("sink_kind", ["unix", "pipes"])
async def test_nobody_reads_any_more(
    engine: Engine, kind: Kind, sink_kind: str
) -> None:
    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        other.close()
        async with bridged(engine, connection, sink, encrypt=False) as running:
            await peer.send(b"for nobody")
            await assert_sink_failed(running, errno.EPIPE)


async def test_what_it_had_sent_before_is_delivered(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        last = DATA[:5000]
        await peer.send(b"for nobody")
        await other.send(last)
        other.close()
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(len(last)) == last
            end = await running.end()
            # Whichever is noticed first; nothing is lost by that.
            assert end.side == "sink"
            assert end.reason in ("sink", "eof")


async def test_one_that_has_no_end_holds_nothing_up(engine: Engine, kind: Kind) -> None:
    """What can no longer be written to is read to its end, within reason."""
    async with joined(kind) as (connection, peer):
        readable, writable = os.pipe()
        zeros = os.open("/dev/zero", os.O_RDONLY)
        async with loops.open_nursery() as nursery:

            async def take() -> None:
                while True:
                    await peer.receive()

            nursery.start_soon(take)
            async with bridged(engine, connection, (zeros, writable)) as running:
                os.close(readable)
                await peer.send(b"for nobody")
                await assert_sink_failed(running, errno.EPIPE)
            nursery.cancel_scope.cancel()
        os.close(writable)
        os.close(zeros)


async def test_a_full_device(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer):
        with open("/dev/full", "wb", buffering=0) as sink:
            async with bridged(engine, connection, sink, encrypt=False) as running:
                await peer.send(b"too much")
                await assert_sink_failed(running, errno.ENOSPC)


async def test_a_directory_cannot_be_read(
    engine: Engine, kind: Kind, tmp_path: Any
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        async with joined(kind) as (connection, _):
            async with bridged(engine, connection, fd, decrypt=False) as running:
                await assert_sink_failed(running, errno.EISDIR, "encrypt")
    finally:
        os.close(fd)


async def test_a_datagram_that_does_not_fit(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink, framing=Framing.IP) as running:
                await peer.send(packet(100) + packet(60000))
                await assert_sink_failed(running, errno.EMSGSIZE)
                assert await other.get() == packet(100)


async def test_a_datagram_for_nobody(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("dgram") as (sink, other):
        other.close()
        async with bridged(engine, connection, sink, framing=Framing.IP) as running:
            await peer.send(packet(100))
            await assert_sink_failed(running, errno.ECONNREFUSED)


async def test_a_datagram_socket_that_receives_no_more_has_ended(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("dgram") as (sink, other):
        async with bridged(engine, connection, sink, framing=Framing.IP) as running:
            await other.put(packet(100))
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(100) == packet(100)
            sink.shutdown(0)
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")


async def test_the_process_goes_on(engine: Engine, kind: Kind) -> None:
    for _ in range(3):
        async with joined(kind) as (connection, peer), either("unix") as (sink, other):
            other.close()
            async with bridged(engine, connection, sink) as running:
                await peer.send(b"x")
                assert (await running.end()).side == "sink"
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink):
            await peer.send(b"still here")
            with loops.fail_after(WITHIN):
                assert await other.receive() == b"still here"
