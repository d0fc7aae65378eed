"""A device at the far end of a CDTunnel, and a strict one.

Real devices take what one record of TLS holds for one packet. So does this one: a
record that holds more or less than one IPv6 packet fails the test. Its TLS is
Python's own where it asks for a certificate; with a pre-shared key, which Python
3.11 does not have, it is ours.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs
from OpenSSL import SSL

from tests import certificates, loops
from tests.bridge.harness import Far
from tests.loopback import settle
from wsockets import TlsOptions
from wsockets.tls import server_connection

__all__ = [
    "ANSWERS",
    "KEY",
    "PSK_CIPHER",
    "SECURITIES",
    "Answer",
    "Device",
    "Security",
    "credentials",
]

Security: TypeAlias = Literal["certificate", "psk"]
SECURITIES: Final = get_args(Security)
# How the answer of the handshake comes: in a record; in a record for each byte; in
# a record with the packets that follow; in a record with a part of them.
Answer: TypeAlias = Literal["whole", "bytewise", "coalesced", "torn"]
ANSWERS: Final = get_args(Answer)

PSK_CIPHER: Final = "PSK-AES256-GCM-SHA384"
KEY: Final = bytes(range(32))
MAGIC: Final = b"CDTunnel"
TORN: Final = 50  # bytes of a packet: the header and some more


def credentials(security: Security) -> dict[str, Any]:
    """The host's TlsOptions."""
    if security == "psk":
        return {"psk": (b"", KEY), "ciphers": PSK_CIPHER, "maxVersion": "1.2"}
    host = certificates.client()
    return {"cert": host.chain, "key": host.key, "maxVersion": "1.2"}


class End(Protocol):
    """TLS as a device sees it: records."""

    async def receive(self) -> bytes:
        """What a record holds; b"" at the end in good order."""

    async def send(self, data: bytes) -> None:
        """A record of up to 16 KiB."""

    async def end(self) -> None:
        """close_notify and FIN."""


@attrs.define(eq=False)
class _PskEnd:
    tls: SSL.Connection
    sock: socket.socket

    async def _do(self, function: Callable[..., Any], *args: object) -> Any:
        while True:
            try:
                return function(*args)
            except SSL.ZeroReturnError:
                return b""
            except SSL.WantReadError:
                await loops.wait_readable(self.sock)
            except SSL.WantWriteError:
                await loops.wait_writable(self.sock)

    async def receive(self) -> bytes:
        data: bytes = await self._do(self.tls.recv, 1 << 16)
        return data

    async def send(self, data: bytes) -> None:
        sent = await self._do(self.tls.send, data)
        assert sent == len(data)

    async def end(self) -> None:
        await self._do(self.tls.shutdown)
        self.sock.shutdown(socket.SHUT_WR)


async def _secured(sock: socket.socket, security: Security) -> End:
    sock.setblocking(False)
    if security == "psk":
        options = TlsOptions(
            psk=lambda identity: KEY if identity == b"" else None,
            ciphers=PSK_CIPHER,
            maxVersion="1.2",
        )
        end = _PskEnd(server_connection(options, [], sock), sock)
        await end._do(end.tls.do_handshake)
        return end
    files = certificates.server("device").files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates.authority().pem)
    far = Far(sock.fileno(), sock.fileno())
    await far.shake(context)
    return far


@attrs.define(eq=False)
class Device:
    """What has accepted a connection; `secure()` comes first, then `greet()`."""

    sock: socket.socket
    mtu: int = 1280
    asked: dict[str, Any] = attrs.field(factory=dict)
    _end: End | None = None

    @property
    def end(self) -> End:
        assert self._end is not None
        return self._end

    async def secure(self, security: Security) -> None:
        """The handshake of TLS."""
        self._end = await _secured(self.sock, security)

    async def receive_question(self) -> None:
        """The host's half of the tunnel's handshake."""
        head = await self._exactly(b"", 10)
        magic, length = struct.unpack("!8sH", head[:10])
        assert magic == MAGIC
        question = await self._exactly(head[10:], length)
        # Nothing may come behind it: the host has no address yet.
        assert len(question) == length
        self.asked = json.loads(question)

    async def _exactly(self, data: bytes, count: int) -> bytes:
        while len(data) < count:
            record = await self.end.receive()
            assert record, "the host hung up"
            data += record
        return data

    def answer(self) -> bytes:
        """The device's half, as bytes."""
        answer = {
            "clientParameters": {
                "address": "fd00:cd::2",
                "mtu": self.mtu,
                "netmask": "ffff:ffff:ffff:ffff::",
            },
            "serverAddress": "fd00:cd::1",
            "serverRSDPort": 58783,
            "type": "serverHandshakeResponse",
        }
        text = json.dumps(answer).encode()
        return MAGIC + struct.pack("!H", len(text)) + text

    async def send_answer(self, how: Answer, packets: Sequence[bytes] = ()) -> None:
        """The device's half, and the first packets."""
        answer, rest = self.answer(), b"".join(packets)
        if how == "whole":
            await self.end.send(answer)
        elif how == "bytewise":
            for byte in answer:
                await self.end.send(bytes([byte]))
                # Until the host has taken it and waits for the next.
                await settle()
        elif how == "coalesced":
            answer, rest = answer + rest, b""
            await self.end.send(answer)
        else:
            await self.end.send(answer + rest[:TORN])
            rest = rest[TORN:]
        if rest:
            await self.end.send(rest)

    async def greet(
        self, security: Security, how: Answer = "whole", packets: Sequence[bytes] = ()
    ) -> None:
        """All that comes before the packets."""
        await self.secure(security)
        await self.receive_question()
        await self.send_answer(how, packets)

    async def receive(self) -> bytes:
        """The next packet, which is alone in its record; b"" at the end."""
        record = await self.end.receive()
        if not record:
            return b""
        assert len(record) >= 40, f"a record of {len(record)} bytes is no packet"
        assert record[0] >> 4 == 6, f"a record begins with {record[:1].hex()}"
        length = 40 + int.from_bytes(record[4:6])
        assert len(record) == length, (
            f"a record of {len(record)} bytes, and a packet in it of {length}"
        )
        assert length <= self.mtu
        return record

    async def answer_pings(self) -> int:
        """Answer ICMPv6 echo requests until the host ends it; how many they were."""
        count = 0
        while packet := await self.receive():
            # RFC 8200, section 3, and RFC 4443, section 4.1.
            if packet[6] == 58 and packet[40] == 128:
                count += 1
                # The type is 129, not 128, in the sum of ones complement.
                checksum = (int.from_bytes(packet[42:44]) ^ 0xFFFF) + 0x0100
                checksum = (checksum & 0xFFFF) + (checksum >> 16) ^ 0xFFFF
                await self.end.send(
                    packet[:8]
                    + packet[24:40]
                    + packet[8:24]
                    + b"\x81\0"
                    + struct.pack("!H", checksum)
                    + packet[44:]
                )
        return count
