"""Binding objects: whom to trust, whom to dial, and through whom."""

from __future__ import annotations

import socket as _socket
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from tests import certificates, loops
from tests.dialling import Allow, Names
from tests.loopback import Peer, listening, server_context
from tests.network import closed_port, connections, listener
from tests.proxies import HttpProxy, Socks5Proxy, TestProxy, echo_server, served
from tests.wires import SocketStream, SSLStream, open_tcp_stream
from wsockets import (
    Binding,
    Socket,
    SocketError,
    TlsOptions,
    adopt,
    connect,
    deny_private,
)

pytestmark = pytest.mark.every_loop

TRUSTED = TlsOptions(ca=certificates.authority().pem)


async def failed(socket: Socket) -> SocketError:
    """The one error of a socket that never opened."""
    found = []
    for promise in (socket.opened, socket.closed):
        with pytest.raises(SocketError) as caught:
            await promise
        found.append(caught.value)
    assert found[0] is found[1]
    return found[0]


def where(sock: _socket.socket) -> str:
    """The address of a socket on 127.0.0.1."""
    return f"127.0.0.1:{sock.getsockname()[1]}"


# -- what a Binding is


def test_it_is_made_of_nothing_too() -> None:
    made = Binding()
    assert made.tls == TlsOptions()
    assert made.policy is None
    assert made.proxy is None
    assert made.proxyResolve is made.proxy_resolve is False
    assert made.resolver is None
    assert made == Binding(None) == Binding({}) == Binding(tls=None, proxy=None)


def test_it_is_made_of_a_mapping_or_keywords_in_either_spelling() -> None:
    proxy = "http://127.0.0.1:3128"
    made = Binding({"proxy": proxy, "proxyResolve": True, "unknown": 1})
    assert made == Binding(proxy=proxy, proxy_resolve=True)
    assert made.proxy_resolve
    assert Binding(proxy=made.proxy).proxy == made.proxy
    assert str(made.proxy) == proxy


def test_it_is_immutable() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Binding().tls = TRUSTED  # type: ignore[misc]


async def no_policy(_host: str, _address: str, _port: int) -> bool:
    raise AssertionError("it is never called")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"tls": {}}, "tls"),
        ({"tls": True}, "tls"),
        ({"policy": True}, "policy"),
        ({"policy": no_policy}, "policy"),
        ({"proxy": "ftp://127.0.0.1:21"}, "proxy"),
        ({"proxy": 3128}, "proxy"),
        ({"proxyResolve": True}, "proxyResolve"),
        ({"proxy": "http://127.0.0.1:1", "proxyResolve": 1}, "proxyResolve"),
        (
            {
                "proxy": "http://127.0.0.1:1",
                "proxyResolve": True,
                "policy": deny_private(),
            },
            "policy",
        ),
        ({"resolver": []}, "resolver"),
        ({"proxyResolve": False, "proxy_resolve": False}, "twice"),
    ],
    ids=[
        "tls as a mapping",
        "tls",
        "policy",
        "an async policy",
        "a strange proxy",
        "proxy",
        "proxyResolve without a proxy",
        "proxyResolve",
        "proxyResolve with a policy",
        "resolver",
        "both spellings",
    ],
)
def test_anything_else_is_refused(members: dict[str, Any], named: str) -> None:
    makes: list[Callable[[], Binding]] = [
        lambda: Binding(members),
        lambda: Binding(**members),
    ]
    for make in makes:
        with pytest.raises(SocketError, match=named) as caught:
            make()
        assert caught.value.code == "option"


def test_an_unknown_keyword_is_a_TypeError() -> None:
    with pytest.raises(TypeError, match=r"Binding\(\).*'ca'") as caught:
        Binding(ca="…")  # type: ignore[call-arg]
    assert not isinstance(caught.value, SocketError)


# -- trust


async def test_its_TlsOptions_are_those_of_its_sockets() -> None:
    async with listening() as (server, port):
        trusting = Binding(tls=TRUSTED)
        for bind, code in ((trusting, None), (Binding(), "tls-verify")):
            socket = bind.connect(f"localhost:{port}", secureTransport="on")
            stream = SSLStream(
                await server.accept(), server_context(), server_side=True
            )
            try:
                await stream.do_handshake()
                await stream.send_all(b"x")
            except loops.BrokenResourceError:
                pass
            if code is None:
                await socket.opened
                await socket.close()
            else:
                assert (await failed(socket)).code == code
            await Peer(stream).close()


# -- resolvers


