"""Peers that follow a script: one function in a thread for each connection.

A script is given the connection as a blocking socket. It is plain sequential
code, and what it asserts is part of the test: the first failure of a script is
raised when the block that serves it ends, which waits for all scripts.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable

import attrs

from tests import certificates, loops

__all__ = [
    "WITHIN",
    "Script",
    "accepting",
    "end",
    "exactly",
    "happened",
    "line",
    "paired",
    "reset",
    "scripted",
    "to_the_end",
    "visiting",
]

# Seconds in which anything that must happen has happened, on a loaded machine.
WITHIN = 20.0

Script = Callable[[socket.socket], None]


@attrs.define(eq=False)
class _Actors:
    """The threads that follow one script."""

    script: Script
    threads: list[threading.Thread] = attrs.field(factory=list)
    connections: list[socket.socket] = attrs.field(factory=list)
    failures: list[BaseException] = attrs.field(factory=list)

    def accept(self, listener: socket.socket, last: object) -> None:
        """Take connections up to the one from `last`, which is the end."""
        while True:
            sock, address = listener.accept()
            if address == last:
                sock.close()
                return
            self.start(sock)

    def start(self, sock: socket.socket) -> None:
        sock.settimeout(WITHIN)
        thread = threading.Thread(target=self.follow, args=(sock,))
        self.connections.append(sock)
        self.threads.append(thread)
        thread.start()

    def follow(self, sock: socket.socket) -> None:
        with sock:
            try:
                self.script(sock)
            except BaseException as error:
                self.failures.append(error)

    def join(self) -> None:
        for thread in self.threads:
            thread.join()

    def cut(self) -> None:
        for sock in self.connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def end(self) -> None:
        """Wait for all of them."""
        with loops.CancelScope(shield=True):
            await loops.in_thread(self.join)


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """`script` for each connection to the "127.0.0.1:port" that the block is given.

    It has to end by itself, at the latest when its connection is closed; if the
    block fails its connections are cut.
    """
    certificates.server()  # once, and not in two threads at the same time
    actors = _Actors(script)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as listener,
        socket.socket() as last,
    ):
        last.bind(("127.0.0.1", 0))
        acceptor = threading.Thread(
            target=actors.accept, args=(listener, last.getsockname())
        )
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        except BaseException:
            actors.cut()
            raise
        finally:
            # Behind all the others, however short they were.
            last.connect(listener.getsockname())
            acceptor.join()
            await actors.end()
    if actors.failures:
        raise actors.failures[0]


@contextlib.asynccontextmanager
async def paired(script: Script, *, buffers: int) -> AsyncIterator[socket.socket]:
    """`script` at one end of a pair of unix sockets; the block is given the other.

    The kernel holds about `buffers` bytes for each direction, unlike for TCP,
    which thinks about it. The block, or who adopts it, closes its end.
    """
    certificates.server()
    actors = _Actors(script)
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
    actors.start(far)
    try:
        yield near
    except BaseException:
        actors.cut()
        raise
    finally:
        await actors.end()
    if actors.failures:
        raise actors.failures[0]


async def happened(event: threading.Event) -> None:
    """Wait for what a script tells."""
    assert await loops.in_thread(event.wait, WITHIN), "it did not happen"


# -- what scripts do


def exactly(sock: socket.socket, count: int) -> bytes:
    """The next `count` bytes."""
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, f"the end after {bytes(data)!r}, of {count} bytes"
        data += chunk
    return bytes(data)


def line(sock: socket.socket) -> bytes:
    """The next line."""
    found = b""
    while not found.endswith(b"\n"):
        found += exactly(sock, 1)
    return found


def to_the_end(sock: socket.socket) -> bytes:
    """All that comes before the end, which may be a reset."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            data += chunk
    return bytes(data)


def end(sock: socket.socket) -> None:
    """Send FIN; nobody may be there any more."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@functools.cache
def accepting() -> ssl.SSLContext:
    """Python's own TLS, server side, with a certificate for loopback."""
    files = certificates.server().files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


@functools.cache
def visiting() -> ssl.SSLContext:
    """Python's own TLS, client side, that trusts the tests' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificates.authority().pem)
    return context
