from __future__ import annotations

import attrs
import pytest

from wsockets.address import SocketAddress
from wsockets.dial import Proxy, parse_proxy
from wsockets.dial.proxy import Credentials
from wsockets.errors import SocketError


def test_a_proxy_is_read_from_its_url() -> None:
    proxy = parse_proxy("http://proxy.example:3128")
    assert proxy == Proxy("http", SocketAddress("proxy.example", 3128))
    assert str(proxy) == "http://proxy.example:3128"
    assert parse_proxy("socks5://[::1]:1080").address == SocketAddress("::1", 1080)


def test_the_scheme_may_be_in_capitals_and_the_end_a_slash() -> None:
    assert str(parse_proxy("SOCKS5://proxy.example:1080/")) == (
        "socks5://proxy.example:1080"
    )


def test_a_proxy_that_is_one_already_is_left_as_it_is() -> None:
    proxy = parse_proxy("http://proxy.example:3128")
    assert parse_proxy(proxy) is proxy


def test_credentials_are_percent_decoded() -> None:
    for scheme in ("http", "socks5"):
        proxy = parse_proxy(f"{scheme}://us%40er:p%3A%2f%F0@proxy.example:3128")
        assert proxy.credentials == Credentials(b"us@er", b"p:/\xf0")
    assert parse_proxy("http://user@h:1").credentials == Credentials(b"user", b"")
    assert parse_proxy("http://u:p:q@h:1").credentials == Credentials(b"u", b"p:q")
    assert parse_proxy("http://u:p@q@h:1").credentials == Credentials(b"u", b"p@q")
    assert parse_proxy("http://ü:é@h:1").credentials == Credentials(
        "ü".encode(), "é".encode()
    )


def test_credentials_are_never_shown() -> None:
    proxy = parse_proxy("http://alice:s3cret@proxy.example:3128")
    for text in (repr(proxy), str(proxy), repr(proxy.credentials), f"{proxy}"):
        assert "alice" not in text
        assert "s3cret" not in text
    assert str(proxy.credentials) == "Credentials(…)"


def test_a_proxy_cannot_be_changed() -> None:
    proxy = parse_proxy("http://proxy.example:3128")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        proxy.scheme = "socks5"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://proxy.example:3128", "TLS to the proxy"),
        ("socks5h://proxy.example:1080", "proxyResolve=True"),
        ("socks4://proxy.example:1080", "SOCKS4 is not supported"),
        ("socks4a://proxy.example:1080", "SOCKS4 is not supported"),
        ("socks://proxy.example:1080", "which version"),
        ("ftp://proxy.example:21", "no other scheme is known"),
        ("alice s3cret://proxy.example:21", '"…://"'),
        ("://proxy.example:21", "no other scheme"),
        ("proxy.example:3128", "no scheme"),
        ("alice:s3cret@proxy.example:3128", "no scheme"),
        ("", "no scheme"),
        ("http://", "address of the proxy"),
        ("http://proxy.example", "port is missing"),
        ("http://proxy.example:", "port is missing"),
        ("http://proxy.example:0", "http://"),
        ("http://proxy.example:65536", "65535"),
        ("http://:3128", "hostname is empty"),
        ("http://alice:s3cret@:3128", "hostname is empty"),
        ("http://unix:/run/proxy", "http://"),
        ("http://proxy.example:3128/path", "path"),
        ("http://proxy.example:3128//", "path"),
        ("http://proxy.example:3128?query", "query"),
        ("http://proxy.example:3128#x", "query"),
        ("http:// proxy.example:3128", "space"),
        ("http://proxy.example:3128\r\nX: y", "control"),
        ("http://pröxy。example:3128", "dot"),
        ("http://good.example:80/@evil.example:80", "percent-encoded"),
        ("http://good.example?@evil.example:80", "percent-encoded"),
        ("http://good.example#@evil.example:80", "percent-encoded"),
        ("http://good.example\\@evil.example:80", "percent-encoded"),
        ("http://alice:s3cret word@proxy.example:80", "percent-encoded"),
        ("http://alice:s3cret\n@proxy.example:80", "percent-encoded"),
        ("http://alice:s3cret%@proxy.example:80", "percent-encoded"),
        ("http://alice:s3cret%4@proxy.example:80", "percent-encoded"),
        ("http://alice:s3cret%GG@proxy.example:80", "percent-encoded"),
        ("http://al%3Aice:s3cret@proxy.example:80", "colon"),
        ("http://alice:s3cret%0A@proxy.example:80", "control"),
        ("http://alice%00:s3cret@proxy.example:80", "control"),
        ("socks5://:s3cret@proxy.example:80", "1 to 255 bytes"),
        ("socks5://alice:@proxy.example:80", "1 to 255 bytes"),
        ("socks5://alice@proxy.example:80", "1 to 255 bytes"),
        ("socks5://@proxy.example:80", "1 to 255 bytes"),
        (f"socks5://alice:{256 * 'x'}@proxy.example:80", "1 to 255 bytes"),
        (f"socks5://{256 * 'x'}:s3cret@proxy.example:80", "1 to 255 bytes"),
    ],
)
def test_a_malformed_url_is_refused_without_showing_credentials(
    url: str, text: str
) -> None:
    with pytest.raises(SocketError) as caught:
        parse_proxy(url)
    error: BaseException | None = caught.value
    assert caught.value.code == "option"
    assert text in str(caught.value)
    while error is not None:
        assert "s3cret" not in str(error)
        assert "alice" not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("url", [None, 3128, b"http://proxy.example:3128", ["http"]])
def test_what_is_not_a_url_is_refused(url: object) -> None:
    with pytest.raises(SocketError, match=f"not {type(url).__name__}") as caught:
        parse_proxy(url)
    assert caught.value.code == "option"


def test_an_empty_name_or_password_is_legal_in_http() -> None:
    assert parse_proxy("http://:p@h:1").credentials == Credentials(b"", b"p")
    assert parse_proxy("http://@h:1").credentials == Credentials(b"", b"")
