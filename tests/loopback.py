"""A Socket and the other end of its connection, in the hands of one test.

`connected()` gives both: the library's socket, and a `Peer` over a plain or a TLS
connection (Python's ssl, so that two implementations meet). The peer can do what
peers do to each other: half-close, reset, cut the connection in the middle of a
record, or not read at all.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Literal

import attrs
import pytest

from tests import certificates
from tests.loops import settle
from tests.wires import Listener, SocketStream, SSLStream, listen_tcp
from wsockets import (
    Binding,
    Promise,
    Socket,
    SocketError,
    TlsOptions,
    WritableStreamDefaultWriter,
)

__all__ = [
    "Peer",
    "Secure",
    "binding",
    "clog",
    "connected",
    "failure",
    "listening",
    "met",
    "server_context",
    "settle",
    "starttls",
]

Secure = Literal["off", "on"]
NO_LINGER = struct.pack("ii", 1, 0)


@functools.cache
def server_context() -> ssl.SSLContext:
    """Python's own TLS server for "localhost", with ALPN "echo"."""
    files = certificates.server().files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols(["echo"])
    return context


def binding(**members: Any) -> Binding:
    """A binding object that trusts the tests' authority."""
    return Binding(tls=TlsOptions(ca=certificates.authority().pem, **members))


@attrs.define(eq=False)
class Peer:
    """The other end of a connection."""

    stream: SSLStream | SocketStream
    gone: bool = False

    @property
    def tcp(self) -> SocketStream:
        if isinstance(self.stream, SSLStream):
            return self.stream.transport_stream
        return self.stream

    async def secure(self, context: ssl.SSLContext | None = None) -> None:
        """Shake hands as the server of an upgrade, and go on with TLS."""
        stream = SSLStream(self.tcp, context or server_context(), server_side=True)
        await stream.do_handshake()
        self.stream = stream

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> bytes:
        """What there is; b"" at the end."""
        return bytes(await self.stream.receive_some())

    async def receive_exactly(self, count: int) -> bytes:
        return await self.stream.receive_exactly(count)

    async def receive_to_end(self) -> bytes:
        return await self.stream.receive_to_end()

    async def end(self) -> None:
        """close_notify where there is TLS, and FIN; the other direction goes on."""
        if isinstance(self.stream, SSLStream):
            await self.stream.end()
        await self.tcp.send_eof()

    async def cut(self) -> None:
        """FIN without close_notify."""
        await self.tcp.send_eof()

    def reset(self) -> None:
        """RST."""
        self.tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.tcp.close()
        self.gone = True

    async def close(self) -> None:
        if not self.gone:
            self.stream.close()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[Listener, int]]:
    """A listener on 127.0.0.1, and its port."""
    listener, port = listen_tcp()
    async with listener:
        yield listener, port


@contextlib.asynccontextmanager
async def met(made: Socket, listener: Listener, secure: Secure) -> AsyncIterator[Peer]:
    """Whom a socket that is being opened gets to; both are closed at the end."""
    peer = Peer(await listener.accept())
    if secure == "on":
        await peer.secure()
    try:
        await made.opened
        yield peer
    finally:
        made.close(ConnectionAbortedError("the test is over"))
        await peer.close()


@contextlib.asynccontextmanager
async def connected(
    secure: Secure = "off",
    *,
    receive_buffer: int | None = None,
    tls: dict[str, Any] | None = None,
    **members: Any,
) -> AsyncIterator[tuple[Socket, Peer]]:
    """An open Socket and its peer; both are closed at the end."""
    async with listening() as (listener, port):
        if receive_buffer is not None:
            listener.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer
            )
        made = binding(**(tls or {})).connect(
            f"localhost:{port}" if secure == "on" else f"127.0.0.1:{port}",
            secureTransport=members.pop("secureTransport", secure),
            **members,
        )
        async with met(made, listener, secure) as peer:
            yield made, peer


def clog(
    socket: Socket, size: int = 64 << 20
) -> tuple[WritableStreamDefaultWriter, Promise[None]]:
    """A writer whose socket takes no more, and the write that is under way.

    The kernel lets the buffers of both ends grow, but never to 64 MiB.
    """
    writer = socket.writable.getWriter()
    return writer, writer.write(bytes(size))


async def failure(promise: Awaitable[object]) -> SocketError:
    """What the promise rejects with."""
    with pytest.raises(SocketError) as caught:
        await promise
    return caught.value


@contextlib.asynccontextmanager
async def starttls(**members: Any) -> AsyncIterator[tuple[Socket, Peer]]:
    """A plain connection that may be upgraded, verified as "localhost"."""
    members.setdefault("sni", "localhost")
    async with connected("off", secureTransport="starttls", **members) as pair:
        yield pair
