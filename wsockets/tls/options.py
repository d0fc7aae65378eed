"""TlsOptions: what a user says about TLS, checked for form, read for meaning later.

The object holds secrets. Its repr shows that they are there, never what they are,
and no validator puts a secret's value into an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    TypeAlias,
    TypedDict,
    Unpack,
    get_args,
)

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from ..errors import SocketError
from ..options import given_members
from .sessions import SessionCache

if TYPE_CHECKING:
    from OpenSSL import SSL

__all__ = [
    "IDENTITY_MAX",
    "KEY_MAX",
    "VERSIONS",
    "CertificateSource",
    "Certificates",
    "KeySource",
    "Password",
    "PrivateKey",
    "Psk",
    "TlsOptions",
    "TlsOptionsMembers",
    "TlsVersion",
    "Verify",
]

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
CertificateSource: TypeAlias = "str | bytes | os.PathLike[str] | x509.Certificate"
Certificates: TypeAlias = "CertificateSource | Sequence[CertificateSource]"
KeySource: TypeAlias = "str | bytes | os.PathLike[str] | PrivateKey"
Password: TypeAlias = str | bytes | Callable[[], str | bytes]
Psk: TypeAlias = tuple[bytes, bytes] | Callable[[bytes], bytes | None]
Verify: TypeAlias = Literal["full", "ca", "none"]
TlsVersion: TypeAlias = Literal["1.0", "1.1", "1.2", "1.3"]

VERSIONS: Final[tuple[str, ...]] = get_args(TlsVersion)
_VERIFY: Final[tuple[str, ...]] = get_args(Verify)

# RFC 4279, section 5.3 asks for identities up to 128 and keys up to 64 bytes; 256
# bytes of key fit every OpenSSL's buffers.
IDENTITY_MAX: Final = 128
KEY_MAX: Final = 256

_CERTIFICATE: Final = (
    "PEM as str or bytes, DER as bytes, a file as os.PathLike, or a certificate of "
    "cryptography"
)
_KEY: Final = (
    "PEM as str or bytes, DER as bytes, a file as os.PathLike, or a private key of "
    "cryptography (RSA, EC, Ed25519 or Ed448)"
)


def _refuse(member: str, text: str) -> SocketError:
    return SocketError(f"{member} {text}", code="option")


def _shown(value: object) -> str:
    """A value that is no secret, for an error message."""
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else value[:79] + "…")
    return f"an object of type {type(value).__name__}"


def _frozen(value: Certificates | None) -> Certificates | None:
    """A list becomes a tuple, so that a frozen object stays as it was checked."""
    return tuple(value) if isinstance(value, list) else value


def _certificates(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    given = value if isinstance(value, tuple) else (value,)
    if not given:
        raise _refuse(attribute.name, f"is an empty list; give {_CERTIFICATE}")
    for one in given:
        if not isinstance(one, (str, bytes, os.PathLike, x509.Certificate)):
            raise _refuse(
                attribute.name,
                f"is {_CERTIFICATE}, or a list of these, not {type(one).__name__}",
            )


def _key(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    kinds = (str, bytes, os.PathLike, *get_args(PrivateKey))
    if value is not None and not isinstance(value, kinds):
        raise _refuse(attribute.name, f"is {_KEY}, not {type(value).__name__}")


def _password(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or isinstance(value, (str, bytes)) or callable(value)):
        raise _refuse(
            attribute.name,
            f"is a str, bytes or a function that returns one, not "
            f"{type(value).__name__}",
        )


def _psk(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None or callable(value):
        return
    form = "is (identity, key), both bytes, or on servers a function identity -> key"
    if not (isinstance(value, tuple) and len(value) == 2):
        raise _refuse(attribute.name, f"{form}, not {type(value).__name__}")
    identity, key = value
    if not (isinstance(identity, bytes) and isinstance(key, bytes)):
        raise _refuse(
            attribute.name,
            f"{form}, not ({type(identity).__name__}, {type(key).__name__})",
        )
    if len(identity) > IDENTITY_MAX:
        raise _refuse(
            attribute.name,
            f"has an identity of {len(identity)} bytes; at most {IDENTITY_MAX} fit",
        )
    if b"\0" in identity:
        raise _refuse(attribute.name, "has an identity with a NUL, which ends it early")
    if not 1 <= len(key) <= KEY_MAX:
        raise _refuse(
            attribute.name,
            f"has a key of {len(key)} bytes; it has from 1 to {KEY_MAX}",
        )


def _verify(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value in _VERIFY):
        raise _refuse(attribute.name, f'is "full", "ca" or "none", not {_shown(value)}')


def _version(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value in VERSIONS):
        raise _refuse(
            attribute.name, f'is "1.0", "1.1", "1.2" or "1.3", not {_shown(value)}'
        )


def _order(options: TlsOptions, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    _version(options, attribute, value)
    if str(value) < options.minVersion:
        raise _refuse(
            attribute.name, f"{value} is below minVersion {options.minVersion}"
        )


def _ciphers(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise _refuse(
            attribute.name,
            f"is a cipher string of OpenSSL such as 'DEFAULT:@SECLEVEL=0', not "
            f"{_shown(value)}",
        )
    if not value.strip(" ,:"):
        raise _refuse(attribute.name, "is empty; leave it out for OpenSSL's default")


def _sessions(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or isinstance(value, SessionCache)):
        raise _refuse(attribute.name, f"is a SessionCache, not {type(value).__name__}")


def _path(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise _refuse(attribute.name, f"is the path of a file, not {_shown(value)}")


class TlsOptionsMembers(TypedDict, total=False):
    """The members of `TlsOptions` as keywords or in a dict, in either spelling."""

    ca: Certificates | None
    cert: Certificates | None
    key: KeySource | None
    password: Password | None
    psk: Psk | None
    verify: Verify | None
    minVersion: TlsVersion | None
    min_version: TlsVersion | None
    maxVersion: TlsVersion | None
    max_version: TlsVersion | None
    ciphers: str | None
    sessions: SessionCache | None
    keylog: str | os.PathLike[str] | None


class _Keeper:
    """Where a TlsOptions keeps the contexts made of it, which die with it.

    Not an attrs attribute, for it is no member: neither compared nor copied.
    """

    __slots__ = ("_memo",)
    _memo: dict[object, tuple[object, SSL.Context]]

    @property
    def _contexts(self) -> dict[object, tuple[object, SSL.Context]]:
        """By kind, with the version of the files that each was made of."""
        try:
            return self._memo
        except AttributeError:
            object.__setattr__(self, "_memo", {})
            return self._memo


@attrs.frozen(repr=False, init=False)
class TlsOptions(_Keeper):
    """How to do TLS: whom to trust, who we are, and within which limits.

    Certificates and keys are PEM (str or bytes), DER (bytes), a file
    (`os.PathLike`; read again once it has changed) or objects of cryptography.

    - `ca`: one or a list of the certificates to trust, instead of the system's
      (SSL_CERT_FILE and SSL_CERT_DIR are honoured, certifi is the last resort).
      Each is trusted as it is, a self-signed or intermediate one too. On a server
      it is for the clients' certificates, which are asked for only where it is
      given, and whose chain is checked; there is no name to compare.
    - `cert`: our certificate, leaf first, as one PEM with several or a list.
    - `key`: its key; may be left out if the PEM of `cert` has it. `password`, or a
      function that returns it, is for an encrypted one; nobody is ever prompted.
    - `psk`: (identity, key): a pre-shared key, for TLS 1.2 (RFC 4279) and 1.3. On a
      server it may be a function from an identity to its key or None. Where
      neither `ca` nor `cert` are given, the key is all there is to trust: only
      cipher suites with it are offered, a certificate is refused (unless `verify`
      is "none") and there need not be a name to verify. TLS 1.3 has no empty
      identity; with one, a client goes no higher than TLS 1.2.
    - `verify`: "full" (the chain and the name), "ca" (the chain) or "none". The
      names are those of subjectAltName; a common name never counts (RFC 6125).
    - `minVersion`, `maxVersion`: "1.0", "1.1", "1.2" or "1.3". OpenSSL speaks 1.0
      and 1.1 only with ciphers="DEFAULT:@SECLEVEL=0" or the like.
    - `ciphers`: OpenSSL's string (openssl-ciphers(1)). Names that begin with TLS_
      are the suites of TLS 1.3; where only such are named, only 1.3 is spoken.
    - `sessions`: a `SessionCache`, to resume sessions of earlier connections.
    - `keylog`: a file to which the secrets of each connection are appended, in the
      format of SSLKEYLOGFILE, readable by the owner only. For debugging.

    Made of a mapping or keywords, in either spelling; None means the default.
    Raises SocketError (code "option") for a member of another type or range. What
    is in the certificates and files is looked at when they are used.
    """

    ca: Certificates | None = attrs.field(
        default=None, converter=_frozen, validator=_certificates
    )
    cert: Certificates | None = attrs.field(
        default=None, converter=_frozen, validator=_certificates
    )
    key: KeySource | None = attrs.field(default=None, validator=_key)
    password: Password | None = attrs.field(default=None, validator=_password)
    psk: Psk | None = attrs.field(default=None, validator=_psk)
    verify: Verify = attrs.field(default="full", validator=_verify)
    minVersion: TlsVersion = attrs.field(default="1.2", validator=_version)
    maxVersion: TlsVersion | None = attrs.field(default=None, validator=_order)
    ciphers: str | None = attrs.field(default=None, validator=_ciphers)
    sessions: SessionCache | None = attrs.field(default=None, validator=_sessions)
    keylog: str | os.PathLike[str] | None = attrs.field(default=None, validator=_path)

    def __init__(
        self, options: object = None, **members: Unpack[TlsOptionsMembers]
    ) -> None:
        self.__attrs_init__(
            **given_members(TlsOptions, options, members, where="TlsOptions()")
        )

    @property
    def min_version(self) -> TlsVersion:
        """`minVersion`."""
        return self.minVersion

    @property
    def max_version(self) -> TlsVersion | None:
        """`maxVersion`."""
        return self.maxVersion

    @property
    def _psk_only(self) -> bool:
        """Whether a pre-shared key is all there is to trust."""
        return self.psk is not None and self.ca is None and self.cert is None

    def __repr__(self) -> str:
        shown = []
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name in ("password", "psk"):
                text = "…"
            elif field.name in ("ca", "cert", "key"):
                text = repr(value) if isinstance(value, os.PathLike) else "…"
            else:
                text = repr(value)
            shown.append(f"{field.name}={text}")
        return f"TlsOptions({', '.join(shown)})"
