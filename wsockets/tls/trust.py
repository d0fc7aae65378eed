"""Whom to trust: stores of certificates, shared by all contexts that trust alike.

The system's certificates are found as OpenSSL's users expect: in SSL_CERT_FILE and
SSL_CERT_DIR, else where the distribution keeps them (cryptography's OpenSSL, built
elsewhere, does not know). Where there are none, certifi's serve. Loading a bundle
takes 6 to 9 ms, so stores are kept, a few, until their files have changed; what is
in them is public.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Hashable
from typing import Final

import certifi
from OpenSSL import crypto

from ..errors import SocketError
from . import openssl
from .cache import RecentlyUsed
from .material import each, load_trusted, stamp
from .options import TlsOptions

__all__ = ["store_for", "trust_key"]

_FILE: Final = "SSL_CERT_FILE"
_DIR: Final = "SSL_CERT_DIR"

# Bundles of distributions that Python's own OpenSSL may not have been told of.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_stores: Final[RecentlyUsed[crypto.X509Store]] = RecentlyUsed(16)


def trust_key(options: TlsOptions) -> Hashable:
    """What the trust of `options` depends on: equal keys, equal trust.

    Raises SocketError (code "option") where a file of it is missing.
    """
    if options.ca is None:
        return ("system", *_system())
    return (
        "given",
        *(
            stamp("ca", source) if isinstance(source, os.PathLike) else source
            for source in each(options.ca)
        ),
    )


def store_for(options: TlsOptions) -> crypto.X509Store:
    """The certificates that `options` trust, not to be changed.

    Raises SocketError (code "option").
    """
    key = trust_key(options)
    if options.ca is None:
        return _stores.get(key, _load_system)
    return _stores.get(key, lambda: _load_given(options))


def _load_given(options: TlsOptions) -> crypto.X509Store:
    store = crypto.X509Store()
    for certificate in load_trusted("ca", each(options.ca)):
        store.add_cert(certificate)
    # Each is trusted as it is: a self-signed leaf, an intermediate.
    store.set_flags(openssl.lib.X509_V_FLAG_PARTIAL_CHAIN)
    return store


# -- the system's


@functools.lru_cache(maxsize=8)
def _locations(
    bundle: str | None, folders: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """The bundle and the directories, from what the two variables say."""
    if bundle or folders:
        return _named(bundle or "", folders or "")
    default = ssl.get_default_verify_paths()
    for path in (default.cafile, *_BUNDLES):
        if path is not None and os.path.isfile(path):
            return path, ()
    if default.capath is not None:
        return None, (default.capath,)
    return certifi.where(), ()


def _named(bundle: str, folders: str) -> tuple[str | None, tuple[str, ...]]:
    file = bundle if os.path.isfile(bundle) else None
    existing = tuple(filter(os.path.isdir, folders.split(os.pathsep)))
    if file is None and not existing:
        raise SocketError(
            f"there are no certificates to trust: neither {_FILE}={bundle!r} nor "
            f"{_DIR}={folders!r} exists; give ca, or correct the variables",
            code="option",
        )
    return file, existing


def _now() -> tuple[str | None, tuple[str, ...]]:
    return _locations(os.environ.get(_FILE), os.environ.get(_DIR))


def _system() -> tuple[Hashable, ...]:
    try:
        return _stamps(*_now())
    except SocketError:
        # What was there has gone; something else may be there.
        _locations.cache_clear()
        return _stamps(*_now())


def _stamps(bundle: str | None, folders: tuple[str, ...]) -> tuple[Hashable, ...]:
    paths = folders if bundle is None else (bundle, *folders)
    return tuple(stamp("the system's certificates", path) for path in paths)


def _load_system() -> crypto.X509Store:
    bundle, listed = _now()
    folders = os.pathsep.join(listed) or None
    store = crypto.X509Store()
    try:
        store.load_locations(bundle, folders)
    except crypto.Error as error:
        raise SocketError(
            f"the system's certificates in {bundle or folders!r} cannot be read; "
            "give ca, or SSL_CERT_FILE",
            code="option",
        ) from error
    return store
