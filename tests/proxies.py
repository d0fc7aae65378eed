"""Two small proxies that do work, and peers that answer by a script."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs

from tests import loops
from tests.wires import SocketStream, listen_tcp, open_tcp_stream

__all__ = ["HttpProxy", "Socks5Proxy", "TestProxy", "echo_server", "scripted", "served"]

Handler = Callable[[SocketStream], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler, ip: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that runs `handler` for each connection: its port."""

    async def handle(stream: SocketStream) -> None:
        try:
            await handler(stream)
        except loops.BrokenResourceError:
            pass  # the other side has gone

    async with loops.open_nursery() as nursery:
        listener, port = listen_tcp(ip)
        nursery.start_soon(listener.serve, handle)
        yield port
        nursery.cancel_scope.cancel()


def echo_server() -> Handler:
    """Says "hello" and then repeats what it hears."""

    async def echo(stream: SocketStream) -> None:
        await stream.send_all(b"hello")
        async for data in stream:
            await stream.send_all(data)

    return echo


def scripted(*answers: bytes, hold: bool = True) -> Handler:
    """Sends one of `answers` after each message heard, then waits or hangs up."""

    async def answer(stream: SocketStream) -> None:
        for data in answers:
            if not await stream.receive_some():
                return
            await stream.send_all(data)
        if hold:
            await loops.sleep_forever()

    return answer


@attrs.define
class TestProxy:
    """What the two proxies share: who may use them, and what was asked of them."""

    __test__ = False

    credentials: tuple[bytes, bytes] | None = None
    # Targets that this proxy cannot reach, whatever the network says.
    unreachable: frozenset[str] = frozenset()
    # Names that this proxy resolves.
    names: dict[str, str] = attrs.field(factory=dict)
    # The targets asked for, as they were written, and the connections made here.
    asked: list[str] = attrs.field(factory=list)
    connections: int = 0

    async def _connect(self, host: str, port: int) -> SocketStream | None:
        self.asked.append(host)
        if host in self.unreachable:
            return None
        try:
            return await open_tcp_stream(self.names.get(host, host), port)
        except OSError:
            return None


async def _relay(one: SocketStream, other: SocketStream) -> None:
    async def copy(source: SocketStream, sink: SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(copy, one, other)
        nursery.start_soon(copy, other, one)


@attrs.define
class HttpProxy(TestProxy):
    """Knows CONNECT and nothing else. The target has to speak first."""

    async def __call__(self, stream: SocketStream) -> None:
        self.connections += 1
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = await stream.receive_some()
            if not data:
                return
            head += data
        line, *fields = head.decode("ascii").split("\r\n")[:-2]
        method, target, version = line.split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        headers = dict(field.split(": ", 1) for field in fields)
        assert headers.pop("Host") == target
        token = headers.pop("Proxy-Authorization", None)
        assert not headers
        if self.credentials is not None:
            pair = base64.b64encode(b":".join(self.credentials)).decode("ascii")
            if token != f"Basic {pair}":
                await stream.send_all(
                    b"HTTP/1.1 407 Who are you\r\n"
                    b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
                )
                return
        host, _, port = target.rpartition(":")
        upstream = await self._connect(host.strip("[]"), int(port))
        if upstream is None:
            await stream.send_all(b"HTTP/1.1 502 Nope\r\nContent-Length: 0\r\n\r\n")
            return
        async with upstream:
            # In one segment with what the target says first.
            first = await upstream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 Connected\r\nVia: x\r\n\r\n" + first)
            await _relay(stream, upstream)


@attrs.define
class Socks5Proxy(TestProxy):
    """Knows CONNECT, with and without a login. The target has to speak first."""

    async def __call__(self, stream: SocketStream) -> None:
        self.connections += 1
        read = partial(_read, stream)
        assert await read(1) == b"\x05"
        methods = await read((await read(1))[0])
        method = 0 if self.credentials is None else 2
        if method not in methods:
            await stream.send_all(b"\x05\xff")
            return
        await stream.send_all(bytes((5, method)))
        if self.credentials is not None:
            assert await read(1) == b"\x01"
            login = [await read((await read(1))[0]) for _ in range(2)]
            right = tuple(login) == self.credentials
            await stream.send_all(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return
        assert await read(3) == b"\x05\x01\x00"
        kind = (await read(1))[0]
        if kind == 3:
            host = (await read((await read(1))[0])).decode("ascii")
        else:
            host = str(ipaddress.ip_address(await read({1: 4, 4: 16}[kind])))
        port = int.from_bytes(await read(2), "big")
        upstream = await self._connect(host, port)
        if upstream is None:
            await stream.send_all(b"\x05\x04\x00\x01" + bytes(6))
            return
        async with upstream:
            bound = upstream.socket.getsockname()
            ip = ipaddress.ip_address(bound[0])
            kind = 1 if ip.version == 4 else 4
            reply = bytes((5, 0, 0, kind)) + ip.packed + bound[1].to_bytes(2, "big")
            first = await upstream.receive_some()
            await stream.send_all(reply + first)
            await _relay(stream, upstream)


async def _read(stream: SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        if not piece:
            raise loops.BrokenResourceError
        data += piece
    return data
