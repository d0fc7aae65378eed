"""adopt(): sockets made of what is connected already, on either side of TLS."""

from __future__ import annotations

import gc
import os
import socket as _socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
import trio
import trio.testing

from tests import certificates, loops, network
from tests.leaks import Snapshot, left_behind, tasks
from tests.loopback import Peer, server_context, settle
from tests.naming import named
from tests.wires import SocketStream, SSLStream
from wsockets import (
    AbortController,
    AbortSignal,
    Socket,
    SocketError,
    SocketOptions,
    adopt,
)

pytestmark = pytest.mark.every_loop

Role: TypeAlias = Literal["client", "server"]
CLIENT: dict[str, Any] = {
    "hostname": "localhost",
    "ca": certificates.authority().pem,
}
SERVER: dict[str, Any] = {
    "role": "server",
    "cert": certificates.server().chain,
    "key": certificates.server().key,
}


@contextmanager
def tcp_pair(ip: str = "127.0.0.1") -> Iterator[tuple[_socket.socket, _socket.socket]]:
    """Two sockets connected with each other, closed at the end if they are ours."""
    near, far = network.tcp_pair(ip)
    with near, far:
        yield near, far


@contextmanager
def unix_pair() -> Iterator[tuple[_socket.socket, _socket.socket]]:
    near, far = _socket.socketpair()
    with near, far:
        yield near, far


Pairs: TypeAlias = Callable[[], Any]


@pytest.fixture(params=[tcp_pair, unix_pair], ids=["tcp", "unix"])
def pairs(request: pytest.FixtureRequest) -> Pairs:
    found: Pairs = request.param
    return found


def trio_stream(sock: _socket.socket) -> SocketStream:
    return SocketStream(detached(sock))


def detached(sock: _socket.socket) -> _socket.socket:
    copy = _socket.socket(fileno=sock.detach())
    copy.setblocking(False)
    return copy


async def talk(one: Socket, other: Socket) -> None:
    """A few words each way."""
    for speaker, hearer in ((one, other), (other, one)):
        with loops.fail_after(20):
            writer = speaker.writable.getWriter()
            reader = hearer.readable.getReader()
            await writer.write(b"hello")
            assert (await reader.read()).value == b"hello"
            writer.releaseLock()
            reader.releaseLock()


# -- what is adopted


@pytest.mark.parametrize("form", ["fd", "socket"])
async def test_an_fd_or_a_socket_becomes_a_Socket(pairs: Pairs, form: str) -> None:
    with pairs() as (near, far):
        if form == "fd":
            number = near.detach()
            one = adopt(number)
        else:
            number = near.fileno()
            one = adopt(near)
            # It is ours now.
            assert near.fileno() == -1
        two = adopt(far)
        info = await one.opened
        other = await two.opened
        assert info.remoteAddress == other.localAddress
        assert one._connection is not None
        assert one._connection.socket.fileno() == number
        await talk(one, two)
        await one.close()
        assert await two.readable.getReader().read() == (None, True)
        await two.closed


async def test_it_is_made_non_blocking_and_returns_at_once() -> None:
    with unix_pair() as (near, _):
        assert near.getblocking()
        with loops.assert_no_checkpoints():
            socket = adopt(near)
        assert socket.opened._is_pending()
        await socket.opened
        assert socket._connection is not None
        assert not socket._connection.socket.getblocking()
        assert socket.secureTransport == "off"
        assert socket.tls_info() is None
        await socket.close()


async def test_addresses_are_as_of_any_other_socket(tmp_path: Path) -> None:
    with tcp_pair("::1") as (near, far):
        port = far.getsockname()[1]
        async with adopt(near) as socket:
            assert (await socket.opened).remoteAddress == f"[::1]:{port}"
    path = str(tmp_path / "socket")
    with _socket.socket(_socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        client = _socket.socket(_socket.AF_UNIX)
        client.connect(path)
        async with adopt(client) as socket:
            info = await socket.opened
            assert (info.remoteAddress, info.localAddress) == (f"unix:{path}", "unix:")


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
async def test_an_adopted_TCP_connection_does_not_delay(ip: str) -> None:
    with tcp_pair(ip) as (near, _):
        fd = near.detach()
        async with adopt(fd):
            with _socket.socket(fileno=os.dup(fd)) as sock:
                assert sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY) == 1


