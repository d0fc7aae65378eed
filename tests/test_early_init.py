"""What Socket() is told, and that the connection is made accordingly."""

from __future__ import annotations

import math
import socket as _socket
from typing import Any

import pytest

from tests import certificates, loops
from tests.early import constructed, remote
from tests.loopback import Peer, Secure, listening, server_context
from tests.naming import named
from tests.wires import SSLStream
from wsockets import SessionCache, Socket, SocketAddress, SocketError, UnixAddress
from wsockets.early.init import read_init, read_type, read_update

pytestmark = pytest.mark.every_loop

SOMEWHERE = {"address": "127.0.0.1", "port": 9}


def refused(**members: Any) -> SocketError:
    with pytest.raises(SocketError) as caught:
        read_init(None, {"remote": SOMEWHERE, **members})
    return caught.value


# -- types


async def test_each_type_makes_the_socket_that_it_should(secure: Secure) -> None:
    async with constructed(secure) as (socket, peer):
        assert socket.secureTransport == ("on" if secure == "on" else "starttls")
        await socket.writable.getWriter().write("ping")
        assert await peer.receive_exactly(4) == b"ping"
        await peer.send(b"pong")
        assert (await socket.readable.getReader().read()).value == b"pong"


async def test_the_name_of_a_protocol_is_tls_that_has_to_agree_on_it() -> None:
    async with constructed("on", type="echo") as (socket, _):
        assert (await socket.opened).alpn == "echo"
    async with listening() as (listener, port):
        socket = Socket(
            type="other", remote=remote(port, "on"), ca=certificates.authority().pem
        )
        async with loops.open_nursery() as nursery:

            @nursery.start_soon
            async def serve() -> None:
                stream = SSLStream(
                    await listener.accept(), server_context(), server_side=True
                )
                async with stream.transport_stream:
                    with pytest.raises(loops.BrokenResourceError):
                        await stream.do_handshake()
                        await stream.receive_some()

            with pytest.raises(SocketError) as caught:
                await socket.ready
            assert caught.value.code == "alpn"


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("udp", "option", "UDPSocket"),
        ("quic", "option", "not there yet"),
        ("TCP", "option", "TCP"),
        ("", "option", "1 to 255"),
        ("x" * 256, "option", "1 to 255"),
        (1, "option", "tcp"),
    ],
    ids=named,
)
def test_other_types_are_refused(value: Any, code: str, words: str) -> None:
    error = refused(type=value)
    assert error.code == code
    assert words in str(error)


def test_a_type_is_tls_or_not_with_a_protocol_or_without() -> None:
    assert read_type("tcp") == (False, ())
    assert read_type("tls") == (True, ())
    assert read_type("h2") == (True, ("h2",))


# -- addresses


@pytest.mark.parametrize(
    "value",
    [
        {"address": "LOCALHOST", "port": 80},
        {"hostname": "localhost", "port": 80},
        {"hostname": "localhost", "address": "localhost", "port": 80},
        SocketAddress("localhost", 80),
        "localhost:80",
    ],
    ids=named,
)
def test_a_remote_address_has_many_forms(value: Any) -> None:
    assert read_init({"remote": value}, {}).remote == SocketAddress("localhost", 80)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "option"),
        (80, "option"),
        ({"address": "localhost"}, "address"),
        ({"port": 80}, "address"),
        ({"address": "a", "hostname": "b", "port": 80}, "option"),
        ({"address": "localhost", "port": "80"}, "address"),
        ("unix:/tmp/x", "option"),
        (UnixAddress("/tmp/x"), "option"),
    ],
    ids=named,
)
def test_other_remote_addresses_are_refused(value: Any, code: str) -> None:
    assert refused(remote=value).code == code


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"address": "127.0.0.2"}, ("127.0.0.2", 0)),
        ({"port": 5}, ("", 5)),
        ({}, ("", 0)),
        (SocketAddress("::1", 7), ("::1", 7)),
    ],
    ids=named,
)
def test_either_part_of_a_local_address_may_be_missing(
    value: Any, expected: tuple[str, int]
) -> None:
    local = read_init({"remote": SOMEWHERE, "local": value}, {}).local
    assert local == SocketAddress(*expected)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"address": "localhost"}, "address"),
        ({"port": -1}, "address"),
        ("127.0.0.1:0", "option"),
    ],
    ids=named,
)
def test_other_local_addresses_are_refused(value: Any, code: str) -> None:
    assert refused(local=value).code == code


async def test_it_connects_from_the_local_address() -> None:
    with _socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    async with constructed(local={"address": "127.0.0.2", "port": port}) as (socket, _):
        assert socket.info.local == SocketAddress("127.0.0.2", port)
    # The port is in TIME_WAIT or was so a moment ago: it can be used again.
    async with constructed(local={"port": port}) as (socket, _):
        assert socket.info.local is not None
        assert socket.info.local.port == port


async def test_a_local_address_that_is_taken_is_named_in_the_error() -> None:
    with _socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        socket = Socket(remote=SOMEWHERE, local={"address": "127.0.0.1", "port": port})
        with pytest.raises(SocketError, match=f"from 127.0.0.1:{port}") as caught:
            await socket.ready
        assert caught.value.code == "os"


# -- options of the system


