"""Records that were cut, changed, repeated, dropped or moved on their way."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest

from wsockets import SocketError

from .ends import assert_broken, secure
from .peers import end, scripted, to_the_end
from .records import Forger, Version

pytestmark = pytest.mark.every_loop

# What a peer does to its connection.
Fault = Callable[[Forger], None]


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
