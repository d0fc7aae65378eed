from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from trio.testing import MockClock

from tests import loops
from tests.dialling import Allow, Answer, Names, failure, fds
from tests.network import (
    black_hole,
    closed_port,
    connections,
    in_own_network,
    listener,
)
from wsockets.address import SocketAddress, UnixAddress
from wsockets.dial import (
    Dialling,
    attempt,
    check_dial,
    deny_private,
    dial,
    parse_proxy,
)
from wsockets.errors import SocketError
from wsockets.runtime import Runtime, current

pytestmark = pytest.mark.every_loop

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)

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
            start = loops.current_time()
            with await dial(current(), address, resolver=names) as sock:
                assert sock.getpeername() == ("127.0.0.2", port)
            assert loops.current_time() == pytest.approx(start + 0.25)


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


# -- in two steps


def dialling(address: SocketAddress | UnixAddress, **ways: Any) -> Dialling:
    given: dict[str, Any] = {"policy": None, "proxy": None, "resolver": None}
    return Dialling(current(), address, **(given | {"proxy_resolve": False} | ways))


async def test_what_is_near_is_connected_at_once() -> None:
    with listener() as server:
        with loops.assert_no_checkpoints():
            sock = dialling(SocketAddress(*server.getsockname())).at_once()
        assert sock is not None
        with sock:
            assert sock.getpeername() == server.getsockname()


@pytest.mark.parametrize(
    ("address", "ways"),
    [
        pytest.param(SocketAddress("a.example", 80), {}, id="a name"),
        pytest.param(UnixAddress("./none"), {}, id="a path"),
        pytest.param(SocketAddress("127.0.0.1", 0), {}, id="port 0"),
        pytest.param(
            SocketAddress("127.0.0.1", 80),
            {"proxy": parse_proxy("socks5://127.0.0.1:1080")},
            id="a proxy",
        ),
    ],
)
async def test_some_is_never_tried_at_once(
    address: SocketAddress | UnixAddress, ways: dict[str, Any]
) -> None:
    policy = Allow()
    assert dialling(address, policy=policy, **ways).at_once() is None
    assert not policy.asked


async def test_failing_at_once_tells_the_same() -> None:
    with closed_port() as port:
        address = SocketAddress("127.0.0.1", port)
        for ways in ({}, {"policy": Allow()}):
            error = await failure(address=address, **ways)
            before = fds()
            with pytest.raises(SocketError) as caught:
                dialling(address, **ways).at_once()
            assert str(caught.value) == str(error)
            assert caught.value.code == error.code
            assert fds() == before


async def test_finishing_goes_on_with_the_same_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[socket.socket] = []

    def hesitant(sock: socket.socket, target: attempt.TcpTarget) -> bool:
        tried.append(sock)
        return len(tried) > 2 and decided(sock, target)

    decided = attempt.decided
    monkeypatch.setattr(attempt, "decided", hesitant)
    with listener() as server:
        policy = Allow("127.0.0.1")
        both = dialling(SocketAddress(*server.getsockname()), policy=policy)
        assert both.at_once() is None
        tried[0].connect_ex(server.getsockname())
        with await both.finish() as sock:
            assert tried == 3 * [sock]
            assert sock.getpeername() == server.getsockname()
    assert len(policy.asked) == 1


async def test_finishing_may_fail_or_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fds()
    with black_hole() as server:
        both = dialling(SocketAddress(*server.getsockname()))
        assert both.at_once() is None
        with loops.move_on_after(0.01) as scope:
            await both.finish()
        assert scope.cancelled_caught
    monkeypatch.setattr(attempt, "decided", lambda sock, target: False)
    with closed_port() as port:
        both = dialling(SocketAddress("127.0.0.1", port))
        assert both.at_once() is None
        monkeypatch.undo()
        with pytest.raises(SocketError, match=f"to 127.0.0.1:{port}: ") as caught:
            await both.finish()
    assert caught.value.code == "refused"
    assert fds() == before


async def test_a_cancelled_dial_closes_its_fd() -> None:
    with black_hole() as server:
        address = SocketAddress(*server.getsockname())
        before = fds()
        with loops.move_on_after(0.01) as scope:
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
    # What is free at 127.0.0.1 is free at an address that nobody else uses.
    with listener("127.0.0.1") as private:
        port = private.getsockname()[1]
        with black_hole("127.0.0.2", port):
            names = Names([(V4, "127.0.0.2"), (V4, "127.0.0.1")])
            policy = Allow("127.0.0.2")
            address = SocketAddress("public.example", port)
            before = fds()
            with loops.move_on_after(60) as scope:
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
