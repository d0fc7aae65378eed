"""A device that gives many packets at a time, behind a virtio header."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Far,
    Kind,
    bridged,
    joined,
    packet,
    sink_of,
)
from wsockets.bridge import segments
from wsockets.bridge.native import native_pump
from wsockets.bridge.work import Framing

pytestmark = pytest.mark.every_loop

TCP, UDP = 6, 17
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
HEADER = struct.Struct("=BBHHHH")
LONG = {(4, TCP): 1, (6, TCP): 4, (4, UDP): 5, (6, UDP): 5}
NEEDS_CHECKSUM, ECN = 1, 0x80
WHOLE = bytes(10)


def checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for at in range(0, len(data) + len(data) % 2, 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"))
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@attrs.frozen
class Sent:
    """What one call of send(2) gave the kernel, and how it is cut."""

    version: int = 6
    protocol: int = TCP
    payload: bytes = b"x" * 3000
    piece: int = 1000
    number: int = 0xFFFE
    sequence: int = 0xFFFF_F000
    flags: int = ACK | PSH | FIN | CWR
    options: bytes = b"\1\1\1\0"

    def transport(self, payload: bytes, sequence: int, flags: int) -> bytes:
        """The transport's header, without a checksum."""
        if self.protocol == UDP:
            return struct.pack("!HHHH", 1000, 2000, 8 + len(payload), 0)
        size = (20 + len(self.options)) // 4 << 4
        fixed = struct.pack(
            "!HHIIBBHHH", 1000, 2000, sequence, 7, size, flags, 500, 0, 0
        )
        return fixed + self.options

    def packet(
        self, payload: bytes, number: int, sequence: int, flags: int, *, whole: bool
    ) -> bytes:
        """One packet; `whole` with its checksums, else with the pseudo-header's."""
        body = self.transport(payload, sequence, flags) + payload
        if self.version == 4:
            addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
            ip = struct.pack(
                "!BBHHHBBH", 0x45, 0, 20 + len(body), number, 0, 64, self.protocol, 0
            )
            summed = checksum(ip + addresses)
            ip = ip[:10] + summed.to_bytes(2) + addresses
        else:
            addresses = bytes(range(32))
            ip = struct.pack("!IHBB", 6 << 28, len(body), self.protocol, 64)
            ip += addresses
        pseudo = addresses + struct.pack("!HH", self.protocol, len(body))
        at = 16 if self.protocol == TCP else 6
        found = checksum(pseudo + body) if whole else ~checksum(pseudo) & 0xFFFF
        if whole and self.protocol == UDP:
            found = found or 0xFFFF
        return ip + body[:at] + found.to_bytes(2) + body[at + 2 :]

    def given(self, *, cut: bool = True, flags: int = NEEDS_CHECKSUM) -> bytes:
        """What the device gives: the header and the long packet."""
        start = 20 if self.version == 4 else 40
        kind = LONG[self.version, self.protocol] | (ECN if self.flags & CWR else 0)
        offset = 16 if self.protocol == TCP else 6
        header = HEADER.pack(
            flags, kind if cut else 0, 0, self.piece if cut else 0, start, offset
        )
        return header + self.packet(
            self.payload, self.number, self.sequence, self.flags, whole=False
        )

    def expected(self) -> list[bytes]:
        """The packets that a network card would send."""
        found = []
        for index, at in enumerate(range(0, len(self.payload), self.piece)):
            last = at + self.piece >= len(self.payload)
            flags = self.flags if last else self.flags & ~(FIN | PSH)
            found.append(
                self.packet(
                    self.payload[at : at + self.piece],
                    (self.number + index) & 0xFFFF,
                    (self.sequence + at) & 0xFFFF_FFFF,
                    flags & ~CWR if index else flags,
                    whole=True,
                )
            )
        return found


KINDS = [Sent(4), Sent(6), Sent(4, UDP), Sent(6, UDP)]


def named(sent: Sent) -> str:
    return f"{'tcp' if sent.protocol == TCP else 'udp'}{sent.version}"


