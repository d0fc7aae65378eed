"""A Socket and the other end of its connection, in the hands of one test.

`connected()` gives both: the library's socket, and a `Peer` that is trio's own
stream over a plain or a TLS connection (Python's ssl, so that two
implementations meet). The peer can do what peers do to each other: half-close,
reset, cut the connection in the middle of a record, or not read at all.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any, Literal

import attrs
import trio
import trio.testing

from tests import certificates
from wsockets import Binding, Socket, TlsOptions

__all__ = [
    "Peer",
    "Secure",
    "binding",
    "connected",
    "listening",
    "server_context",
    "settle",
]

Secure = Literal["off", "on"]
NO_LINGER = struct.pack("ii", 1, 0)


async def settle() -> None:
    """Until every other task waits for something."""
    await trio.testing.wait_all_tasks_blocked()


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

    stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream
    gone: bool = False

    @property
    def tcp(self) -> trio.SocketStream:
        if isinstance(self.stream, trio.SSLStream):
            return self.stream.transport_stream
        return self.stream

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> bytes:
        """What there is; b"" at the end."""
        return bytes(await self.stream.receive_some())

    async def receive_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = await self.stream.receive_some(count - len(data))
            assert chunk, f"the end after {len(data)} of {count} bytes"
            data += chunk
        return bytes(data)

    async def receive_to_end(self) -> bytes:
        data = bytearray()
        while chunk := await self.stream.receive_some():
            data += chunk
        return bytes(data)

    async def end(self) -> None:
        """close_notify where there is TLS, and FIN; the other direction goes on."""
        if isinstance(self.stream, trio.SSLStream):
            # trio cannot half-close TLS: send the alert by hand.
            try:
                self.stream._ssl_object.unwrap()
            except ssl.SSLWantReadError:
                pass
            # What trio holds back (tickets) comes first.
            held = self.stream._delayed_outgoing or b""
            alert = self.stream._outgoing.read()
            await self.tcp.send_all(held + alert)
        await self.tcp.send_eof()

    async def cut(self) -> None:
        """FIN without close_notify."""
        await self.tcp.send_eof()

    def reset(self) -> None:
        """RST."""
        sock = self.tcp.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        sock.close()
        self.gone = True

    async def close(self) -> None:
        if self.gone:
            return
        await trio.aclose_forcefully(self.stream)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[trio.SocketListener, int]]:
    """A listener on 127.0.0.1, and its port."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener, listener.socket.getsockname()[1]


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
        stream: Any = await listener.accept()
        if secure == "on":
            stream = trio.SSLStream(
                stream, server_context(), server_side=True, https_compatible=False
            )
            await stream.do_handshake()
        peer = Peer(stream)
        try:
            await made.opened
            yield made, peer
        finally:
            made.close(ConnectionAbortedError("the test is over"))
            await peer.close()
