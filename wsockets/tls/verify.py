"""Judging the peer's certificate, inside OpenSSL's own verification.

OpenSSL builds and checks the chain and calls `VERIFY` for each certificate, the
leaf last. The name is compared there and then, not after the handshake: a
mismatch must fail the handshake with an alert and nothing may be sent afterwards.
Nothing is ever allowed that OpenSSL refuses, and whatever goes wrong in here is a
refusal. What the certificate says is not trusted either: it is shown escaped.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)

from . import openssl
from .handshake import Failure, Handshake, of_pointer
from .openssl import ffi, lib

__all__ = ["VERIFY"]

# How many of a certificate's names an error lists.
_NAMES_SHOWN: Final = 8
_TIME: Final = "%Y-%m-%d %H:%M UTC"


def _verify(ok: int, store: Any) -> int:
    index = lib.SSL_get_ex_data_X509_STORE_CTX_idx()
    ssl = lib.X509_STORE_CTX_get_ex_data(store, index)
    handshake = of_pointer(ssl)
    try:
        refusal = _judge(handshake, ok, store)
    except BaseException as error:
        refusal = (
            openssl.CERTIFICATE_REJECTED,
            f"it could not be read ({type(error).__name__})",
            error,
        )
    if refusal is None:
        return 1
    code, reason, cause = refusal
    lib.X509_STORE_CTX_set_error(store, code)
    server = handshake.role == "server"
    chain = openssl.presented_chain(ssl, server=server) or openssl.chain_of(store)
    handshake.failure = Failure(reason, chain, cause)
    return 0


VERIFY: Final[Any] = openssl.callback("int (*)(int, X509_STORE_CTX *)", _verify, 0)


def _judge(
    handshake: Handshake, ok: int, store: Any
) -> tuple[int, str, BaseException | None] | None:
    """None if all is well so far, else OpenSSL's error code, the reason, the cause."""
    depth = lib.X509_STORE_CTX_get_error_depth(store)
    if handshake.role == "client" and handshake.options._psk_only:
        reason = (
            "the peer answered with a certificate, but only the pre-shared key is "
            "trusted; give ca to accept certificates as well"
        )
        return openssl.CERTIFICATE_REJECTED, reason, None
    if not ok:
        code = lib.X509_STORE_CTX_get_error(store)
        certificate = x509.load_der_x509_certificate(openssl.current_der(store))
        return code, _chain_reason(code, depth, certificate), None
    if depth:
        return None
    if handshake.role == "client" and handshake.options.verify == "full":
        mismatch = _name_reason(openssl.current_der(store), handshake.names.verify_name)
        if mismatch is not None:
            return openssl.HOSTNAME_MISMATCH, *mismatch
    handshake.leaf_checked = True
    return None


# -- the chain


def _chain_reason(code: int, depth: int, certificate: x509.Certificate) -> str:
    which = "it" if depth == 0 else f"certificate {depth} of its chain"
    issuer = _shown(certificate.issuer)
    if code == lib.X509_V_ERR_CERT_HAS_EXPIRED:
        return f"{which} has expired, on {certificate.not_valid_after_utc:{_TIME}}"
    if code == lib.X509_V_ERR_CERT_NOT_YET_VALID:
        return (
            f"{which} is not yet valid, only from "
            f"{certificate.not_valid_before_utc:{_TIME}}"
        )
    if code == lib.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "it is self-signed"
    if code == lib.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return f"its chain ends in a certificate not trusted here, {issuer}"
    if code in (
        lib.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
        lib.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        lib.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    ):
        return f"{which} has an unknown issuer, {issuer}"
    text = ffi.string(lib.X509_verify_cert_error_string(code)).decode()
    return f"{which}: {text}"


def _shown(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            return _escaped(attribute.value)
    return _escaped(name.rfc4514_string())


def _escaped(text: object) -> str:
    """Something out of a certificate, for an error message."""
    return ascii(text if isinstance(text, str) else repr(text))[:100]


# -- the name


def _name_reason(
    der: bytes, name: str | None
) -> tuple[str, BaseException | None] | None:
    """Why a certificate is not for `name` (a host name or address), or None."""
    if name is None:
        return "there is no name to verify it for", None
    try:
        _check_name(der, name)
    except VerificationError as error:
        certificate = x509.load_der_x509_certificate(der)
        return f"it is not for {name} but for {_names(certificate)}", error
    except CertificateError as error:
        return f"it is not for {name}: {str(error).rstrip('.')}", error
    return None


# The same few certificates come again and again; what raises is not kept.
@functools.lru_cache(maxsize=128)
def _check_name(der: bytes, name: str) -> None:
    certificate = x509.load_der_x509_certificate(der)
    if _is_address(name):
        verify_certificate_ip_address(certificate, name)
    else:
        verify_certificate_hostname(certificate, name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value
    listed = [
        *(_escaped(name) for name in names.get_values_for_type(x509.DNSName)),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]
    if not listed:
        return "no host at all"
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