async def packets_from(peer: Far, expected: Sequence[bytes]) -> None:
    with loops.fail_after(WITHIN):
        found = await peer.receive_exactly(sum(map(len, expected)))
    assert found == b"".join(expected)


def device(**members: Any) -> dict[str, Any]:
    return {"framing": Framing.IP, "prefix": WHOLE, "segmented": True, **members}


@pytest.mark.parametrize("sent", KINDS, ids=named)
async def test_a_long_packet_is_cut_into_those_that_it_is(
    engine: Engine, kind: Kind, sent: Sent
) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                expected = sent.expected()
                assert len(expected) == 3
                await other.put(sent.given())
                await packets_from(peer, expected)
                await running.counts("encrypt", packets=3, drops=0)
                if kind == "tls":
                    await running.counts("encrypt", records=3)


@pytest.mark.parametrize("sent", KINDS, ids=named)
async def test_the_longest_is_cut_too(engine: Engine, sent: Sent) -> None:
    rng = random.Random(1)
    payload = rng.randbytes(65535 - 20 - 24 if sent.version == 4 else 65535 - 40 - 24)
    async with joined("plain") as (connection, peer):
        with sink_of("seqpacket", buffer=1 << 20) as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                for piece in (1448, 536, 64999):
                    long = attrs.evolve(sent, payload=payload, piece=piece)
                    await other.put(long.given())
                    await packets_from(peer, long.expected())
                await running.counts("encrypt", drops=0)


@pytest.mark.parametrize("sent", KINDS, ids=named)
async def test_a_checksum_is_completed(engine: Engine, sent: Sent) -> None:
    async with joined("plain") as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()):
                for length in (1, 2, 7, 1000):
                    short = attrs.evolve(
                        sent, payload=bytes(range(256)) * 4, piece=5000, flags=ACK
                    )
                    short = attrs.evolve(short, payload=short.payload[:length])
                    await other.put(short.given(cut=False))
                    await packets_from(peer, short.expected())


async def test_a_packet_that_lacks_nothing_stays_as_it_is(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()):
                for one in (packet(100), packet(1280, version=4)):
                    await other.put(WHOLE + one)
                    await packets_from(peer, [one])


@pytest.mark.parametrize("sent", KINDS, ids=named)
async def test_where_no_checksum_is_asked_for_they_are_made_too(
    engine: Engine, sent: Sent
) -> None:
    """What a card of the host has joined: its checksum is known to be right."""
    async with joined("plain") as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()):
                given = bytearray(sent.given(flags=0))
                given[6:10] = bytes(4)
                await other.put(bytes(given))
                await packets_from(peer, sent.expected())


async def test_the_address_of_a_route_is_not_in_the_checksum(engine: Engine) -> None:
    """TCP's is of where the packet goes in the end (RFC 791, LSRR)."""
    sent = Sent(4, payload=bytes(range(100)) * 20, number=7, flags=ACK)
    hop = bytes([10, 9, 9, 9])

    def routed(packet: bytes) -> bytes:
        route = bytes([131, 7, 4]) + packet[16:20] + b"\0"
        ip = bytearray(packet[:16] + hop + route)
        ip[0] = 0x47
        ip[2:4] = (len(packet) + 8).to_bytes(2)
        ip[10:12] = bytes(2)
        ip[10:12] = checksum(bytes(ip)).to_bytes(2)
        return bytes(ip) + packet[20:]

    given = bytearray(sent.given())
    struct.pack_into("=H", given, 6, 28)
    async with joined("plain") as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()):
                await other.put(bytes(given[:10]) + routed(bytes(given[10:])))
                await packets_from(peer, [routed(one) for one in sent.expected()])


