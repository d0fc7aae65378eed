"""A listener of ours, visited by curl and `openssl s_client`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests import certificates, loops
from tests.loopback import Secure
from tests.serving import identity, port_of, served, take
from wsockets import ServerSocket, Socket, TlsOptions, listen

from .openssl import Program, s_client

pytestmark = pytest.mark.every_loop

ROOT = certificates.authority()
KEY = bytes(range(32))
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n"
    b"X-Protocol: %s\r\n\r\n%s"
)


# -- curl


async def answer(socket: Socket) -> None:
    """One request and its answer, which tells the server name."""
    async with socket:
        head = b""
        reader = socket.readable.getReader()
        while not head.endswith(b"\r\n\r\n"):
            value, done = await reader.read()
            if done:
                break
            head += value
        info = await socket.opened
        tls = socket.tls_info()
        name = (tls and tls.server_name) or "nobody"
        body = f"hello {name}\n".encode() * 1000
        protocol = (info.alpn or "none").encode()
        # A client that did not like our certificate has left.
        with contextlib.suppress(TypeError):
            await socket.writable.getWriter().write(
                ANSWER % (len(body), protocol, body)
            )


@contextlib.asynccontextmanager
async def answering(server: ServerSocket) -> AsyncIterator[None]:
    """Serve everybody who comes."""

    async def serve() -> None:
        async for socket in server:
            nursery.start_soon(answer, socket)

    async with loops.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield
        nursery.cancel_scope.cancel()


async def curl(program: str, *arguments: object) -> tuple[int, str, str]:
    """Its exit code and what it wrote; it knows the tests' authority."""
    done = await loops.run_process(
        [
            *(program, "-sS", "--max-time", "20", "--noproxy", "*"),
            *("--cacert", str(ROOT.files().cert)),
            *map(str, arguments),
        ],
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def program(peer: Callable[[str], str]) -> str:
    return peer("curl")


async def test_curl_gets_a_page(secure: Secure, program: str) -> None:
    scheme, name = ("https", "localhost") if secure == "on" else ("http", "nobody")
    async with served(secure) as server, answering(server):
        url = f"{scheme}://localhost:{port_of(server)}/"
        status, said, _ = await curl(program, url)
    assert status == 0
    assert said == f"hello {name}\n" * 1000


async def test_curl_agrees_on_a_protocol(program: str) -> None:
    async with served("on", alpn=["http/1.1"]) as server, answering(server):
        url = f"https://localhost:{port_of(server)}/"
        status, said, _ = await curl(program, "--http2", "-D", "-", url)
        assert status == 0
        assert "X-Protocol: http/1.1" in said
    async with served("on", alpn=["smtp"]) as server, answering(server):
        url = f"https://localhost:{port_of(server)}/"
        status, _, complaint = await curl(program, url)
        assert status == 35
        assert "no application protocol" in complaint


async def test_curl_finds_the_certificate_of_a_name(program: str) -> None:
    www = certificates.server("www.example.com")
    contexts = {"www.example.com": TlsOptions(**identity(www))}
    async with served("on", sniContexts=contexts) as server, answering(server):
        port = port_of(server)
        for name, expected in (("www.example.com", 0), ("other.example.com", 60)):
            status, said, _ = await curl(
                program,
                *("--resolve", f"{name}:{port}:127.0.0.1"),
                f"https://{name}:{port}/",
            )
            assert status == expected
            if not expected:
                assert said.startswith("hello www.example.com\n")


async def test_curl_shows_its_certificate(program: str) -> None:
    known = certificates.client().files()
    async with served("on", clientCa=ROOT.pem) as server, answering(server):
        url = f"https://localhost:{port_of(server)}/"
        status, _, _ = await curl(
            program, "--cert", known.cert, "--key", known.key, url
        )
        assert status == 0
        status, _, complaint = await curl(program, url)
        assert status != 0
        assert "certificate required" in complaint


async def test_curl_comes_through_a_proxy(program: str) -> None:
    members: dict[str, Any] = {
        "proxyProtocol": True,
        "trustedProxies": ["127.0.0.0/8"],
    }
    seen = []
    async with served("on", **members) as server:

        async def serve() -> None:
            socket = await take(server)
            seen.append((await socket.opened).remoteAddress)
            await answer(socket)

        async with loops.open_nursery() as nursery:
            nursery.start_soon(serve)
            url = f"https://localhost:{port_of(server)}/"
            status, _, _ = await curl(program, "--haproxy-clientip", "192.0.2.9", url)
            if status == 2:  # an old one without this option
                status, _, _ = await curl(program, "--haproxy-protocol", url)
    assert status == 0
    assert len(seen) == 1


async def test_curl_reaches_a_unix_socket(program: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(address=f"unix:{path}") as server, answering(server):
        status, said, _ = await curl(
            program, "--unix-socket", path, "http://localhost/"
        )
    assert status == 0
    assert said.startswith("hello")


# -- openssl


@contextlib.asynccontextmanager
async def visited(
    *arguments: str, **members: Any
) -> AsyncIterator[tuple[ServerSocket, Program]]:
    """A server with s_client at the other end."""
    if "psk" not in members:
        members = {**identity(), **members}
    root = str(ROOT.files().cert)
    async with listen("127.0.0.1:0", secureTransport="on", **members) as server:
        async with s_client(port_of(server), "-CAfile", root, *arguments) as client:
            with loops.fail_after(20):
                yield server, client


async def talk(server: ServerSocket, client: Program) -> Socket:
    """A word each way; the server's socket."""
    socket = await take(server)
    await socket.writable.getWriter().write("from the server\n")
    await client.says("from the server\n")
    await client.type("from the client\n")
    value, _ = await socket.readable.getReader().read()
    assert value == b"from the client\n"
    return socket


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_openssl_talks_to_it_in_either_version(version: str) -> None:
    option = f"-tls{version.replace('.', '_')}"
    async with visited(option) as (server, client):
        socket = await talk(server, client)
        await client.says("Verification: OK")
        await client.says(rf"New, TLSv{version}, Cipher is")
        await socket.close()
        await client.ends()


@pytest.mark.parametrize(
    ("allowed", "offered", "word"),
    [
        ({"minVersion": "1.3"}, "-tls1_2", "protocol version"),
        ({"maxVersion": "1.2"}, "-tls1_3", "protocol version"),
    ],
)
async def test_a_version_that_is_not_spoken_is_refused(
    allowed: Any, offered: str, word: str
) -> None:
    async with visited(offered, **allowed) as (server, client):
        await client.says(word)
        await client.ends()
        while server.stats.handshaking:
            await loops.checkpoint()
        assert server.stats.waiting == 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_asks_for_names(version: str) -> None:
    www = certificates.server("www.example.com", subject="www")
    contexts = {"*.example.com": TlsOptions(**identity(www))}
    for name, subject in (("www.example.com", "www"), ("www.example.org", "a server")):
        async with visited(version, "-servername", name, sniContexts=contexts) as (
            server,
            client,
        ):
            socket = await talk(server, client)
            await client.says(rf"subject=.*CN ?= ?{subject}")
            await socket.close()
    async with visited(version, "-noservername", sniContexts=contexts) as (
        server,
        client,
    ):
        socket = await talk(server, client)
        await client.says(r"subject=.*CN ?= ?a server")
        await socket.close()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_the_servers_protocol_wins_and_none_is_fatal(version: str) -> None:
    async with visited(version, "-alpn", "one,two", alpn=["two", "one"]) as (
        server,
        client,
    ):
        socket = await talk(server, client)
        await client.says("ALPN protocol: two")
        await socket.close()
    async with visited(version, "-alpn", "three", alpn=["two", "one"]) as (_, client):
        await client.says("no application protocol")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_shows_its_certificate(version: str) -> None:
    known = certificates.client().files()
    shown = ["-cert", str(known.cert), "-key", str(known.key)]
    async with visited(version, *shown, clientCa=ROOT.pem) as (server, client):
        socket = await talk(server, client)
        info = socket.tls_info()
        assert info is not None
        assert info.verified
        await client.says("Acceptable client certificate CA names")
        await socket.close()
    async with visited(version, clientCa=ROOT.pem) as (_, client):
        await client.says("certificate required|handshake failure")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_knows_a_key(version: str) -> None:
    keys = {b"sensor-7": KEY}
    known = ["-psk", KEY.hex(), "-psk_identity", "sensor-7"]
    async with visited(version, *known, psk=keys.get) as (server, client):
        await (await talk(server, client)).close()
    wrong = ["-psk", bytes(32).hex(), "-psk_identity", "sensor-7"]
    async with visited(version, *wrong, psk=keys.get) as (server, client):
        await client.ends()
        while server.stats.failed < 1:
            await loops.checkpoint()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_resumes_its_session(version: str, tmp_path: Path) -> None:
    kept = str(tmp_path / "session")
    root = str(ROOT.files().cert)
    async with served("on") as server:
        for arguments, resumed in (
            (["-sess_out", kept], False),
            (["-sess_in", kept], True),
        ):
            async with s_client(
                port_of(server), "-CAfile", root, version, *arguments
            ) as client:
                socket = await talk(server, client)
                info = socket.tls_info()
                assert info is not None
                assert info.resumed is resumed
                await client.type("Q\n")
                await client.ends()
                await socket.close()