async def test_a_resolver_is_asked_instead_of_the_system() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        names = Names([(_socket.AF_INET, "127.0.0.1")])
        async with Binding(resolver=names).connect(f"db.example:{port}") as socket:
            assert (await socket.opened).remoteAddress == f"127.0.0.1:{port}"
        assert names.asked == [("db.example", port)]
        # A numeric address needs none.
        async with Binding(resolver=names).connect(where(server)):
            pass
        assert len(names.asked) == 1


async def test_its_addresses_are_tried_until_one_connects() -> None:
    with listener("127.0.0.1") as server:
        port = server.getsockname()[1]
        names = Names([(_socket.AF_INET, "127.0.0.2"), (_socket.AF_INET, "127.0.0.1")])
        async with Binding(resolver=names).connect(f"db.example:{port}") as socket:
            assert (await socket.opened).remoteAddress == f"127.0.0.1:{port}"


async def test_its_failure_is_one_of_dns() -> None:
    async def resolver(_host: str, _port: int) -> list[tuple[int, str]]:
        raise KeyError("mine")

    error = await failed(Binding(resolver=resolver).connect("db.example:5432"))
    assert error.code == "dns"
    assert isinstance(error.__cause__, KeyError)
    assert "db.example" in str(error)


async def test_its_time_counts_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def resolver(_host: str, _port: int) -> list[tuple[int, str]]:
        await loops.sleep_forever()
        raise AssertionError

    error = await failed(Binding(resolver=resolver).connect("db.example:5432"))
    assert error.code == "timeout"
    assert "db.example:5432 within 30 s" in str(error)


async def test_the_name_that_was_asked_for_is_verified() -> None:
    async with listening() as (server, port):
        bind = Binding(tls=TRUSTED, resolver=Names([(_socket.AF_INET, "127.0.0.1")]))
        socket = bind.connect(f"db.example:{port}", secureTransport="on")
        stream = SSLStream(await server.accept(), server_context(), server_side=True)
        with pytest.raises(loops.BrokenResourceError):
            await stream.do_handshake()
            await stream.receive_some()
        error = await failed(socket)
        assert error.code == "tls-verify"
        assert "db.example" in str(error)
        await Peer(stream).close()


# -- policies


async def test_a_policy_sees_each_address_before_it_is_dialled() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        names = Names([(_socket.AF_INET, "127.0.0.2"), (_socket.AF_INET, "127.0.0.1")])
        policy = Allow("127.0.0.1")
        bind = Binding(policy=policy, resolver=names)
        async with bind.connect(f"db.example:{port}") as socket:
            assert (await socket.opened).remoteAddress == f"127.0.0.1:{port}"
        assert policy.asked == [
            ("db.example", "127.0.0.2", port),
            ("db.example", "127.0.0.1", port),
        ]


async def test_what_it_refuses_is_not_dialled() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        error = await failed(Binding(policy=Allow()).connect(where(server)))
        assert error.code == "policy"
        assert f"127.0.0.1:{port}" in str(error)
        assert connections(server) == 0


async def test_an_exception_of_a_policy_refuses_and_is_the_cause() -> None:
    def policy(_host: str, _address: str, _port: int) -> None:
        raise PermissionError("not today")

    with listener() as server:
        error = await failed(Binding(policy=policy).connect(where(server)))
        assert error.code == "policy"
        assert isinstance(error.__cause__, PermissionError)
        assert connections(server) == 0


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "[::1]:1", "10.1.2.3:1", "localhost:1", "unix:/run/x"]
)
async def test_deny_private_keeps_out_of_the_house(address: str) -> None:
    error = await failed(Binding(policy=deny_private()).connect(address))
    assert error.code == "policy"


# -- proxies


