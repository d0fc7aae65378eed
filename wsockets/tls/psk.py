"""Pre-shared keys: TLS 1.2's suites (RFC 4279) and TLS 1.3's external PSKs.

Two pairs of callbacks. TLS 1.2's fill buffers of OpenSSL's with an identity (ended
by a NUL) and a key; TLS 1.3's hand over a session made of the key. OpenSSL falls
back on the former in 1.3 when the latter have nothing to say, which here they say
no to: the answer was final.

- An external PSK belongs to a hash, that of the suite its session names. SHA-256
  is the default (RFC 8446, section 4.2.11), unless the options name suites with
  SHA-384 only.
- A server is offered tickets as identities too. They are longer than any identity
  of ours, and left to OpenSSL.
- A client must not learn which identities exist: an unknown one is given a random
  key and fails like a wrong one. Only in TLS 1.3, a server that has a certificate
  as well falls back on that, as anyone can see.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any, Final

from OpenSSL import SSL

from . import openssl
from .ciphers import psk_cipher
from .handshake import Failure, Handshake, of_pointer
from .openssl import ffi, lib
from .options import IDENTITY_MAX, KEY_MAX, TlsOptions

__all__ = ["enable_psk"]


def enable_psk(context: SSL.Context, *, server: bool) -> None:
    """Let connections of `context` use the `psk` of their options."""
    pointer = context._context
    if server:
        lib.SSL_CTX_set_psk_server_callback(pointer, _SERVER_12)
        lib.SSL_CTX_set_psk_find_session_callback(pointer, _SERVER_13)
    else:
        lib.SSL_CTX_set_psk_client_callback(pointer, _CLIENT_12)
        lib.SSL_CTX_set_psk_use_session_callback(pointer, _CLIENT_13)


# -- the key


def _ours(options: TlsOptions) -> tuple[bytes, bytes]:
    assert isinstance(options.psk, tuple)  # check_options saw to it
    return options.psk


def _find(handshake: Handshake, identity: bytes) -> bytes | None:
    """The key for `identity`, or None. A function that fails has refused."""
    psk = handshake.options.psk
    if isinstance(psk, tuple):
        return psk[1] if hmac.compare_digest(psk[0], identity) else None
    assert psk is not None
    try:
        key = psk(identity)
    except BaseException as error:
        handshake.problem = Failure(
            f"the psk function raised {type(error).__name__}", cause=error
        )
        raise
    if key is not None and not (isinstance(key, bytes) and 1 <= len(key) <= KEY_MAX):
        handshake.problem = Failure(
            f"the psk function returned {_described(key)}; a key is bytes, from 1 to "
            f"{KEY_MAX} of them, and an unknown identity's is None"
        )
        raise ValueError("not a key")
    return key


def _described(key: object) -> str:
    if isinstance(key, bytes):
        return f"{len(key)} bytes"
    return f"an object of type {type(key).__name__}"


def _session(ssl: Any, key: bytes, options: TlsOptions) -> Any:
    """A session of TLS 1.3 that stands for the key; the caller owns it."""
    session = lib.Cryptography_SSL_SESSION_new()
    cipher = lib.SSL_CIPHER_find(ssl, psk_cipher(options))
    if not (
        session != ffi.NULL
        and cipher != ffi.NULL
        and lib.SSL_SESSION_set1_master_key(session, key, len(key))
        and lib.SSL_SESSION_set_cipher(session, cipher)
        and lib.SSL_SESSION_set_protocol_version(session, lib.TLS1_3_VERSION)
    ):
        lib.SSL_SESSION_free(session)
        raise ValueError("OpenSSL takes no such key")
    return session


# -- clients


def _client_12(
    ssl: Any, _hint: Any, identity: Any, room: int, key: Any, key_room: int
) -> int:
    our_identity, our_key = _ours(of_pointer(ssl).options)
    if len(our_identity) >= room or len(our_key) > key_room:
        return 0
    ffi.memmove(identity, our_identity + b"\0", len(our_identity) + 1)
    ffi.memmove(key, our_key, len(our_key))
    return len(our_key)


def _client_13(ssl: Any, _hash: Any, identity: Any, length: Any, session: Any) -> int:
    handshake = of_pointer(ssl)
    session[0] = ffi.NULL
    our_identity, our_key = _ours(handshake.options)
    made = _session(ssl, our_key, handshake.options)
    handshake.kept = ffi.new("unsigned char[]", our_identity)
    identity[0], length[0], session[0] = handshake.kept, len(our_identity), made
    return 1


# -- servers


def _server_12(ssl: Any, identity: Any, key: Any, key_room: int) -> int:
    if lib.SSL_version(ssl) >= lib.TLS1_3_VERSION:
        return 0
    handshake = of_pointer(ssl)
    # One byte more shows that it is too long; OpenSSL's own copy ends in a NUL.
    name = ffi.string(identity, IDENTITY_MAX + 1)
    found = _find(handshake, name) if len(name) <= IDENTITY_MAX else None
    used = secrets.token_bytes(32) if found is None else found
    if len(used) > key_room:
        return 0
    handshake.psk_used = found is not None
    ffi.memmove(key, used, len(used))
    return len(used)


def _server_13(ssl: Any, identity: Any, length: int, session: Any) -> int:
    handshake = of_pointer(ssl)
    session[0] = ffi.NULL
    if length > IDENTITY_MAX:
        return 1
    found = _find(handshake, bytes(ffi.buffer(identity, length)))
    if found is None:
        if handshake.options.cert is not None:
            return 1
        used = secrets.token_bytes(32)
    else:
        used = found
    session[0] = _session(ssl, used, handshake.options)
    handshake.psk_used = found is not None
    return 1


_CLIENT_12: Final[Any] = openssl.callback(
    "unsigned int (*)(SSL *, const char *, char *, unsigned int, "
    "unsigned char *, unsigned int)",
    _client_12,
    0,
)
_CLIENT_13: Final[Any] = openssl.callback(
    "int (*)(SSL *, const EVP_MD *, const unsigned char **, size_t *, SSL_SESSION **)",
    _client_13,
    0,
)
_SERVER_12: Final[Any] = openssl.callback(
    "unsigned int (*)(SSL *, const char *, unsigned char *, unsigned int)",
    _server_12,
    0,
)
_SERVER_13: Final[Any] = openssl.callback(
    "int (*)(SSL *, const unsigned char *, size_t, SSL_SESSION **)", _server_13, 0
)
