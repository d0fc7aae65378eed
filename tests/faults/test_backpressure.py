"""Peers that take nothing, or hardly anything, and peers that send too much."""

from __future__ import annotations

import errno
import socket
import threading
import time
import tracemalloc

import pytest

from tests import certificates, loops
from tests.loopback import binding
from wsockets import Socket, WritableStreamDefaultWriter, adopt, connect

from .peers import WITHIN, exactly, happened, paired, scripted
from .records import Forger, Version

pytestmark = pytest.mark.every_loop

CHUNK = bytes(16384)

plain_and_tls = pytest.mark.parametrize("tls", [None, "1.3"], ids=["plain", "tls"])


def adopted(sock: socket.socket, tls: Version | None, **members: object) -> Socket:
    if tls is None:
        return adopt(sock, dict(members))
    return adopt(
        sock,
        {
            "secureTransport": "on",
            "hostname": "localhost",
            "ca": certificates.authority().pem,
            **members,
        },
    )


def room(writer: WritableStreamDefaultWriter) -> int:
    size = writer.desiredSize
    assert size is not None
    return size


@plain_and_tls
async def test_who_waits_for_ready_writes_no_more_than_fits(
    tls: Version | None,
) -> None:
    resume = threading.Event()
    received: list[int] = []

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock)
        assert resume.wait(WITHIN)
        while data := sock.recv(65536) if forger is None else forger.read():
            received.append(len(data))

    async with paired(script, buffers=65536) as sock:
        near = adopted(sock, tls, highWaterMark=100_000)
        await near.opened
        writer = near.writable.getWriter()
        assert room(writer) == 100_000
        accepted = 0
        async with loops.open_nursery() as nursery:
            tracemalloc.start()

            @nursery.start_soon
            async def write() -> None:
                # What a well-behaved user does, for ever.
                nonlocal accepted
                while True:
                    await writer.ready
                    writer.write(CHUNK)
                    accepted += len(CHUNK)

            try:
                await loops.settle(0.1)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            nursery.cancel_scope.cancel()
        # The kernel's buffers, one slice in flight under TLS, our queue.
        assert accepted < 1_000_000
        assert peak < 1_000_000
        assert room(writer) <= 0
        assert "pending" in repr(writer.ready)
        resume.set()
        await writer.ready
        assert room(writer) > 0
        await near.close()
    assert sum(received) == accepted


@plain_and_tls
async def test_who_does_not_wait_is_told_how_far_he_is_over(
    tls: Version | None,
) -> None:
    resume = threading.Event()
    received: list[int] = []

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock)
        assert resume.wait(WITHIN)
        while data := sock.recv(65536) if forger is None else forger.read():
            received.append(len(data))

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls)
        await near.opened
        writer = near.writable.getWriter()
        for _ in range(256):
            last = writer.write(CHUNK)
        assert room(writer) < -3_000_000
        assert "pending" in repr(last)
        ready = writer.ready
        resume.set()
        await last
        await ready
        assert room(writer) == 65536
        await near.close()
    assert sum(received) == 256 * len(CHUNK)


@plain_and_tls
async def test_an_idle_socket_that_is_full_costs_no_turns(tls: Version | None) -> None:
    resume = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls is not None:
            Forger(sock)
        assert resume.wait(WITHIN)

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls)
        await near.opened
        near.writable.getWriter().write(bytes(1 << 20))
        await loops.settle(0.1)
        near.close("enough")
        resume.set()


