from __future__ import annotations

import errno
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests import loops
from tests.dialling import Allow, Names, failure
from tests.leaks import Snapshot
from tests.network import (
    closed_port,
    connections,
    listener,
    watched,
)
from tests.proxies import (
    HttpProxy,
    Socks5Proxy,
    echo_server,
    scripted,
    served,
)
from tests.wires import SocketStream
from wsockets.address import SocketAddress, UnixAddress
from wsockets.dial import Proxy, dial, parse_proxy
from wsockets.errors import SocketError
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


KINDS = ["http", "socks5"]


def make(kind: str, **members: Any) -> HttpProxy | Socks5Proxy:
    return (HttpProxy if kind == "http" else Socks5Proxy)(**members)


def at_port(kind: str, port: int, userinfo: str = "", host: str = "127.0.0.1") -> Proxy:
    return parse_proxy(f"{kind}://{userinfo}{host}:{port}")


async def talk(sock: socket.socket) -> None:
    """The far end of `sock` is an echo server, of which nothing is lost."""
    stream = SocketStream(sock)
    heard = b""
    await stream.send_all(b" world")
    while len(heard) < len(b"hello world"):
        heard += await stream.receive_some(1)
    assert heard == b"hello world"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_a_proxy_connects_to_a_numeric_address(kind: str, ip: str) -> None:
    proxy = make(kind)
    async with served(echo_server(), ip) as port, served(proxy) as proxy_port:
        address = SocketAddress(ip, port)
        with await dial(current(), address, proxy=at_port(kind, proxy_port)) as sock:
            assert sock.getpeername() == ("127.0.0.1", proxy_port)
            await talk(sock)
    assert proxy.asked == [ip]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_is_given_the_address_of_a_name(kind: str) -> None:
    proxy = make(kind)
    names = Names([(V4, "127.0.0.1")])
    async with served(echo_server()) as port, served(proxy) as proxy_port:
        address = SocketAddress("a.example", port)
        with await dial(
            current(), address, proxy=at_port(kind, proxy_port), resolver=names
        ) as sock:
            await talk(sock)
    assert proxy.asked == ["127.0.0.1"]
    assert names.asked == [("a.example", port)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_is_given_the_name_if_it_is_to_resolve_it(kind: str) -> None:
    proxy = make(kind, names={"a.example": "127.0.0.1"})
    names = Names([])
    async with served(echo_server()) as port, served(proxy) as proxy_port:
        with await dial(
            current(),
            SocketAddress("a.example", port),
            proxy=at_port(kind, proxy_port),
            proxy_resolve=True,
            resolver=names,
        ) as sock:
            await talk(sock)
    assert proxy.asked == ["a.example"]
    assert not names.asked


@pytest.mark.parametrize("kind", KINDS)
async def test_the_name_of_a_proxy_is_resolved_here(kind: str) -> None:
    names = Names([(V4, "127.0.0.1")])
    async with served(echo_server()) as port, served(make(kind)) as proxy_port:
        with await dial(
            current(),
            SocketAddress("127.0.0.1", port),
            proxy=at_port(kind, proxy_port, host="proxy.example"),
            resolver=names,
        ) as sock:
            await talk(sock)
    assert names.asked == [("proxy.example", proxy_port)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_is_given_the_credentials(kind: str) -> None:
    proxy = make(kind, credentials=(b"alice", b"s3c:ret"))
    async with served(echo_server()) as port, served(proxy) as proxy_port:
        address = SocketAddress("127.0.0.1", port)
        known = at_port(kind, proxy_port, "alice:s3c%3Aret@")
        with await dial(current(), address, proxy=known) as sock:
            await talk(sock)
        for userinfo in ("", "alice:wr0ng@"):
            unknown = at_port(kind, proxy_port, userinfo)
            error = await proxied_failure(unknown, address)
            assert error.code == "proxy"
            assert str(unknown) in str(error)
            assert "wr0ng" not in str(error)
    assert proxy.asked == ["127.0.0.1"]


async def proxied_failure(
    proxy: Proxy, address: SocketAddress, **arguments: Any
) -> SocketError:
    """The error of a dial through `proxy`, which closes what it has opened."""
    runtime, record = watched()
    with pytest.raises(SocketError) as caught:
        await dial(runtime, address, proxy=proxy, **arguments)
    for inode in record.inodes:
        assert not any(inode == target for _, target in Snapshot.take().fds)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
async def test_the_policy_sees_the_target_and_the_proxy(kind: str) -> None:
    policy = Allow("127.0.0.1", "127.0.0.2")
    names = Names([(V4, "127.0.0.2")])
    async with (
        served(echo_server(), "127.0.0.2") as port,
        served(make(kind)) as proxy_port,
    ):
        with await dial(
            current(),
            SocketAddress("a.example", port),
            proxy=at_port(kind, proxy_port),
            policy=policy,
            resolver=names,
        ) as sock:
            await talk(sock)
    assert policy.asked == [
        ("a.example", "127.0.0.2", port),
        ("127.0.0.1", "127.0.0.1", proxy_port),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("allowed", "refused"), [("target", "proxy"), ("proxy", "target")]
)
async def test_the_policy_may_refuse_either(
    kind: str, allowed: str, refused: str
) -> None:
    addresses = {"proxy": "127.0.0.1", "target": "127.0.0.2"}
    with listener(addresses["proxy"]) as server:
        proxy = at_port(kind, server.getsockname()[1])
        error = await proxied_failure(
            proxy,
            SocketAddress(addresses["target"], 443),
            policy=Allow(addresses[allowed]),
        )
        assert error.code == "policy"
        assert addresses[refused] in str(error)
        assert connections(server) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_through_a_proxy_only_allowed_addresses_of_a_name_are_asked_for(
    kind: str,
) -> None:
    proxy = make(kind)
    names = Names([(V4, "127.0.0.3"), (V6, "::1"), (V4, "127.0.0.2")])
    async with (
        served(echo_server(), "127.0.0.2") as port,
        served(proxy) as proxy_port,
    ):
        with await dial(
            current(),
            SocketAddress("a.example", port),
            proxy=at_port(kind, proxy_port),
            policy=Allow("127.0.0.1", "127.0.0.2"),
            resolver=names,
        ) as sock:
            await talk(sock)
    assert proxy.asked == ["127.0.0.2"]


@pytest.mark.parametrize("kind", KINDS)
async def test_where_the_policy_refuses_all_targets_the_proxy_is_not_bothered(
    kind: str,
) -> None:
    with listener() as server:
        error = await proxied_failure(
            at_port(kind, server.getsockname()[1]),
            SocketAddress("a.example", 443),
            policy=Allow("127.0.0.1"),
            resolver=Names([(V4, "127.0.0.2"), (V6, "::1")]),
        )
        assert error.code == "policy"
        assert connections(server) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_address_that_the_proxy_cannot_reach_is_followed_by_the_next(
    kind: str,
) -> None:
    proxy = make(kind, unreachable=frozenset({"::1"}))
    names = Names([(V6, "::1"), (V4, "127.0.0.1")])
    async with served(echo_server()) as port, served(proxy) as proxy_port:
        with await dial(
            current(),
            SocketAddress("a.example", port),
            proxy=at_port(kind, proxy_port),
            resolver=names,
        ) as sock:
            await talk(sock)
    assert proxy.asked == ["::1", "127.0.0.1"]
    assert proxy.connections == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [("http", "answered 502 Bad Gateway"), ("socks5", "answered: host unreachable")],
)
async def test_where_the_proxy_reaches_no_address_all_are_told(
    kind: str, words: str
) -> None:
    proxy = make(kind, unreachable=frozenset({"::1", "127.0.0.1"}))
    names = Names([(V6, "::1"), (V4, "127.0.0.1")])
    async with served(proxy) as proxy_port:
        used = at_port(kind, proxy_port)
        error = await proxied_failure(
            used, SocketAddress("a.example", 443), resolver=names
        )
        assert error.code == "proxy"
        assert f"[::1]:443: the proxy {words}" in str(error)
        assert f"127.0.0.1:443: the proxy {words}" in str(error)
        error = await proxied_failure(used, SocketAddress("127.0.0.1", 443))
        assert error.code == "proxy"
        assert words in str(error)
        assert str(used) in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_of_the_proxy_itself_ends_the_attempts(kind: str) -> None:
    answer = {"http": b"HTTP/1.1 403 No\r\n\r\n", "socks5": b"\x05\xff"}[kind]
    names = Names([(V4, "127.0.0.1"), (V4, "127.0.0.2")])
    visits = 0

    async def refuse(stream: SocketStream) -> None:
        nonlocal visits
        visits += 1
        await scripted(answer)(stream)

    async with served(refuse) as proxy_port:
        error = await proxied_failure(
            at_port(kind, proxy_port), SocketAddress("a.example", 443), resolver=names
        )
    assert error.code == "proxy"
    assert visits == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_that_is_not_there_is_told_as_such(kind: str) -> None:
    with closed_port() as port:
        proxy = at_port(kind, port, "alice:s3cret@")
        error = await proxied_failure(proxy, SocketAddress("127.0.0.1", 443))
    assert (error.code, error.errno) == ("proxy", errno.ECONNREFUSED)
    assert str(error) == (
        f"SocketError: could not reach the proxy {kind}://127.0.0.1:{port}: could "
        f"not connect to 127.0.0.1:{port}: Connection refused"
    )
    assert isinstance(error.__cause__, SocketError)
    assert error.__cause__.code == "refused"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_whose_name_is_not_found_is_told_as_such(kind: str) -> None:
    error = await proxied_failure(
        at_port(kind, 1080, host="proxy.example"),
        SocketAddress("127.0.0.1", 443),
        resolver=Names([]),
    )
    assert error.code == "proxy"
    assert "'proxy.example'" in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_that_hangs_up_is_an_error_with_its_cause(kind: str) -> None:
    async with served(scripted(b"", hold=False)) as proxy_port:
        proxy = at_port(kind, proxy_port)
        error = await proxied_failure(proxy, SocketAddress("127.0.0.1", 443))
    assert error.code == "proxy"
    assert "it ended before its answer did" in str(error)
    assert isinstance(error.__cause__, EOFError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_that_resets_is_an_error_with_its_errno(kind: str) -> None:
    async def reset(stream: SocketStream) -> None:
        await stream.receive_some()
        stream.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )

    async with served(reset) as proxy_port:
        proxy = at_port(kind, proxy_port)
        error = await proxied_failure(proxy, SocketAddress("127.0.0.1", 443))
    assert (error.code, error.errno) == ("proxy", errno.ECONNRESET)
    assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_that_talks_rubbish_is_an_error(kind: str) -> None:
    async with served(scripted(b"220 mail.example ESMTP\r\n\r\n")) as proxy_port:
        proxy = at_port(kind, proxy_port)
        error = await proxied_failure(proxy, SocketAddress("127.0.0.1", 443))
    assert error.code == "proxy"
    assert "does not answer in" in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dial_cancelled_in_the_middle_of_an_answer_closes_its_fd(
    kind: str,
) -> None:
    answer = {"http": b"HTTP/1.1 200 OK\r\n", "socks5": b"\x05"}[kind]
    runtime, record = watched()
    async with served(scripted(answer)) as proxy_port:
        with loops.CancelScope() as scope:
            async with loops.open_nursery() as nursery:

                async def give_up() -> None:
                    await loops.settle()
                    scope.cancel()

                nursery.start_soon(give_up)
                address = SocketAddress("127.0.0.1", 443)
                await dial(runtime, address, proxy=at_port(kind, proxy_port))
        assert scope.cancelled_caught
        assert len(record.closed) == 1
        await loops.settle()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hostname", ["fe80::1%lo", "a.example"])
async def test_a_zone_id_means_nothing_to_a_proxy(kind: str, hostname: str) -> None:
    with listener() as server:
        error = await proxied_failure(
            at_port(kind, server.getsockname()[1]),
            SocketAddress(hostname, 443),
            resolver=Names([(V6, "fe80::1%lo")]),
        )
        assert error.code == "proxy"
        assert "zone id" in str(error)
        assert connections(server) == 0


async def test_a_unix_socket_is_not_reached_through_a_proxy(tmp_path: Path) -> None:
    proxy = parse_proxy("http://alice:s3cret@127.0.0.1:3128")
    error = await failure(address=UnixAddress(str(tmp_path / "s")), proxy=proxy)
    assert error.code == "option"
    assert str(tmp_path) in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_port_0_is_no_service_behind_a_proxy_either(kind: str) -> None:
    with listener() as server:
        proxy = at_port(kind, server.getsockname()[1])
        error = await proxied_failure(proxy, SocketAddress("127.0.0.1", 0))
        assert error.code == "address"
        assert connections(server) == 0
