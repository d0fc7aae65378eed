"""What happens to sockets between our close and the peer's."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import struct
import threading
import weakref
from collections.abc import Iterator
from typing import Literal, TypeAlias

import pytest
import trio
import trio.testing

import wsockets.linger
from tests import loops
from tests.leaks import Snapshot, left_behind, tasks
from tests.loopback import Secure, connected
from tests.network import tcp_pair
from wsockets.linger import linger
from wsockets.runtime import Runtime, current

pytestmark = pytest.mark.every_loop

TASK = "wsockets linger"
NO_LINGER = struct.pack("ii", 1, 0)
BULK = bytes(range(256)) * 2048

Family: TypeAlias = Literal["tcp", "unix"]


@pytest.fixture(params=["tcp", "unix"])
def family(request: pytest.FixtureRequest) -> Family:
    kind: Family = request.param
    return kind


class Noted(socket.socket):
    """A socket that says when it is closed."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.setblocking(False)
        self.gone = loops.Event()

    def close(self) -> None:
        super().close()
        self.gone.set()

    @property
    def open(self) -> bool:
        return self.fileno() != -1


@contextlib.contextmanager
def pair(family: Family = "tcp") -> Iterator[tuple[Noted, socket.socket]]:
    """A socket to linger and its peer, both closed at the end."""
    near, far = socket.socketpair() if family == "unix" else tcp_pair()
    far.settimeout(20)
    with Noted(near) as noted, far:
        yield noted, far


def end(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


def read(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    found = bytearray()
    while chunk := sock.recv(65536):
        found += chunk
    return bytes(found)


async def read_in_thread(sock: socket.socket) -> bytes:
    return await loops.in_thread(read, sock)


async def test_it_ends_when_the_peer_closes(family: Family) -> None:
    with pair(family) as (sock, peer):
        end(sock)
        linger(current(), sock, 60)
        await loops.settle()
        assert sock.open
        assert tasks()[TASK] == 1
        peer.close()
        await sock.gone.wait()
        await loops.settle()
        assert not tasks()[TASK]


async def test_where_the_peer_has_closed_before_it_ends_at_once(family: Family) -> None:
    with pair(family) as (sock, peer):
        peer.send(b"goodbye")
        end(peer)
        sock.recv(1)
        end(sock)
        linger(current(), sock, 60)
        assert not sock.open
        assert not tasks()[TASK]


async def test_unread_and_later_input_is_thrown_away(family: Family) -> None:
    with pair(family) as (sock, peer):
        peer.sendall(b"unread")
        end(sock)
        linger(current(), sock, 60)
        # Far more than the buffers hold, so that somebody takes it.
        await loops.in_thread(peer.sendall, bytes(16 << 20))
        assert sock.open
        peer.close()
        await sock.gone.wait()


async def test_much_that_is_there_already_is_thrown_away_in_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wsockets.linger, "_TURN", 1000)
    with pair("unix") as (sock, peer):
        # As much as the kernel holds.
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.send(bytes(10_000))
        peer.setblocking(True)
        end(sock)
        linger(current(), sock, 60)
        assert sock.open
        await loops.in_thread(peer.sendall, bytes(100_000))
        end(peer)
        await sock.gone.wait()


async def test_a_flood_does_not_keep_others_from_ending() -> None:
    with pair() as (flooded, flooder), pair() as (sock, peer):
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                flooder.sendall(bytes(1 << 16))

        thread = threading.Thread(target=flood)
        thread.start()
        for one in (flooded, sock):
            end(one)
            linger(current(), one, 60)
        await loops.settle()
        peer.close()
        await sock.gone.wait()
        assert flooded.open
        stop.set()
        await loops.in_thread(thread.join)
        flooder.close()
        await flooded.gone.wait()


@pytest.mark.parametrize("lingers", [True, False])
async def test_no_RST_destroys_what_was_sent(lingers: bool) -> None:
    with pair() as (sock, peer):
        # The peer has said what will not be read, and goes on.
        peer.sendall(b"x" * 1000)
        sock.setblocking(True)
        await loops.in_thread(sock.sendall, b"the answer")
        sock.setblocking(False)
        end(sock)
        if lingers:
            linger(current(), sock, 60)
        else:
            sock.close()
        try:
            for _ in range(100):
                peer.sendall(b"y" * 1000)
            received = await read_in_thread(peer)
        except (ConnectionResetError, BrokenPipeError):
            # This is what it is good for.
            assert not lingers
        else:
            assert lingers
            assert received == b"the answer"
            peer.close()
            await sock.gone.wait()


async def test_a_peer_reads_all_that_a_closed_socket_wrote(secure: Secure) -> None:
    async with connected(secure, receive_buffer=8192) as (ours, peer):
        await peer.send(b"not read")
        ours.writable.getWriter().write(BULK)
        closed = ours.close()
        await peer.send(b"not read either")
        async with loops.open_nursery() as nursery:
            nursery.start_soon(closed.wait)
            assert await peer.receive_exactly(len(BULK)) == BULK
        # It is closed, and still nothing is lost.
        for _ in range(100):
            await peer.tcp.send_all(b"still talking")
        assert await peer.receive() == b""


async def test_a_reset_ends_it() -> None:
    with pair() as (sock, peer):
        end(sock)
        linger(current(), sock, 60)
        await loops.settle()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        peer.close()
        await sock.gone.wait()


async def test_it_ends_when_its_time_is_up(
    family: Family, autojump_clock: trio.testing.MockClock
) -> None:
    with pair(family) as (sock, _):
        end(sock)
        linger(current(), sock, 5)
        await loops.sleep(4.9)
        assert sock.open
        await loops.sleep(0.2)
        assert not sock.open
        assert not tasks()[TASK]


async def test_each_has_a_time_of_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with contextlib.ExitStack() as stack:
        found = {
            seconds: stack.enter_context(pair())[0]
            # The shortest neither first nor last.
            for seconds in (7.0, float("inf"), 3.0, 1.0, 5.0)
        }
        for seconds, sock in found.items():
            linger(current(), sock, seconds)
            # It waits by the times that it knows so far.
            await loops.settle()
        for seconds in (1.0, 3.0, 5.0, 7.0):
            await loops.sleep_until(seconds - 0.1)
            assert found[seconds].open
            await loops.sleep_until(seconds + 0.1)
            assert not found[seconds].open
        await loops.sleep_until(1e6)
        assert found[float("inf")].open


async def test_an_fd_that_comes_again_at_the_same_time_is_another_socket(
    autojump_clock: trio.testing.MockClock,
) -> None:
    now = loops.current_time()
    numbers = set()
    with pair() as (other, _):
        # What is behind this one stays in the books for a while.
        linger(current(), other, 4)
        for _ in range(3):
            with pair() as (sock, peer):
                numbers.add(sock.fileno())
                linger(current(), sock, 5)
                peer.close()
                await sock.gone.wait()
        assert len(numbers) == 1
        assert loops.current_time() == now
        with pair() as (sock, _):
            assert sock.fileno() in numbers
            linger(current(), sock, 10)
            await loops.sleep(5.1)
            assert sock.open
            await loops.sleep(5)
            assert not sock.open


async def test_one_that_is_open_elsewhere_too_ends_like_others() -> None:
    with pair() as (sock, peer), pair() as (other, _):
        # As a forked child would have it.
        copy = os.dup(sock.fileno())
        linger(current(), other, 60)
        linger(current(), sock, 60)
        peer.close()
        await sock.gone.wait()
        for _ in range(3):
            await loops.settle()
        assert other.open
        assert tasks()[TASK] == 1
        os.close(copy)


async def test_beyond_the_most_they_are_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wsockets.linger, "_MOST", 2)
    with pair() as (one, peer), pair() as (two, _), pair() as (three, _):
        for sock in (one, two, three):
            linger(current(), sock, 60)
        assert [sock.open for sock in (one, two, three)] == [True, True, False]
        peer.close()
        await one.gone.wait()
        with pair() as (four, _):
            linger(current(), four, 60)
            assert four.open


