"""Happy eyeballs: several addresses, the first connection wins (RFC 8305).

An attempt starts 250 ms after the one before it, or at once when any attempt
has failed. Everything happens in the caller's task: the connecting sockets are
put into one selector, whose own fd is what the task waits for, with a deadline
for the next start. So there is one place where a cancellation arrives, and one
place where the losers are closed.

The policy is asked when an attempt starts, not before: what it refuses is an
attempt that failed.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from ..runtime import Runtime
from .attempt import Prepare, TcpTarget, close, decided, open_tcp, tcp_target
from .failures import Failure, at, combined, connect_failure
from .policy import Policy, judge

__all__ = ["STAGGER", "race"]

STAGGER: Final = 0.25
"""Seconds between two attempts; the default of RFC 8305 section 8."""


async def race(
    runtime: Runtime,
    host: str,
    port: int,
    addresses: Sequence[tuple[int, str]],
    policy: Policy | None = None,
    prepare: Prepare | None = None,
) -> socket.socket:
    """Connect to `host` at whichever of its numeric `addresses` answers first.

    They are tried in the order given. Raises one SocketError for all failures;
    its code is "policy" only if the policy refused every address.
    """
    try:
        contest = _Contest(runtime, host, port, addresses, policy, prepare)
        try:
            while True:
                if winner := contest.start_due() or await contest.wait():
                    return winner
        finally:
            contest.close()
    except OSError as error:  # of the selector: too many fds, too many watches
        raise connect_failure(at(host, port), error).error from error


class _Contest:
    """The attempts under way, those to come and those that failed."""

    def __init__(
        self,
        runtime: Runtime,
        host: str,
        port: int,
        addresses: Sequence[tuple[int, str]],
        policy: Policy | None,
        prepare: Prepare | None,
    ) -> None:
        self._runtime = runtime
        self._host = host
        self._port = port
        self._waiting: Iterator[tuple[int, str]] = iter(addresses)
        self._left = len(addresses)
        self._policy = policy
        self._prepare = prepare
        self._failures: list[Failure] = []
        self._under_way: dict[socket.socket, tuple[str, TcpTarget]] = {}
        self._due = runtime.time()
        self._selector = selectors.DefaultSelector()

    def start_due(self) -> socket.socket | None:
        """Start the attempts whose time has come: a socket connected at once."""
        while self._left and self._runtime.time() >= self._due:
            self._left -= 1
            family, ip = next(self._waiting)
            if sock := self._start(family, ip):
                return sock
        if not self._left and not self._under_way:
            raise combined(at(self._host, self._port), self._failures)
        return None

    def _start(self, family: int, ip: str) -> socket.socket | None:
        where = at(ip, self._port)
        refused = judge(self._policy, self._host, ip, self._port, where)
        if refused is not None:
            self._failures.append(refused)
            return None
        try:
            target = tcp_target(ip, self._port)
            sock = open_tcp(family, self._prepare)
        except OSError as error:
            self._failures.append(connect_failure(where, error))
            return None
        self._under_way[sock] = where, target
        if self._settle(sock):
            return sock
        if sock in self._under_way:
            self._selector.register(sock, selectors.EVENT_WRITE)
            self._due = self._runtime.time() + STAGGER
        return None

    async def wait(self) -> socket.socket | None:
        """Until an attempt is decided or the next is due: a connected socket."""
        pause = self._due - self._runtime.time() if self._left else None
        with self._runtime.scope(pause):
            await self._runtime.wait_readable(self._fileno())
        for key, _ in self._selector.select(0):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if self._settle(sock):
                return sock
            if sock not in self._under_way:
                self._due = self._runtime.time()
        return None

    def _settle(self, sock: socket.socket) -> bool:
        """Look after one attempt: whether it has won. A failed one is dropped."""
        where, target = self._under_way[sock]
        try:
            won = decided(sock, target)
        except OSError as error:
            del self._under_way[sock]
            self._drop(sock)
            self._failures.append(connect_failure(where, error))
            return False
        if won:
            del self._under_way[sock]
        return won

    def _drop(self, sock: socket.socket) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
        close(self._runtime, sock)

    def _fileno(self) -> int:
        # epoll's and kqueue's selectors have an fd of their own.
        return self._selector.fileno()

    def close(self) -> None:
        """Close the losers."""
        for sock in self._under_way:
            close(self._runtime, sock)
        self._under_way.clear()
        self._runtime.notify_closing(self._fileno())
        self._selector.close()
