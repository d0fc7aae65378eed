"""Options of the operating system's sockets, by name, with read-back.

The names are those of the drafts where they have one (noDelay, ttl,
sendBufferSize, receiveBufferSize; keepAliveDelay is Direct Sockets', which counts
it in milliseconds, while here times are seconds as everywhere). A socket has those
that its kind has:

    stream over IP    all of them
    datagrams over IP ttl, sendBufferSize, receiveBufferSize
    unix              sendBufferSize, receiveBufferSize, and linger on a stream

`apply` sets what is given and leaves the rest alone; what the kind of socket does
not have is refused before anything is set. `read` tells what the kernel has now,
which is not always what was set: Linux doubles a buffer's size, for its own
bookkeeping, and caps it first (net.core.wmem_max and rmem_max, socket(7)).
"""

from __future__ import annotations

import socket as _socket
import struct
from collections.abc import Callable
from typing import Any, Final, Literal, TypedDict

import attrs

from .errors import SocketError
from .options import a_bool, option_error

__all__ = ["SystemOptions", "SystemOptionsMembers", "apply", "read"]

# tcp(7): MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT.
_KEEP_ALIVE_MAX: Final = 32767
_KEEP_ALIVE_COUNT_MAX: Final = 127
_TTL_MAX: Final = 255
_SIZE_MAX: Final = 2**31 - 1
_LINGER_MAX: Final = 65535
_LINGER: Final = struct.Struct("ii")

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _a_number(lowest: int, highest: int, unit: str) -> Validator:
    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not lowest <= value <= highest
        ):
            raise option_error(
                field.name, value, f"an int from {lowest} to {highest}{unit}"
            )

    return check


_linger_time: Final = _a_number(0, _LINGER_MAX, ', in seconds, or "off"')