async def test_what_had_arrived_before_is_read() -> None:
    with unix_pair() as (near, far):
        far.send(b"already there")
        async with adopt(near) as socket:
            chunk = await socket.readable.getReader().read()
            assert chunk.value == b"already there"


async def test_a_connection_whose_peer_has_gone_is_adopted_too() -> None:
    with unix_pair() as (near, far):
        far.send(b"last words")
        far.close()
        socket = adopt(near)
        chunks = [chunk async for chunk in socket.readable]
        assert chunks == [b"last words"]
        await socket.closed


async def test_socket_options_are_those_of_connect() -> None:
    controller = AbortController()
    with unix_pair() as (near, far):
        socket = adopt(
            near,
            {"highWaterMark": 7, "unknown": 1},
            allow_half_open=True,
            signal=controller.signal,
        )
        await socket.opened
        assert socket.writable.getWriter().desiredSize == 7
        far.shutdown(_socket.SHUT_WR)
        assert await socket.readable.getReader().read() == (None, True)
        assert socket.closed._is_pending()
        controller.abort()
        await socket.closed
    with unix_pair() as (near, far):
        options = SocketOptions(highWaterMark=8)
        async with adopt(near, options) as socket:
            assert socket.writable.getWriter().desiredSize == 8


async def test_a_nursery_that_is_cancelled_aborts_it() -> None:
    with unix_pair() as (near, far):
        async with loops.native_nursery() as (nursery, cancel):
            socket = adopt(near, nursery=nursery)
            await socket.opened
            cancel()
        await socket.closed
        assert far.recv(1) == b""


async def test_a_signal_that_is_aborted_already_closes_the_fd() -> None:
    with unix_pair() as (near, far):
        socket = adopt(near, signal=AbortSignal.abort(KeyError("mine")))
        assert near.fileno() == -1
        with pytest.raises(KeyError):
            await socket.opened
        assert far.recv(1) == b""
        assert not tasks()["wsockets connect"]


async def test_closing_it_before_it_has_opened_closes_the_fd() -> None:
    with unix_pair() as (near, far):
        socket = adopt(near)
        await socket.close()
        with pytest.raises(SocketError):
            await socket.opened
        await settle()
        assert far.recv(1) == b""


# -- what is not


def closed_fd() -> int:
    with _socket.socket() as sock:
        return sock.fileno()


@contextmanager
def udp() -> Iterator[_socket.socket]:
    with (
        _socket.socket(type=_socket.SOCK_DGRAM) as one,
        _socket.socket(type=_socket.SOCK_DGRAM) as two,
    ):
        two.bind(("127.0.0.1", 0))
        one.connect(two.getsockname())
        yield one


@contextmanager
def datagrams() -> Iterator[_socket.socket]:
    one, two = _socket.socketpair(type=_socket.SOCK_DGRAM)
    with one, two:
        yield one


@contextmanager
def packets() -> Iterator[_socket.socket]:
    one, two = _socket.socketpair(type=_socket.SOCK_SEQPACKET)
    with one, two:
        yield one


@contextmanager
def unconnected() -> Iterator[_socket.socket]:
    with _socket.socket() as sock:
        yield sock


@contextmanager
def listening() -> Iterator[_socket.socket]:
    with _socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.mark.parametrize("form", ["fd", "socket"])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (udp, "is not a stream"),
        (datagrams, "is not a stream"),
        (packets, "is not a stream"),
        (unconnected, "is not connected"),
        (listening, "is not connected"),
    ],
)
async def test_a_socket_of_another_kind_stays_the_callers(
    make: Callable[[], Any], why: str, form: str
) -> None:
    with make() as sock:
        number = sock.fileno()
        with pytest.raises(SocketError, match=why) as caught:
            adopt(number if form == "fd" else sock)
        assert caught.value.code == "option"
        assert f"fd {number} " in str(caught.value)
        gc.collect()
        assert sock.fileno() == number
        os.fstat(number)
        assert sock.getblocking()


async def test_an_fd_that_is_no_socket_stays_the_callers() -> None:
    reading, writing = os.pipe()
    for fd in (reading, writing):
        with pytest.raises(SocketError, match="is not a socket") as caught:
            adopt(fd)
        assert caught.value.code == "option"
        assert isinstance(caught.value.__cause__, OSError)
        gc.collect()
        os.close(fd)


@pytest.mark.parametrize(
    "fd",
    [closed_fd, lambda: -1, lambda: 1 << 40],
    ids=["closed", "negative", "too large"],
)
async def test_an_fd_that_is_not_open_is_refused(fd: Callable[[], int]) -> None:
    with pytest.raises(SocketError, match="is no") as caught:
        adopt(fd())
    assert caught.value.code == "option"


