"""What a proxy announces, and whom a server believes."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import certificates, loops
from tests.loopback import Secure, binding
from tests.naming import named
from tests.servers.program import folder
from tests.serving import identity, plain, served, take
from wsockets import ServerSocket, ServerStats, Socket, SocketError

pytestmark = pytest.mark.every_loop

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12 + 5)
    + bytes([192, 0, 2, 8, 198, 51, 100, 1])
    + struct.pack("!HH", 4712, 443)
    + b"\x01\0\x02h2"
)
PROXIED: dict[str, Any] = {"proxyProtocol": True, "trustedProxies": ["127.0.0.0/8"]}


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("proxied") as found:
        yield found / "socket"


def client_over(sock: socket.socket, secure: Secure) -> Socket:
    """A client of ours over a connection that a proxy's header has gone through."""
    members: dict[str, Any] = {"hostname": "localhost"} if secure == "on" else {}
    return binding().adopt(sock, secureTransport=secure, **members)


async def ends(server: ServerSocket, sock: socket.socket, failed: int) -> None:
    with loops.fail_after(20):
        while server.stats.failed < failed:
            await loops.checkpoint()
    sock.settimeout(10)
    with pytest.raises(ConnectionResetError):
        if sock.recv(1) == b"":
            raise ConnectionResetError


@pytest.mark.parametrize(
    ("header", "address"),
    [(HEADER, "192.0.2.7:4711"), (V2, "192.0.2.8:4712")],
    ids=["1", "2"],
)
async def test_a_trusted_proxy_says_who_it_is_for(
    secure: Secure, header: bytes, address: str
) -> None:
    async with served(secure, **PROXIED) as server:
        sock = plain(server)
        sock.sendall(header)
        client = client_over(sock, secure)
        found = await take(server)
        info = await found.opened
        assert info.remoteAddress == address
        assert info.localAddress == server.localAddress
        await client.writable.getWriter().write("hello")
        assert (await found.readable.getReader().read()).value == b"hello"
        await client.close()
        await found.close()


@pytest.mark.parametrize("header", [HEADER, V2], ids=["1", "2"])
async def test_what_follows_in_the_same_segment_is_the_connections(
    header: bytes,
) -> None:
    async with served(**PROXIED) as server:
        for size in (1, 7, len(header) + 3):
            with plain(server) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                data = header + b"hello"
                for start in range(0, len(data), size):
                    sock.sendall(data[start : start + size])
                    await loops.checkpoint()
                found = await take(server)
                assert (await found.opened).remoteAddress != sock.getsockname()
                reader = found.readable.getReader(mode="byob")
                got = await reader.read(bytearray(5), min=5)
                assert bytes(got.value) == b"hello"
                await found.close()


