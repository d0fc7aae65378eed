"""TLS records made by hand, for what no TLS library can be told to send.

A `Forger` is a server. Python's ssl does its handshake, in memory, and goes on
decrypting what the client sends. What the server sends after its handshake is
encrypted here, with the keys that the key log gives away, so that a record can
hold anything: too much, nothing, a message out of place. Cipher suites with
AES-256-GCM and SHA-384 only; those are what both sides like best.

TLS 1.3: RFC 8446, sections 5 and 7. TLS 1.2: RFC 5246, sections 5 and 6.3, and
RFC 5288.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import struct
import tempfile
from typing import Final, Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests import certificates

__all__ = [
    "ALERT",
    "CHANGE_CIPHER_SPEC",
    "DATA",
    "HANDSHAKE",
    "HELLO_REQUEST",
    "Engine",
    "Forger",
    "records_of",
]

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
DATA: Final = 23

HELLO_REQUEST: Final = b"\0\0\0\0"

Version = Literal["1.2", "1.3"]

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Engine:
    """A TLS server in memory, with a say in each byte that goes out."""

    def __init__(
        self, sock: socket.socket, *, version: Version = "1.3", tickets: int = 0
    ) -> None:
        files = certificates.server().files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        context.minimum_version = context.maximum_version = _VERSIONS[version]
        context.num_tickets = tickets
        context.options |= ssl.OP_NO_TICKET
        self.socket = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.sent = bytearray()
        with tempfile.NamedTemporaryFile() as keylog:
            context.keylog_filename = keylog.name
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
            self.shake_hands()
            # "SERVER_TRAFFIC_SECRET_0", the client's random, the secret.
            lines = [line.split() for line in keylog.read().decode().splitlines()]
            self.secrets = {
                words[0]: (bytes.fromhex(words[1]), bytes.fromhex(words[2]))
                for words in lines
                if words[0] != "#"
            }

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.emit(self.outgoing.read())
                self.feed()
            else:
                self.emit(self.outgoing.read())
                return

    def emit(self, data: bytes) -> None:
        """Send what the engine has to say."""
        self.sent += data
        self.socket.sendall(data)

    def feed(self) -> None:
        """Take in what the client says."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionAbortedError("the client has hung up")
        self.incoming.write(data)

    def read(self) -> bytes:
        """What the client sends next; b"" after its close_notify."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                # It may have answered by itself, with updated keys.
                self.outgoing.read()
                self.feed()
            except ssl.SSLZeroReturnError:
                return b""

    def write(self, data: bytes) -> bytes:
        """The records of `data`, encrypted by the engine and not sent."""
        self.tls.write(data)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        """The record of a close_notify, encrypted by the engine and not sent."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()


class Forger(Engine):
    """An engine whose records are made by hand once the handshake is over."""

    def __init__(self, sock: socket.socket, *, version: Version = "1.3") -> None:
        super().__init__(sock, version=version)
        cipher = self.tls.cipher()
        assert cipher is not None
        assert "AES" in cipher[0]
        assert cipher[0].endswith("SHA384")
        self.version = version
        if version == "1.3":
            self.count = 0
            self.use(self.secrets["SERVER_TRAFFIC_SECRET_0"][1])
        else:
            self.count = 1  # the Finished message was the first
            client, master = self.secrets["CLIENT_RANDOM"]
            server = bytes(self.sent[11:43])  # in the ServerHello
            block = _prf(master, b"key expansion" + server + client, 72)
            self.key, self.salt = AESGCM(block[32:64]), block[68:72]

    def use(self, secret: bytes) -> None:
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
        self.use(_expand_label(self.secret, b"traffic upd", 48))
        self.count = 0
        return message

    def ticket(self) -> bytes:
        """A NewSessionTicket message that resumes nothing."""
        body = struct.pack("!IIB8sH32sH", 7200, 0, 8, bytes(8), 32, bytes(32), 0)
        return self.record(b"\x04" + struct.pack("!I", len(body))[1:] + body, HANDSHAKE)

    def alert(self, level: int, description: int) -> bytes:
        """An alert."""
        return self.record(bytes([level, description]), ALERT)


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
