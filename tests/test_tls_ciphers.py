"""wsockets.tls.ciphers: versions and cipher suites."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from OpenSSL import SSL

from tests.tls_pairs import pair, refusal, serving, trusting
from wsockets.errors import SocketError
from wsockets.tls import TlsOptions
from wsockets.tls.ciphers import Limits, limits, psk_cipher, set_limits

PSK = (b"identity", b"key")
OLD = "DEFAULT:@SECLEVEL=0"


def test_nothing_said_is_openssls_default_from_tls_12_on() -> None:
    for server in (True, False):
        assert limits(TlsOptions(), server=server) == Limits("1.2", None, None, None)


@pytest.mark.parametrize(
    ("ciphers", "expected"),
    [
        ("ECDHE+AESGCM:!aNULL", ("1.2", "ECDHE+AESGCM:!aNULL", None)),
        ("DEFAULT, @SECLEVEL=0", ("1.2", "DEFAULT:@SECLEVEL=0", None)),
        ("@SECLEVEL=0", ("1.2", "DEFAULT:@SECLEVEL=0", None)),
        (
            "TLS_AES_128_GCM_SHA256:HIGH:TLS_AES_256_GCM_SHA384",
            ("1.2", "HIGH", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"),
        ),
        ("TLS_AES_128_GCM_SHA256", ("1.3", None, "TLS_AES_128_GCM_SHA256")),
    ],
)
def test_one_string_is_for_both_of_openssls_lists(
    ciphers: str, expected: tuple[str, str | None, str | None]
) -> None:
    minimum, old, suites = expected
    found = limits(TlsOptions(ciphers=ciphers), server=False)
    assert found == Limits(minimum, None, old, suites)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (
            lambda: TlsOptions(ciphers="TLS_AES_128_GCM_SHA256", maxVersion="1.2"),
            "suites of TLS 1.3 only, and maxVersion is 1.2",
        ),
        (lambda: TlsOptions(minVersion="1.0"), "minVersion 1.0 has no effect without"),
        (lambda: TlsOptions(minVersion="1.1", ciphers="HIGH"), "'DEFAULT:@SECLEVEL=0'"),
        (
            lambda: TlsOptions(psk=(b"", b"key"), minVersion="1.3"),
            "empty identity, which TLS 1.3 does not have",
        ),
        (
            lambda: TlsOptions(psk=(b"", b"key"), ciphers="TLS_AES_128_GCM_SHA256"),
            "empty identity, which TLS 1.3 does not have",
        ),
    ],
)
def test_contradictions_are_refused(make: Callable[[], TlsOptions], part: str) -> None:
    with pytest.raises(SocketError, match=part) as info:
        limits(make(), server=False)
    assert info.value.code == "option"


@pytest.mark.parametrize("ciphers", ["nonsense", "TLS_NONSENSE", "HIGH:TLS_NONSENSE"])
def test_suites_that_openssl_does_not_know_are_named(ciphers: str) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    with pytest.raises(SocketError, match=r"(?i)nonsense") as info:
        set_limits(context, limits(TlsOptions(ciphers=ciphers), server=False))
    assert info.value.code == "option"
    assert isinstance(info.value.__cause__, SSL.Error)


def suites_of(options: TlsOptions) -> list[str]:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    set_limits(context, limits(options, server=False))
    return SSL.Connection(context).get_cipher_list()


def test_a_psk_alone_leaves_only_suites_with_a_psk() -> None:
    for suite in suites_of(TlsOptions(psk=PSK)):
        assert suite.startswith("TLS_") or "PSK" in suite.split("-")
        assert "NULL" not in suite
        assert not suite.startswith("RSA-")
        assert not suite.endswith("_SHA384")


def test_a_psk_besides_certificates_comes_first() -> None:
    suites = suites_of(TlsOptions(psk=PSK, ca="pem"))
    assert suites[0].endswith("_SHA256")
    old = [suite for suite in suites if not suite.startswith("TLS_")]
    assert old[0].startswith("ECDHE-PSK-")
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in old
    assert "TLS_AES_256_GCM_SHA384" in suites
    assert not [suite for suite in suites if "NULL" in suite]


def test_a_users_ciphers_replace_those_for_a_psk() -> None:
    options = TlsOptions(psk=PSK, ciphers="PSK-AES256-GCM-SHA384")
    suites = suites_of(options)
    assert [suite for suite in suites if not suite.startswith("TLS_")] == [
        "PSK-AES256-GCM-SHA384"
    ]


def test_an_empty_identity_limits_clients_to_tls_12() -> None:
    options = TlsOptions(psk=(b"", b"key"))
    assert limits(options, server=False).maximum == "1.2"
    assert limits(options, server=True).maximum is None
    older = TlsOptions(
        psk=(b"", b"key"), minVersion="1.0", maxVersion="1.1", ciphers=OLD
    )
    assert limits(older, server=False).maximum == "1.1"


@pytest.mark.parametrize(
    ("ciphers", "cipher"),
    [
        (None, b"\x13\x01"),
        ("HIGH", b"\x13\x01"),
        ("TLS_AES_256_GCM_SHA384", b"\x13\x02"),
        ("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256", b"\x13\x01"),
    ],
)
def test_a_psk_belongs_to_the_hash_of_the_suites(
    ciphers: str | None, cipher: bytes
) -> None:
    assert psk_cipher(TlsOptions(psk=PSK, ciphers=ciphers)) == cipher


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3"])
def test_every_version_can_be_spoken_alone(version: str) -> None:
    one = trusting(minVersion=version, maxVersion=version, ciphers=OLD)
    with pair(one, serving(minVersion="1.0", ciphers=OLD)) as both:
        client, server = both.complete()
    name = "TLSv1" if version == "1.0" else f"TLSv{version}"
    assert (client.protocol, server.protocol) == (name, name)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_versions_are_refused_by_default(version: str) -> None:
    old = trusting(minVersion=version, maxVersion=version, ciphers=OLD)
    ours, theirs = refusal(old, serving())
    assert ours.code == "tls-alert"
    assert "protocol_version" in str(ours)
    assert "no TLS version in common" in str(theirs)
    ours, theirs = refusal(
        trusting(), serving(minVersion=version, maxVersion=version, ciphers=OLD)
    )
    assert {ours.code, theirs.code} == {"tls-alert", "tls"}


def test_the_agreed_suite_is_one_of_both() -> None:
    with pair(
        trusting(ciphers="TLS_CHACHA20_POLY1305_SHA256"),
        serving(),
    ) as both:
        client, _ = both.complete()
    assert client.cipher == "TLS_CHACHA20_POLY1305_SHA256"
    assert client.cipher_bits == 256
    ours, theirs = refusal(
        trusting(maxVersion="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
        serving(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"),
    )
    assert "handshake_failure" in str(ours)
    assert "no cipher suite in common" in str(theirs)
