"""Handshakes with `openssl s_server`, which tells what it has negotiated."""

from __future__ import annotations

import pytest

from tests import certificates
from tests.loopback import binding
from wsockets import Binding, SocketError, TlsOptions

from .openssl import s_server

pytestmark = pytest.mark.every_loop

KEY = bytes(range(32))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_both_versions_are_spoken(version: str) -> None:
    option = f"-tls{version.replace('.', '_')}"
    async with s_server(option) as (server, address):
        async with binding().connect(address, secureTransport="on") as socket:
            info = socket.tls_info()
            assert info is not None
            assert info.protocol == f"TLSv{version}"
            await socket.writable.getWriter().write("from here\n")
            await server.says("from here\n")
            await server.type("from there\n")
            value, done = await socket.readable.getReader().read()
            assert (value, done) == (b"from there\n", False)
        said = await server.says(r"CIPHER is (\S+)")
        assert info.cipher == said[1].decode()


@pytest.mark.parametrize(
    ("members", "arguments", "code", "text"),
    [
        ({"minVersion": "1.3"}, ["-tls1_2"], "tls-alert", "protocol_version"),
        ({"maxVersion": "1.2"}, ["-tls1_3"], "tls-alert", "protocol_version"),
        (
            {"maxVersion": "1.2", "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
            ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
            "tls-alert",
            "handshake_failure",
        ),
        (
            {},
            ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            "tls-alert",
            "protocol_version",
        ),
    ],
)
async def test_a_version_or_cipher_that_is_not_shared_is_named(
    members: dict[str, str], arguments: list[str], code: str, text: str
) -> None:
    async with s_server(*arguments) as (_, address):
        socket = binding(**members).connect(address, secureTransport="on")
        with pytest.raises(SocketError, match=text) as caught:
            await socket.opened
        assert caught.value.code == code
        with pytest.raises(SocketError) as again:
            await socket.closed
        assert again.value is caught.value


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_client_certificate_is_shown_where_it_is_required(version: str) -> None:
    authority = certificates.authority().files().cert
    wants = ["-Verify", "1", "-verify_return_error", "-CAfile", str(authority)]
    known = certificates.client(subject="Ada")
    async with s_server(version, *wants) as (server, address):
        able = binding(cert=known.chain, key=known.key)
        async with able.connect(address, secureTransport="on") as socket:
            await socket.writable.getWriter().write("hello\n")
            await server.says("hello\n")
        assert b"CN = Ada" in server.said
        assert b"verify return:1" in server.said


async def _refusal_of(certificate: certificates.Issued | None, version: str) -> str:
    """The alert of a server that does not like our certificate."""
    authority = certificates.authority().files().cert
    wants = ["-Verify", "1", "-verify_return_error", "-CAfile", str(authority)]
    shown = binding()
    if certificate is not None:
        shown = binding(cert=certificate.chain, key=certificate.key)
    async with s_server(version, *wants) as (_, address):
        socket = shown.connect(address, secureTransport="on")
        reader = socket.readable.getReader()
        if version == "-tls1_3":
            # The client is done before the server has judged it, and hears of
            # that when it reads.
            await socket.opened
            with pytest.raises(SocketError) as caught:
                await reader.read()
            await socket.closed
        else:
            with pytest.raises(SocketError) as caught:
                await socket.opened
            with pytest.raises(SocketError):
                await socket.closed
    assert caught.value.code == "tls-alert"
    return str(caught.value)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_client_certificate_of_a_stranger_is_refused(version: str) -> None:
    assert "unknown_ca" in await _refusal_of(certificates.client("other"), version)


async def test_a_missing_client_certificate_is_refused() -> None:
    assert "certificate_required" in await _refusal_of(None, "-tls1_3")
    assert "handshake_failure" in await _refusal_of(None, "-tls1_2")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_pre_shared_key_takes_the_place_of_certificates(version: str) -> None:
    arguments = ["-psk", KEY.hex(), "-psk_identity", "sensor-7", "-nocert"]
    both = Binding(tls=TlsOptions(psk=(b"sensor-7", KEY)))
    async with (
        s_server(version, *arguments) as (server, address),
        both.connect(address, secureTransport="on") as socket,
    ):
        info = socket.tls_info()
        assert info is not None
        assert not info.certificates
        await socket.writable.getWriter().write("21.5\n")
        await server.says(r"21\.5\n")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_wrong_pre_shared_key_is_refused_and_not_told(version: str) -> None:
    arguments = ["-psk", KEY.hex(), "-psk_identity", "sensor-7", "-nocert"]
    wrong = bytes(32)
    other = Binding(tls=TlsOptions(psk=(b"sensor-7", wrong)))
    async with s_server(version, *arguments) as (_, address):
        socket = other.connect(address, secureTransport="on")
        with pytest.raises(SocketError) as caught:
            await socket.opened
        assert caught.value.code == "tls-alert"
        assert wrong.hex() not in repr(caught.value)
        assert repr(wrong) not in repr(caught.value)


async def test_the_protocol_that_the_server_prefers_is_negotiated() -> None:
    async with s_server("-alpn", "two,one") as (server, address):
        async with binding().connect(
            address, secureTransport="on", alpn=["one", "two"]
        ) as socket:
            assert (await socket.opened).alpn == "two"
        await server.says("ALPN protocols selected: two")


async def test_a_server_that_speaks_none_of_our_protocols_refuses() -> None:
    async with s_server("-alpn", "two") as (_, address):
        socket = binding().connect(address, secureTransport="on", alpn=["one"])
        with pytest.raises(SocketError, match="no_application_protocol") as caught:
            await socket.opened
        assert caught.value.code == "tls-alert"


async def test_a_server_that_knows_nothing_of_protocols_will_do_or_not() -> None:
    async with s_server() as (_, address):
        async with binding().connect(
            address, secureTransport="on", alpn=["one"]
        ) as socket:
            assert (await socket.opened).alpn is None
        socket = binding().connect(
            address, secureTransport="on", alpn=["one"], alpnRequired=True
        )
        with pytest.raises(SocketError) as caught:
            await socket.opened
        assert caught.value.code == "alpn"


async def test_the_server_is_told_the_name() -> None:
    async with s_server("-tlsextdebug") as (server, address):
        port = address.rpartition(":")[2]
        async with binding().connect(f"localhost:{port}", secureTransport="on"):
            pass
        await server.says(r'"server name" \(id=0\)[\s\S]*localhost')


async def test_the_server_is_told_no_numeric_address() -> None:
    async with s_server("-tlsextdebug") as (server, address):
        async with binding().connect(address, secureTransport="on"):
            pass
        await server.says("CIPHER is")
        assert b"server name" not in server.said
