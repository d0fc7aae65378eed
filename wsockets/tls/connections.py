"""Connections: an SSL object over a socket, before and right after its handshake."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Literal, TypeAlias

from OpenSSL import SSL

from ..errors import SocketError
from . import openssl
from .alpn import encode, negotiated
from .contexts import context_for
from .handshake import Handshake, Role, attach, conclude, handshake_of
from .names import TlsNames
from .options import TlsOptions
from .server_names import ServerNames
from .sessions import offer_session

__all__ = [
    "ClientAuth",
    "check_options",
    "check_server",
    "client_connection",
    "finish_handshake",
    "server_connection",
]

ClientAuth: TypeAlias = Literal["required", "optional"]

_NO_NAMES = TlsNames(None, None)


def check_options(options: TlsOptions, names: TlsNames | None, role: Role) -> None:
    """Find out now what would fail later: files, keys, contradictions.

    Makes the context, which the connections that follow share. `names` are a
    client's. Raises SocketError (code "option").
    """
    if role == "client":
        _check_name(options, names or _NO_NAMES)
    context_for(options, role)


def check_server(
    options: TlsOptions,
    *,
    client_auth: ClientAuth = "required",
    server_names: ServerNames | None = None,
) -> None:
    """The same for a server, and each of the names that it has."""
    optional = client_auth == "optional"
    resumable = server_names is None or server_names.resumable
    for each in (options, *(server_names or ())):
        context_for(each, "server", optional=optional, resumable=resumable)


def _check_name(options: TlsOptions, names: TlsNames) -> None:
    if options.verify == "full" and not options._psk_only and names.verify_name is None:
        raise SocketError(
            'verify "full" needs a name to verify: give a hostname, sni or '
            'expectedServerHostname, or set verify to "ca" or "none"',
            code="option",
        )


def client_connection(
    options: TlsOptions,
    names: TlsNames,
    alpn: Sequence[str],
    sock: socket.socket,
    *,
    port: int | None = None,
) -> SSL.Connection:
    """A client's connection over `sock`, which stays the caller's.

    `alpn` are the protocols to offer, the best first; an empty one offers none. With
    a `SessionCache`, a session of an earlier connection with the same options,
    names, protocols and `port` is offered. The app data of the connection is in
    use. Raises SocketError (code "option") like `check_options`.
    """
    _check_name(options, names)
    protocols = encode(alpn)
    connection = SSL.Connection(context_for(options, "client"), sock)
    attach(connection, Handshake("client", options, names, protocols))
    connection.set_connect_state()
    if names.server_name is not None:
        connection.set_tlsext_host_name(names.server_name.encode("ascii"))
    if protocols:
        connection.set_alpn_protos(list(protocols))
    offer_session(connection, port)
    return connection


def server_connection(
    options: TlsOptions,
    alpn: Sequence[str],
    sock: socket.socket,
    *,
    client_auth: ClientAuth = "required",
    server_names: ServerNames | None = None,
) -> SSL.Connection:
    """A server's connection over `sock`, which stays the caller's.

    `alpn` are the protocols spoken here, the best first; none are negotiated if it
    is empty. Where the options have a `ca`, clients must show a certificate of
    it, or may ("optional"). A client that asks for one of `server_names` gets the
    certificate of that. Raises SocketError (code "option") like `check_options`.
    """
    protocols = encode(alpn)
    optional = client_auth == "optional"
    resumable = server_names is None or server_names.resumable
    context = context_for(options, "server", optional=optional, resumable=resumable)
    handshake = Handshake("server", options, _NO_NAMES, protocols)
    if server_names is not None:

        def contexts(name: str) -> tuple[TlsOptions, SSL.Context] | None:
            found = server_names.find(name)
            if found is None:
                return None
            return found, context_for(
                found, "server", optional=optional, resumable=resumable
            )

        handshake.contexts = contexts
    connection = SSL.Connection(context, sock)
    attach(connection, handshake)
    connection.set_accept_state()
    return connection


def finish_handshake(
    connection: SSL.Connection, *, offered: Sequence[str], alpn_required: bool = False
) -> str | None:
    """Look at what was agreed on, right after the handshake; the protocol or None.

    `offered` are the protocols that the connection was made with. Nothing may be
    sent or delivered before this has returned. Raises SocketError: "alpn" for a
    protocol that was not offered, or for none where one is required; "tls-verify"
    for a peer that had to show a certificate, or know a key, and did not.
    """
    handshake = handshake_of(connection)
    handshake.alpn = encode(offered)
    _classify(connection, handshake)
    _check_peer(connection, handshake)
    protocol = negotiated(
        handshake, connection.get_alpn_proto_negotiated(), required=alpn_required
    )
    conclude(connection)
    return protocol


def _classify(connection: SSL.Connection, handshake: Handshake) -> None:
    """Tell a resumed session from a pre-shared key."""
    reused = openssl.was_reused(connection)
    if connection.get_protocol_version() < SSL.TLS1_3_VERSION:
        cipher = connection.get_cipher_name() or ""
        handshake.psk_used = "PSK" in cipher.split("-")
        handshake.resumed = reused
        return
    # TLS 1.3's external PSK counts as a reused session. Clients with one have no
    # other sessions (see sessions.py); servers may, and know if they found a key.
    if handshake.role == "client":
        handshake.psk_used = reused and handshake.options.psk is not None
    else:
        handshake.psk_used &= reused
    handshake.resumed = reused and not handshake.psk_used


def _check_peer(connection: SSL.Connection, handshake: Handshake) -> None:
    """Nobody gets by without a certificate, as an anonymous cipher suite would let."""
    if handshake.role == "server" or not handshake.verifies or handshake.psk_used:
        return
    if handshake.resumed:
        good = openssl.verified(connection)
    else:
        good = handshake.leaf_checked and openssl.verified(connection)
    if not good:
        raise SocketError(
            "the peer showed no certificate, and verify is "
            f'"{handshake.options.verify}"',
            code="tls-verify",
        )
