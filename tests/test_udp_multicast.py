"""Groups, in a network of the test's own: what is sent there stays there."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from tests import loops
from tests.naming import named
from tests.network import in_own_network
from wsockets import (
    MulticastController,
    SocketError,
    UDPSocket,
    UDPSocketOpenInfo,
    UDPSocketOptions,
)
from wsockets.udp.multicast import prepare_multicast

pytestmark = pytest.mark.every_loop

# Of the scopes that a site keeps to itself (RFC 2365, RFC 4291 section 2.7).
GROUP, OTHER, GROUP6 = "239.1.2.3", "239.1.2.4", "ff15::1:2"
# An interface for multicast, and the way there; lo is none: it gives back whatever
# is sent, and IPv6 takes no groups there.
NETWORK = [
    "ip link add near type veth peer name far",
    "ip addr add 10.0.0.1/24 dev near",
    "ip addr add fd00::1/64 dev near nodad",
    "ip link set near up",
    "ip link set far up",
    "ip route add 224.0.0.0/4 dev near",
    "ip -6 route del multicast ff00::/8 dev far table local",
]


@pytest.fixture(params=loops.LOOPS)
def runs_on(request: pytest.FixtureRequest) -> str:
    """The event loop of a test that starts one in a network of its own."""
    kind: str = request.param
    return kind


def controller(info: UDPSocketOpenInfo) -> MulticastController:
    assert info.multicastController is not None
    return info.multicastController


async def next_data(info: UDPSocketOpenInfo) -> bytes:
    reader = info.readable.getReader()
    with loops.fail_after(5):
        value, _ = await reader.read()
    reader.releaseLock()
    data: bytes = value.data
    return data


@pytest.mark.parametrize(
    ("local", "group"), [("0.0.0.0", GROUP), ("::", GROUP6), ("::", GROUP)]
)
def test_members_get_what_is_sent_to_their_group(
    local: str, group: str, runs_on: str
) -> None:
    async def check() -> None:
        async with (
            UDPSocket(localAddress=local, multicastAllowAddressSharing=True) as one,
        ):
            first = await one.opened
            port = first.localPort
            async with (
                UDPSocket(
                    localAddress=local,
                    localPort=port,
                    multicastAllowAddressSharing=True,
                ) as other,
                UDPSocket(remoteAddress=group, remotePort=port) as sender,
            ):
                second = await other.opened
                writer = (await sender.opened).writable.getWriter()
                groups, more = controller(first), controller(second)
                await groups.joinGroup(group)
                await more.join_group(group)
                assert groups.joinedGroups == (group,)
                await writer.write("to both")
                assert await next_data(first) == b"to both"
                assert await next_data(second) == b"to both"

                await groups.leaveGroup(group)
                assert groups.joined_groups == ()
                await writer.write("to one")
                await writer.write("and again")
                assert await next_data(second) == b"to one"
                # It comes to all sockets in one go.
                assert await next_data(second) == b"and again"
                await groups.joinGroup(group)
                await writer.write("to both again")
                assert await next_data(first) == b"to both again"

    in_own_network(NETWORK, check, runs_on)


@pytest.mark.parametrize(
    ("local", "mine", "others"),
    [("0.0.0.0", GROUP, OTHER), ("::", GROUP6, "ff15::9")],
)
def test_a_socket_gets_nothing_of_groups_that_others_have_joined(
    local: str, mine: str, others: str, runs_on: str
) -> None:
    async def check() -> None:
        async with (
            UDPSocket(localAddress=local) as one,
            UDPSocket(localAddress=local) as other,
        ):
            first, second = await one.opened, await other.opened
            await controller(first).joinGroup(mine)
            await controller(second).joinGroup(others)
            async with (
                UDPSocket(remoteAddress=others, remotePort=first.localPort) as wrong,
                UDPSocket(remoteAddress=mine, remotePort=first.localPort) as right,
            ):
                await (await wrong.opened).writable.getWriter().write("not for it")
                await (await right.opened).writable.getWriter().write("for it")
                assert await next_data(first) == b"for it"

    in_own_network(NETWORK, check, runs_on)


def test_without_loopback_this_machine_gets_nothing_of_it(runs_on: str) -> None:
    async def check() -> None:
        async with UDPSocket(localAddress="0.0.0.0") as socket:
            info = await socket.opened
            await controller(info).joinGroup(GROUP)
            for loop, text in ((False, "unheard"), (True, "heard")):
                async with UDPSocket(
                    remoteAddress=GROUP,
                    remotePort=info.localPort,
                    multicastLoopback=loop,
                ) as sender:
                    await (await sender.opened).writable.getWriter().write(text)
            assert await next_data(info) == b"heard"

    in_own_network(NETWORK, check, runs_on)


def test_a_group_without_a_way_to_it_cannot_be_joined(runs_on: str) -> None:
    async def check() -> None:
        async with UDPSocket(localAddress="0.0.0.0") as socket:
            groups = controller(await socket.opened)
            for _ in range(2):
                with pytest.raises(SocketError, match=f"join the mul.* {GROUP}") as got:
                    await groups.joinGroup(GROUP)
                assert got.value.errno == errno.ENODEV
            assert groups.joinedGroups == ()

    in_own_network([], check, runs_on)


def test_a_group_is_joined_once_and_left_once(runs_on: str) -> None:
    async def check() -> None:
        async with UDPSocket(localAddress="0.0.0.0") as socket:
            groups = controller(await socket.opened)
            with pytest.raises(SocketError, match=f"not in the group {GROUP}") as got:
                await groups.leaveGroup(GROUP)
            assert got.value.code == "state"
            await groups.joinGroup(GROUP)
            await groups.joinGroup(OTHER)
            with pytest.raises(SocketError, match=f"in the group {GROUP} al") as got:
                await groups.joinGroup(GROUP)
            assert got.value.code == "state"
            assert groups.joinedGroups == (GROUP, OTHER)
        # The kernel has left them with the socket.
        assert not groups.joinedGroups
        for call in (groups.joinGroup, groups.leaveGroup):
            with pytest.raises(SocketError, match="the socket is closed") as got:
                await call(GROUP)
            assert got.value.code == "state"

    in_own_network(NETWORK, check, runs_on)


async def test_an_ipv4_socket_cannot_join_a_group_of_ipv6() -> None:
    async with UDPSocket(localAddress="127.0.0.1") as socket:
        with pytest.raises(SocketError, match="could not join") as caught:
            await controller(await socket.opened).joinGroup(GROUP6)
        assert caught.value.errno is not None


@pytest.mark.parametrize(
    "group",
    ["localhost", "127.0.0.1", "::1", "223.255.255.255", "240.0.0.1", "fe80::1%1", ""],
)
async def test_a_group_has_the_address_of_a_group(group: str) -> None:
    async with UDPSocket(localAddress="127.0.0.1") as socket:
        groups = controller(await socket.opened)
        for call in (groups.joinGroup, groups.leaveGroup):
            with pytest.raises(SocketError) as caught:
                call(group)
            assert caught.value.code == "address"


@pytest.mark.parametrize("group", [None, 5, b"239.1.2.3"], ids=named)
async def test_a_group_is_a_str(group: Any) -> None:
    async with UDPSocket(localAddress="127.0.0.1") as socket:
        with pytest.raises(SocketError, match="not a str"):
            controller(await socket.opened).joinGroup(group)


def test_a_controller_is_not_constructed() -> None:
    with pytest.raises(TypeError, match="comes with a bound UDPSocket"):
        MulticastController()


def test_the_options_are_what_the_kernel_has() -> None:
    options = UDPSocketOptions(
        multicastTimeToLive=7,
        multicastLoopback=False,
        localAddress="::",
        multicastAllowAddressSharing=True,
    )
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        prepare_multicast(sock, options)
        for level, name, value in (
            (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 7),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 7),
            (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0),
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0),
            (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        ):
            assert sock.getsockopt(level, name) == value


def test_by_default_a_group_is_one_hop_away_and_heard_here() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        prepare_multicast(sock, UDPSocketOptions(localAddress="0.0.0.0"))
        for name, value in (
            (socket.IP_MULTICAST_TTL, 1),
            (socket.IP_MULTICAST_LOOP, 1),
        ):
            assert sock.getsockopt(socket.IPPROTO_IP, name) == value
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
