"""The server's side of TLS on an adopted connection: `openssl s_client` talks to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import certificates
from tests.loopback import listening
from wsockets import Binding, Socket, SocketError, TlsOptions

from .openssl import Program, s_client

pytestmark = pytest.mark.every_loop

KEY = bytes(range(32))


@contextlib.asynccontextmanager
async def visited(
    *arguments: str, tls: TlsOptions | None = None, **members: Any
) -> AsyncIterator[tuple[Socket, Program]]:
    """A socket that is a server's, with s_client at the other end."""
    if tls is None:
        issued = certificates.server()
        tls = TlsOptions(cert=issued.chain, key=issued.key)
    root = certificates.authority().files().cert
    async with (
        listening() as (listener, port),
        s_client(port, "-CAfile", str(root), *arguments) as client,
    ):
        stream = await listener.accept()
        socket = Binding(tls=tls).adopt(
            stream.socket.detach(), secureTransport="on", role="server", **members
        )
        yield socket, client
        socket.close()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_openssl_talks_to_a_server_socket(version: str) -> None:
    option = f"-tls{version.replace('.', '_')}"
    async with visited(option) as (socket, client):
        await socket.opened
        await client.says("Verification: OK")
        await client.says(rf"New, TLSv{version}, Cipher is")
        await socket.writable.getWriter().write("from the server\n")
        await client.says("from the server\n")
        await client.type("from the client\n")
        reader = socket.readable.getReader()
        assert (await reader.read()).value == b"from the client\n"
        await client.type("Q\n")
        assert await reader.read() == (None, True)


async def test_the_servers_preferred_protocol_is_negotiated() -> None:
    async with visited("-alpn", "one,two", alpn=["two", "one"]) as (socket, client):
        assert (await socket.opened).alpn == "two"
        await client.says("ALPN protocol: two")


async def test_a_client_that_speaks_none_of_our_protocols_is_refused() -> None:
    async with visited("-alpn", "three", alpn=["two", "one"]) as (socket, client):
        with pytest.raises(SocketError) as caught:
            await socket.opened
        assert caught.value.code == "alpn"
        await client.says("no application protocol")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_client_certificate_is_required_where_there_is_a_ca(
    version: str,
) -> None:
    known = certificates.client(subject="Ada")
    shown = known.files()
    issued = certificates.server()
    asks = TlsOptions(
        cert=issued.chain, key=issued.key, ca=certificates.authority().pem
    )
    identity = ["-cert", str(shown.cert), "-key", str(shown.key)]
    async with visited(version, *identity, tls=asks) as (socket, _):
        await socket.opened
        info = socket.tls_info()
        assert info is not None
        assert info.certificates[0] == known.der
        assert info.verified

    stranger = certificates.client("other").files()
    identity = ["-cert", str(stranger.cert), "-key", str(stranger.key)]
    async with visited(version, *identity, tls=asks) as (socket, client):
        with pytest.raises(SocketError) as caught:
            await socket.opened
        assert caught.value.code == "tls-verify"
        assert caught.value.certificates
        await client.says("unknown ca")

    async with visited(version, tls=asks) as (socket, client):
        with pytest.raises(SocketError, match="no certificate"):
            await socket.opened
        await client.says(
            "certificate required" if version == "-tls1_3" else "handshake failure"
        )


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_pre_shared_key_is_looked_up_by_its_identity(version: str) -> None:
    keys = TlsOptions(psk={b"sensor-7": KEY}.get)
    known = ["-psk", KEY.hex(), "-psk_identity", "sensor-7"]
    async with visited(version, *known, tls=keys) as (socket, client):
        await socket.opened
        await client.type("21.5\n")
        value, _ = await socket.readable.getReader().read()
        assert value == b"21.5\n"

    for wrong in (
        ["-psk", KEY.hex(), "-psk_identity", "sensor-8"],
        ["-psk", bytes(32).hex(), "-psk_identity", "sensor-7"],
    ):
        async with visited(version, *wrong, tls=keys) as (socket, _):
            with pytest.raises(SocketError) as caught:
                await socket.opened
            assert KEY.hex() not in repr(caught.value)


async def test_a_client_that_renegotiates_is_refused() -> None:
    async with visited("-tls1_2") as (socket, client):
        await socket.opened
        reader = socket.readable.getReader()
        await client.type("hello\n")
        assert (await reader.read()).value == b"hello\n"
        await client.type("R\n")
        with pytest.raises(SocketError):
            await reader.read()
        await socket.closed
        await client.says("no renegotiation|handshake failure")


@pytest.mark.parametrize("command", ["k", "K"])
async def test_a_client_may_update_its_keys(command: str) -> None:
    async with visited("-tls1_3", "-msg") as (socket, client):
        await socket.opened
        reader = socket.readable.getReader()
        writer = socket.writable.getWriter()
        for _ in range(3):
            await client.type(f"{command}\n")
            await client.says(">>> TLS 1.3, Handshake .*, KeyUpdate")
            client.said.clear()
            await client.type("hello\n")
            assert (await reader.read()).value == b"hello\n"
            await writer.write("and hello\n")
            await client.says("and hello\n")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_client_resumes_its_session(version: str, tmp_path: Path) -> None:
    issued = certificates.server()
    # Sessions are resumed by the options that made them.
    tls = TlsOptions(cert=issued.chain, key=issued.key)
    kept = tmp_path / "session"
    async with visited(version, "-sess_out", str(kept), tls=tls) as (socket, client):
        await socket.opened
        await socket.writable.getWriter().write("hello\n")
        await client.says("hello\n")
        info = socket.tls_info()
        assert info is not None
        assert not info.resumed
        await client.type("Q\n")
        await client.ends()
    async with visited(version, "-sess_in", str(kept), tls=tls) as (socket, client):
        await socket.opened
        info = socket.tls_info()
        assert info is not None
        assert info.resumed
        await client.says("Reused, TLS")
