"""The PROXY protocol's headers: what they say, whole or in pieces, and what is none."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.naming import named
from wsockets.errors import SocketError
from wsockets.proxy_header import HeaderReader, ProxyHeader

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = b"\x16\x03\x01 the next protocol's"


def v2(body: bytes = b"", *, command: int = 0x21, family: int = 0) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def read(data: bytes, pieces: list[int] | None = None) -> tuple[ProxyHeader, bytes]:
    """The header and what is behind it; `data` is seen a piece at a time."""
    reader = HeaderReader()
    position = seen = 0
    sizes = iter(pieces or [])
    while reader.header is None:
        # A peek sees what was not taken, and more of it each time.
        seen = min(len(data), max(seen, position) + next(sizes, len(data)))
        assert seen > position, "the header is not complete"
        taken = reader.receive(data[position:seen])
        assert 1 <= taken <= seen - position
        position += taken
    return reader.header, data[position:]


def refused(data: bytes) -> str:
    reader = HeaderReader()
    with pytest.raises(SocketError) as caught:
        position = 0
        while reader.header is None:
            position += reader.receive(data[position:])
    assert caught.value.code == "proxy"
    return str(caught.value)


V1 = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n": (
        "192.0.2.1:56324",
        "198.51.100.2:443",
    ),
    b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 0 65535\r\n": (
        "[2001:db8::1]:0",
        "[::ffff:1.2.3.4]:65535",
    ),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff:f...f:ffff what ever 65535 65535\r\n": (None, None),
}


@pytest.mark.parametrize("line", V1, ids=named)
def test_a_line_of_version_1_is_read(line: bytes) -> None:
    source, destination = V1[line]
    header, rest = read(line + BEHIND)
    assert header == ProxyHeader(1, "proxy", source, destination)
    assert rest == BEHIND


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.1 1 1\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        b"PROXY TCP6 [::1] ::1 1 1\r\n",
        b"PROXY TCP4 0300.0.2.1 192.0.2.1 1 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.1 01 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.1 -1 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1 \r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.1 1 1\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.1 1 1\r\n",
        b"PROXY \xd9\xa1 192.0.2.1 192.0.2.1 1 1\r\n",
        b"PROXY \r\n",
        b"PROXY\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.1 1 1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"P ",
        b"\n",
    ],
    ids=named,
)
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    assert "malformed" in refused(line)


def test_a_line_has_107_bytes_at_most() -> None:
    longest = b"PROXY UNKNOWN " + b"f" * (107 - 16) + b"\r\n"
    assert len(longest) == 107
    assert read(longest)[0] == ProxyHeader(1, "proxy")
    assert "107" in refused(longest.replace(b"\r\n", b"f\r\n"))
    assert "107" in refused(b"PROXY TCP4 " + b"1" * 100_000)


V4 = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("10.0.0.1").packed
V6 = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("::1").packed
UNIX = b"/run/a".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            v2(V4 + struct.pack("!HH", 1, 443), family=0x11),
            ProxyHeader(2, "proxy", "192.0.2.1:1", "10.0.0.1:443"),
        ),
        (
            v2(V6 + struct.pack("!HH", 1, 443), family=0x21),
            ProxyHeader(2, "proxy", "[2001:db8::1]:1", "[::1]:443"),
        ),
        (
            v2(UNIX, family=0x31),
            ProxyHeader(2, "proxy", "unix:/run/a", "unix:@abstract"),
        ),
        (v2(bytes(216), family=0x31), ProxyHeader(2, "proxy", "unix:", "unix:")),
        (
            v2(b"/" * 216, family=0x31),
            ProxyHeader(2, "proxy", "unix:" + "/" * 108, "unix:" + "/" * 108),
        ),
        (v2(), ProxyHeader(2, "proxy")),
        (v2(V4 + bytes(4), family=0x12), ProxyHeader(2, "proxy")),
        (v2(V4 + bytes(4), family=0x10), ProxyHeader(2, "proxy")),
        (v2(command=0x20), ProxyHeader(2, "local")),
        (v2(b"anything", command=0x20, family=0xFF), ProxyHeader(2, "local")),
        (
            v2(V4 + bytes(4) + tlv(1, b"h2") + tlv(4, b""), family=0x11),
            ProxyHeader(
                2, "proxy", "192.0.2.1:0", "10.0.0.1:0", ((1, b"h2"), (4, b""))
            ),
        ),
        (v2(tlv(4, bytes(65532))), ProxyHeader(2, "proxy", tlvs=((4, bytes(65532)),))),
    ],
    ids=named,
)
def test_a_block_of_version_2_is_read(data: bytes, expected: ProxyHeader) -> None:
    assert read(data + BEHIND) == (expected, BEHIND)
    assert read(data + BEHIND, [1] * len(data)) == (expected, BEHIND)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\r\n\r\n\0\r\nQUITE", "begins like neither"),
        (b"\r\nGET", "begins like neither"),
        (v2(command=0x11), "version 1"),
        (v2(command=0x31), "version 3"),
        (v2(command=0x22), "command is 2"),
        (v2(bytes(300), family=0x41), "family is 0x41"),
        (v2(bytes(300), family=0x13), "family is 0x13"),
        (v2(bytes(11), family=0x11), "no room"),
        (v2(bytes(35), family=0x21), "no room"),
        (v2(bytes(215), family=0x31), "no room"),
        (v2(b"", family=0x11), "no room"),
        (v2(b"\x01\0"), "within a TLV"),
        (v2(tlv(1, b"h2")[:-1]), "has 2 bytes, and there are 1"),
        (v2(V4 + bytes(4) + b"\x01\xff\xff", family=0x11), "has 65535 bytes"),
    ],
    ids=named,
)
def test_a_block_that_is_none_is_refused(data: bytes, why: str) -> None:
    assert why in refused(data)


def test_what_is_refused_is_refused_as_early_as_can_be() -> None:
    reader = HeaderReader()
    with pytest.raises(SocketError):
        reader.receive(b"G")
    reader = HeaderReader()
    with pytest.raises(SocketError, match="no room"):
        reader.receive(v2(family=0x11))


def test_a_reader_is_for_one_header() -> None:
    reader = HeaderReader()
    with pytest.raises(ValueError):
        reader.receive(b"")
    reader.receive(b"PROXY UNKNOWN\r\n")
    with pytest.raises(ValueError):
        reader.receive(b"more")


# -- in general

ports = st.integers(0, 65535)
headers = st.one_of(
    st.builds(
        lambda a, b, p, q: f"PROXY TCP4 {a} {b} {p} {q}\r\n".encode(),
        *(st.ip_addresses(v=4),) * 2,
        *(ports,) * 2,
    ),
    st.builds(
        lambda a, b, p, q: f"PROXY TCP6 {a} {b} {p} {q}\r\n".encode(),
        *(st.ip_addresses(v=6),) * 2,
        *(ports,) * 2,
    ),
    st.builds(
        lambda a, b, p, q, more: v2(
            a.packed
            + b.packed
            + struct.pack("!HH", p, q)
            + b"".join(tlv(kind, value) for kind, value in more),
            family=0x11,
        ),
        *(st.ip_addresses(v=4),) * 2,
        *(ports,) * 2,
        st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=5),
    ),
)


@given(header=headers, rest=st.binary(max_size=40), data=st.data())
def test_a_header_reads_the_same_however_it_is_cut(
    header: bytes, rest: bytes, data: Any
) -> None:
    whole = read(header + rest)
    assert whole[0].source is not None
    assert whole[1] == rest
    sizes = data.draw(st.lists(st.integers(1, 30), max_size=60))
    assert read(header + rest, sizes) == whole


@given(a=st.ip_addresses(v=6), port=ports)
def test_an_address_reads_back(a: Any, port: int) -> None:
    header, _ = read(f"PROXY TCP6 {a} :: {port} 1\r\n".encode())
    assert header.source is not None
    host, _, shown = header.source.rpartition(":")
    assert ipaddress.ip_address(host.strip("[]")) == a
    assert int(shown) == port


@given(st.one_of(st.binary(), st.binary().map(lambda data: SIGNATURE + data)))
def test_arbitrary_bytes_are_a_header_or_refused(data: bytes) -> None:
    reader = HeaderReader()
    position = 0
    while reader.header is None and position < len(data):
        try:
            taken = reader.receive(data[position:])
        except SocketError:
            return
        assert 1 <= taken <= len(data) - position
        position += taken


def test_what_is_no_header_is_not_shown() -> None:
    assert "secret" not in refused(b"GET /?secret=1")
    assert "secret" not in refused(b"\r\n\r\n\0secret")
