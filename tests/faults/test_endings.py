"""Connections that end too early, half-way, twice, or not quite."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

import pytest

from tests.loopback import binding
from wsockets import Socket, SocketError, WritableStreamDefaultWriter, connect

from .peers import WITHIN, end, exactly, happened, reset, scripted, to_the_end, visiting
from .records import Forger, Version, records_of

# What a peer does to its connection, and the code of what we make of it.
Fault = Callable[[Forger], None]


async def secure(address: str, **members: object) -> Socket:
    socket = binding().connect(address, {"secureTransport": "on", **members})
    await socket.opened
    return socket


async def assert_broken(
    socket: Socket, error: SocketError, writer: WritableStreamDefaultWriter
) -> None:
    """The whole socket has ended with this one error."""
    await socket.closed
    with pytest.raises(SocketError) as caught:
        await writer.write(b"more")
    assert caught.value is error
    with pytest.raises(SocketError) as caught:
        await writer.closed
    assert caught.value is error
    assert writer.desiredSize is None
    await socket.close()


# -- damage under TLS


def fin(forger: Forger) -> None:
    end(forger.socket)


def half_a_record(forger: Forger) -> None:
    record = forger.record(b"never seen" * 1000)
    forger.socket.sendall(record[: len(record) // 2])
    fin(forger)


def half_a_header(forger: Forger) -> None:
    forger.socket.sendall(forger.record(b"never seen")[:3])
    fin(forger)


def all_but_a_byte(forger: Forger) -> None:
    forger.socket.sendall(forger.record(b"never seen")[:-1])
    fin(forger)


def a_bit_flipped(forger: Forger) -> None:
    record = bytearray(forger.record(b"never seen"))
    record[-1] ^= 1
    forger.socket.sendall(record)


def a_record_twice(forger: Forger) -> None:
    record = forger.record(b"seen once")
    forger.socket.sendall(record + record)


def a_record_dropped(forger: Forger) -> None:
    forger.record(b"lost")
    forger.socket.sendall(forger.record(b"never seen"))


def records_in_another_order(forger: Forger) -> None:
    first, second = forger.record(b"never seen"), forger.record(b"never seen")
    forger.socket.sendall(second + first)


def plaintext(forger: Forger) -> None:
    forger.socket.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("fault", "code", "seen"),
    [
        (fin, "truncated", b""),
        (half_a_record, "truncated", b""),
        (half_a_header, "truncated", b""),
        (all_but_a_byte, "truncated", b""),
        (a_bit_flipped, "tls", b""),
        (a_record_twice, "tls", b"seen once"),
        (a_record_dropped, "tls", b""),
        (records_in_another_order, "tls", b""),
        (plaintext, "tls", b""),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_damage_is_an_error_and_nothing_damaged_is_read(
    fault: Fault, code: str, seen: bytes, version: Version
) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        sock.sendall(forger.record(b"undamaged"))
        fault(forger)
        to_the_end(sock)

    async with scripted(script) as address:
        socket_ = await secure(address)
        reader = socket_.readable.getReader()
        writer = socket_.writable.getWriter()
        data = b""
        with pytest.raises(SocketError) as caught:
            while True:
                value, done = await reader.read()
                assert not done
                data += value
        assert data == b"undamaged" + seen
        assert caught.value.code == code
        with pytest.raises(SocketError) as again:
            await reader.read()
        assert again.value is caught.value
        await assert_broken(socket_, caught.value, writer)


async def test_damage_is_answered_with_an_alert() -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        a_bit_flipped(forger)
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            forger.read()

    async with scripted(script) as address:
        socket_ = await secure(address)
        with pytest.raises(SocketError):
            await socket_.readable.getReader().read()


async def test_data_in_front_of_the_damage_is_read_first() -> None:
    # In one segment: the reader sees the records and the FIN at once.
    data = bytes(16384)

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        records = b"".join(forger.record(data) for _ in range(20))
        sock.sendall(records + forger.record(data)[:100])
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        socket_ = await secure(address)
        reader = socket_.readable.getReader()
        count = 0
        with pytest.raises(SocketError) as caught:
            while True:
                value, done = await reader.read()
                assert not done
                count += len(value)
        assert count == 20 * len(data)
        assert caught.value.code == "truncated"


async def test_who_tolerates_truncation_reads_the_end_instead() -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        sock.sendall(forger.record(b"all of it"))
        fin(forger)
        to_the_end(sock)

    async with scripted(script) as address:
        socket_ = await secure(address, tolerateTruncation=True)
        reader = socket_.readable.getReader()
        assert (await reader.read()).value == b"all of it"
        assert await reader.read() == (None, True)
        await socket_.closed


async def test_who_tolerates_truncation_does_not_tolerate_damage() -> None:
    def script(sock: socket.socket) -> None:
        a_bit_flipped(Forger(sock))
        to_the_end(sock)

    async with scripted(script) as address:
        socket_ = await secure(address, tolerateTruncation=True)
        with pytest.raises(SocketError):
            await socket_.readable.getReader().read()


# -- resets


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_while_reading_is_raised(tls: bool) -> None:
    reading = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls:
            Forger(sock)
        assert reading.wait(20)
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
        assert writing.wait(20)
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
        assert closing.wait(20)
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
        assert closing.wait(20)
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
        assert reading_on.wait(20)
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
        assert closed.wait(20)
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
