"""UDPMessage, and what counts as one."""

from __future__ import annotations

import array
from typing import Any

import attrs
import pytest

from tests.naming import named
from wsockets import UDPMessage
from wsockets.datagram import Datagram
from wsockets.runtime.gate import Want
from wsockets.udp.messages import BoundInbox, ConnectedInbox, as_message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"ab", b"ab"),
        ("grüß", "grüß".encode()),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (array.array("H", [1]), array.array("H", [1]).tobytes()),
        (b"", b""),
    ],
    ids=named,
)
def test_data_is_what_has_bytes_alone_or_in_a_message(
    data: Any, expected: bytes
) -> None:
    message = UDPMessage(data)
    assert message.data == expected
    assert as_message(data) == message
    assert as_message({"data": data}) == message
    assert as_message(message) is message


def test_the_data_is_a_copy() -> None:
    buffer = bytearray(b"before")
    message = as_message(buffer)
    buffer[:] = b"after!"
    assert message.data == b"before"


@pytest.mark.parametrize("data", [None, 5, [1, 2], object(), "\ud800"], ids=named)
def test_what_has_no_bytes_is_no_data(data: Any) -> None:
    with pytest.raises(TypeError):
        UDPMessage(data)
    with pytest.raises(TypeError, match="a chunk is a UDPMessage or a mapping"):
        as_message(data)
    with pytest.raises(TypeError):
        as_message({"data": data})


def test_a_mapping_has_members_in_either_spelling() -> None:
    expected = UDPMessage(b"x", "::1", 53, "ipv6")
    for keys in (
        ("remoteAddress", "remotePort", "dnsQueryType"),
        ("remote_address", "remote_port", "dns_query_type"),
    ):
        values: dict[Any, Any] = dict(zip(keys, ("::1", 53, "ipv6"), strict=True))
        values |= {"data": b"x", "other": 1, 5: 6, "ttl": None}
        made = as_message(values)
        assert made == expected
    assert expected.remote_address == "::1"
    assert expected.remote_port == 53
    assert expected.dns_query_type == "ipv6"


def test_a_mapping_has_data_and_no_member_twice() -> None:
    with pytest.raises(TypeError, match="no data"):
        as_message({"remoteAddress": "::1"})
    with pytest.raises(TypeError, match="remotePort twice"):
        as_message({"data": b"", "remotePort": 1, "remote_port": 1})


def test_a_message_is_frozen_and_does_not_show_all_of_its_data() -> None:
    message = UDPMessage(bytes(10_000))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.data = b""  # type: ignore[misc]
    assert len(repr(message)) < 200


class Source:
    def __init__(self, *got: Any) -> None:
        self.got = list(got)

    def receive(self, limit: int) -> Any:
        assert limit == 65536
        return self.got.pop(0)


def test_a_connected_socket_gives_data_alone() -> None:
    source: Any = Source(
        Want.READ, Datagram(b"x", ("::1", 1), False), Datagram(b"", None, True)
    )
    inbox = ConnectedInbox(source)
    assert inbox.receive(65536) is Want.READ
    assert inbox.receive(65536) == UDPMessage(b"x")
    assert inbox.receive(65536) == UDPMessage(b"", truncated=True)


@pytest.mark.parametrize(
    ("sender", "address"),
    [
        (("127.0.0.1", 9), "127.0.0.1"),
        (("::1", 9, 0, 0), "::1"),
        (("fe80::1", 9, 0, 2), "fe80::1%2"),
    ],
    ids=named,
)
def test_a_bound_socket_tells_who_it_was(sender: Any, address: str) -> None:
    source: Any = Source(
        Datagram(b"x", sender, False), Want.READ, Datagram(b"", sender, True)
    )
    inbox = BoundInbox(source)
    assert inbox.receive(65536) == UDPMessage(b"x", address, 9)
    assert inbox.receive(65536) is Want.READ
    assert inbox.receive(65536) == UDPMessage(b"", address, 9, truncated=True)


def test_an_empty_message_is_true() -> None:
    """A readable takes what is false for the end."""
    assert bool(UDPMessage(b"")) is True
