"""The traffic of a tunnel: IPv6 packets between a TLS connection and a TUN device.

The harness is the TLS client and, through the kernel of its namespace, the host
behind the device. To the tunnel go whole packets, one a record, encrypted before the
clock runs; out of it they are counted by the device. From the device come datagrams
that one system call cuts into many (UDP_SEGMENT, udp(7)), as many under way as its
queue holds; on the connection the ciphertext is counted, since it is a record a
packet. Round trips are ICMPv6 echoes, which the kernel answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import itertools
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

import attrs

from bench.ends import EndError, TlsEnd
from bench.namespace import HERE, THERE, Device

PORT = 9000
UDP, ICMP6 = 17, 58
HEADERS = 48
ECHO_REQUEST, ECHO_REPLY = 128, 129
UDP_SEGMENT = 103
# Packets that wait in the device at most, and those that one system call sends.
WINDOW = 1024
BURST = 32
# A TLS 1.2 record of AES-GCM: header, explicit nonce, tag (RFC 5288, 3).
RECORD = 5 + 8 + 16
PATIENCE = 10.0
# Echoes that are late for one series are none of the next.
SERIES = itertools.count(1)

SOURCE = ipaddress.IPv6Address(THERE).packed
TARGET = ipaddress.IPv6Address(HERE).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv6(protocol: int, body: bytes) -> bytes:
    """A packet from beyond the tunnel to the device's own address (RFC 8200, 3)."""
    header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
    return header + SOURCE + TARGET + body


def summed(protocol: int, body: bytes, at: int) -> bytes:
    """`body` with its checksum, pseudo-header included, in the two bytes `at`."""
    pseudo = SOURCE + TARGET + struct.pack("!II", len(body), protocol)
    value = struct.pack("!H", checksum(pseudo + body) or 0xFFFF)
    return body[:at] + value + body[at + 2 :]


def datagram(payload: bytes) -> bytes:
    """A packet with a UDP datagram to `PORT`."""
    head = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0)
    return ipv6(UDP, summed(UDP, head + payload, 6))


def echo_request(series: int, number: int, size: int) -> bytes:
    """A packet of `size` bytes that asks for an echo (RFC 4443, 4.1)."""
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, series, number)
    return ipv6(ICMP6, summed(ICMP6, head.ljust(size - 40, b"\0"), 2))


def echo_number(packet: memoryview, series: int) -> int | None:
    """Which request of `series` the packet answers; None where it answers none."""
    if packet[6] != ICMP6 or packet[40] != ECHO_REPLY:
        return None
    found, number = struct.unpack_from("!HH", packet, 44)
    return number if found == series else None


