"""A Socket under trio's own rules, and in the hands of trio's own code."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import h11
import pytest
import trio
import trio.testing

from tests import certificates
from tests.loopback import (
    Peer,
    Secure,
    binding,
    connected,
    listening,
    server_context,
    settle,
)
from tests.network import closed_port
from tests.wires import SSLStream
from wsockets import Socket, SocketError, adopt, connect
from wsockets.trio_stream import SocketStream

Pair: TypeAlias = tuple[SocketStream, SocketStream]


def stream_of(socket: Socket) -> SocketStream:
    return SocketStream(socket)


async def unix_pair(**members: Any) -> Pair:
    """Two streams that are each other's peers."""
    left, right = socket.socketpair()
    return (
        stream_of(adopt(left, allowHalfOpen=True, **members)),
        stream_of(adopt(right, allowHalfOpen=True, **members)),
    )


async def tcp_pair(secure: Secure, **members: Any) -> Pair:
    issued = certificates.server()
    async with listening() as (listener, port):
        left = binding().connect(
            f"localhost:{port}",
            secureTransport=secure,
            allowHalfOpen=True,
            **members,
        )
        right = adopt(
            socket.socket(fileno=(await listener.accept()).socket.detach()),
            secureTransport=secure,
            role="server",
            cert=issued.chain,
            key=issued.key,
            allowHalfOpen=True,
            **members,
        )
    return stream_of(left), stream_of(right)


async def clogged(make: Callable[..., Awaitable[Pair]], *kind: Secure) -> Pair:
    """A pair of which neither takes any more."""
    pair = await make(*kind, highWaterMark=1)
    for stream in pair:
        await stream.socket.opened
        # Buffers that the kernel does not enlarge.
        assert stream.socket._connection is not None
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock = stream.socket._connection.socket
            sock.setsockopt(socket.SOL_SOCKET, buffer, 1 << 17)
    for stream in pair:
        assert stream._writer.write(bytes(1 << 20))._is_pending()
    return pair


# -- trio's conformance kit


async def test_a_stream_is_what_trio_expects(secure: Secure) -> None:
    # One of the checks writes until a closed peer no longer takes it.
    make = functools.partial(tcp_pair, closeTimeout=0.2)
    await trio.testing.check_half_closeable_stream(
        lambda: make(secure), lambda: clogged(make, secure)
    )


async def test_a_stream_over_a_unix_socket_is_too() -> None:
    await trio.testing.check_half_closeable_stream(
        unix_pair, lambda: clogged(unix_pair)
    )


# -- its own rules


async def test_bytes_go_both_ways(secure: Secure) -> None:
    left, right = await tcp_pair(secure)
    async with left, right:
        await left.send_all(b"hello")
        assert await right.receive_some() == b"hello"
        await right.send_all(bytearray(b"and "))
        await right.send_all(memoryview(b"back"))
        assert await left.receive_some(4) == b"and "
        assert await left.receive_some() == b"back"


async def test_no_more_is_received_than_was_asked_for(secure: Secure) -> None:
    left, right = await tcp_pair(secure)
    async with left, right:
        await left.send_all(bytes(100_000))
        found = 0
        while found < 100_000:
            chunk = await right.receive_some(1 << 20)
            assert 0 < len(chunk) <= 65536
            found += len(chunk)


async def test_a_socket_that_is_not_half_open_is_refused() -> None:
    async with connected() as (socket, _):
        with pytest.raises(ValueError, match="allowHalfOpen"):
            SocketStream(socket)
        assert not socket.readable.locked
        assert not socket.writable.locked


@pytest.mark.parametrize("which", ["readable", "writable"])
async def test_a_locked_one_is_refused_and_the_other_stays_free(which: str) -> None:
    async with connected(allowHalfOpen=True) as (socket, _):
        if which == "readable":
            socket.readable.getReader()
        else:
            socket.writable.getWriter()
        with pytest.raises(TypeError, match="locked"):
            SocketStream(socket)
        assert socket.readable.locked == (which == "readable")
        assert socket.writable.locked == (which == "writable")


async def test_it_locks_both_and_knows_its_socket() -> None:
    async with connected(allowHalfOpen=True) as (socket, _):
        stream = SocketStream(socket)
        assert stream.socket is socket
        assert socket.readable.locked
        assert socket.writable.locked


async def test_a_socket_that_cannot_open_is_broken() -> None:
    operations: list[Callable[[SocketStream], Awaitable[object]]] = [
        lambda stream: stream.receive_some(),
        lambda stream: stream.send_all(b"x"),
        lambda stream: stream.send_eof(),
    ]
    for operation in operations:
        with closed_port() as port:
            stream = SocketStream(connect(f"127.0.0.1:{port}", allowHalfOpen=True))
            with pytest.raises(trio.BrokenResourceError) as caught:
                await operation(stream)
        cause = caught.value.__cause__
        assert isinstance(cause, SocketError)
        assert cause.code == "refused"
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


async def test_operations_wait_for_the_socket_to_open(secure: Secure) -> None:
    async with listening() as (listener, port):
        socket = binding().connect(
            f"localhost:{port}", secureTransport=secure, allowHalfOpen=True
        )
        stream = SocketStream(socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"early")
            transport: Any = await listener.accept()
            if secure == "on":
                transport = SSLStream(transport, server_context(), server_side=True)
            assert await transport.receive_some() == b"early"
        await stream.aclose()
        await Peer(transport).close()


