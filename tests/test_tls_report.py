"""wsockets.tls.report: failures in words, against peers that really fail."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

import pytest
from OpenSSL import SSL

from tests import certificates
from tests.tls_pairs import (
    LOCALHOST,
    NO_NAMES,
    connect,
    pair,
    read_failure,
    s_client,
    s_server,
    serving,
    trusting,
)
from wsockets.errors import SocketError
from wsockets.tls import (
    TlsOptions,
    client_connection,
    server_connection,
    tls_error,
)
from wsockets.tls.openssl import ffi, lib
from wsockets.tls.report import _ALERTS

Peer = Callable[[str], str]


def client_hears(answer: bytes) -> SocketError:
    """What a client says of a peer that answers with `answer` and FIN."""
    near, far = socket.socketpair()
    with near, far:
        connection = client_connection(trusting(), LOCALHOST, [], near)
        far.send(answer)
        far.shutdown(socket.SHUT_WR)
        return handshake_failure(connection)


def server_hears(hello: bytes) -> SocketError:
    """What a server says of a peer that begins with `hello` and FIN."""
    near, far = socket.socketpair()
    with near, far:
        connection = server_connection(serving(), [], near)
        far.send(hello)
        far.shutdown(socket.SHUT_WR)
        return handshake_failure(connection)


def handshake_failure(connection: SSL.Connection) -> SocketError:
    with pytest.raises(SSL.Error) as caught:
        connection.do_handshake()
    error = tls_error("complete the handshake", caught.value, connection)
    assert error.__cause__ is caught.value
    assert str(error).startswith("SocketError: could not complete the handshake: ")
    return error


# -- peers that speak something else


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"-ERR unknown command\r\n",
        bytes(range(5, 100)),
    ],
)
def test_a_server_without_tls_is_recognised(answer: bytes) -> None:
    error = client_hears(answer)
    assert error.code == "tls"
    assert "the peer does not speak TLS here" in str(error)


@pytest.mark.parametrize(
    ("hello", "part"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a plaintext HTTP request"),
        (b"POST / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a plaintext HTTP request"),
        (b"CONNECT a.example:443 HTTP/1.1\r\n\r\n", "HTTP CONNECT request"),
        (b"EHLO a.example\r\nMAIL FROM", "does not speak TLS"),
        # An SSLv2 ClientHello, 46 bytes long.
        (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37), "TLS"),
        (b"\xff" * 64, "does not speak TLS"),
    ],
)
def test_a_client_without_tls_is_recognised(hello: bytes, part: str) -> None:
    error = server_hears(hello)
    assert error.code == "tls"
    assert part in str(error)


def test_http_sent_to_a_tls_port_is_not_answered_with_secrets() -> None:
    error = server_hears(b"GET /?token=do-not-show-me HTTP/1.1\r\n\r\n")
    assert "do-not-show-me" not in str(error)


# -- the end of the connection


def test_a_fin_in_the_handshake_is_truncation() -> None:
    for hears in (client_hears, server_hears):
        error = hears(b"")
        assert error.code == "truncated"
        assert "before the handshake was over" in str(error)
        error = hears(b"\x16\x03\x03\x00")
        assert error.code == "truncated"


def test_a_fin_without_close_notify_is_truncation() -> None:
    with pair() as both:
        both.complete()
        both.exchange()
        both.server.sock_shutdown(socket.SHUT_WR)
        error = read_failure(both.client)
        assert error.code == "truncated"
        assert "without close_notify: data may be missing" in str(error)
        assert error.errno is None


def test_half_a_record_and_a_fin_is_truncation() -> None:
    with pair() as both:
        both.complete()
        both.exchange()
        assert both.server._socket is not None
        both.server._socket.send(b"\x17\x03\x03\x00\x20half")
        both.server.sock_shutdown(socket.SHUT_WR)
        assert read_failure(both.client).code == "truncated"


def test_close_notify_in_the_handshake_is_its_end() -> None:
    error = client_hears(b"\x15\x03\x03\x00\x02\x01\x00")
    assert error.code == "closed"
    assert "the peer has closed the connection" in str(error)


def test_close_notify_afterwards_is_the_end_in_good_order() -> None:
    with pair() as both:
        both.complete()
        both.exchange()
        both.server.shutdown()
        assert read_failure(both.client).code == "closed"


@pytest.mark.parametrize("finished", [True, False])
def test_a_reset_has_its_number(finished: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        connection = client_connection(trusting(), LOCALHOST, [], near)
        connection.get_app_data().finished = finished
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with pytest.raises(SSL.SysCallError) as caught:
            connection.do_handshake()
        error = tls_error("receive", caught.value, connection)
        assert error.code == "reset"
        assert error.errno in (errno.ECONNRESET, errno.EPIPE)
        assert error.__cause__ is caught.value


def test_writing_to_a_closed_connection_is_a_reset() -> None:
    near, far = socket.socketpair()
    with near:
        far.close()
        connection = client_connection(trusting(), LOCALHOST, [], near)
        with pytest.raises(SSL.SysCallError) as caught:
            connection.do_handshake()
        error = tls_error("send", caught.value, connection)
        assert (error.code, error.errno) == ("reset", errno.EPIPE)
        assert str(error) == f"SocketError: could not send: {os.strerror(errno.EPIPE)}"


def test_other_errors_of_the_system_keep_their_meaning() -> None:
    with pair() as both:
        for number, code in ((errno.ETIMEDOUT, "timeout"), (errno.EIO, "os")):
            error = tls_error("send", SSL.SysCallError(number, "E…"), both.client)
            assert (error.code, error.errno) == (code, number)
            error = tls_error("send", OSError(number, "words"), both.client)
            assert (error.code, error.errno) == (code, number)
        error = tls_error("send", SSL.SysCallError(), both.client)
        assert error.code == "truncated"


# -- alerts


def alert(description: int) -> bytes:
    return b"\x15\x03\x03\x00\x02\x02" + bytes([description])


@pytest.mark.parametrize(
    ("description", "name"),
    [
        # RFC 8446, section 6
        (10, "unexpected_message"),
        (20, "bad_record_mac"),
        (22, "record_overflow"),
        (40, "handshake_failure"),
        (42, "bad_certificate"),
        (43, "unsupported_certificate"),
        (44, "certificate_revoked"),
        (45, "certificate_expired"),
        (46, "certificate_unknown"),
        (47, "illegal_parameter"),
        (48, "unknown_ca"),
        (49, "access_denied"),
        (50, "decode_error"),
        (51, "decrypt_error"),
        (70, "protocol_version"),
        (71, "insufficient_security"),
        (80, "internal_error"),
        (86, "inappropriate_fallback"),
        (90, "user_canceled"),
        (109, "missing_extension"),
        (110, "unsupported_extension"),
        (112, "unrecognized_name"),
        (113, "bad_certificate_status_response"),
        (115, "unknown_psk_identity"),
        (116, "certificate_required"),
        (120, "no_application_protocol"),
        # RFC 5246, section 7.2, and RFC 6066, section 9
        (21, "decryption_failed"),
        (30, "decompression_failure"),
        (41, "no_certificate"),
        (60, "export_restriction"),
        (100, "no_renegotiation"),
        (111, "certificate_unobtainable"),
        (114, "bad_certificate_hash_value"),
    ],
)
def test_every_alert_is_named(description: int, name: str) -> None:
    error = client_hears(alert(description))
    assert error.code == "tls-alert"
    text = f"could not complete the handshake: the peer sent the alert {name}"
    hint = _ALERTS[name.replace("_", " ").replace("canceled", "cancelled")]
    assert str(error) == f"SocketError: {text}" + (f": {hint}" if hint else "")


def test_openssl_knows_no_alert_that_we_do_not() -> None:
    for code in range(1000, 1256):
        text = lib.ERR_reason_error_string((20 << 23) | code)
        if text == ffi.NULL:
            continue
        reason = ffi.string(text).decode()
        with pair() as both:
            error = tls_error("talk", SSL.Error([("SSL", "", reason)]), both.client)
            assert error.code == "tls-alert", reason


def test_an_alert_that_openssl_does_not_know_is_an_error_all_the_same() -> None:
    assert client_hears(alert(99)).code in ("tls", "tls-alert")


# -- versions


@pytest.mark.parametrize("flag", ["-tls1", "-tls1_1"])
def test_a_server_that_is_too_old(peer: Peer, flag: str) -> None:
    with s_server(peer("openssl"), flag, "-cipher", "DEFAULT:@SECLEVEL=0") as port:
        with (
            pytest.raises(SocketError, match="see minVersion, maxVersion") as info,
            connect(port, trusting()),
        ):
            pass
        assert info.value.code in ("tls", "tls-alert")
        old = trusting(minVersion="1.0", ciphers="DEFAULT:@SECLEVEL=0")
        with connect(port, old) as (connection, _):
            name = connection.get_protocol_version_name()
            assert name == {"-tls1": "TLSv1", "-tls1_1": "TLSv1.1"}[flag]


def test_a_server_that_is_too_new(peer: Peer) -> None:
    with (
        s_server(peer("openssl"), "-tls1_3") as port,
        pytest.raises(SocketError, match="protocol_version") as info,
        connect(port, trusting(maxVersion="1.2")),
    ):
        pass
    assert info.value.code == "tls-alert"


def test_a_downgrade_is_noticed(peer: Peer) -> None:
    # The client says that it could do more (RFC 7507).
    output, error = s_client(peer("openssl"), serving(), "-tls1_2", "-fallback_scsv")
    assert isinstance(error, SocketError)
    assert error.code == "tls"
    assert "the TLS version was downgraded on the way" in str(error)
    assert "inappropriate fallback" in output


# -- what we refused


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_our_own_refusals_are_told_exactly(version: str) -> None:
    issued = certificates.server("localhost", issuer="self")
    strange = serving(cert=issued.chain, key=issued.key)
    with pair(trusting(maxVersion=version), strange) as both:
        error, _ = both.shake()
        assert error is not None
        assert error.code == "tls-verify"
        assert "the certificate of localhost is refused: it is self-si" in str(error)
        assert error.certificates == (issued.der,)
    with pair(trusting(verify="ca"), strange, names=NO_NAMES) as both:
        error, _ = both.shake()
        assert error is not None
        assert "the certificate of the peer is refused" in str(error)
    client = certificates.client("other")
    with pair(
        trusting(cert=client.chain, key=client.key, maxVersion=version),
        serving(ca=certificates.authority().certificate),
    ) as both:
        refused = both.shake()[1]
        assert refused is not None
        assert refused.code == "tls-verify"
        assert "the certificate of the client is refused" in str(refused)
    with pair(
        trusting(maxVersion=version), client_alpn=["a"], server_alpn=["b"]
    ) as both:
        refused = both.shake()[1]
        assert refused is not None
        assert refused.code == "alpn"


def test_a_client_without_its_certificate_is_refused_by_that_word() -> None:
    root = certificates.authority().certificate
    with pair(trusting(), serving(ca=root)) as both:
        assert both.shake()[0] is None
        alert = read_failure(both.client)
        assert alert.code == "tls-alert"
        assert "the alert certificate_required" in str(alert)
    with pair(trusting(), serving(ca=root)) as both:
        _, error = both.shake()
        assert error is not None
        assert (error.code, error.certificates) == ("tls-verify", ())
        assert "the peer showed no certificate" in str(error)


def test_a_psk_function_that_fails_is_the_cause() -> None:
    failure = LookupError("do-not-show-me")

    def find(_: bytes) -> bytes:
        raise failure

    with pair(TlsOptions(psk=(b"identity", b"key")), TlsOptions(psk=find)) as both:
        _, error = both.shake()
        assert error is not None
        assert (error.code, error.__cause__) == ("tls", failure)
        assert "the psk function raised LookupError" in str(error)
        assert "do-not-show-me" not in str(error)


def test_a_bad_extension_is_a_wrong_protocol_where_there_was_an_offer() -> None:
    failure = SSL.Error([("SSL routines", "", "bad extension")])
    with pair(client_alpn=["h2"]) as both:
        assert tls_error("talk", failure, both.client).code == "alpn"
    with pair() as both:
        assert tls_error("talk", failure, both.client).code == "tls"


# -- everything else


def test_a_socketerror_stays_what_it_is() -> None:
    with pair() as both:
        error = SocketError("as it was", code="alpn")
        assert tls_error("talk", error, both.client) is error


def test_anything_else_is_named_by_its_type() -> None:
    with pair() as both:
        cause = ValueError("do-not-show-me")
        error = tls_error("talk", cause, both.client)
        assert (error.code, error.__cause__) == ("tls", cause)
        assert str(error) == "SocketError: could not talk: unexpectedly, ValueError"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "OpenSSL gives no reason"),
        (([],), "OpenSSL gives no reason"),
        (("words",), "OpenSSL gives no reason"),
        (([("SSL", "", "this"), ("SSL", "", ""), ("SSL", "", "that")],), "this; that"),
        (([("SSL", "", "tlsv1 alert nothing known")],), "tlsv1 alert nothing known"),
        (([("SSL", "", "no shared cipher")],), r"no cipher suite in common that .*"),
    ],
)
def test_what_openssl_says_is_passed_on(arguments: tuple[object], text: str) -> None:
    with pair() as both:
        error = tls_error("talk", SSL.Error(*arguments), both.client)
        with pytest.raises(SocketError, match=text):
            raise error
        assert error.code == "tls"


def test_secrets_are_in_no_message(capfd: pytest.CaptureFixture[str]) -> None:
    secret = b"do-not-show-me"
    server = TlsOptions(psk=(b"identity", b"another key"))
    for version in ("1.2", "1.3"):
        client = TlsOptions(psk=(secret, secret), maxVersion=version)
        with pair(client, server) as both:
            for error in both.shake():
                assert error is not None
                assert secret.decode() not in f"{error!r} {error.__cause__!r}"
    assert capfd.readouterr() == ("", "")
