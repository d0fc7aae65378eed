"""Contexts: OpenSSL's form of a TlsOptions, made once and shared.

Making one reads files, decodes keys and costs 0.1 ms (and 6 to 9 ms more for a
bundle of certificates, see trust.py); connections share it. It must not be changed
once it has been used, so a changed file means a new context, and connections keep
the one they began with.

Two rules say how long a context lives. One with a secret in it (a key, a PSK) is
kept by its TlsOptions alone and dies with the last of that and its connections.
One without is public knowledge and found again by the value of its options, for
those who write them anew at each call; a few are kept.

A server goes on with the certificate it had when a new one cannot be used: a file
half written, a key that does not match. It says so once, in the log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable
from typing import Any, Final

from OpenSSL import SSL, crypto

from ..errors import SocketError
from . import openssl
from .alpn import SELECT
from .cache import RecentlyUsed
from .ciphers import limits, set_limits
from .handshake import Role, of_pointer
from .material import each, files_of, load_identity, load_trusted, stamp
from .openssl import ffi
from .options import TlsOptions
from .psk import enable_psk
from .server_names import SELECT_NAME
from .trust import store_for, trust_key
from .verify import VERIFY

__all__ = ["context_for"]

_log = logging.getLogger("wsockets")

_public: Final[RecentlyUsed[SSL.Context]] = RecentlyUsed(32)


def context_for(
    options: TlsOptions,
    role: Role,
    *,
    optional: bool = False,
    resumable: bool = True,
) -> SSL.Context:
    """The context of `options`, as its files are now.

    `optional` lets a server's clients do without a certificate; without `resumable`
    it resumes no session. Raises SocketError (code "option") for material that
    cannot be used.
    """
    slot = (role, optional, resumable)
    known = options._contexts.get(slot)
    missing: SocketError | None = None
    try:
        version = _version(options, role)
    except SocketError as error:
        missing, version = error, str(error)
    if known is not None and known[0] == version:
        return known[1]
    try:
        if missing is not None:
            raise missing
        if role == "server":
            context = _server(options, optional, resumable)
        else:
            context = _client_for(options, version)
    except SocketError as error:
        if known is None or role == "client":
            raise
        _log.error("the certificate or key was not replaced: %s", error)
        context = known[1]
    # Where that failed, it is tried again when the files have changed again.
    options._contexts[slot] = (version, context)
    return context


def _version(options: TlsOptions, role: Role) -> Hashable:
    """What changes when a file that `options` depend on does."""
    files = tuple(stamp(member, path) for member, path in files_of(options))
    if role == "client" and options.ca is None and _checks(options):
        return (files, trust_key(options))
    return files


def _checks(options: TlsOptions) -> bool:
    """Whether a client needs certificates to trust."""
    return options.verify != "none" and not options._psk_only


def _client_for(options: TlsOptions, version: Hashable) -> SSL.Context:
    if options.cert is not None or options.key is not None or options.psk is not None:
        return _client(options)
    # Files are in the version, by path and stamp.
    given = each(options.ca)
    key = (
        tuple(None if isinstance(one, os.PathLike) else one for one in given),
        options.verify,
        options.minVersion,
        options.maxVersion,
        options.ciphers,
        options.keylog and os.fspath(options.keylog),
        version,
    )
    return _public.get(key, lambda: _client(options))


# -- making


def _client(options: TlsOptions) -> SSL.Context:
    if callable(options.psk):
        raise SocketError(
            "psk is a function, which is for servers; a client has (identity, key)",
            code="option",
        )
    context = _common(options, SSL.TLS_CLIENT_METHOD, server=False)
    if options.verify != "none":
        if not options._psk_only:
            openssl.share_store(context, store_for(options))
        openssl.set_verify(context, SSL.VERIFY_PEER, VERIFY)
    return context


def _server(options: TlsOptions, optional: bool, resumable: bool) -> SSL.Context:
    if options.cert is None and options.psk is None:
        raise SocketError(
            "a server needs cert and key, or psk, to show who it is", code="option"
        )
    context = _common(options, SSL.TLS_SERVER_METHOD, server=True)
    # Sessions are only resumed in the context that they were made in.
    context.set_session_id(b"wsockets")
    if not resumable:
        openssl.refuse_tickets(context)
    openssl.set_alpn_select(context, SELECT)
    openssl.set_name_select(context, SELECT_NAME)
    if options.ca is not None:
        if options.verify == "none":
            raise SocketError(
                'ca asks for the clients\' certificates, and verify is "none"; leave '
                "one of them out",
                code="option",
            )
        openssl.share_store(context, store_for(options))
        for certificate in load_trusted("ca", each(options.ca)):
            openssl.name_client_ca(context, certificate)
        mode = SSL.VERIFY_PEER
        if not optional:
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        openssl.set_verify(context, mode, VERIFY)
    return context


def _common(options: TlsOptions, method: int, *, server: bool) -> SSL.Context:
    context = SSL.Context(method)
    openssl.prepare(context)
    set_limits(context, limits(options, server=server))
    identity = load_identity(options)
    if identity is not None:
        chain, key = identity
        try:
            context.use_certificate(chain[0])
            for certificate in chain[1:]:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(key)
        except (SSL.Error, crypto.Error) as error:
            raise SocketError(
                f"OpenSSL refuses cert and key: {_reasons(error)}", code="option"
            ) from error
    if options.psk is not None:
        enable_psk(context, server=server)
    if options.keylog is not None:
        try:
            os.close(_open_log(options.keylog))
        except OSError as error:
            raise SocketError(
                f"keylog: cannot write {os.fspath(options.keylog)!r}: "
                f"{error.strerror or error}",
                code="option",
                errno=error.errno,
            ) from error
        openssl.set_keylog(context, _KEYLOG)
    return context


def _reasons(error: Exception) -> str:
    queue = error.args[0] if error.args else ()
    return "; ".join(reason for _, _, reason in queue) or type(error).__name__


# -- the key log


def _open_log(path: str | os.PathLike[str]) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _write_log(ssl: Any, line: Any) -> None:
    path = of_pointer(ssl).options.keylog
    assert path is not None
    file = _open_log(path)
    try:
        # One write, so that lines of several connections do not mix.
        os.write(file, ffi.string(line) + b"\n")
    finally:
        os.close(file)


_KEYLOG: Final[Any] = openssl.callback(
    "void (*)(const SSL *, const char *)", _write_log, None
)
