"""wsockets.tls.trust: the system's certificates and those that are given."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi
import pytest
from OpenSSL import crypto

from tests import certificates
from tests.tls_pairs import pair, refusal, serving
from wsockets.errors import SocketError
from wsockets.tls import TlsOptions, trust
from wsockets.tls.material import stamp
from wsockets.tls.trust import store_for, trust_key


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    trust._locations.cache_clear()


def root_file(folder: Path) -> Path:
    file = folder / "root.pem"
    file.write_text(certificates.authority().pem)
    return file


def test_ssl_cert_file_names_the_certificates_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(root_file(tmp_path)))
    with pair(TlsOptions()) as both:
        both.complete()


def test_ssl_cert_dir_names_folders_of_hashed_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What c_rehash does; the name's hash is OpenSSL's.
    authority = certificates.authority().certificate
    subject_hash = crypto.X509.from_cryptography(authority).subject_name_hash()
    (tmp_path / f"{subject_hash:08x}.0").write_text(certificates.authority().pem)
    monkeypatch.setenv("SSL_CERT_DIR", f"/nowhere:{tmp_path}")
    with pair(TlsOptions()) as both:
        both.complete()


def test_a_missing_file_does_not_spoil_a_good_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/root.pem")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    error, _ = refusal(TlsOptions())
    assert error.code == "tls-verify"


def test_variables_that_lead_nowhere_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/root.pem")
    with pytest.raises(SocketError, match=r"SSL_CERT_FILE='/nowhere") as info:
        store_for(TlsOptions())
    assert info.value.code == "option"


def test_a_file_without_certificates_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bad.pem"))
    with pytest.raises(SocketError, match=r"bad\.pem' cannot be read") as info:
        store_for(TlsOptions())
    assert info.value.__cause__ is not None


def test_without_variables_it_is_the_distributions_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", ("/nowhere", str(root_file(tmp_path))))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(None, None))
    with pair(TlsOptions()) as both:
        both.complete()


def paths(cafile: str | None, capath: str | None) -> ssl.DefaultVerifyPaths:
    return ssl.DefaultVerifyPaths(
        cafile,  # type: ignore[arg-type]
        capath,  # type: ignore[arg-type]
        "SSL_CERT_FILE",
        "",
        "SSL_CERT_DIR",
        "",
    )


def test_pythons_own_openssl_knows_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(root_file(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(root, None))
    assert trust_key(TlsOptions()) == ("system", stamp("", root))


def test_a_folder_of_the_system_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", ())
    folder = str(tmp_path)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(None, folder))
    assert trust_key(TlsOptions()) == ("system", stamp("", folder))
    error, _ = refusal(TlsOptions())
    assert error.code == "tls-verify"


def test_certifi_serves_where_the_system_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", ())
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(None, None))
    assert trust_key(TlsOptions()) == ("system", stamp("", certifi.where()))
    assert store_for(TlsOptions()) is store_for(TlsOptions(verify="ca"))


def test_a_store_is_shared_until_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root_file(tmp_path)
    for options in (TlsOptions(), TlsOptions(ca=file), TlsOptions(ca=[file])):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        first = store_for(options)
        assert store_for(options) is first
        os.utime(file, ns=(0, os.stat(file).st_mtime_ns + 1))
        assert store_for(options) is not first


def test_a_bundle_that_is_deleted_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one.pem", root_file(tmp_path)
    one.write_text(certificates.authority().pem)
    monkeypatch.setattr(trust, "_BUNDLES", (str(one), str(other)))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(None, None))
    assert trust_key(TlsOptions()) == ("system", stamp("", str(one)))
    one.unlink()
    assert trust_key(TlsOptions()) == ("system", stamp("", str(other)))


def test_given_certificates_replace_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(root_file(tmp_path)))
    error, _ = refusal(TlsOptions(ca=certificates.other_authority().certificate))
    assert error.code == "tls-verify"
    with pair(
        TlsOptions(ca=[certificates.other_authority().der, root_file(tmp_path)])
    ) as both:
        both.complete()


def test_whatever_is_given_is_trusted_as_it_is() -> None:
    alone = certificates.server("localhost", issuer="self")
    leaf = certificates.server()
    below = certificates.server("localhost", issuer="intermediate")
    for issued, ca in (
        (alone, alone.certificate),
        (leaf, leaf.certificate),
        (below, certificates.intermediate().certificate),
    ):
        with pair(
            TlsOptions(ca=ca), serving(cert=issued.chain, key=issued.key)
        ) as both:
            client, _ = both.complete()
            assert client.verified


def test_trusting_one_certificate_is_not_trusting_its_siblings() -> None:
    leaf = certificates.server("localhost", subject="a sibling")
    error, _ = refusal(TlsOptions(ca=leaf.certificate))
    assert error.code == "tls-verify"
