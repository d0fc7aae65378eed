"""Cancelled at every single step, and everything is given back.

A scenario runs again and again, and is cancelled after its first step, after its
second, until it is done before its turn to be cancelled comes. A step is one turn
of any task, those of the library included, so that nothing between two of its
own checkpoints is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
import trio

from tests import loops
from tests.interrupts import Way, interrupted, ways
from tests.leaks import Snapshot, left_behind, tasks
from tests.loopback import binding
from wsockets import AbortError, Promise, Socket, SocketError

from .peers import WITHIN, exactly, happened, line, scripted, to_the_end
from .records import Forger

pytestmark = pytest.mark.every_loop

# More than the kernel takes at once, so that a write has to wait.
REQUEST = bytes(4_500_000)
ANSWER = b"an answer" * 20_000

T = TypeVar("T")

# Makes a socket to an address, uses it, and notes it in the list.
Scenario = Callable[[str, list[Socket]], Awaitable[None]]


@contextlib.contextmanager
def cancelled_already() -> Iterator[None]:
    """The block runs in a task that is cancelled, and comes to know."""
    if loops.on_trio():
        with trio.CancelScope() as scope:
            scope.cancel()
            yield
        assert scope.cancelled_caught
        return
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            yield
    finally:
        task.uncancel()


# -- peers


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """A client may go at any time."""
    with contextlib.suppress(OSError, AssertionError):
        yield


def plain_peer(sock: socket.socket, go: threading.Event | None = None) -> None:
    with left_alone():
        assert go is None or go.wait(WITHIN)
        exactly(sock, len(REQUEST))
        sock.sendall(ANSWER)
        to_the_end(sock)


def serve_tls(sock: socket.socket, go: threading.Event | None) -> None:
    forger = Forger(sock)
    assert go is None or go.wait(WITHIN)
    count = 0
    while count < len(REQUEST):
        data = forger.read()
        if not data:
            return
        count += len(data)
    sock.sendall(forger.ticket())
    forger.send(ANSWER)
    while forger.read():
        pass


def tls_peer(sock: socket.socket, go: threading.Event | None = None) -> None:
    with left_alone():
        serve_tls(sock, go)


def starttls_peer(sock: socket.socket) -> None:
    with left_alone():
        assert line(sock) == b"STARTTLS\r\n"
        sock.sendall(b"220 go ahead\r\n")
        serve_tls(sock, None)


# -- scenarios


class Ended(Exception):
    """The socket was gone before its user knew that he was cancelled as well."""


async def talk(socket: Socket) -> None:
    """Ask, and read the answer, half of it into a buffer."""
    writer = socket.writable.getWriter()
    await writer.ready
    await writer.write(REQUEST)
    filler = socket.readable.getReader(mode="byob")
    half = len(ANSWER) // 2
    _, done = await filler.read(bytearray(half), min=half)
    filler.releaseLock()
    reader = socket.readable.getReader()
    count = half
    while count < len(ANSWER):
        value, ended = await reader.read()
        if done or ended:
            raise Ended
        count += len(value)
    await writer.close()


async def plain(address: str, made: list[Socket]) -> None:
    port = address.rpartition(":")[2]
    # By name, so that the resolver is part of it.
    async with binding().connect(f"localhost:{port}") as socket:
        made.append(socket)
        await talk(socket)


async def secure(address: str, made: list[Socket]) -> None:
    async with binding().connect(address, secureTransport="on") as socket:
        made.append(socket)
        await talk(socket)


async def upgraded(address: str, made: list[Socket]) -> None:
    async with binding().connect(address, secureTransport="starttls") as socket:
        made.append(socket)
        reader = socket.readable.getReader(mode="byob")
        writer = socket.writable.getWriter()
        await writer.write(b"STARTTLS\r\n")
        await reader.read(bytearray(14), min=14)
        async with socket.startTls() as new:
            made.append(new)
            await talk(new)


async def bare(address: str, made: list[Socket]) -> None:
    """Without `async with`: whoever is cancelled closes later, or not at all."""
    socket = binding().connect(address, secureTransport="on")
    made.append(socket)
    await socket.opened
    await talk(socket)
    await socket.close()


async def in_a_nursery(address: str, made: list[Socket]) -> None:
    async with loops.native_nursery() as (nursery, _):
        socket = binding().connect(address, nursery=nursery, secureTransport="on")
        made.append(socket)
        await talk(socket)
        await socket.close()


async def in_a_nursery_upgraded(address: str, made: list[Socket]) -> None:
    async with loops.native_nursery() as (nursery, _):
        socket = binding().connect(address, nursery=nursery, secureTransport="starttls")
        made.append(socket)
        writer = socket.writable.getWriter()
        reader = socket.readable.getReader(mode="byob")
        writer.write(b"STARTTLS\r\n")
        await reader.read(bytearray(14), min=14)
        new = socket.startTls()
        made.append(new)
        await talk(new)
        await new.close()


SCENARIOS = {
    "plain": (plain, plain_peer),
    "tls": (secure, tls_peer),
    "starttls": (upgraded, starttls_peer),
    "bare": (bare, tls_peer),
    "in a nursery": (in_a_nursery, tls_peer),
    "in a nursery, starttls": (in_a_nursery_upgraded, starttls_peer),
}


async def outcome(promise: Promise[T]) -> BaseException | None:
    """None, or how the promise was rejected; it must not stay pending."""
    failure: BaseException | None
    with loops.fail_after(WITHIN):
        failure = await promise.then(lambda _: None, lambda error: error)
    return failure


async def assert_well_defined(socket: Socket) -> None:
    """What can be asked of a socket after its user was cancelled."""
    closed = socket.close()
    assert closed is socket.closed
    assert socket.close() is closed
    assert isinstance(await outcome(closed), SocketError | None)
    assert isinstance(await outcome(socket.opened), SocketError | None)
    with pytest.raises(SocketError) as caught:
        socket.startTls()
    assert caught.value.code == "state"
    repr(socket)
    socket.tls_info()
    if not socket.readable.locked:
        reader = socket.readable.getReader()
        failure = await outcome(reader.read())
        assert isinstance(failure, SocketError | None)
        await outcome(reader.cancel())
    if not socket.writable.locked:
        writer = socket.writable.getWriter()
        failure = await outcome(writer.write(b"too late"))
        assert isinstance(failure, TypeError | AbortError)
        await outcome(writer.abort())


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("scenario", "peer"), SCENARIOS.values(), ids=list(SCENARIOS))
async def test_nothing_remains_whenever_the_user_is_cancelled(
    scenario: Scenario, peer: Callable[[socket.socket], None]
) -> None:
    for way in ways():
        steps = 1
        while await cut_short(scenario, peer, steps, way):
            steps += 1
            assert steps < 1000
        # It went through to the end at last.
        assert steps > 5


async def cut_short(
    scenario: Scenario, peer: Callable[[socket.socket], None], steps: int, way: Way
) -> bool:
    """Go through it, unless cancelled after so many steps; whether that was so."""

    async def go_through(address: str) -> None:
        try:
            await scenario(address, made)
        except* (SocketError, Ended) as error:
            failures.append(error)

    before, tasks_before = Snapshot.take(), tasks()
    made: list[Socket] = []
    failures: list[BaseException] = []
    async with scripted(peer) as address:
        interrupter = await interrupted(steps, go_through, address, way=way)
        fired = interrupter.left <= 0
        # A nursery has other tasks, which may be the first to know.
        assert fired or not failures
        for socket_ in made:
            await assert_well_defined(socket_)
    with loops.fail_after(WITHIN):
        while tasks() != tasks_before:
            await loops.settle(0.01)
    assert not left_behind(before), f"cancelled after {steps} steps"
    return fired


# -- carrying on

plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Stubborn:
    """Awaits promises, is cancelled after a few steps, and awaits them again."""

    def __init__(self) -> None:
        # Not always one step: nobody could ever await anything.
        self._steps = itertools.cycle([1, 2, 1, 3, 1, 5, 1])
        self._ways = itertools.cycle(ways())

    async def __call__(self, promise: Promise[T]) -> T:
        results: list[T] = []

        async def get() -> None:
            results.append(await promise)

        while not results:
            await interrupted(next(self._steps), get, way=next(self._ways))
        return results[0]


@plain_and_tls
async def test_who_is_cancelled_may_await_the_same_promises_again(tls: bool) -> None:
    get = Stubborn()
    async with scripted(tls_peer if tls else plain_peer) as address:
        socket_ = binding().connect(address, secureTransport="on" if tls else "off")
        await get(socket_.opened)
        reader = socket_.readable.getReader()
        first = reader.read()
        # The others may be so quick that nobody comes to be cancelled.
        for way in ways():
            assert (await interrupted(1, first.wait, way=way)).cancelled
        writer = socket_.writable.getWriter()
        await get(writer.write(REQUEST))
        data = (await get(first)).value
        while len(data) < len(ANSWER):
            data += (await get(reader.read())).value
        assert data == ANSWER
        await get(writer.close())
        # The closing itself is ended by a cancellation, so nobody disturbs it.
        await socket_.close()


@plain_and_tls
async def test_a_read_that_is_cancelled_and_forgotten_takes_no_chunk(
    tls: bool,
) -> None:
    cancelled, go = 0, threading.Event()
    script = functools.partial(tls_peer if tls else plain_peer, go=go)
    async with scripted(script) as address:
        socket_ = binding().connect(address, secureTransport="on" if tls else "off")
        await socket_.opened
        socket_.writable.getWriter().write(REQUEST)
        reader = socket_.readable.getReader()
        data = b""

        async def read() -> None:
            nonlocal data
            data += (await reader.read()).value

        every = zip(itertools.cycle([1, 2, 1, 3, 1, 5, 1]), itertools.cycle(ways()))
        for steps, way in every:
            cancelled += (await interrupted(steps, read, way=way)).cancelled
            if cancelled:
                go.set()
            if len(data) == len(ANSWER):
                break
        assert data == ANSWER
        await socket_.close()
    assert cancelled > 0


@plain_and_tls
async def test_who_is_cancelled_already_reads_nothing(tls: bool) -> None:
    async with scripted(tls_peer if tls else plain_peer) as address:
        socket_ = binding().connect(address, secureTransport="on" if tls else "off")
        await socket_.opened
        reader = socket_.readable.getReader(mode="byob")
        await socket_.writable.getWriter().write(REQUEST)
        # The answer is there, or its beginning at least.
        await reader.read(bytearray(9), min=9)
        buffer = bytearray(b"untouched")
        with cancelled_already():
            await reader.read(buffer)
        assert buffer == b"untouched"
        reader.releaseLock()
        data = ANSWER[:9]
        other = socket_.readable.getReader()
        with cancelled_already():
            await other.read()
        while len(data) < len(ANSWER):
            data += (await other.read()).value
        assert data == ANSWER
        await socket_.close()


@plain_and_tls
async def test_a_write_that_is_cancelled_is_sent_all_the_same(tls: bool) -> None:
    go = threading.Event()
    script = functools.partial(tls_peer if tls else plain_peer, go=go)
    async with scripted(script) as address:
        socket_ = binding().connect(address, secureTransport="on" if tls else "off")
        await socket_.opened
        writer = socket_.writable.getWriter()
        with cancelled_already():
            await writer.write(REQUEST)
        go.set()
        data = b""
        async for chunk in socket_.readable.values(preventCancel=True):
            data += chunk
            if len(data) == len(ANSWER):
                break
        assert data == ANSWER
        await socket_.close()


@plain_and_tls
async def test_cancelling_a_close_that_still_sends_resets_the_connection(
    tls: bool,
) -> None:
    endings: list[str] = []
    begun = threading.Event()

    def script(sock: socket.socket) -> None:
        if tls:
            Forger(sock)
        # It takes nothing until the reset has come.
        assert sock.recv(1, socket.MSG_PEEK)
        begun.set()
        wait_for_reset(sock)
        endings.append("reset")

    async with scripted(script) as address:
        socket_ = binding().connect(address, secureTransport="on" if tls else "off")
        await socket_.opened
        written = socket_.writable.getWriter().write(REQUEST * 2)
        await happened(begun)
        closing = socket_.close()
        with cancelled_already():
            await closing
        failure = await outcome(written)
        assert isinstance(failure, SocketError)
        assert failure.code == "closed"
        assert await outcome(socket_.closed) is None
    assert endings == ["reset"]


def wait_for_reset(sock: socket.socket) -> None:
    """Until the connection is gone, without reading from it."""
    poll = select.poll()
    poll.register(sock, 0)
    events = poll.poll(WITHIN * 1000)
    assert events
    assert events[0][1] & select.POLLHUP
