from __future__ import annotations

import errno
import os
import resource
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.leaks import Snapshot
from tests.network import (
    black_hole,
    closed_port,
    connections,
    in_own_network,
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
from wsockets.address import SocketAddress, UnixAddress
from wsockets.dial import Proxy, check_dial, deny_private, dial, parse_proxy
from wsockets.errors import SocketError
from wsockets.runtime import Runtime, current

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
Answer = list[tuple[int, str]]


def fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Names:
    """A resolver with one answer after the other; the last one stays."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Iterable[tuple[int, str]]:
        await trio.lowlevel.checkpoint()
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Allow:
    """A policy that allows some addresses, and remembers what it was asked."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.asked: list[tuple[str, str, int]] = []

    def __call__(self, host: str, address: str, port: int) -> object:
        self.asked.append((host, address, port))
        return address in self._addresses


async def failure(**arguments: Any) -> SocketError:
    """The error of a dial, which leaves no fd behind."""
    before = fds()
    with pytest.raises(SocketError) as caught:
        await dial(current(), **arguments)
    assert fds() == before
    return caught.value


# -- directly


class NoNames:
    """A runtime that neither looks up names nor starts tasks."""

    def __init__(self) -> None:
        self._runtime = current()

    def __getattr__(self, name: str) -> object:
        assert name in {"wait_writable", "notify_closing"}
        return getattr(self._runtime, name)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_a_numeric_address_needs_no_resolver_and_no_task(ip: str) -> None:
    names = Names([])
    with listener(ip) as server:
        address = SocketAddress(ip, server.getsockname()[1])
        runtime = cast("Runtime", NoNames())
        with await dial(runtime, address, resolver=names) as sock:
            assert sock.getpeername()[:2] == (ip, address.port)
            assert sock.gettimeout() == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert names.asked == []


async def test_localhost_is_dialled_at_whichever_address_listens() -> None:
    with listener("127.0.0.1") as server:
        address = SocketAddress("localhost", server.getsockname()[1])
        with await dial(current(), address) as sock:
            assert sock.getpeername() == server.getsockname()


async def test_a_name_with_one_address_is_dialled_there() -> None:
    names = Names([(V4, "127.0.0.1")])
    with listener() as server:
        address = SocketAddress("a.example", server.getsockname()[1])
        with await dial(current(), address, resolver=names) as sock:
            assert sock.getpeername() == server.getsockname()
    assert names.asked == [("a.example", address.port)]


async def test_a_name_with_several_addresses_is_raced(
    autojump_clock: MockClock,
) -> None:
    with black_hole("127.0.0.1") as silent:
        port = silent.getsockname()[1]
        names = Names([(V4, "127.0.0.1"), (V4, "127.0.0.2")])
        with listener("127.0.0.2", port):
            address = SocketAddress("a.example", port)
            start = trio.current_time()
            with await dial(current(), address, resolver=names) as sock:
                assert sock.getpeername() == ("127.0.0.2", port)
            assert trio.current_time() == pytest.approx(start + 0.25)


async def test_a_refused_address_is_told_as_it_was_written() -> None:
    with closed_port() as port:
        error = await failure(address=SocketAddress("127.0.0.1", port))
        assert str(error) == (
            f"SocketError: could not connect to 127.0.0.1:{port}: Connection refused"
        )
        assert (error.code, error.errno) == ("refused", errno.ECONNREFUSED)
        assert isinstance(error.__cause__, ConnectionRefusedError)

        names = Names([(V4, "127.0.0.1")])
        error = await failure(address=SocketAddress("a.example", port), resolver=names)
        assert str(error) == (
            f"SocketError: could not connect to a.example:{port}: 127.0.0.1:{port}: "
            "Connection refused"
        )
        assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_a_name_that_is_not_found_is_a_dns_error() -> None:
    error = await failure(address=SocketAddress("a.example", 80), resolver=Names([]))
    assert error.code == "dns"


@pytest.mark.parametrize("hostname", ["127.0.0.1", "::1", "a.example"])
async def test_port_0_is_no_service(hostname: str) -> None:
    names, policy = Names([]), Allow()
    address = SocketAddress(hostname, 0)
    error = await failure(address=address, resolver=names, policy=policy)
    assert error.code == "address"
    assert str(address) in str(error)
    assert not names.asked
    assert not policy.asked


async def test_a_cancelled_dial_closes_its_fd() -> None:
    with black_hole() as server:
        address = SocketAddress(*server.getsockname())
        before = fds()
        with trio.move_on_after(0.01) as scope:
            await dial(current(), address)
        assert scope.cancelled_caught
        assert fds() == before


async def test_a_zone_without_an_interface_is_an_error() -> None:
    error = await failure(address=SocketAddress("fe80::1%nosuch0", 80))
    assert error.code == "os"
    assert "[fe80::1%nosuch0]:80" in str(error)


async def test_without_a_free_fd_the_error_says_so() -> None:
    with listener() as server:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # They take the lowest numbers, so that none is left below the last.
        highest = max(int(fd) for fd in fds())
        fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1, hard))
        try:
            with pytest.raises(SocketError) as caught:
                await dial(current(), SocketAddress(*server.getsockname()))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
    assert (caught.value.code, caught.value.errno) == ("os", errno.EMFILE)


