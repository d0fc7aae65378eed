"""What `UDPSocket()` is told, and which of it goes together."""

from __future__ import annotations

import socket as _socket
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack

import attrs

from ..address import SocketAddress
from ..dial import Policy, Resolver, check_dial
from ..errors import SocketError
from ..options import (
    SignalLike,
    a_bool,
    a_signal,
    a_size,
    given_members,
    option_error,
)
from ..socket_options import SystemOptions

__all__ = [
    "SocketDnsQueryType",
    "UDPSocketOptions",
    "UDPSocketOptionsMembers",
    "family_of",
    "local_of",
    "remote_of",
    "system_options_of",
]

SocketDnsQueryType: TypeAlias = Literal["ipv4", "ipv6"]

_FAMILIES: Final[dict[object, _socket.AddressFamily]] = {
    "ipv4": _socket.AF_INET,
    "ipv6": _socket.AF_INET6,
}
_TTL_MAX: Final = 255
_maybe: Final = attrs.validators.optional


def _a_query_type(_: object, __: object, value: object) -> None:
    family_of(value)


def _a_ttl(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 0 <= value <= _TTL_MAX
    ):
        raise option_error(field.name, value, f"an int from 0 to {_TTL_MAX}")


class UDPSocketOptionsMembers(TypedDict, total=False):
    """The members of `UDPSocketOptions`, in either spelling."""

    remoteAddress: str | None
    remote_address: str | None
    remotePort: int | None
    remote_port: int | None
    localAddress: str | None
    local_address: str | None
    localPort: int | None
    local_port: int | None
    sendBufferSize: int | None
    send_buffer_size: int | None
    receiveBufferSize: int | None
    receive_buffer_size: int | None
    dnsQueryType: SocketDnsQueryType | None
    dns_query_type: SocketDnsQueryType | None
    ipv6Only: bool | None
    ipv6_only: bool | None
    multicastAllowAddressSharing: bool | None
    multicast_allow_address_sharing: bool | None
    multicastTimeToLive: int | None
    multicast_time_to_live: int | None
    multicastLoopback: bool | None
    multicast_loopback: bool | None
    highWaterMark: int | None
    high_water_mark: int | None
    signal: SignalLike | None
    policy: Policy | None
    resolver: Resolver | None


