"""wsockets.tls.info: what a connection came to, as a value."""

from __future__ import annotations

import attrs
import pytest

from tests import certificates
from tests.tls_pairs import NO_NAMES, connect, pair, s_server, serving, trusting
from wsockets.tls import TlsInfo, TlsOptions, tls_info, tls_names


def test_everything_that_was_negotiated() -> None:
    issued = certificates.server("localhost", issuer="intermediate")
    with pair(
        trusting(maxVersion="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
        serving(cert=issued.chain, key=issued.key),
        client_alpn=["h2"],
        server_alpn=["h2"],
    ) as both:
        client, server = both.complete()
    assert client == TlsInfo(
        protocol="TLSv1.2",
        cipher="ECDHE-ECDSA-AES128-GCM-SHA256",
        cipher_bits=128,
        alpn="h2",
        server_name="localhost",
        resumed=False,
        certificates=(issued.der, certificates.intermediate().der),
        verified=True,
    )
    assert server == attrs.evolve(client, certificates=(), verified=False)


def test_no_name_is_sent_for_an_address() -> None:
    with pair(names=tls_names("127.0.0.1")) as both:
        client, server = both.complete()
        assert client.server_name is None
        assert server.server_name is None
        assert client.verified


def test_nothing_is_verified_before_the_end_of_the_handshake() -> None:
    with pair() as both:
        early = tls_info(both.client)
        assert (early.cipher, early.cipher_bits, early.alpn) == ("", 0, None)
        assert not early.verified
        assert both.shake() == (None, None)
        assert not tls_info(both.client).verified
    with pair() as both:
        both.complete()
        assert tls_info(both.client).verified


def test_verify_none_verifies_nothing() -> None:
    with pair(trusting(verify="none"), names=NO_NAMES) as both:
        assert not both.complete()[0].verified


def test_a_client_that_shows_no_certificate_is_not_verified() -> None:
    root = certificates.authority().certificate
    with pair(trusting(), serving(ca=root), client_auth="optional") as both:
        assert not both.complete()[1].verified


def test_a_client_with_several_certificates_is_shown_leaf_first() -> None:
    issued = certificates.client()
    root = certificates.authority().certificate
    with pair(
        trusting(cert=[*issued.chain, root], key=issued.key), serving(ca=root)
    ) as both:
        _, server = both.complete()
        assert server.certificates == (issued.der, certificates.authority().der)
        assert server.verified


def test_the_names_of_s_server_are_ours(peer: object) -> None:
    assert callable(peer)
    with (
        s_server(peer("openssl"), "-tls1_3") as port,
        connect(port, trusting()) as (connection, _),
    ):
        info = tls_info(connection)
        assert info.protocol == "TLSv1.3"
        assert info.cipher == "TLS_AES_256_GCM_SHA384"
        assert info.certificates == (certificates.server().der,)


@pytest.mark.parametrize("alone", [True, False])
def test_a_servers_ticket_proves_the_key_only_where_nothing_else_counts(
    alone: bool,
) -> None:
    options, issued = TlsOptions(psk=(b"identity", b"key")), certificates.server()
    server = options
    if not alone:
        server = TlsOptions(psk=options.psk, cert=issued.chain, key=issued.key)
    with pair(options, server) as both:
        both.complete()
        both.exchange()
        session = both.client.get_session()
        both.end()
    assert session is not None
    with pair(options, server) as both:
        both.client.set_session(session)
        _, info = both.complete()
        assert info.resumed
        assert info.verified == alone


def test_it_is_frozen_and_has_no_secret() -> None:
    key = b"do-not-show-me"
    with pair(
        TlsOptions(psk=(b"identity", key)), TlsOptions(psk=(b"identity", key))
    ) as both:
        client, _ = both.complete()
    assert key.decode() not in repr(client)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        client.verified = False  # type: ignore[misc]
