"""wsockets.tls.verify: whose certificate is accepted, and what is said of others."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL

from tests import certificates
from tests.certificates import NO_NAMES as NO_SAN
from tests.tls_pairs import (
    NO_NAMES,
    connect,
    pair,
    refusal,
    s_client,
    s_server,
    serving,
    trusting,
)
from wsockets.errors import SocketError
from wsockets.tls import TlsInfo, TlsOptions, tls_names, verify

Peer = Callable[[str], str]
VERSIONS = ["1.2", "1.3"]


def identity(issued: certificates.Issued) -> TlsOptions:
    return serving(cert=issued.chain, key=issued.key)


def bad(**members: Any) -> Callable[[], certificates.Issued]:
    return lambda: certificates.server("localhost", **members)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "reason", "alert"),
    [
        (bad(start_days=-9, end_days=-2), "it has expired, on", "certificate_expired"),
        (bad(start_days=2), "it is not yet valid, only from", "bad_certificate"),
        (bad(issuer="self"), "it is self-signed", "unknown_ca"),
        (bad(issuer="other"), "unknown issuer, 'another root'", "unknown_ca"),
        (certificates.client, "(?i)purpose", "unsupported_certificate"),
    ],
)
def test_a_bad_chain_is_refused_with_the_reason(
    version: str, make: Callable[[], certificates.Issued], reason: str, alert: str
) -> None:
    issued = make()
    for level in ("full", "ca"):
        ours, theirs = refusal(
            trusting(maxVersion=version, verify=level), identity(issued)
        )
        assert ours.code == "tls-verify"
        with pytest.raises(SocketError, match=reason):
            raise ours
        assert "the certificate of localhost is refused" in str(ours)
        assert ours.certificates == (issued.der,)
        assert isinstance(ours.__cause__, SSL.Error)
        assert theirs.code == "tls-alert"
        assert f"the peer sent the alert {alert}" in str(theirs)
    with pair(trusting(maxVersion=version, verify="none"), identity(issued)) as both:
        client, _ = both.complete()
        assert not client.verified
        assert client.certificates == (issued.der,)


def test_an_expired_authority_is_told_from_an_expired_leaf() -> None:
    with pytest.raises(SocketError, match="a certificate not trusted here, 'another"):
        raise refusal(
            trusting(),
            serving(
                cert=[
                    certificates.server("localhost", issuer="other").certificate,
                    certificates.other_authority().certificate,
                ],
                key=certificates.server("localhost", issuer="other").key,
            ),
        )[0]


def test_an_intermediate_is_needed_and_presented_leaf_first() -> None:
    issued = certificates.server("localhost", issuer="intermediate")
    with pair(trusting(), identity(issued)) as both:
        client, _ = both.complete()
        assert [
            x509.load_der_x509_certificate(der) for der in client.certificates
        ] == issued.chain
    alone = serving(cert=issued.certificate, key=issued.key)
    error, _ = refusal(trusting(), alone)
    assert "unknown issuer, 'wsockets test intermediate'" in str(error)


# -- names


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("a.example",), "a.example"),
        (("a.example",), "A.EXAMPLE."),
        (("b.example", "a.example"), "a.example"),
        (("*.a.example",), "x.a.example"),
        (("xn--bcher-kva.example",), "bücher.example"),
        (("127.0.0.1",), "127.0.0.1"),
        (("::1",), "::1"),
        (("2001:db8::1",), "[2001:DB8:0:0::1]"),
        (("fe80::1",), "fe80::1%eth0"),
    ],
)
def test_a_certificate_for_the_name_is_accepted(
    names: tuple[str, ...], name: str
) -> None:
    issued = certificates.server(*names)
    with pair(trusting(), identity(issued), names=tls_names(name)) as both:
        client, server = both.complete()
        assert client.verified
        assert server.server_name == tls_names(name).server_name
        both.exchange()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("names", "name", "listed"),
    [
        (("b.example", "c.example"), "a.example", "but for 'b.example', 'c.example'"),
        (("*.a.example",), "a.example", r"but for '\*.a.example'"),
        (("*.a.example",), "x.y.a.example", "but for"),
        (("*.example",), "a.example", "too few host components"),
        (("x*.a.example",), "xy.a.example", "but for"),
        (("*.a.example",), "xn--bcher-kva.a.example", "but for"),
        (("127.0.0.1",), "127.0.0.2", "but for 127.0.0.1"),
        (("a.example",), "127.0.0.1", "but for 'a.example'"),
        ((x509.DNSName("127.0.0.1"),), "127.0.0.1", "Invalid DNS pattern"),
        ((NO_SAN,), "a server", "does not contain any"),
        ((x509.RFC822Name("me@a.example"),), "a.example", "does not contain any"),
        (
            (x509.UniformResourceIdentifier("https://a.example"),),
            "a.example",
            "but for no host at all",
        ),
        (("a.example\0.evil.example",), "a.example", r"a.example\\x00.evil"),
        (("evil.example, DNS:a.example",), "a.example", "'evil.example, DNS:a"),
        (tuple(f"{n}.example" for n in range(11)), "a.example", "and 3 more$"),
    ],
)
def test_a_certificate_for_another_name_is_refused_within_the_handshake(
    version: str, names: tuple[str, ...], name: str, listed: str
) -> None:
    # A common name has blanks here, which no host name has.
    subject = name = name.replace(" ", "-")
    issued = certificates.server(*names, subject=subject)
    wanted = tls_names(name)
    ours, theirs = refusal(trusting(maxVersion=version), identity(issued), names=wanted)
    assert ours.code == "tls-verify"
    with pytest.raises(SocketError, match=rf"it is not for {name}.*{listed}"):
        raise ours
    assert ours.certificates == (issued.der,)
    assert theirs.code == "tls-alert"
    assert "bad_certificate" in str(theirs)
    with pair(
        trusting(maxVersion=version, verify="ca"), identity(issued), names=wanted
    ) as both:
        assert both.complete()[0].verified


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_sent_after_a_refusal(version: str) -> None:
    with pair(trusting(maxVersion=version), names=tls_names("a.example")) as both:
        both.shake()
        with pytest.raises(SSL.Error):
            both.client.send(b"a secret")
        with pytest.raises(SSL.Error):
            both.server.recv(100)


def test_without_a_name_there_is_only_the_chain() -> None:
    with pair(trusting(verify="ca"), names=NO_NAMES) as both:
        client, server = both.complete()
        assert client.verified
        assert server.server_name is None


# -- failing closed


def test_a_certificate_where_only_the_key_counts_is_refused() -> None:
    error, _ = refusal(TlsOptions(psk=(b"identity", b"key")), serving())
    assert error.code == "tls-verify"
    assert "only the pre-shared key is trusted; give ca" in str(error)
    assert error.certificates == (certificates.server().der,)


@pytest.mark.parametrize("where", ["_judge", "_check_name"])
def test_an_exception_while_judging_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    where: str,
) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt("stop")

    monkeypatch.setattr(verify, where, fails)
    ours, theirs = refusal()
    assert ours.code == "tls-verify"
    assert "it could not be read (KeyboardInterrupt)" in str(ours)
    assert isinstance(ours.__cause__, KeyboardInterrupt)
    assert theirs.code == "tls-alert"
    assert capfd.readouterr() == ("", "")


def test_a_callback_that_finds_no_handshake_refuses(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise KeyError

    monkeypatch.setattr(verify, "of_pointer", fails)
    ours, _ = refusal()
    assert ours.code == "tls"
    assert "certificate verify failed" in str(ours)
    assert capfd.readouterr() == ("", "")


def test_no_name_at_all_is_a_refusal() -> None:
    assert verify._name_reason(certificates.server().der, None) is not None


def test_a_match_is_remembered_and_a_mismatch_is_not() -> None:
    der = certificates.server("remembered.example").der
    for _ in range(3):
        assert verify._name_reason(der, "remembered.example") is None
        reason = verify._name_reason(der, "other.example")
        assert reason is not None
        assert "not for other.example" in reason[0]


def test_names_from_certificates_are_shown_escaped_and_short() -> None:
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a\x1b[31m\n" + "b" * 60)]
    )
    assert verify._shown(name) == repr("a\x1b[31m\n" + "b" * 60)
    other = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE")])
    assert verify._shown(other) == "'C=DE'"
    assert len(verify._escaped("x" * 500)) == 100
    assert verify._escaped(b"bytes") == ascii("b'bytes'")


# -- clients' certificates


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_shows_a_good_certificate_is_verified(version: str) -> None:
    issued = certificates.client()
    with pair(
        trusting(cert=issued.chain, key=issued.key, maxVersion=version),
        serving(ca=certificates.authority().certificate),
    ) as both:
        _, server = both.complete()
        assert server.verified
        assert server.certificates[0] == issued.der


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_with_a_bad_certificate_is_refused(version: str) -> None:
    issued = certificates.client("other")
    with pair(
        trusting(cert=issued.chain, key=issued.key, maxVersion=version),
        serving(ca=certificates.authority().certificate),
    ) as both:
        client, server = both.shake()
        assert server is not None
        assert server.code == "tls-verify"
        assert "the certificate of the client is refused" in str(server)
        assert server.certificates == (issued.der,)
        if version == "1.2":
            assert client is not None
            assert "unknown_ca" in str(client)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_a_certificate_is_refused_unless_it_is_optional(
    version: str,
) -> None:
    asking = serving(ca=certificates.authority().certificate)
    with pair(trusting(maxVersion=version), asking) as both:
        _, server = both.shake()
        assert server is not None
        assert server.code == "tls-verify"
        assert "the peer showed no certificate" in str(server)
    with pair(trusting(maxVersion=version), asking, client_auth="optional") as both:
        _, info = both.complete()
        assert not info.verified
        assert info.certificates == ()


# -- against OpenSSL's programs


def test_s_server_is_verified(peer: Peer) -> None:
    with s_server(peer("openssl")) as port:
        with connect(port, trusting()) as (connection, _):
            assert connection.get_servername() == b"localhost"
        with (
            pytest.raises(SocketError, match="is not for a") as info,
            connect(port, trusting(), tls_names("a.example")),
        ):
            pass
        assert info.value.code == "tls-verify"


def test_s_server_gets_our_certificate(peer: Peer) -> None:
    issued = certificates.client()
    root = str(certificates.authority().files().cert)
    with s_server(peer("openssl"), "-Verify", "2", "-CAfile", root) as port:
        options = trusting(cert=issued.pem + issued.key_pem(), maxVersion="1.2")
        with connect(port, options) as (connection, _):
            assert connection.get_protocol_version_name() == "TLSv1.2"
        with (
            pytest.raises(SocketError, match="handshake_failure") as info,
            connect(port, trusting(maxVersion="1.2")),
        ):
            pass
        assert info.value.code == "tls-alert"


def test_s_client_shows_its_certificate(peer: Peer) -> None:
    files = certificates.client().files()
    options = serving(ca=certificates.authority().certificate)
    certificate = ["-cert", str(files.cert), "-key", str(files.key)]
    output, came_to = s_client(peer("openssl"), options, *certificate)
    assert isinstance(came_to, TlsInfo)
    assert came_to.verified
    # The client was told whose certificates are accepted.
    names = output.partition("Acceptable client certificate CA names\n")[2]
    assert names.startswith("CN = wsockets test root\n")
    _, came_to = s_client(peer("openssl"), options)
    assert isinstance(came_to, SocketError)
    assert came_to.code == "tls-verify"


def test_an_anonymous_cipher_suite_does_not_get_by(peer: Peer) -> None:
    anonymous = "ADH-AES256-GCM-SHA384:AECDH-AES256-SHA:@SECLEVEL=0"
    with s_server(peer("openssl"), "-nocert", "-tls1_2", "-cipher", anonymous) as port:
        for level in ("full", "ca"):
            with (
                pytest.raises(SocketError, match="the peer showed no certi") as info,
                connect(port, trusting(ciphers=anonymous, verify=level)),
            ):
                pass
            assert info.value.code == "tls-verify"
        with connect(port, trusting(ciphers=anonymous, verify="none")):
            pass


def test_dates_are_shown_in_utc() -> None:
    issued = certificates.server("localhost", start_days=-9, end_days=-2)
    end = issued.certificate.not_valid_after_utc
    assert end.tzinfo is datetime.UTC
    error, _ = refusal(trusting(), identity(issued))
    assert f"{end:%Y-%m-%d %H:%M} UTC" in str(error)
