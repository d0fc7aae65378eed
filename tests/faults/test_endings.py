"""Connections that end too early, twice, from both sides, or only half."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.loopback import binding
from wsockets import SocketError, connect

from .ends import assert_broken, secure
from .peers import WITHIN, end, exactly, happened, reset, scripted, to_the_end, visiting
from .records import Forger, Version, records_of

pytestmark = pytest.mark.every_loop

# -- resets


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_while_reading_is_raised(tls: bool) -> None:
    reading = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls:
            Forger(sock)
        assert reading.wait(WITHIN)
        reset(sock)

    async with scripted(script) as address:
        socket_ = await secure(address) if tls else connect(address)
        await socket_.opened
        reader = socket_.readable.getReader()
        writer = socket_.writable.getWriter()
        read = reader.read()
        reading.set()
        with pytest.raises(SocketError) as caught:
            await read
        assert caught.value.code == "reset"
        await assert_broken(socket_, caught.value, writer)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_while_writing_is_raised(tls: bool) -> None:
    writing = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls:
            Forger(sock)
        assert writing.wait(WITHIN)
        reset(sock)

    async with scripted(script) as address:
        socket_ = await secure(address) if tls else connect(address)
        await socket_.opened
        writer = socket_.writable.getWriter()
        reader = socket_.readable.getReader()
        written = writer.write(bytes(1 << 26))  # more than the kernel takes
        writing.set()
        with pytest.raises(SocketError) as caught:
            await written
        assert caught.value.code == "reset"
        with pytest.raises(SocketError) as again:
            await reader.read()
        assert again.value is caught.value
        await assert_broken(socket_, caught.value, writer)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_while_closing_resolves_closed(tls: bool) -> None:
    closing = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls:
            Forger(sock)
        assert closing.wait(WITHIN)
        reset(sock)

    async with scripted(script) as address:
        socket_ = await secure(address) if tls else connect(address)
        await socket_.opened
        written = socket_.writable.getWriter().write(bytes(1 << 26))
        closed = socket_.close()
        closing.set()
        await closed
        with pytest.raises(SocketError):
            await written


# -- within the handshake


def flights() -> list[int]:
    """Where to cut what a server says in its handshake: everywhere of interest."""
    context = visiting()
    near, far = socket.socketpair()
    sizes: list[int] = []

    def serve() -> None:
        with near:
            said = bytes(Forger(near).said)
            sizes.extend(len(record) for record in records_of(said))

    thread = threading.Thread(target=serve)
    thread.start()
    with context.wrap_socket(far, server_hostname="localhost") as client:
        client.do_handshake()
    thread.join()
    sums = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    cuts = {0, 1, 5, 6} | {total + near for total in sums for near in (-1, 0, 1)}
    # Signatures vary in length by a few bytes.
    return sorted(cut for cut in cuts if cut < sums[-1] - 8)


class Cut(socket.socket):
    """A socket that sends so many bytes and then its end."""

    left: int
    hard: bool

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        super().sendall(data[: self.left], flags)
        self.left -= len(data)
        if self.left <= 0:
            if self.hard:
                reset(self)
            else:
                end(self)
            raise ConnectionAbortedError("cut")


@pytest.mark.parametrize("hard", [False, True], ids=["FIN", "RST"])
async def test_a_handshake_that_is_cut_off_anywhere_rejects_both_promises(
    hard: bool,
) -> None:
    cuts = flights()
    assert len(cuts) > 10
    waiting = iter(cuts)

    def script(sock: socket.socket) -> None:
        cut = Cut(fileno=sock.detach())
        cut.settimeout(WITHIN)
        cut.left, cut.hard = next(waiting), hard
        with cut:
            with pytest.raises(ConnectionAbortedError):
                Forger(cut)
            if not hard:
                to_the_end(cut)

    async with scripted(script) as address:
        for _ in cuts:
            socket_ = binding().connect(address, secureTransport="on")
            lost = socket_.writable.getWriter().write(b"a secret")
            with pytest.raises(SocketError) as caught:
                await socket_.opened
            assert caught.value.code in ("truncated", "reset")
            with pytest.raises(SocketError) as again:
                await socket_.closed
            assert again.value is caught.value
            with pytest.raises(SocketError):
                await lost


# -- close_notify


@pytest.mark.parametrize("half_open", [False, True])
async def test_what_follows_close_notify_is_not_read(half_open: bool) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        sock.sendall(
            forger.record(b"before")
            + forger.alert(1, 0)
            + forger.record(b"after")
            + forger.alert(1, 0)
            + b"and garbage"
        )
        to_the_end(sock)

    async with scripted(script) as address:
        socket_ = await secure(address, allowHalfOpen=half_open)
        reader = socket_.readable.getReader()
        assert (await reader.read()).value == b"before"
        for _ in range(3):
            assert await reader.read() == (None, True)
        await reader.closed
        await socket_.close()


async def test_an_end_that_was_announced_as_cancelled_is_an_end() -> None:
    # As Java's TLS does it, and RFC 8446, section 6.1, wants it.
    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        forger.send(b"all of it")
        sock.sendall(forger.alert(1, 90) + forger.alert(1, 0))
        to_the_end(sock)

    async with scripted(script) as address:
        socket_ = await secure(address)
        reader = socket_.readable.getReader()
        assert (await reader.read()).value == b"all of it"
        assert await reader.read() == (None, True)
        await socket_.closed


async def test_close_notify_twice_is_one_end() -> None:
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        sock.sendall(forger.alert(1, 0) + forger.alert(1, 0))
        received.append(forger.read())
        received.append(forger.read())

    async with scripted(script) as address:
        socket_ = await secure(address, allowHalfOpen=True)
        assert await socket_.readable.getReader().read() == (None, True)
        await socket_.writable.getWriter().write(b"still here")
        await socket_.close()
    assert received == [b"still here", b""]


async def test_both_ends_close_at_once() -> None:
    closing = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        assert closing.wait(WITHIN)
        forger.end()
        assert forger.read() == b""

    async with scripted(script) as address:
        socket_ = await secure(address)
        closed = socket_.close()
        closing.set()
        await closed


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_with_half_open_the_writable_outlives_the_peers_end(
    version: Version,
) -> None:
    received: list[bytes] = []
    reading_on = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        forger.send(b"the end is near")
        forger.end()
        assert reading_on.wait(WITHIN)
        while data := forger.read():
            received.append(data)

    async with scripted(script) as address:
        socket_ = await secure(address, allowHalfOpen=True)
        reader = socket_.readable.getReader()
        writer = socket_.writable.getWriter()
        assert (await reader.read()).value == b"the end is near"
        assert await reader.read() == (None, True)
        for number in range(5):
            await writer.write(b"%d" % number)
        assert writer.desiredSize == 65536
        await writer.close()
        reading_on.set()
        # Both directions have ended, and still it is the user who closes.
        assert "pending" in repr(socket_.closed)
        await socket_.close()
    assert b"".join(received) == b"01234"


async def test_without_half_open_the_peers_end_closes_the_writable() -> None:
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        forger.end()
        while data := forger.read():
            received.append(data)
        received.append(b"|")

    async with scripted(script) as address:
        socket_ = await secure(address)
        writer = socket_.writable.getWriter()
        await writer.write(b"before")
        # The end has arrived, or not: as nobody has read it, writing is possible.
        await writer.write(b" and after")
        assert await socket_.readable.getReader().read() == (None, True)
        await socket_.closed
        await writer.closed
        with pytest.raises(TypeError):
            await writer.write(b"too late")
    assert b"".join(received) == b"before and after|"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_peer_may_answer_after_our_end(tls: bool) -> None:
    ended = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock) if tls else None
        request = b""
        while data := forger.read() if forger else sock.recv(100):
            request += data
        ended.set()
        if forger:
            forger.send(request * 10000)
            forger.end()
        else:
            sock.sendall(request * 10000)

    async with scripted(script) as address:
        socket_ = await secure(address) if tls else connect(address)
        writer = socket_.writable.getWriter()
        await writer.write(b"a question")
        await writer.close()
        await happened(ended)
        answer = b""
        async for chunk in socket_.readable:
            answer += chunk
        assert answer == b"a question" * 10000
        await socket_.closed


async def test_plain_data_is_read_although_the_peer_has_gone() -> None:
    data = bytes(1 << 18)

    def script(sock: socket.socket) -> None:
        assert exactly(sock, 2) == b"go"
        sock.sendall(data)

    async with scripted(script) as address:
        socket_ = connect(address)
        await socket_.writable.getWriter().write(b"go")
        received = 0
        async for chunk in socket_.readable:
            received += len(chunk)
        assert received == len(data)
        await socket_.closed


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_what_was_written_last_survives_unread_input(tls: bool) -> None:
    # There is input that nobody reads, and more is to come; our close must not
    # destroy with an RST what we have sent before.
    received: list[bytes] = []
    sent, closed = threading.Event(), threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock) if tls else None
        send = forger.send if forger else sock.sendall
        send(bytes(1 << 17))
        sent.set()
        assert closed.wait(WITHIN)
        send(bytes(1 << 17))
        total = b""
        while data := forger.read() if forger else sock.recv(65536):
            total += data
        received.append(total)

    async with scripted(script) as address:
        socket_ = await secure(address) if tls else connect(address)
        await happened(sent)
        socket_.writable.getWriter().write(b"last words" * 1000)
        await socket_.close()
        closed.set()
    assert received == [b"last words" * 1000]
