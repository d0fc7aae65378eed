"""Where datagrams go: names, policies and the errors of both."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.dialling import Allow, Names, fds
from tests.network import in_own_network
from wsockets.address import SocketAddress
from wsockets.dial import connect_udp, deny_private, destination, find_destination
from wsockets.errors import SocketError
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

V4, V6 = socket.AF_INET, socket.AF_INET6
BOTH = [(int(V6), "::1"), (int(V4), "127.0.0.1")]


def nothing(_: socket.socket) -> None:
    """What is done before connecting."""


@contextmanager
def refused(code: str, match: str) -> Iterator[pytest.ExceptionInfo[SocketError]]:
    """A failure that leaves no fd behind."""
    before = fds()
    with pytest.raises(SocketError, match=match) as caught:
        yield caught
    assert caught.value.code == code
    assert fds() == before


# -- connecting


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_a_numeric_address_is_connected_to(ip: str) -> None:
    names = Names([])
    made: list[Any] = []

    def prepare(sock: socket.socket) -> None:
        made.append(sock.getsockname()[1])

    address = SocketAddress(ip, 9)
    with await connect_udp(current(), address, prepare, resolver=names) as sock:
        assert sock.getpeername()[:2] == (ip, 9)
        assert sock.type == socket.SOCK_DGRAM
        assert sock.gettimeout() == 0
        assert not os.get_inheritable(sock.fileno())
    # It was called before.
    assert made == [0]
    assert names.asked == []


async def test_a_name_leads_to_the_first_address_that_is_allowed() -> None:
    policy, names = Allow("127.0.0.1"), Names(BOTH)
    address = SocketAddress("host.example", 9)
    with await connect_udp(
        current(), address, nothing, policy=policy, resolver=names
    ) as sock:
        assert sock.getpeername() == ("127.0.0.1", 9)
    assert names.asked == [("host.example", 9)]
    assert policy.asked == [
        ("host.example", "::1", 9),
        ("host.example", "127.0.0.1", 9),
    ]


@pytest.mark.parametrize(("family", "ip"), [(V4, "127.0.0.1"), (V6, "::1")])
async def test_a_family_leaves_out_the_other_one(
    family: socket.AddressFamily, ip: str
) -> None:
    address = SocketAddress("host.example", 9)
    with await connect_udp(
        current(), address, nothing, family=family, resolver=Names(BOTH)
    ) as sock:
        assert sock.getpeername()[0] == ip


async def test_a_name_without_an_address_of_the_family_is_an_error() -> None:
    with refused("dns", "'host.example': it has no IPv6 address"):
        await connect_udp(
            current(),
            SocketAddress("host.example", 9),
            nothing,
            family=V6,
            resolver=Names([(int(V4), "127.0.0.1")]),
        )


async def test_a_numeric_address_of_another_family_is_an_error() -> None:
    with refused("address", "127.0.0.1:9: it is not an IPv6 address"):
        await connect_udp(current(), SocketAddress("127.0.0.1", 9), nothing, family=V6)


async def test_port_0_is_an_error() -> None:
    with refused("address", "127.0.0.1:0: port 0 stands for no service"):
        await connect_udp(current(), SocketAddress("127.0.0.1", 0), nothing)
    with refused("address", "host.example:0: port 0 stands for no service"):
        await find_destination(current(), SocketAddress("host.example", 0))
    with refused("address", "127.0.0.1:0: port 0 stands for no service"):
        destination(SocketAddress("127.0.0.1", 0))


async def test_all_that_was_refused_is_told() -> None:
    with refused("policy", "host.example:9: .*::1.*; .*127.0.0.1") as caught:
        await connect_udp(
            current(),
            SocketAddress("host.example", 9),
            nothing,
            policy=deny_private(),
            resolver=Names(BOTH),
        )
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_what_the_operating_system_refuses_is_told() -> None:
    def prepare(_: socket.socket) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with refused("os", "connect to 127.0.0.1:9: Operation not permitted") as caught:
        await connect_udp(current(), SocketAddress("127.0.0.1", 9), prepare)
    assert caught.value.errno == errno.EPERM


async def test_whatever_ends_it_leaves_no_descriptor() -> None:
    def prepare(_: socket.socket) -> None:
        raise SocketError("no", code="option")

    with refused("option", "no"):
        await connect_udp(current(), SocketAddress("127.0.0.1", 9), prepare)


def test_an_address_without_a_way_there_gives_way_to_the_next() -> None:
    async def check() -> None:
        names = Names([(int(V4), "192.0.2.1"), (int(V4), "127.0.0.1")])
        address = SocketAddress("host.example", 9)
        with await connect_udp(current(), address, nothing, resolver=names) as sock:
            assert sock.getpeername() == ("127.0.0.1", 9)
        with refused("unreachable", "192.0.2.1:9: Network is unreachable"):
            await connect_udp(current(), SocketAddress("192.0.2.1", 9), nothing)

    in_own_network([], check)


# -- sending


@pytest.mark.parametrize(
    ("ip", "target"),
    [
        ("127.0.0.1", ("127.0.0.1", 9)),
        ("::1", ("::1", 9)),
        ("fe80::1%1", ("fe80::1", 9, 0, 1)),
        ("fe80::1%lo", ("fe80::1", 9, 0, socket.if_nametoindex("lo"))),
    ],
)
def test_a_numeric_address_is_a_destination(ip: str, target: object) -> None:
    assert destination(SocketAddress(ip, 9)) == target


def test_the_policy_is_asked_about_a_destination() -> None:
    policy = Allow("127.0.0.1")
    assert destination(SocketAddress("127.0.0.1", 9), policy) == ("127.0.0.1", 9)
    with refused("policy", "127.0.0.2:9"):
        destination(SocketAddress("127.0.0.2", 9), policy)
    assert policy.asked[-1] == ("127.0.0.2", "127.0.0.2", 9)


def test_a_zone_that_is_no_interface_is_told() -> None:
    with refused("os", r"\[fe80::1%nowhere\]:9") as caught:
        destination(SocketAddress("fe80::1%nowhere", 9))
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_name_is_sent_to_at_the_first_address_that_is_allowed() -> None:
    policy = Allow("127.0.0.1")
    found = await find_destination(
        current(),
        SocketAddress("host.example", 9),
        policy=policy,
        resolver=Names(BOTH),
    )
    assert found == (V4, ("127.0.0.1", 9))
    with refused("policy", "host.example:9"):
        await find_destination(
            current(),
            SocketAddress("host.example", 9),
            family=V6,
            policy=policy,
            resolver=Names(BOTH),
        )
