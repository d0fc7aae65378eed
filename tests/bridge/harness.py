"""A pump between two ends, and the peers at the other side of both.

`joined()` gives a connection of ours, plain or TLS, and its `Far`; `sinks` gives
what a user may hand over as a sink, and its `Far`; `bridged()` puts a pump
between them. All runs on the test's event loop, the peers as well: a `Far` is a fd, or
two, and perhaps Python's ssl in memory over them, so that all that is on the wire
is at hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import struct
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from io import FileIO
from typing import Any, Final, Literal, TypeAlias

import attrs

from tests import certificates, loops
from tests.loopback import NO_LINGER, server_context
from wsockets import TlsOptions
from wsockets.bridge.python import python_pump
from wsockets.bridge.sink import Sink, open_sink
from wsockets.bridge.work import BridgeEnd, Direction, End, Pump, Work
from wsockets.connection import PlainConnection, TlsConnection
from wsockets.runtime import Runtime, current
from wsockets.runtime.gate import Want
from wsockets.tls import client_connection, tls_names

__all__ = [
    "ENGINES",
    "SINKS",
    "WITHIN",
    "Engine",
    "Family",
    "Far",
    "Kind",
    "Running",
    "bridged",
    "either",
    "joined",
    "lend",
    "nonblocking",
    "packet",
    "receive",
    "secured",
    "send",
    "sink_of",
    "streams",
    "until",
]

Engine: TypeAlias = Callable[[Runtime, Work, Callable[[], None]], Pump]
Kind: TypeAlias = Literal["plain", "tls"]
Family: TypeAlias = Literal["tcp", "unix"]


def native_pump(runtime: Runtime, work: Work, notify: Callable[[], None]) -> Pump:
    """The native engine's, once it is built."""
    from wsockets.bridge import native

    native.configure()
    return native.native_pump(runtime, work, notify)


# All that there are; a behaviour is shown on each.
ENGINES: Final[dict[str, Engine]] = {"native": native_pump, "python": python_pump}
# Seconds in which anything that must happen has happened, on a loaded machine.
WITHIN: Final = 20.0


# -- the other side


