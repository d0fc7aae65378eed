"""Server names: which certificate is shown to whom, and who is let in by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import certificates
from tests.tls_pairs import Pair, pair, refusal, serving, trusting
from wsockets.errors import SocketError
from wsockets.tls import (
    ServerNames,
    TlsNames,
    TlsOptions,
    check_server,
    store_session,
    tls_names,
)
from wsockets.tls.sessions import SessionCache

WWW = certificates.server("www.example.com")
WILD = certificates.server("*.example.com", subject="a wildcard")
DEFAULT = certificates.server("default.example.org", subject="the default")


def options_of(issued: certificates.Issued, **members: Any) -> TlsOptions:
    return TlsOptions(cert=issued.chain, key=issued.key, **members)


def named(base: TlsOptions | None = None, **more: TlsOptions) -> ServerNames:
    contexts = {
        "www.example.com": options_of(WWW),
        "*.example.com": options_of(WILD),
    }
    return ServerNames(base or options_of(DEFAULT), contexts | more)


def shown(both: Pair) -> bytes:
    """The certificate that the client saw."""
    info, _ = both.complete()
    return info.certificates[0]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("www.example.com", WWW),
        ("WWW.Example.COM", WWW),
        ("mail.example.com", WILD),
        ("a.b.example.com", DEFAULT),
        ("example.com", DEFAULT),
        ("elsewhere.example.org", DEFAULT),
        (None, DEFAULT),
    ],
)
def test_a_name_gets_its_certificate(
    asked: str | None, answer: certificates.Issued, version: Any
) -> None:
    with pair(
        trusting(verify="ca", minVersion=version, maxVersion=version),
        options_of(DEFAULT),
        names=tls_names(asked) if asked else TlsNames(None, None),
        server_names=named(),
    ) as both:
        assert shown(both) == answer.der


def test_a_server_without_names_has_one_certificate() -> None:
    with pair(trusting(verify="ca"), options_of(DEFAULT)) as both:
        assert shown(both) == DEFAULT.der


def test_a_name_that_is_not_ascii_gets_the_default() -> None:
    names = named()
    assert names.find("www.ex\N{REPLACEMENT CHARACTER}mple.com") is None
    assert names.find("www.example.com.") is not None


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("a b", options_of(WWW), "host name"),
        ("*.*.example.com", options_of(WWW), "host name"),
        ("*", options_of(WWW), "host name"),
        ("192.0.2.1", options_of(WWW), "host name"),
        ("", options_of(WWW), "host name"),
        (b"www.example.com", options_of(WWW), "a str"),
        ("www.example.com", {"cert": WWW.pem}, "a TlsOptions, not dict"),
        ("www.example.com", TlsOptions(), "no cert"),
        ("www.example.com", options_of(WWW, minVersion="1.3"), "minVersion"),
        ("www.example.com", options_of(WWW, psk=(b"i", b"k")), "psk"),
        ("www.example.com", options_of(WWW, keylog="f"), "keylog"),
    ],
)
def test_what_a_name_cannot_be_or_have_is_refused(
    name: Any, options: Any, match: str
) -> None:
    with pytest.raises(SocketError, match=match) as caught:
        ServerNames(options_of(DEFAULT), {name: options})
    assert caught.value.code == "option"


def test_a_name_is_given_once() -> None:
    with pytest.raises(SocketError, match="twice"):
        named(**{"WWW.example.com": options_of(WILD)})


def test_names_outside_ascii_are_read_as_connect_reads_them() -> None:
    names = ServerNames(
        options_of(DEFAULT), {"b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example": (
            options_of(WWW)
        )}
    )  # fmt: skip
    assert names.find("xn--bcher-kva.example") is not None


def test_the_material_of_each_name_is_checked_at_once(tmp_path: Path) -> None:
    check_server(options_of(DEFAULT), server_names=named())
    missing = TlsOptions(cert=tmp_path / "not.there")
    with pytest.raises(SocketError, match=r"not\.there"):
        check_server(options_of(DEFAULT), server_names=named(**{"x.example": missing}))
    with pytest.raises(SocketError, match="cert and key"):
        check_server(TlsOptions())


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_name_may_ask_for_clients_of_its_own(version: Any) -> None:
    strict = options_of(WWW, ca=certificates.authority().pem)
    names = named(**{"strict.example.com": strict})
    known = certificates.client()

    def client(**members: Any) -> TlsOptions:
        return trusting(verify="ca", minVersion=version, maxVersion=version, **members)

    with pair(
        client(cert=known.chain, key=known.key),
        options_of(DEFAULT),
        names=tls_names("strict.example.com"),
        server_names=names,
    ) as both:
        _, info = both.complete()
        assert info.certificates[0] == known.der
        assert info.verified
    with pair(
        client(),
        options_of(DEFAULT),
        names=tls_names("strict.example.com"),
        server_names=names,
    ) as both:
        _, theirs = both.shake()
        assert theirs is not None
        assert "no certificate" in str(theirs)
    with pair(
        client(), options_of(DEFAULT), names=tls_names("www.example.com"),
        server_names=names,
    ) as both:  # fmt: skip
        assert shown(both) == WWW.der


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_ticket_of_one_name_opens_no_other_door(version: Any) -> None:
    """A session tells nothing of the name under which it began."""
    base = options_of(DEFAULT)
    strict = options_of(WWW, ca=certificates.authority().pem)
    for contexts, resumed in (
        ({"strict.example.com": strict}, False),
        ({"strict.example.com": options_of(WWW)}, True),
    ):
        names = ServerNames(base, contexts)
        assert names.resumable is resumed
        cache = SessionCache()
        ours = trusting(
            verify="ca", minVersion=version, maxVersion=version, sessions=cache
        )
        for again in (False, True):
            with pair(
                ours, base, names=tls_names("open.example.com"), server_names=names
            ) as both:
                info, _ = both.complete()
                assert info.resumed is (again and resumed)
                both.exchange()
                store_session(both.client)
                store_session(both.server)


def test_the_listeners_clients_are_every_names() -> None:
    base = options_of(DEFAULT, ca=certificates.authority().pem)
    names = named(base)
    assert names.resumable
    with pair(
        trusting(verify="ca"), base, names=tls_names("www.example.com"),
        server_names=names, client_auth="optional",
    ) as both:  # fmt: skip
        _, info = both.complete()
        assert not info.verified


def test_a_certificate_that_is_gone_when_it_is_first_asked_for_ends_the_handshake(
    tmp_path: Path,
) -> None:
    names = named(**{"late.example": TlsOptions(cert=tmp_path / "late.pem")})
    ours, theirs = refusal(
        trusting(verify="ca"), serving(), names=tls_names("late.example"),
        server_names=names,
    )  # fmt: skip
    assert ours.code == "tls-alert"
    assert "no certificate for the server name" in str(theirs)
    assert isinstance(theirs.__cause__, SocketError)
