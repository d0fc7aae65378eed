"""wsockets.tls.contexts: made once, shared, and gone when they have to be."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import socket
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest
from OpenSSL import SSL

from tests import certificates
from tests.tls_pairs import LOCALHOST, Pair, grown, pair, refusal, serving, trusting
from wsockets.errors import SocketError
from wsockets.tls import (
    TlsOptions,
    check_options,
    client_connection,
    server_connection,
)
from wsockets.tls.contexts import context_for
from wsockets.tls.openssl import lib

PSK = (b"identity", b"key")


def rewrite(path: Path, text: str) -> None:
    """Replace a file as certbot does: a new inode under the old name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


# -- how they are set


@pytest.mark.parametrize("role", ["client", "server"])
def test_every_context_has_our_modes_and_options(role: Any) -> None:
    context = context_for(serving(), role)
    mode = lib.SSL_CTX_set_mode(context._context, 0)
    assert mode & SSL.MODE_RELEASE_BUFFERS
    assert mode & lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    assert not mode & lib.SSL_MODE_ENABLE_PARTIAL_WRITE
    options = lib.SSL_CTX_get_options(context._context)
    assert options & SSL.OP_NO_RENEGOTIATION
    assert options & SSL.OP_NO_COMPRESSION
    assert not options & SSL.OP_IGNORE_UNEXPECTED_EOF
    assert not options & SSL.OP_LEGACY_SERVER_CONNECT
    assert context.get_session_cache_mode() == SSL.SESS_CACHE_OFF


def test_verification_is_on_unless_it_is_none() -> None:
    assert context_for(TlsOptions(), "client").get_verify_mode() == SSL.VERIFY_PEER
    none = context_for(TlsOptions(verify="none"), "client")
    assert none.get_verify_mode() == SSL.VERIFY_NONE
    root = certificates.authority().certificate
    required = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    asking = serving(ca=root)
    assert context_for(asking, "server").get_verify_mode() == required
    optional = context_for(asking, "server", optional=True)
    assert optional.get_verify_mode() == SSL.VERIFY_PEER
    assert context_for(serving(), "server").get_verify_mode() == SSL.VERIFY_NONE


def test_a_psk_alone_needs_no_certificates_to_trust() -> None:
    for options, trusted in ((TlsOptions(psk=PSK), 0), (trusting(psk=PSK), 1)):
        store = lib.SSL_CTX_get_cert_store(context_for(options, "client")._context)
        assert lib.sk_X509_OBJECT_num(lib.X509_STORE_get0_objects(store)) == trusted


def test_the_whole_chain_is_presented() -> None:
    issued = certificates.server("localhost", issuer="intermediate")
    with pair(server=serving(cert=issued.pem, key=issued.key)) as both:
        client, _ = both.complete()
        assert client.certificates == (issued.der, certificates.intermediate().der)


def test_a_client_may_not_renegotiate() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(context, near)
        client.set_connect_state()
        both = Pair(client, server_connection(serving(), [], far), (), ())
        assert both.shake() == (None, None)
        client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        with pytest.raises(SSL.WantReadError):
            both.server.recv(1)
        with pytest.raises(SSL.Error, match="no renegotiation"):
            client.do_handshake()


def test_a_server_may_not_renegotiate() -> None:
    issued = certificates.server()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.use_certificate(issued.certificate)
        context.use_privatekey(issued.key)
        server = SSL.Connection(context, far)
        server.set_accept_state()
        client = client_connection(trusting(), LOCALHOST, [], near)
        both = Pair(client, server, (), ())
        assert both.shake() == (None, None)
        server.renegotiate()
        server.do_handshake()
        with pytest.raises(SSL.WantReadError):
            client.recv(1)
        with pytest.raises(SSL.Error, match="no renegotiation"):
            server.recv(1)


# -- how they are shared


@pytest.mark.parametrize(
    "make",
    [
        TlsOptions,
        lambda: TlsOptions(ca=certificates.authority().pem, verify="ca"),
        lambda: TlsOptions(ca=certificates.authority().files().cert),
        lambda: TlsOptions(ciphers="HIGH", minVersion="1.3"),
    ],
)
def test_equal_options_without_secrets_share_a_context(
    make: Callable[[], TlsOptions],
) -> None:
    options = make()
    context = context_for(options, "client")
    assert context_for(options, "client") is context
    assert context_for(make(), "client") is context
    assert context_for(trusting(verify="none"), "client") is not context


def test_a_context_with_a_secret_is_kept_by_its_options_alone() -> None:
    issued = certificates.client()
    for members in ({"cert": issued.chain, "key": issued.key}, {"psk": PSK}):
        options, equal = trusting(**members), trusting(**members)
        context = weakref.ref(context_for(options, "client"))
        assert context_for(options, "client") is context()
        assert context_for(equal, "client") is not context()
        del options
        gc.collect()
        assert context() is None


def test_a_connection_keeps_its_context_alive() -> None:
    with pair(trusting(psk=PSK), serving(psk=PSK, cert=None)) as both:
        gc.collect()
        both.complete()
        both.exchange()


def test_roles_and_client_authentication_do_not_share() -> None:
    options = serving(ca=certificates.authority().certificate)
    contexts = [
        context_for(options, "client"),
        context_for(options, "server"),
        context_for(options, "server", optional=True),
    ]
    assert len({id(context) for context in contexts}) == 3


# -- files that change