async def test_a_closed_socket_is_refused() -> None:
    with _socket.socket() as sock:
        pass
    with pytest.raises(SocketError) as caught:
        adopt(sock)
    assert caught.value.code == "option"


async def test_what_Pythons_ssl_has_wrapped_stays_the_callers() -> None:
    context = ssl.create_default_context()
    with unix_pair() as (near, _):
        wrapped = context.wrap_socket(
            near, server_hostname="localhost", do_handshake_on_connect=False
        )
        with wrapped:
            with pytest.raises(SocketError, match="Python's ssl") as caught:
                adopt(wrapped)
            assert caught.value.code == "option"
            assert wrapped.fileno() >= 0


@pytest.mark.parametrize("wrong", [True, False, None, "3", 3.0, b"3", object()])
async def test_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(SocketError, match=type(wrong).__name__) as caught:
        adopt(wrong)
    assert caught.value.code == "option"


@pytest.mark.parametrize(
    "members",
    [
        {"secureTransport": "tls"},
        {"secureTransport": "on"},
        {"secureTransport": "on", "hostname": "localhost", "ca": "not a certificate"},
        {"secureTransport": "on", "role": "server"},
        {"role": "peer"},
        {"hostname": ""},
        {"sni": "example.com"},
        {"verify": "perhaps"},
        {"nursery": "nobody's"},
    ],
    ids=named,
)
async def test_wrong_options_leave_the_fd_to_the_caller(
    members: dict[str, Any],
) -> None:
    with unix_pair() as (near, far):
        with pytest.raises(SocketError) as caught:
            adopt(near, **members)
        assert caught.value.code == "option"
        gc.collect()
        near.send(b"still mine")
        assert far.recv(10) == b"still mine"
        assert near.getblocking()


async def test_so_does_an_unknown_keyword() -> None:
    with unix_pair() as (near, _):
        with pytest.raises(TypeError, match=r"adopt\(\).*'host_name'"):
            adopt(near, host_name="localhost")  # type: ignore[call-arg]
        assert near.fileno() >= 0


async def test_so_does_a_nursery_that_is_over() -> None:
    async with loops.native_nursery() as (nursery, _):
        pass
    with unix_pair() as (near, far):
        with pytest.raises(RuntimeError):
            adopt(near, nursery=nursery)
        gc.collect()
        near.send(b"still mine")
        assert far.recv(10) == b"still mine"


def test_so_does_the_lack_of_an_event_loop() -> None:
    with unix_pair() as (near, far):
        with pytest.raises(RuntimeError, match="event loop"):
            adopt(near)
        near.send(b"still mine")
        assert far.recv(10) == b"still mine"


# -- TLS, on either side


async def test_the_two_roles_shake_hands_with_each_other(pairs: Pairs) -> None:
    before = Snapshot.take()
    with pairs() as (near, far):
        client = adopt(near, secureTransport="on", alpn=["a", "b"], **CLIENT)
        server = adopt(far, secureTransport="on", alpn=["b", "c"], **SERVER)
        assert (await client.opened).alpn == (await server.opened).alpn == "b"
        await talk(client, server)
        info = client.tls_info()
        assert info is not None
        assert info.server_name == "localhost"
        assert info.verified
        assert info.certificates[0] == certificates.server().der
        await client.close()
        assert await server.readable.getReader().read() == (None, True)
        await server.closed
    await settle()
    assert not left_behind(before)


@pytest.mark.parametrize("role", ["client", "server"])
async def test_the_peer_may_be_of_another_make(pairs: Pairs, role: Role) -> None:
    with pairs() as (near, far):
        if role == "client":
            socket = adopt(near, secureTransport="on", **CLIENT)
            stream = SSLStream(trio_stream(far), server_context(), server_side=True)
        else:
            socket = adopt(near, secureTransport="on", **SERVER)
            context = ssl.create_default_context(cadata=certificates.authority().pem)
            stream = SSLStream(trio_stream(far), context, server_hostname="localhost")
        await stream.do_handshake()
        await stream.send_all(b"hello")
        assert (await socket.readable.getReader().read()).value == b"hello"
        await socket.writable.getWriter().write(b"and back")
        assert await stream.receive_some() == b"and back"
        socket.close(Exception("done"))
        await Peer(stream).close()