async def test_a_header_and_a_hello_may_come_in_one_segment() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cadata=certificates.authority().pem)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    async with served("on", **PROXIED) as server:
        with plain(server) as sock:
            sock.sendall(V2 + outgoing.read())
            while True:
                incoming.write(await loops.in_thread(sock.recv, 65536))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            sock.sendall(outgoing.read())
            found = await take(server)
            assert (await found.opened).remoteAddress == "192.0.2.8:4712"
            found.close("done")


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["2", "1"])
async def test_a_proxy_that_speaks_for_itself_is_the_peer(
    secure: Secure, header: bytes
) -> None:
    async with served(secure, **PROXIED) as server:
        sock = plain(server)
        host, port = sock.getsockname()
        sock.sendall(header)
        client = client_over(sock, secure)
        found = await take(server)
        assert (await found.opened).remoteAddress == f"{host}:{port}"
        await client.opened
        await client.close()
        await found.close()


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x03\x01\xff\xff",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=named,
)
async def test_a_header_that_is_none_ends_the_connection(
    secure: Secure, header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wsockets")
    async with served(secure, **PROXIED) as server:
        with plain(server) as sock:
            sock.sendall(header)
            await ends(server, sock, 1)
        assert server.stats == ServerStats(1, 1, 0, 0)
    assert "PROXY header is malformed" in caplog.text


@pytest.mark.parametrize("header", [b"", HEADER[:-1], V2[:-1], V2[:5]], ids=named)
async def test_a_header_has_to_come_in_time_and_whole(
    secure: Secure, header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wsockets")
    async with served(secure, **PROXIED, handshakeTimeout=0.1) as server:
        with plain(server) as sock:
            sock.sendall(header)
            await ends(server, sock, 1)
    assert "PROXY header was not complete after 0.1 s" in caplog.text
    caplog.clear()
    async with served(secure, **PROXIED) as server:
        with plain(server) as sock:
            sock.sendall(header)
            sock.shutdown(socket.SHUT_WR)
            await ends(server, sock, 1)
    assert "within its PROXY header" in caplog.text


async def test_a_proxy_that_resets_is_no_ones_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "wsockets")
    async with served(**PROXIED) as server:
        with plain(server) as sock:
            sock.sendall(HEADER[:5])
            while server.stats.handshaking < 1:
                await loops.checkpoint()
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        with loops.fail_after(10):
            while server.stats.failed < 1:
                await loops.checkpoint()
    assert "could not receive the PROXY header" in caplog.text


async def test_a_slow_proxy_holds_up_nobody() -> None:
    async with served(**PROXIED) as server:
        with plain(server), plain(server) as quick:
            quick.sendall(HEADER)
            found = await take(server)
            assert server.stats.handshaking == 1
            await found.close()


async def test_a_peer_that_is_not_trusted_is_who_it_is() -> None:
    members = {**PROXIED, "trustedProxies": ["192.0.2.0/24", "::1"]}
    async with served(**members) as server:
        with plain(server) as sock:
            host, port = sock.getsockname()
            sock.sendall(HEADER)
            found = await take(server)
            assert (await found.opened).remoteAddress == f"{host}:{port}"
            # Its header is data like any other,
            assert (await found.readable.getReader().read()).value == HEADER
            await found.close()
    async with served("on", **members) as server:
        with plain(server) as sock:
            # which is no ClientHello.
            sock.sendall(HEADER)
            with loops.fail_after(10):
                while server.stats.failed < 1:
                    await loops.checkpoint()


async def test_without_the_option_there_is_no_header() -> None:
    async with served() as server:
        with plain(server) as sock:
            sock.sendall(HEADER)
            found = await take(server)
            assert (await found.readable.getReader().read()).value == HEADER
            await found.close()


async def test_a_trusted_proxy_may_be_at_a_unix_socket(path: Path) -> None:
    async with served(
        address=f"unix:{path}", proxyProtocol=True, trustedProxies=["unix:"]
    ) as server:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(HEADER + b"hello")
            found = await take(server)
            assert (await found.opened).remoteAddress == "192.0.2.7:4711"
            assert (await found.readable.getReader().read()).value == b"hello"
            await found.close()


async def test_an_announced_address_outlives_an_upgrade() -> None:
    members = {"secureTransport": "starttls", **identity(), **PROXIED}
    async with served(**members) as server:
        sock = plain(server)
        sock.sendall(HEADER)
        found = await take(server)
        client = binding().adopt(sock, secureTransport="on", hostname="localhost")
        secure = found.startTls()
        assert (await secure.opened).remoteAddress == "192.0.2.7:4711"
        await client.opened
        await client.close()
        await secure.close()


async def test_closing_gives_up_a_header_that_is_awaited(secure: Secure) -> None:
    async with served(secure, **PROXIED) as server:
        with plain(server) as sock:
            sock.sendall(HEADER[:10])
            while server.stats.handshaking < 1:
                await loops.checkpoint()
            await server.close("enough")
            await ends(server, sock, 1)


async def test_a_header_that_is_complete_when_all_is_given_up_is_dropped() -> None:
    async with served(**PROXIED) as server:
        with plain(server) as sock:
            sock.sendall(HEADER)
            while server.stats.accepted < 1:
                await loops.checkpoint()
            await server.close("enough")
            while server.stats.handshaking:
                await loops.checkpoint()
            sock.settimeout(10)
            with pytest.raises(ConnectionResetError):
                if sock.recv(1) == b"":
                    raise ConnectionResetError


async def test_a_connection_that_is_broken_already_is_delivered_and_tells() -> None:
    async with served() as server:
        with plain(server) as sock:
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        found = await take(server)
        assert (await found.opened).remoteAddress is None
        with pytest.raises(SocketError) as caught:
            await found.readable.getReader().read()
        assert caught.value.code == "reset"
