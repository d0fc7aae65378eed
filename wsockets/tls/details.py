"""TlsDetails: the facts of a TLS connection that the early draft's `info` lists.

Some have no function in the bindings. The standard name of a suite is made of
OpenSSL's, whose names follow a rule for all suites that are in use; the size of a
group follows from its name. The peer's signature algorithms are not to be had.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
from OpenSSL import SSL, crypto

from . import openssl
from .info import tls_info

__all__ = ["CipherInfo", "EphemeralKeyInfo", "TlsDetails", "tls_details"]

# OpenSSL leaves out "RSA" where the key exchange is RSA's, and "CBC"; the hash is
# left out of what standard names have only where the mode implies it.
_SUITE: Final = re.compile(
    r"(?:(?P<exchange>(?:ECDHE|DHE)-(?:RSA|ECDSA|DSS|PSK)|RSA-PSK|PSK)-)?"
    r"(?:(?P<cipher>AES|CAMELLIA)(?P<bits>128|256)-"
    r"(?:(?P<mode>GCM|CBC)-)?(?P<hash>SHA(?:256|384)?|CCM8?)"
    r"|(?P<chacha>CHACHA20-POLY1305))"
)
# CCM suites of this exchange are named against the rule (RFC 6655, section 3).
_EXCEPTION: Final = re.compile(r"DHE-PSK-AES(128|256)-CCM8")

# Bits of a key, by OpenSSL's name of the group; RFC 7748 and RFC 8422.
_CURVES: Final = {
    "x25519": 253,
    "x448": 448,
    "secp256r1": 256,
    "secp384r1": 384,
    "secp521r1": 521,
    "prime256v1": 256,
    "brainpoolp256r1": 256,
    "brainpoolp384r1": 384,
    "brainpoolp512r1": 512,
}
_FINITE: Final = re.compile(r"ffdhe(\d+)")


@attrs.frozen
class CipherInfo:
    """A cipher suite.

    `name` is OpenSSL's, `standardName` the one of IANA (None where it is not known)
    and `version` the first version of TLS that has it: "TLSv1.2", "TLSv1.3".
    """

    name: str
    standardName: str | None
    version: str

    @property
    def standard_name(self) -> str | None:
        """`standardName`."""
        return self.standardName


@attrs.frozen
class EphemeralKeyInfo:
    """How the key of a connection was agreed on.

    `type` is "ECDH" for curves, "DH" for finite fields and "KEM" for anything
    else, hybrids among it; `name` is OpenSSL's of the group ("x25519"), `size` in
    bits, None where it is not a single number.
    """

    type: str
    name: str
    size: int | None


@attrs.frozen
class TlsDetails:
    """See `SocketInfo`, whose members of these names they are."""

    servername: str | None
    certificate: bytes | None
    peerCertificate: bytes | None
    verificationStatus: str
    cipher: CipherInfo
    ephemeralKey: EphemeralKeyInfo | None
    # Both let their holder go on with the session, so they are not shown.
    session: bytes | None = attrs.field(repr=False)
    ticket: bytes | None = attrs.field(repr=False)
    alpn: str | None


def tls_details(connection: SSL.Connection) -> TlsDetails:
    """What there is to be known of `connection`, once its handshake is finished."""
    info = tls_info(connection)
    own = connection.get_certificate()
    session = connection.get_session()
    encoded = None if session is None else openssl.encoded(session)
    return TlsDetails(
        servername=info.server_name,
        certificate=(
            None if own is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, own)
        ),
        peerCertificate=info.certificates[0] if info.certificates else None,
        verificationStatus=(
            "verified"
            if info.verified
            else openssl.verify_error(connection) or "unverified"
        ),
        cipher=CipherInfo(
            info.cipher,
            standard_name(info.cipher),
            connection.get_cipher_version() or info.protocol,
        ),
        ephemeralKey=_ephemeral_key(connection, info.cipher),
        session=encoded,
        ticket=None if encoded is None else openssl.ticket(encoded),
        alpn=info.alpn,
    )


def standard_name(name: str) -> str | None:
    """IANA's name of the suite that OpenSSL calls `name`, or None."""
    if name.startswith("TLS_"):  # TLS 1.3: RFC 8446, appendix B.4
        return name
    match = _SUITE.fullmatch(name)
    if match is None or _EXCEPTION.fullmatch(name):
        return None
    exchange = (match["exchange"] or "RSA").replace("-", "_")
    if match["chacha"]:
        suite = "CHACHA20_POLY1305_SHA256"
    else:
        digest = match["hash"].replace("CCM8", "CCM_8")
        mode = match["mode"] or ("" if digest.startswith("CCM") else "CBC")
        suite = "_".join(filter(None, (match["cipher"], match["bits"], mode, digest)))
    return f"TLS_{exchange}_WITH_{suite}"


def _ephemeral_key(connection: SSL.Connection, cipher: str) -> EphemeralKeyInfo | None:
    # A session of TLS 1.2 that is gone on with has a group, and no new key.
    if not cipher.startswith(("TLS_", "ECDHE", "DHE")) or (
        not cipher.startswith("TLS_") and openssl.was_reused(connection)
    ):
        return None
    name = connection.get_group_name()
    if name is None:
        return None
    size = _CURVES.get(name.lower())
    if size is not None:
        return EphemeralKeyInfo("ECDH", name, size)
    finite = _FINITE.fullmatch(name.lower())
    if finite is not None:
        return EphemeralKeyInfo("DH", name, int(finite[1]))
    return EphemeralKeyInfo("KEM", name, None)
