"""Networks for tests: loopback listeners, black holes, a network of one's own."""

from __future__ import annotations

import ctypes
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tests import loops
from wsockets.runtime import Runtime, current

__all__ = [
    "Watched",
    "black_hole",
    "closed_port",
    "connections",
    "in_own_network",
    "listener",
    "tcp_pair",
    "watched",
]

CLONE_NEWNET = 0x40000000


@contextmanager
def listener(ip: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A listening socket, of which nobody accepts unless the test does."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.create_server((ip, port), family=family) as server:
        server.setblocking(False)
        yield server


def tcp_pair(
    ip: str = "127.0.0.1", *, receive_buffer: int | None = None
) -> tuple[socket.socket, socket.socket]:
    """The two ends of a TCP connection, which are the caller's."""
    with listener(ip) as server:
        if receive_buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        near = socket.create_connection(server.getsockname()[:2])
        far, _ = server.accept()
    return near, far


def connections(server: socket.socket) -> int:
    """How many connections wait to be accepted; they are closed."""
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@contextmanager
def black_hole(ip: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A listener that answers no SYN, as its backlog is full.

    Once the test has accepted a connection it answers, from the next
    retransmission on (after about a second).
    """
    with (
        socket.create_server((ip, port), backlog=0) as server,
        socket.create_connection(server.getsockname()),
    ):
        server.setblocking(False)
        yield server


@contextmanager
def closed_port(ip: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((ip, 0))
        yield sock.getsockname()[1]


class Watched:
    """The current runtime, and a record of some of what is asked of it."""

    def __init__(self) -> None:
        self.runtime = current()
        # What was about to be closed: the fds, and the sockets that they led to.
        self.closed: list[int] = []
        self.inodes: list[str] = []
        self.pauses: list[float | None] = []
        self.waits = 0
        # Calls of wait_writable that return without any news.
        self.false_alarms = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runtime, name)

    def notify_closing(self, fd: int) -> None:
        self.closed.append(fd)
        # It is not closed yet, or this raises.
        self.inodes.append(os.readlink(f"/proc/self/fd/{fd}"))
        self.runtime.notify_closing(fd)

    async def wait_writable(self, fd: int) -> None:
        self.waits += 1
        if self.waits <= self.false_alarms:
            await self.runtime.checkpoint()
        else:
            await self.runtime.wait_writable(fd)

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> Any:
        self.pauses.append(seconds)
        return self.runtime.scope(seconds, shield=shield)


def watched() -> tuple[Runtime, Watched]:
    """The current runtime with a record, once for each of its two types."""
    record = Watched()
    return cast("Runtime", record), record


def in_own_network(
    set_up: Sequence[str],
    function: Callable[[], Awaitable[object]],
    loop: str = "trio",
) -> None:
    """Run `function` on a loop in a thread with a network namespace of its own.

    The namespace has a loopback interface that is up, and what the shell
    commands `set_up` add. It goes when its last socket does. Needs root: without
    it the test is skipped, with it whatever fails here is a failure.
    """
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), "unshare")
            for command in ("ip link set lo up", *set_up):
                subprocess.run(shlex.split(command), check=True, timeout=10)
            loops.run(loop, function)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="own network")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
