"""Addresses: what `connect()` and `listen()` are told, read and made one form.

One parser serves everything that takes an address or judges one, so that what
a policy sees is what is dialled. It is not a URL parser. It accepts little and
changes less, because each lenient reading is a way to reach a host that the
caller did not name:

- A name ending in a number is never looked up. Resolvers read `0177.1`, `0x7f.1`
  and `1` as IPv4 addresses; here an address is four decimal numbers, or an error.
- A name outside ASCII is mapped by IDNA (UTS 46), label by label. A label that
  becomes several (U+3002 is mapped to a dot) or a name that becomes a number
  (fullwidth digits) has been disguised, by accident or not, and is refused.
  What IDNA 2008 has no place for, such as emoji, can be given as "xn--…".
- Names in ASCII are taken as spelled, in lower case, underscores included
  (`_sip.example`, `my_container`). No label begins with a hyphen.
- A zone ("%eth0") belongs to link-local addresses, fe80::/10, and to no others.
- "unix:" leads to a path. Where only digits follow, it is a host called unix; a
  path of digits is written "unix:./80". Abstract names ("@name") are refused.

An empty hostname means all interfaces and is for listening only.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

import attrs
import idna

from .errors import SocketError

__all__ = [
    "Address",
    "AnySocketAddress",
    "SocketAddress",
    "UnixAddress",
    "ascii_name",
    "format_address",
    "parse_address",
]

_UNIX: Final = "unix:"
_FORMS: Final = '"host:port", "[IPv6]:port", "unix:/path" or {"hostname", "port"}'

# sun_path of sockaddr_un holds 108 bytes, the last of them a NUL (unix(7)).
_PATH_MAX: Final = 107
# RFC 1035, section 2.3.4; the limit of a whole name is without its final dot.
_LABEL_MAX: Final = 63
_NAME_MAX: Final = 253
# What idna accepts; longer text does not map to a legal name in any case.
_TEXT_MAX: Final = 1024

_PORT_MAX: Final = 65535
_PORT_TEXT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_DIGITS: Final = re.compile(r"[0-9]+")
_LABEL: Final = re.compile(r"[a-z0-9_][a-z0-9_-]*")
# https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_FOREIGN: Final = re.compile(r"[/\\?#@\s\x00-\x1f\x7f-\x9f]")
# An interface's name is at most 15 bytes (IFNAMSIZ); RFC 6874's unreserved set.
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]{1,15}")


def quote(value: object) -> str:
    """`value` as an error message may show it.

    At most about 80 characters, on one line. Of a str whatever stands before
    an "@" or behind a "?" is left out, for it may be a password.
    """
    if isinstance(value, str):
        _, at, rest = value.rpartition("@")
        shown, query, _ = rest.partition("?")
        shown = ("…@" if at else "") + shown + ("?…" if query else "")
        return repr(shown if len(shown) <= 80 else shown[:79] + "…")
    if isinstance(value, int) and value.bit_length() > 128:
        return "an int of over 128 bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return f"an object of type {type(value).__name__}"


def _error(value: object, why: str, what: str = "an address") -> SocketError:
    return SocketError(f"{quote(value)} is not {what}: {why}", code="address")


# -- hosts


def ascii_name(text: str) -> str:
    """The host name `text` in ASCII: lower case, labels outside ASCII by IDNA.

    A final dot is kept. Raises SocketError (code "address") for anything that is
    not a host name, numeric addresses among it.
    """

    def error(why: str) -> SocketError:
        return _error(text, f"{why:.200}", "a host name")

    if why := _foreign(text):
        raise error(why)
    if len(text) > _TEXT_MAX:
        raise error(f"a name has at most {_NAME_MAX} bytes")
    try:
        labels = [_label(given) for given in text.removesuffix(".").split(".")]
    except UnicodeError as cause:
        raise error(f"IDNA (UTS 46) refuses it: {cause}") from cause
    except ValueError as cause:
        raise error(str(cause)) from None
    name = ".".join(labels)
    if len(name) > _NAME_MAX:
        raise error(f"a name has at most {_NAME_MAX} bytes")
    if _NUMBER.fullmatch(labels[-1]):
        raise error(
            "it ends in a number; an IPv4 address is four decimal numbers from 0 to "
            "255, without leading zeros, in ASCII"
        )
    return name + ("." if text.endswith(".") else "")


def _label(given: str) -> str:
    """One label in ASCII; ValueError says why not, UnicodeError is IDNA's own."""
    if given.isascii():
        label = given.lower()
    else:
        label = idna.encode(given, uts46=True).decode("ascii")
        if "." in label:
            raise ValueError('it has a dot other than ".", which IDNA maps to one')
    if not label:
        raise ValueError("a label is empty")
    if len(label) > _LABEL_MAX:
        raise ValueError(f"a label has at most {_LABEL_MAX} bytes")
    if not _LABEL.fullmatch(label):
        raise ValueError(
            f"the label {label!r} begins with '-' or has something other than "
            "letters, digits, '-' and '_'"
        )
    return label


