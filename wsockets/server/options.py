"""What `listen()` is told, and what it comes to.

Its options are of four kinds in one mapping: those of the sockets that are
accepted, TlsOptions', those that only a server's TLS has, and the listener's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, final

import attrs

from ..errors import SocketError
from ..handshake import Handshake, Security
from ..mixed_options import read_mixed
from ..options import SignalLike, SocketOptions, SocketOptionsMembers, a_bool
from ..tls import ClientAuth, ServerNames, TlsOptions, TlsOptionsMembers, check_server
from ..tls.options import Certificates

__all__ = [
    "ListenMembers",
    "ListenOptions",
    "ReloadMembers",
    "Settings",
    "read_listen",
    "read_reload",
]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNIX: Final = "unix:"
_INT_MAX: Final = 2**31 - 1

# Members of SocketOptions and TlsOptions that mean nothing here, or another thing.
_REFUSED: Final = {
    "sni": "sni is what a client asks for; a server has sniContexts",
    "connectTimeout": "connectTimeout is for connect(); a server has handshakeTimeout",
    "ca": "ca is for whoever verifies a server; the authority of the clients' "
    "certificates is clientCa",
    "verify": "verify is for whoever verifies a server; clientCa asks for the clients' "
    'certificates, and clientAuth="optional" lets them do without',
}


# What a binding object's TLS has for whom it connects to.
_NOT_A_SERVERS: Final[dict[str, Any]] = {"ca": None, "verify": "full", "sessions": None}
_NO_SIGNAL: Final[dict[str, Any]] = {"signal": None}


class ReloadMembers(TlsOptionsMembers, total=False):
    """The members of `ServerSocket.reload()`, in either spelling."""

    clientCa: Certificates | None
    client_ca: Certificates | None
    clientAuth: ClientAuth | None
    client_auth: ClientAuth | None
    sniContexts: Mapping[str, TlsOptions] | None
    sni_contexts: Mapping[str, TlsOptions] | None


class ListenMembers(SocketOptionsMembers, ReloadMembers, total=False):
    """The members of `listen()`, in either spelling."""

    backlog: int | None
    reusePort: bool | None
    reuse_port: bool | None
    ipv6Only: bool | None
    ipv6_only: bool | None
    maxHandshakes: int | None
    max_handshakes: int | None
    proxyProtocol: bool | None
    proxy_protocol: bool | None
    trustedProxies: Iterable[str] | None
    trusted_proxies: Iterable[str] | None


# -- checking


def _error(member: str, value: object, accepted: str) -> SocketError:
    return SocketError(f"{member} is {accepted}, not {value!r:.80}", code="option")


def _a_count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _error(field.name, value, "an int of 1 or more")
    if not 1 <= value <= _INT_MAX:
        raise _error(field.name, value, f"from 1 to {_INT_MAX}")


def _client_auth(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value not in ("required", "optional"):
        raise _error(field.name, value, '"required" or "optional"')


def _kept(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def _contexts(_: object, field: attrs.Attribute[Any], value: object) -> None:
    # Not the value: it may be a key.
    if not isinstance(value, Mapping):
        raise SocketError(
            f"{field.name} maps names to TlsOptions; it is no {type(value).__name__}",
            code="option",
        )


def _networks(value: object) -> tuple[Network | Literal["unix:"], ...]:
    accepted = f"a list of networks such as '10.0.0.0/8', and {_UNIX!r}"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _error("trustedProxies", value, accepted)
    return tuple(_network(each, accepted) for each in value)


def _network(value: object, accepted: str) -> Network | Literal["unix:"]:
    if value == _UNIX:
        return "unix:"
    try:
        if isinstance(value, (int, bytes)):
            raise ValueError("a number is no network")
        return ipaddress.ip_network(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise SocketError(
            f"trustedProxies is {accepted}, not {value!r:.80}: {error!s:.120}",
            code="option",
        ) from error


@attrs.frozen
class ListenOptions:
    """The listener's own options; see `listen()`."""

    backlog: int = attrs.field(default=4096, validator=_a_count)
    reusePort: bool = attrs.field(default=False, validator=a_bool)
    ipv6Only: bool = attrs.field(default=False, validator=a_bool)
    maxHandshakes: int = attrs.field(default=1024, validator=_a_count)
    proxyProtocol: bool = attrs.field(default=False, validator=a_bool)
    trustedProxies: tuple[Network | Literal["unix:"], ...] = attrs.field(
        default=(), converter=_networks
    )

    def __attrs_post_init__(self) -> None:
        if self.proxyProtocol and not self.trustedProxies:
            raise SocketError(
                "proxyProtocol needs trustedProxies: whose headers to believe",
                code="option",
            )
        if self.trustedProxies and not self.proxyProtocol:
            raise SocketError("trustedProxies is for proxyProtocol=True", code="option")

    def trusts(self, peer: object) -> bool:
        """Whether `peer`, as accept() tells it, is a proxy whose header counts."""
        if not self.proxyProtocol:
            return False
        if not isinstance(peer, tuple):
            return _UNIX in self.trustedProxies
        address = ipaddress.ip_address(peer[0].partition("%")[0])
        # What a listener for both kinds makes of IPv4 (RFC 4291, section 2.5.5.2).
        mapped = getattr(address, "ipv4_mapped", None)
        return any(
            network != _UNIX and (mapped or address) in network
            for network in self.trustedProxies
        )


