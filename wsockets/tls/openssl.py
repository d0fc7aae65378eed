"""OpenSSL where pyOpenSSL has no words for it: the one file that reaches below.

`lib` and `ffi` are cryptography's bindings, which pyOpenSSL itself is made of, so
that a pointer taken from a pyOpenSSL object may be passed to `lib`. Everything
else in the package calls the functions of this file.

Callbacks. OpenSSL copies a context's callbacks into each SSL object, and some of
them outlive a change of context; so every callback here is one function for the
whole process, alive as long as the process is. It finds its handshake by the
address of the SSL object. One that raised would have its traceback printed and
cffi's default returned; therefore `callback` makes each return the value that
refuses (0 or "alert"), whatever happens inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

__all__ = [
    "ALPN_FATAL",
    "ALPN_IGNORE",
    "ALPN_OK",
    "CERTIFICATE_REJECTED",
    "HOSTNAME_MISMATCH",
    "NAME_FATAL",
    "NAME_IGNORE",
    "NAME_OK",
    "address",
    "callback",
    "chain_of",
    "current_der",
    "current_session",
    "der",
    "encoded",
    "failure",
    "ffi",
    "functions",
    "has_ticket",
    "lib",
    "name_client_ca",
    "prepare",
    "presented_chain",
    "refuse_tickets",
    "set_alpn_select",
    "set_keylog",
    "set_name_select",
    "set_verify",
    "share_store",
    "ticket",
    "truncation",
    "use_context",
    "verified",
    "verify_error",
    "was_reused",
]

ffi: Final[Any] = _ffi
lib: Final[Any] = _lib

ALPN_OK: Final[int] = lib.SSL_TLSEXT_ERR_OK
ALPN_FATAL: Final[int] = lib.SSL_TLSEXT_ERR_ALERT_FATAL
ALPN_IGNORE: Final[int] = lib.SSL_TLSEXT_ERR_NOACK

NAME_OK: Final[int] = lib.SSL_TLSEXT_ERR_OK
NAME_FATAL: Final[int] = lib.SSL_TLSEXT_ERR_ALERT_FATAL
NAME_IGNORE: Final[int] = lib.SSL_TLSEXT_ERR_NOACK

HOSTNAME_MISMATCH: Final[int] = lib.X509_V_ERR_HOSTNAME_MISMATCH
CERTIFICATE_REJECTED: Final[int] = lib.X509_V_ERR_CERT_REJECTED


def callback(declaration: str, function: Callable[..., Any], refuse: int | None) -> Any:
    """`function` as a C function that returns `refuse` should it ever raise."""
    if refuse is None:
        return ffi.callback(declaration, function, onerror=_quiet)
    return ffi.callback(declaration, function, error=refuse, onerror=_quiet)


def _quiet(*_exception: object) -> None:
    """Instead of cffi's traceback on stderr, whose locals could be secrets."""


def address(pointer: Any) -> int:
    """The address that a C pointer holds."""
    return int(ffi.cast("uintptr_t", pointer))


def functions(names: Iterable[str]) -> dict[str, int]:
    """The addresses of OpenSSL's functions of these names, for native code.

    AttributeError names one that cryptography's bindings do not have.
    """
    # Not `lib`, which is a module made of its members.
    bindings: Any = _openssl.lib
    return {name: address(ffi.addressof(bindings, name)) for name in names}


def failure(codes: Iterable[int]) -> SSL.Error:
    """The exception that pyOpenSSL raises for these codes of OpenSSL's error queue."""
    return SSL.Error([("", "", _reason(code)) for code in codes])


def truncation() -> SSL.SysCallError:
    """The exception that pyOpenSSL raises for the end without close_notify."""
    return SSL.SysCallError(-1, "Unexpected EOF")


def _reason(code: int) -> str:
    text = lib.ERR_reason_error_string(code)
    return "" if text == ffi.NULL else ffi.string(text).decode("utf-8", "replace")


# -- contexts


def prepare(context: SSL.Context) -> None:
    """Set the modes and options that every context here has.

    A write is all or nothing (without SSL_MODE_ENABLE_PARTIAL_WRITE; a quarter
    less work), though its buffer may move between tries; idle connections give
    their buffers back (64 -> 36 KB). No renegotiation, no compression, and no
    cache of OpenSSL's own: tickets hold the state of a server's sessions, and
    `SessionCache` a client's.
    """
    context.clear_mode(lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)


def share_store(context: SSL.Context, store: crypto.X509Store) -> None:
    """Let `context` trust what is in `store`, which any number may share."""
    pointer = store._store
    lib.X509_STORE_up_ref(pointer)
    # Takes the reference over.
    lib.SSL_CTX_set_cert_store(context._context, pointer)


def name_client_ca(context: SSL.Context, certificate: crypto.X509) -> None:
    """Tell clients that certificates issued by `certificate` are accepted."""
    lib.SSL_CTX_add_client_CA(context._context, certificate._x509)


def set_verify(context: SSL.Context, mode: int, function: Any) -> None:
    """Ask for the peer's certificate by `mode`, judged by the C function."""
    lib.SSL_CTX_set_verify(context._context, mode, function)


def set_alpn_select(context: SSL.Context, function: Any) -> None:
    """Let the C function choose a protocol from a client's offer."""
    lib.SSL_CTX_set_alpn_select_cb(context._context, function, ffi.NULL)