def _foreign(text: str) -> str | None:
    """What `text` has that no address has, as the reason for an error, or None."""
    if not _FOREIGN.search(text):
        return None
    if "://" in text:
        return "it is a URL; give the host and the port alone"
    if "@" in text:
        return "user information is not part of an address"
    if any(character in text for character in "/\\?#"):
        return "a path or a query is not part of an address"
    if match := _BLANK.search(text):
        return f"it has a space or a control character, {match[0]!r}"
    return None


def _ipv6(text: str) -> str:
    literal, percent, zone = text.partition("%")
    try:
        address = ipaddress.IPv6Address(literal)
    except ValueError as cause:
        raise _error(text, f"{cause!s:.200}", "an IPv6 address") from cause
    if percent and not address.is_link_local:
        raise _error(
            text, "only link-local addresses, fe80::/10, have a zone", "an IPv6 address"
        )
    if percent and not _ZONE.fullmatch(zone):
        raise _error(
            text,
            "a zone is an interface's name or number, 1 to 15 of ASCII letters, "
            "digits and -._~",
            "an IPv6 address",
        )
    # Not str(address): that spells mapped addresses differently from 3.13 on,
    # and the operating system's spelling is what getpeername() reports.
    return socket.inet_ntop(socket.AF_INET6, address.packed) + percent + zone


def _host(text: str) -> str:
    """The normal form of a hostname, bare or bracketed IPv6 included; "" stays."""
    if not text:
        return text
    if why := _foreign(text):
        raise _error(text, why, "a hostname")
    if text.startswith("["):
        if not text.endswith("]"):
            raise _error(text, "the closing bracket is missing", "a hostname")
        return _ipv6(text[1:-1])
    if ":" in text:
        return _ipv6(text)
    if text[-1].isdecimal():
        try:
            # Takes the one form that is also the normal one.
            socket.inet_pton(socket.AF_INET, text)
        except (OSError, UnicodeEncodeError):
            pass  # A name, or ascii_name() says why it is neither.
        else:
            return text
    return ascii_name(text)


# -- members


def _hostname(value: str) -> str:
    if not isinstance(value, str):
        raise _error(value, "it is not a str", "a hostname")
    return _host(value)


