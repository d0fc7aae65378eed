"""wsockets.tls.options: the form of TlsOptions."""

from __future__ import annotations

import copy
import typing
from collections import deque
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa

from tests import certificates
from wsockets.errors import SocketError
from wsockets.options import read_members
from wsockets.tls import SessionCache, TlsOptions, TlsOptionsMembers

SECRET = "do-not-show-me"


def test_the_defaults_verify_everything_from_tls_12_on() -> None:
    options = TlsOptions()
    assert (options.verify, options.minVersion, options.maxVersion) == (
        "full",
        "1.2",
        None,
    )
    for field in attrs.fields(TlsOptions):
        if field.name not in ("verify", "minVersion"):
            assert getattr(options, field.name) is None


def test_the_multi_word_members_have_snake_case_names() -> None:
    options = TlsOptions(minVersion="1.1", maxVersion="1.3")
    assert (options.min_version, options.max_version) == ("1.1", "1.3")


def test_options_are_frozen_and_compared_by_value() -> None:
    one, other = TlsOptions(ciphers="DEFAULT"), TlsOptions(ciphers="DEFAULT")
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.ciphers = None  # type: ignore[misc]


def test_a_list_of_certificates_cannot_be_changed_afterwards() -> None:
    given: list[str | bytes] = ["one", b"two"]
    options = TlsOptions(ca=given, cert=given)
    given.clear()
    assert options.ca == options.cert == ("one", b"two")


def test_both_spellings_of_every_member_are_typed_and_read() -> None:
    typed = set(TlsOptionsMembers.__annotations__)
    names = {field.name for field in attrs.fields(TlsOptions)}
    assert typed == names | {"min_version", "max_version"}
    assert read_members(
        TlsOptions, {"min_version": "1.3"}, {"verify": "ca"}, where="f()"
    ) == TlsOptions(minVersion="1.3", verify="ca")


def test_every_form_that_is_documented_is_taken() -> None:
    issued = certificates.server()
    for certificate in ("pem", b"pem or der", Path("file"), issued.certificate):
        TlsOptions(ca=certificate, cert=[certificate])
    for key in ("pem", b"pem or der", Path("file"), issued.key):
        TlsOptions(key=key)
    for password in ("text", b"bytes", lambda: "text"):
        TlsOptions(password=password)
    for keylog in ("file", Path("file")):
        TlsOptions(keylog=keylog)
    TlsOptions(psk=lambda identity: None, sessions=SessionCache())
    TlsOptions(psk=(b"", b"k"), ciphers="PSK-AES256-GCM-SHA384:@SECLEVEL=0")
    TlsOptions(psk=(b"i" * 128, b"k" * 256))


@pytest.mark.parametrize(
    ("member", "value", "part"),
    [
        ("ca", 5, "not int"),
        ("ca", [], "empty list"),
        ("ca", [None], "not NoneType"),
        ("ca", deque(["pem"]), "not deque"),
        ("cert", bytearray(b"pem"), "not bytearray"),
        ("cert", {"pem": 1}, "not dict"),
        ("key", 5, "not int"),
        ("key", dsa, "not module"),
        ("password", 5, "not int"),
        ("psk", [b"identity", b"key"], "not list"),
        ("psk", (b"identity",), "not tuple"),
        ("psk", ("identity", b"key"), r"not \(str, bytes\)"),
        ("psk", (b"identity", "key"), r"not \(bytes, str\)"),
        ("psk", (b"i" * 129, b"key"), "identity of 129 bytes; at most 128"),
        ("psk", (b"a\0b", b"key"), "NUL"),
        ("psk", (b"identity", b""), "key of 0 bytes; it has from 1 to 256"),
        ("psk", (b"identity", b"k" * 257), "key of 257 bytes"),
        ("verify", "all", "'all'"),
        ("verify", True, "object of type bool"),
        ("minVersion", "TLSv1.2", "'TLSv1.2'"),
        ("minVersion", 1.2, "object of type float"),
        ("minVersion", "0.9", "'0.9'"),
        ("maxVersion", "1.4", "'1.4'"),
        ("maxVersion", "1.1", "below minVersion 1.2"),
        ("ciphers", b"DEFAULT", "object of type bytes"),
        ("ciphers", "", "empty"),
        ("ciphers", " : ", "empty"),
        ("ciphers", "\0", "cipher string"),
        ("ciphers", "é" * 100, "…"),
        ("sessions", {}, "not dict"),
        ("keylog", "", "path"),
        ("keylog", b"file", "object of type bytes"),
    ],
)
def test_a_wrong_member_is_refused_with_what_is_accepted(
    member: str, value: object, part: str
) -> None:
    with pytest.raises(SocketError, match=rf"^SocketError: {member} .*{part}") as info:
        TlsOptions(**{member: value})  # type: ignore[arg-type]
    assert info.value.code == "option"


