"""The server's side of a handshake, with clients that do it badly."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests import certificates
from wsockets import Socket, SocketError, adopt

from .peers import end, scripted, to_the_end, visiting
from .records import DATA, in_the_clear, message

pytestmark = pytest.mark.every_loop


def visited(address: str, **members: object) -> Socket:
    issued = certificates.server()
    host, _, port = address.rpartition(":")
    return adopt(
        socket.create_connection((host, int(port))),
        {
            "secureTransport": "on",
            "role": "server",
            "cert": issued.chain,
            "key": issued.key,
            **members,
        },
    )


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:443 HTTP/1.1\r\n\r\n",
        bytes(64),
        message(1, bytes(40)),
        message(2, bytes(40)),
        b"\x16\x03\x01\xff\xff" + bytes(100),
        b"\x80\x2e\x01\x00\x02" + bytes(44),
        in_the_clear(DATA, b"early"),
    ],
)
async def test_a_client_that_speaks_no_tls_is_refused(hello: bytes) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(hello)
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        secure = visited(address)
        with pytest.raises(SocketError) as caught:
            await secure.opened
        assert caught.value.code == "tls"
        with pytest.raises(SocketError) as again:
            await secure.closed
        assert again.value is caught.value


async def test_a_hello_of_a_client_may_come_byte_by_byte() -> None:
    def script(sock: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = visiting().wrap_bio(incoming, outgoing, server_hostname="localhost")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                incoming.write(sock.recv(65536))
        client.write(b"hello")
        sock.sendall(outgoing.read())
        to_the_end(sock)

    async with scripted(script) as address:
        async with visited(address) as secure:
            assert (await secure.readable.getReader().read()).value == b"hello"


async def test_a_silent_client_is_given_up_after_the_handshake_timeout() -> None:
    def script(sock: socket.socket) -> None:
        assert to_the_end(sock) == b""

    async with scripted(script) as address:
        secure = visited(address, handshakeTimeout=0.2)
        with pytest.raises(SocketError) as caught:
            await secure.opened
        assert caught.value.code == "timeout"
