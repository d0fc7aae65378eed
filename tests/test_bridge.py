"""Socket.bridge(): what a socket and a bridge are to each other.

What a bridge does with bytes, packets and errors is held by tests/bridge; here it
is about the socket: before, meanwhile and afterwards, on each engine.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import gc
import logging
import os
import random
import select
import socket
import subprocess
import termios
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests import certificates, loops
from tests.leaks import few_descriptors
from tests.loopback import Peer, Secure, binding, connected, listening, settle
from tests.network import tcp_pair
from tests.wires import SocketStream
from wsockets import (
    AbortController,
    Bridge,
    BridgeEnd,
    BridgeOptions,
    BridgeStats,
    Socket,
    SocketError,
    adopt,
    connect,
)

pytestmark = [pytest.mark.every_loop, pytest.mark.usefixtures("engine")]


@contextlib.asynccontextmanager
async def sockets(
    secure: Secure, **members: Any
) -> AsyncIterator[tuple[Socket, Peer, Socket, Peer]]:
    """Two sockets, the first perhaps with TLS, and their peers."""
    async with (
        connected(secure, **members) as (near, near_peer),
        connected(**members) as (far, far_peer),
    ):
        yield near, near_peer, far, far_peer


def clog(sink: socket.socket) -> int:
    """Fill a sink, so that it takes no more; how many bytes that were."""
    count = 0
    sink.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            count += sink.send(bytes(4096))
    return count


async def held(near: Socket, peer: Peer, data: bytes) -> None:
    """Until `data`, sent by the peer, is in the hands of the bridge."""
    assert near._connection is not None
    await peer.send(data)
    waiting = array.array("i", [1])
    while waiting[0]:
        await loops.checkpoint()
        fcntl.ioctl(near._connection.socket, termios.FIONREAD, waiting)


async def answer_of(peer: Peer) -> bytes | None:
    """All that comes after the peer's own end; of TLS only that the end comes.

    Python's ssl reads no more once it has said goodbye.
    """
    if peer.stream is peer.tcp:
        return await peer.receive_to_end()
    while await peer.tcp.receive_some():
        pass
    return None


async def refused(socket: Socket, sink: object, **members: Any) -> str:
    with pytest.raises(SocketError) as caught:
        socket.bridge(sink, **members)
    assert caught.value.code == "state"
    return str(caught.value)


# -- the simple case


async def test_bytes_go_both_ways_and_the_streams_go_on_where_it_stopped(
    secure: Secure, pair: tuple[socket.socket, SocketStream], engine: str
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        async with near.bridge(sink) as bridge:
            assert bridge.engine == engine
            assert bridge.socket is near
            assert near.readable.locked and near.writable.locked
            await peer.send(b"down")
            assert await far.receive_exactly(4) == b"down"
            await far.send_all(b"up")
            assert await peer.receive_exactly(2) == b"up"
            # The engine counts after it has written.
            while bridge.stats.decrypt.bytes < 4 or bridge.stats.encrypt.bytes < 2:
                await loops.checkpoint()
            assert bridge.stats.decrypt.bytes == 4
            assert bridge.stats.encrypt.bytes == 2
            with pytest.raises(SocketError, match="has not ended"):
                bridge.result()
        assert bridge.result() == BridgeEnd("connection", "decrypt", "stopped")
        assert not near.readable.locked and not near.writable.locked
        await peer.send(b"by hand")
        assert (await near.readable.getReader().read()).value == b"by hand"
        await near.writable.getWriter().write(b"too")
        assert await peer.receive_exactly(3) == b"too"


async def test_the_handshake_and_what_was_written_come_before_the_sinks_bytes(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure, secureTransport=secure) as (near, peer):
        writer = near.writable.getWriter()
        written = random.Random(1).randbytes(3 << 20)
        writing = writer.write(written)
        writer.releaseLock()
        bridge = near.bridge(sink)
        bridge.start()
        await far.send_all(b"from the sink")
        assert await peer.receive_exactly(len(written)) == written
        await writing
        assert await peer.receive_exactly(13) == b"from the sink"
        assert (await bridge.handshake()).remoteAddress is not None
        await bridge.stop()


async def test_it_may_be_started_before_there_is_a_connection(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, far = pair
    await far.send_all(b"early")
    async with listening() as (listener, port):
        near = connect(f"127.0.0.1:{port}")
        near.writable.getWriter().write(b"first, ")
        near.writable._writer.releaseLock()  # type: ignore[union-attr]
        bridge = near.bridge(sink)
        bridge.start()
        assert bridge.stats == BridgeStats()
        assert not near.opened._state
        stream = await listener.accept()
        peer = Peer(stream)
        assert await peer.receive_exactly(12) == b"first, early"
        await peer.end()
        assert await far.receive_some() == b""
        await far.send_eof()
        assert (await bridge.closed).reason == "eof"
        await near.closed
        await peer.close()


async def test_what_the_sink_did_not_take_is_read_from_the_socket(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    data = random.Random(2).randbytes(3 << 20)
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        found = bytearray()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(peer.send, data)
            found += await far.receive_exactly(100_000)
            assert (await bridge.stop(0)).reason == "stopped"
            count = bridge.stats.decrypt.bytes
            found += await far.receive_exactly(count - len(found))
            async for chunk in near.readable.values(preventCancel=True):
                found += chunk
                if len(found) == len(data):
                    break
        assert found == data


@pytest.mark.parametrize("role", ["connection", "sink"])
async def test_what_is_unread_stays_so_while_only_the_other_direction_is_bridged(
    secure: Secure, pair: tuple[socket.socket, SocketStream], role: str
) -> None:
    sink, far = pair
    clog(sink)
    async with connected(secure) as (near, peer), connected() as (other, other_peer):
        bridge = near.bridge(sink)
        bridge.start()
        await held(near, peer, b"unread")
        await bridge.stop(0)
        if role == "connection":
            bridge = near.bridge(sink, direction="encrypt-only")
            source = far
        else:
            bridge = other.bridge(near, direction="decrypt-only")
            source = other_peer.tcp
        bridge.start()
        await source.send_all(b"up")
        assert await peer.receive_exactly(2) == b"up"
        await bridge.stop()
        reader = near.readable.getReader()
        assert (await reader.read()).value == b"unread"
        await peer.send(b"more")
        assert (await reader.read()).value == b"more"


async def test_what_the_connection_did_not_take_leaves_first(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    data = random.Random(3).randbytes(4 << 20)
    async with connected(secure, receive_buffer=4096) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(far.send_all, data)
            await peer.receive_exactly(1)
            await bridge.stop(0)
            taken = bridge.stats.encrypt.bytes
            writer = near.writable.getWriter()
            writer.write(b"and then")
            rest = await peer.receive_exactly(taken - 1 + 8)
            assert rest == data[1:taken] + b"and then"
            # The sink's other bytes are still in the sink.
            sink.settimeout(0)
            left = b""
            while len(left) < len(data) - taken:
                await anyio.wait_readable(sink)
                left += sink.recv(1 << 20)
            assert left == data[taken:]


async def test_a_socket_can_be_bridged_again_and_again(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    rng = random.Random(4)
    down, up = rng.randbytes(2 << 20), rng.randbytes(2 << 20)
    got: dict[str, bytes] = {}

    async def take_up() -> None:
        got["up"] = await peer.receive_exactly(len(up))

    async def take_down() -> None:
        got["down"] = await far.receive_exactly(len(down))

    async with connected(secure) as (near, peer):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(peer.send, down)
            nursery.start_soon(far.send_all, up)
            nursery.start_soon(take_up)
            nursery.start_soon(take_down)
            for _ in range(100):
                bridge = near.bridge(sink)
                bridge.start()
                for _ in range(rng.randrange(20)):
                    await loops.checkpoint()
                await bridge.stop(rng.choice([0, 0.001]))
                if len(got) == 2:
                    break
            near.bridge(sink).start()
    assert got == {"up": up, "down": down}


async def test_one_that_nobody_holds_goes_on(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, far = pair
    async with connected() as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        gone = weakref.ref(bridge)
        del bridge
        await peer.send(b"down")
        assert await far.receive_exactly(4) == b"down"
        gc.collect()
        assert gone() is not None
        await peer.send(b"more")
        assert await far.receive_exactly(4) == b"more"
        near.close(ConnectionAbortedError("enough"))
        await settle()
        gc.collect()
        assert gone() is None


async def test_one_that_is_never_started_leaves_nothing_behind(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        bridge = near.bridge(sink)
        bridge.fileno()
        near._loans = ()  # or the socket would hold it
        del bridge
        gc.collect()


# -- what is refused


async def test_a_stream_that_is_held_is_not_bridged(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        reader = near.readable.getReader()
        assert "release" in await refused(near, sink)
        reader.releaseLock()
        writer = near.writable.getWriter()
        assert "release" in await refused(near, sink)
        writer.releaseLock()
        near.bridge(sink)


async def test_a_socket_has_one_bridge_at_a_time(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        bridge = near.bridge(sink)
        assert "bridged already" in await refused(near, sink)
        assert "bridged already" in await refused(near, near)
        await bridge.stop()
        assert "bridged already" in await refused(near, near)
        await near.bridge(sink).stop()


async def test_after_its_end_a_socket_is_not_bridged(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        near.close()
        assert "close()" in await refused(near, sink)
        await near.closed
        assert "close()" in await refused(near, sink)


async def test_an_upgraded_socket_is_not_bridged_but_its_successor_is(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected(secureTransport="starttls") as (near, _):
        secure = near.startTls(ca=certificates.authority().pem, verify="none")
        assert "startTls" in await refused(near, sink)
        bridge = secure.bridge(sink)
        bridge.start()
        secure.close(ConnectionAbortedError("enough"))
        assert (await bridge.closed).reason == "closed"


async def test_startTls_is_not_possible_while_bridged(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected(secureTransport="starttls") as (near, _):
        bridge = near.bridge(sink)
        with pytest.raises(SocketError, match="while the socket is bridged") as caught:
            near.startTls()
        assert caught.value.code == "state"
        await bridge.stop()
        near.startTls(verify="none")


async def test_startTls_does_not_go_past_what_a_bridge_has_received(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected(secureTransport="starttls") as (near, peer):
        bridge = near.bridge(sink, direction="decrypt-only")
        bridge.start()
        clog(sink)
        await held(near, peer, b"not for TLS")
        await bridge.stop(0)
        secure = near.startTls(verify="none")
        with pytest.raises(SocketError, match="was not read") as caught:
            await secure.opened
        assert caught.value.code == "tls"


async def test_a_direction_that_has_ended_cannot_be_bridged(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure, allowHalfOpen=True) as (near, peer):
        await peer.end()
        assert (await near.readable.getReader().read()).done
        near.readable._reader.releaseLock()  # type: ignore[union-attr]
        assert "encrypt-only" in await refused(near, sink)
        assert "encrypt-only" in await refused(near, sink, direction="decrypt-only")
        async with near.bridge(sink, direction="encrypt-only"):
            await far.send_all(b"up")
            assert await peer.receive_exactly(2) == b"up"
        await near.writable.close()
        assert "decrypt-only" in await refused(near, sink, direction="encrypt-only")


async def test_a_writable_that_is_closed_does_not_keep_the_readable_from_it(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure, allowHalfOpen=True) as (near, peer):
        await near.writable.close()
        async with near.bridge(sink, direction="decrypt-only"):
            await peer.send(b"down")
            assert await far.receive_exactly(4) == b"down"
        await peer.send(b"by hand")
        assert (await near.readable.getReader().read()).value == b"by hand"


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"direction": "both"}, "direction"),
        ({"framing": "lines"}, "framing"),
        ({"prefix": b"\0\0", "framing": "stream"}, "packets"),
        ({"mtu": 1280}, "packets"),
        ({"mtu": 0, "framing": "ip"}, "mtu"),
        ({"mtu": True, "framing": "ip"}, "mtu"),
        ({"prefix": "xx", "framing": "ip"}, "prefix"),
        ({"prefix": bytes(65), "framing": "ip"}, "prefix"),
        ({"closeSink": 1}, "closeSink"),
        ({"idleTimeout": 0}, "idleTimeout"),
        ({"onClose": "print"}, "onClose"),
        ({"closeSink": True, "close_sink": True}, "twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_option_that_is_none_is_refused_at_the_call(
    members: dict[str, Any], text: str, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        with pytest.raises(SocketError, match=text) as caught:
            near.bridge(sink, **members)
        assert caught.value.code == "option"
        assert not near.readable.locked
        with pytest.raises(TypeError, match="unexpected keyword"):
            near.bridge(sink, nonsense=1)  # type: ignore[call-arg]


async def test_a_sink_that_is_none_is_refused_at_the_call() -> None:
    async with connected() as (near, _):
        for sink in (-1, 1 << 20, "tun0", None, True, (1, 2, 3)):
            with pytest.raises(SocketError, match="sink") as caught:
                near.bridge(sink)
            assert caught.value.code == "option"
        assert not near.readable.locked
        near.bridge(near._connection.socket.fileno())  # type: ignore[union-attr]


async def test_a_bridge_is_not_constructed() -> None:
    with pytest.raises(TypeError, match=r"Socket\.bridge"):
        Bridge()


def test_options_have_both_spellings() -> None:
    def on_close() -> None:
        pass

    options = BridgeOptions(
        closeSink=True, idleTimeout=3.0, onClose=on_close, onError=print
    )
    assert options.close_sink is True
    assert options.idle_timeout == 3.0
    assert options.on_close is on_close
    assert options.on_error is print


# -- the life of a bridge


async def test_it_is_started_once(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        bridge = near.bridge(sink)
        assert repr(bridge) == "<Bridge new duplex>"
        bridge.start()
        with pytest.raises(SocketError, match="started before") as caught:
            bridge.start()
        assert caught.value.code == "state"
        await bridge.stop()
        assert repr(bridge) == "<Bridge stopped duplex>"
        with pytest.raises(SocketError):
            bridge.start()


async def test_it_can_be_stopped_before_it_runs_and_more_than_once(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        stopped = BridgeEnd("connection", "decrypt", "stopped")
        new = near.bridge(sink)
        assert await new.stop() == stopped
        assert await new.stop() == stopped
        running = near.bridge(sink)
        running.start()
        assert running._pump is not None
        first, second = running.stop(), running.stop(0)
        assert first is second
        assert await first == stopped
        assert not near.readable.locked


async def test_it_can_be_stopped_while_the_socket_is_being_opened(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with listening() as (_, port):
        near = connect(f"127.0.0.1:{port}")
        armed = near.bridge(sink)
        armed.start()
        assert armed.stop() is armed.closed
        assert (await armed.closed).reason == "stopped"
        assert armed._pump is None
        await near.opened
        assert not near.readable.locked
        await near.close("enough")


async def test_it_is_started_in_its_event_loop(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, far = pair
    async with connected() as (near, peer):
        bridge = near.bridge(sink)
        with pytest.raises(RuntimeError, match="event loop"):
            await loops.in_thread(bridge.start)
        bridge.start()
        await peer.send(b"x")
        assert await far.receive_some() == b"x"
        await bridge.stop()


async def test_what_keeps_an_open_socket_from_being_bridged_is_told_later(
    pair: tuple[socket.socket, SocketStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, _ = pair

    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, "no descriptor")

    told: list[BaseException] = []
    async with connected() as (near, peer):
        monkeypatch.setattr("wsockets.bridge.bridge.make_pump", fails)
        bridge = near.bridge(sink, onError=told.append)
        bridge.start()
        assert not told
        end = await bridge.closed
        assert told == [end.error]
        assert isinstance(end.error, SocketError)
        assert end.error.errno == errno.EMFILE
        await near.writable.getWriter().write(b"as before")
        assert await peer.receive_exactly(9) == b"as before"


@pytest.mark.parametrize("drain", [-1, float("nan"), "soon", True, None])
async def test_drain_is_a_number_of_seconds(
    drain: Any, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        bridge = near.bridge(sink)
        with pytest.raises(SocketError, match="drain") as caught:
            bridge.stop(drain)
        assert caught.value.code == "option"


def readable_now(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


async def test_its_fd_is_readable_when_it_has_ended(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        early = near.bridge(sink)
        fd = early.fileno()
        early.start()
        await settle()
        assert early.fileno() == fd
        assert not readable_now(fd)
        await early.stop()
        assert readable_now(fd)

        late = near.bridge(sink)
        late.start()
        await settle()
        fd = late.fileno()
        assert late.fileno() == fd
        assert not readable_now(fd)
        late.stop()
        await anyio.wait_readable(fd)
        assert late.result().reason == "stopped"
        assert await late.closed is late.result()

        never = near.bridge(sink)
        await never.stop()
        assert readable_now(never.fileno())


async def test_callbacks_come_before_closed_settles(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, _ = pair
    calls: list[object] = []
    async with connected(secure) as (near, peer):
        bridge = near.bridge(
            sink,
            on_error=lambda error: calls.append((error, bridge.closed._state)),
            onClose=lambda: calls.append(bridge.closed._state),
        )
        bridge.start()
        await settle()
        peer.reset()
        end = await bridge.closed
        assert end.reason == "reset"
        assert calls == [(end.error, 0), 0]


async def test_a_callback_that_raises_is_logged_and_harms_nothing(
    pair: tuple[socket.socket, SocketStream], caplog: pytest.LogCaptureFixture
) -> None:
    sink, _ = pair

    def fail() -> None:
        raise ValueError("mine")

    async with connected() as (near, _):
        bridge = near.bridge(sink, onClose=fail)
        bridge.start()
        with caplog.at_level(logging.ERROR, "wsockets"):
            await bridge.stop()
        assert "mine" in caplog.text
        assert not near.readable.locked


async def test_leaving_the_block_with_an_error_stops_it_as_well(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, _):
        with pytest.raises(ValueError, match="mine"):
            async with near.bridge(sink) as bridge:
                raise ValueError("mine")
        assert bridge.result().reason == "stopped"
        with loops.CancelScope() as early:
            # Perhaps it is not even entered.
            early.cancel()
            async with near.bridge(sink):
                await loops.sleep_forever()
        assert early.cancelled_caught
        assert not near.readable.locked
        with loops.move_on_after(0.01) as scope:
            async with near.bridge(sink) as bridge:
                await loops.sleep_forever()
        assert scope.cancelled_caught
        assert bridge.result().reason == "stopped"
        assert not near.readable.locked


async def test_the_block_is_not_entered_without_a_connection(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with listening() as (_, port):
        pass
    near = connect(f"127.0.0.1:{port}")
    bridge = near.bridge(sink)
    with pytest.raises(SocketError) as caught:
        async with bridge:
            raise AssertionError
    assert caught.value.code == "refused"
    end = await bridge.closed
    assert (end.side, end.reason) == ("connection", "closed")
    assert end.error is None or end.error is caught.value
    assert not near.readable.locked


async def test_one_that_waits_for_its_connection_can_be_left(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    near, far = socket.socketpair()
    with far:
        waiting = adopt(near, secureTransport="on", verify="none")
        with loops.move_on_after(0.01) as scope:
            async with waiting.bridge(sink):
                raise AssertionError
        assert scope.cancelled_caught
        assert not waiting.readable.locked
        waiting.close(ConnectionAbortedError("enough"))


async def test_descriptors_may_run_out_when_it_begins(
    pair: tuple[socket.socket, SocketStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(fd: int) -> int:
        raise OSError(24, "Too many open files")

    sink, _ = pair
    async with sockets("off") as (near, peer, other, _):
        for target in (sink, other):
            bridge = near.bridge(target)
            with monkeypatch.context() as patch:
                patch.setattr(os, "dup", none_left)
                bridge.start()
                end = await bridge.closed
            assert end.reason == "closed"
            assert isinstance(end.error, SocketError)
            assert end.error.errno == 24
            assert not near.readable.locked and not other.readable.locked
        await peer.send(b"still there")
        assert (await near.readable.getReader().read()).value == b"still there"


@pytest.mark.parametrize("left", range(6))
async def test_where_none_is_left_for_the_engine_the_socket_is_as_before(
    secure: Secure, pair: tuple[socket.socket, SocketStream], left: int
) -> None:
    sink, _ = pair
    async with connected(secure) as (near, peer):
        async with near.bridge(sink):
            pass  # what is opened once has been
        await settle()
        bridge = near.bridge(sink)
        with few_descriptors(left):
            bridge.start()
            await settle()
            end = bridge._end
        if end is not None:
            assert end.reason == "closed"
            assert isinstance(end.error, SocketError)
            assert end.error.errno == errno.EMFILE
        await bridge.stop()
        await peer.send(b"still there")
        assert (await near.readable.getReader().read()).value == b"still there"


async def test_a_failure_that_is_known_already_is_not_forwarded(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    error = SocketError("it was behind the last data", code="tls")
    async with connected("on") as (near, _):
        near._connection._stash = error  # type: ignore[union-attr]
        bridge = near.bridge(sink)
        bridge.start()
        end = await bridge.closed
        assert (end.side, end.reason, end.error) == ("connection", "closed", error)
        await near.closed
        with pytest.raises(SocketError) as caught:
            await near.readable.getReader().read()
        assert caught.value is error


# -- how it ends by itself, and what becomes of the socket


async def test_the_end_of_both_directions_closes_the_socket(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        await peer.send(b"last question")
        await peer.end()
        assert await far.receive_exactly(13) == b"last question"
        assert await far.receive_some() == b""
        assert near.readable.locked
        await far.send_all(b"late answer")
        await far.send_eof()
        assert await answer_of(peer) in (b"late answer", None)
        assert await bridge.closed == BridgeEnd("sink", "encrypt", "eof")
        await near.closed
        assert (await near.readable.getReader().read()).done


async def test_the_end_of_the_only_direction_leaves_the_other(
    secure: Secure, tmp_path: Path
) -> None:
    data = random.Random(5).randbytes(1 << 20)
    (tmp_path / "upload").write_bytes(data)
    async with connected(secure, allowHalfOpen=True) as (near, peer):
        with (tmp_path / "upload").open("rb") as file:
            bridge = near.bridge(file, direction="encrypt-only")
            bridge.start()
            assert await peer.receive_to_end() == data
        assert await bridge.closed == BridgeEnd("sink", "encrypt", "eof")
        await peer.send(b"thanks")
        assert (await near.readable.getReader().read()).value == b"thanks"
        writer = near.writable.getWriter()
        await writer.closed
        with pytest.raises(TypeError):
            await writer.write(b"no more")
        await near.close()


async def test_a_download_that_has_ended_ends_the_socket_like_a_read(
    secure: Secure, tmp_path: Path
) -> None:
    data = random.Random(6).randbytes(1 << 20)
    async with connected(secure) as (near, peer):
        with (tmp_path / "download").open("wb") as file:
            bridge = near.bridge(file, direction="decrypt-only")
            bridge.start()
            await peer.send(data)
            await peer.end()
            assert await bridge.closed == BridgeEnd("connection", "decrypt", "eof")
        assert (tmp_path / "download").read_bytes() == data
        await near.closed
        assert await answer_of(peer) in (b"", None)


@pytest.mark.parametrize(
    ("secure", "how", "reason"),
    [("off", "reset", "reset"), ("on", "reset", "reset"), ("on", "cut", "truncated")],
)
async def test_a_connection_that_fails_fails_the_socket(
    secure: Secure,
    how: str,
    reason: str,
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        await peer.send(b"before")
        assert await far.receive_exactly(6) == b"before"
        if how == "reset":
            peer.reset()
        else:
            await peer.cut()
        end = await bridge.closed
        assert (end.side, end.direction, end.reason) == (
            "connection",
            "decrypt",
            reason,
        )
        assert isinstance(end.error, SocketError)
        assert end.error.code == reason
        await near.closed
        with pytest.raises(SocketError) as caught:
            await near.readable.getReader().read()
        assert caught.value is end.error


async def test_a_sink_that_fails_resets_the_connection(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink, direction="decrypt-only")
        bridge.start()
        await settle()
        await far.aclose()
        await peer.send(b"into the void")
        end = await bridge.closed
        assert (end.side, end.direction, end.reason) == ("sink", "decrypt", "sink")
        assert isinstance(end.error, SocketError)
        assert end.error.errno == 32
        await near.closed
        with pytest.raises((loops.BrokenResourceError, ConnectionResetError)):
            await peer.receive()
        with pytest.raises(SocketError) as caught:
            await near.writable.getWriter().write(b"x")
        assert caught.value is end.error


async def test_the_end_of_packets_closes_the_socket(secure: Secure) -> None:
    device, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with device, far:
        async with connected(secure, allowHalfOpen=True) as (near, peer):
            bridge = near.bridge(device, framing="ip", mtu=1280)
            bridge.start()
            packet = bytes([0x60, 0, 0, 0, 0, 3]) + bytes(34) + b"xyz"
            await peer.send(packet)
            await anyio.wait_readable(far)
            assert far.recv(2000) == packet
            # The engine counts after it has written.
            while bridge.stats.decrypt.packets < 1:
                await loops.checkpoint()
            far.close()
            assert (await bridge.closed).reason == "eof"
            assert await peer.receive_to_end() == b""
            await peer.end()
            await near.closed


async def test_bytes_that_are_no_packet_reset_the_connection(secure: Secure) -> None:
    device, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with device, far:
        async with connected(secure) as (near, peer):
            bridge = near.bridge(device, framing="ip")
            bridge.start()
            await peer.send(b"\x16\x03\x01\x02")
            end = await bridge.closed
            assert (end.side, end.reason) == ("connection", "framing")
            await near.closed


async def test_an_idle_bridge_closes_the_socket_in_good_order(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, _ = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink, idle_timeout=0.05)
        bridge.start()
        assert (await bridge.closed).reason == "idle"
        assert await peer.receive_to_end() == b""
        await peer.end()
        await near.closed


async def test_closeSink_closes_what_the_caller_gave(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, far = pair
    async with connected() as (near, _):
        bridge = near.bridge(sink, closeSink=True)
        bridge.start()
        await bridge.stop()
        assert sink.fileno() == -1
        assert await far.receive_some() == b""


async def test_a_pipe_that_is_closed_early_lets_its_reader_answer(
    secure: Secure,
) -> None:
    async with connected(secure) as (near, peer):
        to_child, from_us = os.pipe()
        from_child, to_us = os.pipe()
        with subprocess.Popen(["sort"], stdin=to_child, stdout=to_us):
            os.close(to_child)
            os.close(to_us)
            bridge = near.bridge((from_child, from_us), closeSink=True)
            bridge.start()
            await peer.send(b"b\na\nc\n")
            await peer.end()
            assert await answer_of(peer) in (b"a\nb\nc\n", None)
            assert (await bridge.closed).reason == "eof"


# -- who ends the socket meanwhile


async def test_close_delivers_what_is_under_way(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        await far.send_all(b"up")
        assert await peer.receive_exactly(2) == b"up"
        closed = near.close()
        assert closed is near.closed
        assert await peer.receive_to_end() == b""
        await closed
        assert await bridge.closed == BridgeEnd("connection", "decrypt", "closed")
        await near.close()


async def test_close_before_it_runs_ends_it(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    async with connected() as (near, peer):
        bridge = near.bridge(sink)
        near.close()
        assert (await bridge.closed).reason == "closed"
        assert await peer.receive_to_end() == b""
        await near.closed


async def test_cancelling_a_close_that_waits_for_the_bridge_resets(
    secure: Secure,
) -> None:
    near_end, far_end = socket.socketpair()
    with near_end, far_end:
        async with connected(secure, closeTimeout=60) as (near, peer):
            bridge = near.bridge(near_end)
            bridge.start()
            clog(near_end)
            await held(near, peer, b"for nobody")
            with loops.move_on_after(0.05) as scope:
                await near.close()
            assert scope.cancelled_caught
            assert (await bridge.closed).reason == "closed"
            await near.closed


@pytest.mark.parametrize("how", ["reason", "signal", "nursery"])
async def test_an_abort_takes_the_connection_away_at_once(
    secure: Secure, how: str, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    controller = AbortController()
    async with (
        listening() as (listener, port),
        loops.native_nursery() as (nursery, cancel),
    ):
        near = binding().connect(
            f"127.0.0.1:{port}", signal=controller.signal, nursery=nursery
        )
        stream = await listener.accept()
        await near.opened
        bridge = near.bridge(sink)
        bridge.start()
        await stream.send_all(b"down")
        assert await far.receive_exactly(4) == b"down"
        if how == "reason":
            near.close(ValueError("mine"))
        elif how == "signal":
            controller.abort()
        else:
            cancel()
        with loops.CancelScope(shield=True):
            end = await bridge.closed
            assert (end.side, end.reason) == ("connection", "closed")
            with pytest.raises(loops.BrokenResourceError):
                await stream.receive_some()
            await near.closed
        assert not near.readable.locked
        await stream.aclose()


async def test_an_abort_before_it_runs_ends_it(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    near, far = socket.socketpair()
    with far:
        waiting = adopt(near, secureTransport="on", verify="none")
        bridge = waiting.bridge(sink)
        bridge.start()
        reason = ValueError("mine")
        waiting.close(reason)
        end = await bridge.closed
        assert end.reason == "closed"
        assert end.error is reason


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_event_loop_is_the_end_of_a_bridge(
    loop: str,
    pair: tuple[socket.socket, SocketStream],
) -> None:
    sink, _ = pair
    bridges: list[Bridge] = []

    async def main(near: list[socket.socket]) -> None:
        for end in near:
            bridge = adopt(end).bridge(sink)
            bridges.append(bridge)
            bridge.start()
            if end is near[0]:
                await settle()
                assert bridge._pump is not None

    pairs = [socket.socketpair() for _ in range(2)]
    loops.run(loop, main, [near for near, _ in pairs])
    assert [bridge.result().reason for bridge in bridges] == ["closed", "closed"]
    for bridge in bridges:
        if bridge.socket._connection is not None:
            bridge.socket._connection.close()
    for _, far in pairs:
        far.close()


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_event_loop_is_no_end_in_good_order_for_the_peer(
    loop: str, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, _ = pair
    sockets: list[Socket] = []

    async def main() -> None:
        near = adopt(ours)
        sockets.append(near)
        near.bridge(sink).start()
        await settle()

    ours, theirs = tcp_pair()
    with theirs:
        loops.run(loop, main)
        # What was under way is lost.
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
    assert "closed" in repr(sockets[0])


# -- between two sockets


async def test_two_sockets_are_joined_and_given_back(secure: Secure) -> None:
    async with sockets(secure) as (near, near_peer, far, far_peer):
        async with near.bridge(far) as bridge:
            assert far.readable.locked
            assert "bridged already" in await refused(far, near)
            await near_peer.send(b"to the right")
            assert await far_peer.receive_exactly(12) == b"to the right"
            await far_peer.send(b"to the left")
            assert await near_peer.receive_exactly(11) == b"to the left"
        assert bridge.result().reason == "stopped"
        await far_peer.send(b"by hand")
        assert (await far.readable.getReader().read()).value == b"by hand"
        await near.writable.getWriter().write(b"too")
        assert await near_peer.receive_exactly(3) == b"too"


async def test_two_sockets_end_together_in_good_order(secure: Secure) -> None:
    async with sockets(secure) as (near, near_peer, far, far_peer):
        bridge = near.bridge(far)
        bridge.start()
        await near_peer.end()
        assert await far_peer.receive_to_end() == b""
        await far_peer.send(b"late")
        await far_peer.end()
        assert await answer_of(near_peer) in (b"late", None)
        assert (await bridge.closed).reason == "eof"
        await near.closed
        await far.closed


@pytest.mark.parametrize("side", ["connection", "sink"])
async def test_if_one_of_two_sockets_is_reset_so_is_the_other(
    secure: Secure, side: str
) -> None:
    async with sockets(secure) as (near, near_peer, far, far_peer):
        bridge = near.bridge(far)
        bridge.start()
        await near_peer.send(b"x")
        assert await far_peer.receive_exactly(1) == b"x"
        broken, other = near_peer, far_peer
        if side == "sink":
            broken, other = other, broken
        broken.reset()
        end = await bridge.closed
        assert (end.side, end.reason) == (side, "reset")
        with pytest.raises((loops.BrokenResourceError, ConnectionResetError)):
            await other.receive()
        await near.closed
        await far.closed


@pytest.mark.parametrize("who", ["connection", "sink"])
async def test_if_one_of_two_sockets_is_closed_so_is_the_other(
    secure: Secure, who: str
) -> None:
    async with sockets(secure) as (near, near_peer, far, far_peer):
        bridge = near.bridge(far)
        bridge.start()
        await near_peer.send(b"x")
        assert await far_peer.receive_exactly(1) == b"x"
        (near if who == "connection" else far).close()
        assert await near_peer.receive_to_end() == b""
        assert await far_peer.receive_to_end() == b""
        end = await bridge.closed
        assert (end.side, end.reason) == (who, "closed")
        await near.closed
        await far.closed


async def test_if_one_of_two_sockets_is_aborted_so_is_the_other(
    secure: Secure,
) -> None:
    async with sockets(secure) as (near, near_peer, far, far_peer):
        bridge = near.bridge(far)
        bridge.start()
        await near_peer.send(b"x")
        assert await far_peer.receive_exactly(1) == b"x"
        far.close(ValueError("mine"))
        end = await bridge.closed
        assert (end.side, end.reason) == ("sink", "closed")
        for peer in (near_peer, far_peer):
            with pytest.raises((loops.BrokenResourceError, ConnectionResetError)):
                await peer.receive()
        await near.closed


async def test_a_sink_that_cannot_be_lent_leaves_the_first_socket_alone() -> None:
    async with sockets("off") as (near, _, far, _):
        writer = far.writable.getWriter()
        assert "release" in await refused(near, far)
        writer.releaseLock()
        await far.close()
        assert "close()" in await refused(near, far)
        assert not near.readable.locked
