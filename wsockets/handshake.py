"""What a TLS handshake on a socket needs to know, and its connection."""

from __future__ import annotations

import socket as _socket
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from . import tls
from .connection import TlsConnection
from .mixed_options import UpgradeOptions
from .options import SocketOptions

if TYPE_CHECKING:
    from .tls import TlsOptions

__all__ = ["Handshake", "Role", "Security"]

Role: TypeAlias = Literal["client", "server"]


@attrs.frozen
class Security:
    """What a TLS handshake on a socket needs to know beside its options.

    And one thing more that goes from a socket to the one that takes it over: the
    address of the peer, where a trusted proxy `announced` it.
    """

    options: TlsOptions
    hostname: str | None = None
    port: int | None = None
    role: Role = "client"
    client_auth: tls.ClientAuth = "required"
    server_names: tls.ServerNames | None = None
    announced: str | None = None


@attrs.frozen
class Handshake:
    """A TLS handshake with everything decided."""

    options: TlsOptions
    names: tls.TlsNames
    alpn: tuple[str, ...]
    role: Role
    port: int | None
    client_auth: tls.ClientAuth
    server_names: tls.ServerNames | None

    @classmethod
    def make(
        cls,
        options: SocketOptions,
        security: Security,
        upgrade: UpgradeOptions | None = None,
    ) -> Handshake:
        """The handshake of a socket with these options; `upgrade`'s come first.

        SocketError (code "option") for a name that is none.
        """
        upgrade = upgrade or UpgradeOptions()
        return cls(
            options=security.options,
            names=tls.tls_names(
                security.hostname,
                upgrade.sni or options.sni,
                upgrade.expectedServerHostname,
            ),
            alpn=options.alpn if upgrade.alpn is None else upgrade.alpn,
            role=security.role,
            port=security.port,
            client_auth=security.client_auth,
            server_names=security.server_names,
        )

    def check(self) -> None:
        """Raise the SocketError that can be known without a connection."""
        if self.role == "server":
            tls.check_server(
                self.options,
                client_auth=self.client_auth,
                server_names=self.server_names,
            )
        else:
            tls.check_options(self.options, self.names, self.role)

    def connection(
        self, sock: _socket.socket, tolerate_truncation: bool
    ) -> TlsConnection:
        """A TLS connection over `sock`, its handshake still to be done."""
        if self.role == "server":
            engine = tls.server_connection(
                self.options,
                self.alpn,
                sock,
                client_auth=self.client_auth,
                server_names=self.server_names,
            )
        else:
            engine = tls.client_connection(
                self.options, self.names, self.alpn, sock, port=self.port
            )
        return TlsConnection(engine, sock, tolerate_truncation=tolerate_truncation)
