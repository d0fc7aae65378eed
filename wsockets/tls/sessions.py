"""Sessions of earlier connections, to be gone on with: cheaper handshakes.

A resumed handshake shows no certificate, so what was verified once is taken on
trust again. A session is therefore offered only where nothing has changed: by a
connection with the same context (the same options, files included), to the same
endpoint, with the same names and protocols; not once a certificate of its chain
has expired; and for a day at most after the chain was last verified, however
often it is renewed in between. A pre-shared key needs no sessions: with one, no
certificate is shown to begin with.

When: TLS 1.3 hands tickets out after the handshake, so a session is taken at the
end. And OpenSSL declares a session unfit in freeing the SSL object, unless that
was shut down; `store_session` marks it so, which is why it must come last.

TLS 1.3's tickets are for one use each (RFC 8446, appendix C.4) and leave the cache
when offered; several of them may wait under one key. A session of TLS 1.2 stays.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import attrs
from cryptography import x509
from OpenSSL import SSL

from ..errors import SocketError
from . import openssl
from .handshake import handshake_of

__all__ = ["SessionCache", "Stored", "keeps_sessions", "offer_session", "store_session"]

_MAX_AGE: Final = 24 * 3600.0
_PER_KEY: Final = 8


@attrs.frozen(eq=False)
class Stored:
    """A session, how to use it and until when (time.time(), seconds)."""

    session: SSL.Session
    once: bool
    expires: float


class SessionCache:
    """Sessions for `TlsOptions.sessions`, the last used `limit` of them.

    Safe to share among connections, bindings and threads. Holding one keeps the
    TLS contexts alive whose sessions it has.
    """

    __slots__ = ("_entries", "_limit", "_lock", "_size")

    def __init__(self, limit: int = 256) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise SocketError(
                f"the limit of a SessionCache is an int from 1, not {limit!r:.80}",
                code="option",
            )
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, list[Stored]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<SessionCache with {self._size} of {self._limit}>"

    def clear(self) -> None:
        """Forget every session."""
        with self._lock:
            self._entries.clear()
            self._size = 0

    def take(self, key: Hashable) -> Stored | None:
        """The newest session for `key` that is still good."""
        now = time.time()
        with self._lock:
            waiting = self._entries.pop(key, [])
            good = [stored for stored in waiting if stored.expires > now]
            found = good[-1] if good else None
            if found is not None and found.once:
                good.pop()
            if good:
                self._entries[key] = good
            self._size += len(good) - len(waiting)
        return found

    def put(self, key: Hashable, stored: Stored) -> None:
        """Keep a session; the least recently used make room for it."""
        with self._lock:
            waiting = self._entries.pop(key, [])
            kept = [old for old in waiting if old.once][1 - _PER_KEY :]
            kept = [*kept, stored] if stored.once else [stored]
            self._entries[key] = kept
            self._size += len(kept) - len(waiting)
            while self._size > self._limit:
                key, oldest = next(iter(self._entries.items()))
                del oldest[0]
                self._size -= 1
                if not oldest:
                    del self._entries[key]


def offer_session(connection: SSL.Connection, endpoint: Hashable) -> bool:
    """Offer an earlier session with `endpoint`, if there is one.

    To be called between making the connection and its handshake. `endpoint` tells
    apart what the names do not: the port. Nothing happens without a `SessionCache`
    in the options, without a name, or with a pre-shared key. Returns whether one
    was offered; whether it was accepted, `tls_info` knows.
    """
    handshake = handshake_of(connection)
    options = handshake.options
    cache = options.sessions
    nameless = handshake.names.verify_name is None
    if cache is None or nameless or options.psk is not None:
        return False
    handshake.session_key = (
        connection.get_context(),
        endpoint,
        handshake.names,
        handshake.alpn,
    )
    stored = cache.take(handshake.session_key)
    if stored is None:
        return False
    connection.set_session(stored.session)
    handshake.offered = openssl.current_session(connection)
    handshake.offered_expires = stored.expires
    return True


def keeps_sessions(connection: SSL.Connection) -> bool:
    """Whether `store_session` has a use for a ticket."""
    handshake = handshake_of(connection)
    return handshake.finished and handshake.options.sessions is not None


def store_session(connection: SSL.Connection) -> None:
    """Keep the session of a client's connection for the next one.

    The last thing to be done with a connection, whether it ends in good order or
    not: it is marked as shut down and can neither send nor receive afterwards.
    There is nothing to keep without a `SessionCache` or a name, or if the handshake
    did not succeed; sessions that a fatal alert has ended do not resume.
    """
    handshake = handshake_of(connection)
    cache = handshake.options.sessions
    if cache is not None and handshake.finished and handshake.session_key is not None:
        session = connection.get_session()
        once = connection.get_protocol_version() >= SSL.TLS1_3_VERSION
        used_up = openssl.current_session(connection) == handshake.offered
        if session is not None and not (
            once and (used_up or not openssl.has_ticket(session))
        ):
            expires = handshake.offered_expires if handshake.resumed else None
            if expires is None:
                expires = _expiry(connection, verified=handshake.verifies)
            cache.put(handshake.session_key, Stored(session, once, expires))
    connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)


def _expiry(connection: SSL.Connection, *, verified: bool) -> float:
    latest = time.time() + _MAX_AGE
    if not verified:
        return latest
    try:
        chain = connection.get_peer_cert_chain(as_cryptography=True) or []
        ends = [certificate.not_valid_after_utc.timestamp() for certificate in chain]
    except (ValueError, x509.InvalidVersion):
        return 0.0  # An end that cannot be read has passed.
    return min([latest, *ends])