@plain_and_tls
async def test_what_nobody_reads_stays_with_the_sender(tls: Version | None) -> None:
    # The library must not take in what nobody has asked for.
    stuck, resume = threading.Event(), threading.Event()
    sent: list[int] = []

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock)
        sock.settimeout(0.3)
        total = 0
        rest = b""
        with pytest.raises(TimeoutError):
            while True:
                if not rest:
                    rest = CHUNK if forger is None else forger.record(CHUNK)
                    total += 1
                rest = rest[sock.send(rest) :]
        sent.append(total)
        stuck.set()
        sock.settimeout(WITHIN)
        assert resume.wait(WITHIN)
        sock.sendall(rest)
        if forger is not None:
            forger.end()

    async with paired(script, buffers=65536) as sock:
        near = adopted(sock, tls)
        await near.opened
        await happened(stuck)
        assert sent[0] < 20
        resume.set()
        received = 0
        async for chunk in near.readable:
            assert len(chunk) <= 65536
            received += len(chunk)
        assert received == sent[0] * len(CHUNK)
        await near.closed


@plain_and_tls
async def test_a_peer_that_sends_byte_by_byte_is_read_byte_by_byte(
    tls: Version | None,
) -> None:
    def script(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        forger = None if tls is None else Forger(sock)
        for number in range(256):
            byte = bytes([number])
            (forger.send if forger else sock.sendall)(byte)
            # The next one when this one has come back.
            echo = forger.read_exactly(1) if forger else exactly(sock, 1)
            assert echo == byte
        if forger:
            forger.end()

    async with scripted(script) as address:
        socket_ = (
            connect(address)
            if tls is None
            else binding().connect(address, secureTransport="on")
        )
        writer = socket_.writable.getWriter()
        data = b""
        async for chunk in socket_.readable:
            assert len(chunk) == 1
            await writer.write(chunk)
            data += chunk
        assert data == bytes(range(256))
        await socket_.closed


@plain_and_tls
async def test_a_peer_that_reads_byte_by_byte_gets_every_byte(
    tls: Version | None,
) -> None:
    data = bytes(range(256)) * 80
    received = bytearray()

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock)
        if forger is None:
            while byte := sock.recv(1):
                received.extend(byte)
        else:
            # The records come to it byte by byte.
            forger.appetite = 1
            while more := forger.read():
                received.extend(more)

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls)
        writer = near.writable.getWriter()
        await writer.write(data)
        await near.close()
    assert received == data


@plain_and_tls
async def test_closing_gives_up_on_a_peer_that_takes_nothing(
    tls: Version | None,
) -> None:
    done = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls is not None:
            Forger(sock)
        assert done.wait(WITHIN)

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls, closeTimeout=0.2)
        await near.opened
        lost = near.writable.getWriter().write(bytes(1 << 20))
        await near.close()
        failure = await lost.then(lambda _: None, lambda error: error)
        assert failure is not None
        assert failure.code == "timeout"
        done.set()


@plain_and_tls
async def test_closing_does_not_give_up_on_a_peer_that_is_slow(
    tls: Version | None,
) -> None:
    # In all it takes longer than closeTimeout, and always a little in that time.
    data = bytes(150_000)
    received: list[int] = []

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock)
        if forger is not None:
            forger.appetite, forger.pause = 4096, 0.04
            while more := forger.read():
                received.append(len(more))
        else:
            while more := sock.recv(4096):
                received.append(len(more))
                time.sleep(0.04)

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls, closeTimeout=1.0)
        await near.opened
        written = near.writable.getWriter().write(data)
        started = loops.current_time()
        await near.close()
        await written
        assert loops.current_time() - started > 1.0
    assert sum(received) == len(data)


@plain_and_tls
async def test_resetting_does_not_wait_for_a_peer_that_takes_nothing(
    tls: Version | None,
) -> None:
    full, seen = threading.Event(), threading.Event()

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock)
        assert full.wait(WITHIN)
        # The reset is noticed behind what is on its way.
        with pytest.raises(ConnectionError):
            while data := sock.recv(65536) if forger is None else forger.read():
                assert data
            raise ConnectionResetError(errno.ECONNRESET, "the end, on a unix socket")
        seen.set()

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls)
        await near.opened
        lost = near.writable.getWriter().write(bytes(1 << 20))
        closed = near.close(ValueError("no more"))
        with pytest.raises(ValueError, match="no more"):
            await lost
        await closed
        full.set()
        await happened(seen)
