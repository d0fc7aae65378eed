"""SocketInit: what `Socket()` and `update()` are told, and what it comes to.

The draft's options go over into those that the rest of the library has: a type
into secureTransport and ALPN, `servername` into `sni`, times in milliseconds into
seconds. TlsOptions' members may stand beside them, and the system's options.
"""

from __future__ import annotations

import math
import socket as _socket
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ..address import SocketAddress, UnixAddress, parse_address
from ..errors import SocketError
from ..mixed_options import read_mixed
from ..options import (
    SignalLike,
    SocketOptions,
    a_bool,
    a_host_name,
    a_signal,
    option_error,
    protocol_names,
)
from ..socket_options import SystemOptions, SystemOptionsMembers, apply
from ..tls import SessionCache, TlsOptions, TlsOptionsMembers
from .body import SocketBody, check_body

__all__ = [
    "Init",
    "SocketInitMembers",
    "Update",
    "read_init",
    "read_type",
    "read_update",
]

_MILLISECONDS_MAX: Final = 2**32 - 1
_RESERVED: Final = ("tcp", "tls", "udp", "quic")


class SocketInitMembers(SystemOptionsMembers, TlsOptionsMembers, total=False):
    """The members of `Socket()` and `Socket.update()`, in either spelling."""

    type: str | None
    remote: SocketAddress | Mapping[str, object] | str | None
    local: SocketAddress | Mapping[str, object] | None
    body: SocketBody
    signal: SignalLike | None
    allowPooling: bool | None
    allow_pooling: bool | None
    readyTimeout: int | None
    ready_timeout: int | None
    idleTimeout: int | None
    idle_timeout: int | None
    servername: str | None
    session: SessionCache | None


def _a_time(_: object, field: attrs.Attribute[Any], value: object) -> None:
    accepted = f"an int from 0 (no limit of its own) to {_MILLISECONDS_MAX}, in ms"
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 0 <= value <= _MILLISECONDS_MAX
    ):
        raise option_error(field.name, value, accepted)


def _a_cache(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, SessionCache):
        raise SocketError(
            f"{field.name} is a SessionCache, not {type(value).__name__}",
            code="option",
        )


def _a_body(_: object, __: object, value: object) -> None:
    check_body(value)


@attrs.frozen
class _SocketInit:
    """The draft's own members; None: not given."""

    type: str | None = None
    remote: Any = None
    local: Any = None
    body: Any = attrs.field(default=None, validator=_a_body)
    signal: SignalLike | None = attrs.field(default=None, validator=a_signal)
    allowPooling: bool = attrs.field(default=True, validator=a_bool)
    readyTimeout: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_a_time)
    )
    idleTimeout: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_a_time)
    )
    servername: str | None = attrs.field(default=None, validator=a_host_name)
    session: SessionCache | None = attrs.field(default=None, validator=_a_cache)


def _seconds(milliseconds: int | None) -> float | None:
    """None for what is not given and for no limit."""
    return milliseconds / 1000 if milliseconds else None


# -- types


def read_type(value: object) -> tuple[bool, tuple[str, ...]]:
    """Whether a type stands for TLS, and the protocols that it asks for.

    SocketError (code "option") for what is none, or cannot be had here.
    """
    accepted = '"tcp", "tls" or the name of a protocol (ALPN), for TLS with that'
    if not isinstance(value, str):
        raise option_error("type", value, accepted)
    if value == "udp":
        raise SocketError(
            'type "udp" is another class here: UDPSocket(remoteAddress=…, '
            "remotePort=…), whose streams are of messages",
            code="option",
        )
    if value == "quic":
        raise SocketError('type "quic" is not there yet', code="option")
    if value in _RESERVED:
        return value == "tls", ()
    if value.lower() in _RESERVED:
        raise option_error("type", value, accepted)
    return True, protocol_names([value])


# -- addresses


def _parts(member: str, value: Any) -> tuple[Any, Any]:
    """Host and port of a mapping, None for what it does not have."""
    if not isinstance(value, Mapping):
        raise option_error(member, value, 'a mapping with "address" and "port"')
    hosts = [value[name] for name in ("address", "hostname") if value.get(name)]
    if len(hosts) == 2 and hosts[0] != hosts[1]:
        raise SocketError(
            f"{member} has an address and a hostname, and they differ", code="option"
        )
    return (hosts[0] if hosts else None), value.get("port")


def _remote(value: Any) -> SocketAddress:
    if value is None:
        raise SocketError(
            'Socket() needs remote={"address": …, "port": …}', code="option"
        )
    if isinstance(value, (str, SocketAddress, UnixAddress)):
        address = parse_address(value)
    else:
        hostname, port = _parts("remote", value)
        address = parse_address({"hostname": hostname, "port": port})
    if isinstance(address, UnixAddress):
        raise SocketError(
            f"remote is a host and a port; connect() takes {address}", code="option"
        )
    return address


