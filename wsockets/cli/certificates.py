"""Certificates as a person, or a script, wants to read them."""

from __future__ import annotations

import base64
import hashlib
import logging
import ssl
from datetime import UTC, datetime
from typing import Any, Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..starttls.frames import readable

__all__ = ["Certificate", "describe"]

_DAY: Final = 86400

_log = logging.getLogger("wsockets")


@attrs.frozen
class Certificate:
    """What a certificate says; where it cannot be read, only its fingerprints.

    The attributes are the members of its JSON object. Times are UTC, in ISO 8601;
    `days_left` is negative once it has expired.
    """

    subject: str | None
    issuer: str | None
    names: tuple[str, ...]
    not_before: str | None
    not_after: str | None
    days_left: int | None
    current: bool | None
    self_issued: bool | None
    authority: bool | None
    serial: str | None
    key: str | None
    signed_with: str | None
    sha256: str
    sha1: str
    pin_sha256: str | None
    pem: str


def describe(der: bytes, now: datetime | None = None) -> Certificate:
    """The certificate in `der`; one that cannot be decoded is described too."""
    facts: dict[str, Any] = dict.fromkeys(attrs.fields_dict(Certificate))
    facts["names"] = ()
    try:
        facts |= _facts(x509.load_der_x509_certificate(der), now or datetime.now(UTC))
    except Exception:
        # Whatever a stranger may have put there, its fingerprint can be shown.
        _log.debug("a certificate cannot be read", exc_info=True)
    return Certificate(
        **facts
        | {
            "sha256": hashlib.sha256(der).hexdigest(),
            "sha1": hashlib.sha1(der, usedforsecurity=False).hexdigest(),
            "pem": ssl.DER_cert_to_PEM_cert(der),
        }
    )


def _facts(found: x509.Certificate, now: datetime) -> dict[str, object]:
    public = found.public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    left = found.not_valid_after_utc - now
    algorithm = found.signature_hash_algorithm
    return {
        "subject": _safe(found.subject.rfc4514_string()),
        "issuer": _safe(found.issuer.rfc4514_string()),
        "names": _names(found),
        "not_before": _stamp(found.not_valid_before_utc),
        "not_after": _stamp(found.not_valid_after_utc),
        "days_left": int(left.total_seconds() // _DAY),
        "current": found.not_valid_before_utc <= now <= found.not_valid_after_utc,
        "self_issued": found.subject == found.issuer,
        "authority": _authority(found),
        "serial": f"{found.serial_number:x}",
        "key": _key(public),
        "signed_with": algorithm.name if algorithm else None,
        "pin_sha256": base64.b64encode(hashlib.sha256(spki).digest()).decode(),
    }


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = found.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ()
    return tuple(_safe(_name(name)) for name in extension.value)


def _name(name: x509.GeneralName) -> str:
    value = name.value
    if isinstance(value, x509.Name):
        return value.rfc4514_string()
    if isinstance(value, x509.ObjectIdentifier):
        return value.dotted_string
    return value.hex() if isinstance(value, bytes) else str(value)


def _safe(text: str) -> str:
    return readable(text, 1000)


def _authority(found: x509.Certificate) -> bool:
    try:
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(public: object) -> str:
    match public:
        case rsa.RSAPublicKey() | dsa.DSAPublicKey():
            kind = "RSA" if isinstance(public, rsa.RSAPublicKey) else "DSA"
            return f"{kind} {public.key_size} bits"
        case ec.EllipticCurvePublicKey():
            return f"EC {public.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
    return type(public).__name__


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
