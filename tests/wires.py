"""Streams for the other end of a connection, the same on every event loop.

The names and manners are trio's. TLS is Python's own ssl over memory buffers;
like trio's, a server keeps its session tickets back until it has something to
send, since a client that never reads could not be closed in good order.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
from anyio import BrokenResourceError, ClosedResourceError

from tests import loops

__all__ = [
    "Listener",
    "SSLStream",
    "SocketStream",
    "listen_tcp",
    "listen_unix",
    "open_tcp_stream",
]

T = TypeVar("T")

CHUNK = 65536


class _Stream:
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    async def receive_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = await self.receive_some(count - len(data))
            assert chunk, f"the end after {len(data)} of {count} bytes"
            data += chunk
        return bytes(data)

    async def receive_to_end(self) -> bytes:
        return b"".join([chunk async for chunk in self])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self.receive_some()
        if not data:
            raise StopAsyncIteration
        return data

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class SocketStream(_Stream):
    """A connected stream socket, which it owns and makes non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._sending = anyio.Lock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._sending:
            left = memoryview(data)
            while left:
                try:
                    left = left[self.socket.send(left) :]
                except BlockingIOError:
                    await anyio.wait_writable(self.socket)
                except OSError as error:
                    raise self._broken(error) from error
            await loops.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await loops.checkpoint()
        while True:
            try:
                return self.socket.recv(max_bytes or CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self.socket)
            except OSError as error:
                raise self._broken(error) from error

    def _broken(self, error: OSError) -> Exception:
        if self.socket.fileno() < 0:
            return ClosedResourceError("this stream was closed before")
        return BrokenResourceError(f"the connection broke: {error}")

    async def send_eof(self) -> None:
        async with self._sending:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            anyio.notify_closing(self.socket)
            self.socket.close()

    async def aclose(self) -> None:
        self.close()
        await loops.checkpoint()


class SSLStream(_Stream):
    """TLS over a SocketStream."""

    def __init__(
        self,
        transport_stream: SocketStream,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
    ) -> None:
        self.transport_stream = transport_stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self._server_side = server_side
        self._https_compatible = https_compatible
        self._shaking = anyio.Lock()
        self._shaken = False
        # What is to go out before anything else.
        self._held = b""
        self._broken = False

    def __getattr__(self, name: str) -> Any:
        """`version`, `getpeercert` and the like, as on Python's SSLObject."""
        return getattr(self._object, name)

    async def do_handshake(self) -> None:
        async with self._shaking:
            if not self._shaken:
                await self._try(self._object.do_handshake, last=self._server_side)
                self._shaken = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.do_handshake()
        if data:
            await self._try(lambda: self._object.write(data))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self.do_handshake()
        try:
            return await self._try(lambda: self._object.read(max_bytes or CHUNK))
        except BrokenResourceError as error:
            if self._https_compatible and isinstance(
                error.__cause__, ssl.SSLEOFError | ssl.SSLSyscallError
            ):
                return b""
            raise

    async def _try(self, call: Callable[[], T], last: bool = False) -> T:
        """Call until it succeeds; `last` keeps back what it then has to send."""
        if self._broken:
            raise BrokenResourceError("the connection broke before")
        while True:
            result: list[T] = []
            try:
                result.append(call())
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return b""  # type: ignore[return-value]
            except ssl.SSLError as error:
                self._broken = True
                with contextlib.suppress(BrokenResourceError, ClosedResourceError):
                    await self._flush()
                raise BrokenResourceError from error
            # Up to TLS 1.2 the server's last words end the handshake.
            if result and last and self._object.version() == "TLSv1.3":
                self._held += self._outgoing.read()
                return result[0]
            await self._flush(always=not result)
            if result:
                return result[0]
            data = await self.transport_stream.receive_some()
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def _flush(self, always: bool = True) -> None:
        pending = self._outgoing.read()
        if pending:
            pending, self._held = self._held + pending, b""
            await self.transport_stream.send_all(pending)
        elif always:
            await loops.checkpoint()

    async def end(self) -> None:
        """close_notify; the transport stays open."""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):
            self._object.unwrap()
        await self._flush()

    async def unwrap(self) -> tuple[SocketStream, bytes]:
        """Take TLS off, with close_notify in both directions."""
        await self.do_handshake()
        await self._try(self._object.unwrap)
        return self.transport_stream, self._incoming.read()

    async def aclose(self) -> None:
        try:
            if self._shaken and not self._broken:
                with contextlib.suppress(
                    ssl.SSLError, BrokenResourceError, ClosedResourceError
                ):
                    await self.end()
        finally:
            self.transport_stream.close()

    def close(self) -> None:
        self.transport_stream.close()


class Listener:
    """A listening stream socket, which it owns."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock

    async def accept(self) -> SocketStream:
        await loops.checkpoint()
        while True:
            try:
                sock, _ = self.socket.accept()
            except BlockingIOError:
                await anyio.wait_readable(self.socket)
            else:
                return SocketStream(sock)

    async def serve(self, handler: Callable[[SocketStream], Awaitable[object]]) -> None:
        """Run `handler` for each connection, and close that after it."""

        async def handle(stream: SocketStream) -> None:
            async with stream:
                await handler(stream)

        async with self, loops.open_nursery() as nursery:
            while True:
                nursery.start_soon(handle, await self.accept())

    async def aclose(self) -> None:
        if self.socket.fileno() >= 0:
            anyio.notify_closing(self.socket)
            self.socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def listen_tcp(host: str = "127.0.0.1") -> tuple[Listener, int]:
    """A listener on a free port, and that port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, 0), family=family)
    return Listener(sock), sock.getsockname()[1]


def listen_unix(path: str | os.PathLike[str]) -> Listener:
    """A listener on the unix socket at `path`."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(os.fspath(path))
    sock.listen()
    return Listener(sock)


async def open_tcp_stream(host: str, port: int) -> SocketStream:
    """Connect to a numeric address; OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError):
            sock.connect((host, port))
        await anyio.wait_writable(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return SocketStream(sock)
