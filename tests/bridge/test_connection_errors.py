"""What the peer does wrong, and what a bridge makes of it."""

from __future__ import annotations

import random
import select
import socket

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
    receive,
    until,
)
from tests.faults.records import records_of
from wsockets import SocketError
from wsockets.bridge.work import BridgeEnd, Framing, Reason

pytestmark = pytest.mark.every_loop

DATA = random.Random(8).randbytes(1 << 17)

# Of linux/net_tstamp.h.
SO_TIMESTAMPING = 37
TX_SOFTWARE, SOFTWARE = 1 << 1, 1 << 4


async def assert_failed(running: Running, reason: Reason, code: str) -> SocketError:
    """The connection has ended it, while it was read."""
    end = await running.end()
    assert end == BridgeEnd("connection", "decrypt", reason)
    assert isinstance(end.error, SocketError)
    assert end.error.code == code
    return end.error


async def test_a_FIN_without_close_notify_is_an_attack_or_a_careless_peer(
    engine: Engine,
) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(DATA[:20000])
            peer.cut()
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(20000) == DATA[:20000]
            error = await assert_failed(running, "truncated", "truncated")
            assert "close_notify" in str(error)
            # No end is passed on: the sink's other side cannot take it for one.
            assert running.pump.finished == frozenset()


async def test_or_the_end_where_the_user_says_so(engine: Engine) -> None:
    async with joined("tls", tolerate_truncation=True) as (connection, peer):
        async with either("unix") as (sink, other):
            async with bridged(engine, connection, sink) as running:
                await peer.send(b"last")
                peer.cut()
                with loops.fail_after(WITHIN):
                    assert await other.receive_to_end() == b"last"
                await running.until_finished("decrypt")
                await other.end()
                assert await running.end() == BridgeEnd("sink", "encrypt", "eof")


@pytest.mark.parametrize("left", [1, 5, 6, 100])
async def test_a_FIN_inside_a_record(engine: Engine, left: int) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"whole")
            wire = peer.seal(b"x" * 200)
            await peer.put(wire[:left])
            peer.cut()
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(5) == b"whole"
            await assert_failed(running, "truncated", "truncated")


async def test_a_reset(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"before")
            with loops.fail_after(WITHIN):
                assert await other.receive() == b"before"
            peer.reset()
            await assert_failed(running, "reset", "reset")


