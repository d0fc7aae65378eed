"""What is known about one TLS handshake: what it was to be, and what came of it.

One `Handshake` belongs to each connection, as its app data. OpenSSL's callbacks
find it by the address of their SSL object and leave here why they refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs
from OpenSSL import SSL

from . import openssl
from .names import TlsNames

if TYPE_CHECKING:
    from .options import TlsOptions

__all__ = [
    "Failure",
    "Handshake",
    "Role",
    "attach",
    "conclude",
    "handshake_of",
    "of_pointer",
]

Role: TypeAlias = Literal["client", "server"]


@attrs.frozen
class Failure:
    """Why we refused the peer: in words, with what it presented (DER, leaf first)."""

    reason: str
    certificates: tuple[bytes, ...] = ()
    cause: BaseException | None = None


@attrs.define(eq=False)
class Handshake:
    """The state of one connection's handshake."""

    role: Role
    options: TlsOptions
    names: TlsNames
    alpn: tuple[bytes, ...]
    # On a server: what goes for a server name, None for nothing in particular.
    contexts: Callable[[str], tuple[TlsOptions, SSL.Context] | None] | None = None
    # The certificate was refused; the protocols did not meet; anything else.
    failure: Failure | None = None
    no_protocol: str | None = None
    problem: Failure | None = None
    # The leaf passed all checks (never set when a session is resumed).
    leaf_checked: bool = False
    # The peer proved to know the pre-shared key; a server's callback sets it early.
    psk_used: bool = False
    # See sessions.py; addresses of SSL_SESSION, to compare.
    session_key: Hashable = None
    offered: int = 0
    offered_expires: float | None = None
    # Known once the handshake has succeeded.
    finished: bool = False
    resumed: bool = False
    # What OpenSSL was given a pointer to.
    kept: Any = None

    @property
    def verifies(self) -> bool:
        """Whether a server's certificate has to be good."""
        return self.options.verify != "none"


_by_address: Final[weakref.WeakValueDictionary[int, Handshake]] = (
    weakref.WeakValueDictionary()
)


def attach(connection: SSL.Connection, handshake: Handshake) -> None:
    """Make `handshake` the one that belongs to `connection`."""
    connection.set_app_data(handshake)
    _by_address[openssl.address(connection._ssl)] = handshake


def conclude(connection: SSL.Connection) -> None:
    """The handshake has succeeded: callbacks have no more need to find it.

    But for the key log, which has a line for each new key. Any other that were
    called all the same would not find it, and refuse.
    """
    handshake = handshake_of(connection)
    handshake.finished = True
    handshake.contexts = None
    if handshake.options.keylog is None:
        _by_address.pop(openssl.address(connection._ssl), None)


def handshake_of(connection: SSL.Connection) -> Handshake:
    """The handshake that belongs to `connection`."""
    return cast("Handshake", connection.get_app_data())


def of_pointer(ssl: Any) -> Handshake:
    """The handshake behind an `SSL *` inside a callback. Raises KeyError."""
    return _by_address[openssl.address(ssl)]