def _local(value: Any) -> SocketAddress | None:
    """Where to connect from. An empty hostname is any address, port 0 any port."""
    if value is None:
        return None
    if isinstance(value, SocketAddress):
        local = value
    else:
        address, port = _parts("local", value)
        local = SocketAddress(address or "", 0 if port is None else port)
    if local.hostname and local.numeric is None:
        raise SocketError(
            f"local has a numeric address, not {local.hostname!r}", code="address"
        )
    return local


# -- what it comes to


@attrs.frozen
class Init:
    """Everything that `Socket()` needs to know."""

    remote: SocketAddress
    local: SocketAddress | None
    options: SocketOptions
    tls: TlsOptions
    system: SystemOptions
    body: Any
    ready_timeout: float | None
    idle_timeout: float | None

    def prepare(self, sock: _socket.socket) -> None:
        """Set the options of a socket that is about to connect, and its address."""
        apply(sock, self.system)
        local = self.local
        if local is None:
            return
        if local.port:
            # What the last connection from there left behind is no obstacle.
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        try:
            sock.bind((local.hostname, local.port))
        except OSError as error:
            raise OSError(
                error.errno, f"{error.strerror} (to connect from {local})"
            ) from error


def _read(
    where: str, options: object, members: Mapping[str, object]
) -> tuple[_SocketInit, dict[str, Any], dict[str, Any]]:
    own, system, tls = read_mixed(
        where, (_SocketInit, SystemOptions, TlsOptions), options, members
    )
    init = _SocketInit(**own)
    if init.session is not None:
        if tls.get("sessions") not in (None, init.session):
            raise SocketError("session and sessions are the same", code="option")
        tls["sessions"] = init.session
    return init, system, tls


def read_init(options: object, members: Mapping[str, object]) -> Init:
    """What `Socket()` is told. SocketError "option" or "address"; TypeError."""
    init, system, tls = _read("Socket()", options, members)
    secure, alpn = read_type("tcp" if init.type is None else init.type)
    ready = _seconds(init.readyTimeout)
    wanted: dict[str, Any] = {
        # What is plain can be upgraded: with startTls(), and with update().
        "secureTransport": "on" if secure else "starttls",
        "alpn": alpn,
        "alpnRequired": bool(alpn),
        "sni": init.servername,
        "signal": init.signal,
    }
    if ready is not None:
        # One limit for both is set elsewhere, and these must not come before it. An
        # upgrade that follows needs one too.
        shake = max(SocketOptions().handshakeTimeout, ready + 1)
        wanted |= {"connectTimeout": math.inf, "handshakeTimeout": shake}
    return Init(
        remote=_remote(init.remote),
        local=_local(init.local),
        options=SocketOptions(wanted),
        tls=TlsOptions(**tls),
        system=SystemOptions(**system),
        body=init.body,
        ready_timeout=ready,
        idle_timeout=_seconds(init.idleTimeout),
    )


@attrs.frozen
class Update:
    """What `update()` is to change. Times: None is not given, 0 no limit."""

    system: SystemOptions | None
    ready_timeout: float | None
    idle_timeout: float | None
    # Whether TLS is asked for, None where nothing is; and with what.
    secure: bool | None
    alpn: tuple[str, ...]
    servername: str | None
    tls: Mapping[str, Any]


# What a socket is made with, once and for all.
_FIXED: Final = ("remote", "local", "body", "signal")


def read_update(options: object, members: Mapping[str, object]) -> Update:
    """What `update()` is told. SocketError "option"; TypeError."""
    init, system, tls = _read("update()", options, members)
    for name in _FIXED:
        if getattr(init, name) is not None:
            raise SocketError(
                f"{name} is for Socket(); update() cannot change it", code="option"
            )
    secure, alpn = (None, ()) if init.type is None else read_type(init.type)
    own = [name for name in ("servername", "session") if getattr(init, name)]
    if not secure and (tls or own):
        name = [*own, *tls][0]
        raise SocketError(
            f'update() takes {name} with type "tls", or the name of a protocol',
            code="option",
        )
    return Update(
        system=SystemOptions(**system) if system else None,
        ready_timeout=None if init.readyTimeout is None else init.readyTimeout / 1000,
        idle_timeout=None if init.idleTimeout is None else init.idleTimeout / 1000,
        secure=secure,
        alpn=alpn,
        servername=init.servername,
        tls=tls,
    )
