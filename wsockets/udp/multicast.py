"""Multicast: the groups that a bound socket listens to, and how it sends to any.

https://github.com/WICG/direct-sockets/blob/main/docs/multicast-explainer.md

The operating system chooses the interface, by its routes, as there. Unlike
elsewhere on Linux a socket gets what is sent to its own groups and to no others:
by default the kernel gives a socket that is bound to all interfaces whatever any
program of the machine has joined (ip(7), IP_MULTICAST_ALL).
"""

from __future__ import annotations

import socket as _socket
import sys
from typing import Final, final

from ..address import SocketAddress
from ..errors import SocketError, os_error
from ..promise import Promise, fulfilled, rejected
from ..runtime import Runtime
from .options import UDPSocketOptions

__all__ = ["MulticastController", "prepare_multicast"]

# Python has no names for them: linux/in.h and linux/in6.h.
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_LINUX: Final = sys.platform == "linux"
# What lets two sockets be bound to one address: on the BSDs it takes both.
_SHARING: Final = (
    (_socket.SO_REUSEADDR,) if _LINUX else (_socket.SO_REUSEADDR, _socket.SO_REUSEPORT)
)


def prepare_multicast(sock: _socket.socket, options: UDPSocketOptions) -> None:
    """Set what `options` say of multicast, before `sock` is bound or connected.

    Raises OSError.
    """
    levels = [_socket.IPPROTO_IP]
    if sock.family == _socket.AF_INET6:
        # It has both kinds, unless it leaves out IPv4.
        levels.append(_socket.IPPROTO_IPV6)
    for level in levels:
        six = level == _socket.IPPROTO_IPV6
        if options.multicastTimeToLive is not None:
            hops = _socket.IPV6_MULTICAST_HOPS if six else _socket.IP_MULTICAST_TTL
            sock.setsockopt(level, hops, options.multicastTimeToLive)
        if options.multicastLoopback is not None:
            loop = _socket.IPV6_MULTICAST_LOOP if six else _socket.IP_MULTICAST_LOOP
            sock.setsockopt(level, loop, options.multicastLoopback)
        if _LINUX:
            every = _IPV6_MULTICAST_ALL if six else _IP_MULTICAST_ALL
            sock.setsockopt(level, every, 0)
    if options.multicastAllowAddressSharing:
        for option in _SHARING:
            sock.setsockopt(_socket.SOL_SOCKET, option, 1)


@final
class MulticastController:
    """The multicast groups of a bound socket; `opened` gives it.

    When the socket closes it leaves them all.
    https://github.com/WICG/direct-sockets/blob/main/docs/multicast-explainer.md
    """

    __slots__ = ("_groups", "_runtime", "_sock")

    _groups: dict[str, None]
    _runtime: Runtime
    _sock: _socket.socket | None

    def __init__(self) -> None:
        raise TypeError(
            "a MulticastController is not constructed: it comes with a bound UDPSocket"
        )

    @classmethod
    def _make(cls, runtime: Runtime, sock: _socket.socket) -> MulticastController:
        self = cls.__new__(cls)
        self._runtime = runtime
        self._sock = sock
        self._groups = {}
        return self

    @property
    def joinedGroups(self) -> tuple[str, ...]:
        """The numeric addresses of the groups that the socket has joined."""
        return tuple(self._groups)

    def joinGroup(self, ipAddress: str) -> Promise[None]:
        """Receive what is sent to a group, from now on.

        SocketError (code "address") at the call unless it is the numeric address of
        a group. Rejects with one if the operating system refuses, and (code "state")
        if the socket has joined it before or is closed.
        """
        group = _group_address(ipAddress)
        if self._sock is not None and group in self._groups:
            return self._rejected(f"the socket is in the group {group} already")
        refusal = self._set("join", group)
        if refusal is not None:
            return refusal
        self._groups[group] = None
        return fulfilled(self._runtime, None)

    def leaveGroup(self, ipAddress: str) -> Promise[None]:
        """Receive no more of what is sent to a group.

        Raises and rejects as `joinGroup` does; with "state" if it is not joined.
        """
        group = _group_address(ipAddress)
        if self._sock is not None and group not in self._groups:
            return self._rejected(f"the socket is not in the group {group}")
        refusal = self._set("leave", group)
        if refusal is not None:
            return refusal
        del self._groups[group]
        return fulfilled(self._runtime, None)

    joined_groups = joinedGroups
    join_group = joinGroup
    leave_group = leaveGroup

    def _set(self, verb: str, group: str) -> Promise[None] | None:
        """Tell the kernel; a rejected promise if it refuses."""
        if self._sock is None:
            return self._rejected("the socket is closed")
        join = verb == "join"
        if ":" in group:
            level = _socket.IPPROTO_IPV6
            option = _socket.IPV6_JOIN_GROUP if join else _socket.IPV6_LEAVE_GROUP
            # ipv6_mreq: the group, and the index of an interface; 0 is any.
            request = _socket.inet_pton(_socket.AF_INET6, group) + bytes(4)
        else:
            level = _socket.IPPROTO_IP
            option = _socket.IP_ADD_MEMBERSHIP if join else _socket.IP_DROP_MEMBERSHIP
            # ip_mreq: the group, and the address of an interface; 0.0.0.0 is any.
            request = _socket.inet_aton(group) + bytes(4)
        try:
            self._sock.setsockopt(level, option, request)
        except OSError as error:
            failure = os_error(f"{verb} the multicast group {group}", error)
            return rejected(self._runtime, failure)
        return None

    def _rejected(self, why: str) -> Promise[None]:
        return rejected(self._runtime, SocketError(why, code="state"))

    def _close(self) -> None:
        """The socket is closed, and with it the kernel has left the groups."""
        self._sock = None
        self._groups = {}


def _group_address(text: str) -> str:
    """The numeric address of a group in its normal form; SocketError "address"."""
    address = SocketAddress(text, 0)
    numeric = address.numeric
    if numeric is None:
        raise SocketError(
            f"a multicast group is a numeric address, not {text!r}", code="address"
        )
    family, ip = numeric
    packed = _socket.inet_pton(family, ip.partition("%")[0])
    # RFC 1112, section 4: 224.0.0.0/4. RFC 4291, section 2.7: ff00::/8.
    if not (packed[0] >> 4 == 0xE if len(packed) == 4 else packed[0] == 0xFF):
        raise SocketError(
            f"{ip} is not the address of a multicast group (224.0.0.0/4, ff00::/8)",
            code="address",
        )
    return ip