@contextlib.contextmanager
def host() -> Iterator[socket.socket]:
    """The UDP socket of the host behind the device, connected through it."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        sock.bind((HERE, PORT))
        sock.connect((THERE, PORT))
        sock.settimeout(PATIENCE)
        yield sock


def payloads(payload: bytes, size: int, count: int) -> list[bytes]:
    """What `count` packets of `size` bytes carry, cut from the payload."""
    room = size - HEADERS
    span = len(payload) - room
    return [payload[at : at + room] for at in (i * 997 % span for i in range(count))]


def verify(end: TlsEnd, sock: socket.socket, payload: bytes, size: int) -> int:
    """Send packets through the tunnel in both directions; the bytes compared.

    Raises EndError where the sha256 of what arrives is another, or a record has not
    just one packet.
    """
    sent = payloads(payload, size, 64)
    due = hashlib.sha256(b"".join(sent)).digest()
    digest = hashlib.sha256()
    packets = [datagram(each) for each in sent]
    end.socket.sendall(end.sealed(map(memoryview, packets)))
    for _ in sent:
        digest.update(sock.recv(1 << 16))
    if digest.digest() != due:
        raise EndError("the device was given other packets than were sent")
    digest = hashlib.sha256()
    for each in sent:
        sock.send(each)
    left = len(sent)
    while left > 0:
        for record in end.receive():
            digest.update(record[HEADERS:])
            left -= 1
    if size + RECORD <= 1 << 14 and digest.digest() != due:
        raise EndError("the connection was given other records than packets were sent")
    return 2 * sum(map(len, sent))


class Traffic:
    """Full speed, in one direction or both, until so many packets have arrived."""

    def __init__(
        self, end: TlsEnd, sock: socket.socket, device: Device, size: int
    ) -> None:
        self._end = end
        self._socket = sock
        self._device = device
        self._size = size
        self._room = size - HEADERS
        self._over = threading.Event()
        self._taken = 0
        self._due = 0
        self._failures: list[BaseException] = []
        self._wires: list[bytes] = []

    def prepare(self, payload: bytes, count: int) -> None:
        """Encrypt the `count` packets that are to go to the device."""
        packets = [datagram(each) for each in payloads(payload, self._size, 64)]
        views = [memoryview(each) for each in packets]
        for at in range(0, count, 64):
            self._wires.append(self._end.sealed(iter(views[: min(64, count - at)])))

    def _to_device(self) -> None:
        for wire in self._wires:
            if self._over.is_set():
                return
            self._end.socket.sendall(wire)

    def _from_device(self) -> None:
        room, sent = self._room, 0
        burst = max(1, min(BURST, 60_000 // room))
        segment = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("H", room))]
        data = [bytes(room * burst)]
        while sent < self._due and not self._over.is_set():
            if sent - self._taken > WINDOW:
                time.sleep(0.0002)
                continue
            self._socket.sendmsg(data, segment)
            sent += burst

    def _from_connection(self) -> None:
        buffer, total = bytearray(1 << 20), 0
        while not self._over.is_set():
            ready, _, _ = select.select([self._end.socket], [], [], 0.05)
            if ready:
                total += self._end.socket.recv_into(buffer)
                self._taken = total // (self._size + RECORD)

    def run(self, count: int, *, duplex: bool) -> int:
        """Move `count` packets, half of them each way if `duplex`.

        Returns how many moved: fewer where they stop moving.
        """
        jobs = [self._to_device]
        if duplex:
            jobs += [self._from_device, self._from_connection]
        each_way = count // len(jobs[:2])
        self._due = each_way

        def guarded(job: Callable[[], None]) -> None:
            try:
                job()
            except (OSError, ssl.SSLError) as error:
                self._failures.append(error)

        threads = [
            threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs
        ]
        start = self._device.received(self._size, HEADERS)
        for each in threads:
            each.start()
        last, since = 0, time.monotonic()
        while True:
            time.sleep(0.001)
            total = min(self._device.received(self._size, HEADERS) - start, each_way)
            total += min(self._taken, each_way)
            if total > last:
                last, since = total, time.monotonic()
            over = time.monotonic() - since > PATIENCE or bool(self._failures)
            if total >= each_way * len(jobs[:2]) or over:
                return total

    def finish(self) -> None:
        """Stop; the connection is of no use afterwards."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._end.socket.shutdown(socket.SHUT_RDWR)
        if self._failures:
            raise EndError(f"in the tunnel: {self._failures[0]!r}")


@attrs.frozen
class Rates:
    """Packets a second each way, and echoes a second."""

    background: int
    probes: int = 1000


def round_trips(
    end: TlsEnd, sock: socket.socket, size: int, rates: Rates, seconds: float
) -> list[float]:
    """Seconds that echoes through the tunnel took, while other packets pass too.

    Background packets go in handfuls, two a millisecond, half of them each way; the
    echo request goes between two handfuls. One that stays away counts as `seconds`.
    """
    handful = rates.background // 4000
    filler = datagram(bytes(size - HEADERS))
    burst = [memoryview(filler)] * handful
    segment = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("H", size - HEADERS))]
    outward = [bytes((size - HEADERS) * handful)]
    total = int(rates.probes * seconds)
    series = next(SERIES)
    requests = [memoryview(echo_request(series, each, size)) for each in range(total)]
    sent = [0.0] * total
    taken = [seconds] * total
    missing = total
    clock = time.perf_counter
    start = clock() + 0.01
    turn = 0

    def emit() -> None:
        nonlocal turn
        step, turn = turn, turn + 1
        if step % 2 == 0 and step // 2 < total:
            # Two handfuls a millisecond, with the echo a quarter after the first.
            number = step // 2
            sent[number] = clock()
            end.socket.sendall(end.sealed(iter((requests[number],))))
        if handful:
            end.socket.sendall(end.sealed(iter(burst)))
            sock.sendmsg(outward, segment)

    period = 0.5 / rates.probes
    finish = start + total / rates.probes + min(seconds, 2.0)
    while missing and clock() < finish:
        due = start + turn * period if turn < 2 * total else finish
        ready, _, _ = select.select([end.socket], [], [], max(0.0, due - clock()))
        if ready:
            for record in end.receive():
                number = echo_number(record, series)
                if number is not None:
                    taken[number] = clock() - sent[number]
                    missing -= 1
        while turn < 2 * total and clock() >= start + turn * period:
            emit()
    return taken
