"""A policy against requests forged towards our own networks.

What counts is where the packets would go: an IPv6 address that carries an IPv4
one (RFC 4291 section 2.5.5.2, RFC 6052) is judged by that. For IPv4 the table
lists what is refused. Of IPv6 only 2000::/3 is handed out at all, so all else is
refused unseen, and the table lists what is refused within.

The sources are the IANA registries of special-purpose addresses (RFC 6890):
https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry.
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

from .policy import Policy

__all__ = ["deny_private"]

_IPV4: Final = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "the host of a virtual machine (Azure)"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "for protocols only"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_IPV6: Final = tuple(
    (IPv6Network(network), what)
    for network, what in (
        # Teredo, benchmarks, ORCHID and more.
        ("2001::/23", "for protocols only"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a 6to4 tunnel"),
        ("3fff::/20", "for documentation"),
        # Beyond 2000::/3, for the sake of the reason alone.
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b:1::/48", "a local translation to IPv4"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_GLOBAL: Final = IPv6Network("2000::/3")


def deny_private() -> Policy:
    """A policy that refuses whatever does not belong to the public Internet.

    That is loopback, private, link-local (169.254.169.254 included), carrier-
    shared, multicast, broadcast, documentation, benchmark and reserved addresses,
    IPv6 tunnels, and IPv6 addresses that stand for such an IPv4 one; addresses
    with a zone id; `unix:` addresses. A proxy is judged as well, so one in a
    private network needs a policy that lets it pass.

    The policy returns True or raises PermissionError with the reason. Public
    addresses of this very host are not known to it.
    """
    return _deny_private


def _deny_private(host: str, address: str, port: int) -> object:
    if why := _objection(address):
        raise PermissionError(f"{address} is {why}")
    return True


def _objection(text: str) -> str | None:
    if text.startswith("unix:"):
        return "on this host"
    if "%" in text:
        return "an address with a zone id"
    try:
        address = ip_address(text)
    except ValueError:
        return "not a numeric address"
    if isinstance(address, IPv4Address):
        return _objection_to_ipv4(address)
    if address in _MAPPED or address in _NAT64:
        return _objection_to_ipv4(IPv4Address(int(address) & 0xFFFFFFFF))
    return _objection_to_ipv6(address)


def _objection_to_ipv4(address: IPv4Address) -> str | None:
    return next((what for network, what in _IPV4 if address in network), None)


def _objection_to_ipv6(address: IPv6Address) -> str | None:
    what = next((what for network, what in _IPV6 if address in network), None)
    return what or (None if address in _GLOBAL else "reserved")
