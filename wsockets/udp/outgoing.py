"""The way of a message from `write()` to its destination.

On a connected socket a message has no destination of its own. On a bound one it
has an address and a port. A numeric address is looked at, and put to the policy,
by the call that writes it; a name has to be looked up first, and the policy judges
the addresses that are found.
"""

from __future__ import annotations

import functools
import socket as _socket
from typing import Any, Final

from ..address import SocketAddress
from ..datagram import Datagrams
from ..dial import Policy, Resolver, destination, find_destination
from ..errors import SocketError
from ..runtime import Runtime
from ..runtime.gate import Want
from .messages import UDPMessage, as_message
from .options import family_of

__all__ = ["BoundOutbox", "ConnectedOutbox"]

# RFC 768: what a datagram has beside its data. An empty one is not for nothing.
_HEADER: Final = 8


class _Outgoing:
    """A message that can be sent."""

    __slots__ = ("_data", "_datagrams", "_target", "ready", "size")

    def __init__(self, datagrams: Datagrams, data: bytes, target: Any) -> None:
        self._datagrams = datagrams
        self._data = data
        self._target = target
        self.size = len(data) + _HEADER
        self.ready = True

    async def prepare(self) -> None:
        """Nothing has to be waited for."""

    def send(self) -> Want | SocketError | None:
        return self._datagrams.send(self._data, self._target)


class ConnectedOutbox:
    """What is written to a connected socket."""

    __slots__ = ("_datagrams",)

    def __init__(self, datagrams: Datagrams) -> None:
        self._datagrams = datagrams

    def take(self, chunk: Any) -> _Outgoing:
        """The message of a chunk; TypeError."""
        message = as_message(chunk)
        for member in ("remoteAddress", "remotePort", "dnsQueryType"):
            if getattr(message, member) is not None:
                raise TypeError(
                    f"the message has {member}, and the socket is connected: its "
                    "messages all go to the same place"
                )
        return _Outgoing(self._datagrams, message.data, None)


class BoundOutbox:
    """What is written to a bound socket."""

    __slots__ = ("_datagrams", "_family", "_policy", "_resolver", "_runtime")

    def __init__(
        self,
        runtime: Runtime,
        datagrams: Datagrams,
        policy: Policy | None,
        resolver: Resolver | None,
    ) -> None:
        self._runtime = runtime
        self._datagrams = datagrams
        self._policy = policy
        self._resolver = resolver
        # The only family of addresses that it can send to; None: both.
        self._family = _only_family(datagrams.socket)

    def take(self, chunk: Any) -> _Outgoing:
        """The message of a chunk; TypeError, SocketError among them."""
        message = as_message(chunk)
        for member in ("remoteAddress", "remotePort"):
            if getattr(message, member) is None:
                raise TypeError(
                    f"the message has no {member}, and the socket is bound: each of "
                    "its messages says where it goes"
                )
        address = _address(message)
        family = self._wanted_family(message)
        numeric = address.numeric
        if numeric is None:
            return _Lookup(self, message.data, address, family)
        if family is not None and numeric[0] != family:
            raise SocketError(
                f"could not send to {address}: only {family.name} can be sent to",
                code="address",
            )
        target = self.fit(numeric[0], destination(address, self._policy))
        return _Outgoing(self._datagrams, message.data, target)

    def _wanted_family(self, message: UDPMessage) -> _socket.AddressFamily | None:
        asked = family_of(message.dnsQueryType)
        if asked is None:
            return self._family
        if self._family not in (None, asked):
            raise SocketError(
                f"dnsQueryType {message.dnsQueryType!r} is of no use: from where the "
                "socket is bound there is no way to such an address",
                code="option",
            )
        return asked

    def fit(self, family: _socket.AddressFamily, target: Any) -> Any:
        """`target` as this socket takes it: an IPv6 one has IPv4 mapped."""
        if family == self._datagrams.socket.family:
            return target
        host, port = target
        return (f"::ffff:{host}", port)

    async def look_up(
        self, address: SocketAddress, family: _socket.AddressFamily | None
    ) -> Any:
        """Where a name leads to; SocketError."""
        found, target = await find_destination(
            self._runtime,
            address,
            family=family,
            policy=self._policy,
            resolver=self._resolver,
        )
        return self.fit(found, target)


class _Lookup(_Outgoing):
    """A message to a name."""

    __slots__ = ("_address", "_family", "_outbox")

    def __init__(
        self,
        outbox: BoundOutbox,
        data: bytes,
        address: SocketAddress,
        family: _socket.AddressFamily | None,
    ) -> None:
        super().__init__(outbox._datagrams, data, None)
        self._outbox = outbox
        self._address = address
        self._family = family
        self.ready = False

    async def prepare(self) -> None:
        self._target = await self._outbox.look_up(self._address, self._family)
        self.ready = True


def _only_family(sock: _socket.socket) -> _socket.AddressFamily | None:
    """The family of addresses that a bound socket can send to; None: both."""
    family = _socket.AddressFamily(sock.family)
    if family == _socket.AF_INET6:
        local = sock.getsockname()[0]
        # Bound to an address of its own, it sends from that.
        both = local == "::" or local.startswith("::ffff:")
        if both and not sock.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY):
            return None
    return family


def _address(message: UDPMessage) -> SocketAddress:
    host: Any = message.remoteAddress
    port: Any = message.remotePort
    if host.__class__ is str and port.__class__ is int:
        return _parsed(host, port)
    return SocketAddress(host, port)


@functools.lru_cache(maxsize=1024)
def _parsed(host: str, port: int) -> SocketAddress:
    if not host:
        raise SocketError("remoteAddress is empty", code="address")
    return SocketAddress(host, port)
