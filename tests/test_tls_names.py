"""wsockets.tls.names: which name is sent and which is verified."""

from __future__ import annotations

import pytest

from wsockets.errors import SocketError
from wsockets.tls import TlsNames, tls_names


@pytest.mark.parametrize(
    ("hostname", "sni", "expected", "sent", "verified"),
    [
        ("a.example", None, None, "a.example", "a.example"),
        ("a.example", "b.example", None, "b.example", "b.example"),
        ("a.example", None, "c.example", "c.example", "c.example"),
        ("a.example", "b.example", "c.example", "b.example", "c.example"),
        (None, None, None, None, None),
        (None, "b.example", None, "b.example", "b.example"),
        (None, None, "c.example", "c.example", "c.example"),
        ("127.0.0.1", None, None, None, "127.0.0.1"),
        ("127.0.0.1", "b.example", None, "b.example", "b.example"),
        ("a.example", "127.0.0.1", None, None, "127.0.0.1"),
        ("a.example", None, "127.0.0.1", None, "127.0.0.1"),
        ("a.example", "b.example", "127.0.0.1", "b.example", "127.0.0.1"),
    ],
)
def test_the_order_of_the_three_names(
    hostname: str | None,
    sni: str | None,
    expected: str | None,
    sent: str | None,
    verified: str | None,
) -> None:
    assert tls_names(hostname, sni, expected) == TlsNames(sent, verified)


@pytest.mark.parametrize(
    ("given", "sent", "verified"),
    [
        ("A.Example", "a.example", "a.example"),
        ("a.example.", "a.example", "a.example"),
        ("bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("my_host", "my_host", "my_host"),
        ("::1", None, "::1"),
        ("[::1]", None, "::1"),
        ("2001:DB8:0::1", None, "2001:db8::1"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("192.0.2.1", None, "192.0.2.1"),
    ],
)
def test_names_are_normalised_wherever_they_come_from(
    given: str, sent: str | None, verified: str
) -> None:
    for names in (
        tls_names(given),
        tls_names("other.example", given),
        tls_names("other.example", None, given),
    ):
        assert names == TlsNames(sent, verified)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "value", ["", 5, b"a.example", "a b", "a\0b", "a..b", "1.2.3", "https://a"]
)
def test_what_is_no_name_is_refused_by_its_member(place: int, value: object) -> None:
    given: list[object] = [None, None, None]
    given[place] = value
    member = ("hostname", "sni", "expectedServerHostname")[place]
    with pytest.raises(SocketError, match=rf"^SocketError: {member}\b") as info:
        tls_names(*given)  # type: ignore[arg-type]
    assert info.value.code == "option"
