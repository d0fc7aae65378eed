"""From a name to numeric addresses."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice, zip_longest
from typing import Final, TypeAlias

from ..errors import SocketError
from ..runtime import Runtime

__all__ = ["MAX_ADDRESSES", "Resolver", "resolve"]

Resolver: TypeAlias = "Callable[[str, int], Awaitable[Iterable[tuple[int, str]]]]"

MAX_ADDRESSES: Final = 64
"""Addresses of one name that are tried at most."""

_FAMILIES: Final = {
    int(socket.AF_INET): socket.AF_INET,
    int(socket.AF_INET6): socket.AF_INET6,
}


async def resolve(
    runtime: Runtime, host: str, port: int, resolver: Resolver | None = None
) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of `host` in the order in which to try them.

    `resolver` is an async function (host, port) -> [(family, ip)] used instead of
    the system's; family is socket.AF_INET or AF_INET6 and ip a numeric address of
    that family. Addresses given twice and those after the 64th are left out.
    Families take turns, beginning with that of the first (RFC 8305 section 4).

    Raises SocketError "dns": no such name, no address, a resolver that failed, or
    an answer that is not of this form; `__cause__` is the original error.
    """
    try:
        if resolver is None:
            answer: Iterable[tuple[int, str]] = await runtime.getaddrinfo(host, port)
        else:
            answer = await resolver(host, port)
        addresses = [_checked(entry) for entry in islice(answer, MAX_ADDRESSES)]
    except Exception as error:
        # An OSError's own text begins with its number.
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SocketError(
            f"could not resolve {host!r}: {why}", code="dns"
        ) from error.with_traceback(None)
    if not addresses:
        raise SocketError(f"could not resolve {host!r}: it has no address", code="dns")
    return _interleaved(list(dict.fromkeys(addresses)))


def _checked(entry: object) -> tuple[socket.AddressFamily, str]:
    match entry:
        case (int(number), str(ip)) if number in _FAMILIES:
            family = _FAMILIES[number]
        case _:
            raise ValueError(
                f"the resolver gave {entry!r}, not a pair (family, ip) with "
                "socket.AF_INET or socket.AF_INET6 and a str"
            )
    bare, percent, zone = ip.partition("%")
    try:
        packed = socket.inet_pton(family, bare)
    except (OSError, ValueError):
        raise ValueError(
            f"the resolver gave {ip!r}, which is not a numeric {family.name} address"
        ) from None
    if percent and not (zone and packed[:1] == b"\xfe" and packed[1] & 0xC0 == 0x80):
        raise ValueError(
            f"the resolver gave {ip!r}; only fe80::/10 addresses take a zone id"
        )
    return family, socket.inet_ntop(family, packed) + percent + zone


def _interleaved(
    addresses: list[tuple[socket.AddressFamily, str]],
) -> list[tuple[socket.AddressFamily, str]]:
    first = addresses[0][0]
    ours = [address for address in addresses if address[0] == first]
    others = [address for address in addresses if address[0] != first]
    turns = zip_longest(ours, others)
    return [address for turn in turns for address in turn if address is not None]