@attrs.frozen(init=False)
class UDPSocketOptions:
    """What `UDPSocket()` is told; None: not given.

    With `remoteAddress` and `remotePort` a socket is connected, with
    `localAddress` it is bound: one or the other.

    - `remoteAddress`, a name or a numeric address, and `remotePort`.
    - `dnsQueryType`: "ipv4" or "ipv6" for addresses of that kind only; connected.
    - `localAddress`, a numeric address ("0.0.0.0" and "::" are all interfaces),
      and `localPort`, 1 to 65535: without it the system chooses one.
    - `ipv6Only`: whether a socket bound to "::" leaves out IPv4.
    - `sendBufferSize`, `receiveBufferSize`: of the kernel's queues, in bytes.
    - `multicastTimeToLive`: how many routers may pass on what is sent to a group,
      plus one; 0 to 255, and 1 by default.
    - `multicastLoopback`: whether it comes to this machine's own members as well;
      they get it by default.
    - `multicastAllowAddressSharing`: whether other sockets that agree may be bound
      to the same address and port; bound. Unicast datagrams then reach only one
      of them.
    - `highWaterMark`: how many bytes `writable` queues before it asks for a
      pause, at least 1.
    - `signal`: an AbortSignal that ends the socket when it is aborted.
    - `policy`: a function (host, address, port), asked about each numeric address
      that is connected or sent to; False or an exception refuses it.
    - `resolver`: an async function (host, port) -> [(family, ip)].

    Made of a mapping or keywords, in either spelling. Raises SocketError: "option"
    for a value or a combination that is not accepted, "address" for an address or
    port.
    https://wicg.github.io/direct-sockets/#udpsocketoptions-dictionary
    """

    remoteAddress: str | None = None
    remotePort: int | None = None
    localAddress: str | None = None
    localPort: int | None = None
    sendBufferSize: int | None = None
    receiveBufferSize: int | None = None
    dnsQueryType: SocketDnsQueryType | None = attrs.field(
        default=None, validator=_a_query_type
    )
    ipv6Only: bool | None = attrs.field(default=None, validator=_maybe(a_bool))
    multicastAllowAddressSharing: bool | None = attrs.field(
        default=None, validator=_maybe(a_bool)
    )
    multicastTimeToLive: int | None = attrs.field(
        default=None, validator=_maybe(_a_ttl)
    )
    multicastLoopback: bool | None = attrs.field(default=None, validator=_maybe(a_bool))
    highWaterMark: int = attrs.field(default=65536, validator=a_size)
    signal: SignalLike | None = attrs.field(default=None, validator=a_signal)
    policy: Policy | None = None
    resolver: Resolver | None = None

    def __init__(
        self, options: object = None, /, **members: Unpack[UDPSocketOptionsMembers]
    ) -> None:
        self.__attrs_init__(
            **given_members(
                UDPSocketOptions, options, members, where="UDPSocketOptions()"
            )
        )

    def __attrs_post_init__(self) -> None:
        # SystemOptions has the rules for sizes.
        system_options_of(self)
        check_dial(policy=self.policy, resolver=self.resolver)
        if (self.remoteAddress is None) is not (self.remotePort is None):
            raise _wrong("remoteAddress and remotePort are given together")
        connected, bound = self.remoteAddress is not None, self.localAddress is not None
        if self.localPort is not None and not bound:
            raise _wrong("localPort needs a localAddress")
        if connected and bound:
            raise _wrong("remoteAddress, for a connected socket, excludes localAddress")
        if connected:
            self._check_connected()
        elif bound:
            self._check_bound()
        # Neither is for the constructor of the socket to refuse: options can be
        # gathered first.

    def _check_connected(self) -> None:
        for member in ("ipv6Only", "multicastAllowAddressSharing"):
            if getattr(self, member) is not None:
                raise _wrong(f"{member} is for a bound socket (localAddress)")
        remote_of(self)

    def _check_bound(self) -> None:
        if self.dnsQueryType is not None:
            raise _wrong("dnsQueryType is for a connected socket (remoteAddress)")
        if self.localPort == 0 and not isinstance(self.localPort, bool):
            raise _wrong("localPort is 1 to 65535; leave it out to have one chosen")
        _, ip, _ = local_of(self)
        if self.ipv6Only is not None and ip != "::":
            raise _wrong(f'ipv6Only is for localAddress "::"; it is {ip!r}')

    @property
    def remote_address(self) -> str | None:
        """`remoteAddress`."""
        return self.remoteAddress

    @property
    def remote_port(self) -> int | None:
        """`remotePort`."""
        return self.remotePort

    @property
    def local_address(self) -> str | None:
        """`localAddress`."""
        return self.localAddress

    @property
    def local_port(self) -> int | None:
        """`localPort`."""
        return self.localPort

    @property
    def send_buffer_size(self) -> int | None:
        """`sendBufferSize`."""
        return self.sendBufferSize

    @property
    def receive_buffer_size(self) -> int | None:
        """`receiveBufferSize`."""
        return self.receiveBufferSize

    @property
    def dns_query_type(self) -> SocketDnsQueryType | None:
        """`dnsQueryType`."""
        return self.dnsQueryType

    @property
    def ipv6_only(self) -> bool | None:
        """`ipv6Only`."""
        return self.ipv6Only

    @property
    def multicast_allow_address_sharing(self) -> bool | None:
        """`multicastAllowAddressSharing`."""
        return self.multicastAllowAddressSharing

    @property
    def multicast_time_to_live(self) -> int | None:
        """`multicastTimeToLive`."""
        return self.multicastTimeToLive

    @property
    def multicast_loopback(self) -> bool | None:
        """`multicastLoopback`."""
        return self.multicastLoopback

    @property
    def high_water_mark(self) -> int:
        """`highWaterMark`."""
        return self.highWaterMark


def _wrong(why: str) -> SocketError:
    return SocketError(why, code="option")


def remote_of(options: UDPSocketOptions) -> SocketAddress | None:
    """The peer of a connected socket, else None. SocketError "address"."""
    host, port = options.remoteAddress, options.remotePort
    if host is None or port is None:
        return None
    address = SocketAddress(host, port)
    if not address.hostname:
        raise SocketError("remoteAddress is empty", code="address")
    return address


def local_of(options: UDPSocketOptions) -> tuple[_socket.AddressFamily, str, int]:
    """Family, address and port (0: any) of a bound socket. SocketError "address"."""
    host, port = options.localAddress, options.localPort
    assert host is not None
    address = SocketAddress(host, 0 if port is None else port)
    if address.numeric is None:
        raise SocketError(
            f"localAddress is a numeric address, not {host!r}", code="address"
        )
    return *address.numeric, address.port


def family_of(query: object) -> _socket.AddressFamily | None:
    """The address family that a dnsQueryType asks for; SocketError "option"."""
    if query is None:
        return None
    if not isinstance(query, str) or query not in _FAMILIES:
        raise option_error("dnsQueryType", query, '"ipv4" or "ipv6"')
    return _FAMILIES[query]


def system_options_of(options: UDPSocketOptions) -> SystemOptions:
    """Those that are options of the operating system's socket by the same name."""
    return SystemOptions(
        sendBufferSize=options.sendBufferSize,
        receiveBufferSize=options.receiveBufferSize,
    )
