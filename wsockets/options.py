"""Options: the members of `connect()`'s second argument, and how any are read.

Every options class here is an attrs class whose attributes have the names of
the specification. `read_members` makes one from what a caller wrote: an
instance, a mapping or nothing, together with keywords, each member in its own
spelling or in snake_case. It knows no class in particular.

Reading is strict about values and lenient about strangers: a driver may pass
the object that holds all its settings, so members of a mapping that nobody
knows are ignored, while an unknown keyword, which somebody typed, is a TypeError.
None stands for a member that was not given, wherever it is found.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import (
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
)

import attrs

from .errors import SocketError
from .runtime import Runtime

__all__ = [
    "SecureTransportKind",
    "SignalLike",
    "SocketOptions",
    "SocketOptionsMembers",
    "a_bool",
    "a_duration",
    "a_host_name",
    "a_signal",
    "a_size",
    "check_nursery",
    "given_members",
    "option_error",
    "protocol_names",
    "read_members",
    "secured",
    "spellings",
]

SecureTransportKind: TypeAlias = Literal["off", "on", "starttls"]

_KINDS: Final[tuple[str, ...]] = get_args(SecureTransportKind)
# RFC 7301, section 3.1: a name has a one-byte length; the extension's 65535
# bytes hold the two-byte length of the list as well.
_ALPN_NAME_MAX: Final = 255
_ALPN_LIST_MAX: Final = 65535 - 2
# Spaces, control characters and what delimits the parts of an address or a URL.
_NOT_IN_A_NAME: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f/\\?#@:\[\]%]")

T = TypeVar("T", bound=attrs.AttrsInstance)


class SignalLike(Protocol):
    """What `signal` takes: an `AbortSignal`, or an object that behaves like one."""

    @property
    def aborted(self) -> bool:
        """Whether it has been aborted already."""

    @property
    def addEventListener(self) -> Callable[..., object]:
        """A method taking "abort" and a listener."""


# -- reading


def read_members(
    cls: type[T],
    options: object,
    members: Mapping[str, object],
    *,
    where: str,
    refuse: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Make an instance of the attrs class `cls` of `options` and keywords `members`.

    `options` is None, an instance of `cls`, which stands for those of its members
    that differ from their default, or a mapping. `refuse` has the names that are
    to be given elsewhere, in either spelling, with the text of the error. `where`
    names the function in a TypeError: "connect()".

    Raises SocketError (code "option") for options of another type, a refused
    name, a member given twice and any value that `cls` refuses; TypeError for a
    keyword that is neither known nor refused.
    """
    values = given_members(cls, options, members, where=where, refuse=refuse)
    if isinstance(options, cls) and all(value is None for value in members.values()):
        return options
    usual: T = _usual(cls)
    if all(getattr(usual, name) is value for name, value in values.items()):
        return usual
    return cls(**values)


@functools.cache
def _usual(cls: type[Any]) -> Any:
    """The instance of `cls` that all share who want nothing special."""
    return cls()


