"""wsockets.tls.material: certificates and keys in every form they come in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests import certificates
from wsockets.errors import SocketError
from wsockets.tls import TlsOptions
from wsockets.tls.material import (
    each,
    files_of,
    load_certificates,
    load_identity,
    load_trusted,
    stamp,
)

SECRET = "do-not-show-me"


def refused(options: TlsOptions) -> SocketError:
    with pytest.raises(SocketError) as info:
        load_identity(options)
    assert info.value.code == "option"
    assert SECRET not in str(info.value)
    return info.value


def loaded(source: Any) -> list[x509.Certificate]:
    """The certificates of one source, read in both ways."""
    found = load_certificates("ca", [source])
    trusted = load_trusted("ca", [source])
    assert [certificate.to_cryptography() for certificate in trusted] == found
    return found


def test_certificates_are_read_from_pem_der_files_and_objects(tmp_path: Path) -> None:
    issued = certificates.server("localhost", issuer="intermediate")
    pem = tmp_path / "chain.pem"
    pem.write_text(issued.pem)
    der = tmp_path / "leaf.der"
    der.write_bytes(issued.der)
    leaf = [issued.certificate]
    for source, found in (
        (issued.pem, issued.chain),
        (issued.pem.encode(), issued.chain),
        (pem, issued.chain),
        (issued.der, leaf),
        (der, leaf),
        (issued.certificate, leaf),
    ):
        assert loaded(source) == found
    assert load_certificates("ca", [issued.der, pem]) == leaf + issued.chain


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("cert.pem", "in PEM; a str is taken as PEM, for a file give a pathlib.Path"),
        (SECRET.encode(), "in PEM or DER"),
        (f"-----BEGIN CERTIFICATE-----\n{SECRET}\n-----END CERTIFICATE-----", "in PEM"),
        (b"-----BEGIN NOTHING-----", "in PEM"),
    ],
)
def test_what_holds_no_certificate_is_refused(source: str | bytes, part: str) -> None:
    for load in (load_certificates, load_trusted):
        with pytest.raises(SocketError, match=f"ca holds no valid certificate {part}"):
            load("ca", [source])
        with pytest.raises(SocketError) as info:
            load("ca", [source])
        assert info.value.code == "option"
        assert SECRET not in str(info.value)


def test_roots_that_are_read_more_leniently_are_trusted_all_the_same() -> None:
    bundle = Path(certifi.where())
    count = bundle.read_text().count("-----BEGIN CERTIFICATE-----")
    assert len(load_trusted("ca", [bundle])) == count
    strange = certificates.server().der.replace(
        # A version that does not exist.
        bytes.fromhex("a003020102"),
        bytes.fromhex("a003020103"),
    )
    assert len(load_trusted("ca", [strange])) == 1
    with pytest.raises(SocketError):
        load_certificates("ca", [strange])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    for attempt in (
        lambda: load_certificates("ca", [missing]),
        lambda: stamp("ca", missing),
    ):
        with pytest.raises(SocketError, match=r"^SocketError: ca: cannot") as info:
            attempt()
        assert "missing.pem" in str(info.value)
        assert info.value.errno is not None
        assert isinstance(info.value.__cause__, FileNotFoundError)
    (tmp_path / "empty.pem").touch()
    with pytest.raises(SocketError, match=r"ca \(.*empty.pem\) holds no valid"):
        load_certificates("ca", [tmp_path / "empty.pem"])


def test_a_stamp_tells_versions_of_a_file_apart(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    first = stamp("ca", file)
    assert stamp("ca", file) == first
    os.utime(file, ns=(1, 1))
    touched = stamp("ca", file)
    other = tmp_path / "other"
    other.write_text("two")
    os.utime(other, ns=(1, 1))
    other.replace(file)
    assert len({first, touched, stamp("ca", file)}) == 3


def test_the_files_of_options_are_found_with_their_members() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    assert files_of(TlsOptions(ca=[a, "pem"], cert=b, key=c)) == [
        ("ca", a),
        ("cert", b),
        ("key", c),
    ]
    assert files_of(TlsOptions(ca="pem")) == []
    assert each(None) == ()


def test_an_identity_is_a_chain_and_the_leafs_key() -> None:
    issued = certificates.server("localhost", issuer="intermediate")
    found = load_identity(TlsOptions(cert=issued.pem, key=issued.key))
    assert found == (issued.chain, issued.key)
    assert load_identity(TlsOptions()) is None


def keys(tmp_path: Path) -> list[str | bytes | Path]:
    issued = certificates.server()
    pem = tmp_path / "key.pem"
    pem.write_text(issued.key_pem())
    der = tmp_path / "key.der"
    der.write_bytes(issued.key_der())
    traditional = issued.key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    return [
        issued.key_pem(),
        issued.key_pem().encode(),
        pem,
        issued.key_der(),
        der,
        traditional,
        f"{issued.pem}\n{traditional.decode()}",
    ]


def test_keys_are_read_in_every_form(tmp_path: Path) -> None:
    issued = certificates.server()
    for source in keys(tmp_path):
        found = load_identity(TlsOptions(cert=issued.chain, key=source))
        assert found is not None
        key = found[1]
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.private_numbers() == issued.key.private_numbers()


def test_the_key_may_be_in_the_certificates_own_pem(tmp_path: Path) -> None:
    issued = certificates.server("localhost", issuer="intermediate")
    both = issued.pem + issued.key_pem()
    file = tmp_path / "both.pem"
    file.write_text(issued.key_pem() + issued.pem)
    forms: list[Any] = [both, both.encode(), file, [issued.certificate, both]]
    for cert in forms:
        found = load_identity(TlsOptions(cert=cert))
        assert found is not None
        assert found[0][0] == issued.certificate
    error = refused(TlsOptions(cert=issued.chain))
    assert "without its key, neither as key nor in cert's own PEM" in str(error)
    error = refused(TlsOptions(cert=issued.pem))
    assert "without its key" in str(error)


def test_a_key_without_its_certificate_is_refused() -> None:
    error = refused(TlsOptions(key=certificates.server().key))
    assert "key is given without its cert" in str(error)


def test_a_key_of_another_certificate_is_refused() -> None:
    issued, other = certificates.server(), certificates.client()
    error = refused(TlsOptions(cert=issued.chain, key=other.key))
    assert "key is not the key of cert" in str(error)
    # The leaf has to come first.
    chain = certificates.server("localhost", issuer="intermediate")
    error = refused(TlsOptions(cert=chain.chain[::-1], key=chain.key))
    assert "whose first certificate has to be ours" in str(error)


@pytest.mark.parametrize("password", ["pass", b"pass", lambda: "pass", lambda: b"pass"])
def test_an_encrypted_key_opens_with_its_password(
    password: str | bytes | Callable[[], str | bytes],
) -> None:
    issued = certificates.server()
    der = issued.key.private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass")
    )
    traditional = issued.key.private_bytes(
        Encoding.PEM,
        PrivateFormat.TraditionalOpenSSL,
        BestAvailableEncryption(b"pass"),
    )
    for key in (issued.key_pem(b"pass"), der, traditional):
        options = TlsOptions(cert=issued.chain, key=key, password=password)
        assert load_identity(options) is not None


def test_a_password_for_a_key_that_needs_none_is_not_asked_for() -> None:
    issued = certificates.server()

    def never() -> str:
        raise AssertionError("asked for")

    options = TlsOptions(cert=issued.chain, key=issued.key_pem(), password=never)
    assert load_identity(options) is not None


def test_nobody_is_prompted_for_a_missing_password() -> None:
    issued = certificates.server()
    encrypted = issued.key_pem(b"pass")
    error = refused(TlsOptions(cert=issued.chain, key=encrypted))
    assert "key is encrypted, and there is no password" in str(error)
    error = refused(TlsOptions(cert=issued.pem + encrypted))
    assert "cert is encrypted, and there is no password" in str(error)


def test_a_wrong_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    issued = certificates.server()
    file = tmp_path / "key.pem"
    file.write_text(issued.key_pem(b"pass"))
    error = refused(TlsOptions(cert=issued.chain, key=file, password=SECRET))
    assert "key.pem) holds no readable private key: the password may be wrong" in str(
        error
    )
    assert error.__cause__ is not None


@pytest.mark.parametrize("password", ["", b"", "\ud800", "x" * 2000])
def test_a_password_that_nobody_could_have_meant_is_a_wrong_one(
    password: str | bytes,
) -> None:
    issued = certificates.server()
    for key in (issued.key_pem(b"pass"), certificates.client().key_pem(b"pass")):
        error = refused(TlsOptions(cert=issued.chain, key=key, password=password))
        assert "the password may be wrong" in str(error)


def test_a_password_function_that_fails_is_reported_without_its_words() -> None:
    issued = certificates.server()
    encrypted = issued.key_pem(b"pass")

    def fails() -> str:
        raise RuntimeError(SECRET)

    error = refused(TlsOptions(cert=issued.chain, key=encrypted, password=fails))
    assert "the password function raised RuntimeError" in str(error)
    assert isinstance(error.__cause__, RuntimeError)

    def number() -> str:
        return 5  # type: ignore[return-value]

    error = refused(TlsOptions(cert=issued.chain, key=encrypted, password=number))
    assert "returned an object of type int" in str(error)


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("key.pem", "holds no private key in PEM; a str is taken as PEM, for a file"),
        (SECRET, "holds no private key in PEM; a str"),
        (b"-----BEGIN NOTHING-----", "holds no private key in PEM"),
        (SECRET.encode(), "holds no readable private key: it is malformed"),
        (
            f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
            "holds no readable private key: it is malformed",
        ),
    ],
)
def test_what_holds_no_key_is_refused(key: str | bytes, part: str) -> None:
    issued = certificates.server()
    error = refused(TlsOptions(cert=issued.chain, key=key))
    assert f"key {part}" in str(error)


def test_a_kind_of_key_that_tls_does_not_use_is_refused() -> None:
    for key in (x25519.X25519PrivateKey.generate(), dsa.generate_private_key(1024)):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        error = refused(TlsOptions(cert=certificates.server().chain, key=pem))
        assert "RSA, EC, Ed25519 and Ed448 are" in str(error)


def test_a_certificate_for_an_unknown_kind_of_key_is_refused() -> None:
    issued = certificates.server()
    # The curve is P-256's neighbour, prime239v3, which nobody implements.
    curve = bytes.fromhex("06082a8648ce3d0301")
    strange = issued.der.replace(curve + b"\x07", curve + b"\x06")
    error = refused(TlsOptions(cert=strange, key=issued.key))
    assert "cert is for an unusable public key" in str(error)
