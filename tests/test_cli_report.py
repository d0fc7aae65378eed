"""What the command line tells of a connection, for a person and for a script."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import attrs
import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    dsa,
    ec,
    ed448,
    ed25519,
    rsa,
    x25519,
)
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console

from tests import certificates
from wsockets import SocketError
from wsockets.cli.certificates import Certificate, describe
from wsockets.cli.exits import EXITS, exit_for
from wsockets.cli.report import Failure, Message, Report, Tls, failed
from wsockets.cli.secrets import parse_psk
from wsockets.cli.show import one_line, show
from wsockets.errors import ErrorCode

NOW = datetime(2030, 6, 15, 12, 0, tzinfo=UTC)
SESSION = Tls(
    protocol="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    cipher_bits=256,
    alpn="h2",
    server_name="localhost",
    verify="full",
    verified=True,
    resumed=False,
)
GOOD = Report(
    address="localhost:443",
    secure_transport="on",
    starttls=None,
    seconds=0.0123,
    remote_address="127.0.0.1:443",
    local_address="127.0.0.1:50000",
    tls=SESSION,
)


def shown(report: Report, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(show(report))
    return console.export_text()


def words(text: str) -> str:
    return " ".join(text.split())


def make(
    key: Any = None,
    *,
    names: list[x509.GeneralName] | None = None,
    begins: timedelta = -timedelta(days=10),
    ends: timedelta = timedelta(days=20, hours=1),
    subject: str = "test",
) -> bytes:
    signer = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key((key or signer).public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
    return builder.sign(signer, hashes.SHA384()).public_bytes(Encoding.DER)


def refused(message: str, *ders: bytes) -> Report:
    error = SocketError(message, code="tls-verify")
    error.certificates = ders
    return failed(Report("host:443", "on", None, 0.5), error)


# -- exit codes ------------------------------------------------------------------


def test_every_error_has_one_exit_code() -> None:
    listed = [error for each in EXITS for error in each.errors]
    assert sorted(listed) == sorted(get_args(ErrorCode))


def test_exit_codes_are_different_and_never_success() -> None:
    codes = [each.code for each in EXITS]
    assert len(set(codes)) == len(codes)
    assert all(exit_for(error) > 0 for error in get_args(ErrorCode))


# -- certificates ----------------------------------------------------------------


def test_a_certificate_is_described() -> None:
    issued = certificates.server(issuer="intermediate")
    found = describe(issued.der)
    assert found.subject == "CN=a server"
    assert found.issuer == "CN=wsockets test intermediate"
    assert found.names == ("localhost", "127.0.0.1", "::1")
    assert found.key == "EC secp256r1"
    assert found.signed_with == "sha256"
    assert found.serial == f"{issued.certificate.serial_number:x}"
    assert found.current
    assert not found.self_issued
    assert not found.authority
    fingerprint = issued.certificate.fingerprint(hashes.SHA256())
    assert found.sha256 == fingerprint.hex()
    assert x509.load_pem_x509_certificate(found.pem.encode()) == issued.certificate


def test_an_authority_is_told_apart() -> None:
    found = describe(certificates.authority().der)
    assert found.authority
    assert found.self_issued
    assert found.names == ()


@pytest.mark.parametrize(
    ("begins", "ends", "left", "current"),
    [
        (-10, 20.04, 20, True),
        (-10, 0.5, 0, True),
        (-10, -0.5, -1, False),
        (-10, -3.5, -4, False),
        (1, 20, 20, False),
    ],
)
def test_the_days_left_are_whole_ones(
    begins: float, ends: float, left: int, current: bool
) -> None:
    der = make(begins=timedelta(days=begins), ends=timedelta(days=ends))
    found = describe(der, NOW)
    assert (found.days_left, found.current) == (left, current)


def test_times_are_given_in_utc() -> None:
    found = describe(make(), NOW)
    assert found.not_before == "2030-06-05T12:00:00Z"
    assert found.not_after == "2030-07-05T13:00:00Z"


@pytest.mark.parametrize(
    ("key", "described"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), "RSA 2048 bits"),
        (lambda: dsa.generate_private_key(1024), "DSA 1024 bits"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "EC secp384r1"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
        (ed448.Ed448PrivateKey.generate, "Ed448"),
        (x25519.X25519PrivateKey.generate, "X25519PublicKey"),
    ],
)
def test_keys_of_every_kind_are_named(key: Any, described: str) -> None:
    assert describe(make(key()), NOW).key == described


def test_names_of_every_kind_are_listed() -> None:
    directory = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dir")])
    names: list[x509.GeneralName] = [
        x509.DNSName("*.example.org"),
        x509.UniformResourceIdentifier("https://example.org"),
        x509.RFC822Name("me@example.org"),
        x509.DirectoryName(directory),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\0"),
    ]
    assert describe(make(names=names), NOW).names == (
        "*.example.org",
        "https://example.org",
        "me@example.org",
        "CN=dir",
        "1.2.3",
        "0500",
    )


def test_a_certificate_that_cannot_be_read_has_its_fingerprints() -> None:
    found = describe(b"not DER")
    assert found.subject is None
    assert len(found.sha256) == 64
    assert "cannot be read" in shown(attrs.evolve(GOOD, certificates=(found,)))


def test_control_characters_in_a_certificate_never_reach_the_terminal() -> None:
    found = describe(make(subject="evil\x1b[2J\u202e"), NOW)
    assert found.subject == r"CN=evil\x1b[2J\u202e"


# -- JSON ------------------------------------------------------------------------

MEMBERS = {
    "schema",
    "ok",
    "address",
    "secure_transport",
    "starttls",
    "seconds",
    "exit_code",
    "remote_address",
    "local_address",
    "tls",
    "certificates",
    "dialogue",
    "error",
}


def test_the_members_of_the_json_object_are_those_documented() -> None:
    report = attrs.evolve(GOOD, certificates=(describe(make(), NOW),))
    found = json.loads(report.to_json())
    assert set(found) == MEMBERS
    assert found["schema"] == 1
    assert found["ok"] is True
    assert found["error"] is None
    assert set(found["tls"]) == {field.name for field in attrs.fields(Tls)}
    (certificate,) = found["certificates"]
    assert set(certificate) == {field.name for field in attrs.fields(Certificate)}
    assert certificate["days_left"] == 20


def test_a_failure_is_an_object_of_the_same_members() -> None:
    report = failed(
        Report("x:1", "off", None, 0.1), SocketError("no", code="refused", errno=111)
    )
    found = json.loads(report.to_json())
    assert set(found) == MEMBERS
    assert found["ok"] is False
    assert found["exit_code"] == 4
    assert found["error"] == {"code": "refused", "message": "no", "errno": 111}
    assert found["tls"] is None


def test_json_is_ascii() -> None:
    message = Message.of("server", "220 grüße\r\n".encode())
    assert attrs.evolve(GOOD, dialogue=(message,)).to_json().isascii()


# -- for a person ----------------------------------------------------------------


def test_a_good_connection_is_told_of() -> None:
    text = words(shown(GOOD))
    for part in (
        "✓ localhost:443 connected in 12 ms",
        "remote 127.0.0.1:443",
        "local 127.0.0.1:50000",
        "protocol TLSv1.3",
        "cipher TLS_AES_256_GCM_SHA384 256 bits",
        "ALPN h2",
        "server name localhost",
        "verified yes",
    ):
        assert part in text
    assert "hint" not in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"verified": False, "verify": "none"}, "verified no: anybody could have"),
        ({"verify": "ca"}, "its name was not checked"),
        ({"alpn": None}, "ALPN none"),
        ({"server_name": None}, "server name none"),
        ({"resumed": True}, "session resumed"),
    ],
)
def test_what_is_unusual_about_a_session_is_said(
    changes: dict[str, Any], part: str
) -> None:
    assert part in words(
        shown(attrs.evolve(GOOD, tls=attrs.evolve(SESSION, **changes)))
    )


def test_a_plain_connection_is_said_to_be_plain() -> None:
    report = attrs.evolve(GOOD, tls=None)
    assert "security none: plaintext" in words(shown(report))
    assert one_line(report).plain == "connected to 127.0.0.1:443 · plaintext"


def test_a_connection_fits_into_a_line() -> None:
    assert one_line(GOOD).plain == (
        "connected to 127.0.0.1:443 · TLSv1.3 · TLS_AES_256_GCM_SHA384 · h2 · verified"
    )
    session = attrs.evolve(SESSION, alpn=None, verified=False)
    report = attrs.evolve(GOOD, tls=session, remote_address=None)
    assert one_line(report).plain == (
        "connected to localhost:443 · TLSv1.3 · TLS_AES_256_GCM_SHA384 · not verified"
    )


def test_the_dialogue_is_told_line_by_line() -> None:
    report = attrs.evolve(
        GOOD,
        dialogue=(
            Message.of("server", b"220-one\r\n220 two\x07\r\n"),
            Message.of("client", b"EHLO [x]\r\n"),
        ),
    )
    lines = [line.strip() for line in shown(report).splitlines()]
    start = lines.index("What was said before TLS")
    assert lines[start + 1 : start + 4] == [
        "← 220-one",
        r"220 two\x07",
        "→ EHLO [x]",
    ]


def test_the_chain_is_nested_from_the_leaf_on() -> None:
    leaf, middle = certificates.server(issuer="intermediate").chain
    ders = [each.public_bytes(Encoding.DER) for each in (leaf, middle)]
    report = attrs.evolve(GOOD, certificates=tuple(map(describe, ders)))
    lines = shown(report).splitlines()
    first = next(i for i, line in enumerate(lines) if "CN=a server" in line)
    second = next(
        i for i, line in enumerate(lines) if "CN=wsockets test intermediate  a" in line
    )
    assert first < second
    assert lines[second].startswith("  └── ")
    assert "names localhost, 127.0.0.1, ::1" in words(shown(report))


def test_many_names_are_cut_short() -> None:
    names: list[x509.GeneralName] = [x509.DNSName(f"n{i}.example") for i in range(50)]
    report = attrs.evolve(GOOD, certificates=(describe(make(names=names), NOW),))
    text = words(shown(report))
    assert "n19.example and 30 more" in text
    assert "n20.example" not in text


@pytest.mark.parametrize(
    ("begins", "ends", "part"),
    [
        (-10, 300.5, "300 days left"),
        (-10, -0.5, "expired today"),
        (-10, -3.5, "expired 3 days ago"),
        (5, 20, "not valid yet"),
    ],
)
def test_validity_is_put_in_words(begins: float, ends: float, part: str) -> None:
    der = make(begins=timedelta(days=begins), ends=timedelta(days=ends))
    report = attrs.evolve(GOOD, certificates=(describe(der, NOW),))
    assert part in words(shown(report))


def test_a_refused_certificate_is_shown_with_its_reason() -> None:
    report = refused("the certificate has an unknown issuer, 'X'", make())
    text = words(shown(report))
    assert "✗ host:443 failed after 500 ms" in text
    assert "error tls-verify the certificate has an unknown issuer, 'X'" in text
    assert "exit code 8" in text
    assert "sha256 " + report.certificates[0].sha256 in text


@pytest.mark.parametrize(
    ("message", "ends", "hint"),
    [
        ("its chain ends in a certificate not trusted here", 9e3, "with --ca"),
        ("it is self-signed", 9e3, "vouches for CN=test"),
        ("it is not for x but for 'a.example'", 9e3, "is for a.example; --sni"),
        ("it has expired", -3e3, "CN=test is not valid today"),
    ],
)
def test_a_hint_says_what_to_do(message: str, ends: float, hint: str) -> None:
    names: list[x509.GeneralName] = [x509.DNSName("a.example")]
    begins = timedelta(days=-20_000)
    report = refused(
        message, make(names=names, begins=begins, ends=timedelta(days=ends))
    )
    text = words(shown(report, width=200))
    assert hint in text
    assert text.count("hint") == 1


def test_there_is_no_hint_without_certificates() -> None:
    assert "hint" not in shown(refused("it is self-signed"))


def test_markup_of_a_stranger_is_not_obeyed() -> None:
    report = attrs.evolve(
        GOOD,
        error=Failure("tls", "[bold red]x[/]", None),
        dialogue=(Message.of("server", b"[red]boo[/]\r\n"),),
    )
    assert "[bold red]x[/]" in shown(report)
    assert "[red]boo[/]" in shown(report)


# -- secrets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "psk"),
    [
        ("me:00ff", (b"me", b"\x00\xff")),
        (":0A", (b"", b"\x0a")),
        ("a:b:0a", (b"a:b", b"\x0a")),
        ("ü:0a", ("ü".encode(), b"\x0a")),
    ],
)
def test_a_psk_is_an_identity_and_a_key(secret: str, psk: tuple[bytes, bytes]) -> None:
    assert parse_psk(secret) == psk


@pytest.mark.parametrize("secret", ["", "hunter2", "me:", "me:hunter2", "me:0"])
def test_a_psk_of_another_form_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse_psk(secret)
    assert "hunter2" not in str(caught.value)
