"""Certificates for the tests: one authority, and every way to be wrong.

All keys are ECDSA P-256, made once per process. `Issued` goes straight into
`TlsOptions(cert=issued.chain, key=issued.key)`; `issued.files()` writes PEM files for
programs that want those.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import ipaddress
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "NO_NAMES",
    "Files",
    "Issued",
    "authority",
    "client",
    "intermediate",
    "other_authority",
    "server",
]

# Stands for no subjectAltName at all.
NO_NAMES: Final = x509.DNSName("no-names.invalid")

_NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
_DAY = datetime.timedelta(days=1)


class Files(NamedTuple):
    """Where a certificate's chain and its key were written."""

    cert: Path
    key: Path


@attrs.frozen(eq=False)
class Issued:
    """A certificate, its key and those above it, the root excepted."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> list[x509.Certificate]:
        """The chain as it is presented, leaf first."""
        return [self.certificate, *self.above]

    @property
    def pem(self) -> str:
        """The chain in PEM."""
        return "".join(c.public_bytes(Encoding.PEM).decode() for c in self.chain)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    def key_pem(self, password: bytes | None = None) -> str:
        """The key in PEM, encrypted if there is a password."""
        form: KeySerializationEncryption = NoEncryption()
        if password is not None:
            form = BestAvailableEncryption(password)
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, form).decode()

    def key_der(self) -> bytes:
        """The key in DER."""
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def files(self) -> Files:
        """PEM files of the chain and the key, the same ones at each call."""
        return _files(self)


@functools.cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="wsockets-certificates-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def _files(issued: Issued) -> Files:
    name = f"{issued.certificate.serial_number:x}"
    files = Files(_folder() / f"{name}.pem", _folder() / f"{name}.key")
    files.cert.write_text(issued.pem)
    files.key.write_text(issued.key_pem())
    return files


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str | x509.GeneralName) -> x509.GeneralName:
    if isinstance(name, x509.GeneralName):
        return name
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make(
    subject: str,
    *,
    issuer: Issued | None,
    names: Sequence[str | x509.GeneralName] = (),
    usage: x509.ObjectIdentifier | None = None,
    is_authority: bool = False,
    start: datetime.timedelta = -_DAY,
    end: datetime.timedelta = 30 * _DAY,
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW + start)
        .not_valid_after(_NOW + end)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
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
    signer = key if issuer is None else issuer.key
    above: tuple[x509.Certificate, ...] = ()
    if issuer is not None:
        root = issuer.certificate.subject == issuer.certificate.issuer
        above = issuer.above if root else (issuer.certificate, *issuer.above)
    return Issued(builder.sign(signer, hashes.SHA256()), key, above)


@functools.cache
def authority() -> Issued:
    """The root that the tests trust."""
    return _make("wsockets test root", issuer=None, is_authority=True)


@functools.cache
def other_authority() -> Issued:
    """A root that they do not."""
    return _make("another root", issuer=None, is_authority=True)


@functools.cache
def intermediate() -> Issued:
    """An authority under the root."""
    return _make("wsockets test intermediate", issuer=authority(), is_authority=True)


@functools.cache
def server(
    *names: str | x509.GeneralName,
    issuer: str = "authority",
    subject: str = "a server",
    start_days: int = -1,
    end_days: int = 30,
) -> Issued:
    """A server's certificate for `names` ("localhost" and loopback if there are none).

    `issuer` is "authority", "intermediate", "other" or "self". `names` may be
    `NO_NAMES`, for a certificate with nothing but its common name, `subject`.
    """
    issuers = {
        "authority": authority,
        "intermediate": intermediate,
        "other": other_authority,
    }
    given = names or ("localhost", "127.0.0.1", "::1")
    return _make(
        subject,
        issuer=issuers[issuer]() if issuer != "self" else None,
        names=() if given == (NO_NAMES,) else given,
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        start=start_days * _DAY,
        end=end_days * _DAY,
    )


@functools.cache
def client(issuer: str = "authority", subject: str = "a client") -> Issued:
    """A client's certificate."""
    return _make(
        subject,
        issuer=authority() if issuer == "authority" else other_authority(),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    )
