"""What UDPSocket() is told, and which of it goes together."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.naming import named
from wsockets import AbortSignal, SocketError, UDPSocketOptions
from wsockets.udp.options import family_of, local_of, remote_of, system_options_of

REMOTE = {"remoteAddress": "host.example", "remotePort": 53}
LOCAL = {"localAddress": "127.0.0.1"}


def wrong(code: str = "option", /, **members: Any) -> str:
    with pytest.raises(SocketError) as caught:
        UDPSocketOptions(**members)
    assert caught.value.code == code
    return str(caught.value)


def test_connected_is_what_has_a_remote_address_and_port() -> None:
    options = UDPSocketOptions(**REMOTE, dnsQueryType="ipv6")  # type: ignore[arg-type]
    assert str(remote_of(options)) == "host.example:53"
    assert family_of(options.dnsQueryType) == socket.AF_INET6


@pytest.mark.parametrize(
    ("members", "local"),
    [
        (LOCAL, (socket.AF_INET, "127.0.0.1", 0)),
        ({"localAddress": "::", "localPort": 53}, (socket.AF_INET6, "::", 53)),
        ({"localAddress": "[::1]"}, (socket.AF_INET6, "::1", 0)),
        ({"local_address": "0:0::1", "local_port": 65535}, (10, "::1", 65535)),
    ],
    ids=named,
)
def test_bound_is_what_has_a_local_address(members: Any, local: object) -> None:
    options = UDPSocketOptions(members)
    assert local_of(options) == local
    assert remote_of(options) is None


def test_nothing_given_is_nothing() -> None:
    options = UDPSocketOptions({"remoteAddress": None, "other": 1}, localPort=None)
    assert options == UDPSocketOptions()
    assert remote_of(options) is None
    assert family_of(None) is None


@pytest.mark.parametrize("missing", REMOTE)
def test_a_remote_address_needs_a_port_and_a_port_an_address(missing: str) -> None:
    rest = {name: value for name, value in REMOTE.items() if name != missing}
    assert "are given together" in wrong(**rest)


def test_a_local_port_needs_a_local_address() -> None:
    assert "localPort needs a localAddress" in wrong(localPort=53)
    assert "localPort needs" in wrong(**REMOTE, localPort=53)


def test_a_local_address_excludes_a_remote_one() -> None:
    assert "excludes localAddress" in wrong(**REMOTE, **LOCAL)


def test_the_local_port_is_above_0() -> None:
    assert "leave it out" in wrong(**LOCAL, localPort=0)


@pytest.mark.parametrize("port", [-1, 65536, True, False, 53.0, "53"], ids=named)
def test_a_port_is_a_number_of_16_bits(port: Any) -> None:
    wrong("address", **LOCAL, localPort=port)
    wrong("address", remoteAddress="127.0.0.1", remotePort=port)


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "host.example", "127.1", "127.0.0.1:53", 5, b"::"],
    ids=named,
)
def test_a_local_address_is_a_numeric_one(address: Any) -> None:
    wrong("address", localAddress=address)


@pytest.mark.parametrize(
    "address", ["", "host:53", "http://host", "0177.1", "a b", 5, b"host"], ids=named
)
def test_a_remote_address_is_a_name_or_a_numeric_one(address: Any) -> None:
    wrong("address", remoteAddress=address, remotePort=53)


def test_a_query_type_is_for_connected_sockets() -> None:
    assert "for a connected socket" in wrong(**LOCAL, dnsQueryType="ipv4")


@pytest.mark.parametrize("value", [True, False])
def test_leaving_out_ipv4_is_for_sockets_bound_to_all_of_ipv6(value: bool) -> None:
    for address in ("::", "[0::0]"):
        assert UDPSocketOptions(localAddress=address, ipv6Only=value).ipv6_only is value
    assert 'is for localAddress "::"' in wrong(localAddress="::1", ipv6Only=value)
    assert "it is '0.0.0.0'" in wrong(localAddress="0.0.0.0", ipv6Only=value)
    assert "ipv6Only is for a bound socket" in wrong(**REMOTE, ipv6Only=value)


def test_sharing_an_address_is_for_bound_sockets() -> None:
    assert "is for a bound socket" in wrong(**REMOTE, multicastAllowAddressSharing=True)
    options = UDPSocketOptions(**LOCAL, multicastAllowAddressSharing=True)  # type: ignore[arg-type]
    assert options.multicast_allow_address_sharing


@pytest.mark.parametrize("name", ["sendBufferSize", "receiveBufferSize"])
def test_a_size_is_above_0(name: str) -> None:
    made: Any = UDPSocketOptions
    assert getattr(system_options_of(made(**{name: 1})), name) == 1
    for value in (0, -1, 2**31, True, "1", 1.5):
        assert name in wrong(**{name: value})


def test_the_members_of_multicast_have_their_ranges() -> None:
    for value in (0, 1, 255):
        options = UDPSocketOptions(multicastTimeToLive=value)
        assert options.multicast_time_to_live == value
    for wrong_value in (-1, 256, True, 1.0, "1"):
        text = wrong(multicastTimeToLive=wrong_value)
        assert "multicastTimeToLive is an int from 0 to 255" in text
    assert "True or False" in wrong(multicastLoopback=1)


@pytest.mark.parametrize("value", ["IPv4", "", 4, ["ipv4"]], ids=named)
def test_a_query_type_is_one_of_two(value: Any) -> None:
    assert 'dnsQueryType is "ipv4" or "ipv6"' in wrong(dnsQueryType=value)


def test_our_own_members_are_checked() -> None:
    assert "policy is a function" in wrong(policy=5)
    assert "resolver is an async function" in wrong(resolver=5)
    assert "highWaterMark is" in wrong(highWaterMark=0)
    assert "signal is" in wrong(signal=5)
    assert UDPSocketOptions(signal=AbortSignal.abort()).signal is not None


def test_a_member_is_given_once_and_a_keyword_is_known() -> None:
    with pytest.raises(SocketError, match="localPort is given twice"):
        UDPSocketOptions({"localPort": 1}, local_port=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'port'"):
        UDPSocketOptions(port=1)  # type: ignore[call-arg]


def test_every_member_reads_in_both_spellings() -> None:
    options = UDPSocketOptions(
        localAddress="::",
        localPort=53,
        sendBufferSize=1,
        receiveBufferSize=2,
        ipv6Only=True,
        multicastLoopback=False,
        highWaterMark=3,
    )
    assert options.local_address == "::"
    assert options.local_port == 53
    assert (options.send_buffer_size, options.receive_buffer_size) == (1, 2)
    assert options.multicast_loopback is False
    assert options.high_water_mark == 3
    options = UDPSocketOptions(REMOTE)
    assert (options.remote_address, options.remote_port) == ("host.example", 53)
    assert options.dns_query_type is None
