"""wsockets.tls.psk: pre-shared keys in TLS 1.2 and 1.3."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL

from tests import certificates
from tests.tls_pairs import (
    NO_NAMES,
    connect,
    grown,
    pair,
    receive,
    refusal,
    s_client,
    s_server,
    serving,
    trusting,
)
from wsockets.errors import SocketError
from wsockets.tls import (
    TlsInfo,
    TlsOptions,
    check_options,
    finish_handshake,
    psk,
    tls_info,
)
from wsockets.tls.openssl import ffi, lib

Peer = Callable[[str], str]
VERSIONS = ["1.2", "1.3"]
KEY = b"0123456789abcdef0123456789abcdef"
PSK = (b"an identity", KEY)
SECRET = b"do-not-show-me"


def using(value: Any = PSK, **members: Any) -> TlsOptions:
    return TlsOptions(psk=value, **members)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("theirs", [PSK, lambda identity: {PSK[0]: KEY}.get(identity)])
def test_a_shared_key_is_all_it_takes(version: str, theirs: Any) -> None:
    # Neither a certificate nor a name to verify is needed.
    options = using(maxVersion=version)
    check_options(options, NO_NAMES, "client")
    with pair(options, using(theirs), names=NO_NAMES) as both:
        for info in both.complete():
            assert info.protocol == f"TLSv{version}"
            assert info.verified
            assert not info.resumed
            assert info.certificates == ()
        both.exchange()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", [b"k", b"k" * 256])
@pytest.mark.parametrize("identity", [b"i", b"\xff\xfe", b"i" * 128])
def test_keys_and_identities_of_every_length_fit(
    version: str, key: bytes, identity: bytes
) -> None:
    asked = []

    def find(name: bytes) -> bytes:
        asked.append(name)
        return key

    with pair(using((identity, key), maxVersion=version), using(find)) as both:
        both.complete()
        both.exchange()
    assert set(asked) == {identity}


@pytest.mark.parametrize("server", [(b"", KEY), lambda identity: {b"": KEY}[identity]])
def test_an_empty_identity_works_in_tls_12(server: Any) -> None:
    client = using((b"", KEY), ciphers="PSK-AES256-GCM-SHA384")
    with pair(client, using(server)) as both:
        info, _ = both.complete()
        assert (info.protocol, info.cipher) == ("TLSv1.2", "PSK-AES256-GCM-SHA384")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_key_and_an_unknown_identity_look_the_same(version: str) -> None:
    client = using(maxVersion=version)
    wrong = refusal(client, using((PSK[0], b"wrong")))
    unknown = refusal(client, using((b"other", KEY)))
    function = refusal(client, using(lambda identity: None))
    seen = {tuple(map(str, failures)) for failures in (wrong, unknown, function)}
    assert len(seen) == 1
    ours, theirs = wrong
    assert ours.code == "tls-alert"
    assert theirs.code == "tls"
    for failure in (ours, theirs):
        assert "identity" not in str(failure)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_is_no_substitute_for_the_key(version: str) -> None:
    for verify in ("full", "ca"):
        ours, theirs = refusal(using(maxVersion=version, verify=verify), serving())
        if version == "1.2":
            assert ours.code == "tls-alert"
            assert "no cipher suite in common" in str(theirs)
        else:
            assert ours.code == "tls-verify"
            assert "only the pre-shared key is trusted" in str(ours)
            assert ours.certificates == (certificates.server().der,)
    # In 1.2 too, should a server ignore what is offered.
    ciphers = "DEFAULT"
    ours, _ = refusal(using(maxVersion=version, ciphers=ciphers), serving())
    assert ours.code == "tls-verify"
    none = using(maxVersion=version, ciphers=ciphers, verify="none")
    with pair(none, serving()) as both:
        assert not both.complete()[0].verified


@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_is_preferred_and_certificates_are_the_fallback(version: str) -> None:
    client = trusting(psk=PSK, maxVersion=version)
    issued = certificates.server()
    mixed: dict[str, Any] = {"cert": issued.chain, "key": issued.key}
    with pair(client, TlsOptions(psk=PSK, **mixed)) as both:
        ours, theirs = both.complete()
        assert ours.certificates == ()
        assert ours.verified
        assert theirs.verified
        both.exchange()
    with pair(client, TlsOptions(**mixed)) as both:
        ours, theirs = both.complete()
        assert ours.certificates == (issued.der,)
        assert ours.verified
        assert not theirs.verified
    error, _ = refusal(
        trusting(psk=PSK, maxVersion=version, ca=certificates.client().certificate),
        TlsOptions(**mixed),
    )
    assert error.code == "tls-verify"


def test_a_server_without_a_certificate_never_tells_identities_apart() -> None:
    client = using(maxVersion="1.3")
    asking = {"ca": certificates.authority().certificate}
    wrong = refusal(client, using((PSK[0], b"wrong"), **asking))
    unknown = refusal(client, using((b"other", KEY), **asking))
    assert list(map(str, wrong)) == list(map(str, unknown))


def test_an_unknown_identity_falls_back_on_the_certificate_in_tls_13() -> None:
    issued = certificates.server()
    server = TlsOptions(psk=lambda identity: None, cert=issued.chain, key=issued.key)
    with pair(trusting(psk=PSK), server) as both:
        ours, theirs = both.complete()
        assert ours.certificates == (issued.der,)
        assert ours.verified
        assert not theirs.verified


def test_the_hash_follows_the_suites() -> None:
    suite = "TLS_AES_256_GCM_SHA384"
    with pair(using(ciphers=suite), using(ciphers=suite)) as both:
        info, _ = both.complete()
        assert info.cipher == suite
        assert info.verified


def test_tickets_are_left_to_openssl() -> None:
    # A session ticket is offered as an identity; no function is asked about it.
    asked = []

    def find(identity: bytes) -> bytes:
        asked.append(identity)
        return KEY

    client, server = using(), using(find)
    with pair(client, server) as both:
        both.complete()
        both.exchange()
        session = both.client.get_session()
        assert session is not None
        both.end()
    asked.clear()
    with pair(client, server) as both:
        both.client.set_session(session)
        assert both.shake() == (None, None)
        finish_handshake(both.server, offered=())
        info = tls_info(both.server)
        assert info.resumed
        assert info.verified
    assert asked == []


# -- functions that fail


def fails(_: bytes) -> bytes:
    raise LookupError(SECRET.decode())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("function", "part", "cause"),
    [
        (fails, "the psk function raised LookupError", LookupError),
        (lambda _: "text", "returned an object of type str", SSL.Error),
        (lambda _: b"", "returned 0 bytes", SSL.Error),
        (lambda _: SECRET * 30, "returned 420 bytes", SSL.Error),
        (lambda _: bytearray(5), "an object of type bytearray", SSL.Error),
    ],
)
def test_a_function_that_fails_has_refused(
    version: str,
    function: Callable[[bytes], bytes],
    part: str,
    cause: type[Exception],
    capfd: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = refusal(using(maxVersion=version), using(function))
    assert ours.code == "tls-alert"
    assert theirs.code == "tls"
    assert part in str(theirs)
    assert isinstance(theirs.__cause__, cause)
    for failure in (ours, theirs):
        assert SECRET.decode() not in str(failure)
    assert capfd.readouterr() == ("", "")


def test_a_client_whose_callback_fails_does_not_go_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def nothing(_: object) -> None:
        raise RuntimeError(SECRET.decode())

    monkeypatch.setattr(psk, "_ours", nothing)
    for version in VERSIONS:
        with pair(using(maxVersion=version), using()) as both:
            ours, _ = both.shake()
            assert ours is not None
    assert capfd.readouterr() == ("", "")


# -- buffers


def test_a_buffer_that_is_too_small_is_not_overrun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pair(using((b"identity", b"k" * 20)), using((b"identity", b"k" * 20))) as both:
        client, server = both.client._ssl, both.server._ssl
        for identity_room, key_room, fits in (
            (9, 20, True),
            (8, 20, False),
            (9, 19, False),
        ):
            identity = ffi.new("char[]", b"\xaa" * 30)
            key = ffi.new("unsigned char[]", b"\xaa" * 30)
            length = psk._client_12(
                client, ffi.NULL, identity, identity_room, key, key_room
            )
            assert length == (20 if fits else 0)
            assert ffi.buffer(identity)[identity_room:30] == b"\xaa" * (
                30 - identity_room
            )
            assert ffi.buffer(key)[key_room:30] == b"\xaa" * (30 - key_room)
        key = ffi.new("unsigned char[]", b"\xaa" * 30)
        name = ffi.new("char[]", b"identity")
        monkeypatch.setattr(lib, "SSL_version", lambda _: 0x303)
        assert psk._server_12(server, name, key, 19) == 0
        assert ffi.buffer(key)[:] == b"\xaa" * 30 + b"\0"
        # An identity that is too long is an unknown one.
        long = ffi.new("char[]", b"i" * 300)
        assert psk._server_12(server, long, key, 30) == 0
        room = ffi.new("unsigned char[]", 40)
        assert psk._server_12(server, long, room, 40) == 32
        assert not both.server.get_app_data().psk_used


def test_a_key_that_openssl_does_not_take_is_an_error() -> None:
    with pair(using(), using()) as both:

        def attempt() -> None:
            with pytest.raises(ValueError, match="no such key"):
                psk._session(both.client._ssl, b"k" * 100_000, using())

        assert grown(attempt, 100, warm=20) < 100


def test_nothing_dangles_when_all_but_the_connections_are_gone() -> None:
    with pair(using(bytes_pair()), using(bytes_pair())) as both:
        gc.collect()
        both.complete()
        both.exchange()


def bytes_pair() -> tuple[bytes, bytes]:
    return b"".join([b"iden", b"tity"]), b"".join([b"k"] * 40)


# -- against OpenSSL's programs


@pytest.mark.parametrize("version", VERSIONS)
def test_s_server_knows_our_key(peer: Peer, version: str) -> None:
    arguments = ["-nocert", "-psk", KEY.hex(), "-psk_identity", PSK[0].decode()]
    with s_server(peer("openssl"), *arguments) as port:
        with connect(port, using(maxVersion=version), NO_NAMES) as (connection, sock):
            assert connection.get_protocol_version_name() == f"TLSv{version}"
            connection.send(b"abc\n")
            assert receive(connection, sock) == b"cba\n"
        with (
            pytest.raises(SocketError) as info,
            connect(port, using((PSK[0], b"wrong"), maxVersion=version), NO_NAMES),
        ):
            pass
        assert info.value.code == "tls-alert"


def test_s_server_takes_an_empty_identity_in_tls_12(peer: Peer) -> None:
    suite = "PSK-AES256-GCM-SHA384"
    arguments = ["-nocert", "-psk", KEY.hex(), "-psk_identity", "", "-cipher", suite]
    with (
        s_server(peer("openssl"), *arguments) as port,
        connect(port, using((b"", KEY), ciphers=suite), NO_NAMES) as (connection, sock),
    ):
        assert connection.get_cipher_name() == suite
        connection.send(b"abc\n")
        assert receive(connection, sock) == b"cba\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_knows_our_key(peer: Peer, version: str) -> None:
    program = peer("openssl")
    flag = "-tls1_2" if version == "1.2" else "-tls1_3"
    arguments = [flag, "-psk_identity", PSK[0].decode(), "-psk"]
    _, came_to = s_client(program, using(), *arguments, KEY.hex())
    assert isinstance(came_to, TlsInfo)
    assert came_to.verified
    assert came_to.protocol == f"TLSv{version}"
    output, came_to = s_client(program, using(), *arguments, "00" * 16)
    assert isinstance(came_to, SocketError)
    assert came_to.code == "tls"
    assert "alert" in output
