"""The header with which a proxy tells for whom it has connected (PROXY protocol).

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, versions 1 and 2.

`HeaderReader` does no I/O. It is shown the bytes that come next, and says how many
of them belong to the header: those are to be taken off the connection, and no
others, for whatever follows (a ClientHello, in the same segment perhaps) belongs
to whoever reads the connection next. So it is made for MSG_PEEK: peek, ask, take.
It always asks to take something, and so never looks at the same bytes twice.

Whether to believe a header is not decided here: anyone can send one.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from typing import Final, Literal, final

import attrs

from .address import format_address
from .errors import SocketError

__all__ = ["AHEAD", "HeaderReader", "ProxyHeader"]

AHEAD: Final = 4096
"""How many bytes it is of use to peek at."""

_V1_PREFIX: Final = b"PROXY "
# "PROXY UNKNOWN" with two of the longest addresses and ports; section 2.1.
_V1_MAX: Final = 107
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")

# What else it is may be a secret, and is nobody's business.
_NO_HEADER: Final = "it begins like neither version's"

_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16
# The block of addresses by address family (section 2.2): IPv4, IPv6, unix.
_BLOCKS: Final = {0: 0, 1: 12, 2: 36, 3: 216}
_STREAM: Final = 1
# Unspecified, stream, datagram.
_TRANSPORTS: Final = (0, 1, 2)


@attrs.frozen
class ProxyHeader:
    """What a header says.

    - `command`: "proxy", or "local" for a connection of the proxy's own, such as a
      health check, which is for nobody else.
    - `source`, `destination`: the ends of the connection to the proxy, as
      "127.0.0.1:443", "[::1]:443" or "unix:/path"; None where it does not say, as
      for a "local" one.
    - `tlvs`: what else it says (version 2), as pairs of a type and a value.
    """

    version: Literal[1, 2]
    command: Literal["proxy", "local"]
    source: str | None = None
    destination: str | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()


def _malformed(why: str) -> SocketError:
    return SocketError(f"the PROXY header is malformed: {why}", code="proxy")


@final
class HeaderReader:
    """Takes in one header; `header` is None until it is complete."""

    __slots__ = ("_taken", "_wanted", "header")

    def __init__(self) -> None:
        self.header: ProxyHeader | None = None
        self._taken = bytearray()
        # How long a header of version 2 is, as far as is known.
        self._wanted = _V2_FIXED

    def receive(self, data: bytes) -> int:
        """How many bytes of `data`, which come next, are the header's; at least 1.

        Raises SocketError (code "proxy") for what no header begins with, and
        ValueError when there is no data or nothing missing.
        """
        if not data or self.header is not None:
            raise ValueError("there is nothing to take in")
        first = self._taken[:1] or data[:1]
        before = len(self._taken)
        if first == _V2_SIGNATURE[:1]:
            self._receive_v2(data)
        else:
            self._receive_v1(data)
        return len(self._taken) - before

    # -- version 1: a line of text

    def _receive_v1(self, data: bytes) -> None:
        taken = self._taken
        before = len(taken)
        taken += data[: _V1_MAX - before]
        # The end may be cut in two.
        end = taken.find(b"\r\n", max(0, before - 1))
        if end >= 0:
            del taken[end + 2 :]
        if not taken.startswith(_V1_PREFIX[: len(taken)]):
            raise _malformed(_NO_HEADER)
        if end >= 0:
            self.header = _parse_v1(bytes(taken[:end]))
        elif len(taken) == _V1_MAX:
            raise _malformed(f"a line of more than {_V1_MAX} bytes")

    # -- version 2: a block of bytes

    def _receive_v2(self, data: bytes) -> None:
        taken = self._taken
        while data and len(taken) < self._wanted:
            missing = self._wanted - len(taken)
            taken += data[:missing]
            data = data[missing:]
            if not taken.startswith(_V2_SIGNATURE[: len(taken)]):
                raise _malformed(_NO_HEADER)
            if len(taken) == _V2_FIXED:
                _check_v2(taken)
                self._wanted += int.from_bytes(taken[14:16])
        if len(taken) == self._wanted:
            self.header = _parse_v2(bytes(taken))


def _parse_v1(line: bytes) -> ProxyHeader:
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise _malformed("it is not ASCII") from error
    if words[1] == "UNKNOWN":
        return ProxyHeader(1, "proxy")
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise _malformed(f"the line {line!r}")
    try:
        read = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
        if "%" in words[2] + words[3]:
            raise ValueError("an address has a zone")
        source, destination = read(words[2]).packed, read(words[3]).packed
        ports = [_port(word) for word in words[4:]]
    except ValueError as error:
        raise _malformed(f"the line {line!r}") from error
    return ProxyHeader(1, "proxy", _end(source, ports[0]), _end(destination, ports[1]))


def _port(word: str) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise ValueError("a port is 0 to 65535")
    return int(word)


def _end(packed: bytes, port: int) -> str:
    if len(packed) == 4:
        return format_address((socket.inet_ntop(socket.AF_INET, packed), port))
    return format_address((socket.inet_ntop(socket.AF_INET6, packed), port, 0, 0))


def _check_v2(fixed: bytes | bytearray) -> None:
    """Refuse what this version of the protocol does not have."""
    if fixed[12] >> 4 != 2:
        raise _malformed(f"it is of version {fixed[12] >> 4}")
    if fixed[12] & 15 not in (0, 1):
        raise _malformed(f"its command is {fixed[12] & 15}")
    if fixed[12] & 15 == 0:
        return  # A local one has whatever family.
    family, transport = divmod(fixed[13], 16)
    if family not in _BLOCKS or transport not in _TRANSPORTS:
        raise _malformed(f"its address family is {fixed[13]:#04x}")
    if int.from_bytes(fixed[14:16]) < _BLOCKS[family]:
        raise _malformed("it has no room for its addresses")


def _parse_v2(data: bytes) -> ProxyHeader:
    if data[12] & 15 == 0:
        return ProxyHeader(2, "local")
    family, transport = divmod(data[13], 16)
    start = _V2_FIXED + _BLOCKS[family]
    block = data[_V2_FIXED:start]
    tlvs = _tlvs(data[start:])
    if family == 0 or transport != _STREAM:
        # Whatever it is, it is no stream from anywhere.
        return ProxyHeader(2, "proxy", tlvs=tlvs)
    if family == 3:
        return ProxyHeader(2, "proxy", _path(block[:108]), _path(block[108:]), tlvs)
    size = 4 if family == 1 else 16
    ports = struct.unpack("!HH", block[2 * size :])
    source = _end(block[:size], ports[0])
    destination = _end(block[size : 2 * size], ports[1])
    return ProxyHeader(2, "proxy", source, destination, tlvs)


def _path(name: bytes) -> str:
    # Abstract names begin with a NUL (unix(7)).
    end = name.find(b"\0", 1)
    return format_address(name if end < 0 else name[:end].removesuffix(b"\0"))


def _tlvs(data: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    while data:
        if len(data) < 3:
            raise _malformed("it ends within a TLV")
        size = int.from_bytes(data[1:3])
        if len(data) < 3 + size:
            raise _malformed(
                f"a TLV of type {data[0]:#04x} has {size} bytes, and there are "
                f"{len(data) - 3}"
            )
        found.append((data[0], data[3 : 3 + size]))
        data = data[3 + size :]
    return tuple(found)