async def test_they_are_set_before_it_connects() -> None:
    wanted: dict[str, Any] = {
        "noDelay": False,
        "ttl": 33,
        "keepAlive": True,
        "keepAliveDelay": 60,
        "keepAliveInterval": 7,
        "keepAliveCount": 5,
        "linger": 4,
    }
    async with constructed(**wanted, sendBufferSize=8192, receiveBufferSize=16384) as (
        socket,
        peer,
    ):
        found = socket.system_options()
        assert {name: getattr(found, name) for name in wanted} == wanted
        # Linux doubles them.
        assert found.sendBufferSize == 2 * 8192
        assert found.receiveBufferSize == 2 * 16384
        # Set in time for the handshake, it limits the window.
        peer.tcp.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 1 << 20)
        with loops.move_on_after(0.2):
            await peer.send(bytes(1 << 20))
        received = socket.stats.bytesReceived
        assert received is not None
        assert received < 1 << 17


async def test_without_a_word_small_segments_go_at_once() -> None:
    async with constructed() as (socket, _):
        assert socket.system_options().noDelay is True


# -- the rest


def test_either_spelling_in_a_mapping_or_as_keywords() -> None:
    init = read_init(
        {"remote": SOMEWHERE, "ready_timeout": 1500, "unknown": 1, "no_delay": True},
        {"idleTimeout": 250, "allow_pooling": False, "send_buffer_size": 4096},
    )
    assert init.ready_timeout == 1.5
    assert init.idle_timeout == 0.25
    assert init.system.noDelay is True
    assert init.system.sendBufferSize == 4096
    assert init.options.connectTimeout == math.inf
    assert init.options.handshakeTimeout == 30
    longer = read_init({"remote": SOMEWHERE, "readyTimeout": 60_000}, {})
    assert longer.options.handshakeTimeout > 60


def test_no_time_is_no_limit_of_its_own() -> None:
    init = read_init({"remote": SOMEWHERE, "readyTimeout": 0, "idleTimeout": 0}, {})
    assert init.ready_timeout is init.idle_timeout is None
    assert init.options.connectTimeout == init.options.handshakeTimeout == 30


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("readyTimeout", -1),
        ("readyTimeout", 1.5),
        ("readyTimeout", 2**32),
        ("idleTimeout", True),
        ("idleTimeout", "1"),
        ("allowPooling", 1),
        ("signal", object()),
        ("servername", "127.0.0.1"),
        ("session", b"bytes"),
        ("ttl", 0),
        ("noDelay", 1),
        ("body", 1),
        ("body", {}),
        ("verify", "maybe"),
    ],
    ids=named,
)
def test_a_member_that_cannot_be_is_refused(member: str, value: Any) -> None:
    error = refused(**{member: value})
    assert error.code == "option"
    assert member in str(error)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="remotes") as caught:
        read_init(None, {"remotes": SOMEWHERE})
    assert not isinstance(caught.value, SocketError)


def test_a_session_is_a_cache_that_may_have_either_name() -> None:
    cache = SessionCache()
    init = read_init({"remote": SOMEWHERE, "session": cache}, {})
    assert init.tls.sessions is cache
    init = read_init({"remote": SOMEWHERE, "session": cache, "sessions": cache}, {})
    assert init.tls.sessions is cache
    assert refused(session=cache, sessions=SessionCache()).code == "option"


async def test_a_session_is_gone_on_with() -> None:
    cache = SessionCache()
    resumed = []
    async with listening() as (listener, port):
        for _ in range(2):
            socket = Socket(
                type="tls",
                remote=remote(port, "on"),
                ca=certificates.authority().pem,
                session=cache,
            )
            peer = Peer(await listener.accept())
            await peer.secure()
            await socket.ready
            await peer.send(b"x")
            await socket.readable.getReader().read()
            details = socket.tls_info()
            assert details is not None
            resumed.append(details.resumed)
            await socket.close()
            await peer.close()
    assert resumed == [False, True]


async def test_what_tls_needs_is_looked_at_by_the_constructor() -> None:
    with pytest.raises(SocketError) as caught:
        Socket(type="tls", remote=SOMEWHERE, ca="no certificate")
    assert caught.value.code == "option"


async def test_a_nursery_is_the_event_loops() -> None:
    with pytest.raises(SocketError, match="nursery"):
        Socket(remote=SOMEWHERE, nursery=object())
    async with listening() as (_, port):
        async with loops.native_nursery() as (nursery, cancel):
            socket = Socket(remote=remote(port), nursery=nursery)
            await socket.ready
            cancel()
        await socket.closed


# -- changes


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"remote": SOMEWHERE}, "remote"),
        ({"local": {}}, "local"),
        ({"body": "x"}, "body"),
        ({"ca": "x"}, "ca with type"),
        ({"servername": "localhost"}, "servername with type"),
        ({"type": "tcp", "ca": "x"}, "ca with type"),
        ({"type": "udp"}, "UDPSocket"),
        ({"ttl": 999}, "ttl"),
    ],
    ids=named,
)
def test_what_an_update_cannot_change_is_refused(
    members: dict[str, Any], words: str
) -> None:
    with pytest.raises(SocketError, match=words) as caught:
        read_update(members, {})
    assert caught.value.code == "option"


def test_an_update_has_what_was_given_and_nothing_else() -> None:
    nothing = read_update(None, {})
    assert nothing.system is None
    assert nothing.ready_timeout is nothing.idle_timeout is None
    assert nothing.secure is None
    some = read_update({"idleTimeout": 0}, {"type": "h2", "ca": "x"})
    assert some.idle_timeout == 0
    assert some.secure is True
    assert some.alpn == ("h2",)
    assert some.tls == {"ca": "x"}
