"""The certificates of the scripted peers, made anew at each start.

One authority that every implementation is told to trust, and servers' certificates
that are right or wrong in one way each; a script chooses by name.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["SERVERS", "Authority", "Issued"]

_DAY: Final = datetime.timedelta(days=1)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@attrs.frozen
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The key in PEM."""
        return self.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode()


@attrs.frozen
class _Server:
    names: Sequence[str] = _LOOPBACK
    issuer: str = "trusted"
    start: int = -1
    end: int = 30


SERVERS: Final = {
    "localhost": _Server(),
    "other.test": _Server(("other.test",)),
    "wildcard": _Server(("*.wild.test",)),
    "ip-only": _Server(("127.0.0.1", "::1")),
    "no-names": _Server(()),
    "expired": _Server(start=-30, end=-1),
    "not-yet-valid": _Server(start=5),
    "untrusted": _Server(issuer="untrusted"),
    "self-signed": _Server(issuer="self"),
    "below-an-intermediate": _Server(issuer="intermediate"),
}


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issue(
    subject: str,
    issuer: Issued | None,
    *,
    names: Sequence[str] = (),
    usage: x509.ObjectIdentifier | None = None,
    start: int = -1,
    end: int = 30,
) -> Issued:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start * _DAY)
        .not_valid_after(now + end * _DAY)
        .add_extension(x509.BasicConstraints(usage is None, None), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    )
    if issuer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]),
            critical=False,
        )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


@final
class Authority:
    """The certificates of one run, as files in `folder`; all are made at the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        trusted = _issue("conformance root", None)
        self.root = folder / "authority.pem"
        self.root.write_text(trusted.pem)
        self.client = _issue(
            "conformance client", trusted, usage=ExtendedKeyUsageOID.CLIENT_AUTH
        )
        issuers = {
            "trusted": trusted,
            "untrusted": _issue("another root", None),
            "intermediate": _issue("conformance intermediate", trusted),
            "self": None,
        }
        for name, server in SERVERS.items():
            self._write(name, server, issuers[server.issuer])
        # Python warns of old versions, and warnings are the process's, not a
        # thread's: so now, and not when a script asks.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._old = self._made("localhost", ssl.TLSVersion.TLSv1_1)

    def _write(self, name: str, server: _Server, issuer: Issued | None) -> None:
        issued = _issue(
            "localhost" if name == "no-names" else f"conformance {name}",
            issuer,
            names=server.names,
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
            start=server.start,
            end=server.end,
        )
        above = issuer.pem if issuer and server.issuer == "intermediate" else ""
        certificate, key = self._files(name)
        certificate.write_text(issued.pem + above)
        key.write_text(issued.key_pem)

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _made(self, name: str, version: ssl.TLSVersion | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files(name))
        if version is not None:
            if version < ssl.TLSVersion.TLSv1_2:
                # OpenSSL's usual level of security has no such versions.
                context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        return context

    def context(
        self,
        name: str = "localhost",
        *,
        alpn: Sequence[str] = (),
        version: str | None = None,
        client: bool = False,
    ) -> ssl.SSLContext:
        """A server's side of TLS with the certificate called `name`."""
        if version == "1.1":
            return self._old
        number = None
        if version is not None:
            number = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
        context = self._made(name, number)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.root)
        return context