def given_members(
    cls: type[attrs.AttrsInstance],
    options: object,
    members: Mapping[str, object],
    *,
    where: str,
    refuse: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What was given, by the names of the attributes of `cls`; see `read_members`."""
    if options is None and not members:
        return {}
    known = spellings(cls)
    for name in members:
        if name not in known and _refusal(name, refuse) is None:
            raise TypeError(f"{where} got an unexpected keyword argument {name!r}")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for place, source in (
        ("in the options", _as_mapping(cls, options)),
        ("as a keyword", members),
    ):
        for name, value in source.items():
            if value is None or not isinstance(name, str):
                continue
            if refuse and (text := _refusal(name, refuse)) is not None:
                raise SocketError(text, code="option")
            if (member := known.get(name)) is None:
                continue
            origin = f"{name!r} {place}"
            if member in values:
                raise SocketError(
                    f"{member} is given twice: {origins[member]} and {origin}",
                    code="option",
                )
            values[member], origins[member] = value, origin
    return values


def _as_mapping(
    cls: type[attrs.AttrsInstance], options: object
) -> Mapping[Any, object]:
    if options is None:
        return {}
    if isinstance(options, Mapping):
        return options
    if isinstance(options, cls):
        default = cls()
        return {
            member: getattr(options, member)
            for member in spellings(cls).values()
            if getattr(options, member) != getattr(default, member)
        }
    # Not the value: what is passed here by mistake may be a key.
    raise SocketError(
        f"options are a mapping, {cls.__name__} or None, not an object of type "
        f"{type(options).__name__}",
        code="option",
    )


@functools.cache
def spellings(cls: type[attrs.AttrsInstance]) -> dict[str, str]:
    """Both spellings of every member of `cls`, and the member they mean."""
    names = [field.name for field in attrs.fields(cls) if field.init]
    return {_snake(name): name for name in names} | {name: name for name in names}


def _refusal(name: str, refuse: Mapping[str, str]) -> str | None:
    return refuse.get(name) or refuse.get(_snake(name)) or refuse.get(_camel(name))


@functools.lru_cache(maxsize=512)
def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda match: "_" + match[0].lower(), name)


@functools.lru_cache(maxsize=512)
def _camel(name: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


# -- checking


def option_error(member: str, value: object, accepted: str) -> SocketError:
    """The SocketError (code "option") for a `value` that is not what is accepted."""
    try:
        shown = reprlib.repr(value)
    except ValueError:  # An int of thousands of digits has no repr.
        shown = f"an object of type {type(value).__name__}"
    return SocketError(f"{member} is {accepted}, not {shown}", code="option")


def _a_kind(_: object, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or value not in _KINDS:
        raise option_error(field.name, value, '"off", "on" or "starttls"')


def a_bool(_: object, field: attrs.Attribute[bool], value: object) -> None:
    """A validator: True or False; SocketError (code "option")."""
    if not isinstance(value, bool):
        raise option_error(field.name, value, "True or False")


def a_size(_: object, field: attrs.Attribute[int], value: object) -> None:
    """A validator: a number of bytes above 0; SocketError (code "option")."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise option_error(field.name, value, "an int of 1 or more, in bytes")


def a_duration(_: object, field: attrs.Attribute[float], value: object) -> None:
    """A validator: seconds above 0, math.inf too; SocketError (code "option")."""
    accepted = "a number of seconds above 0 (math.inf: no limit)"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise option_error(field.name, value, accepted)
    try:
        seconds = float(value)
    except OverflowError as cause:
        raise option_error(field.name, value, accepted) from cause
    if not seconds > 0:  # nan neither
        raise option_error(field.name, value, accepted)


def a_host_name(_: object, field: attrs.Attribute[str | None], value: object) -> None:
    """A validator: None, or a str that can be a host name and no numeric address.

    Raises SocketError (code "option"). Labels and IDNA are looked at where the
    name is put to use.
    """
    if value is None:
        return
    accepted = "a host name or None"
    if not isinstance(value, str) or not value:
        raise option_error(field.name, value, accepted)
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if _NOT_IN_A_NAME.search(value):
            raise option_error(field.name, value, accepted) from None
    else:
        # RFC 6066, section 3: literal addresses are not permitted in HostName.
        raise option_error(field.name, value, f"{accepted}, never a numeric address")


def a_signal(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """A validator: None, or a `SignalLike`; SocketError (code "option")."""
    if value is not None and not (
        isinstance(getattr(value, "aborted", None), bool)
        and callable(getattr(value, "addEventListener", None))
    ):
        raise option_error(field.name, value, "an AbortSignal or None")


def protocol_names(value: Iterable[str]) -> tuple[str, ...]:
    """The ALPN list as a tuple; reads no more of an endless one than fits."""
    accepted = "an iterable of str"
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        raise option_error("alpn", value, f"{accepted} (a list of names)")
    if not isinstance(value, Iterable):
        raise option_error("alpn", value, accepted)
    names = []
    total = 0
    for name in value:
        if not isinstance(name, str):
            raise option_error("a protocol name in alpn", name, "a str")
        try:
            size = len(name.encode())
        except UnicodeEncodeError as cause:
            raise option_error("a protocol name in alpn", name, "UTF-8") from cause
        if not 1 <= size <= _ALPN_NAME_MAX:
            raise option_error(
                "a protocol name in alpn", name, f"1 to {_ALPN_NAME_MAX} bytes in UTF-8"
            )
        total += 1 + size
        if total > _ALPN_LIST_MAX:
            raise SocketError(
                f"alpn has more than the {_ALPN_LIST_MAX} bytes that fit into a "
                "handshake, one for the length of each name included",
                code="option",
            )
        names.append(name)
    return tuple(names)


def check_nursery(runtime: Runtime, nursery: object) -> None:
    """SocketError (code "option") unless `nursery` is one of the runtime's, or None."""
    if nursery is not None and not runtime.accepts_nursery(nursery):
        raise SocketError(
            f"nursery is {runtime.nursery}, not {type(nursery).__name__}",
            code="option",
        )


# -- the options of connect()


class SocketOptionsMembers(TypedDict, total=False):
    """The members of `SocketOptions` as keywords or in a dict, in either spelling."""

    secureTransport: SecureTransportKind | None
    secure_transport: SecureTransportKind | None
    allowHalfOpen: bool | None
    allow_half_open: bool | None
    sni: str | None
    alpn: Iterable[str] | None
    highWaterMark: int | None
    high_water_mark: int | None
    signal: SignalLike | None
    connectTimeout: float | None
    connect_timeout: float | None
    handshakeTimeout: float | None
    handshake_timeout: float | None
    closeTimeout: float | None
    close_timeout: float | None
    alpnRequired: bool | None
    alpn_required: bool | None
    tolerateTruncation: bool | None
    tolerate_truncation: bool | None


@attrs.frozen(init=False)
class SocketOptions:
    """What `connect()` is told beside the address.

    https://sockets-api.proposal.wintertc.org/#socketoptions-dictionary has the
    first four, the others are this library's:

    - `secureTransport`: "off", "on" (TLS from the start) or "starttls".
    - `allowHalfOpen`: whether the socket stays open when the peer has finished.
    - `sni`: the name to ask for and to verify in place of the hostname.
    - `alpn`: protocol names, the preferred first, each 1 to 255 bytes in UTF-8;
      none by default. A name may be repeated.
    - `highWaterMark`: how many bytes `writable` queues before it asks for a
      pause, at least 1: with 0 a writer's `ready` would never resolve.
    - `signal`: an AbortSignal that ends the socket when it is aborted.
    - `connectTimeout`, `handshakeTimeout`, `closeTimeout`: seconds above 0, for
      the connection, the TLS handshake and a flushing close; math.inf: no limit.
    - `alpnRequired`: fail unless the peer agrees to one of `alpn`.
    - `tolerateTruncation`: take an end without close_notify for a regular one.

    Made of a mapping or keywords, in either spelling; None means the default. Raises
    SocketError (code "option") for a value that is not accepted, for `sni` or
    `alpn` with "off" and for `alpnRequired` without `alpn`.
    """

    secureTransport: SecureTransportKind = attrs.field(default="off", validator=_a_kind)
    allowHalfOpen: bool = attrs.field(default=False, validator=a_bool)
    sni: str | None = attrs.field(default=None, validator=a_host_name)
    alpn: tuple[str, ...] = attrs.field(default=(), converter=protocol_names)
    highWaterMark: int = attrs.field(default=65536, validator=a_size)
    signal: SignalLike | None = attrs.field(default=None, validator=a_signal)
    connectTimeout: float = attrs.field(default=30.0, validator=a_duration)
    handshakeTimeout: float = attrs.field(default=30.0, validator=a_duration)
    closeTimeout: float = attrs.field(default=5.0, validator=a_duration)
    alpnRequired: bool = attrs.field(default=False, validator=a_bool)
    tolerateTruncation: bool = attrs.field(default=False, validator=a_bool)

    def __init__(
        self, options: object = None, **members: Unpack[SocketOptionsMembers]
    ) -> None:
        self.__attrs_init__(
            **given_members(SocketOptions, options, members, where="SocketOptions()")
        )

    def __attrs_post_init__(self) -> None:
        if self.secureTransport == "off":
            for member in ("sni", "alpn"):
                if getattr(self, member):
                    raise SocketError(
                        f'{member} is for secureTransport "on" or "starttls"; '
                        f'it is "off"',
                        code="option",
                    )
        if self.alpnRequired and not self.alpn:
            raise SocketError("alpnRequired needs names in alpn", code="option")

    @property
    def secure_transport(self) -> SecureTransportKind:
        """`secureTransport`."""
        return self.secureTransport

    @property
    def allow_half_open(self) -> bool:
        """`allowHalfOpen`."""
        return self.allowHalfOpen

    @property
    def high_water_mark(self) -> int:
        """`highWaterMark`."""
        return self.highWaterMark

    @property
    def connect_timeout(self) -> float:
        """`connectTimeout`."""
        return self.connectTimeout

    @property
    def handshake_timeout(self) -> float:
        """`handshakeTimeout`."""
        return self.handshakeTimeout

    @property
    def close_timeout(self) -> float:
        """`closeTimeout`."""
        return self.closeTimeout

    @property
    def alpn_required(self) -> bool:
        """`alpnRequired`."""
        return self.alpnRequired

    @property
    def tolerate_truncation(self) -> bool:
        """`tolerateTruncation`."""
        return self.tolerateTruncation


def secured(
    options: SocketOptions, alpn: tuple[str, ...], sni: str | None
) -> SocketOptions:
    """`options` for a socket that went over to TLS; `sni` None: as before."""
    changes: dict[str, Any] = {
        "secureTransport": "on",
        "alpn": alpn,
        "alpnRequired": options.alpnRequired and bool(alpn),
        "sni": sni or options.sni,
    }
    return SocketOptions(attrs.asdict(options, recurse=False) | changes)