def test_a_network_out_of_reach_is_unreachable() -> None:
    async def connect() -> None:
        for hostname in ("198.51.100.1", "2001:db8::1"):
            error = await failure(address=SocketAddress(hostname, 80))
            assert error.code == "unreachable"
            assert error.errno == errno.ENETUNREACH
        names = Names([(V6, "2001:db8::1"), (V4, "198.51.100.1")])
        error = await failure(address=SocketAddress("a.example", 80), resolver=names)
        assert error.code == "unreachable"
        assert "[2001:db8::1]:80: Network is unreachable" in str(error)
        assert "198.51.100.1:80: Network is unreachable" in str(error)

    in_own_network([], connect)


# -- unix sockets


async def test_a_unix_socket_is_dialled(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    policy = Allow(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with await dial(current(), UnixAddress(path), policy=policy) as sock:
            assert sock.getpeername() == path
            assert sock.gettimeout() == 0
    assert policy.asked == [(f"unix:{path}", f"unix:{path}", 0)]


async def test_a_unix_socket_that_nobody_listens_on_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    error = await failure(address=UnixAddress(path))
    assert (error.code, error.errno) == ("refused", errno.ENOENT)
    assert f"unix:{path}" in str(error)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        error = await failure(address=UnixAddress(path))
    assert (error.code, error.errno) == ("refused", errno.ECONNREFUSED)
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_deny_private_refuses_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.setblocking(False)
        error = await failure(address=UnixAddress(path), policy=deny_private())
        assert error.code == "policy"
        assert isinstance(error.__cause__, PermissionError)
        assert connections(server) == 0


# -- the policy


LOOPBACK = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
]


@pytest.fixture
def everywhere() -> Iterator[socket.socket]:
    """A listener on all addresses of this host."""
    with socket.create_server(
        ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
    ) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("ip", LOOPBACK)
async def test_deny_private_keeps_packets_from_every_guise_of_this_host(
    ip: str, everywhere: socket.socket
) -> None:
    port = everywhere.getsockname()[1]
    address = SocketAddress(ip, port)
    (await dial(current(), address)).close()
    assert connections(everywhere) == 1

    error = await failure(address=address, policy=deny_private())
    assert error.code == "policy"
    assert isinstance(error.__cause__, PermissionError)
    assert str(address) in str(error)
    assert connections(everywhere) == 0


@pytest.mark.parametrize("ip", LOOPBACK)
async def test_deny_private_judges_what_a_name_leads_to(
    ip: str, everywhere: socket.socket
) -> None:
    address = SocketAddress("public.example", everywhere.getsockname()[1])
    names = Names([(V6 if ":" in ip else V4, ip)])
    (await dial(current(), address, resolver=names)).close()
    assert connections(everywhere) == 1

    error = await failure(address=address, resolver=names, policy=deny_private())
    assert error.code == "policy"
    assert "public.example" in str(error)
    assert connections(everywhere) == 0


@pytest.mark.parametrize("ip", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_a_resolver_cannot_smuggle_another_spelling_in(ip: str) -> None:
    error = await failure(
        address=SocketAddress("public.example", 80),
        resolver=Names([(V4, ip)]),
        policy=Allow(ip),
    )
    assert error.code == "dns"


async def test_a_name_that_is_rebound_is_judged_anew(
    everywhere: socket.socket,
) -> None:
    names = Names([(V4, "127.0.0.2")], [(V4, "127.0.0.1")])
    policy = Allow("127.0.0.2")
    address = SocketAddress("public.example", everywhere.getsockname()[1])
    with await dial(current(), address, resolver=names, policy=policy) as sock:
        assert sock.getpeername()[0] == "127.0.0.2"
    assert connections(everywhere) == 1
    # One look-up for one dial: what was judged is what is dialled.
    assert len(names.asked) == 1

    error = await failure(address=address, resolver=names, policy=policy)
    assert error.code == "policy"
    assert connections(everywhere) == 0
    asked = [(host, ip) for host, ip, _ in policy.asked]
    assert asked == [("public.example", "127.0.0.2"), ("public.example", "127.0.0.1")]


@pytest.mark.parametrize("private_first", [True, False])
async def test_of_mixed_addresses_only_the_allowed_is_dialled(
    private_first: bool, everywhere: socket.socket
) -> None:
    answer = [(V6, "::1"), (V4, "127.0.0.2")]
    names = Names(answer if private_first else answer[::-1])
    address = SocketAddress("public.example", everywhere.getsockname()[1])
    policy = Allow("127.0.0.2")
    with await dial(current(), address, resolver=names, policy=policy) as sock:
        assert sock.getpeername()[0] == "127.0.0.2"
    assert connections(everywhere) == 1
    assert len(policy.asked) == 1 + private_first


async def test_the_second_address_of_a_race_is_judged_too(
    autojump_clock: MockClock,
) -> None:
    with black_hole("127.0.0.2") as silent:
        port = silent.getsockname()[1]
        with listener("127.0.0.1", port) as private:
            names = Names([(V4, "127.0.0.2"), (V4, "127.0.0.1")])
            policy = Allow("127.0.0.2")
            address = SocketAddress("public.example", port)
            before = fds()
            with trio.move_on_after(60) as scope:
                await dial(current(), address, resolver=names, policy=policy)
            assert scope.cancelled_caught
            assert fds() == before
            assert [ip for _, ip, _ in policy.asked] == ["127.0.0.2", "127.0.0.1"]
            assert connections(private) == 0


async def test_where_some_addresses_are_refused_by_policy_the_others_tell() -> None:
    with closed_port("127.0.0.2") as port:
        names = Names([(V4, "127.0.0.1"), (V4, "127.0.0.2")])
        error = await failure(
            address=SocketAddress("public.example", port),
            resolver=names,
            policy=Allow("127.0.0.2"),
        )
    assert error.code == "refused"
    assert "refused by the policy" in str(error)
    assert "Connection refused" in str(error)


async def test_where_all_addresses_are_refused_by_policy_that_is_the_code() -> None:
    names = Names([(V4, "127.0.0.1"), (V6, "::1")])
    error = await failure(
        address=SocketAddress("public.example", 80), resolver=names, policy=Allow()
    )
    assert error.code == "policy"


# -- through a proxy


KINDS = ["http", "socks5"]


def make(kind: str, **members: Any) -> HttpProxy | Socks5Proxy:
    return (HttpProxy if kind == "http" else Socks5Proxy)(**members)


def at_port(kind: str, port: int, userinfo: str = "", host: str = "127.0.0.1") -> Proxy:
    return parse_proxy(f"{kind}://{userinfo}{host}:{port}")


async def talk(sock: socket.socket) -> None:
    """The far end of `sock` is an echo server, of which nothing is lost."""
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
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

    async def refuse(stream: trio.SocketStream) -> None:
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
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

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
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def give_up() -> None:
                    await wait_all_tasks_blocked()
                    scope.cancel()

                nursery.start_soon(give_up)
                address = SocketAddress("127.0.0.1", 443)
                await dial(runtime, address, proxy=at_port(kind, proxy_port))
        assert scope.cancelled_caught
        assert len(record.closed) == 1
        await wait_all_tasks_blocked()


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


# -- what can be refused beforehand


async def resolver(host: str, port: int) -> Answer:
    raise AssertionError


async def async_policy(host: str, address: str, port: int) -> bool:
    raise AssertionError


def test_what_can_be_dialled_is_accepted() -> None:
    proxy = parse_proxy("http://proxy.example:3128")
    assert check_dial() is None
    assert check_dial(policy=deny_private(), resolver=resolver) is None
    assert check_dial(proxy="http://proxy.example:3128", policy=print) == proxy
    assert check_dial(proxy=proxy, proxy_resolve=True, resolver=resolver) is proxy


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"policy": "deny"}, "policy is a function (host, address, port), not str"),
        ({"policy": False}, "not bool"),
        ({"policy": async_policy}, "cannot be an async function"),
        ({"resolver": [("a.example", "127.0.0.1")]}, "resolver is an async function"),
        ({"proxy": "ftp://proxy.example:21"}, "a proxy is"),
        ({"proxy": ""}, "a proxy is"),
        ({"proxy": 3128}, "not int"),
        ({"proxy_resolve": True}, "proxyResolve needs a proxy"),
        ({"proxy_resolve": 1}, "True or False, not int"),
        ({"proxy_resolve": None}, "not NoneType"),
        (
            {
                "proxy": "http://proxy.example:3128",
                "proxy_resolve": True,
                "policy": deny_private(),
            },
            "excludes a policy",
        ),
    ],
)
def test_what_cannot_be_dialled_is_refused_beforehand(
    arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(SocketError) as caught:
        check_dial(**arguments)
    assert caught.value.code == "option"
    assert text in str(caught.value)
