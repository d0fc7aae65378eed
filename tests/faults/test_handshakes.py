"""Handshakes with peers that speak something else, badly, slowly or not at all."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import threading

import pytest

from tests.loopback import binding
from wsockets import SocketError

from .peers import accepting, end, exactly, happened, scripted, to_the_end
from .records import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    DATA,
    HANDSHAKE,
    Forger,
    in_the_clear,
    message,
)

pytestmark = pytest.mark.every_loop


def server_hello(*, version: int, cipher: int, rest: bytes = b"\0\0") -> bytes:
    """A ServerHello with a fresh random and no session."""
    return message(
        2, struct.pack("!H32sBHB", version, bytes(range(32)), 0, cipher, 0) + rest
    )


async def failure(address: str, **members: object) -> SocketError:
    """How a handshake fails, seen by both promises."""
    secure = binding().connect(address, {"secureTransport": "on", **members})
    writer = secure.writable.getWriter()
    lost = writer.write(b"a secret")
    with pytest.raises(SocketError) as caught:
        await secure.opened
    for promise in (secure.closed, lost, writer.closed):
        with pytest.raises(SocketError) as again:
            await promise
        assert again.value is caught.value
    assert await secure.readable.getReader().read() == (None, True)
    assert "a secret" not in str(caught.value)
    return caught.value


NOT_TLS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "SMTP": b"220 mail.example.com ESMTP\r\n",
    "zeros": bytes(64),
    "the hello of SSL 2": b"\x80\x2e\x01\x00\x02" + bytes(43),
    "a record that is too long": b"\x16\x03\x03\xff\xff" + bytes(100),
    "a record of an unknown kind": in_the_clear(99, bytes(10)),
    "data too early": in_the_clear(DATA, b"GET / HTTP/1.1\r\n\r\n"),
    "a hello of a client": message(1, bytes(100)),
    "an empty message": message(2, b""),
    "a hello of a server that is cut short": message(2, bytes(10)),
    "a Finished at once": message(20, bytes(32)),
    "a hello of TLS 1.0": server_hello(version=0x0301, cipher=0xC02C),
    "a hello of SSL 3": server_hello(version=0x0300, cipher=0xC02C),
    "a hello with a cipher that was not offered": server_hello(
        version=0x0303, cipher=0x0000
    ),
    "a hello with a cipher of another version": server_hello(
        version=0x0303, cipher=0x1302
    ),
    "a hello with extensions that overrun": server_hello(
        version=0x0303, cipher=0xC02C, rest=b"\xff\xff\0\x10"
    ),
}


@pytest.mark.parametrize("answer", NOT_TLS.values(), ids=NOT_TLS)
async def test_what_is_not_tls_fails_the_handshake(answer: bytes) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(answer)
        end(sock)
        heard = to_the_end(sock)
        # A hello, and at most an alert in the clear.
        assert heard[:1] == b"\x16"
        assert len(heard) < 4096

    async with scripted(script) as address:
        error = await failure(address)
        assert error.code == "tls"


async def test_a_web_server_without_tls_is_recognised() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(NOT_TLS["HTTP"])
        to_the_end(sock)

    async with scripted(script) as address:
        error = await failure(address)
        assert "does not speak TLS" in str(error)


@pytest.mark.parametrize(
    ("alert", "name"),
    [
        (40, "handshake_failure"),
        (70, "protocol_version"),
        (80, "internal_error"),
        (112, "unrecognized_name"),
        (120, "no_application_protocol"),
    ],
)
async def test_the_alert_of_the_peer_is_named(alert: int, name: str) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(in_the_clear(ALERT, bytes([2, alert])))
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        error = await failure(address)
        assert error.code == "tls-alert"
        assert name in str(error)


async def test_close_notify_in_the_handshake_is_no_success() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(in_the_clear(ALERT, b"\x01\x00"))
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        assert (await failure(address)).code in ("tls", "tls-alert", "closed")


async def test_a_downgrade_on_the_way_is_noticed() -> None:
    # Somebody hides from the server that the client speaks TLS 1.3. The server
    # leaves a mark in its random (RFC 8446, section 4.1.3).
    def script(sock: socket.socket) -> None:
        header = exactly(sock, 5)
        hello = header + exactly(sock, int.from_bytes(header[3:]))
        supported_versions = b"\x00\x2b\x00"
        assert hello.count(supported_versions) == 1
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = accepting().wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(hello.replace(supported_versions, b"\x4a\x4a\x00"))
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        answer = outgoing.read()
        assert b"DOWNGRD\x01" in answer
        sock.sendall(answer)
        # illegal_parameter
        assert to_the_end(sock)[-2:] == b"\x02\x2f"

    async with scripted(script) as address:
        error = await failure(address)
        assert error.code == "tls"
        assert "downgraded" in str(error)


async def test_random_bytes_fail_the_handshake(rng: random.Random) -> None:
    answers = [rng.randbytes(rng.randrange(6, 2000)) for _ in range(30)]
    # Half of them begin well.
    answers[::2] = [in_the_clear(HANDSHAKE, answer) for answer in answers[::2]]
    waiting = iter(answers)

    def script(sock: socket.socket) -> None:
        sock.sendall(next(waiting))
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        for _ in answers:
            error = await failure(address)
            assert error.code in ("tls", "tls-alert", "truncated", "reset")


async def test_a_handshake_with_any_byte_changed_fails(rng: random.Random) -> None:
    class Changing(socket.socket):
        """A socket that changes one byte of what it sends."""

        left: int

        def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
            if 0 <= self.left < len(data):
                changed = bytearray(data)
                changed[self.left] ^= 1 << rng.randrange(8)
                data = bytes(changed)
            self.left -= len(data)
            super().sendall(data, flags)

    # In the ServerHello's record: what follows it is encrypted.
    places = [*range(0, 100, 9), 150, 300, 500, 700]
    waiting = iter(places)

    def script(sock: socket.socket) -> None:
        timeout = sock.gettimeout()
        with Changing(fileno=sock.detach()) as changing:
            changing.settimeout(timeout)
            changing.left = next(waiting)
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                Forger(changing)
            end(changing)
            to_the_end(changing)

    async with scripted(script) as address:
        for _ in places:
            await failure(address)


# -- slow


class Trickling(socket.socket):
    """A socket that sends byte by byte, each in a segment of its own."""

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            super().sendall(bytes([byte]), flags)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_handshake_may_come_byte_by_byte(version: str) -> None:
    def script(sock: socket.socket) -> None:
        timeout = sock.gettimeout()
        with Trickling(fileno=sock.detach()) as trickling:
            trickling.settimeout(timeout)
            forger = Forger(trickling, version="1.2" if version == "1.2" else "1.3")
            forger.send(b"and so may the data")
            assert forger.read() == b"thanks"
            forger.end()
            assert forger.read() == b""

    async with scripted(script) as address:
        async with binding().connect(address, secureTransport="on") as secure:
            await secure.writable.getWriter().write(b"thanks")
            data = b""
            async for chunk in secure.readable:
                data += chunk
            assert data == b"and so may the data"


async def test_messages_may_be_cut_into_many_records() -> None:
    # Each record of the ServerHello holds one byte of it.
    class Cutting(socket.socket):
        first = True

        def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
            if self.first:
                self.first = False
                size = 5 + int.from_bytes(data[3:5])
                pieces = [
                    in_the_clear(HANDSHAKE, data[at : at + 1]) for at in range(5, size)
                ]
                data = b"".join(pieces) + data[size:]
            super().sendall(data, flags)

    def script(sock: socket.socket) -> None:
        timeout = sock.gettimeout()
        with Cutting(fileno=sock.detach()) as cutting:
            cutting.settimeout(timeout)
            forger = Forger(cutting)
            forger.send(b"hello")
            assert forger.read() == b""

    async with scripted(script) as address:
        async with binding().connect(address, secureTransport="on") as secure:
            assert (await secure.readable.getReader().read()).value == b"hello"


async def test_a_silent_server_is_given_up_after_the_handshake_timeout() -> None:
    def script(sock: socket.socket) -> None:
        assert to_the_end(sock)

    async with scripted(script) as address:
        error = await failure(address, handshakeTimeout=0.2)
        assert error.code == "timeout"
        assert "handshakeTimeout" in str(error)


async def test_a_server_that_keeps_dripping_is_given_up_as_well() -> None:
    def script(sock: socket.socket) -> None:
        exactly(sock, 100)
        # The header of a record that would be endless at this pace.
        sock.settimeout(0.005)
        with pytest.raises(OSError, match=r"reset|Broken"):
            for byte in in_the_clear(HANDSHAKE, b"\x02\x00\x3f\xff" + bytes(16000)):
                sock.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    while sock.recv(65536):
                        pass

    async with scripted(script) as address:
        error = await failure(address, handshakeTimeout=0.2)
        assert error.code == "timeout"


async def test_a_socket_that_is_closed_in_the_handshake_ends_at_once() -> None:
    said_hello = threading.Event()

    def script(sock: socket.socket) -> None:
        exactly(sock, 100)
        said_hello.set()
        to_the_end(sock)

    async with scripted(script) as address:
        secure = binding().connect(address, secureTransport="on")
        reading = secure.readable.getReader().read()
        writing = secure.writable.getWriter().write(b"a secret")
        await happened(said_hello)
        closed = secure.close()
        assert await reading == (None, True)
        with pytest.raises(SocketError) as caught:
            await secure.opened
        assert caught.value.code == "closed"
        with pytest.raises(SocketError):
            await writing
        await closed


# -- floods within the handshake


async def test_a_flood_of_change_cipher_spec_does_not_go_on_for_ever() -> None:
    sent: list[int] = []

    def script(sock: socket.socket) -> None:
        flood = in_the_clear(CHANGE_CIPHER_SPEC, b"\x01") * 1000
        with pytest.raises(OSError, match=r"reset|Broken|timed out"):
            for number in range(100_000):
                sock.sendall(flood)
                sent.append(number)

    async with scripted(script) as address:
        error = await failure(address, handshakeTimeout=5.0)
        assert error.code == "tls"


async def test_a_flood_of_empty_records_does_not_go_on_for_ever() -> None:
    def script(sock: socket.socket) -> None:
        flood = in_the_clear(HANDSHAKE, b"") * 1000
        with pytest.raises(OSError, match=r"reset|Broken|timed out"):
            while True:
                sock.sendall(flood)

    async with scripted(script) as address:
        error = await failure(address, handshakeTimeout=5.0)
        assert error.code == "tls"


async def test_a_flood_of_warnings_does_not_go_on_for_ever() -> None:
    def script(sock: socket.socket) -> None:
        flood = in_the_clear(ALERT, b"\x01\x5a") * 1000  # user_canceled
        with pytest.raises(OSError, match=r"reset|Broken|timed out"):
            while True:
                sock.sendall(flood)

    async with scripted(script) as address:
        error = await failure(address, handshakeTimeout=5.0)
        assert error.code in ("tls", "tls-alert")


async def test_a_message_that_claims_to_be_huge_is_refused() -> None:
    def script(sock: socket.socket) -> None:
        exactly(sock, 100)
        body = bytes([2, 255, 255, 255]) + bytes(16000)
        with pytest.raises(OSError, match=r"reset|Broken"):
            while True:
                sock.sendall(in_the_clear(HANDSHAKE, body))
                body = bytes(16000)

    async with scripted(script) as address:
        error = await failure(address, handshakeTimeout=5.0)
        assert error.code == "tls"
