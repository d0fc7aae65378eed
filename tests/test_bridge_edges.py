from __future__ import annotations

import errno
import os
import select
import socket
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from tests import loops
from tests.bridge.harness import WITHIN, joined, lend, nonblocking, until
from wsockets import SocketError
from wsockets.bridge.edges import Broken, ConnectionEdge, FdEdge, Obstacle
from wsockets.bridge.work import End
from wsockets.connection import PlainConnection
from wsockets.runtime import current
from wsockets.runtime.gate import Want

pytestmark = pytest.mark.every_loop

Kind = Callable[[], tuple[int, int]]


@pytest.fixture
def view() -> memoryview:
    return memoryview(bytearray(1 << 16))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def sockets(stack: ExitStack, kind: int) -> tuple[int, socket.socket]:
    """A descriptor that an edge will close, and its other side."""
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    near.setblocking(False)
    far.setblocking(False)
    stack.enter_context(far)
    return near.detach(), far


def edge_of(fd: int, write_fd: int | None = None, *, packets: bool = False) -> FdEdge:
    return FdEdge(
        current(), End(fd, fd if write_fd is None else write_fd), packets=packets
    )


# -- descriptors of the user


async def test_it_reads_and_writes(stack: ExitStack, view: memoryview) -> None:
    fd, far = sockets(stack, socket.SOCK_STREAM)
    edge = edge_of(fd)
    assert edge.read(view) is Want.READ
    far.send(b"hello")
    assert edge.read(view) == 5
    assert bytes(view[:5]) == b"hello"
    assert edge.write(b"", b"data") == 4
    assert edge.write(b"head", b"data") == 8
    assert far.recv(100) == b"datahead" + b"data"
    far.close()
    assert edge.read(view) is None
    edge.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


async def test_it_waits(stack: ExitStack, view: memoryview) -> None:
    fd, far = sockets(stack, socket.SOCK_STREAM)
    edge = edge_of(fd)
    while edge.write(b"", bytes(65536)) is not Want.WRITE:
        pass
    with loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(edge.wait, Want.READ)
            nursery.start_soon(edge.wait, Want.WRITE)
            await loops.settle()
            far.send(b"x")
            with pytest.raises(BlockingIOError):
                while True:
                    far.recv(65536)
        async with loops.open_nursery() as nursery:
            assert edge.read(view) == 1
            nursery.start_soon(edge.wait, Want.READ)
            await loops.settle()
            edge.interrupt()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(edge.wait, Want.READ)
            await loops.settle()
            edge.close()


async def test_what_cannot_be_waited_for_is_a_failure(tmp_path: Any) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    edge = edge_of(fd, -1)
    with pytest.raises(Broken) as caught:
        await edge.wait(Want.READ)
    assert caught.value.error.errno == errno.EPERM
    with pytest.raises(Broken, match="Is a directory") as caught:
        edge.read(memoryview(bytearray(10)))
    assert (caught.value.side, caught.value.reason) == ("sink", "sink")
    assert caught.value.error.code == "os"
    edge.close()


async def test_an_empty_datagram_is_no_end(stack: ExitStack, view: memoryview) -> None:
    fd, far = sockets(stack, socket.SOCK_DGRAM)
    edge = edge_of(fd, packets=True)
    far.send(b"")
    assert edge.read(view) == 0
    assert edge.read(view) is Want.READ
    with socket.socket(fileno=os.dup(fd)) as same:
        same.shutdown(socket.SHUT_RD)
    # The first may be an accident.
    assert edge.read(view) in (None, Want.READ)
    assert edge.read(view) is None
    edge.close()


