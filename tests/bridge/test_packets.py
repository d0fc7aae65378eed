"""Packets: where they begin and end is kept, whatever carries them."""

from __future__ import annotations

import contextlib
import os
import random
import struct

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Far,
    Kind,
    Running,
    bridged,
    either,
    joined,
    packet,
    sink_of,
)
from tests.faults.records import DATA, records_of
from wsockets import SocketError
from wsockets.bridge.framing import Cutter
from wsockets.bridge.work import BridgeEnd, Framing

pytestmark = pytest.mark.every_loop

IP, LENGTH16 = Framing.IP, Framing.LENGTH16
# As a TUN with packet information has it: flags, and the Ethernet type of IPv6.
PREFIX = bytes.fromhex("000086dd")

MIXED = (
    packet(40),
    packet(41, fill=1),
    packet(20, version=4),
    packet(1280, fill=2),
    packet(1500, version=4, fill=3),
    packet(9000, fill=4),
)


@pytest.fixture(params=["seqpacket", "dgram"])
def device(request: pytest.FixtureRequest) -> str:
    """What stands in for a packet device."""
    found: str = request.param
    return found


async def received(far: Far, count: int) -> list[bytes]:
    """The next `count` packets that the sink's other side reads."""
    with loops.fail_after(WITHIN):
        return [await far.get(1 << 17) for _ in range(count)]


def framed(framing: Framing, one: bytes) -> bytes:
    """A packet as it travels."""
    return (struct.pack("!H", len(one)) if framing is LENGTH16 else b"") + one


async def assert_framing(running: Running, side: str, *words: str) -> None:
    """It has ended by bytes that are no packet, and says so in these words."""
    direction = "encrypt" if side == "sink" else "decrypt"
    end = await running.end()
    assert end == BridgeEnd(side, direction, "framing")  # type: ignore[arg-type]
    assert isinstance(end.error, SocketError)
    assert end.error.code == "state"
    for word in words:
        assert word in str(end.error)


# -- from the connection to the device


@pytest.mark.parametrize("prefix", [b"", PREFIX], ids=["bare", "prefix"])
async def test_the_stream_is_cut_into_packets(
    engine: Engine, kind: Kind, device: str, prefix: bytes
) -> None:
    async with joined(kind) as (connection, peer), either(device) as (sink, other):
        async with bridged(
            engine, connection, sink, framing=IP, prefix=prefix
        ) as running:
            await peer.send(b"".join(MIXED))
            found = await received(other, len(MIXED))
            assert found == [prefix + one for one in MIXED]
            await running.counts(
                "decrypt", packets=len(MIXED), bytes=sum(map(len, MIXED)), drops=0
            )


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_it_may_come_in_pieces_of_any_size(
    engine: Engine, kind: Kind, framing: Framing
) -> None:
    packets = [packet(40), packet(43, fill=9), packet(20, version=4)]
    stream = b"".join(
        (struct.pack("!H", len(one)) if framing is LENGTH16 else b"") + one
        for one in packets
    )
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=framing):
            for cut in range(1, len(stream)):
                await peer.send(stream[:cut])
                await peer.send(stream[cut:])
                assert await received(other, 3) == packets
            for start in range(len(stream)):
                await peer.send(stream[start : start + 1])
            assert await received(other, 3) == packets


async def test_many_small_packets_keep_their_order(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    packets = [
        packet(rng.randint(44, 1500), fill=rng.randrange(256)) for _ in range(3000)
    ]
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=IP):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(peer.send, b"".join(packets))
                assert await received(other, len(packets)) == packets


async def test_what_was_received_before_is_cut_as_well(
    engine: Engine, kind: Kind
) -> None:
    whole = packet(100, fill=1) + packet(200, fill=2) + packet(300, fill=3)
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(
            engine, connection, sink, framing=IP, to_sink=whole[:250]
        ) as running:
            await peer.send(whole[250:])
            assert [len(one) for one in await received(other, 3)] == [100, 200, 300]
            await running.counts("decrypt", packets=3)