async def test_a_longer_header_is_possible(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            members = device(prefix=bytes(12))
            async with bridged(engine, connection, sink, **members):
                given = KINDS[0].given()
                await other.put(given[:10] + b"\0\0" + given[10:])
                await packets_from(peer, KINDS[0].expected())
                await peer.send(packet(100))
                with loops.fail_after(WITHIN):
                    assert await other.get() == bytes(12) + packet(100)


async def test_what_is_written_has_an_empty_header(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()):
                await peer.send(packet(100) + packet(200, version=4))
                with loops.fail_after(WITHIN):
                    assert await other.get() == WHOLE + packet(100)
                    assert await other.get() == WHOLE + packet(200, version=4)


async def given_to(device: Far, count: int) -> tuple[list[bytes], int]:
    """The first `count` packets that it was given, and in how many writes."""
    found: list[bytes] = []
    writes = 0
    with loops.fail_after(WITHIN):
        while len(found) < count:
            found += segments.cut(await device.get(), 10)
            writes += 1
    return found, writes


@pytest.mark.parametrize("sent", KINDS, ids=named)
async def test_packets_that_follow_each_other_may_be_joined(
    engine: Engine, kind: Kind, sent: Sent
) -> None:
    # 64 datagrams at once are the most that the kernel takes.
    long = attrs.evolve(sent, payload=bytes(range(250)) * 160, flags=ACK | PSH)
    packets = long.expected()
    assert len(packets) == 40
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket", buffer=1 << 20) as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                await peer.send(b"".join(packets))
                found, writes = await given_to(other, 40)
                assert found == packets
                if engine is native_pump:
                    assert writes < 40
                await running.counts("decrypt", packets=40, drops=0)
                total = sum(map(len, packets))
                await running.counts("decrypt", bytes=total)


def unlike(rng: random.Random) -> list[bytes]:
    """Packets of some flows, in order or not, right or not."""
    found = []
    for _ in range(200):
        one = Sent(
            rng.choice([4, 6]),
            rng.choice([TCP, UDP]),
            payload=rng.randbytes(rng.choice([1, 700, 3000])),
            piece=rng.choice([300, 700]),
            flags=rng.choice([ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR]),
            options=rng.choice([b"", b"\1\1\1\0"]),
        )
        several = one.expected()
        match rng.randrange(6):
            case 0:
                rng.shuffle(several)
            case 1:
                wrong = bytearray(several[-1])
                wrong[rng.randrange(8, len(wrong))] ^= 1 << rng.randrange(8)
                several[-1] = bytes(wrong)
            case 2:
                several = [each for each in several for _ in range(2)]
            case 3:
                several += [packet(rng.randint(40, 100)), packet(60, version=4)]
        found += several
    return found


async def test_joined_or_not_each_packet_is_there_once_and_as_it_was(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    packets = unlike(rng)
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket", buffer=1 << 20) as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(peer.send, b"".join(packets))
                    found, _ = await given_to(other, len(packets))
                assert found == packets
                await running.counts("decrypt", packets=len(packets), drops=0)


async def test_stopped_meanwhile_nothing_is_lost(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    packets = unlike(rng)
    found: list[bytes] = []
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket", buffer=1 << 18) as (sink, other):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(peer.send, b"".join(packets))
                unread = b""
                with loops.fail_after(WITHIN):
                    while len(found) < len(packets):
                        async with bridged(
                            engine, connection, sink, **device(to_sink=unread)
                        ) as running:
                            for _ in range(rng.randrange(8)):
                                with loops.move_on_after(0.02):
                                    found += segments.cut(await other.get(), 10)
                            running.pump.stop(0)
                            end = await running.end()
                            assert end.reason == "stopped"
                            unread = running.pump.remains().unread
    assert found == packets


async def test_where_the_device_takes_no_joined_ones_each_comes_alone(
    engine: Engine, kind: Kind
) -> None:
    long = Sent(payload=bytes(64_000), piece=1000, flags=ACK)
    packets = long.expected()
    async with joined(kind) as (connection, peer):
        # Longer datagrams than its buffer such a socket refuses.
        with sink_of("seqpacket", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(peer.send, b"".join(packets))
                    found, _ = await given_to(other, len(packets))
                assert found == packets
                await running.counts("decrypt", packets=len(packets), drops=0)


def damaged() -> dict[str, bytes]:
    """What no kernel gives."""
    tcp, udp = KINDS[0].given(), KINDS[3].given()

    def header(given: bytes, **fields: int) -> bytes:
        names = ("flags", "kind", "length", "piece", "start", "offset")
        now = dict(zip(names, HEADER.unpack_from(given), strict=True)) | fields
        return HEADER.pack(*now.values()) + given[10:]

    short = 10 + 20 + 10
    return {
        "no-kind": header(tcp, kind=3),
        "other-version": header(tcp, kind=4),
        "no-version": header(tcp)[:10] + b"\x75" + tcp[11:],
        "no-piece": header(tcp, piece=0),
        "other-protocol": header(tcp, flags=0, kind=5),
        "early": header(udp, start=8),
        "late": header(udp, start=60000),
        "no-room": header(tcp[:short]),
        "no-payload": header(tcp[: 10 + 20 + 24]),
        "no-header": tcp[: 10 + 20 + 12] + b"\x10" + tcp[10 + 20 + 13 :],
        "options": tcp[:10] + b"\x46" + tcp[11:],
        "sum-beyond": header(KINDS[0].given(cut=False), offset=60000),
        "sum-odd": header(KINDS[0].given(cut=False), offset=3),
        "nothing": WHOLE,
        "half-a-header": bytes(7),
    }


@pytest.mark.parametrize("what", damaged())
async def test_what_no_kernel_gives_is_dropped(engine: Engine, what: str) -> None:
    async with joined("plain") as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                await other.put(damaged()[what])
                await running.counts("encrypt", drops=1)
                await other.put(WHOLE + packet(100))
                await packets_from(peer, [packet(100)])


async def test_a_segment_over_the_mtu_ends_the_bridge(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("seqpacket") as (sink, other):
            members = device(mtu=1500)
            async with bridged(engine, connection, sink, **members) as running:
                long = Sent(6, payload=bytes(2800), piece=1400)
                await other.put(long.given())
                await packets_from(peer, long.expected())
                await other.put(attrs.evolve(long, piece=1500).given())
                with loops.fail_after(WITHIN):
                    end = await running.end()
                assert end.reason == "framing"
                assert "more than the mtu of 1500" in str(end.error)


async def test_a_slow_connection_gets_all_of_them_in_order(
    engine: Engine, kind: Kind, rng: random.Random
) -> None:
    sent = [
        Sent(
            rng.choice([4, 6]),
            rng.choice([TCP, UDP]),
            payload=rng.randbytes(rng.randint(1, 60000)),
            piece=rng.randint(500, 2000),
        )
        for _ in range(30)
    ]
    expected = [each for one in sent for each in one.expected()]
    async with joined(kind, "unix", buffer=4608) as (connection, peer):
        with sink_of("seqpacket", buffer=1 << 18) as (sink, other):
            async with bridged(engine, connection, sink, **device()) as running:
                async with loops.open_nursery() as nursery:

                    @nursery.start_soon
                    async def feed() -> None:
                        for each in sent:
                            await other.put(each.given())

                    await packets_from(peer, expected)
                await running.counts("encrypt", packets=len(expected), drops=0)


def test_checksums_of_zero_are_none_in_udp() -> None:
    for extra in range(1 << 16):
        sent = Sent(6, UDP, payload=extra.to_bytes(2), piece=9)
        (found,) = segments.cut(sent.given(), 10)
        if found[46:48] == b"\xff\xff":
            assert found == sent.expected()[0]
            return
    raise AssertionError("no payload has such a checksum")


@given(
    st.binary(min_size=10, max_size=10),
    st.sampled_from(KINDS),
    st.binary(min_size=1, max_size=200),
    st.booleans(),
)
def test_any_header_is_read_without_harm(
    header: bytes, sent: Sent, junk: bytes, whole: bool
) -> None:
    packet = sent.given()[10:] if whole else junk
    for one in segments.cut(header + packet, 10):
        assert len(one) <= len(packet)


def test_what_is_no_device_has_no_header(tmp_path: Any) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", "/dev/null"):
        fd = os.open(path, os.O_RDWR)
        try:
            assert segments.device_header(fd) == 0
        finally:
            os.close(fd)
