"""The facts of a TLS connection that the early draft's info lists."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL

from tests import certificates
from tests.naming import named
from tests.tls_pairs import LOCALHOST, pair, serving, trusting
from wsockets.tls import CipherInfo, EphemeralKeyInfo, SessionCache, tls_details
from wsockets.tls.details import _ephemeral_key, standard_name


def test_both_ends_know_what_was_agreed_on() -> None:
    with pair(client_alpn=["echo"], server_alpn=["echo"]) as ends:
        ends.complete()
        ends.exchange()
        client, server = tls_details(ends.client), tls_details(ends.server)
    assert client.servername == server.servername == "localhost"
    assert client.peerCertificate == server.certificate
    assert server.certificate is not None
    assert client.certificate is None and server.peerCertificate is None
    assert client.verificationStatus == "verified"
    assert server.verificationStatus == "unverified"
    assert client.cipher == server.cipher
    assert client.cipher.version == "TLSv1.3"
    assert client.cipher.name == client.cipher.standardName
    assert client.cipher.standard_name == client.cipher.standardName
    assert client.ephemeralKey == server.ephemeralKey
    assert client.ephemeralKey is not None
    assert client.alpn == server.alpn == "echo"


def test_a_session_and_its_ticket_are_given_and_never_shown() -> None:
    with pair(trusting(), serving()) as ends:
        ends.complete()
        ends.exchange()
        details = tls_details(ends.client)
    assert details.session and details.ticket
    assert details.ticket in details.session
    for secret in (details.session, details.ticket):
        assert repr(secret)[2:20] not in repr(details)


def test_a_certificate_that_nobody_vouches_for_is_said_to_be_so() -> None:
    with pair(trusting(verify="none", ca=None), serving()) as ends:
        ends.complete()
        details = tls_details(ends.client)
    assert details.verificationStatus != "verified"
    assert "certificate" in details.verificationStatus


def test_a_client_certificate_is_its_own_and_the_servers_peers() -> None:
    own = certificates.client()
    with pair(
        trusting(cert=own.chain, key=own.key),
        serving(ca=certificates.authority().certificate),
    ) as ends:
        ends.complete()
        client, server = tls_details(ends.client), tls_details(ends.server)
    assert client.certificate == server.peerCertificate
    assert client.certificate is not None
    assert server.verificationStatus == "verified"


def test_a_suite_of_tls_1_2_has_both_names() -> None:
    with pair(trusting(maxVersion="1.2")) as ends:
        ends.complete()
        details = tls_details(ends.client)
    name = details.cipher.name
    assert details.cipher == CipherInfo(name, standard_name(name), "TLSv1.2")
    assert str(details.cipher.standardName).startswith("TLS_ECDHE_")
    assert details.ephemeralKey is not None


def test_the_rule_for_standard_names_agrees_with_openssls_table(
    peer: Callable[[str], str],
) -> None:
    listed = subprocess.run(
        [peer("openssl"), "ciphers", "-stdname", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    names = {line.split()[2]: line.split()[0] for line in listed.splitlines()}
    known = {name for name in names if standard_name(name)}
    assert {name: standard_name(name) for name in known} == {
        name: names[name] for name in known
    }
    # Whatever a default configuration would choose, and much besides.
    usual = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None).get_cipher_list()
    common = {name for name in set(usual) & names.keys() if "SRP" not in name}
    assert common <= known
    assert len(known) > 90


def test_a_suite_without_a_rule_has_no_standard_name() -> None:
    for name in ("DHE-PSK-AES256-CCM8", "SRP-AES-128-CBC-SHA", "NULL-MD5", ""):
        assert standard_name(name) is None


class Group:
    """As much of a connection as tells its group."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._ssl = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)._ssl

    def get_group_name(self) -> str | None:
        return self._name


@pytest.mark.parametrize(
    ("cipher", "group", "expected"),
    [
        ("TLS_X", "x25519", EphemeralKeyInfo("ECDH", "x25519", 253)),
        ("ECDHE-X", "secp384r1", EphemeralKeyInfo("ECDH", "secp384r1", 384)),
        ("DHE-X", "ffdhe3072", EphemeralKeyInfo("DH", "ffdhe3072", 3072)),
        (
            "TLS_X",
            "X25519MLKEM768",
            EphemeralKeyInfo("KEM", "X25519MLKEM768", None),
        ),
        ("AES128-SHA", "x25519", None),
        ("DHE-X", None, None),
    ],
    ids=named,
)
def test_a_group_has_a_kind_and_a_size(
    cipher: str, group: str | None, expected: EphemeralKeyInfo | None
) -> None:
    connection: Any = Group(group)
    assert _ephemeral_key(connection, cipher) == expected


def test_a_resumed_session_of_tls_1_2_has_no_new_key() -> None:
    cache = SessionCache()
    options, server = trusting(maxVersion="1.2", sessions=cache), serving()
    keys = []
    for _ in range(2):
        with pair(options, server, names=LOCALHOST) as ends:
            ends.complete()
            keys.append(tls_details(ends.client).ephemeralKey)
            ends.end()
    assert keys[0] is not None
    assert keys[1] is None