async def test_datagrams_come_out_of_their_lengths(
    engine: Engine, kind: Kind, device: str
) -> None:
    sizes = (0, 1, 60, 1514, 20000) if device == "dgram" else (1, 60, 1514, 20000)
    frames = [os.urandom(size) for size in sizes]
    stream = b"".join(struct.pack("!H", len(one)) + one for one in frames)
    async with joined(kind) as (connection, peer), either(device) as (sink, other):
        async with bridged(engine, connection, sink, framing=LENGTH16) as running:
            await peer.send(stream)
            assert await received(other, len(frames)) == frames
            await running.counts("decrypt", packets=len(frames), bytes=sum(sizes))


async def test_the_longest_packets_pass(engine: Engine, kind: Kind) -> None:
    longest = [packet(65535, fill=1), packet(65535, version=4, fill=2)]
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=IP):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(peer.send, b"".join(longest))
                assert await received(other, 2) == longest
            for one in longest:
                await other.put(one)
                with loops.fail_after(WITHIN):
                    assert await peer.receive_exactly(len(one)) == one


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_a_sink_that_takes_a_packet_in_part_gets_the_rest(
    engine: Engine, kind: Kind, framing: Framing
) -> None:
    packets = [packet(30000, fill=number) for number in range(60)]
    expected = b"".join(PREFIX + one for one in packets)
    stream = b"".join(framed(framing, one) for one in packets)
    async with joined(kind) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(
                engine, connection, sink, framing=framing, prefix=PREFIX
            ) as running:
                with loops.fail_after(WITHIN):
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(peer.send, stream)
                        found = await other.receive_exactly(len(expected))
                assert found == expected
                await running.counts("decrypt", packets=len(packets))


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_a_device_without_room_gets_the_packet_later(
    engine: Engine, kind: Kind, framing: Framing
) -> None:
    packets = [packet(1400, fill=number) for number in range(200)]
    stream = b"".join(framed(framing, one) for one in packets)
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket", buffer=4608) as (sink, other):
            async with bridged(
                engine, connection, sink, framing=framing, prefix=PREFIX
            ) as running:
                await peer.send(stream)
                found = await received(other, len(packets))
                assert found == [PREFIX + one for one in packets]
                assert running.pump.ended is None


# -- any stream, in any pieces


def damaged(stream: bytes, rng: random.Random) -> bytes:
    """The stream as it is, or with a few bytes changed, or cut short."""
    wrong = bytearray(stream)
    for _ in range(rng.choice((0, 0, 1, 3))):
        wrong[rng.randrange(len(wrong))] = rng.randrange(256)
    return bytes(wrong[: rng.choice((len(wrong), rng.randint(1, len(wrong))))])


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_however_it_comes_it_is_cut_by_the_rules(
    engine: Engine, framing: Framing, rng: random.Random
) -> None:
    for _ in range(40):
        mtu = rng.choice((1280, 65535))
        packets = [
            packet(rng.randint(40, 1280), fill=rng.randrange(256))
            for _ in range(rng.randint(1, 8))
        ]
        stream = damaged(b"".join(framed(framing, one) for one in packets), rng)
        cutter = Cutter(framing, mtu)
        skip = 2 if framing is LENGTH16 else 0
        expected = [bytes(one)[skip:] for one in cutter.feed(stream)]
        cutter.end()
        early = rng.randint(0, len(stream))
        async with joined("plain") as (connection, peer):
            with sink_of("dgram") as (sink, other):
                async with bridged(
                    engine,
                    connection,
                    sink,
                    framing=framing,
                    mtu=mtu,
                    prefix=PREFIX,
                    to_sink=stream[:early],
                ) as running:
                    at = early
                    with contextlib.suppress(ConnectionError):
                        while at < len(stream):
                            size = rng.choice((1, 2, 5, 40, 700))
                            await peer.put(stream[at : at + size])
                            at += size
                            await loops.checkpoint()
                        await peer.end()
                    found = await received(other, len(expected))
                    assert found == [PREFIX + one for one in expected]
                    end = await running.end()
                    assert end.reason == ("eof" if cutter.error is None else "framing")
                    if cutter.error is not None:
                        assert str(end.error) == str(cutter.error)
                    sizes = sum(map(len, expected))
                    await running.counts("decrypt", packets=len(expected), bytes=sizes)