def test_replaced_contexts_and_their_trust_are_freed(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    options = TlsOptions(ca=bundle)
    count = itertools.count()

    def replace() -> None:
        os.utime(bundle, (0, next(count)))
        context_for(options, "client")

    # The caches keep up to 32. A context alone takes some 15,000, the trust of this
    # bundle 600,000; the allocators take hundreds of steps to settle.
    assert grown(replace, 10, warm=40, rounds=12) < 1000


def test_a_changed_ca_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    file.write_text(certificates.other_authority().pem)
    options = TlsOptions(ca=file)
    error, _ = refusal(options)
    assert error.code == "tls-verify"
    rewrite(file, certificates.authority().pem)
    with pair(options) as both:
        both.complete()
    assert context_for(options, "client") is context_for(options, "client")


def test_a_renewed_certificate_serves_the_next_connection(tmp_path: Path) -> None:
    old, new = certificates.server(), certificates.server("localhost", subject="new")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(old.pem)
    key.write_text(old.key_pem())
    options = TlsOptions(cert=cert, key=key)
    with pair(server=options) as before:
        rewrite(cert, new.pem)
        rewrite(key, new.key_pem())
        assert before.complete()[0].certificates == (old.der,)
        before.exchange()
    with pair(server=options) as after:
        assert after.complete()[0].certificates == (new.der,)


def test_a_server_goes_on_while_its_files_are_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = certificates.server(), certificates.server("localhost", subject="new")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(old.pem)
    key.write_text(old.key_pem())
    options = TlsOptions(cert=cert, key=key)
    context = context_for(options, "server")
    spoils: list[Callable[[], None]] = [
        lambda: rewrite(cert, new.pem),  # the key is still the old one
        lambda: rewrite(cert, "half written"),
        cert.unlink,
    ]
    for spoil in spoils:
        spoil()
        with caplog.at_level(logging.ERROR, logger="wsockets"):
            for _ in range(3):
                assert context_for(options, "server") is context
        assert len(caplog.records) == 1
        assert "the certificate or key was not replaced" in caplog.text
        caplog.clear()
    with pair(server=options) as both:
        assert both.complete()[0].certificates == (old.der,)
    caplog.clear()
    cert.write_text(new.pem)
    rewrite(key, new.key_pem())
    assert context_for(options, "server") is not context
    assert not caplog.records


def test_a_client_is_told_of_broken_files(tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    file.write_text(certificates.authority().pem)
    options = TlsOptions(ca=file)
    context_for(options, "client")
    file.unlink()
    with pytest.raises(SocketError, match="ca: cannot read"):
        context_for(options, "client")


# -- what is refused


@pytest.mark.parametrize(
    ("role", "make", "part"),
    [
        ("server", TlsOptions, "a server needs cert and key, or psk"),
        ("client", lambda: TlsOptions(psk=lambda _: None), "which is for servers"),
        ("client", lambda: TlsOptions(key=certificates.server().key), "without its"),
        (
            "server",
            lambda: serving(ca=certificates.authority().pem, verify="none"),
            "leave one of them out",
        ),
        ("client", lambda: TlsOptions(ca="nothing"), "ca holds no valid certificate"),
        ("client", lambda: TlsOptions(ciphers="nonsense"), "nonsense"),
        ("client", lambda: TlsOptions(minVersion="1.0"), "SECLEVEL=0"),
        ("client", lambda: TlsOptions(keylog="/nowhere/log"), "cannot write '/nowhere"),
    ],
)
def test_unusable_options_are_refused_at_once(
    role: Any, make: Callable[[], TlsOptions], part: str
) -> None:
    with pytest.raises(SocketError, match=part) as info:
        check_options(make(), LOCALHOST, role)
    assert info.value.code == "option"


def test_a_key_that_is_too_weak_for_the_security_level_is_refused() -> None:
    issued = certificates.client()
    options = TlsOptions(
        cert=issued.chain, key=issued.key, ciphers="DEFAULT:@SECLEVEL=5"
    )
    with pytest.raises(SocketError, match=r"OpenSSL refuses cert and key: .*too") as (
        info
    ):
        check_options(options, LOCALHOST, "client")
    assert isinstance(info.value.__cause__, SSL.Error)


# -- the key log


def test_the_key_log_is_written_for_its_owner_only(tmp_path: Path) -> None:
    log = tmp_path / "keys.log"
    with pair(trusting(keylog=log), serving(keylog=str(log))) as both:
        both.complete()
        random = both.client.client_random()
        assert random is not None
    assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
    lines = log.read_text().splitlines()
    assert {line.split()[0] for line in lines} >= {
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    }
    # Both ends wrote the same secrets, of this very connection.
    assert len(set(lines)) * 2 == len(lines)
    assert all(line.split()[1] == random.hex() for line in lines)


def test_the_key_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "keys.log"
    log.write_text("what was there\n")
    with pair(trusting(keylog=log, maxVersion="1.2")) as both:
        both.complete()
    first, second = log.read_text().splitlines()
    assert first == "what was there"
    assert second.startswith("CLIENT_RANDOM ")


def test_nothing_is_logged_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    with pair() as both:
        both.complete()
    assert list(tmp_path.iterdir()) == []


def test_a_key_log_that_disappears_does_not_end_the_connection(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with pair(trusting(keylog=folder / "keys.log")) as both:
        (folder / "keys.log").unlink()
        folder.rmdir()
        both.complete()
        both.exchange()
