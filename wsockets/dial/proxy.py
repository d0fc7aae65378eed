"""What a proxy is: its URL, its address, its credentials."""

from __future__ import annotations

import re
from typing import Final, Literal, get_args
from urllib.parse import unquote_to_bytes

import attrs

from ..address import SocketAddress, parse_address
from ..errors import SocketError

__all__ = ["Credentials", "Proxy", "parse_proxy"]

Scheme = Literal["http", "socks5"]

_ACCEPTED: Final = (
    'a proxy is "http://[user:password@]host:port" or '
    '"socks5://[user:password@]host:port"'
)
_REFUSED_SCHEMES: Final = {
    "https": "TLS to the proxy itself is not supported",
    "socks5h": 'write "socks5://" and set proxyResolve=True to let it resolve names',
    "socks4": "SOCKS4 is not supported",
    "socks4a": "SOCKS4 is not supported",
    "socks": "say which version of SOCKS",
}
# What would end the authority of a URL, or is no part of any.
_NOT_IN_USERINFO: Final = re.compile(r"[/?#\\\s\x00-\x1f\x7f]")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


@attrs.frozen(repr=False)
class Credentials:
    """A user name and a password, as bytes; never shown."""

    username: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Credentials(…)"


@attrs.frozen
class Proxy:
    """A proxy to connect through; `str()` and `repr()` leave the credentials out."""

    scheme: Scheme
    address: SocketAddress
    credentials: Credentials | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


def parse_proxy(url: object) -> Proxy:
    """The proxy that `url`, a str or already a Proxy, names.

    A str is "http://[user:password@]host:port", for a proxy that knows CONNECT
    (RFC 9110 section 9.3.6), or "socks5://[user:password@]host:port" (RFC 1928,
    RFC 1929). The port must be given; user name and password are
    percent-encoded. Raises SocketError "option", which does not show them.
    """
    if isinstance(url, Proxy):
        return url
    if not isinstance(url, str):
        raise _error(f"{_ACCEPTED}, not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    userinfo, at, place = rest.rpartition("@")
    if not separator:
        raise _error(f"{_ACCEPTED}; this one has no scheme")
    scheme = scheme.lower()
    if scheme not in get_args(Scheme):
        why = _REFUSED_SCHEMES.get(scheme, "no other scheme is known")
        # A scheme of unusual form might be a part of a password.
        shown = scheme if re.fullmatch(r"[a-z][a-z0-9+.-]{0,15}", scheme) else "…"
        raise _error(f'{_ACCEPTED}, not "{shown}://": {why}')
    try:
        address = parse_address(place.removesuffix("/"))
    except SocketError as error:
        raise _error(f"the address of the proxy is wrong: {_text(error)}") from error
    if not isinstance(address, SocketAddress) or not address.port:
        raise _error(f"{_ACCEPTED}, not {place!r}")
    credentials = _credentials(scheme, userinfo) if at else None
    return Proxy("http" if scheme == "http" else "socks5", address, credentials)


def _credentials(scheme: str, userinfo: str) -> Credentials:
    if _NOT_IN_USERINFO.search(userinfo) or _BAD_PERCENT.search(userinfo):
        raise _error("the user name or password of the proxy is not percent-encoded")
    username, _, password = userinfo.partition(":")
    credentials = Credentials(unquote_to_bytes(username), unquote_to_bytes(password))
    parts = credentials.username, credentials.password
    if scheme == "http":
        # RFC 7617 section 2.
        if b":" in credentials.username or any(map(_CONTROL.search, parts)):
            raise _error(
                "the user name of an HTTP proxy cannot have a colon, nor it or the "
                "password a control character"
            )
    elif not all(1 <= len(part) <= 255 for part in parts):
        # RFC 1929 section 2.
        raise _error(
            "the user name and the password of a SOCKS5 proxy have 1 to 255 bytes each"
        )
    return credentials


def _text(error: SocketError) -> str:
    return str(error).removeprefix("SocketError: ")


def _error(message: str) -> SocketError:
    return SocketError(message, code="option")
