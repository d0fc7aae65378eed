"""Packets and the bytes that carry them; nothing here reads or writes.

A packet framing has two sides. On the side of the connection packets lie one
behind the other in a stream, and `Cutter` finds where each ends. On the side of
a packet device every read is one packet, and `Datagrams` checks it and makes of
it what goes into the stream. A frame is a packet as it lies in the stream:

- "ip": the packet itself, which tells its length: IPv6 (RFC 8200, section 3) 40
  bytes and the number at offset 4, IPv4 (RFC 791, section 3.1) the number at
  offset 2.
- "length16": two bytes with the length, big-endian, and the packet.

What is no packet is a SocketError (code "state") that names what was found and
where the packet begins, counted in bytes of the stream.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

from ..errors import SocketError
from .work import Framing

__all__ = ["LENGTH", "Buffer", "Cutter", "Datagrams", "longest"]

Buffer: TypeAlias = "bytes | memoryview"

# Bytes of the length before each packet of "length16".
LENGTH: Final = 2

_IPV4_HEADER: Final = 20
_IPV6_HEADER: Final = 40


def longest(framing: Framing, mtu: int) -> int:
    """The length of the longest packet that can be carried, in bytes."""
    return min(mtu, 0xFFFF) if framing is Framing.LENGTH16 else mtu


@final
class Cutter:
    """Cuts a stream into frames, however its bytes come."""

    __slots__ = ("_framing", "_header", "_longest", "_offset", "_rest", "error")

    def __init__(self, framing: Framing, mtu: int, *, header: int = 0) -> None:
        """`header` bytes stand before each packet; frames begin with them."""
        self._framing = framing
        self._longest = longest(framing, mtu)
        self._header = header
        self._rest: bytes = b""
        self._offset = 0
        # What is wrong with the bytes behind the last frame.
        self.error: SocketError | None = None

    @property
    def rest(self) -> bytes:
        """What came and is no whole frame yet, or never will be one."""
        return self._rest

    def feed(self, data: Buffer) -> list[Buffer]:
        """The frames that `data` completes; after it, look at `error`.

        They may be views of `data`, so use or copy them before that changes.
        """
        if self._rest:
            data = b"".join((self._rest, data))
        frames: list[Buffer] = []
        view = memoryview(data)
        begin, available = 0, len(view)
        while self.error is None and begin < available:
            length = self._measure(view, begin, self._offset + begin)
            if length is None or begin + length > available:
                break
            frames.append(view[begin : begin + length])
            begin += length
        self._offset += begin
        self._rest = bytes(view[begin:])
        return frames

    def end(self) -> None:
        """No more will come: an `error` if that is in the middle of a packet."""
        if self._rest and self.error is None:
            self.error = cut_off(len(self._rest), self._offset)

    def _measure(self, view: memoryview, begin: int, offset: int) -> int | None:
        """The length of the frame at `begin`; None if it cannot be known yet."""
        start = begin + self._header
        available = len(view) - start
        if self._framing is Framing.LENGTH16:
            if available < LENGTH:
                return None
            length = int.from_bytes(view[start : start + 2])
            extra = LENGTH
        else:
            if available < 1:
                return None
            version = view[start] >> 4
            if version not in (4, 6):
                self.error = no_version(view[start], offset)
                return None
            if available < (6 if version == 6 else 4):
                return None
            if version == 6:
                length = _IPV6_HEADER + int.from_bytes(view[start + 4 : start + 6])
            else:
                length = int.from_bytes(view[start + 2 : start + 4])
                if length < _IPV4_HEADER:
                    self.error = too_short(length, offset)
                    return None
            extra = 0
        if length > self._longest:
            self.error = too_long(str(length), self._longest, offset)
            return None
        return self._header + extra + length


@final
class Datagrams:
    """Checks packets as a device gives them, and makes frames of them."""

    __slots__ = ("_framing", "_longest", "_offset", "_prefix")

    def __init__(self, framing: Framing, mtu: int, prefix: int) -> None:
        """`prefix` bytes stand before each packet, and are stripped."""
        self._framing = framing
        self._longest = longest(framing, mtu)
        self._prefix = prefix
        self._offset = 0

    @property
    def limit(self) -> int:
        """How long a read has to be so that a packet too long is noticed."""
        return self._prefix + self._longest + 1

    def frame(self, data: Buffer) -> Buffer | None:
        """The frame of one read, perhaps a view of it; None if it is no packet.

        Raises the SocketError of a packet that must not be carried.
        """
        length = len(data) - self._prefix
        if length < 0 or (length == 0 and self._framing is Framing.IP):
            return None
        if length > self._longest:
            # It may have been longer than the read.
            raise too_long(f"{length} or more", self._longest, self._offset)
        packet = data[self._prefix :]
        if self._framing is Framing.LENGTH16:
            packet = length.to_bytes(LENGTH) + packet
        elif packet[0] >> 4 not in (4, 6):
            raise no_version(packet[0], self._offset)
        self._offset += len(packet)
        return packet


def no_version(byte: int, offset: int) -> SocketError:
    """For a packet whose first `byte` has another version than IP's."""
    return SocketError(
        f"the packet at byte {offset} of the stream begins with {byte:#04x}: IP "
        f"version {byte >> 4}, which is neither 4 nor 6",
        code="state",
    )


def too_long(length: str, limit: int, offset: int) -> SocketError:
    """For a packet over the mtu."""
    return SocketError(
        f"the packet at byte {offset} of the stream is {length} bytes long, more "
        f"than the mtu of {limit}",
        code="state",
    )


def too_short(length: int, offset: int) -> SocketError:
    """For a packet that is shorter than its header, as it says itself."""
    return SocketError(
        f"the packet at byte {offset} of the stream says it is IPv4 and {length} "
        f"bytes long, and its header alone has {_IPV4_HEADER}",
        code="state",
    )


def cut_off(length: int, offset: int) -> SocketError:
    """For bytes that end in the middle of a packet."""
    return SocketError(
        f"the bytes end {length} bytes into the packet at byte {offset} of the stream",
        code="state",
    )