async def test_many_are_one_task(family: Family) -> None:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(pair(family)) for _ in range(200)]
        for sock, _ in found:
            end(sock)
            linger(current(), sock, 60)
        await loops.settle()
        assert tasks()[TASK] == 1
        for _, peer in found:
            peer.close()
        for sock, _ in found:
            await sock.gone.wait()
        await loops.settle()
        assert not tasks()[TASK]


async def test_nothing_is_left_between_and_it_can_begin_anew() -> None:
    before = Snapshot.take()
    for _ in range(3):
        with pair() as (sock, peer):
            linger(current(), sock, 60)
            await loops.settle()
            peer.close()
            await sock.gone.wait()
        await loops.settle()
        assert not tasks()[TASK]
        assert not left_behind(before)


async def test_without_a_descriptor_to_spare_they_are_closed_at_once() -> None:
    with pair() as (sock, peer), pair() as (other, _):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_fd(), hard))
        try:
            linger(current(), sock, 60)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not sock.open
        assert peer.recv(1) == b""
        # It was a passing trouble.
        linger(current(), other, 60)
        assert other.open


def lowest_free_fd() -> int:
    with open(os.devnull) as stream:
        return stream.fileno()


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_where_the_run_has_ended_they_are_closed_at_once(loop: str) -> None:
    async def main() -> Runtime:
        return current()

    ended = loops.run(loop, main)
    with pair() as (sock, peer):
        linger(ended, sock, 60)
        assert not sock.open
        assert peer.recv(1) == b""


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_run_closes_them(loop: str) -> None:
    async def main(sock: socket.socket, wait: bool) -> None:
        linger(current(), sock, 60)
        if wait:
            await loops.settle()

    for wait in (True, False):
        with pair() as (sock, peer):
            loops.run(loop, main, sock, wait)
            assert not sock.open
            assert peer.recv(1) == b""


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_a_run_that_has_ended_is_forgotten(loop: str) -> None:
    async def main() -> weakref.ref[Runtime]:
        with pair() as (sock, peer):
            linger(current(), sock, 60)
            peer.close()
            await sock.gone.wait()
        return weakref.ref(current())

    ended = loops.run(loop, main)
    gc.collect()
    assert ended() is None