@pytest.mark.parametrize(
    ("scheme", "make"), [("http", HttpProxy), ("socks5", Socks5Proxy)]
)
class TestProxies:
    async def test_a_proxy_is_gone_through(
        self, scheme: str, make: Callable[..., TestProxy]
    ) -> None:
        proxy: Any = make(credentials=(b"user", b"word"))
        async with served(echo_server()) as target, served(proxy) as port:
            bind = Binding(proxy=f"{scheme}://user:word@127.0.0.1:{port}")
            async with bind.connect(f"127.0.0.1:{target}") as socket:
                assert (await socket.opened).remoteAddress == f"127.0.0.1:{port}"
                reader = socket.readable.getReader()
                assert (await reader.read()).value == b"hello"
                await socket.writable.getWriter().write(b"again")
                assert (await reader.read()).value == b"again"
        assert proxy.asked == ["127.0.0.1"]

    async def test_a_name_is_resolved_here_unless_the_proxy_is_to(
        self, scheme: str, make: Callable[..., TestProxy]
    ) -> None:
        proxy: Any = make(names={"db.example": "127.0.0.1"})
        names = Names([(_socket.AF_INET, "127.0.0.1")])
        async with served(echo_server()) as target, served(proxy) as port:
            url = f"{scheme}://127.0.0.1:{port}"
            for bind in (
                Binding(proxy=url, resolver=names),
                Binding(proxy=url, proxyResolve=True),
            ):
                async with bind.connect(f"db.example:{target}") as socket:
                    chunk = await socket.readable.getReader().read()
                    assert chunk.value == b"hello"
        assert proxy.asked == ["127.0.0.1", "db.example"]
        assert names.asked == [("db.example", target)]

    async def test_the_policy_judges_the_proxy_and_the_target(
        self, scheme: str, make: Callable[..., TestProxy]
    ) -> None:
        proxy: Any = make()
        async with served(echo_server()) as target, served(proxy) as port:
            policy = Allow("127.0.0.1")
            bind = Binding(proxy=f"{scheme}://127.0.0.1:{port}", policy=policy)
            async with bind.connect(f"127.0.0.1:{target}"):
                pass
            assert sorted(policy.asked) == sorted(
                [("127.0.0.1", "127.0.0.1", target), ("127.0.0.1", "127.0.0.1", port)]
            )
            error = await failed(bind.connect("192.0.2.1:80"))
            assert error.code == "policy"

    async def test_what_goes_wrong_with_it_is_said(
        self, scheme: str, make: Callable[..., TestProxy]
    ) -> None:
        del make
        with closed_port() as port:
            bind = Binding(proxy=f"{scheme}://user:secret@127.0.0.1:{port}")
            error = await failed(bind.connect("127.0.0.1:1"))
        assert error.code == "proxy"
        assert f"127.0.0.1:{port}" in str(error)
        assert "secret" not in str(error)


def leading_to(port: int) -> Callable[[SocketStream], Awaitable[None]]:
    """An HTTP proxy for targets that do not speak first; it knows one."""

    async def copy(source: SocketStream, sink: SocketStream) -> None:
        async for chunk in source:
            await sink.send_all(chunk)
        await sink.send_eof()

    async def proxy(stream: SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some()
        async with await open_tcp_stream("127.0.0.1", port) as target:
            await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
            async with loops.open_nursery() as nursery:
                nursery.start_soon(copy, stream, target)
                nursery.start_soon(copy, target, stream)

    return proxy


async def test_through_a_proxy_TLS_is_with_the_target() -> None:
    async with listening() as (server, target), served(leading_to(target)) as port:
        bind = Binding(tls=TRUSTED, proxy=f"http://127.0.0.1:{port}")
        socket = bind.connect(f"localhost:{target}", secureTransport="on")
        stream = SSLStream(await server.accept(), server_context(), server_side=True)
        await stream.do_handshake()
        info = await socket.opened
        assert info.remoteAddress == f"127.0.0.1:{port}"
        details = socket.tls_info()
        assert details is not None
        assert details.server_name == "localhost"
        await stream.send_all(b"hello")
        assert (await socket.readable.getReader().read()).value == b"hello"
        socket.close(Exception("done"))
        await Peer(stream).close()


# -- adopting, and the functions of the module


async def test_adopt_has_its_TLS_settings_too() -> None:
    issued = certificates.server()
    near, far = _socket.socketpair()
    client = Binding(tls=TRUSTED).adopt(
        near, secureTransport="on", hostname="localhost"
    )
    server = Binding(tls=TlsOptions(cert=issued.chain, key=issued.key)).adopt(
        far, secureTransport="on", role="server"
    )
    async with client, server:
        await client.writable.getWriter().write(b"hello")
        assert (await server.readable.getReader().read()).value == b"hello"


async def test_the_functions_are_those_of_a_plain_Binding() -> None:
    with listener() as server:
        async with (
            connect(where(server)) as one,
            Binding().connect(where(server)) as other,
        ):
            assert (await one.opened).remoteAddress == (
                await other.opened
            ).remoteAddress
    near, far = _socket.socketpair()
    async with adopt(near) as one, Binding().adopt(far) as other:
        await one.writable.getWriter().write(b"x")
        assert (await other.readable.getReader().read()).value == b"x"
