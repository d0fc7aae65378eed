"""TLS records made by hand, for what no TLS library can be told to send.

Python's ssl does the handshake of a `Forger`, in memory, and goes on decrypting
what the client sends. What the server sends after its handshake is encrypted
here, with the keys that the key log gives away, so that a record can hold
anything: too much, nothing, a message out of place. It speaks the cipher suites
with AES-256-GCM and SHA-384 only, which both sides like best.

TLS 1.3: RFC 8446, sections 5 and 7. TLS 1.2: RFC 5246, sections 5 and 6.3, and
RFC 5288.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import struct
import tempfile
import time
from typing import Final, Literal

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests import certificates

from .peers import end

__all__ = [
    "ALERT",
    "CHANGE_CIPHER_SPEC",
    "DATA",
    "HANDSHAKE",
    "HELLO_REQUEST",
    "Forger",
    "Version",
    "in_the_clear",
    "message",
    "records_of",
]

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
DATA: Final = 23

HELLO_REQUEST: Final = b"\0\0\0\0"

Version = Literal["1.2", "1.3"]

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Forger:
    """The server's end of a TLS connection, its handshake done."""

    def __init__(self, sock: socket.socket, *, version: Version = "1.3") -> None:
        files = certificates.server().files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        context.minimum_version = context.maximum_version = _VERSIONS[version]
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        self.socket = sock
        self.version = version
        # How much it receives at a time, in bytes, and how long after the last
        # time, in seconds.
        self.appetite = 65536
        self.pause = 0.0
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # All that it said in the handshake.
        self.said = bytearray()
        with tempfile.NamedTemporaryFile() as keylog:
            context.keylog_filename = keylog.name
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
            self._shake_hands()
            self._take_keys(keylog.read().decode())

    def _shake_hands(self) -> None:
        done = False
        while not done:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            if data := self.outgoing.read():
                self.said += data
                self.socket.sendall(data)
            if not done:
                self._feed()

    def _take_keys(self, keylog: str) -> None:
        cipher = self.tls.cipher()
        assert cipher is not None
        assert "AES" in cipher[0]
        assert cipher[0].endswith("SHA384")
        # Each line has a label, the client's random, and the secret.
        words = [line.split() for line in keylog.splitlines() if line[0] != "#"]
        secrets = {label: bytes.fromhex(secret) for label, _, secret in words}
        if self.version == "1.3":
            self.count = 0
            self._use(secrets["SERVER_TRAFFIC_SECRET_0"])
        else:
            self.count = 1  # the Finished message was the first
            client = bytes.fromhex(words[0][1])
            server = bytes(self.said[11:43])  # in the ServerHello
            seed = b"key expansion" + server + client
            block = _prf(secrets["CLIENT_RANDOM"], seed, 72)
            self.key, self.salt = AESGCM(block[32:64]), block[68:72]

    # -- receiving

    def _feed(self) -> None:
        if self.pause:
            time.sleep(self.pause)
        data = self.socket.recv(self.appetite)
        if not data:
            raise ConnectionAbortedError("the client has hung up")
        self.incoming.write(data)

    def read(self) -> bytes:
        """What the client sends next; b"" after its close_notify.

        ConnectionAbortedError at the end of the connection without that.
        """
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._feed()
            except ssl.SSLZeroReturnError:
                return b""

    def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes that the client sends."""
        data = bytearray()
        while len(data) < count:
            data += self.read() or pytest.fail("the client has ended")
        assert len(data) == count
        return bytes(data)

    # -- sending

    def send(self, data: bytes) -> None:
        """Send data as everybody does."""
        for start in range(0, len(data), 16384):
            self.socket.sendall(self.record(data[start : start + 16384]))

    def end(self) -> None:
        """Send close_notify and FIN."""
        self.socket.sendall(self.alert(1, 0))
        end(self.socket)

    # -- forging

    def _use(self, secret: bytes) -> None:
        self.secret = secret
        self.key = AESGCM(_expand_label(secret, b"key", 32))
        self.salt = _expand_label(secret, b"iv", 12)

    def record(self, content: bytes, kind: int = DATA, *, padding: int = 0) -> bytes:
        """One encrypted record; a TLS 1.3 one may be padded."""
        number, self.count = self.count, self.count + 1
        if self.version == "1.2":
            explicit = struct.pack("!Q", number)
            header = struct.pack("!QBHH", number, kind, 0x0303, len(content))
            sealed = explicit + self.key.encrypt(self.salt + explicit, content, header)
            return struct.pack("!BHH", kind, 0x0303, len(sealed)) + sealed
        inner = content + bytes([kind]) + bytes(padding)
        header = struct.pack("!BHH", DATA, 0x0303, len(inner) + 16)
        nonce = int.from_bytes(self.salt) ^ number
        return header + self.key.encrypt(nonce.to_bytes(12), inner, header)

    def key_update(self, *, requested: bool) -> bytes:
        """A KeyUpdate message; what follows is encrypted with the next keys."""
        message = self.record(b"\x18\0\0\x01" + bytes([requested]), HANDSHAKE)
        self._use(_expand_label(self.secret, b"traffic upd", 48))
        self.count = 0
        return message

    def ticket(self) -> bytes:
        """A NewSessionTicket message that resumes nothing."""
        return self.record(self.ticket_message(), HANDSHAKE)

    def ticket_message(self) -> bytes:
        """The same, not yet in a record."""
        body = struct.pack("!IIB8sH32sH", 7200, 0, 8, bytes(8), 32, bytes(32), 0)
        return b"\x04" + struct.pack("!I", len(body))[1:] + body

    def alert(self, level: int, description: int) -> bytes:
        """An alert."""
        return self.record(bytes([level, description]), ALERT)


def in_the_clear(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    """A record in the clear."""
    return struct.pack("!BHH", kind, version, len(body)) + body


def message(kind: int, body: bytes) -> bytes:
    """A handshake message in a record of its own."""
    return in_the_clear(
        HANDSHAKE, bytes([kind]) + struct.pack("!I", len(body))[1:] + body
    )


def records_of(data: bytes) -> list[bytes]:
    """The records that `data` consists of."""
    found = []
    while data:
        end = 5 + int.from_bytes(data[3:5])
        assert len(data) >= end, "the last record is not complete"
        found.append(data[:end])
        data = data[end:]
    return found


def _expand_label(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without a context (RFC 8446, section 7.1)."""
    name = b"tls13 " + label
    info = struct.pack("!HB", length, len(name)) + name + b"\0"
    return hmac.digest(secret, info + b"\x01", "sha384")[:length]


def _prf(secret: bytes, seed: bytes, length: int) -> bytes:
    """TLS 1.2's pseudorandom function (RFC 5246, section 5)."""
    found, a = b"", seed
    while len(found) < length:
        a = hmac.digest(secret, a, "sha384")
        found += hmac.digest(secret, a + seed, "sha384")
    return found[:length]
