"""TlsInfo: what was negotiated, and with whom."""

from __future__ import annotations

import attrs
from OpenSSL import SSL

from . import openssl
from .handshake import handshake_of

__all__ = ["TlsInfo", "tls_info"]


@attrs.frozen
class TlsInfo:
    """What a TLS connection came to.

    - `protocol`: "TLSv1.2", "TLSv1.3"; `cipher`: OpenSSL's name of the suite and
      `cipher_bits` the strength of its key.
    - `alpn`: the protocol that was agreed on, or None.
    - `server_name`: the name that the client asked for (SNI), or None.
    - `resumed`: whether an earlier session was gone on with.
    - `certificates`: what the peer presented, as DER, leaf first; of the earlier
      connection, where resumed.
    - `verified`: whether the peer has proven who it is, by a certificate that was
      checked as `TlsOptions.verify` says or by knowing the pre-shared key.
    """

    protocol: str
    cipher: str
    cipher_bits: int
    alpn: str | None
    server_name: str | None
    resumed: bool
    certificates: tuple[bytes, ...]
    verified: bool


def tls_info(connection: SSL.Connection) -> TlsInfo:
    """What `connection` came to, once its handshake is finished."""
    handshake = handshake_of(connection)
    server = handshake.role == "server"
    certificates = openssl.presented_chain(connection._ssl, server=server)
    if server:
        name = connection.get_servername()
        server_name = name.decode("ascii", "backslashreplace") if name else None
    else:
        server_name = handshake.names.server_name
    return TlsInfo(
        protocol=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        cipher_bits=connection.get_cipher_bits() or 0,
        alpn=connection.get_alpn_proto_negotiated().decode(errors="replace") or None,
        server_name=server_name,
        resumed=handshake.resumed,
        certificates=certificates,
        verified=handshake.finished and _verified(connection, bool(certificates)),
    )


def _verified(connection: SSL.Connection, certified: bool) -> bool:
    handshake = handshake_of(connection)
    options = handshake.options
    if handshake.psk_used:
        return True
    if handshake.role == "server":
        # A session resumed without a certificate began with the key, or anyone.
        if handshake.resumed and options._psk_only:
            return True
        return options.ca is not None and certified and openssl.verified(connection)
    return handshake.verifies and openssl.verified(connection)
