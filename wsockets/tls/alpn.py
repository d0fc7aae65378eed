"""Protocol negotiation, RFC 7301: the server's order wins, and none is fatal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..errors import SocketError
from . import openssl
from .handshake import Handshake, of_pointer
from .openssl import ffi

__all__ = ["SELECT", "encode", "negotiated"]


def encode(protocols: Sequence[str]) -> tuple[bytes, ...]:
    """The names as they travel: in UTF-8, 1 to 255 bytes each (RFC 7301, section 3.1).

    Raises SocketError (code "option"), so that OpenSSL is never given any other.
    """
    try:
        names = tuple(name.encode() for name in protocols)
    except UnicodeEncodeError as error:
        raise SocketError(
            "a protocol of alpn has no form in UTF-8", code="option"
        ) from error
    for name in names:
        if not 1 <= len(name) <= 255:
            raise SocketError(
                f"a protocol of alpn has {len(name)} bytes; it has from 1 to 255",
                code="option",
            )
    return names


def _select(
    ssl: Any, out: Any, out_length: Any, offer: Any, length: int, _argument: Any
) -> int:
    handshake = of_pointer(ssl)
    if not handshake.alpn:
        return openssl.ALPN_IGNORE
    offered = tuple(_split(bytes(ffi.buffer(offer, length))))
    for name in handshake.alpn:
        if name in offered:
            # The pointer has to stay good after this function has returned.
            handshake.kept = ffi.new("unsigned char[]", name)
            out[0], out_length[0] = handshake.kept, len(name)
            return openssl.ALPN_OK
    handshake.no_protocol = (
        f"the peer offers {_listed(offered)}; here it is {_listed(handshake.alpn)}"
    )
    return openssl.ALPN_FATAL


SELECT: Final[Any] = openssl.callback(
    "int (*)(SSL *, unsigned char **, unsigned char *, "
    "const unsigned char *, unsigned int, void *)",
    _select,
    openssl.ALPN_FATAL,
)


def _split(wire: bytes) -> Iterable[bytes]:
    position = 0
    while position < len(wire):
        end = position + 1 + wire[position]
        yield wire[position + 1 : end]
        position = end


def _listed(names: Sequence[bytes]) -> str:
    shown = ", ".join(ascii(name.decode("utf-8", "replace")) for name in names[:8])
    return shown + (" …" if len(names) > 8 else "")


def negotiated(handshake: Handshake, answer: bytes, *, required: bool) -> str | None:
    """The protocol that was agreed on, from the peer's `answer` (b"": none).

    Raises SocketError (code "alpn") for one that was not offered, and for none
    where one is required.
    """
    if not answer:
        if required:
            raise SocketError(
                f"the peer agreed on no protocol, and alpnRequired is set; "
                f"{_listed(handshake.alpn) or 'none'} would do",
                code="alpn",
            )
        return None
    if answer not in handshake.alpn:
        raise SocketError(
            f"the peer chose the protocol {_listed([answer])}, which was not offered: "
            f"{_listed(handshake.alpn) or 'none was'}",
            code="alpn",
        )
    return answer.decode()
