from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsockets.dial import deny_private


def listed(addresses: str) -> list[str]:
    return addresses.split()


PRIVATE = listed(
    """
    0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.1 100.127.255.255
    100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.0.1
    169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1
    192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.254
    255.255.255.255
    """
)

PUBLIC = listed(
    """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0
    126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255
    169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255
    192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
    """
)

PRIVATE6 = listed(
    """
    :: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b:1::1
    64:ff9b:1:ffff:ffff:ffff:808:808 64:ff9b::1:0:0 100::1 100:0:0:1::1
    2001::1 2001:0:808:808:: 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
    2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2002:: 2002:808:808::1
    2002:7f00:1::1 3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 fd00::1
    fd00:ec2::254 fdff:ffff::1 fe00::1 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1
    1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    """
)

PUBLIC6 = listed(
    """
    2000::1 2001:200::1 2001:4860:4860::8888 2001:db7:ffff::1 2001:db9::1
    2003::1 2606:4700:4700::1111 2a00::1 3ffe:ffff::1 3fff:1000::1
    """
)


def denied(address: str) -> str | None:
    """Why the policy refuses `address`."""
    try:
        allowed = deny_private()("a.example", address, 443)
    except PermissionError as error:
        return str(error)
    assert allowed is True
    return None


@pytest.mark.parametrize("address", PRIVATE + PRIVATE6)
def test_what_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert denied(address)


@pytest.mark.parametrize("address", PUBLIC + PUBLIC6)
def test_a_public_address_is_allowed(address: str) -> None:
    assert denied(address) is None


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("prefix", ["::ffff:", "64:ff9b::"])
def test_a_private_address_is_refused_in_the_guise_of_ipv6(
    prefix: str, address: str
) -> None:
    assert denied(prefix + address)


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("prefix", ["::ffff:", "64:ff9b::"])
def test_a_public_address_is_allowed_in_the_guise_of_ipv6(
    prefix: str, address: str
) -> None:
    assert denied(prefix + address) is None


@pytest.mark.parametrize(
    "address",
    [
        "unix:/run/docker.sock",
        "fe80::1%eth0",
        "2606:4700:4700::1111%eth0",
        "localhost",
        "a.example",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "8.8.8.8:53",
        "[2606:4700:4700::1111]",
        "",
    ],
)
def test_whatever_is_no_plain_numeric_address_is_refused(address: str) -> None:
    assert denied(address)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::10.0.0.1", "private"),
        ("::", "this host"),
        ("::1", "loopback"),
        ("::7f00:1", "an IPv4-compatible address"),
        ("64:ff9b:1::1", "a local translation to IPv4"),
        ("2002:808:808::1", "a 6to4 tunnel"),
        ("fd00::1", "private"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "reserved"),
        ("fe80::1%eth0", "an address with a zone id"),
        ("unix:/run/x", "on this host"),
        ("localhost", "not a numeric address"),
    ],
)
def test_the_reason_is_told(address: str, what: str) -> None:
    assert denied(address) == f"{address} is {what}"


# Python's own tables, where they are about the same thing: older ones do not look
# into mapped addresses, and none looks behind a NAT64.


@given(st.ip_addresses(v=4))
@example(IPv4Address("192.0.0.9"))
def test_what_is_allowed_of_ipv4_is_global_by_pythons_own_table(
    address: IPv4Address,
) -> None:
    if denied(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@given(
    st.one_of(
        st.ip_addresses(v=6),
        st.ip_addresses(network="2000::/3"),
        st.ip_addresses(network="2001::/16"),
        st.ip_addresses(network="fc00::/6"),
    )
)
def test_what_is_allowed_of_ipv6_is_global_by_pythons_own_table(
    address: IPv6Address,
) -> None:
    if address.ipv4_mapped or address in IPv6Network("64:ff9b::/96"):
        return
    if denied(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved
        assert not address.is_site_local
