"""The way of a message to its destination, without a socket's life round it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.dialling import Allow, Names
from tests.naming import named
from wsockets import SocketError, UDPMessage
from wsockets.datagram import Datagrams
from wsockets.runtime import current
from wsockets.udp.outgoing import BoundOutbox, ConnectedOutbox

pytestmark = pytest.mark.every_loop

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
BOTH = [(V6, "::1"), (V4, "127.0.0.1")]


@contextmanager
def bound(ip: str, v6only: bool = False) -> Iterator[Datagrams]:
    with socket.socket(V6 if ":" in ip else V4, socket.SOCK_DGRAM) as sock:
        if v6only:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((ip, 0))
        sock.settimeout(5)
        yield Datagrams(sock, connected=False)


def outbox(datagrams: Datagrams, policy: Any = None, resolver: Any = None) -> Any:
    return BoundOutbox(current(), datagrams, policy, resolver)


def port_of(datagrams: Datagrams) -> int:
    port: int = datagrams.socket.getsockname()[1]
    return port


async def test_a_message_of_a_connected_socket_has_data_alone() -> None:
    with bound("127.0.0.1") as here, socket.socket(V4, socket.SOCK_DGRAM) as sock:
        sock.connect(here.socket.getsockname())
        box = ConnectedOutbox(Datagrams(sock, connected=True))
        for chunk in (b"data", "data", {"data": b"data"}, UDPMessage(b"data")):
            message = box.take(chunk)
            assert (message.ready, message.size) == (True, 12)
            await message.prepare()
            assert message.send() is None
            assert here.socket.recv(100) == b"data"
        for member, value in (
            ("remoteAddress", "127.0.0.1"),
            ("remotePort", 5),
            ("dnsQueryType", "ipv4"),
        ):
            with pytest.raises(TypeError, match=f"has {member}, and the socket is con"):
                box.take({"data": b"", member: value})


async def test_a_message_of_a_bound_socket_says_where_it_goes() -> None:
    with bound("127.0.0.1") as here:
        box = outbox(here)
        place = {"remoteAddress": "127.0.0.1", "remotePort": port_of(here)}
        message = box.take({"data": "to myself", **place})
        assert message.ready
        assert message.send() is None
        assert here.socket.recv(100) == b"to myself"
        for missing in place:
            rest = {name: value for name, value in place.items() if name != missing}
            with pytest.raises(TypeError, match=f"has no {missing}, and the socket is"):
                box.take({"data": b"", **rest})
        with pytest.raises(TypeError, match="has no remoteAddress"):
            box.take(b"data alone")


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("", 9),
        ("0177.1", 9),
        ("http://host", 9),
        (5, 9),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1", 0),
        ("127.0.0.1", "9"),
        ("127.0.0.1", True),
        ("::1", 9),
        (["127.0.0.1"], 9),
    ],
    ids=named,
)
async def test_what_is_no_address_is_refused(address: Any, port: Any) -> None:
    with bound("127.0.0.1") as here:
        message = {"data": b"", "remoteAddress": address, "remotePort": port}
        with pytest.raises(SocketError) as caught:
            outbox(here).take(message)
        assert caught.value.code == "address"


@pytest.mark.parametrize(
    ("local", "v6only", "remote", "reached"),
    [
        ("127.0.0.1", False, "127.0.0.1", True),
        ("127.0.0.1", False, "::1", False),
        ("::1", False, "::1", True),
        ("::1", False, "127.0.0.1", False),
        ("::", False, "::1", True),
        ("::", False, "127.0.0.1", True),
        ("::", False, "::ffff:127.0.0.1", True),
        ("::", True, "127.0.0.1", False),
        ("::", True, "::1", True),
        ("::ffff:127.0.0.1", False, "127.0.0.1", True),
    ],
    ids=named,
)
async def test_what_a_socket_can_send_to_follows_from_where_it_is_bound(
    local: str, v6only: bool, remote: str, reached: bool
) -> None:
    with bound("::1" if remote == "::1" else "127.0.0.1") as there:
        with bound(local, v6only) as here:
            chunk = UDPMessage("hello", remote, port_of(there))
            if reached:
                assert outbox(here).take(chunk).send() is None
                assert there.socket.recv(100) == b"hello"
                return
            with pytest.raises(SocketError, match=r"only AF_INET6? can be") as caught:
                outbox(here).take(chunk)
            assert caught.value.code == "address"


@pytest.mark.parametrize(
    ("local", "query", "reached"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("::1", None, "::1"),
        ("::", None, "::1"),
        ("::", "ipv4", "127.0.0.1"),
        ("::", "ipv6", "::1"),
        ("127.0.0.1", "ipv4", "127.0.0.1"),
    ],
    ids=named,
)
async def test_a_name_leads_to_an_address_that_can_be_sent_to(
    local: str, query: str | None, reached: str
) -> None:
    names = Names(BOTH)
    with bound(reached) as there, bound(local) as here:
        message = outbox(here, resolver=names).take(
            {
                "data": b"hello",
                "remoteAddress": "host.example",
                "remotePort": port_of(there),
                "dnsQueryType": query,
            }
        )
        assert not message.ready
        await message.prepare()
        assert message.ready
        assert message.send() is None
        assert there.socket.recv(100) == b"hello"
    assert names.asked == [("host.example", port_of_asked(names))]


def port_of_asked(names: Names) -> int:
    return names.asked[0][1]


async def test_a_query_type_that_cannot_be_sent_to_is_refused() -> None:
    with bound("127.0.0.1") as here:
        for host in ("host.example", "127.0.0.1"):
            with pytest.raises(SocketError, match="'ipv6' is of no use") as caught:
                outbox(here).take(UDPMessage(b"", host, 9, "ipv6"))
            assert caught.value.code == "option"
        with pytest.raises(SocketError, match='dnsQueryType is "ipv4" or "ipv6"'):
            outbox(here).take(
                {
                    "data": b"",
                    "remoteAddress": "127.0.0.1",
                    "remotePort": 9,
                    "dnsQueryType": "A",
                }
            )


async def test_the_policy_judges_what_is_sent_to() -> None:
    policy = Allow("127.0.0.1")
    with bound("::") as here:
        box = outbox(here, policy=policy, resolver=Names(BOTH))
        with pytest.raises(SocketError) as caught:
            box.take(UDPMessage(b"", "127.0.0.2", 9))
        assert caught.value.code == "policy"
        box.take(UDPMessage(b"", "127.0.0.1", 9))
        named_one = box.take(UDPMessage(b"", "host.example", 9))
        await named_one.prepare()
        refused = box.take(UDPMessage(b"", "host.example", 9, "ipv6"))
        with pytest.raises(SocketError) as caught:
            await refused.prepare()
        assert caught.value.code == "policy"
    # In the spelling of IPv4, though the socket sends to a mapped address.
    assert policy.asked == [
        ("127.0.0.2", "127.0.0.2", 9),
        ("127.0.0.1", "127.0.0.1", 9),
        ("host.example", "::1", 9),
        ("host.example", "127.0.0.1", 9),
        ("host.example", "::1", 9),
    ]
