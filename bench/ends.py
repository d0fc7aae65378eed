"""The two ends of a bridge under test, both in the harness's hands.

A client end, plain or under TLS, that connects to the bridge, and a backend that the
bridge connects to. TLS goes through memory BIOs here, many records a system call, so
that the ends cost little beside what is between them. One thread sends and one
receives; a lock keeps them apart inside of the TLS engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import attrs

BUFFER = 1 << 19
TIMEOUT = 30.0


class EndError(Exception):
    """The bridge did not deliver what it was given."""


@attrs.frozen
class Buffers:
    """Where an end receives; those used by one thread alone may share them."""

    wire: bytearray = attrs.field(factory=lambda: bytearray(BUFFER))
    clear: bytearray = attrs.field(factory=lambda: bytearray(1 << 14))


class PlainEnd:
    """A connection without TLS."""

    def __init__(self, sock: socket.socket, buffers: Buffers | None = None) -> None:
        self.socket = sock
        self._buffers = buffers or Buffers()
        sock.settimeout(TIMEOUT)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def cipher(self) -> str | None:
        """Protocol and cipher, None without TLS."""
        return None

    def send(self, data: memoryview) -> None:
        """Send all of `data`."""
        self.socket.sendall(data)

    def receive(self) -> Iterator[memoryview]:
        """What one system call brings, in pieces. EndError at the end."""
        yield self._taken()

    def _taken(self) -> memoryview:
        count = self.socket.recv_into(self._buffers.wire)
        if not count:
            raise EndError("the bridge ended the connection")
        return memoryview(self._buffers.wire)[:count]

    def close(self) -> None:
        """Close without ceremony."""
        self.socket.close()


class TlsEnd(PlainEnd):
    """The client of a TLS connection."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        buffers: Buffers | None = None,
    ) -> None:
        super().__init__(sock, buffers)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._lock = threading.Lock()
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._taken())
        self._flush()

    @property
    def cipher(self) -> str | None:
        """Protocol and cipher."""
        suite = self._tls.cipher()
        return f"{self._tls.version()} {suite and suite[0]}"

    def _flush(self) -> None:
        if self._out.pending:
            self.socket.sendall(self._out.read())

    def sealed(self, pieces: Iterator[memoryview]) -> bytes:
        """The ciphertext of `pieces`, each in records of its own; to be sent next."""
        with self._lock:
            for piece in pieces:
                self._tls.write(piece)
            return self._out.read()

    def send(self, data: memoryview) -> None:
        """Send all of `data`, in records as large as they go."""
        self.socket.sendall(self.sealed(iter((data,))))

    def receive(self) -> Iterator[memoryview]:
        """What one system call brings, record by record. EndError at the end."""
        self._in.write(self._taken())
        clear = self._buffers.clear
        while True:
            with self._lock:
                try:
                    # With a buffer it is a number that comes back.
                    count = cast("int", self._tls.read(len(clear), clear))
                except ssl.SSLWantReadError:
                    return
            if not count:
                raise EndError("the bridge ended the connection")
            yield memoryview(clear)[:count]


def client_context(ca: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A context that speaks `version` only and trusts `ca` alone."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = context.maximum_version = version
    if version is ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    return context


@attrs.frozen
class Meeting:
    """Where a bridge listens, and where it is to connect to."""

    port: int
    listener: socket.socket

    @property
    def backend(self) -> int:
        """The port to connect to."""
        port: int = self.listener.getsockname()[1]
        return port

    def dial(self, patience: float = TIMEOUT) -> socket.socket:
        """Connect to the bridge, which may not listen yet for `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise EndError("nobody listens") from None
                time.sleep(0.005)

    def connect(
        self, context: ssl.SSLContext | None, buffers: Buffers | None = None
    ) -> PlainEnd:
        """An end that has connected to the bridge, handshake included."""
        sock = self.dial()
        try:
            if context is None:
                return PlainEnd(sock, buffers)
            return TlsEnd(sock, context, buffers)
        except BaseException:
            sock.close()
            raise

    def accept(self, buffers: Buffers | None = None) -> PlainEnd:
        """The bridge's connection to the backend."""
        return PlainEnd(self.listener.accept()[0], buffers)


@contextlib.contextmanager
def meeting() -> Iterator[Meeting]:
    """Two ports on 127.0.0.1: one that is free, and one that listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.settimeout(TIMEOUT)
        yield Meeting(port, listener)


def pour(end: PlainEnd, payload: memoryview, total: int) -> None:
    """Send `total` bytes of the payload, round and round."""
    while total > 0:
        end.send(payload[:total])
        total -= len(payload)


def drain(end: PlainEnd, total: int, digest: bool) -> str | None:
    """Receive exactly `total` bytes; their sha256 where it is wanted."""
    left, sha = total, hashlib.sha256()
    while left > 0:
        for piece in end.receive():
            left -= len(piece)
            if digest:
                sha.update(piece)
    if left < 0:
        raise EndError(f"{-left} bytes more than {total} arrived")
    return sha.hexdigest() if digest else None


def transfer(
    source: PlainEnd, target: PlainEnd, payload: memoryview, total: int, digest: bool
) -> str | None:
    """Send `total` bytes from end to end; the sha256 of what came out."""
    failures: list[BaseException] = []

    def send() -> None:
        try:
            pour(source, payload, total)
        except (OSError, ssl.SSLError) as error:
            failures.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        found = drain(target, total, digest)
    except (OSError, ssl.SSLError) as error:
        raise EndError(f"{type(error).__name__}: {error}") from error
    finally:
        sender.join(0.0 if failures else 1.0)
    if failures:
        raise EndError(f"while sending: {failures[0]!r}")
    return found
