from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsockets import SocketError
from wsockets.bridge.framing import Cutter, Datagrams, longest
from wsockets.bridge.work import Framing

IP, LENGTH16 = Framing.IP, Framing.LENGTH16


def ipv6(payload: bytes) -> bytes:
    return b"\x60\0\0\0" + struct.pack("!H", len(payload)) + bytes(34) + payload


def ipv4(payload: bytes) -> bytes:
    return b"\x45\0" + struct.pack("!H", 20 + len(payload)) + bytes(16) + payload


def length16(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


payloads = st.binary(max_size=60)
frames_of = {
    IP: st.lists(st.one_of(payloads.map(ipv6), payloads.map(ipv4)), max_size=8),
    LENGTH16: st.lists(payloads.map(length16), max_size=8),
}


@st.composite
def streams(draw: st.DrawFn) -> tuple[Framing, bytes, list[bytes], list[bytes]]:
    """A framing, the header before each frame, the frames, and the stream cut up."""
    framing = draw(st.sampled_from([IP, LENGTH16]))
    header = draw(st.binary(max_size=4))
    frames = [header + frame for frame in draw(frames_of[framing])]
    stream = b"".join(frames)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    return framing, header, frames, pieces


@given(streams())
def test_however_a_stream_is_cut_the_frames_are_the_same(
    given: tuple[Framing, bytes, list[bytes], list[bytes]],
) -> None:
    framing, header, frames, pieces = given
    cutter = Cutter(framing, 65535, header=len(header))
    found: list[bytes] = []
    fed = b""
    for piece in pieces:
        # The buffer of a read is used again.
        buffer = bytearray(piece)
        found += [bytes(frame) for frame in cutter.feed(memoryview(buffer))]
        buffer[:] = bytes(len(buffer))
        fed += piece
        assert b"".join(found) + cutter.rest == fed
        assert cutter.error is None
    assert found == frames
    assert cutter.rest == b""
    cutter.end()
    assert cutter.error is None


@given(frames_of[IP], st.integers(0, 255), st.binary(max_size=50))
def test_what_is_no_packet_is_found_where_it_is(
    frames: list[bytes], byte: int, more: bytes
) -> None:
    if byte >> 4 in (4, 6):
        byte ^= 0x80
    good = b"".join(frames)
    cutter = Cutter(IP, 65535)
    found = cutter.feed(good + bytes([byte]) + more)
    assert b"".join(found) == good
    assert cutter.rest == bytes([byte]) + more
    assert cutter.error is not None
    assert cutter.error.code == "state"
    assert f"byte {len(good)} of the stream" in str(cutter.error)
    assert f"{byte:#04x}" in str(cutter.error)
    # What comes then is kept and not looked at.
    error = cutter.error
    assert cutter.feed(ipv6(b"")) == []
    assert cutter.rest == bytes([byte]) + more + ipv6(b"")
    cutter.end()
    assert cutter.error is error


@pytest.mark.parametrize("framing", [IP, LENGTH16])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 39, 41])
def test_an_end_inside_a_packet_is_an_error(framing: Framing, size: int) -> None:
    whole = ipv6(b"0123456789") if framing is IP else length16(bytes(50))
    cutter = Cutter(framing, 65535)
    assert cutter.feed(whole + whole[:size]) == [whole]
    cutter.end()
    assert f"{size} bytes into the packet at byte {len(whole)} " in str(cutter.error)


@pytest.mark.parametrize(
    ("framing", "head"),
    [
        (IP, ipv6(bytes(61))[:6]),
        (IP, ipv4(bytes(81))[:4]),
        (LENGTH16, struct.pack("!H", 101)),
    ],
)
def test_a_packet_over_the_mtu_is_refused_by_its_head(
    framing: Framing, head: bytes
) -> None:
    cutter = Cutter(framing, 100)
    assert cutter.feed(head[:-1]) == []
    assert cutter.error is None
    assert cutter.feed(head[-1:]) == []
    assert "101 bytes long, more than the mtu of 100" in str(cutter.error)


@pytest.mark.parametrize("frame", [ipv6(bytes(60)), ipv4(bytes(80))])
def test_one_as_long_as_the_mtu_is_not(frame: bytes) -> None:
    assert Cutter(IP, 100).feed(frame) == [frame]


@pytest.mark.parametrize("length", [0, 19])
def test_an_IPv4_packet_has_its_header_at_least(length: int) -> None:
    cutter = Cutter(IP, 100)
    assert cutter.feed(b"\x45\0" + struct.pack("!H", length) + bytes(40)) == []
    assert f"IPv4 and {length} bytes long" in str(cutter.error)


# -- what a device gives


@given(st.sampled_from([ipv6, ipv4]), payloads, st.binary(max_size=4))
def test_an_IP_packet_is_its_own_frame(
    make: object, payload: bytes, prefix: bytes
) -> None:
    packet = make(payload)  # type: ignore[operator]
    datagrams = Datagrams(IP, 65535, len(prefix))
    assert datagrams.frame(prefix + packet) == packet
    assert datagrams.frame(memoryview(prefix + packet)) == packet


@given(payloads, st.binary(max_size=4))
def test_a_datagram_goes_behind_its_length(data: bytes, prefix: bytes) -> None:
    datagrams = Datagrams(LENGTH16, 65535, len(prefix))
    assert datagrams.frame(memoryview(prefix + data)) == length16(data)


@given(st.sampled_from([IP, LENGTH16]), st.lists(payloads, max_size=5))
def test_what_is_made_can_be_cut(framing: Framing, payloads: list[bytes]) -> None:
    datagrams = Datagrams(framing, 65535, 0)
    packets = [ipv6(one) for one in payloads]
    frames = [bytes(datagrams.frame(one) or b"") for one in packets]
    assert Cutter(framing, 65535).feed(b"".join(frames)) == frames


def test_what_is_shorter_than_a_packet_is_none() -> None:
    assert Datagrams(IP, 100, 0).frame(b"") is None
    assert Datagrams(IP, 100, 4).frame(b"pre") is None
    assert Datagrams(IP, 100, 4).frame(b"pref") is None
    assert Datagrams(LENGTH16, 100, 4).frame(b"pre") is None
    assert Datagrams(LENGTH16, 100, 4).frame(b"pref") == b"\0\0"
    assert Datagrams(LENGTH16, 100, 0).frame(b"") == b"\0\0"


@pytest.mark.parametrize("framing", [IP, LENGTH16])
def test_a_read_notices_what_is_too_long(framing: Framing) -> None:
    datagrams = Datagrams(framing, 100, 4)
    extra = 2 if framing is LENGTH16 else 0
    assert datagrams.limit == 105
    assert datagrams.frame(bytes(4) + ipv6(bytes(60))) is not None
    with pytest.raises(SocketError, match=f"byte {100 + extra} .*mtu of 100") as caught:
        datagrams.frame(bytes(4) + ipv6(bytes(61)))
    assert caught.value.code == "state"


@pytest.mark.parametrize("byte", [0x00, 0x3F, 0x55, 0xFF])
def test_a_packet_of_no_version_is_refused(byte: int) -> None:
    datagrams = Datagrams(IP, 100, 0)
    datagrams.frame(ipv4(b"x"))
    with pytest.raises(SocketError, match=f"byte 21 .*{byte:#04x}"):
        datagrams.frame(bytes([byte]) * 40)


def test_two_bytes_of_length_limit_the_mtu() -> None:
    assert longest(LENGTH16, 100000) == 65535
    assert longest(IP, 100000) == 100000
