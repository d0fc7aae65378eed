"""One connection from its handshake to its end, with traffic in both directions.

Meanwhile the bridge is stopped at random moments and made again; between two
bridges the socket may be read from and written to by hand, in the place of the
bridge. Every byte must arrive, once and in order: both sides keep a digest of what
they sent and of what they received. The peer's TLS is Python's.
"""

from __future__ import annotations

import hashlib
import random
import socket as sockets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from tests import certificates, loops
from tests.bridge.harness import Far, packet, streams
from tests.loopback import server_context
from wsockets import Socket, adopt

__all__ = ["KINDS", "Kind", "Tally", "lap"]

# TLS over TCP and over a unix socket, no TLS, and packets in the records of TLS;
# and a connection that breaks in the middle.
Kind: TypeAlias = Literal["tls", "tls-1.2", "plain", "packets", "broken"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

# Seconds in which anything that must happen has happened, on a loaded machine.
_WITHIN: Final = 60.0
_MTU: Final = 1500
_CHUNK: Final = 1 << 17
# A device outlives its connection, and the end of either ends a bridge of packets at
# once: so the last packet, one without a next header, says that it is the last.
_LAST: Final = b"\x60\0\0\0\0\0\x3b" + bytes(33)


@attrs.define
class Tally:
    """What laps come to."""

    laps: int = 0
    bridges: int = 0
    bytes: int = 0

    def add(self, other: Tally) -> None:
        self.laps += other.laps
        self.bridges += other.bridges
        self.bytes += other.bytes


@attrs.define
class _Stream:
    """What was sent in one direction, and what has arrived."""

    sent: Any = attrs.field(factory=hashlib.sha256)
    received: Any = attrs.field(factory=hashlib.sha256)
    count: int = 0

    def check(self) -> None:
        assert self.received.digest() == self.sent.digest()


class _Broken(Exception):
    """The reason with which a connection is broken on purpose."""


async def lap(kind: Kind, rng: random.Random, seconds: float) -> Tally:
    """Traffic for about `seconds`; AssertionError where a byte is not as it was."""
    with loops.fail_after(seconds + _WITHIN), ExitStack() as stack:
        family: Any = rng.choice(["tcp", "unix"])
        near, far = stack.enter_context(streams(family))
        sink, host = _sink(stack, packets=kind == "packets")
        async with _connected(kind, near, far) as made:
            run = _Lap(kind, rng, made, far, sink, host)
            if kind == "broken":
                await run.broken(seconds)
            else:
                await run.whole(seconds)
    return run.tally


def _sink(stack: ExitStack, *, packets: bool) -> tuple[sockets.socket, Far]:
    kind = sockets.SOCK_SEQPACKET if packets else sockets.SOCK_STREAM
    near, other = sockets.socketpair(sockets.AF_UNIX, kind)
    stack.enter_context(near)
    far = Far.of(other)
    stack.callback(far.close)
    near.setblocking(False)
    return near, far


@asynccontextmanager
async def _connected(
    kind: Kind, near: sockets.socket, far: Far
) -> AsyncIterator[Socket]:
    """A socket of ours at `near`, and its peer's TLS at `far`."""
    options: dict[str, Any] = {}
    if kind != "plain":
        options = {
            "secureTransport": "on",
            "hostname": "localhost",
            "ca": certificates.authority().pem,
            "alpn": ["echo"],
            "maxVersion": "1.2" if kind == "tls-1.2" else "1.3",
        }
    made = adopt(near, **options)
    async with AsyncExitStack() as stack:
        stack.callback(made.close, _Broken("the lap is over"))
        if kind != "plain":
            await far.shake(server_context())
        await made.opened
        yield made


@attrs.define
class _Lap:
    kind: Kind
    rng: random.Random
    socket: Socket
    peer: Far
    sink: sockets.socket
    host: Far
    tally: Tally = attrs.field(factory=lambda: Tally(laps=1))
    down: _Stream = attrs.field(factory=_Stream)
    up: _Stream = attrs.field(factory=_Stream)
    over: bool = False
    _up_has_ended: loops.Event = attrs.field(factory=loops.Event)
    _down_has_ended: loops.Event = attrs.field(factory=loops.Event)

    @property
    def _options(self) -> dict[str, Any]:
        if self.kind == "packets":
            return {"framing": "ip", "mtu": _MTU}
        return {}

    # -- to its end

    async def whole(self, seconds: float) -> None:
        """Stops and starts for so long, then all that is under way arrives."""
        async with loops.open_nursery() as nursery:
            nursery.start_soon(self._peer_sends)
            nursery.start_soon(self._host_sends)
            nursery.start_soon(self._peer_receives)
            nursery.start_soon(self._host_receives)
            await self._stop_and_go(seconds)
            self.over = True
            bridge = self.socket.bridge(self.sink, **self._options)
            bridge.start()
            self.tally.bridges += 1
            end = await bridge.closed
            assert end.reason == "eof", end
        self.down.check()
        self.up.check()
        self.tally.bytes = self.down.count + self.up.count

    async def _stop_and_go(self, seconds: float) -> None:
        begun = loops.current_time()
        while loops.current_time() - begun < seconds:
            bridge = self.socket.bridge(self.sink, **self._options)
            bridge.start()
            self.tally.bridges += 1
            with loops.move_on_after(self.rng.choice([0, 0.001, 0.02, 0.2])):
                await bridge.closed
            end = await bridge.stop(self.rng.choice([0, 0.001, 1]))
            assert end.reason == "stopped", end
            if self.kind != "packets" and self.rng.random() < 0.5:
                await self._by_hand()

    async def _by_hand(self) -> None:
        """Do what the bridge does, a few times."""
        reader = self.socket.readable.getReader()
        writer = self.socket.writable.getWriter()
        for _ in range(self.rng.randrange(1, 5)):
            with loops.move_on_after(0.01):
                value, done = await reader.read()
                assert not done
                with loops.CancelScope(shield=True):
                    await _send_all(self.sink, value)
            try:
                chunk = self.sink.recv(self.rng.randrange(1, _CHUNK))
            except BlockingIOError:
                continue
            await writer.write(chunk)
        reader.releaseLock()
        writer.releaseLock()

    # -- the traffic

    async def _peer_sends(self) -> None:
        await self._sends(self.peer.send, self.down)
        if self.kind != "packets":
            # Python's ssl reads no more once it has said goodbye.
            await self._up_has_ended.wait()
            await self.peer.end()

    async def _host_sends(self) -> None:
        await self._sends(self.host.put, self.up)
        if self.kind == "packets":
            await self._down_has_ended.wait()
        self.host.cut()

    async def _sends(
        self, send: Callable[[bytes], Awaitable[None]], stream: _Stream
    ) -> None:
        number = 0
        while not self.over:
            number += 1
            if self.kind == "packets":
                data = packet(self.rng.randrange(40, _MTU + 1), fill=number % 256)
            else:
                data = self.rng.randbytes(self.rng.choice([1, 1000, 20_000, _CHUNK]))
            stream.sent.update(data)
            stream.count += len(data)
            await send(data)
            if self.rng.random() < 0.01:
                await loops.sleep(self.rng.random() * 0.02)
        if self.kind == "packets":
            stream.sent.update(_LAST)
            await send(_LAST)

    async def _peer_receives(self) -> None:
        while data := await self.peer.receive():
            if self.kind == "packets":
                # Each is alone in its record.
                assert len(data) == 40 + int.from_bytes(data[4:6])
            self.up.received.update(data)
            # It is kept for tests that look at it.
            self.peer.wire.clear()
        self._up_has_ended.set()

    async def _host_receives(self) -> None:
        while data := await self.host.get(1 << 18):
            if self.kind == "packets":
                assert len(data) == 40 + int.from_bytes(data[4:6])
            self.down.received.update(data)
            if data == _LAST:
                break
        self._down_has_ended.set()

    # -- broken

    async def broken(self, seconds: float) -> None:
        """Somebody breaks it, or closes, while bytes are under way."""

        async def quiet(function: Callable[[], Awaitable[object]]) -> None:
            try:
                await function()
            except (OSError, ssl.SSLError, loops.ClosedResourceError, AssertionError):
                pass

        async with loops.open_nursery() as nursery:
            for task in (
                self._peer_sends,
                self._host_sends,
                self._peer_receives,
                self._host_receives,
            ):
                nursery.start_soon(quiet, task)
            bridge = self.socket.bridge(self.sink)
            bridge.start()
            self.tally.bridges += 1
            await loops.sleep(self.rng.random() * seconds)
            how = self.rng.choice(["reset", "abort", "close", "sink", "cut"])
            if how == "reset":
                loops.notify_closing(self.peer.read_fd)
                self.peer.reset()
            elif how == "cut":
                loops.notify_closing(self.peer.read_fd)
                self.peer.close()
            elif how == "sink":
                loops.notify_closing(self.host.read_fd)
                self.host.close()
            else:
                self.socket.close(*[_Broken("on purpose")] * (how == "abort"))
            end = await bridge.closed
            assert (
                end.reason
                in {
                    "reset": ("reset", "truncated"),
                    "cut": ("reset", "truncated"),
                    "sink": ("sink", "eof"),
                    "abort": ("closed",),
                    "close": ("closed",),
                }[how]
            ), (how, end)
            self.over = True
            nursery.cancel_scope.cancel()
        await self.socket.closed


async def _send_all(sock: sockets.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await loops.wait_writable(sock)