async def test_nothing_read_from_datagrams_over_UDP_may_be_the_end(
    view: memoryview,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.connect(one.getsockname())
        one.setblocking(False)
        edge = edge_of(os.dup(one.fileno()))
        one.send(b"")
        await anyio.wait_readable(one)
        assert edge.read(view) == 0
        one.shutdown(socket.SHUT_RD)
        await until(lambda: edge.read(view) is None)
        edge.close()


async def test_a_terminal_whose_other_side_is_closed_has_ended(
    view: memoryview,
) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    nonblocking(master)
    edge = edge_of(master)
    os.write(slave, b"bye")
    os.close(slave)
    assert edge.read(view) == 3
    assert edge.read(view) is None
    assert edge.finish() is None
    os.fstat(master)
    edge.close()


async def test_the_end_is_shut_down_on_a_socket(stack: ExitStack) -> None:
    fd, far = sockets(stack, socket.SOCK_STREAM)
    edge = edge_of(fd)
    assert edge.finish() is None
    assert far.recv(1) == b""
    far.close()
    assert edge.finish() is None
    edge.close()


async def test_the_end_of_a_pipe_is_closing_it(view: memoryview) -> None:
    (read, write), (other, into) = os.pipe(), os.pipe()
    edge = edge_of(read, into)
    assert edge.finish() is None
    assert os.read(other, 1) == b""
    os.write(write, b"x")
    assert edge.read(view) == 1
    edge.close()
    os.close(write)
    os.close(other)


class Calls:
    """os.pwritev, which fails in its turn."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def __call__(self, fd: int, parts: Sequence[object], *_: int) -> int:
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, os.strerror(number))
        return len(parts)


@pytest.mark.parametrize("head", [b"", b"head"])
@pytest.mark.parametrize(
    ("number", "packets", "expected"),
    [
        (errno.EAGAIN, False, Want.WRITE),
        (errno.ENOBUFS, False, Obstacle.NO_BUFFERS),
        (errno.ENOBUFS, True, Obstacle.NO_BUFFERS),
        (errno.EIO, True, Obstacle.REFUSED),
        (errno.EINVAL, True, Obstacle.REFUSED),
    ],
)
async def test_some_failures_pass(
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
    number: int,
    packets: bool,
    expected: object,
) -> None:
    fd, _ = sockets(stack, socket.SOCK_SEQPACKET)
    edge = edge_of(fd, packets=packets)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", Calls(number))
        assert edge.write(head, b"data") is expected
    edge.close()


@pytest.mark.parametrize(
    ("number", "packets"),
    [
        (errno.EIO, False),
        (errno.EINVAL, False),
        (errno.EPIPE, True),
        (errno.ENODEV, True),
        (errno.EBADFD, True),
    ],
)
async def test_the_others_do_not(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, number: int, packets: bool
) -> None:
    fd, _ = sockets(stack, socket.SOCK_SEQPACKET)
    edge = edge_of(fd, packets=packets)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", Calls(number))
        with pytest.raises(Broken) as caught:
            edge.write(b"", b"data")
    assert caught.value.error.errno == number
    assert isinstance(caught.value.error.__cause__, OSError)
    assert "write to the sink" in str(caught.value.error)
    edge.close()


async def test_a_foreign_sink_says_nothing_ahead(stack: ExitStack) -> None:
    fd, far = sockets(stack, socket.SOCK_STREAM)
    edge = edge_of(fd)
    assert edge.failure() is None
    assert not edge.readable()
    far.send(b"x")
    assert edge.readable()
    edge.close()


async def test_only_a_side_that_is_used_can_be_waited_for(stack: ExitStack) -> None:
    fd, _ = sockets(stack, socket.SOCK_STREAM)
    edge = FdEdge(current(), End(-1, fd), packets=False)
    edge.interrupt()
    edge.close()


# -- connections


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_connection_is_read_and_written(kind: Any, view: memoryview) -> None:
    async with joined(kind) as (connection, peer):
        edge = ConnectionEdge(current(), "connection", lend(connection))
        assert edge.encrypts == (kind == "tls")
        await peer.send(b"x" * 20000)

        async def read() -> int | None:
            while isinstance(got := edge.read(view), Want):
                with loops.fail_after(WITHIN):
                    await edge.wait(got)
            return got

        total = 0
        while total < 20000:
            total += await read() or 0
        assert edge.received == (2 if kind == "tls" else 0)
        assert edge.write(b"head", memoryview(b"data")) == 8
        assert edge.write(b"", b"y" * 20000) == 20000
        assert edge.sent == (3 if kind == "tls" else 0)
        with loops.fail_after(WITHIN):
            assert await peer.receive_exactly(20008) == b"headdata" + b"y" * 20000
        await peer.end()
        assert await read() is None
        assert edge.finish() is None
        with loops.fail_after(WITHIN):
            assert await peer.receive_to_end() == b""
        edge.close()
        assert connection.socket.fileno() >= 0


async def test_its_readers_and_writers_share_a_gate() -> None:
    async with joined("tls") as (connection, _):
        edge = ConnectionEdge(current(), "connection", lend(connection))
        with loops.fail_after(WITHIN):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(edge.wait, Want.READ)
                nursery.start_soon(edge.wait, Want.READ)
                await loops.settle()
                edge.interrupt()
        edge.close()


@pytest.mark.parametrize(
    ("fault", "reason", "code"),
    [
        ("cut", "truncated", "truncated"),
        ("junk", "tls", "tls"),
        ("reset", "reset", "reset"),
    ],
)
async def test_a_failure_has_its_reason(
    view: memoryview, fault: str, reason: str, code: str
) -> None:
    async with joined("tls") as (connection, peer):
        edge = ConnectionEdge(current(), "sink", lend(connection))
        if fault == "cut":
            peer.cut()
        elif fault == "junk":
            await peer.put(b"junk" * 10)
        else:
            peer.reset()
        with pytest.raises(Broken) as caught:
            while isinstance(got := edge.read(view), Want):
                await edge.wait(got)
        assert caught.value.side == "sink"
        assert caught.value.reason == reason
        assert isinstance(caught.value.error, SocketError)
        assert caught.value.error.code == code
        edge.close()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_what_it_broke_with_is_known_without_reading(kind: Any) -> None:
    async with joined(kind) as (connection, peer):
        edge = ConnectionEdge(current(), "connection", lend(connection))
        assert edge.failure() is None
        peer.reset()
        await anyio.wait_readable(connection.socket)
        assert edge.readable()
        error = edge.failure()
        assert error is not None
        assert error.code == "reset"
        edge.close()


async def test_without_a_descriptor_nobody_can_tell_that_it_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with joined("plain") as (connection, _):
        edge = ConnectionEdge(current(), "connection", lend(connection))
        with monkeypatch.context() as patch:
            patch.setattr("wsockets.bridge.edges.select.epoll", exhausted)
            assert await edge.breaks() is None
        edge.close()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_that_it_breaks_can_be_waited_for(kind: Any) -> None:
    found: list[Broken | None] = []

    async def guard(edge: ConnectionEdge) -> None:
        found.append(await edge.breaks())

    async with joined(kind) as (connection, peer):
        await peer.send(b"unread")
        for end_it in (True, False):
            edge = ConnectionEdge(current(), "connection", lend(connection))
            with loops.fail_after(WITHIN):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(guard, edge)
                    await loops.settle()
                    # What is there to be read is no reason to wake up.
                    assert found == []
                    if end_it:
                        edge.close()
                    else:
                        peer.reset()
            if end_it:
                assert found == [None]
                found.clear()
            else:
                assert found[0] is not None
                assert (found[0].side, found[0].reason) == ("connection", "reset")
                assert found[0].error.code == "reset"
                edge.close()


async def test_of_a_foreign_sink_nobody_can_tell(stack: ExitStack) -> None:
    fd, _ = sockets(stack, socket.SOCK_STREAM)
    edge = edge_of(fd)
    assert await edge.breaks() is None
    edge.close()


@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_nothing_is_written_to_a_TLS_peer_that_is_gone(
    family: Any, view: memoryview
) -> None:
    # OpenSSL would not read any more what came before.
    async with joined("tls", family) as (connection, peer):
        edge = ConnectionEdge(current(), "connection", lend(connection))
        await peer.send(b"last")
        if family == "tcp":
            await anyio.wait_readable(connection.socket)
            peer.reset()
        else:
            peer.close()
        poll = select.poll()
        poll.register(connection.socket, 0)
        await until(lambda: poll.poll(0))
        with pytest.raises(Broken) as caught:
            edge.write(b"", b"too late")
        assert caught.value.reason == "reset"
        assert caught.value.error.code == "reset"
        while isinstance(got := edge.read(view), Want):
            assert edge.readable()
        assert bytes(view[: got or 0]) == b"last"
        edge.close()


async def test_one_descriptor_is_enough() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        connection = PlainConnection(near)
        for end in (
            End(os.dup(near.fileno()), -1, connection),
            End(-1, os.dup(near.fileno()), connection),
        ):
            edge = ConnectionEdge(current(), "connection", end)
            with loops.fail_after(WITHIN):
                await edge.wait(Want.WRITE)
            edge.close()