def test_none_stands_for_a_member_that_was_not_given() -> None:
    names = [field.name for field in attrs.fields(TlsOptions)]
    assert TlsOptions(dict.fromkeys(names)) == TlsOptions()
    assert TlsOptions(verify=None, min_version=None) == TlsOptions()


def test_members_come_in_a_mapping_or_as_keywords_in_either_spelling() -> None:
    expected = TlsOptions(minVersion="1.3", verify="ca")
    assert TlsOptions({"min_version": "1.3"}, verify="ca") == expected
    assert TlsOptions({"minVersion": "1.3", "verify": "ca", "else": 1}) == expected
    with pytest.raises(SocketError, match="twice"):
        TlsOptions(minVersion="1.3", min_version="1.3")
    with pytest.raises(TypeError, match="unexpected"):
        TlsOptions(minimum="1.3")  # type: ignore[call-arg]


def test_no_secret_is_in_a_repr() -> None:
    issued = certificates.server()
    secret = SECRET.encode()
    options = TlsOptions(
        ca=SECRET,
        cert=[SECRET, Path("cert.pem")],
        key=secret,
        password=SECRET,
        psk=(secret, secret),
        verify="ca",
        keylog=Path("keys.log"),
    )
    shown = repr(options)
    assert SECRET not in shown
    assert "psk=…" in shown
    assert "verify='ca'" in shown
    assert "keys.log" in shown
    assert str(options) == shown
    shown = repr(TlsOptions(cert=Path("cert.pem"), key=issued.key))
    assert "cert.pem" in shown
    assert "key=…" in shown
    assert repr(TlsOptions()) == "TlsOptions()"


@pytest.mark.parametrize(
    "members",
    [
        {"psk": (SECRET, SECRET)},
        {"psk": (SECRET.encode() * 20, b"k")},
        {"psk": (b"i", SECRET.encode() * 20)},
        {"psk": SECRET},
        {"password": [SECRET]},
        {"key": [SECRET]},
        {"cert": {"pem": SECRET}},
    ],
)
def test_no_secret_is_in_an_error(members: dict[str, typing.Any]) -> None:
    with pytest.raises(SocketError) as info:
        TlsOptions(**members)
    assert SECRET not in str(info.value)
    assert SECRET not in repr(info.value)


def test_a_copy_is_as_good_as_the_original() -> None:
    options = TlsOptions(verify="none")
    options._contexts["kind"] = (1, None)  # type: ignore[assignment]
    for other in (copy.copy(options), attrs.evolve(options)):
        assert other == options
        assert other._contexts == {}
    assert options._contexts != {}


def test_only_a_psk_by_itself_is_psk_only() -> None:
    psk = (b"identity", b"key")
    assert TlsOptions(psk=psk)._psk_only
    assert TlsOptions(psk=psk, verify="none")._psk_only
    assert not TlsOptions(psk=psk, ca="pem")._psk_only
    assert not TlsOptions(psk=psk, cert="pem")._psk_only
    assert not TlsOptions()._psk_only
