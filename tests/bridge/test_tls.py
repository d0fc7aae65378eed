"""What TLS does by itself in the middle of a bridge, and what peers make of it."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    bridged,
    either,
    packet,
    receive,
    secured,
    send,
    sink_of,
)
from tests.faults.peers import Script, happened, paired, to_the_end
from tests.faults.records import HANDSHAKE, HELLO_REQUEST, Forger, Version
from tests.faults.test_floods import (
    FORBIDDEN,
    Flood,
    empty_records,
    key_updates,
    key_updates_requested,
    padding,
    tickets,
    warnings,
)
from tests.real.openssl import s_server
from wsockets import SocketError
from wsockets.bridge.work import BridgeEnd, Framing
from wsockets.connection import TlsConnection

pytestmark = pytest.mark.every_loop


@contextlib.asynccontextmanager
async def forged(
    script: Script, *, buffers: int = 1 << 18
) -> AsyncIterator[TlsConnection]:
    """A TLS connection of ours to a script, which makes a `Forger` first."""
    async with paired(script, buffers=buffers) as near:
        with near:
            near.setblocking(False)
            yield await secured(near)


@pytest.mark.parametrize(
    "special",
    [key_updates, key_updates_requested, tickets, empty_records, padding],
    ids=lambda value: value.__name__,
)
@pytest.mark.parametrize("duplex", [True, False], ids=["duplex", "decrypt"])
async def test_records_that_carry_nothing_disturb_nothing(
    engine: Engine, special: Flood, duplex: bool
) -> None:
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        for number in range(50):
            sock.sendall(special(forger))
            forger.send(b"%02d" % number)
            if duplex:
                received.append(forger.read_exactly(2))
        forger.end()
        # Also an answer to a request of new keys, where nothing is sent.
        assert forger.read() == b""

    async with forged(script) as connection, either("unix") as (sink, other):
        async with bridged(engine, connection, sink, encrypt=duplex) as running:
            with loops.fail_after(WITHIN):
                for number in range(50):
                    assert await other.receive_exactly(2) == b"%02d" % number
                    if duplex:
                        await other.send(b"%02d" % number)
                assert await other.receive_to_end() == b""
                if duplex:
                    await other.end()
            end = await running.end()
            assert end.reason == "eof"
            await running.counts("decrypt", records=50)
        if not duplex:
            while connection.finish() is not None:
                await loops.wait_writable(connection.socket)
    assert received == ([b"%02d" % number for number in range(50)] if duplex else [])


@pytest.mark.parametrize(
    "flood",
    [key_updates, key_updates_requested, tickets],
    ids=lambda value: value.__name__,
)
async def test_a_flood_that_is_legal_leaves_others_their_turns(
    engine: Engine, flood: Flood
) -> None:
    count = 3000

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        drain = threading.Thread(target=to_the_end, args=(sock,))
        drain.start()
        for _ in range(count):
            sock.sendall(flood(forger))
        forger.send(b"after the flood")
        drain.join()

    async with forged(script) as flooded, either("unix") as (sink, other):
        async with bridged(engine, flooded, sink):
            turns = 0
            found: list[bytes] = []

            async def wait_for_the_end() -> None:
                found.append(await other.receive_exactly(15))

            with loops.fail_after(WITHIN):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(wait_for_the_end)
                    while not found:
                        turns += 1
                        await loops.checkpoint()
            assert found == [b"after the flood"]
            assert turns > 20
        flooded.socket.shutdown(socket.SHUT_RDWR)


async def test_what_has_to_wait_for_the_rest_of_a_message_is_owed(
    engine: Engine,
) -> None:
    half, more = threading.Event(), threading.Event()
    found: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        ticket = forger.ticket_message()
        sock.sendall(forger.record(b"x") + forger.record(ticket[:20], HANDSHAKE))
        half.set()
        assert more.wait(WITHIN)
        sock.sendall(forger.record(ticket[20:], HANDSHAKE) + forger.record(b"y"))
        found.append(forger.read_exactly(10))

    async with forged(script) as connection, either("unix") as (sink, other):
        await happened(half)
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive() == b"x"
                while readable(connection.socket):
                    await loops.checkpoint()
                await other.send(b"going up, ")
                # It has been read from the sink, and cannot be sent.
                while readable(sink):
                    await loops.checkpoint()
            running.pump.stop(0)
            assert (await running.end()).reason == "stopped"
            remains = running.pump.remains()
        assert remains.owed == b""
        assert remains.owed_clear == b"going up, "
        more.set()
        with loops.fail_after(WITHIN):
            await send(connection, remains.owed_clear)
            assert await receive(connection, 1) == b"y"
    assert found == [b"going up, "]


def readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


async def test_requests_that_nobody_lets_us_answer_are_read_no_more(
    engine: Engine,
) -> None:
    full, resume = threading.Event(), threading.Event()
    taken: list[int] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        sock.settimeout(0.5)
        request, count = b"", 0
        with contextlib.suppress(TimeoutError):
            while count < 8 << 20:
                request = request or forger.key_update(requested=True)
                sent = sock.send(request)
                request, count = request[sent:], count + sent
        taken.append(count)
        sock.settimeout(WITHIN)
        full.set()
        assert resume.wait(WITHIN)
        listener = threading.Thread(target=forger.read)
        listener.start()
        sock.sendall(request)
        forger.send(b"after the flood")
        listener.join()

    async with forged(script, buffers=4096) as flooded, either("unix") as (sink, other):
        async with bridged(engine, flooded, sink) as running:
            await happened(full)
            resume.set()
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(15) == b"after the flood"
                # Which lets the listener end.
                await other.end()
            await running.until_finished("encrypt")
    assert taken[0] < 4 << 20


@pytest.mark.parametrize(
    ("flood", "version"),
    [
        (empty_records, "1.2"),
        (empty_records, "1.3"),
        (padding, "1.3"),
        (warnings, "1.2"),
        (warnings, "1.3"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_flood_that_serves_no_purpose_ends_it(
    engine: Engine, flood: Flood, version: Version
) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        with pytest.raises(OSError, match=r"reset|Broken"):
            while True:
                sock.sendall(b"".join(flood(forger) for _ in range(100)))

    async with forged(script) as flooded, either("unix") as (sink, _):
        async with bridged(engine, flooded, sink) as running:
            end = await running.end()
            assert end == BridgeEnd("connection", "decrypt", "tls")
            assert isinstance(end.error, SocketError)
            assert end.error.code == "tls"


@pytest.mark.parametrize(
    ("forbidden", "version"),
    FORBIDDEN,
    ids=[f"{function.__name__}-{version}" for function, version in FORBIDDEN],
)
async def test_what_must_not_be_ends_it(
    engine: Engine, forbidden: Flood, version: Version
) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        forger.send(b"before")
        sock.sendall(forbidden(forger) + forger.record(b"after"))
        to_the_end(sock)

    async with forged(script) as attacked, either("unix") as (sink, other):
        async with bridged(engine, attacked, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(6) == b"before"
            end = await running.end()
            assert end == BridgeEnd("connection", "decrypt", "tls")
            assert isinstance(end.error, SocketError)
            assert end.error.code in ("tls", "tls-alert")
        sink.close()
        assert await other.receive_to_end() == b""


async def test_renegotiation_is_refused(engine: Engine) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version="1.2")
        for number in range(3):
            sock.sendall(forger.record(HELLO_REQUEST, HANDSHAKE))
            forger.send(b"%d" % number)
        forger.end()
        to_the_end(sock)

    async with forged(script) as connection, either("unix") as (sink, other):
        async with bridged(engine, connection, sink, encrypt=False) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(3) == b"012"
            assert (await running.end()).reason == "eof"


async def test_more_after_close_notify_is_ignored(engine: Engine) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        forger.send(b"before")
        sock.sendall(forger.alert(1, 0) + forger.record(b"never") + forger.alert(1, 0))
        assert forger.read_exactly(6) == b"answer"
        assert forger.read() == b""

    async with forged(script) as connection, either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_to_end() == b"before"
                await other.send(b"answer")
                await other.end()
            assert await running.end() == BridgeEnd("sink", "encrypt", "eof")


async def test_keys_change_in_the_middle_of_traffic_both_ways(
    engine: Engine, rng: random.Random
) -> None:
    pieces = [rng.randbytes(rng.randint(1, 40000)) for _ in range(60)]
    data = b"".join(pieces)

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        received = bytearray()

        def listen() -> None:
            while more := forger.read():
                received.extend(more)

        listener = threading.Thread(target=listen)
        listener.start()
        for piece in pieces:
            sock.sendall(forger.key_update(requested=False))
            forger.send(piece)
        forger.end()
        listener.join()
        assert received == data

    async with forged(script) as connection, either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                async with loops.open_nursery() as nursery:

                    async def send() -> None:
                        await other.send(data)
                        await other.end()

                    nursery.start_soon(send)
                    assert await other.receive_to_end() == data
            assert (await running.end()).reason == "eof"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("missing", [1, 16, 8000, 16400])
async def test_a_record_may_lack_any_part_when_many_others_follow(
    engine: Engine, rng: random.Random, version: Version, missing: int
) -> None:
    records = [rng.randbytes(16384) for _ in range(12)]
    arrived = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        sealed = [forger.record(record) for record in records]
        first = sealed[0] + sealed[1]
        sock.sendall(first[:-missing])
        assert arrived.wait(WITHIN)
        sock.sendall(first[-missing:] + b"".join(sealed[2:]))
        forger.end()
        to_the_end(sock)

    async with forged(script) as connection, either("unix") as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with loops.fail_after(WITHIN):
                assert await other.receive_exactly(16384) == records[0]
                arrived.set()
                assert await other.receive_to_end() == b"".join(records[1:])
                await other.end()
            assert (await running.end()).reason == "eof"
            await running.counts("decrypt", records=len(records))


async def test_records_before_and_after_many_messages_may_come_at_once(
    engine: Engine, rng: random.Random
) -> None:
    # More messages than are looked at in one go, so that records are left for later.
    rounds = [(rng.randbytes(16384), rng.randbytes(9000)) for _ in range(4)]
    sent = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        data = bytearray()
        for before, after in rounds:
            data += forger.record(before)
            for _ in range(40):
                data += forger.key_update(requested=False)
            data += forger.record(after)
        sock.sendall(data)
        sent.set()
        forger.end()
        to_the_end(sock)

    async with forged(script) as connection, either("unix") as (sink, other):
        async with bridged(engine, connection, sink, start=False) as running:
            await happened(sent)
            running.pump.start()
            with loops.fail_after(WITHIN):
                expected = b"".join(before + after for before, after in rounds)
                assert await other.receive_to_end() == expected
                await other.end()
            assert (await running.end()).reason == "eof"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_records_have_the_size_of_packets(
    engine: Engine, version: Version
) -> None:
    packets = [packet(40 + 97 * number, fill=number) for number in range(30)]
    said: list[bytes] = []
    heard = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        # A read gives one record at most.
        said.extend(forger.read() for _ in packets)
        heard.set()

    async with forged(script) as connection:
        with sink_of("seqpacket") as (sink, other):
            async with bridged(engine, connection, sink, framing=Framing.IP) as running:
                for one in packets:
                    await other.put(one)
                await happened(heard)
                await running.counts("encrypt", records=len(packets))
    assert said == packets


async def test_openssl_asks_for_new_keys(engine: Engine) -> None:
    update = b"TLS 1.3, Handshake [length 0005], KeyUpdate"

    def updated(times: int) -> Callable[[bytearray], bool]:
        return lambda said: said.count(b">>> " + update) == times

    async with s_server("-tls1_3", "-msg") as (program, address):
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.setblocking(False)
            with loops.fail_after(WITHIN):
                connection = await secured(sock)
            async with either("unix") as (sink, other):
                async with bridged(engine, connection, sink):
                    for number in range(3):
                        await program.type("K\n")
                        # A line that is typed together with a command is lost.
                        await program.until(updated(number + 1))
                        line = b"line %d\n" % number
                        await program.type(line)
                        with loops.fail_after(WITHIN):
                            assert await other.receive_exactly(len(line)) == line
                        await other.send(b"heard %d\n" % number)
                        await program.says(f"heard {number}")
                    # The answer goes out before the data does.
                    assert program.said.count(b"<<< " + update) == 3
