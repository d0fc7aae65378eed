"""wsockets.tls.connections: from options to a connection, and right after."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests import certificates
from tests.tls_pairs import LOCALHOST, NO_NAMES, grown, pair, serving, trusting
from wsockets import tls
from wsockets.errors import SocketError
from wsockets.tls import (
    TlsOptions,
    check_options,
    client_connection,
    finish_handshake,
    openssl,
    server_connection,
    tls_info,
)
from wsockets.tls.handshake import handshake_of, of_pointer
from wsockets.tls.openssl import callback

PSK = (b"identity", b"key")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near


def test_the_connection_works_on_the_sockets_own_descriptor(
    sock: socket.socket,
) -> None:
    connection = client_connection(trusting(), LOCALHOST, ["h2"], sock)
    assert connection.fileno() == sock.fileno()
    assert connection.get_context().get_verify_mode() == SSL.VERIFY_PEER
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    server = server_connection(serving(), [], sock)
    assert server.fileno() == sock.fileno()


def test_a_connection_that_is_dropped_leaves_the_socket_open(
    sock: socket.socket,
) -> None:
    connection = client_connection(trusting(), LOCALHOST, [], sock)
    del connection
    gc.collect()
    os.fstat(sock.fileno())


def test_verify_full_needs_a_name(sock: socket.socket) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: check_options(TlsOptions(), NO_NAMES, "client"),
        lambda: check_options(TlsOptions(), None, "client"),
        lambda: client_connection(TlsOptions(), NO_NAMES, [], sock),
    ]
    for attempt in attempts:
        with pytest.raises(SocketError, match='verify "full" needs a name') as info:
            attempt()
        assert info.value.code == "option"
    for options in (
        TlsOptions(verify="ca"),
        TlsOptions(verify="none"),
        TlsOptions(psk=PSK),
    ):
        check_options(options, NO_NAMES, "client")
    check_options(serving(), None, "server")
    with pytest.raises(SocketError, match="needs a name"):
        check_options(trusting(psk=PSK), NO_NAMES, "client")


def test_what_is_unusable_is_refused_with_the_connection_too(
    sock: socket.socket,
) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: client_connection(TlsOptions(ca="nothing"), LOCALHOST, [], sock),
        lambda: server_connection(TlsOptions(), [], sock),
        lambda: client_connection(trusting(), LOCALHOST, [""], sock),
        lambda: server_connection(serving(), ["n" * 256], sock),
    ]
    for attempt in attempts:
        with pytest.raises(SocketError) as info:
            attempt()
        assert info.value.code == "option"


def test_no_name_is_sent_where_there_is_none(sock: socket.socket) -> None:
    for names, sent in ((LOCALHOST, b"localhost"), (NO_NAMES, None)):
        connection = client_connection(trusting(verify="ca"), names, [], sock)
        assert connection.get_servername() == sent


def test_a_check_makes_what_the_connection_uses(sock: socket.socket) -> None:
    issued = certificates.client()
    options = trusting(cert=issued.chain, key=issued.key)
    check_options(options, LOCALHOST, "client")
    (context,) = [context for _, context in options._contexts.values()]
    connection = client_connection(options, LOCALHOST, [], sock)
    assert connection.get_context() is context


def refused(connection: SSL.Connection) -> None:
    with pytest.raises(SocketError, match='no certificate, and verify is "full"') as (
        info
    ):
        finish_handshake(connection, offered=())
    assert info.value.code == "tls-verify"
    assert not tls_info(connection).verified


def test_a_peer_without_a_certificate_is_refused_at_the_end() -> None:
    # As with an anonymous suite, for which OpenSSL calls nobody.
    with pair() as both:
        assert both.shake() == (None, None)
        handshake_of(both.client).leaf_checked = False
        refused(both.client)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_that_was_not_verified_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tls.SessionCache()
    client, server = trusting(sessions=cache, maxVersion=version), serving()
    with pair(client, server) as both:
        both.complete()
        both.exchange()
        both.end()
    with pair(client, server) as both:
        assert both.shake() == (None, None)
        assert openssl.was_reused(both.client)
        monkeypatch.setattr(openssl, "verified", lambda _: False)
        refused(both.client)


def test_no_certificate_is_left_in_memory() -> None:
    issued = certificates.client()
    client = trusting(cert=issued.chain, key=issued.key)
    server = serving(ca=certificates.authority().certificate)

    def visit() -> None:
        with pair(client, server) as both:
            both.complete()

    def refuse() -> None:
        with pair(client, server, names=tls.tls_names("a.example")) as both:
            both.shake()

    other = certificates.client("other")
    stranger = trusting(cert=other.chain, key=other.key)

    def refuse_client() -> None:
        with pair(stranger, server) as both:
            both.shake()

    for step in (visit, refuse, refuse_client):
        # A certificate takes some 3,000; the allocators take a while to settle.
        assert grown(step, 25, warm=40) < 500


def test_many_threads_may_share_one_options_object() -> None:
    client, server = trusting(), serving()
    start = threading.Barrier(4)

    def work(number: int) -> bool:
        start.wait()
        name = "localhost" if number % 2 else "a.example"
        good = True
        for _ in range(10):
            with pair(client, server, names=tls.tls_names(name)) as both:
                ours, _ = both.shake()
                good &= (ours is None) == (name == "localhost")
                if ours is not None:
                    good &= ours.code == "tls-verify"
        return good

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_connections_that_are_gone_are_forgotten() -> None:
    with pair() as both:
        pointer = both.client._ssl
        assert of_pointer(pointer) is handshake_of(both.client)
    del both
    gc.collect()
    with pytest.raises(KeyError):
        of_pointer(pointer)


@pytest.mark.parametrize("logged", [False, True], ids=["plain", "logged"])
def test_after_a_handshake_only_the_key_log_has_to_find_it(
    tmp_path: Path, logged: bool
) -> None:
    options = trusting(keylog=tmp_path / "log") if logged else trusting()
    with pair(options) as both:
        both.complete()
        handshake = handshake_of(both.client)
        assert handshake.finished
        assert handshake_of(both.server).contexts is None
        if logged:
            assert of_pointer(both.client._ssl) is handshake
        else:
            with pytest.raises(KeyError):
                of_pointer(both.client._ssl)


def test_a_callback_that_raises_returns_its_refusal_in_silence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object) -> int:
        raise SystemExit("a secret")

    assert callback("int (*)(int)", fails, 7)(1) == 7
    assert callback("void (*)(int)", fails, None)(1) is None
    assert capfd.readouterr() == ("", "")


def test_hellos_in_pieces_are_put_together() -> None:
    with pair() as both:
        with pytest.raises(SSL.WantReadError):
            both.client.do_handshake()
        server = both.server._socket
        assert server is not None
        hello = server.recv(65536)
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            slow = server_connection(serving(), [], far)
            for byte in hello:
                with pytest.raises(SSL.WantReadError):
                    slow.do_handshake()
                near.send(bytes([byte]))
            with pytest.raises(SSL.WantReadError):
                slow.do_handshake()
            near.setblocking(False)
            assert near.recv(65536)[0] == 0x16
