"""What a TLS client asks for: the parts of a ClientHello that the suite looks at.

RFC 8446, section 4.1.2; server_name: RFC 6066, section 3; ALPN: RFC 7301, section 3.1.
"""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["Hello", "read_hello"]

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16


@attrs.frozen
class Hello:
    """A ClientHello, as far as it has been read."""

    complete: bool = False
    server_name: str | None = None
    protocols: tuple[str, ...] = ()


class _Bytes:
    """A reader of length-prefixed fields."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if len(self.data) < count:
            raise EOFError
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def field(self, size: int) -> _Bytes:
        return _Bytes(self.take(self.number(size)))


def read_hello(data: bytes) -> Hello:
    """Read the first records of a connection; not complete while they are not."""
    try:
        return _read(_Bytes(_handshake(_Bytes(data))))
    except EOFError:
        return Hello()


def _handshake(records: _Bytes) -> bytes:
    message = b""
    while records.data:
        if records.number(1) != _HANDSHAKE:
            break
        records.take(2)
        message += records.field(2).data
    return message


def _read(message: _Bytes) -> Hello:
    if message.number(1) != _CLIENT_HELLO:
        return Hello(complete=True)
    body = message.field(3)
    body.take(2 + 32)
    body.field(1)
    body.field(2)
    body.field(1)
    extensions = body.field(2)
    server_name: str | None = None
    protocols: list[str] = []
    while extensions.data:
        kind, content = extensions.number(2), extensions.field(2)
        if kind == _SERVER_NAME:
            names = content.field(2)
            names.take(1)
            server_name = names.field(2).data.decode("ascii", "replace")
        elif kind == _ALPN:
            offered = content.field(2)
            while offered.data:
                protocols.append(offered.field(1).data.decode("latin-1"))
    return Hello(True, server_name, tuple(protocols))
