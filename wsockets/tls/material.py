"""Certificates and keys: read from PEM, DER, files and objects.

Everything here is refused with SocketError (code "option"). The messages name the
member and, for a file, its path; of the contents they say nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, TypeAlias, cast, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from OpenSSL import crypto

from ..errors import SocketError
from .options import (
    Certificates,
    CertificateSource,
    KeySource,
    Password,
    PrivateKey,
    TlsOptions,
)

__all__ = [
    "Stamp",
    "each",
    "files_of",
    "load_certificates",
    "load_identity",
    "load_trusted",
    "stamp",
]

# Device, inode, size and time of change: a file that has been replaced or rewritten
# has another one.
Stamp: TypeAlias = tuple[str, int, int, int, int]

_PEM: Final = b"-----BEGIN "
_PEM_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s*", re.DOTALL
)
_PEM_KEY: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----\s*", re.DOTALL
)


def each(given: Certificates | None) -> tuple[CertificateSource, ...]:
    """The sources that `given` is one of or a list of."""
    if given is None:
        return ()
    if isinstance(given, tuple):
        return given
    return (cast("CertificateSource", given),)


# -- files


def files_of(options: TlsOptions) -> list[tuple[str, os.PathLike[str]]]:
    """The files that `options` name, with their members."""
    named = [
        *(("ca", source) for source in each(options.ca)),
        *(("cert", source) for source in each(options.cert)),
        ("key", options.key),
    ]
    return [(name, source) for name, source in named if isinstance(source, os.PathLike)]


def stamp(member: str, path: os.PathLike[str] | str) -> Stamp:
    """What tells one version of a file from the next. Raises SocketError."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(member, path, error) from error
    return (
        os.fspath(path),
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
    )


def _unreadable(
    member: str, path: os.PathLike[str] | str, error: OSError
) -> SocketError:
    return SocketError(
        f"{member}: cannot read {os.fspath(path)!r}: {error.strerror or error}",
        code="option",
        errno=error.errno,
    )


def _read(member: str, source: str | bytes | os.PathLike[str]) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str):
        return source.encode(errors="surrogatepass")
    try:
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise _unreadable(member, source, error) from error


def _where(member: str, source: object) -> str:
    return f"{member} ({source!s})" if isinstance(source, os.PathLike) else member


# -- certificates


def load_certificates(
    member: str, sources: Iterable[CertificateSource]
) -> list[x509.Certificate]:
    """All the certificates of `sources`, in order, at least one from each."""
    found: list[x509.Certificate] = []
    for source in sources:
        if isinstance(source, x509.Certificate):
            found.append(source)
            continue
        data = _read(member, source)
        try:
            if _PEM in data:
                found += x509.load_pem_x509_certificates(data)
            else:
                found.append(x509.load_der_x509_certificate(data))
        except (ValueError, x509.InvalidVersion) as error:
            raise _no_certificate(member, source, data) from error
    return found


def load_trusted(
    member: str, sources: Iterable[CertificateSource]
) -> list[crypto.X509]:
    """All the certificates of `sources`, as OpenSSL reads them.

    Which is more leniently: roots are old, and some have what no certificate may
    have today (a serial number of 0), without harm.
    """
    found: list[crypto.X509] = []
    for source in sources:
        if isinstance(source, x509.Certificate):
            found.append(crypto.X509.from_cryptography(source))
            continue
        data = _read(member, source)
        blocks = _PEM_CERTIFICATE.findall(data) if _PEM in data else [data]
        kind = crypto.FILETYPE_PEM if _PEM in data else crypto.FILETYPE_ASN1
        try:
            loaded = [crypto.load_certificate(kind, block) for block in blocks]
        except crypto.Error as error:
            raise _no_certificate(member, source, data) from error
        if not loaded:
            raise _no_certificate(member, source, data)
        found += loaded
    return found


def _no_certificate(member: str, source: object, data: bytes) -> SocketError:
    form = "PEM" if isinstance(source, str) or _PEM in data else "PEM or DER"
    return SocketError(
        f"{_where(member, source)} holds no valid certificate in {form}"
        f"{_hint(source, data)}",
        code="option",
    )


def _hint(source: object, data: bytes) -> str:
    if isinstance(source, str) and _PEM not in data:
        return "; a str is taken as PEM, for a file give a pathlib.Path"
    return ""


# -- our certificate and its key


def load_identity(
    options: TlsOptions,
) -> tuple[list[x509.Certificate], PrivateKey] | None:
    """Our chain, leaf first, and the leaf's key; None if we have none."""
    sources = each(options.cert)
    if not sources:
        if options.key is not None:
            raise SocketError("key is given without its cert", code="option")
        return None
    chain = load_certificates("cert", sources)
    key = _load_key(options.key, options.password, sources)
    if _public(chain[0]) != _public(key):
        raise SocketError(
            "key is not the key of cert, whose first certificate has to be ours",
            code="option",
        )
    return chain, key


def _public(holder: x509.Certificate | PrivateKey) -> bytes:
    try:
        key = holder.public_key()
    except (UnsupportedAlgorithm, ValueError) as error:
        raise SocketError("cert is for an unusable public key", code="option") from (
            error
        )
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _load_key(
    source: KeySource | None,
    password: Password | None,
    certificates: tuple[CertificateSource, ...],
) -> PrivateKey:
    where = "key"
    if source is None:
        for certificate in certificates:
            if isinstance(certificate, x509.Certificate):
                continue
            block = _PEM_KEY.search(_read("cert", certificate))
            if block is not None:
                data, where = block[0], _where("cert", certificate)
                break
        else:
            raise SocketError(
                "cert is given without its key, neither as key nor in cert's own PEM",
                code="option",
            )
    elif isinstance(source, (str, bytes, os.PathLike)):
        where = _where("key", source)
        data = _read("key", source)
        if isinstance(source, str) or _PEM in data:
            block = _PEM_KEY.search(data)
            if block is None:
                raise SocketError(
                    f"{where} holds no private key in PEM{_hint(source, data)}",
                    code="option",
                )
            data = block[0]
    else:
        return source
    return _decode_key(where, data, password)


def _decode_key(where: str, data: bytes, password: Password | None) -> PrivateKey:
    load = load_pem_private_key if _PEM in data else load_der_private_key
    try:
        try:
            key = load(data, None)
        except TypeError:
            # The key is encrypted.
            if password is None:
                raise SocketError(
                    f"{where} is encrypted, and there is no password", code="option"
                ) from None
            key = load(data, _ask(password))
    except SocketError:
        raise  # it is a TypeError
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "the password may be wrong" if password is not None else "it is malformed"
        raise SocketError(
            f"{where} holds no readable private key: {why}", code="option"
        ) from error
    if not isinstance(key, get_args(PrivateKey)):
        raise SocketError(
            f"{where} is a key of a kind that TLS here does not use; RSA, EC, Ed25519 "
            "and Ed448 are",
            code="option",
        )
    return cast("PrivateKey", key)


def _ask(password: Password) -> bytes:
    if callable(password):
        try:
            password = password()
        except Exception as error:
            raise SocketError(
                f"the password function raised {type(error).__name__}", code="option"
            ) from error
        if not isinstance(password, (str, bytes)):
            raise SocketError(
                f"the password function returned an object of type "
                f"{type(password).__name__}, not a str or bytes",
                code="option",
            )
    if isinstance(password, str):
        return password.encode(errors="surrogatepass")
    return password