async def test_what_came_before_a_reset_is_delivered(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        await peer.send(DATA[:30000])
        # It was received by the kernel, or the reset would take it along.
        await loops.wait_readable(connection.socket)
        peer.reset()
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(30000) == DATA[:30000]
            await assert_failed(running, "reset", "reset")


async def test_a_reset_that_a_write_meets_first_loses_nothing_either(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        await other.send(b"into the void")
        await peer.send(DATA[:30000])
        await loops.wait_readable(connection.socket)
        peer.reset()
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(30000) == DATA[:30000]
            end = await running.end()
            assert end.side == "connection"
            assert end.reason == "reset"


async def test_only_the_writing_direction_meets_it(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        peer.reset()
        async with bridged(engine, connection, sink, decrypt=False) as running:
            await other.send(DATA[:1000])
            end = await running.end()
            assert end == BridgeEnd("connection", "encrypt", "reset")
            assert isinstance(end.error, SocketError)
            assert end.error.code == "reset"


async def test_nobody_has_to_write_for_it(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink, decrypt=False) as running:
            await other.send(b"before")
            with loops.fail_after(WITHIN):
                assert await peer.receive() == b"before"
            peer.reset()
            end = await running.end()
            assert end == BridgeEnd("connection", "encrypt", "reset")
            assert isinstance(end.error, SocketError)
            assert end.error.code == "reset"


async def test_nor_where_the_sink_is_a_connection(engine: Engine, kind: Kind) -> None:
    async with joined("tls") as (connection, _), joined(kind) as (sink, other):
        async with bridged(engine, connection, sink, encrypt=False) as running:
            other.reset()
            end = await running.end()
            assert end == BridgeEnd("sink", "decrypt", "reset")


async def test_what_was_received_is_still_there(engine: Engine, kind: Kind) -> None:
    async with joined(kind, "unix") as (connection, peer):
        async with either("unix") as (sink, _):
            await peer.send(b"unread")
            async with bridged(engine, connection, sink, decrypt=False) as running:
                peer.close()
                assert (await running.end()).reason == "reset"
            with loops.fail_after(WITHIN):
                assert await receive(connection, 6) == b"unread"


async def test_a_message_in_the_error_queue_is_no_break(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        # When a segment has left, the kernel says so as it says errors.
        connection.socket.setsockopt(
            socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE
        )
        poll = select.poll()
        poll.register(connection.socket, 0)
        async with bridged(engine, connection, sink, decrypt=False) as running:
            for number in range(10):
                await other.send(b"%d" % number)
                with loops.fail_after(WITHIN):
                    assert await peer.receive() == b"%d" % number
                await until(lambda: poll.poll(0))
            assert running.pump.ended is None
            await other.end()
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")


async def test_a_peer_that_says_no_more_may_still_listen(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink, decrypt=False) as running:
            await peer.send(b"unread")
            await peer.end()
            for number in range(10):
                await other.send(b"%d" % number)
                with loops.fail_after(WITHIN):
                    assert await peer.get()
            assert running.pump.ended is None
            await other.end()
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")
        with loops.fail_after(WITHIN):
            assert await receive(connection, 6) == b"unread"


async def test_who_else_reads_the_connection_is_told_of_the_reset(
    engine: Engine,
) -> None:
    async with joined("plain") as (connection, peer), either("unix") as (sink, _):
        async with bridged(
            engine, connection, sink, decrypt=False, half_close=False
        ) as running:
            peer.reset()
            await loops.wait_readable(connection.socket)
            with pytest.raises(SocketError) as caught:
                connection.receive(1)
            assert caught.value.code == "reset"
            assert running.pump.ended is None


@pytest.mark.parametrize("position", [0, 1, 5, 20, -1])
async def test_a_damaged_record_ends_it_with_an_alert(
    engine: Engine, position: int
) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            good = peer.seal(b"good")
            wire = bytearray(peer.seal(b"damaged" * 10))
            wire[position] ^= 0x55
            await peer.put(good + wire)
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(4) == b"good"
            peer.wire.clear()
            await assert_failed(running, "tls", "tls")
            # The alert went out before the end was told.
            with loops.fail_after(WITHIN):
                alert = await peer.get()
            assert len(records_of(alert)) == 1


async def test_an_alert_of_the_peer_is_named(engine: Engine) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, _):
        async with bridged(engine, connection, sink) as running:
            # Python's ssl says bad_record_mac to this.
            peer.incoming.write(b"\x17\x03\x03\x00\x40" + bytes(64))
            with pytest.raises(Exception, match=r"(?i)bad.record.mac|decryption"):
                await peer.receive()
            await peer.put(peer.outgoing.read())
            error = await assert_failed(running, "tls", "tls-alert")
            assert "bad_record_mac" in str(error)


async def test_plaintext_in_the_middle_of_TLS(engine: Engine) -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await peer.send(b"good")
            await peer.put(b"220 mail.example.com ESMTP\r\n")
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(4) == b"good"
            await assert_failed(running, "tls", "tls")


@pytest.mark.parametrize(
    ("fault", "reason", "code"),
    [
        ("cut", "truncated", "truncated"),
        ("reset", "reset", "reset"),
        ("junk", "tls", "tls"),
    ],
)
async def test_a_sink_that_is_a_connection_fails_alike(
    engine: Engine, fault: str, reason: Reason, code: str
) -> None:
    async with joined("plain") as (connection, peer), joined("tls") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            await other.send(b"before")
            with loops.fail_after(WITHIN):
                assert await peer.receive() == b"before"
            if fault == "cut":
                other.cut()
            elif fault == "reset":
                other.reset()
            else:
                await other.put(b"junk" * 10)
            end = await running.end()
            assert end == BridgeEnd("sink", "encrypt", reason)
            assert isinstance(end.error, SocketError)
            assert end.error.code == code


async def test_packets_before_a_failure_are_delivered(engine: Engine) -> None:
    async with (
        joined("tls") as (connection, peer),
        either("seqpacket") as (sink, other),
    ):
        async with bridged(engine, connection, sink, framing=Framing.IP) as running:
            await peer.send(packet(100) + packet(200) + packet(300)[:17])
            peer.cut()
            await assert_failed(running, "truncated", "truncated")
            assert await other.get() == packet(100)
            assert await other.get() == packet(200)
            assert running.pump.remains().unread == packet(300)[:17]