# -- from the device to the connection


@pytest.mark.parametrize("prefix", [b"", PREFIX], ids=["bare", "prefix"])
async def test_each_packet_is_a_record_of_its_own(
    engine: Engine, device: str, prefix: bytes
) -> None:
    async with joined("tls") as (connection, peer), either(device) as (sink, other):
        async with bridged(
            engine, connection, sink, framing=IP, prefix=prefix
        ) as running:
            peer.wire.clear()
            for one in MIXED:
                await other.put(prefix + one)
            with loops.fail_after(WITHIN):
                # A read gives one record at most.
                assert [await peer.receive() for _ in MIXED] == list(MIXED)
            records = records_of(bytes(peer.wire))
            assert [record[0] for record in records] == [DATA] * len(MIXED)
            await running.counts(
                "encrypt",
                packets=len(MIXED),
                records=len(MIXED),
                bytes=sum(map(len, MIXED)),
            )


async def test_under_pressure_too(engine: Engine, rng: random.Random) -> None:
    packets = [packet(rng.randint(1000, 1500), fill=n % 256) for n in range(500)]
    found: list[bytes] = []

    async with joined("tls", "unix", buffer=4608) as (connection, peer):
        with sink_of("seqpacket") as (sink, other):

            async def send() -> None:
                for one in packets:
                    await other.put(one)

            async with bridged(engine, connection, sink, framing=IP):
                with loops.fail_after(WITHIN):
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(send)
                        while len(found) < len(packets):
                            found.append(await peer.receive())
                            if len(found) % 50 == 0:
                                await loops.checkpoint()
    assert found == packets


async def test_in_the_clear_packets_follow_each_other(
    engine: Engine, device: str
) -> None:
    async with joined("plain") as (connection, peer), either(device) as (sink, other):
        async with bridged(engine, connection, sink, framing=IP) as running:
            for one in MIXED:
                await other.put(one)
            whole = b"".join(MIXED)
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(len(whole)) == whole
            await running.counts("encrypt", packets=len(MIXED), records=0)


@pytest.mark.parametrize("prefix", [b"", PREFIX], ids=["bare", "prefix"])
async def test_datagrams_travel_behind_their_lengths(
    engine: Engine, kind: Kind, prefix: bytes
) -> None:
    # A prefix alone is an empty datagram, also where a read of nothing is an end.
    frames = [os.urandom(size) for size in (1, 60, 0, 1514)]
    async with joined(kind) as (connection, peer), either("dgram") as (sink, other):
        async with bridged(
            engine, connection, sink, framing=LENGTH16, prefix=prefix
        ) as running:
            for one in frames:
                os.write(other.write_fd, prefix + one)
            expected = b"".join(struct.pack("!H", len(one)) + one for one in frames)
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(len(expected)) == expected
            await running.counts(
                "encrypt",
                packets=len(frames),
                bytes=sum(map(len, frames)),
                records=len(frames) if kind == "tls" else 0,
            )


async def test_what_is_shorter_than_a_packet_is_dropped(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("dgram") as (sink, other):
        async with bridged(
            engine, connection, sink, framing=IP, prefix=PREFIX
        ) as running:
            for short in (b"", PREFIX[:3], PREFIX):
                os.write(other.write_fd, short)
            await other.put(PREFIX + packet(40))
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(40) == packet(40)
            await running.counts("encrypt", packets=1, drops=3)
            assert running.pump.ended is None


# -- between two connections


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_between_connections_packets_are_cut_both_ways(
    engine: Engine, framing: Framing
) -> None:
    frames = [
        (struct.pack("!H", len(one)) if framing is LENGTH16 else b"") + one
        for one in MIXED
    ]
    async with joined("tls") as (connection, peer), joined("tls") as (sink, other):
        async with bridged(engine, connection, sink, framing=framing) as running:
            with loops.fail_after(WITHIN):
                for one, two in ((peer, other), (other, peer)):
                    two.wire.clear()
                    await one.send(b"".join(frames))
                    assert [await two.receive() for _ in frames] == frames
                    assert len(records_of(bytes(two.wire))) == len(frames)
            total = sum(map(len, MIXED))
            await running.counts("encrypt", packets=len(MIXED), bytes=total)
            await running.counts("decrypt", packets=len(MIXED), bytes=total)


# -- what is no packet


@pytest.mark.parametrize("byte", [0x00, 0x50, 0xF0])
async def test_a_version_that_is_none_ends_it(
    engine: Engine, kind: Kind, byte: int
) -> None:
    good = packet(100)
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=IP) as running:
            await peer.send(good + bytes([byte]) * 60)
            # What came before it is delivered, and nothing after.
            assert await received(other, 1) == [good]
            await assert_framing(
                running,
                "connection",
                "byte 100 ",
                f"{byte:#04x}",
                f"version {byte >> 4}",
            )
            await running.counts("decrypt", packets=1)