@attrs.define(eq=False)
class Far:
    """What is at the other side: bytes in and out, through TLS perhaps."""

    read_fd: int
    write_fd: int
    tls: ssl.SSLObject | None = None
    incoming: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    outgoing: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    # All that has arrived, as it was on the wire, if it is TLS.
    wire: bytearray = attrs.field(factory=bytearray)

    @classmethod
    def of(cls, sock: socket.socket) -> Far:
        """Takes the socket over."""
        sock.setblocking(False)
        fd = sock.detach()
        return cls(fd, fd)

    # -- as it is on the wire

    async def put(self, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        while True:
            try:
                view = view[os.write(self.write_fd, view) :]
            except BlockingIOError:
                await loops.wait_writable(self.write_fd)
            if not view:
                return

    async def get(self, limit: int = 65536) -> bytes:
        """What one read gives."""
        while True:
            try:
                return os.read(self.read_fd, limit)
            except BlockingIOError:
                await loops.wait_readable(self.read_fd)

    # -- inside

    async def shake(self, context: ssl.SSLContext, **options: Any) -> None:
        """From here on it is TLS."""
        options = {"server_side": True, **options}
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.put(self.outgoing.read())
                self.incoming.write(await self.get())
            else:
                await self.put(self.outgoing.read())
                return

    def seal(self, data: bytes) -> bytes:
        """What `data` is on the wire."""
        if self.tls is None:
            return data
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self.outgoing.read()

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), 1 << 18):
            await self.put(self.seal(data[start : start + (1 << 18)]))

    async def receive(self, limit: int = 65536) -> bytes:
        """What there is, of TLS a record; b"" at the end in good order."""
        if self.tls is None:
            return await self.get(limit)
        while True:
            try:
                return self.tls.read(limit)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                # What it wants to answer, tickets apart, goes first.
                if answer := self.outgoing.read():
                    await self.put(answer)
                chunk = await self.get()
                self.wire += chunk
                if chunk:
                    self.incoming.write(chunk)
                else:
                    self.incoming.write_eof()

    async def receive_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = await self.receive(count - len(data))
            assert chunk, f"the end after {len(data)} of {count} bytes"
            data += chunk
        return bytes(data)

    async def receive_to_end(self) -> bytes:
        data = bytearray()
        while chunk := await self.receive():
            data += chunk
        return bytes(data)

    # -- the end

    async def end(self) -> None:
        """close_notify where there is TLS, and the end of what is written."""
        await self.end_of_tls()
        self.cut()

    async def end_of_tls(self) -> None:
        """close_notify, where there is TLS."""
        if self.tls is not None:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
            await self.put(self.outgoing.read())

    def cut(self) -> None:
        """The end of what is written."""
        if self.write_fd != self.read_fd:
            os.close(self.write_fd)
            self.write_fd = self.read_fd
            return
        with socket.socket(fileno=os.dup(self.write_fd)) as sock:
            sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        with socket.socket(fileno=os.dup(self.write_fd)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.close()

    def close(self) -> None:
        for fd in {self.read_fd, self.write_fd} - {-1}:
            os.close(fd)
        self.read_fd = self.write_fd = -1


# -- connections


@contextlib.contextmanager
def streams(
    family: Family = "tcp", *, buffer: int | None = None
) -> Iterator[tuple[socket.socket, Far]]:
    """Two connected stream sockets; the kernel holds about `buffer` bytes."""
    if family == "unix":
        near, other = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            if buffer is not None:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            near = socket.socket()
            if buffer is not None:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            near.connect(server.getsockname())
            other, _ = server.accept()
        for sock in (near, other):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if buffer is not None:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    near.setblocking(False)
    far = Far.of(other)
    with near, contextlib.closing(far):
        yield near, far


async def secured(
    sock: socket.socket, *, tolerate_truncation: bool = False, **options: Any
) -> TlsConnection:
    """A client's TLS connection over `sock`, its handshake done."""
    made = TlsOptions(ca=certificates.authority().pem, **options)
    engine = client_connection(made, tls_names("localhost"), ["echo"], sock, port=443)
    connection = TlsConnection(engine, sock, tolerate_truncation=tolerate_truncation)
    while (want := connection.handshake()) is not None:
        await wait(sock, want)
    connection.finish_handshake(["echo"], False)
    return connection


async def until(condition: Callable[[], object]) -> None:
    """Let others have their turns until it is so, where no event tells."""
    with loops.fail_after(WITHIN):
        while not condition():
            await loops.checkpoint()


async def wait(sock: socket.socket, want: Want) -> None:
    if want is Want.READ:
        await loops.wait_readable(sock)
    else:
        await loops.wait_writable(sock)


async def receive(connection: PlainConnection | TlsConnection, count: int) -> bytes:
    """The next `count` bytes, from the connection itself."""
    data = bytearray()
    while len(data) < count:
        got = connection.receive(count - len(data))
        if isinstance(got, Want):
            await wait(connection.socket, got)
        else:
            assert got, f"the end after {len(data)} of {count} bytes"
            data += got
    return bytes(data)


async def send(connection: PlainConnection | TlsConnection, data: bytes) -> None:
    """Send all of it through the connection itself."""
    view = memoryview(data)
    while view:
        sent = connection.send(view)
        if isinstance(sent, Want):
            await wait(connection.socket, sent)
        else:
            view = view[sent:]


@contextlib.asynccontextmanager
async def joined(
    kind: Kind,
    family: Family = "tcp",
    *,
    buffer: int | None = None,
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[tuple[PlainConnection | TlsConnection, Far]]:
    """A connection that is ready for data, and its other side."""
    with streams(family, buffer=buffer) as (near, far):
        if kind == "plain":
            yield PlainConnection(near), far
            return
        made: list[TlsConnection] = []

        async def shake() -> None:
            made.append(await secured(near, **options))

        with loops.fail_after(WITHIN):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(shake)
                await far.shake(context or server_context())
        yield made[0], far


# -- sinks


_TYPES: Final = {
    "unix": socket.SOCK_STREAM,
    "seqpacket": socket.SOCK_SEQPACKET,
    "dgram": socket.SOCK_DGRAM,
}


@contextlib.contextmanager
def sink_of(kind: str, *, buffer: int | None = None) -> Iterator[tuple[Any, Far]]:
    """What the user gives as a sink (see `SINKS`), and its other side.

    Of a unix socket the kernel holds about `buffer` bytes each way.
    """
    given: Any
    with contextlib.ExitStack() as stack:
        if kind in _TYPES:
            given, other = socket.socketpair(socket.AF_UNIX, _TYPES[kind])
            stack.callback(given.close)
            if buffer is not None:
                given.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
                other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            far = Far.of(other)
        elif kind == "tcp":
            given, far = stack.enter_context(streams("tcp"))
        elif kind == "pipes":
            (in_r, in_w), (out_r, out_w) = os.pipe(), os.pipe()
            given = FileIO(in_r, "r"), FileIO(out_w, "w")
            far = Far(out_r, in_w)
            for file in given:
                stack.callback(file.close)
            nonblocking(out_r)
            nonblocking(in_w)
        else:
            assert kind == "pty"
            master, slave = os.openpty()
            tty.setraw(slave)
            given, far = FileIO(master, "r+"), Far(slave, slave)
            stack.callback(given.close)
            nonblocking(slave)
        stack.callback(far.close)
        yield given, far


SINKS: Final = ("unix", "tcp", "pipes", "pty")


@contextlib.asynccontextmanager
async def either(kind: str) -> AsyncIterator[tuple[Any, Far]]:
    """A sink: one of `SINKS`, or a connection of ours, "plain" or "tls"."""
    if kind in ("plain", "tls"):
        async with joined("plain" if kind == "plain" else "tls") as found:
            yield found
    else:
        with sink_of(kind) as found:
            yield found


def nonblocking(fd: int) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)


def packet(length: int, *, version: int = 6, fill: int = 0) -> bytes:
    """An IP packet of `length` bytes, as far as a bridge looks at it."""
    if version == 6:
        head = b"\x60\0\0\0" + struct.pack("!H", length - 40) + bytes(34)
    else:
        head = b"\x45\0" + struct.pack("!H", length) + bytes(16)
    return head + bytes([fill]) * (length - len(head))


# -- pumps


def lend(connection: PlainConnection | TlsConnection) -> End:
    """A connection as a pump is given it."""
    fd = os.dup(connection.socket.fileno())
    return End(fd, fd, connection)


@attrs.define(eq=False)
class Running:
    """A pump that has started, and what it told."""

    pump: Pump
    sink: Sink | None
    notified: int = 0
    # As of the last notice.
    finished: frozenset[Direction] = frozenset()
    ended: BridgeEnd | None = None
    _news: loops.Event = attrs.field(factory=loops.Event)

    def notify(self) -> None:
        self.notified += 1
        self.finished = self.pump.finished
        self.ended = self.pump.ended
        self._news.set()
        self._news = loops.Event()

    async def counts(self, direction: Direction, **expected: int) -> None:
        """The counters come to this; they may lag behind what has arrived."""

        def now() -> dict[str, int]:
            flow = getattr(self.pump.stats, direction)._asdict()
            return {name: flow[name] for name in expected}

        with contextlib.suppress(TimeoutError), loops.fail_after(WITHIN):
            while now() != expected:
                await loops.checkpoint()
        assert now() == expected

    async def until_finished(self, direction: Direction) -> None:
        """Until a notice that `direction` has ended; lets go of its target."""
        with loops.fail_after(WITHIN):
            while direction not in self.finished:
                await self._news.wait()
        if direction == "decrypt" and self.sink is not None:
            self.sink.end_writing(close=True)

    async def end(self) -> BridgeEnd:
        """How it has ended, when that was told."""
        with loops.fail_after(WITHIN):
            while self.ended is None:
                await self._news.wait()
        return self.ended


@contextlib.asynccontextmanager
async def bridged(
    engine: Engine,
    connection: PlainConnection | TlsConnection,
    sink: Any,
    *,
    start: bool = True,
    **members: Any,
) -> AsyncIterator[Running]:
    """A pump between a connection and a sink, which may be a connection as well.

    When the block ends the pump is abandoned, if it has not ended.
    """
    encrypt, decrypt = members.get("encrypt", True), members.get("decrypt", True)
    taken: Sink | None = None
    if isinstance(sink, (PlainConnection, TlsConnection)):
        end = lend(sink)
    else:
        taken = open_sink(sink, reading=encrypt, writing=decrypt)
        end = taken.end
    work = Work(lend(connection), end, **members)
    running: Running
    pump = engine(current(), work, lambda: running.notify())
    running = Running(pump, taken)
    if start:
        pump.start()
    try:
        yield running
    finally:
        pump.abandon()
        assert pump.ended is not None
        if taken is not None:
            taken.restore()
        await loops.checkpoint()