def set_name_select(context: SSL.Context, function: Any) -> None:
    """Let the C function see the server name that a client asks for."""
    lib.SSL_CTX_set_tlsext_servername_callback(context._context, function)


def refuse_tickets(context: SSL.Context) -> None:
    """Resume no session: with no cache either, there is nothing to go on with."""
    context.set_options(SSL.OP_NO_TICKET)


def set_keylog(context: SSL.Context, function: Any) -> None:
    """Let the C function have each line of the key log."""
    lib.SSL_CTX_set_keylog_callback(context._context, function)


# -- connections


def use_context(ssl: Any, context: SSL.Context) -> None:
    """Go on with the certificate of `context`, and with whom that lets in.

    SSL_set_SSL_CTX changes the former, and where the latter are looked for, but not
    whether they are asked.
    """
    pointer = context._context
    lib.SSL_set_SSL_CTX(ssl, pointer)
    # NULL: the function stays, one for the whole process.
    lib.SSL_set_verify(ssl, lib.SSL_CTX_get_verify_mode(pointer), ffi.NULL)


def was_reused(connection: SSL.Connection) -> bool:
    """Whether the handshake went on from a session or an external PSK (TLS 1.3)."""
    return bool(lib.SSL_session_reused(connection._ssl))


def verified(connection: SSL.Connection) -> bool:
    """Whether OpenSSL has nothing against the peer's certificate, or there is none."""
    return bool(lib.SSL_get_verify_result(connection._ssl) == lib.X509_V_OK)


def verify_error(connection: SSL.Connection) -> str | None:
    """What OpenSSL has against the peer's certificate, in its words; or None."""
    result = lib.SSL_get_verify_result(connection._ssl)
    if result == lib.X509_V_OK:
        return None
    text = ffi.string(lib.X509_verify_cert_error_string(result))
    return str(text.decode("ascii", "replace"))


def current_session(connection: SSL.Connection) -> int:
    """The address of the SSL_SESSION in use, 0 without one; to compare only."""
    return address(lib.SSL_get_session(connection._ssl))


def has_ticket(session: SSL.Session) -> bool:
    """Whether a server gave a ticket for `session`, without which TLS 1.3 has none."""
    return ticket(encoded(session)) is not None


def encoded(session: SSL.Session) -> bytes:
    """`session` as DER, OpenSSL's own form of it. Holds its secrets."""
    pointer = session._session
    length = lib.i2d_SSL_SESSION(pointer, ffi.NULL)
    buffer = ffi.new("unsigned char[]", length)
    lib.i2d_SSL_SESSION(pointer, ffi.new("unsigned char **", buffer))
    return bytes(ffi.buffer(buffer, length))


def ticket(session: bytes) -> bytes | None:
    """The ticket that a server gave for an encoded session, or None.

    No function says so. The ticket is the member [10] of SSL_SESSION's ASN.1 form,
    an OCTET STRING.
    """
    position, _ = _contents(session, 0)
    while position < len(session):
        start, size = _contents(session, position)
        if session[position] == 0xAA:
            inner, length = _contents(session, start)
            return session[inner : inner + length]
        position = start + size
    return None


def _contents(encoded: bytes, position: int) -> tuple[int, int]:
    """Where the contents of the DER element at `position` begin, and their length."""
    size = encoded[position + 1]
    if size < 0x80:
        return position + 2, size
    start = position + 2 + (size & 0x7F)
    return start, int.from_bytes(encoded[position + 2 : start], "big")


# -- certificates


def der(pointer: Any) -> bytes:
    """The X509 behind the C pointer, as DER."""
    lib.X509_up_ref(pointer)
    return crypto.dump_certificate(
        crypto.FILETYPE_ASN1, crypto.X509._from_raw_x509_ptr(pointer)
    )


def _stack(stack: Any) -> tuple[bytes, ...]:
    return tuple(
        der(lib.sk_X509_value(stack, index)) for index in range(lib.sk_X509_num(stack))
    )


def presented_chain(ssl: Any, *, server: bool) -> tuple[bytes, ...]:
    """What the peer of `ssl` presented, as DER, leaf first; () for nothing.

    A server finds the leaf apart from the rest (SSL_get_peer_cert_chain(3)).
    """
    stack = lib.SSL_get_peer_cert_chain(ssl)
    chain = () if stack == ffi.NULL else _stack(stack)
    if not server:
        return chain
    leaf = lib.SSL_get_peer_certificate(ssl)
    if leaf == ffi.NULL:
        return chain
    leaf = ffi.gc(leaf, lib.X509_free)
    return (der(leaf), *chain)


def chain_of(store_context: Any) -> tuple[bytes, ...]:
    """The chain built so far in an X509_STORE_CTX, as DER, leaf first."""
    stack = lib.X509_STORE_CTX_get1_chain(store_context)
    chain = _stack(stack)
    for index in range(len(chain)):
        lib.X509_free(lib.sk_X509_value(stack, index))
    lib.sk_X509_free(stack)
    return chain


def current_der(store_context: Any) -> bytes:
    """The certificate that an X509_STORE_CTX is about, as DER."""
    return der(lib.X509_STORE_CTX_get_current_cert(store_context))
