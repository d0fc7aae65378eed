"""UDPMessage: what is read from a UDP socket, and may be written to one."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ..datagram import Datagrams
from ..runtime.gate import Want
from ..streams.chunks import as_bytes
from .options import SocketDnsQueryType

__all__ = ["BoundInbox", "ConnectedInbox", "UDPMessage", "as_message"]


def _bytes(data: object) -> bytes:
    return data if data.__class__ is bytes else as_bytes(data)


@attrs.frozen
class UDPMessage:
    """A datagram.

    - `data`: its bytes; made of a str (as UTF-8) or of any bytes-like object.
    - `remoteAddress`, `remotePort`: where it came from, or is to go: a numeric
      address, or a name if it is sent. None on a connected socket.
    - `dnsQueryType`: "ipv4" or "ipv6", for a name that is sent to. None in what was
      received.
    - `truncated`: whether a received message was longer than what is kept of it.

    TypeError for `data` that has no bytes; the rest is looked at when it is written.
    https://wicg.github.io/direct-sockets/#udpmessage-dictionary
    """

    data: bytes = attrs.field(converter=_bytes, repr=reprlib.repr)
    remoteAddress: str | None = None
    remotePort: int | None = None
    dnsQueryType: SocketDnsQueryType | None = None
    truncated: bool = False

    @property
    def remote_address(self) -> str | None:
        """`remoteAddress`."""
        return self.remoteAddress

    @property
    def remote_port(self) -> int | None:
        """`remotePort`."""
        return self.remotePort

    @property
    def dns_query_type(self) -> SocketDnsQueryType | None:
        """`dnsQueryType`."""
        return self.dnsQueryType


_MEMBERS: Final = {
    "data": "data",
    "remoteAddress": "remoteAddress",
    "remote_address": "remoteAddress",
    "remotePort": "remotePort",
    "remote_port": "remotePort",
    "dnsQueryType": "dnsQueryType",
    "dns_query_type": "dnsQueryType",
}


def as_message(chunk: object) -> UDPMessage:
    """What was written, as a message with bytes of its own.

    A UDPMessage, a mapping with its members in either spelling (others are
    ignored), or the data alone. TypeError for anything else.
    """
    if isinstance(chunk, UDPMessage):
        return chunk
    if not isinstance(chunk, Mapping):
        try:
            return UDPMessage(chunk)
        except TypeError as error:
            raise TypeError(
                "a chunk is a UDPMessage or a mapping with its members, or (connected) "
                f"a str or a bytes-like object, not {type(chunk).__name__}"
            ) from error
    values: dict[str, Any] = {}
    for name, value in chunk.items():
        member = _MEMBERS.get(name) if isinstance(name, str) else None
        if member is None or value is None:
            continue
        if member in values:
            raise TypeError(f"the message has {member} twice")
        values[member] = value
    if "data" not in values:
        raise TypeError("the message has no data")
    return UDPMessage(**values)


class ConnectedInbox:
    """The messages of a connected socket: of data alone."""

    __slots__ = ("_datagrams",)

    def __init__(self, datagrams: Datagrams) -> None:
        self._datagrams = datagrams

    def receive(self, limit: int, /) -> UDPMessage | Want:
        got = self._datagrams.receive(limit)
        if got.__class__ is Want:
            return got
        data, _, truncated = got  # type: ignore[misc]
        return UDPMessage(data, truncated=truncated)


class BoundInbox:
    """The messages of a bound socket: of data and of whom it came from."""

    __slots__ = ("_datagrams",)

    def __init__(self, datagrams: Datagrams) -> None:
        self._datagrams = datagrams

    def receive(self, limit: int, /) -> UDPMessage | Want:
        got = self._datagrams.receive(limit)
        if isinstance(got, Want):
            return got
        data, sender, truncated = got
        host, port, *rest = sender
        if rest and rest[1]:  # the interface of a link-local address
            host = f"{host}%{rest[1]}"
        return UDPMessage(data, host, port, truncated=truncated)