def _port(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _error(value, "it is not an int (from 0 to 65535)", "a port")
    if not 0 <= value <= _PORT_MAX:
        raise _error(value, "ports are 0 to 65535", "a port")
    return value


def _path(value: str) -> str:
    def error(why: str) -> SocketError:
        return _error(value, why, "the path of a unix socket")

    if not isinstance(value, str):
        raise error("it is not a str")
    if not value:
        raise error("it is empty")
    if "\0" in value:
        raise error("it has a NUL")
    if value.startswith("@"):
        raise error(
            "abstract names are not supported; for a file of this name put './' first"
        )
    if _DIGITS.fullmatch(value):
        raise error("it could be a port; for a file of this name put './' first")
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError as cause:
        raise error("the file system's encoding has no form of it") from cause
    if len(encoded) > _PATH_MAX:
        raise error(f"it has {len(encoded)} bytes, and at most {_PATH_MAX} fit")
    return value


@attrs.frozen
class SocketAddress:
    """A host and a port, the specification's dictionary.

    https://sockets-api.proposal.wintertc.org/#anysocketaddress-type

    `hostname` is a name, an IPv4 address or an IPv6 address with or without
    brackets, and reads back in its normal form: ASCII in lower case (IDNA), a
    numeric address as the operating system spells it, without brackets. The
    empty hostname stands for all interfaces. `port` is 0 to 65535.

    Raises SocketError (code "address") for anything else. `str()` gives
    "host:port" or "[IPv6]:port", which `parse_address` reads back.
    """

    hostname: str = attrs.field(converter=_hostname)
    port: int = attrs.field(converter=_port)

    @property
    def address(self) -> str:
        """`hostname`, by the name that the early draft has for it."""
        return self.hostname

    @property
    def numeric(self) -> tuple[socket.AddressFamily, str] | None:
        """Family and address where `hostname` is a numeric address, else None."""
        if ":" in self.hostname:
            return socket.AF_INET6, self.hostname
        # The constructor refuses every name whose last label is a number.
        if self.hostname.rpartition(".")[2].isdecimal():
            return socket.AF_INET, self.hostname
        return None

    def __str__(self) -> str:
        if ":" in self.hostname:
            return f"[{self.hostname}]:{self.port}"
        return f"{self.hostname}:{self.port}"


@attrs.frozen
class UnixAddress:
    """The path of a unix domain socket, 1 to 107 bytes in the file system's encoding.

    Relative paths are allowed; those beginning with "@" (abstract names), those
    made of digits alone and those with a NUL are not. Raises SocketError (code
    "address"). `str()` gives "unix:/path".
    """

    path: str = attrs.field(converter=_path)

    def __str__(self) -> str:
        return _UNIX + self.path


Address: TypeAlias = SocketAddress | UnixAddress
AnySocketAddress: TypeAlias = str | SocketAddress | UnixAddress | Mapping[str, object]


def parse_address(address: AnySocketAddress, *, listening: bool = False) -> Address:
    """Read an address in any of its forms.

    A str is "host:port", "[IPv6]:port" or "unix:/path"; a mapping has the members
    `hostname` (an IPv6 address with or without brackets) and `port`, an int, and
    others are ignored. Port 0 is read like any other.

    With `listening` the hostname may be empty (":80"): all interfaces.

    Raises SocketError (code "address").
    """
    result: Address
    if isinstance(address, (SocketAddress, UnixAddress)):
        result = address
    elif isinstance(address, str):
        result = _parse_text(address)
    elif isinstance(address, Mapping):
        result = _parse_members(address)
    else:
        raise _error(address, f"write {_FORMS}")
    if isinstance(result, SocketAddress) and not (result.hostname or listening):
        raise _error(str(result), "the hostname is empty")
    return result


def _parse_members(address: Mapping[str, object]) -> SocketAddress:
    hostname, port = address.get("hostname"), address.get("port")
    for name, member in (("hostname", hostname), ("port", port)):
        if member is None:
            raise _error(address, f"it has no {name}; write {_FORMS}")
    # The constructor checks the types.
    return SocketAddress(cast("str", hostname), cast("int", port))


def _parse_text(text: str) -> Address:
    after = text.removeprefix(_UNIX)
    if after != text and not _DIGITS.fullmatch(after):
        return UnixAddress(after)
    if why := _foreign(text):
        raise _error(text, f"{why}; write {_FORMS}")
    if text.startswith("["):
        inside, bracket, rest = text.partition("]")
        between, colon, port = rest.partition(":")
        host = inside + bracket
        if between or not bracket:
            raise _error(text, f'"]:port" is missing; write {_FORMS}')
    else:
        host, colon, port = text.rpartition(":")
        if ":" in host:
            raise _error(text, f"an IPv6 address needs brackets; write {_FORMS}")
    if not (colon and port):
        raise _error(text, f"the port is missing; write {_FORMS}")
    if not _PORT_TEXT.fullmatch(port) or int(port) > _PORT_MAX:
        raise _error(
            text,
            "a port is 0 to 65535 in decimal ASCII digits, without sign or leading "
            "zeros",
        )
    return SocketAddress(host, int(port))


def format_address(sockname: object) -> str:
    """What `getsockname()` or `getpeername()` returned, as one str.

    "127.0.0.1:443", "[::1]:443", with the interface's number for link-local
    addresses ("[fe80::1%2]:443"); "unix:/path", "unix:@name" for an abstract name
    and "unix:" for an unnamed socket. Raises SocketError (code "address") for a
    socket of any other family.
    """
    match sockname:
        case (str() as host, int() as port):
            return f"{host}:{port}"
        case (str() as host, int() as port, int(), int() as scope):
            zone = f"%{scope}" if scope and "%" not in host else ""
            return f"[{host}{zone}]:{port}"
        case str() as path:
            return _UNIX + path.replace("\0", "@")
        case bytes() as name:
            return _UNIX + name.decode("utf-8", "backslashreplace").replace("\0", "@")
    raise _error(
        sockname, "only IPv4, IPv6 and unix sockets have one", "a socket's address"
    )
