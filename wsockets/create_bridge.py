"""createBridge(): a bridge of parts that exist already, in one call.

The call that was proposed for Node's `tls` module: an established connection, a
descriptor, and the credentials of the TLS between them.
"""

from __future__ import annotations

import socket as _socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from .bridge import Bridge, BridgeEnd, BridgeMembers, BridgeOptions
from .connect import adopt
from .errors import SocketError
from .options import given_members, option_error, spellings
from .socket import Socket
from .tls import TlsOptions, TlsOptionsMembers

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CreateBridgeMembers", "createBridge", "create_bridge"]


class CreateBridgeMembers(BridgeMembers, total=False):
    """The members of `createBridge()`, in either spelling."""

    socket: Socket | _socket.socket | int
    sink: object
    credentials: TlsOptionsMembers | Mapping[str, object] | TlsOptions | None
    secureContext: TlsOptions | None
    secure_context: TlsOptions | None
    hostname: str | None
    role: Literal["client", "server"] | None
    sni: str | None
    alpn: Iterable[str] | None
    nursery: object


@attrs.frozen
class _Parts:
    """What createBridge() is told beside the members of BridgeOptions."""

    socket: Any = None
    sink: Any = None
    credentials: Any = None
    secureContext: Any = None
    hostname: Any = None
    role: Any = None
    sni: Any = None
    alpn: Any = None
    nursery: Any = None


# What only means something together with TLS, or with a connection to adopt.
_OF_TLS: Final = ("hostname", "role", "sni", "alpn")


def createBridge(
    options: Mapping[str, object] | None = None,
    /,
    **members: Unpack[CreateBridgeMembers],
) -> Bridge:
    """Make a `Bridge` between `socket` and `sink`; it is yet to be started.

    - `socket`: a Socket, or a connected stream (an fd or a `socket.socket`), which
      is adopted: the bridge owns it, and closes it unless it was stopped, after
      which `bridge.socket` is the way to the connection.
    - `sink`: as for `Socket.bridge()`.
    - `credentials`: a mapping with TlsOptions' members, or `secureContext`: a
      TlsOptions. With either the connection is secured first, as `role` "client"
      (the default) or "server", towards `hostname`, with `sni` and `alpn`; a
      Socket must have been made with secureTransport "starttls" for that.
    - the members of BridgeOptions: direction, framing, prefix, mtu, closeSink,
      idleTimeout, onError, onClose.

    Members are given in a mapping, as keywords, or both. Raises SocketError (code
    "option" or "state") for what `adopt()`, `startTls()` and `Socket.bridge()`
    refuse; RuntimeError outside of an event loop.
    """
    parts, wanted = _read(options, members)
    security = _security(parts)
    if isinstance(parts.socket, Socket):
        socket = _secured(parts, security)
        return socket.bridge(parts.sink, wanted)
    if parts.socket is None:
        raise SocketError("createBridge() needs a socket", code="option")
    of_tls = {name: getattr(parts, name) for name in _OF_TLS} if security else {}
    socket = adopt(
        parts.socket,
        security,
        nursery=parts.nursery,
        secureTransport="off" if security is None else "on",
        **of_tls,
    )
    try:
        bridge = socket.bridge(parts.sink, wanted)
    except BaseException:
        socket.close()
        raise

    def close(end: BridgeEnd) -> None:
        if end.reason != "stopped":
            socket.close()

    bridge.closed.then(close)
    return bridge


create_bridge = createBridge


def _read(
    options: object, members: Mapping[str, object]
) -> tuple[_Parts, BridgeOptions]:
    ours, theirs = spellings(_Parts), spellings(BridgeOptions)
    for name in members:
        if name not in ours and name not in theirs:
            raise TypeError(
                f"createBridge() got an unexpected keyword argument {name!r}"
            )
    if options is not None and not isinstance(options, Mapping):
        raise SocketError(
            f"options are a mapping or None, not {type(options).__name__}",
            code="option",
        )
    values = [
        given_members(
            cls,
            options,
            {name: value for name, value in members.items() if name in known},
            where="createBridge()",
        )
        for cls, known in ((_Parts, ours), (BridgeOptions, theirs))
    ]
    return _Parts(**values[0]), BridgeOptions(**values[1])


def _security(parts: _Parts) -> TlsOptions | None:
    """The TLS that is asked for; None for none."""
    given, context = parts.credentials, parts.secureContext
    if given is not None and context is not None:
        raise SocketError(
            "createBridge() takes credentials or a secureContext, not both",
            code="option",
        )
    if context is not None and not isinstance(context, TlsOptions):
        # Not the value: it may hold a key.
        raise SocketError(
            f"secureContext is a TlsOptions, not {type(context).__name__}",
            code="option",
        )
    security: TlsOptions | None = context
    if given is not None:
        values = given_members(TlsOptions, given, {}, where="createBridge()")
        security = TlsOptions(**values)
    if security is None:
        for name in _OF_TLS:
            if getattr(parts, name) is not None:
                raise option_error(
                    name, getattr(parts, name), "for TLS: give credentials as well"
                )
    return security


def _secured(parts: _Parts, security: TlsOptions | None) -> Socket:
    """The Socket to bridge: the given one, or what it is upgraded to."""
    socket: Socket = parts.socket
    for name in ("role", "nursery"):
        if getattr(parts, name) is not None:
            raise option_error(
                name,
                getattr(parts, name),
                "for a connection that is adopted; a Socket has its own",
            )
    if security is None:
        return socket
    if socket.secureTransport == "on":
        raise SocketError(
            "credentials came too late: the socket has its TLS already", code="option"
        )
    return socket.startTls(
        security,
        sni=parts.sni,
        alpn=parts.alpn,
        expectedServerHostname=parts.hostname,
    )
