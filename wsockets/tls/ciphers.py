"""Cipher suites and versions: from a user's words to what OpenSSL is told.

OpenSSL keeps the suites of TLS 1.3 in a list of their own; a user writes one
string. Suites with a pre-shared key are ordered so that the key can be used: its
hash, SHA-256 unless stated otherwise, has to be that of the suite.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
from OpenSSL import SSL

from ..errors import SocketError
from .options import VERSIONS, TlsOptions

__all__ = ["Limits", "limits", "psk_cipher", "set_limits"]

_PROTOCOLS: Final = dict(
    zip(
        VERSIONS,
        (
            SSL.TLS1_VERSION,
            SSL.TLS1_1_VERSION,
            SSL.TLS1_2_VERSION,
            SSL.TLS1_3_VERSION,
        ),
        strict=True,
    )
)

# Those with forward secrecy first. Of all others (RSA-PSK among them, which needs a
# certificate as well) only what is in DEFAULT.
_PSK_ONLY: Final = "kECDHEPSK:kDHEPSK:kPSK:!COMPLEMENTOFDEFAULT:!eNULL"
_PSK_FIRST: Final = "kECDHEPSK:kDHEPSK:ALL:!COMPLEMENTOFDEFAULT:!eNULL"
_SHA256: Final = ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
_SHA384: Final = ("TLS_AES_256_GCM_SHA384",)

# RFC 8446, appendix B.4
_AES_128_GCM_SHA256: Final = b"\x13\x01"
_AES_256_GCM_SHA384: Final = b"\x13\x02"


@attrs.frozen
class Limits:
    """Versions and suites. `ciphers` is for TLS 1.2 and below, `suites` for 1.3.

    None leaves a list at OpenSSL's default; `maximum` None is no limit.
    """

    minimum: str
    maximum: str | None
    ciphers: str | None
    suites: str | None


def _split(text: str) -> tuple[list[str], list[str]]:
    words = [word for word in re.split(r"[:, ]+", text) if word]
    suites = [word for word in words if word.startswith("TLS_")]
    return [word for word in words if not word.startswith("TLS_")], suites


def limits(options: TlsOptions, *, server: bool) -> Limits:
    """What `options` come to. Raises SocketError (code "option") for contradictions."""
    ciphers, suites = _split(options.ciphers or "")
    minimum, maximum = str(options.minVersion), options.maxVersion
    old = minimum < "1.2" and not any(word == "@SECLEVEL=0" for word in ciphers)
    if old:
        raise SocketError(
            f"minVersion {minimum} has no effect without ciphers such as "
            "'DEFAULT:@SECLEVEL=0': OpenSSL speaks TLS 1.0 and 1.1 at no other "
            "security level",
            code="option",
        )
    if suites and not ciphers:
        if maximum is not None and maximum < "1.3":
            raise SocketError(
                f"ciphers names suites of TLS 1.3 only, and maxVersion is {maximum}",
                code="option",
            )
        minimum = "1.3"
    elif ciphers and all(word.startswith("@") for word in ciphers):
        ciphers.insert(0, "DEFAULT")
    if not server and isinstance(options.psk, tuple) and not options.psk[0]:
        if minimum == "1.3":
            raise SocketError(
                "psk has an empty identity, which TLS 1.3 does not have, and nothing "
                "below TLS 1.3 is allowed",
                code="option",
            )
        maximum = min(maximum or "1.2", "1.2")
    if options.psk is not None and not options.ciphers:
        suites = [*_SHA256, *(() if options._psk_only else _SHA384)]
    if options.psk is not None and not ciphers:
        ciphers = [_PSK_ONLY if options._psk_only else _PSK_FIRST]
    return Limits(minimum, maximum, ":".join(ciphers) or None, ":".join(suites) or None)


def set_limits(context: SSL.Context, chosen: Limits) -> None:
    """Hold `context` to them. Raises SocketError (code "option")."""
    context.set_min_proto_version(_PROTOCOLS[chosen.minimum])
    if chosen.maximum is not None:
        context.set_max_proto_version(_PROTOCOLS[chosen.maximum])
    try:
        if chosen.ciphers is not None:
            context.set_cipher_list(chosen.ciphers.encode())
        if chosen.suites is not None:
            context.set_tls13_ciphersuites(chosen.suites.encode())
    except SSL.Error as error:
        raise SocketError(
            f"OpenSSL knows no cipher suite of ciphers "
            f"{':'.join(filter(None, (chosen.ciphers, chosen.suites)))!r:.200}",
            code="option",
        ) from error


def psk_cipher(options: TlsOptions) -> bytes:
    """The TLS 1.3 suite, two bytes, whose hash belongs to the pre-shared key."""
    suites = _split(options.ciphers or "")[1]
    if suites and not any(suite.endswith("_SHA256") for suite in suites):
        return _AES_256_GCM_SHA384
    return _AES_128_GCM_SHA256
