"""Records that are legal one by one, or nearly so, and too many or out of place.

A connection may survive such a peer or end with a reason. It must not spin, it
must not grow, and the rest of the program must go on meanwhile.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable

import pytest

from tests import certificates, loops
from wsockets import Socket, SocketError, adopt

from .ends import secure
from .peers import WITHIN, happened, paired, scripted, to_the_end
from .records import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    DATA,
    HANDSHAKE,
    HELLO_REQUEST,
    Forger,
    Version,
)

pytestmark = pytest.mark.every_loop

# One piece of a flood, made by a forger.
Flood = Callable[[Forger], bytes]

COUNT = 5000


def tickets(forger: Forger) -> bytes:
    return forger.ticket()


def key_updates(forger: Forger) -> bytes:
    return forger.key_update(requested=False)


def key_updates_requested(forger: Forger) -> bytes:
    return forger.key_update(requested=True)


def hello_requests(forger: Forger) -> bytes:
    return forger.record(HELLO_REQUEST, HANDSHAKE)


def empty_records(forger: Forger) -> bytes:
    return forger.record(b"")


def padding(forger: Forger) -> bytes:
    return forger.record(b"", padding=1000)


def warnings(forger: Forger) -> bytes:
    return forger.alert(1, 90)  # user_canceled


@pytest.mark.parametrize(
    ("flood", "version"),
    [
        (tickets, "1.3"),
        (key_updates, "1.3"),
        (key_updates_requested, "1.3"),
        (hello_requests, "1.2"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_flood_that_is_legal_leaves_others_their_turns(
    flood: Flood, version: Version
) -> None:
    ready = threading.Event()

    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        # All of it is there before any is read.
        sock.sendall(b"".join(flood(forger) for _ in range(COUNT)))
        forger.send(b"after the flood")
        ready.set()
        to_the_end(sock)

    async with scripted(script) as address:
        flooded = await secure(address)
        await happened(ready)
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await loops.checkpoint()
                turns += 1

        async with loops.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            value, _ = await flooded.readable.getReader().read()
            nursery.cancel_scope.cancel()
        assert value == b"after the flood"
        assert turns > COUNT // 2
        flooded.close("enough")


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
async def test_a_flood_that_serves_no_purpose_ends_the_socket(
    flood: Flood, version: Version
) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        with pytest.raises(OSError, match=r"reset|Broken"):
            while True:
                sock.sendall(b"".join(flood(forger) for _ in range(100)))

    async with scripted(script) as address:
        flooded = await secure(address)
        reader = flooded.readable.getReader()
        with pytest.raises(SocketError) as caught:
            await reader.read()
        assert caught.value.code == "tls"
        await flooded.closed


@pytest.mark.parametrize("flood", [empty_records, padding, warnings])
async def test_a_few_of_them_do_no_harm(flood: Flood) -> None:
    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        for number in range(20):
            sock.sendall(flood(forger) + flood(forger))
            forger.send(b"%d" % number)
        forger.end()
        to_the_end(sock)

    async with scripted(script) as address:
        flooded = await secure(address)
        data = b""
        async for chunk in flooded.readable:
            data += chunk
        assert data == b"".join(b"%d" % number for number in range(20))


# -- records that must not be


def too_long(forger: Forger) -> bytes:
    return forger.record(bytes((1 << 14) + 1))


def too_long_by_far(forger: Forger) -> bytes:
    return forger.record(bytes((1 << 14) + 2000))


def too_much_padding(forger: Forger) -> bytes:
    return forger.record(b"x", padding=(1 << 14) + 300)


def longer_than_it_may_say(_: Forger) -> bytes:
    return b"\x17\x03\x03\xff\xff" + bytes(65535)


def of_no_kind(forger: Forger) -> bytes:
    return forger.record(b"", 0, padding=20)


def of_an_unknown_kind(forger: Forger) -> bytes:
    return forger.record(b"what is this", 99)


def change_cipher_spec(forger: Forger) -> bytes:
    return forger.record(b"\x01", CHANGE_CIPHER_SPEC)


def in_the_clear(_: Forger) -> bytes:
    return b"\x17\x03\x03\x00\x05hello"


def an_alert_in_the_clear(_: Forger) -> bytes:
    return b"\x15\x03\x03\x00\x02\x01\x00"


def a_request_for_a_certificate(forger: Forger) -> bytes:
    body = b"\0" + b"\0\x08\0\x0d\0\x04\0\x02\x04\x03"
    return forger.record(b"\x0d" + len(body).to_bytes(3, "big") + body, HANDSHAKE)


def a_second_hello(forger: Forger) -> bytes:
    body = bytes(70)
    return forger.record(b"\x02\0\0\x46" + body, HANDSHAKE)


def a_finished_message(forger: Forger) -> bytes:
    return forger.record(b"\x14\0\0\x30" + bytes(48), HANDSHAKE)


def an_empty_message(forger: Forger) -> bytes:
    return forger.record(b"", HANDSHAKE)


def an_update_of_no_kind(forger: Forger) -> bytes:
    return forger.record(b"\x18\0\0\x01\x07", HANDSHAKE)


def a_message_that_claims_to_be_huge(forger: Forger) -> bytes:
    return forger.record(b"\x04\xff\xff\xff" + bytes(16000), HANDSHAKE)


def half_an_alert(forger: Forger) -> bytes:
    return forger.record(b"\x02", ALERT) + forger.record(b"never seen")


def a_message_split_by_data(forger: Forger) -> bytes:
    return forger.record(b"\x18\0", HANDSHAKE) + forger.record(b"never seen")


FORBIDDEN: list[tuple[Flood, Version]] = [
    (too_long, "1.2"),
    (too_long, "1.3"),
    (too_long_by_far, "1.2"),
    (too_long_by_far, "1.3"),
    (too_much_padding, "1.3"),
    (longer_than_it_may_say, "1.2"),
    (longer_than_it_may_say, "1.3"),
    (of_no_kind, "1.3"),
    (of_an_unknown_kind, "1.2"),
    (of_an_unknown_kind, "1.3"),
    (change_cipher_spec, "1.2"),
    (change_cipher_spec, "1.3"),
    (in_the_clear, "1.2"),
    (in_the_clear, "1.3"),
    (an_alert_in_the_clear, "1.2"),
    (an_alert_in_the_clear, "1.3"),
    (a_request_for_a_certificate, "1.3"),
    (a_second_hello, "1.2"),
    (a_second_hello, "1.3"),
    (a_finished_message, "1.3"),
    (an_empty_message, "1.3"),
    (an_update_of_no_kind, "1.3"),
    (a_message_that_claims_to_be_huge, "1.3"),
    (half_an_alert, "1.3"),
    (a_message_split_by_data, "1.3"),
]


@pytest.mark.parametrize(
    ("forbidden", "version"),
    FORBIDDEN,
    ids=[f"{function.__name__}-{version}" for function, version in FORBIDDEN],
)
async def test_what_must_not_be_ends_the_socket(
    forbidden: Flood, version: Version
) -> None:
    answers: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock, version=version)
        forger.send(b"before")
        sock.sendall(forbidden(forger) + forger.record(b"after"))
        answers.append(to_the_end(sock))

    async with scripted(script) as address:
        attacked = await secure(address)
        reader = attacked.readable.getReader()
        data = b""
        with pytest.raises(SocketError) as caught:
            while True:
                value, done = await reader.read()
                assert not done
                data += value
        assert data == b"before"
        assert caught.value.code in ("tls", "tls-alert")
        await attacked.closed
    # It was told so, with an alert, or cut off.
    (answer,) = answers
    assert not answer or answer[0] in (ALERT, DATA)


# -- keys that are updated while there is no room to answer


def trusting(sock: socket.socket) -> Socket:
    return adopt(
        sock,
        secureTransport="on",
        hostname="localhost",
        ca=certificates.authority().pem,
    )


async def test_requests_that_cannot_be_answered_wait_without_spinning() -> None:
    # The peer reads nothing, so in the end there is no room for our KeyUpdate, and
    # the reader has to wait until it can write.
    full, resume = threading.Event(), threading.Event()
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        sock.settimeout(0.3)
        request = b""
        with contextlib.suppress(TimeoutError):
            while True:
                request = request or forger.key_update(requested=True)
                request = request[sock.send(request) :]
        sock.settimeout(WITHIN)
        full.set()
        assert resume.wait(WITHIN)
        listener = threading.Thread(target=lambda: received.append(forger.read()))
        listener.start()
        sock.sendall(request)
        forger.send(b"after the flood")
        listener.join()

    async with (
        paired(script, buffers=4096) as sock,
        loops.open_nursery() as nursery,
    ):
        flooded = trusting(sock)
        reading = flooded.readable.getReader().read()
        nursery.start_soon(reading.wait)
        await happened(full)
        # Nobody runs: not the reader either.
        await loops.settle(0.1)
        assert "pending" in repr(reading)
        resume.set()
        assert (await reading).value == b"after the flood"
        await flooded.writable.getWriter().write(b"thank you")
        await flooded.close()
    assert received == [b"thank you"]


@pytest.mark.parametrize("requests", [1, 2])
async def test_a_request_in_the_middle_of_a_long_write_breaks_no_record(
    requests: int, rng: random.Random
) -> None:
    # A record is half out when the request comes in, and the answer must not get
    # between its bytes. OpenSSL cannot have two requests wait for that; then the
    # socket ends, and says so.
    data = rng.randbytes(1 << 19)
    asked, resume = threading.Event(), threading.Event()
    received: list[bytes] = []

    def script(sock: socket.socket) -> None:
        forger = Forger(sock)
        assert asked.wait(WITHIN)
        with contextlib.suppress(ConnectionError):
            for _ in range(requests):
                sock.sendall(forger.key_update(requested=True))
            forger.send(b"news")
            assert resume.wait(WITHIN)
            while more := forger.read():
                received.append(more)

    async with paired(script, buffers=4096) as sock:
        busy = trusting(sock)
        await busy.opened
        writer = busy.writable.getWriter()
        writing = writer.write(data)
        assert writer.desiredSize is not None
        assert writer.desiredSize < 0
        asked.set()
        reading = busy.readable.getReader().read()
        error = await reading.then(lambda _: None, lambda error: error)
        resume.set()
        if error is None:
            assert (await reading).value == b"news"
            await writing
            await busy.close()
        else:
            assert requests > 1
            assert error.code == "tls"
            with pytest.raises(SocketError):
                await writing
            await busy.closed
    if error is None:
        assert b"".join(received) == data
    else:
        assert data.startswith(b"".join(received))
