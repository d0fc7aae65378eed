"""Where datagrams go: the same names, policies and errors as for connections.

Connecting a UDP socket sends nothing, so there is no race to win: of several
addresses the first one that the policy allows and that there is a way to is taken.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from ..address import SocketAddress
from ..errors import SocketError
from ..runtime import Runtime
from .attempt import TcpTarget, tcp_target
from .failures import Failure, at, combined, connect_failure
from .policy import Policy, judge
from .resolve import Resolver, resolve

__all__ = ["connect_udp", "destination", "find_destination", "open_udp"]

_DATAGRAMS: Final = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)
_STARTS_BLOCKING: Final = _DATAGRAMS == socket.SOCK_DGRAM
_NAMES: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


def open_udp(family: int) -> socket.socket:
    """A UDP socket, non-blocking and close-on-exec; OSError."""
    sock = socket.socket(family, _DATAGRAMS)
    if _STARTS_BLOCKING:
        sock.setblocking(False)
    return sock


async def connect_udp(
    runtime: Runtime,
    address: SocketAddress,
    prepare: Callable[[socket.socket], object],
    *,
    family: socket.AddressFamily | None = None,
    policy: Policy | None = None,
    resolver: Resolver | None = None,
) -> socket.socket:
    """A UDP socket whose peer is `address`; of `family` where one is given.

    `prepare` is called with the socket before it is connected. Suspends for a
    name only. Raises SocketError: "address" for port 0 and for an address that is
    not of `family`, "dns", "policy", "unreachable" or another of the operating
    system's.
    """
    _check_port(address)
    failures: list[Failure] = []
    for kind, ip in await _addresses(runtime, address, family, resolver):
        target = _target(address.hostname, ip, address.port, policy)
        if isinstance(target, Failure):
            failures.append(target)
            continue
        try:
            return _connected(kind, target, prepare)
        except OSError as error:
            failures.append(connect_failure(at(ip, address.port), error))
    raise combined(str(address), failures)


def _connected(
    family: int, target: TcpTarget, prepare: Callable[[socket.socket], object]
) -> socket.socket:
    sock = open_udp(family)
    try:
        prepare(sock)
        sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return sock


def destination(address: SocketAddress, policy: Policy | None = None) -> TcpTarget:
    """The argument of sendto() for a numeric `address`.

    Raises SocketError: "address" for port 0, "policy", "os" for a zone id that is no
    interface.
    """
    _check_port(address)
    target = _target(address.hostname, address.hostname, address.port, policy)
    if isinstance(target, Failure):
        raise target.error
    return target


async def find_destination(
    runtime: Runtime,
    address: SocketAddress,
    *,
    family: socket.AddressFamily | None = None,
    policy: Policy | None = None,
    resolver: Resolver | None = None,
) -> tuple[socket.AddressFamily, TcpTarget]:
    """The first address of a name that the policy allows, as sendto() takes it.

    Raises SocketError as `connect_udp` does.
    """
    _check_port(address)
    failures: list[Failure] = []
    for kind, ip in await _addresses(runtime, address, family, resolver):
        target = _target(address.hostname, ip, address.port, policy)
        if not isinstance(target, Failure):
            return kind, target
        failures.append(target)
    raise combined(str(address), failures)


def _target(
    host: str, ip: str, port: int, policy: Policy | None
) -> TcpTarget | Failure:
    where = at(ip, port)
    if refused := judge(policy, host, ip, port, where):
        return refused
    try:
        return tcp_target(ip, port)
    except OSError as error:
        return connect_failure(where, error)


def _check_port(address: SocketAddress) -> None:
    if not address.port:
        raise SocketError(
            f"could not send to {address}: port 0 stands for no service",
            code="address",
        )


async def _addresses(
    runtime: Runtime,
    address: SocketAddress,
    family: socket.AddressFamily | None,
    resolver: Resolver | None,
) -> list[tuple[socket.AddressFamily, str]]:
    numeric = address.numeric
    if numeric is not None:
        if family is not None and numeric[0] != family:
            raise SocketError(
                f"could not send to {address}: it is not an {_NAMES[family]} address",
                code="address",
            )
        return [numeric]
    found = await resolve(runtime, address.hostname, address.port, resolver)
    wanted = [each for each in found if family in (None, each[0])]
    if not wanted:
        assert family is not None
        raise SocketError(
            f"could not resolve {address.hostname!r}: it has no "
            f"{_NAMES[family]} address",
            code="dns",
        )
    return wanted
