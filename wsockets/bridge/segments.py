"""Packets that a TUN device gives many at a time, and how to tell such a device.

A TUN that was opened with IFF_VNET_HDR puts a virtio header before each packet
(virtio 1.2, section 5.1.6), and wants one. Where its owner has turned offloads on as
well (TUNSETOFFLOAD), what the kernel's TCP and UDP send in one go comes in one read:
a packet of up to 64 KiB that is to be cut as a network card would, and checksums that
are left for others to complete. That saves the system calls, most of what reading
packets costs. `native/segments.c` is the same in C, and joins packets that are written.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import stat
import struct
import sys
from typing import Final

__all__ = ["LONGEST", "cut", "device_header"]

# Bytes of a packet that is many, at most.
LONGEST: Final = 65535
# Bytes of the header that are looked at; it may be longer.
_HEADER: Final = struct.Struct("=BBHHHH")

_NEEDS_CHECKSUM: Final = 1
_LONG_TCP: Final = {1: 4, 4: 6}
_LONG_UDP: Final = 5
_LONG_ECN: Final = 0x80
_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80
# Where the checksums are.
_TCP_SUM, _UDP_SUM, _IP4_SUM = 16, 6, 10

# /dev/net/tun, and what can be asked of it (linux/if_tun.h).
_TUN: Final = os.makedev(10, 200)
_TUNGETIFF: Final = 0x800454D2
_TUNGETVNETHDRSZ: Final = 0x800454D7
# Whether the headers are in the order that is not the machine's: TUNGETVNETBE or LE.
_TUNGETVNETOTHER: Final = 0x800454DF if sys.byteorder == "little" else 0x800454DD
# No device, a kernel that does not know of it, one that may not be asked.
_NO_ANSWER: Final = frozenset(
    (
        *(errno.EBADFD, errno.ENOTTY, errno.EINVAL),
        *(errno.EPERM, errno.EACCES, errno.ENOSYS),
    )
)
# IFF_TUN and IFF_VNET_HDR.
_HEADED: Final = 0x4001


def device_header(fd: int) -> int:
    """The length of the virtio headers of a TUN device, in bytes; 0: it has none.

    Also where they are in a byte order that is not the machine's. Whether there is
    packet information before them cannot be asked (without IFF_NO_PI, whose bit says
    IFF_NOFILTER in the answer); what such a device gives is then no packet.
    """
    about = os.fstat(fd)
    if not stat.S_ISCHR(about.st_mode) or about.st_rdev != _TUN:
        return 0
    request = bytearray(40)
    try:
        fcntl.ioctl(fd, _TUNGETIFF, request)
        (flags,) = struct.unpack_from("=H", request, 16)
        if flags & _HEADED != _HEADED or _asked(fd, _TUNGETVNETOTHER):
            return 0
        return _asked(fd, _TUNGETVNETHDRSZ)
    except OSError as error:
        if error.errno in _NO_ANSWER:
            return 0
        raise


def _asked(fd: int, request: int) -> int:
    answer = bytearray(4)
    try:
        fcntl.ioctl(fd, request, answer)
    except OSError as error:
        if request == _TUNGETVNETOTHER and error.errno == errno.EINVAL:
            return 0  # a kernel without the other byte order
        raise
    return int.from_bytes(answer, sys.byteorder)


def cut(data: bytes | memoryview, header: int) -> list[bytes]:
    """The packets that one read gave behind `header` bytes, their checksums complete.

    What no kernel gives is one packet of no bytes.
    """
    packet = bytes(data[header:])
    return _cut(data, packet) or [b""] if packet else [b""]


def _cut(header: bytes | memoryview, packet: bytes) -> list[bytes] | None:
    flags, kind, _, piece, start, offset = _HEADER.unpack_from(header)
    kind &= ~_LONG_ECN
    needs = flags & _NEEDS_CHECKSUM
    if kind == 0:
        return _completed(packet, start, offset) if needs else [packet]
    version = packet[0] >> 4
    tcp = kind in _LONG_TCP
    if not tcp and kind != _LONG_UDP:
        return None
    shortest = {4: 20, 6: 40}.get(version, LONGEST)
    if not needs:
        start = (packet[0] & 15) * 4 if version == 4 else 40
    if (
        _LONG_TCP.get(kind, version) != version
        or start < shortest
        or start + (20 if tcp else 8) > len(packet)
        or not (needs or packet[9 if version == 4 else 6] == (_TCP if tcp else _UDP))
    ):
        return None
    own = (packet[start + 12] >> 4) * 4 if tcp else 8
    if (
        own < (20 if tcp else 8)
        or start + own >= len(packet)
        or not piece
        or (version == 4 and (packet[0] & 15) * 4 != start)
    ):
        return None
    begin = _begin(packet, start, tcp=tcp, needs=bool(needs))
    return _segments(packet, start, start + own, piece, begin, tcp=tcp)


def _completed(packet: bytes, start: int, offset: int) -> list[bytes] | None:
    if offset % 2 or start + offset + 2 > len(packet):
        return None
    # The field has the sum of the pseudo-header already.
    found = bytearray(packet)
    _put_sum(found, start + offset, packet[start:], udp=offset == _UDP_SUM)
    return [bytes(found)]


def _begin(packet: bytes, start: int, *, tcp: bool, needs: bool) -> bytes:
    """What is summed up before a segment, but for its length: see segments.c."""
    if needs:
        at = start + (_TCP_SUM if tcp else _UDP_SUM)
        length = len(packet) - start
        return packet[at : at + 2] + (~length & 0xFFFF).to_bytes(2)
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return addresses + (_TCP if tcp else _UDP).to_bytes(2)


def _segments(
    packet: bytes, start: int, headers: int, piece: int, begin: bytes, *, tcp: bool
) -> list[bytes]:
    found = []
    payload = packet[headers:]
    for index, taken in enumerate(range(0, len(payload), piece)):
        one = bytearray(packet[:headers])
        one += payload[taken : taken + piece]
        if one[0] >> 4 == 4:
            (number,) = struct.unpack_from("!H", one, 4)
            struct.pack_into("!HH", one, 2, len(one), (number + index) & 0xFFFF)
            struct.pack_into("!H", one, _IP4_SUM, 0)
            _put_sum(one, _IP4_SUM, one[:start])
        else:
            struct.pack_into("!H", one, 4, len(one) - 40)
        if tcp:
            (sequence,) = struct.unpack_from("!I", one, start + 4)
            struct.pack_into("!I", one, start + 4, (sequence + taken) & 0xFFFFFFFF)
            if taken + piece < len(payload):
                one[start + 13] &= ~_FIN_PSH & 0xFF
            if index:
                one[start + 13] &= ~_CWR & 0xFF
        else:
            struct.pack_into("!H", one, start + 4, len(one) - start)
        at = start + (_TCP_SUM if tcp else _UDP_SUM)
        struct.pack_into("!H", one, at, 0)
        length = (len(one) - start).to_bytes(2)
        _put_sum(one, at, begin + length + one[start:], udp=not tcp)
        found.append(bytes(one))
    return found


def _put_sum(
    into: bytearray, at: int, data: bytes | bytearray, *, udp: bool = False
) -> None:
    """Put the checksum of `data` (RFC 1071) at `at`.

    UDP has no checksum 0, which means none (RFC 768).
    """
    words = array.array("H", bytes(data) + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    value = ~total & 0xFFFF
    if udp and not value:
        value = 0xFFFF
    into[at : at + 2] = value.to_bytes(2, sys.byteorder)