async def test_so_does_one_from_the_device(
    engine: Engine, kind: Kind, device: str
) -> None:
    async with joined(kind) as (connection, peer), either(device) as (sink, other):
        async with bridged(
            engine, connection, sink, framing=IP, prefix=PREFIX
        ) as running:
            await other.put(PREFIX + packet(100))
            with loops.fail_after(WITHIN):
                assert await peer.receive_exactly(100) == packet(100)
            await other.put(PREFIX + b"\x1f" + bytes(59))
            await assert_framing(running, "sink", "byte 100 ", "0x1f", "version 1")


async def test_what_the_device_gave_before_it_is_sent(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        # The engines may read many at once.
        for one in (packet(100), packet(200), b"\x1f" + bytes(59), packet(300)):
            await other.put(one)
        async with bridged(engine, connection, sink, framing=IP) as running:
            with loops.fail_after(WITHIN):
                found = await peer.receive_exactly(300)
            assert found == packet(100) + packet(200)
            await assert_framing(running, "sink", "byte 300 ", "0x1f")
            await running.counts("encrypt", packets=2, bytes=300)


async def test_an_IPv4_packet_shorter_than_its_header_ends_it(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, _):
        async with bridged(engine, connection, sink, framing=IP) as running:
            await peer.send(b"\x45\0\0\x13" + bytes(30))
            await assert_framing(running, "connection", "byte 0 ", "19 bytes")


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_a_packet_over_the_mtu_ends_it_as_soon_as_its_length_is_known(
    engine: Engine, kind: Kind, framing: Framing
) -> None:
    head = packet(1281)[:6] if framing is IP else struct.pack("!H", 1281)
    fits = packet(1280) if framing is IP else struct.pack("!H", 1280) + bytes(1280)
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(
            engine, connection, sink, framing=framing, mtu=1280
        ) as running:
            await peer.send(fits + head)
            (got,) = await received(other, 1)
            assert len(got) == 1280
            await assert_framing(
                running, "connection", f"byte {len(fits)} ", "1281 bytes", "mtu of 1280"
            )


@pytest.mark.parametrize("framing", [IP, LENGTH16])
async def test_so_does_a_packet_of_the_device(
    engine: Engine, kind: Kind, device: str, framing: Framing
) -> None:
    async with joined(kind) as (connection, peer), either(device) as (sink, other):
        async with bridged(
            engine, connection, sink, framing=framing, mtu=1280, prefix=PREFIX
        ) as running:
            await other.put(PREFIX + packet(1280))
            extra = 2 if framing is LENGTH16 else 0
            with loops.fail_after(WITHIN):
                got = await peer.receive_exactly(1280 + extra)
            assert got[extra:] == packet(1280)
            await other.put(PREFIX + packet(1281))
            await assert_framing(
                running, "sink", f"byte {1280 + extra} ", "mtu of 1280"
            )


@pytest.mark.parametrize("left", [1, 5, 39, 40, 99])
async def test_bytes_that_end_inside_a_packet_say_so(
    engine: Engine, kind: Kind, left: int
) -> None:
    whole = packet(60) + packet(100)
    async with joined(kind) as (connection, peer), either("seqpacket") as (sink, other):
        async with bridged(engine, connection, sink, framing=IP) as running:
            await peer.send(whole[: 60 + left])
            await peer.end()
            assert await received(other, 1) == [packet(60)]
            await assert_framing(
                running, "connection", f"{left} bytes into", "byte 60 "
            )