@attrs.frozen
class ServerTlsOptions:
    """What a server's TLS has beyond TlsOptions."""

    clientCa: Certificates | None = None
    clientAuth: ClientAuth = attrs.field(default="required", validator=_client_auth)
    sniContexts: Mapping[str, TlsOptions] = attrs.field(
        factory=dict, converter=_kept, validator=_contexts
    )

    def __attrs_post_init__(self) -> None:
        # A name of sniContexts may have a `ca` of its own.
        asked = self.clientCa is not None or self.sniContexts
        if self.clientAuth == "optional" and not asked:
            raise SocketError("clientAuth needs clientCa", code="option")


# -- what it comes to


@final
@attrs.frozen
class Settings:
    """Everything that a listener needs to know."""

    options: SocketOptions
    own: ListenOptions
    security: Security
    signal: SignalLike | None
    # Kept for the next time that some of it changes.
    server_tls: ServerTlsOptions

    @property
    def handshake(self) -> Handshake | None:
        """The handshake that every connection begins with, if any."""
        if self.options.secureTransport != "on":
            return None
        return Handshake.make(self.options, self.security)


def read_listen(
    base: TlsOptions, options: object, members: Mapping[str, object]
) -> Settings:
    """The options of `listen()`, over those of a binding object; files are read.

    Raises SocketError (code "option").
    """
    first, own, server, over = read_mixed(
        "listen()",
        (SocketOptions, ListenOptions, ServerTlsOptions, TlsOptions),
        options,
        members,
    )
    _refuse(first)
    wanted = SocketOptions(first)
    if wanted.secureTransport == "off":
        for member in (*server, *over):
            raise SocketError(
                f'{member} is for secureTransport "on" or "starttls"; it is "off"',
                code="option",
            )
    # A binding object's trust is for the servers that it connects to.
    base = attrs.evolve(base, **_NOT_A_SERVERS)
    server_tls = ServerTlsOptions(**server)
    security = _secured(base, over, server_tls)
    # With startTls() the material may come later.
    if wanted.secureTransport == "on" or (
        wanted.secureTransport == "starttls" and (server or over or _has_identity(base))
    ):
        _check(security)
    return Settings(
        attrs.evolve(wanted, **_NO_SIGNAL),
        ListenOptions(**own),
        security,
        wanted.signal,
        server_tls,
    )


def read_reload(
    current: Settings, options: object, members: Mapping[str, object]
) -> Settings:
    """`current` with other material for TLS; files are read again.

    Raises SocketError (code "option") for material that cannot be used.
    """
    server, over = read_mixed(
        "reload()", (ServerTlsOptions, TlsOptions), options, members
    )
    server_tls = attrs.evolve(current.server_tls, **server)
    security = _secured(current.security.options, over, server_tls)
    _check(security)
    return attrs.evolve(current, security=security, server_tls=server_tls)


def _refuse(given: Mapping[str, object]) -> None:
    for member in given:
        if member in _REFUSED:
            raise SocketError(_REFUSED[member], code="option")


def _secured(
    base: TlsOptions, over: dict[str, Any], server_tls: ServerTlsOptions
) -> Security:
    _refuse(over)
    if "cert" in over:
        # Another one's key is of no use.
        over.setdefault("key", None)
    over = over | {"ca": _named("clientCa", server_tls.clientCa)}
    # A new object even if nothing is new, so that its files are read.
    options = attrs.evolve(base, **over)
    names = server_tls.sniContexts
    return Security(
        options,
        role="server",
        client_auth=server_tls.clientAuth,
        server_names=ServerNames(options, names) if names else None,
    )


def _named(member: str, ca: Certificates | None) -> Certificates | None:
    """`ca`, or the SocketError for what it is not, under its name here."""
    try:
        return TlsOptions(ca=ca).ca
    except SocketError as error:
        text = str(error).removeprefix("SocketError: ca ")
        raise SocketError(f"{member} {text}", code="option") from None


def _has_identity(options: TlsOptions) -> bool:
    return options.cert is not None or options.psk is not None


def _check(security: Security) -> None:
    check_server(
        security.options,
        client_auth=security.client_auth,
        server_names=security.server_names,
    )