def _a_linger(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value != "off":
        _linger_time(_, field, value)


def _given(validator: Validator) -> Any:
    return attrs.field(default=None, validator=attrs.validators.optional(validator))


class SystemOptionsMembers(TypedDict, total=False):
    """The members of `SystemOptions` as keywords or in a dict, in either spelling."""

    noDelay: bool | None
    no_delay: bool | None
    keepAlive: bool | None
    keep_alive: bool | None
    keepAliveDelay: int | None
    keep_alive_delay: int | None
    keepAliveInterval: int | None
    keep_alive_interval: int | None
    keepAliveCount: int | None
    keep_alive_count: int | None
    linger: int | Literal["off"] | None
    ttl: int | None
    sendBufferSize: int | None
    send_buffer_size: int | None
    receiveBufferSize: int | None
    receive_buffer_size: int | None


@attrs.frozen(kw_only=True)
class SystemOptions:
    """Options of a socket; None: not given, or the socket has no such option.

    - `noDelay`: send small segments at once (TCP_NODELAY).
    - `keepAlive`: ask a silent peer whether it is still there (SO_KEEPALIVE).
    - `keepAliveDelay`: after so many seconds of silence, 1 to 32767;
      `keepAliveInterval`: again after so many, 1 to 32767; `keepAliveCount`: and
      give up after so many unanswered questions, 1 to 127.
    - `linger`: "off", or how many seconds close(2) may take to send what is left;
      0 drops it and sends an RST (SO_LINGER).
    - `ttl`: how many routers may pass a packet on, 1 to 255 (IP_TTL,
      IPV6_UNICAST_HOPS).
    - `sendBufferSize`, `receiveBufferSize`: of the kernel's buffers, in bytes.

    Raises SocketError (code "option") for any other value.
    """

    noDelay: bool | None = _given(a_bool)
    keepAlive: bool | None = _given(a_bool)
    keepAliveDelay: int | None = _given(_a_number(1, _KEEP_ALIVE_MAX, ", in seconds"))
    keepAliveInterval: int | None = _given(
        _a_number(1, _KEEP_ALIVE_MAX, ", in seconds")
    )
    keepAliveCount: int | None = _given(_a_number(1, _KEEP_ALIVE_COUNT_MAX, ""))
    linger: int | Literal["off"] | None = _given(_a_linger)
    ttl: int | None = _given(_a_number(1, _TTL_MAX, ""))
    sendBufferSize: int | None = _given(_a_number(1, _SIZE_MAX, ", in bytes"))
    receiveBufferSize: int | None = _given(_a_number(1, _SIZE_MAX, ", in bytes"))

    @property
    def no_delay(self) -> bool | None:
        """`noDelay`."""
        return self.noDelay

    @property
    def keep_alive(self) -> bool | None:
        """`keepAlive`."""
        return self.keepAlive

    @property
    def keep_alive_delay(self) -> int | None:
        """`keepAliveDelay`."""
        return self.keepAliveDelay

    @property
    def keep_alive_interval(self) -> int | None:
        """`keepAliveInterval`."""
        return self.keepAliveInterval

    @property
    def keep_alive_count(self) -> int | None:
        """`keepAliveCount`."""
        return self.keepAliveCount

    @property
    def send_buffer_size(self) -> int | None:
        """`sendBufferSize`."""
        return self.sendBufferSize

    @property
    def receive_buffer_size(self) -> int | None:
        """`receiveBufferSize`."""
        return self.receiveBufferSize


@attrs.frozen
class _Option:
    """Where an option lives: level and name of setsockopt(2), and its kind."""

    level: int
    name: int
    kind: Literal["int", "bool", "linger"] = "int"

    def set(self, sock: _socket.socket, value: Any) -> None:
        if self.kind == "linger":
            packed = _LINGER.pack(value != "off", 0 if value == "off" else value)
            sock.setsockopt(self.level, self.name, packed)
        else:
            sock.setsockopt(self.level, self.name, int(value))

    def get(self, sock: _socket.socket) -> Any:
        if self.kind == "linger":
            on, seconds = _LINGER.unpack(
                sock.getsockopt(self.level, self.name, _LINGER.size)
            )
            return seconds if on else "off"
        value = sock.getsockopt(self.level, self.name)
        return bool(value) if self.kind == "bool" else value


_BUFFERS: Final = {
    "sendBufferSize": _Option(_socket.SOL_SOCKET, _socket.SO_SNDBUF),
    "receiveBufferSize": _Option(_socket.SOL_SOCKET, _socket.SO_RCVBUF),
}
_STREAM: Final = {
    "linger": _Option(_socket.SOL_SOCKET, _socket.SO_LINGER, "linger"),
}
_TCP: Final = {
    "noDelay": _Option(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, "bool"),
    "keepAlive": _Option(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, "bool"),
    "keepAliveDelay": _Option(_socket.IPPROTO_TCP, _socket.TCP_KEEPIDLE),
    "keepAliveInterval": _Option(_socket.IPPROTO_TCP, _socket.TCP_KEEPINTVL),
    "keepAliveCount": _Option(_socket.IPPROTO_TCP, _socket.TCP_KEEPCNT),
}
_TTL: Final = {
    int(_socket.AF_INET): _Option(_socket.IPPROTO_IP, _socket.IP_TTL),
    int(_socket.AF_INET6): _Option(_socket.IPPROTO_IPV6, _socket.IPV6_UNICAST_HOPS),
}


def _options_of(sock: _socket.socket) -> dict[str, _Option]:
    """The options that a socket has, by name."""
    options = dict(_BUFFERS)
    stream = sock.type == _socket.SOCK_STREAM
    if stream:
        options |= _STREAM
    ttl = _TTL.get(int(sock.family))
    if ttl is not None:
        options["ttl"] = ttl
        if stream:
            options |= _TCP
    return options


def apply(sock: _socket.socket, options: SystemOptions) -> None:
    """Set the options of `sock` that are given.

    Raises SocketError (code "option"): the socket has no such option, and then
    nothing is set; or the operating system refuses the value, with its error as
    `__cause__`.
    """
    known = _options_of(sock)
    given = {
        name: value
        for name, value in attrs.asdict(options).items()
        if value is not None
    }
    for name in given:
        if name not in known:
            raise SocketError(
                f"{name} is no option of a socket of {sock.family.name} and "
                f"{sock.type.name}",
                code="option",
            )
    for name, value in given.items():
        try:
            known[name].set(sock, value)
            if name == "ttl" and sock.family == _socket.AF_INET6:
                _set_mapped_ttl(sock, value)
        except OSError as error:
            raise SocketError(
                f"could not set {name} to {value!r}: {error.strerror}",
                code="option",
                errno=error.errno,
            ) from error


def _set_mapped_ttl(sock: _socket.socket, value: int) -> None:
    """An IPv6 socket that takes IPv4 as well has two of them."""
    if not sock.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY):
        sock.setsockopt(_socket.IPPROTO_IP, _socket.IP_TTL, value)


def read(sock: _socket.socket) -> SystemOptions:
    """The options of `sock` as the operating system has them now.

    Raises SocketError (code "state") if the socket is closed.
    """
    try:
        values = {name: each.get(sock) for name, each in _options_of(sock).items()}
    except OSError as error:
        raise SocketError(
            f"could not read the socket's options: {error.strerror}",
            code="state",
            errno=error.errno,
        ) from error
    return SystemOptions(**values)
