"""wsockets.tls.sessions: going on with sessions of earlier connections."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from tests import certificates
from tests.tls_pairs import (
    NO_NAMES,
    connect,
    pair,
    receive,
    s_server,
    serving,
    trusting,
)
from wsockets.errors import SocketError
from wsockets.tls import (
    SessionCache,
    TlsOptions,
    store_session,
    tls_info,
    tls_names,
)
from wsockets.tls.sessions import Stored

Peer = Callable[[str], str]
VERSIONS = ["1.2", "1.3"]


def visit(client: TlsOptions, server: TlsOptions, **more: Any) -> bool:
    """One connection, properly used and ended; whether it was resumed."""
    with pair(client, server, **more) as both:
        info, other = both.complete()
        assert info.resumed == other.resumed
        assert info.verified == (client.verify != "none")
        both.exchange()
        both.end()
        return info.resumed


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_connection_resumes_the_session_of_the_first(version: str) -> None:
    cache = SessionCache()
    client, server = trusting(sessions=cache, maxVersion=version), serving()
    assert [visit(client, server) for _ in range(4)] == [False, True, True, True]
    assert len(cache) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_connection_knows_the_certificate_and_its_verification(
    version: str,
) -> None:
    client = trusting(sessions=SessionCache(), maxVersion=version)
    server = serving()
    visit(client, server)
    with pair(client, server) as both:
        info, _ = both.complete()
        assert info.resumed
        assert info.verified
        assert info.certificates == (certificates.server().der,)


def test_without_a_cache_nothing_is_kept() -> None:
    client, server = trusting(), serving()
    assert not visit(client, server)
    assert not visit(client, server)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "change",
    [
        {"port": 444},
        {"names": tls_names("127.0.0.1")},
        {"names": tls_names("localhost", None, "127.0.0.1")},
        {"client_alpn": ["h2"]},
    ],
)
def test_a_session_is_for_the_same_endpoint_names_and_protocols_only(
    version: str, change: dict[str, Any]
) -> None:
    client = trusting(sessions=SessionCache(), maxVersion=version)
    server = serving()
    assert not visit(client, server)
    assert not visit(client, server, **change)
    assert visit(client, server)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "change",
    [
        {"verify": "ca"},
        {"verify": "none"},
        {"ca": [certificates.authority().der, certificates.other_authority().der]},
        {"ciphers": "HIGH"},
    ],
)
def test_a_session_is_for_the_same_options_only(
    version: str, change: dict[str, Any]
) -> None:
    cache, server = SessionCache(), serving()
    client = trusting(sessions=cache, maxVersion=version)
    other = trusting(**{"sessions": cache, "maxVersion": version, **change})
    assert not visit(other, server)
    assert not visit(client, server)
    assert visit(other, server)
    assert visit(client, server)


def test_what_was_not_verified_does_not_become_verified_by_resumption() -> None:
    cache = SessionCache()
    issued = certificates.server("localhost", issuer="other")
    server = serving(cert=issued.chain, key=issued.key)
    careless = trusting(sessions=cache, verify="none")
    assert [visit(careless, server) for _ in range(2)] == [False, True]
    with pair(trusting(sessions=cache), server) as both:
        error, _ = both.shake()
        assert error is not None
        assert error.code == "tls-verify"


def test_equal_options_share_their_sessions() -> None:
    cache, server = SessionCache(), serving()
    assert not visit(trusting(sessions=cache), server)
    assert visit(trusting(sessions=cache), server)


def test_a_changed_file_ends_the_sessions_made_with_it(tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    file.write_text(certificates.authority().pem)
    client, server = TlsOptions(ca=file, sessions=SessionCache()), serving()
    assert not visit(client, server)
    assert visit(client, server)
    file.write_text(certificates.authority().pem + certificates.other_authority().pem)
    assert not visit(client, server)
    assert visit(client, server)


def test_nothing_is_offered_without_a_name_or_beside_a_psk() -> None:
    server = serving()
    client = trusting(sessions=SessionCache(), verify="ca")
    for _ in range(2):
        assert not visit(client, server, names=NO_NAMES)
    psk = (b"identity", b"key")
    cache = SessionCache()
    client = TlsOptions(psk=psk, sessions=cache)
    for _ in range(2):
        assert not visit(client, TlsOptions(psk=psk))
        assert len(cache) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_cut_short_may_still_be_resumed(version: str) -> None:
    client = trusting(sessions=SessionCache(), maxVersion=version)
    server = serving()
    with pair(client, server) as both:
        both.complete()
        both.exchange()
        # Neither side says goodbye.
        store_session(both.client)
        del both
    assert visit(client, server)


def test_a_failed_handshake_leaves_no_session() -> None:
    cache = SessionCache()
    with pair(trusting(sessions=cache), names=tls_names("a.example")) as both:
        both.shake()
        both.end()
    with pair(trusting(sessions=cache)) as both:
        both.end()
    # The handshake succeeded, but what came of it was not looked at.
    with pair(trusting(sessions=cache)) as both:
        assert both.shake() == (None, None)
        both.end()
    assert len(cache) == 0


def test_a_stored_connection_is_shut_down() -> None:
    with pair() as both:
        both.complete()
        store_session(both.client)
        assert both.client.get_shutdown() == SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN
        with pytest.raises(SSL.Error):
            both.client.send(b"more")


def test_tickets_of_tls_13_are_used_once() -> None:
    client, server = trusting(sessions=SessionCache()), serving()
    visit(client, server)
    with pair(client, server) as one, pair(client, server) as other:
        assert one.complete()[0].resumed
        assert not other.complete()[0].resumed
        # Ended before new tickets were read: the old one does not come back.
        store_session(one.client)
    with pair(client, server) as both:
        assert not both.complete()[0].resumed


def test_a_connection_of_tls_13_that_got_no_ticket_leaves_nothing() -> None:
    cache = SessionCache()
    client, server = trusting(sessions=cache), serving()
    visit(client, server)
    with pair(client, server) as one, pair(client, server) as other:
        one.complete()
        other.complete()
        one.exchange()
        store_session(one.client)
        store_session(other.client)
    # What the second one left would have come first.
    assert len(cache) == 1
    assert visit(client, server)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clients_certificate_is_resumed_with_its_session(version: str) -> None:
    issued = certificates.client()
    client = trusting(
        cert=issued.chain,
        key=issued.key,
        sessions=SessionCache(),
        maxVersion=version,
    )
    server = serving(ca=certificates.authority().certificate)
    assert not visit(client, server)
    with pair(client, server) as both:
        _, info = both.complete()
        assert info.resumed
        assert info.verified
        assert info.certificates[0] == issued.der


def test_several_tickets_wait_for_several_connections() -> None:
    client, server = trusting(sessions=SessionCache()), serving()
    with pair(client, server) as one, pair(client, server) as other:
        for both in (one, other):
            both.complete()
            both.exchange()
            both.end()
    with pair(client, server) as one, pair(client, server) as other:
        assert one.complete()[0].resumed
        assert other.complete()[0].resumed


def test_a_session_of_tls_12_serves_several_connections_at_once() -> None:
    client, server = trusting(sessions=SessionCache(), maxVersion="1.2"), serving()
    visit(client, server)
    with pair(client, server) as one, pair(client, server) as other:
        assert one.complete()[0].resumed
        assert other.complete()[0].resumed


# -- how long


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [time.time()]
    monkeypatch.setattr("wsockets.tls.sessions.time.time", lambda: now[0])
    return now


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chain_is_verified_anew_once_a_day(clock: list[float], version: str) -> None:
    client = trusting(sessions=SessionCache(), maxVersion=version)
    server = serving()
    visit(client, server)
    clock[0] += 13 * 3600
    # Renewed, but not for longer.
    assert visit(client, server)
    clock[0] += 13 * 3600
    assert not visit(client, server)
    assert visit(client, server)


def test_a_session_ends_with_its_certificate(clock: list[float]) -> None:
    issued = certificates.server("localhost", end_days=1)
    client = trusting(sessions=SessionCache())
    server = serving(cert=issued.chain, key=issued.key)
    end = issued.certificate.not_valid_after_utc.timestamp()
    clock[0] = end - 3600
    visit(client, server)
    assert visit(client, server)
    clock[0] = end + 1
    assert not visit(client, server)


def test_a_certificate_whose_end_cannot_be_read_is_never_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, server = trusting(sessions=SessionCache()), serving()

    def fails(*_: object, **__: object) -> None:
        raise ValueError

    with pair(client, server) as both:
        both.complete()
        both.exchange()
        monkeypatch.setattr(SSL.Connection, "get_peer_cert_chain", fails)
        both.end()
        monkeypatch.undo()
    assert not visit(client, server)
    assert visit(client, server)


# -- the cache by itself


def stored(expires: float = float("inf"), *, once: bool = True) -> Stored:
    return Stored(SSL.Session(), once, expires)


def test_the_newest_goes_first_and_none_twice() -> None:
    cache = SessionCache()
    entries = [stored() for _ in range(3)]
    for entry in entries:
        cache.put("key", entry)
    assert len(cache) == 3
    assert [cache.take("key") for _ in range(4)] == [*entries[::-1], None]
    assert len(cache) == 0


def test_a_session_for_many_uses_replaces_the_others() -> None:
    cache = SessionCache()
    many = stored(once=False)
    cache.put("key", stored())
    cache.put("key", many)
    assert len(cache) == 1
    assert cache.take("key") is cache.take("key") is many
    once = stored()
    cache.put("key", once)
    assert cache.take("key") is once
    assert cache.take("key") is None


def test_an_expired_session_is_dropped() -> None:
    cache = SessionCache()
    good = stored(time.time() + 1000)
    for entry in (stored(1), good, stored(2)):
        cache.put("key", entry)
    assert cache.take("key") is good
    assert len(cache) == 0


def test_the_least_recently_used_make_room() -> None:
    cache = SessionCache(limit=3)
    for key in ("a", "b", "c"):
        cache.put(key, stored(once=False))
    assert cache.take("a") is not None
    cache.put("d", stored(once=False))
    assert len(cache) == 3
    assert cache.take("b") is None
    assert all(cache.take(key) for key in ("a", "c", "d"))
    for _ in range(20):
        cache.put("e", stored())
    assert len(cache) == 3


def test_one_key_does_not_fill_the_cache() -> None:
    cache = SessionCache(limit=100)
    for _ in range(50):
        cache.put("key", stored())
    assert len(cache) == 8


def test_a_cache_can_be_cleared_and_shows_no_secret() -> None:
    cache = SessionCache(limit=5)
    cache.put("key", stored())
    assert repr(cache) == "<SessionCache with 1 of 5>"
    cache.clear()
    assert len(cache) == 0
    assert cache.take("key") is None


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10", None])
def test_a_limit_is_an_int_from_1(limit: Any) -> None:
    with pytest.raises(SocketError, match="limit") as info:
        SessionCache(limit)
    assert info.value.code == "option"


# -- against OpenSSL's program


@pytest.mark.parametrize("version", VERSIONS)
def test_s_server_says_that_the_session_was_reused(peer: Peer, version: str) -> None:
    client = trusting(sessions=SessionCache(), maxVersion=version)
    with s_server(peer("openssl"), "-www") as port:
        for resumed in (False, True, True):
            with connect(port, client) as (connection, sock):
                assert tls_info(connection).resumed == resumed
                connection.send(b"GET / HTTP/1.0\r\n\r\n")
                page = b""
                while b"</html>" not in page.lower():
                    page += receive(connection, sock)
                said = re.search(rb"^(New|Reused), ", page, re.MULTILINE)
                assert said is not None
                assert said[1] == (b"Reused" if resumed else b"New")
                store_session(connection)


def test_a_server_that_forgot_does_a_full_handshake(peer: Peer) -> None:
    client = trusting(sessions=SessionCache())
    program = peer("openssl")
    for _ in range(2):
        with (
            s_server(program) as port,
            connect(port, client) as (connection, sock),
        ):
            assert not tls_info(connection).resumed
            connection.send(b"abc\n")
            assert receive(connection, sock) == b"cba\n"
            store_session(connection)