async def test_a_reset_is_broken_with_the_reason_as_cause(secure: Secure) -> None:
    async with connected(secure, allowHalfOpen=True) as (socket, peer):
        stream = SocketStream(socket)
        peer.reset()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, SocketError)
        assert caught.value.__cause__.code == "reset"
        for again in (stream.receive_some, stream.send_eof):
            with pytest.raises(trio.BrokenResourceError):
                await again()


async def test_an_end_without_close_notify_is_broken() -> None:
    async with connected("on", allowHalfOpen=True) as (socket, peer):
        stream = SocketStream(socket)
        await peer.cut()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, SocketError)
        assert caught.value.__cause__.code == "truncated"


async def test_what_is_no_bytes_is_a_TypeError_and_breaks_nothing() -> None:
    async with connected(allowHalfOpen=True) as (socket, peer):
        stream = SocketStream(socket)
        with pytest.raises(TypeError, match="bytes-like"):
            await stream.send_all(object())  # type: ignore[arg-type]
        await stream.send_all(b"well")
        assert await peer.receive() == b"well"


@pytest.mark.parametrize("wrong", [True, 1.0, "1"])
async def test_max_bytes_is_an_int(wrong: Any) -> None:
    async with connected(allowHalfOpen=True) as (socket, _):
        with pytest.raises(TypeError, match="max_bytes"):
            await SocketStream(socket).receive_some(wrong)


async def test_after_the_end_was_sent_nothing_more_is(secure: Secure) -> None:
    async with connected(secure, allowHalfOpen=True) as (socket, peer):
        stream = SocketStream(socket)
        await stream.send_eof()
        with trio.testing.assert_checkpoints():
            await stream.send_eof()
        with pytest.raises(trio.ClosedResourceError, match="send_eof"):
            await stream.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError, match="send_eof"):
            await stream.wait_send_all_might_not_block()
        assert await peer.receive_to_end() == b""
        await peer.send(b"still here")
        assert await stream.receive_some() == b"still here"


async def test_the_end_from_the_peer_leaves_sending_alone(secure: Secure) -> None:
    async with connected(secure, allowHalfOpen=True) as (socket, peer):
        stream = SocketStream(socket)
        await peer.end()
        for _ in range(2):
            assert await stream.receive_some() == b""
        await stream.send_all(b"still here")
        assert await peer.receive() == b"still here"
        assert socket.closed._is_pending()


async def test_closing_sends_what_was_sent(secure: Secure) -> None:
    async with connected(secure, allowHalfOpen=True, receive_buffer=8192) as (
        socket,
        peer,
    ):
        stream = SocketStream(socket)
        count = 4 << 20
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                stream._writer.write(bytes(count))
                await stream.aclose()

            nursery.start_soon(close)
            assert len(await peer.receive_exactly(count)) == count
            assert await peer.receive() == b""
        with trio.testing.assert_checkpoints():
            await stream.aclose()


async def test_closing_that_is_cancelled_resets_the_connection(secure: Secure) -> None:
    left, right = await clogged(tcp_pair, secure)
    with trio.move_on_after(0.01) as scope:
        await left.aclose()
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await right.receive_some()
    await right.aclose()


async def test_whoever_waits_learns_that_it_was_closed(secure: Secure) -> None:
    left, right = await tcp_pair(secure)
    await left.socket.opened

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await settle()
        await left.aclose()
    assert await right.receive_some() == b""
    await right.aclose()


# -- in the hands of others


async def test_trios_own_TLS_runs_over_it() -> None:
    context = ssl.create_default_context(cadata=certificates.authority().pem)
    data = bytes(range(256)) * 10_000
    left, right = await tcp_pair("off")
    client = trio.SSLStream(left, context, server_hostname="localhost")
    server = trio.SSLStream(right, server_context(), server_side=True)

    async def serve() -> None:
        async with server:
            async for chunk in server:
                await server.send_all(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with client:
            nursery.start_soon(client.send_all, data)
            found = bytearray()
            while len(found) < len(data):
                found += await client.receive_some()
    assert found == data


async def test_an_HTTP_client_runs_over_it(secure: Secure) -> None:
    async with connected(secure, allowHalfOpen=True) as (socket, peer):
        stream = SocketStream(socket)
        http = h11.Connection(h11.CLIENT)
        await stream.send_all(
            http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
            + http.send(h11.EndOfMessage())
        )
        head = await peer.receive()
        assert head.startswith(b"GET / HTTP/1.1\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await peer.send(b"llo")
        body = b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Data):
                body += event.data
        assert body == b"hello"


async def test_it_can_be_stapled_and_iterated(secure: Secure) -> None:
    left, right = await tcp_pair(secure)
    stapled = trio.StapledStream(left, left)
    async with right:
        async with stapled:
            await stapled.send_all(b"one ")
            await stapled.send_all(b"two")
            await stapled.send_eof()
            received = b"".join([chunk async for chunk in right])
        assert received == b"one two"


def test_on_another_event_loop_it_is_refused() -> None:
    async def main() -> None:
        made = connect("127.0.0.1:1", allowHalfOpen=True)
        with pytest.raises(RuntimeError, match="runs on asyncio"):
            SocketStream(made)
        assert not made.readable.locked
        made.close()

    asyncio.run(main())
