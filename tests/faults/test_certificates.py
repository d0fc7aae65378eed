"""Certificates that are not good enough, shown to connect().

What counts is that nothing goes out to the wrong server, not even what was
written before the handshake, and that the error says what is wrong.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from typing import Any

import attrs
import pytest
from cryptography import x509

from tests import certificates
from tests.certificates import NO_NAMES, Issued, client, server
from wsockets import Binding, SocketError, TlsOptions

from .peers import scripted

pytestmark = pytest.mark.every_loop


async def nowhere_else(host: str, port: int) -> list[tuple[int, str]]:
    """A resolver for which every name is here."""
    return [(socket.AF_INET, "127.0.0.1")]


def visitor(**members: Any) -> Binding:
    tls = TlsOptions(ca=certificates.authority().pem, **members)
    return Binding(tls=tls, resolver=nowhere_else)


def presenting(issued: Issued) -> ssl.SSLContext:
    files = issued.files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


GOOD = {
    "the name": ("localhost", server()),
    "the name in capitals": ("LOCALHOST", server()),
    "the name with its last dot": ("localhost.", server()),
    "the address": ("127.0.0.1", server()),
    "a wildcard": ("a.example.com", server("*.example.com")),
    "an internationalised name": ("bücher.example", server("xn--bcher-kva.example")),
    "one of many names": ("c.example", server("a.example", "b.example", "c.example")),
    "a certificate of an intermediate": ("localhost", server(issuer="intermediate")),
}


@pytest.mark.parametrize(("host", "issued"), GOOD.values(), ids=GOOD)
async def test_a_good_certificate_is_accepted(host: str, issued: Issued) -> None:
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        with presenting(issued).wrap_socket(sock, server_side=True) as secure:
            received.append(secure.recv(100))

    async with scripted(script) as address:
        port = address.rpartition(":")[2]
        async with visitor().connect(f"{host}:{port}", secureTransport="on") as secure:
            await secure.writable.getWriter().write(b"hello")
            info = secure.tls_info()
            assert info is not None
            assert info.verified
            assert info.certificates[0] == issued.der
    assert received == [b"hello"]


EXPIRED = server(start_days=-9, end_days=-1)
BAD = {
    "an unknown authority": ("localhost", server(issuer="other")),
    "no authority": ("localhost", server(issuer="self")),
    "expired": ("localhost", EXPIRED),
    "not valid yet": ("localhost", server(start_days=5)),
    "for another name": ("localhost", server("example.com")),
    "for a name that ends in ours": ("localhost", server("not.localhost")),
    "a wildcard for the name itself": ("example.com", server("*.example.com")),
    "a wildcard two levels up": ("a.b.example.com", server("*.example.com")),
    "a wildcard for a part of a label": ("foo.example.com", server("f*.example.com")),
    "a wildcard for everything": ("localhost", server("*")),
    "a wildcard in the middle": ("a.b.example.com", server("a.*.example.com")),
    "only a common name": ("localhost", server(NO_NAMES, subject="localhost")),
    "another address": ("127.0.0.1", server("127.0.0.2")),
    "an address as a name": ("127.0.0.1", server(x509.DNSName("127.0.0.1"))),
    "a name with a NUL": (
        "localhost",
        server(x509.DNSName("localhost\0.evil.example")),
    ),
    "a name with a list": (
        "localhost",
        server(x509.DNSName("evil.example, DNS:localhost")),
    ),
    "a name as a URI": (
        "localhost",
        server(x509.UniformResourceIdentifier("https://localhost")),
    ),
    "an address in six bytes": (
        "127.0.0.1",
        server(x509.IPAddress(ipaddress.IPv6Address("::ffff:127.0.0.1"))),
    ),
    "a client's": ("localhost", client()),
    "without its intermediate": (
        "localhost",
        attrs.evolve(server(issuer="intermediate"), above=()),
    ),
}


@pytest.mark.parametrize(("host", "issued"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_bad_certificate_is_refused_and_nothing_is_sent(
    host: str, issued: Issued, version: str
) -> None:
    reasons: list[str] = []

    def script(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError) as caught:
            presenting(issued).wrap_socket(sock, server_side=True)
        reasons.append(str(caught.value))

    async with scripted(script) as address:
        port = address.rpartition(":")[2]
        secure = visitor(minVersion=version, maxVersion=version).connect(
            f"{host}:{port}", secureTransport="on"
        )
        writer = secure.writable.getWriter()
        reader = secure.readable.getReader()
        lost = writer.write(b"a secret")
        with pytest.raises(SocketError) as caught:
            await secure.opened
        error = caught.value
        assert error.code == "tls-verify"
        assert error.certificates[0] == issued.der
        with pytest.raises(SocketError) as again:
            await secure.closed
        assert again.value is error
        with pytest.raises(SocketError) as again:
            await lost
        assert again.value is error
        assert await reader.read() == (None, True)
    # The server hears why, in the handshake, and nothing else.
    (reason,) = reasons
    assert "ALERT" in reason


@pytest.mark.parametrize(
    ("issued", "text"),
    [
        (EXPIRED, "expired"),
        (server(issuer="other"), "issuer"),
        (server(issuer="self"), "self-signed"),
        (server("example.com"), "localhost"),
    ],
)
async def test_the_error_says_what_is_wrong(issued: Issued, text: str) -> None:
    def script(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            presenting(issued).wrap_socket(sock, server_side=True)

    async with scripted(script) as address:
        port = address.rpartition(":")[2]
        secure = visitor().connect(f"localhost:{port}", secureTransport="on")
        with pytest.raises(SocketError, match=text):
            await secure.opened


@pytest.mark.parametrize("name", ["expired", "no authority", "for another name"])
async def test_who_verifies_nothing_is_told_so(name: str) -> None:
    host, issued = BAD[name]

    def script(sock: socket.socket) -> None:
        with presenting(issued).wrap_socket(sock, server_side=True) as secure:
            assert secure.recv(100) == b"hello"

    async with scripted(script) as address:
        port = address.rpartition(":")[2]
        careless = Binding(tls=TlsOptions(verify="none"), resolver=nowhere_else)
        async with careless.connect(f"{host}:{port}", secureTransport="on") as secure:
            await secure.writable.getWriter().write(b"hello")
            info = secure.tls_info()
            assert info is not None
            assert not info.verified
            assert info.certificates[0] == issued.der


async def test_sni_is_what_is_verified() -> None:
    def script(sock: socket.socket) -> None:
        with presenting(server("inside.example")).wrap_socket(
            sock, server_side=True
        ) as secure:
            assert secure.recv(100) == b"hello"

    async with scripted(script) as address:
        async with visitor().connect(
            address, secureTransport="on", sni="inside.example"
        ) as secure:
            await secure.writable.getWriter().write(b"hello")
