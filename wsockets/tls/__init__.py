"""TLS: from options to OpenSSL connections, and from those to plain values.

Nothing here waits and nothing moves data; connections are made, judged, described.
pyOpenSSL does the work, on the socket's own file descriptor, so that native code
may take both over.

    options.py ─ names.py         what is wanted
    material.py · trust.py        certificates and keys read; whom to trust
    ciphers.py · contexts.py      an OpenSSL context of it, shared and cached
    handshake.py                  the state of one connection, for the callbacks
    verify.py · alpn.py · psk.py · server_names.py
                                  the callbacks: they refuse when in doubt
    connections.py · sessions.py  before the handshake, right after it, at the end
    detour.py                     round the fd, while older records must be sent first
    report.py · info.py · details.py   failures in words, facts as values
    openssl.py                    what pyOpenSSL has no words for

A connection goes through these, in order: `check_options` when it is asked for;
`client_connection` or `server_connection` once there is a socket; do_handshake() as
often as it takes, whose errors `tls_error` explains, like those of any later call;
`finish_handshake`; `store_session` at the very end.
"""

from __future__ import annotations

from .connections import (
    ClientAuth,
    check_options,
    check_server,
    client_connection,
    finish_handshake,
    server_connection,
)
from .details import CipherInfo, EphemeralKeyInfo, TlsDetails, tls_details
from .detour import Detour
from .info import TlsInfo, tls_info
from .names import TlsNames, tls_names
from .options import TlsOptions, TlsOptionsMembers
from .report import tls_error
from .server_names import ServerNames
from .sessions import SessionCache, keeps_sessions, store_session

__all__ = [
    "CipherInfo",
    "ClientAuth",
    "Detour",
    "EphemeralKeyInfo",
    "ServerNames",
    "SessionCache",
    "TlsDetails",
    "TlsInfo",
    "TlsNames",
    "TlsOptions",
    "TlsOptionsMembers",
    "check_options",
    "check_server",
    "client_connection",
    "finish_handshake",
    "keeps_sessions",
    "server_connection",
    "store_session",
    "tls_details",
    "tls_error",
    "tls_info",
    "tls_names",
]