async def test_the_name_is_verified() -> None:
    with unix_pair() as (near, far):
        client = adopt(
            near, secureTransport="on", **{**CLIENT, "hostname": "db.example"}
        )
        server = adopt(far, secureTransport="on", **SERVER)
        with pytest.raises(SocketError, match=r"db\.example") as caught:
            await client.opened
        assert caught.value.code == "tls-verify"
        with pytest.raises(SocketError) as caught:
            await server.opened
            await server.readable.getReader().read()
        assert caught.value.code == "tls-alert"


async def test_a_hostname_may_be_an_address() -> None:
    with unix_pair() as (near, far):
        client = adopt(
            near, secureTransport="on", **{**CLIENT, "hostname": "127.0.0.1"}
        )
        async with adopt(far, secureTransport="on", **SERVER), client:
            info = client.tls_info()
            assert info is not None
            assert info.server_name is None
            assert info.verified


async def test_a_client_that_verifies_nothing_needs_no_name() -> None:
    with unix_pair() as (near, far):
        client = adopt(near, secureTransport="on", verify="none")
        async with adopt(far, secureTransport="on", **SERVER) as server, client:
            await talk(client, server)
            info = client.tls_info()
            assert info is not None
            assert not info.verified


async def test_a_silent_peer_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with unix_pair() as (near, _):
        socket = adopt(near, secureTransport="on", handshakeTimeout=3, **CLIENT)
        with pytest.raises(SocketError, match=r"3 s \(handshakeTimeout\)") as caught:
            await socket.opened
        assert caught.value.code == "timeout"


@pytest.mark.parametrize("members", [{}, {"secure_transport": "off"}])
async def test_without_TLS_its_settings_do_not_matter(members: dict[str, Any]) -> None:
    with unix_pair() as (near, far):
        async with adopt(near, members, **CLIENT) as socket:
            assert socket.tls_info() is None
            await socket.writable.getWriter().write(b"plain")
            assert far.recv(10) == b"plain"


# -- STARTTLS, on either side


@pytest.mark.parametrize("given", ["with adopt()", "with startTls()"])
async def test_both_sides_can_go_over_to_TLS(pairs: Pairs, given: str) -> None:
    of_client, of_server = dict(CLIENT), dict(SERVER)
    later_client: dict[str, Any] = {}
    later_server: dict[str, Any] = {}
    if given == "with startTls()":
        later_client = {"ca": of_client.pop("ca")}
        later_server = {name: of_server.pop(name) for name in ("cert", "key")}
    with pairs() as (near, far):
        client = adopt(near, secureTransport="starttls", **of_client)
        server = adopt(far, secureTransport="starttls", **of_server)
        await talk(client, server)
        writer = client.writable.getWriter()
        await writer.write(b"STARTTLS")
        reader = server.readable.getReader()
        assert (await reader.read()).value == b"STARTTLS"
        secure_server = server.startTls(later_server)
        secure_client = client.startTls(**later_client)
        await secure_client.opened
        await secure_server.opened
        assert client.upgraded
        assert server.upgraded
        await talk(secure_client, secure_server)
        await secure_client.close()
        assert await secure_server.readable.getReader().read() == (None, True)
        await secure_server.closed


@pytest.mark.parametrize("kind", ["off", "on"])
async def test_others_cannot(kind: Literal["off", "on"]) -> None:
    with unix_pair() as (near, far):
        client = adopt(near, secureTransport=kind, **CLIENT)
        server = adopt(far, secureTransport=kind, **SERVER)
        async with client, server:
            for socket in (client, server):
                with pytest.raises(SocketError, match=f'"{kind}"') as caught:
                    socket.startTls()
                assert caught.value.code == "state"


async def test_a_server_that_has_no_certificate_learns_it_from_startTls() -> None:
    with unix_pair() as (near, _):
        server = adopt(near, secureTransport="starttls", role="server")
        await server.opened
        with pytest.raises(SocketError, match="cert") as caught:
            server.startTls()
        assert caught.value.code == "option"
        # Nothing has happened.
        assert not server.upgraded
        await server.close()


async def test_TLS_settings_may_be_in_a_mapping_and_the_rest_in_keywords() -> None:
    with unix_pair() as (near, far):
        client = adopt(near, CLIENT, secure_transport="on", min_version="1.3")
        server = adopt(far, {**SERVER, "maxVersion": "1.3"}, secureTransport="on")
        async with client, server:
            await talk(client, server)
