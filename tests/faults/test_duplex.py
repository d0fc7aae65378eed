"""Both directions at once, through buffers that hold next to nothing.

Each side writes without regard to what it reads, so whoever waits for the one
before doing the other is stuck.
"""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable

import pytest

from tests import certificates, loops
from wsockets import Socket, adopt

from .peers import WITHIN, end, paired
from .records import Forger, Version

pytestmark = pytest.mark.every_loop

SIZE = 1 << 20


def adopted(sock: socket.socket, tls: Version | None) -> Socket:
    if tls is None:
        return adopt(sock, allowHalfOpen=True)
    return adopt(
        sock,
        allowHalfOpen=True,
        secureTransport="on",
        hostname="localhost",
        ca=certificates.authority().pem,
    )


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """`data` in pieces of all sizes, most of them small."""
    found = []
    start = 0
    while start < len(data):
        size = int(2 ** rng.uniform(0, 18))
        found.append(data[start : start + size])
        start += size
    return found


async def write(socket: Socket, data: list[bytes]) -> None:
    writer = socket.writable.getWriter()
    for piece in data:
        await writer.write(piece)
    await writer.close()


async def read(socket: Socket, rng: random.Random) -> str:
    """The digest of all that comes, into chunks and into buffers in turn."""
    digest = hashlib.sha256()
    done = False
    while not done:
        if rng.random() < 0.5:
            reader = socket.readable.getReader()
            value, done = await reader.read()
            reader.releaseLock()
        else:
            filler = socket.readable.getReader(mode="byob")
            size = int(2 ** rng.uniform(0, 17))
            value, done = await filler.read(bytearray(size), min=rng.randint(1, size))
            filler.releaseLock()
        digest.update(value or b"")
    return digest.hexdigest()


async def exchange(socket: Socket, data: list[bytes], rng: random.Random) -> str:
    digests: list[str] = []
    async with loops.open_nursery() as nursery:
        nursery.start_soon(write, socket, data)
        digests.append(await read(socket, rng))
    return digests[0]


@pytest.mark.parametrize("tls", [None, "1.2", "1.3"])
@pytest.mark.parametrize("buffers", [2048, 65536])
async def test_both_directions_are_exact(
    tls: Version | None, buffers: int, rng: random.Random
) -> None:
    here, there = rng.randbytes(SIZE), rng.randbytes(SIZE)
    digests: list[str] = []

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock, version=tls)
        listener = threading.Thread(target=listen, args=[sock, forger])
        listener.start()
        choices = random.Random(buffers)
        for piece in pieces(there, choices):
            if forger is None:
                sock.sendall(piece)
                continue
            forger.send(piece)
            if forger.version == "1.3" and choices.random() < 0.1:
                sock.sendall(forger.ticket() + forger.key_update(requested=False))
        if forger is None:
            end(sock)
        else:
            forger.end()
        listener.join()

    def listen(sock: socket.socket, forger: Forger | None) -> None:
        digest = hashlib.sha256()
        while data := sock.recv(65536) if forger is None else forger.read():
            digest.update(data)
        digests.append(digest.hexdigest())

    async with paired(script, buffers=buffers) as sock:
        near = adopted(sock, tls)
        digest = await exchange(near, pieces(here, rng), rng)
        await near.close()
    assert digest == hashlib.sha256(there).hexdigest()
    assert digests == [hashlib.sha256(here).hexdigest()]


@pytest.mark.parametrize("tls", [None, "1.3"])
async def test_two_sockets_of_ours_exchange_data(
    tls: Version | None, rng: random.Random
) -> None:
    issued = certificates.server()
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = adopted(near, tls)
    server = adopt(
        far,
        allowHalfOpen=True,
        secureTransport="off" if tls is None else "on",
        role="server",
        cert=issued.chain,
        key=issued.key,
    )
    here, there = rng.randbytes(SIZE), rng.randbytes(SIZE)
    digests: dict[str, str] = {}

    async def run(name: str, socket: Socket, data: bytes) -> None:
        digests[name] = await exchange(socket, pieces(data, rng), rng)
        await socket.close()

    with loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(run, "client", client, here)
            nursery.start_soon(run, "server", server, there)
    assert digests == {
        "client": hashlib.sha256(there).hexdigest(),
        "server": hashlib.sha256(here).hexdigest(),
    }


@pytest.mark.parametrize("tls", [None, "1.3"])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_a_chunk_may_be_changed_once_write_has_returned(
    tls: Version | None, kind: Callable[[bytearray], bytearray | memoryview]
) -> None:
    go, received = threading.Event(), hashlib.sha256()

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock, version=tls)
        assert go.wait(WITHIN)
        while data := sock.recv(65536) if forger is None else forger.read():
            received.update(data)

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls)
        await near.opened
        writer = near.writable.getWriter()
        sent = hashlib.sha256()
        for number in range(5):
            chunk = bytearray([number]) * 200_000
            sent.update(chunk)
            writer.write(kind(chunk))
            chunk[:] = bytes(len(chunk))
        go.set()
        await near.close()
    assert received.digest() == sent.digest()


@pytest.mark.parametrize("tls", [None, "1.3"])
async def test_writes_of_many_tasks_do_not_mix(
    tls: Version | None, rng: random.Random
) -> None:
    received = bytearray()

    def script(sock: socket.socket) -> None:
        forger = None if tls is None else Forger(sock, version=tls)
        while data := sock.recv(4096) if forger is None else forger.read():
            received.extend(data)

    async with paired(script, buffers=4096) as sock:
        near = adopted(sock, tls)
        writer = near.writable.getWriter()
        order: list[int] = []

        async def send(number: int) -> None:
            for _ in range(10):
                order.append(number)
                await writer.write(bytes([number]) * 5000)

        async with loops.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(send, number)
        await near.close()
    assert bytes(received[::5000]) == bytes(order)
    assert received == b"".join(bytes([number]) * 5000 for number in order)
