"""Sockets that were closed here and not yet by their peers.

close(2) on a TCP socket with unread input, or with input still to come, answers
with RST, and the RST can destroy at the peer what was sent last and not read
yet (RFC 1122, section 4.2.2.13). So a socket that was closed in good order is
kept, its output shut down, and its input is thrown away until the peer closes
too or the time is up.

One task a runtime does this for all of them: it waits for an epoll fd that all
are registered with, so a lingering socket costs a dictionary entry and no task.
"""

from __future__ import annotations

import array
import fcntl
import heapq
import itertools
import select
import socket as _socket
import termios
from typing import Final, final

from .runtime import Runtime, protect

__all__ = ["linger", "unsent"]

# How much input is thrown away in one turn for one socket, in bytes.
_TURN: Final = 1 << 20
# How many may linger at once; beyond that they are closed at once.
_MOST: Final = 4096

# Seconds between two looks at what is still to be acknowledged.
_PAUSE: Final = 0.01
# Seconds that the end of the event loop is held up for that at most.
_LONGEST_STAY: Final = 5.0
_EVENTS: Final = select.EPOLLIN | select.EPOLLRDHUP

# Written to by every thread that discards, and read by none.
_trash: Final = bytearray(65536)

# Those that hold a socket now, by runtime.
_lingerers: dict[Runtime, _Lingerer] = {}


def linger(
    runtime: Runtime, socket: _socket.socket, seconds: float, *, sent: bool = True
) -> None:
    """Own `socket`, whose output is shut down, until its peer closes it.

    Closes it after `seconds` at the latest, and at once where its peer has closed
    or nothing was `sent` that a reset could destroy. Returns at once.
    """
    if discard(socket) or not sent:
        socket.close()
        return
    lingerer = _lingerers.get(runtime)
    if lingerer is None:
        lingerer = _Lingerer(runtime)
    lingerer.add(socket, seconds)


@final
class _Lingerer:
    """The sockets of one runtime, and the task that watches them."""

    __slots__ = ("_count", "_deadlines", "_epoll", "_held", "_runtime")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._epoll: select.epoll | None = None
        self._held: dict[int, _socket.socket] = {}
        # A heap; an entry whose socket is no longer held is skipped.
        self._deadlines: list[tuple[float, int, _socket.socket]] = []
        self._count = itertools.count()

    @protect
    def add(self, socket: _socket.socket, seconds: float) -> None:
        if len(self._held) >= _MOST:
            socket.close()
            return
        try:
            self._watch(socket)
        except (OSError, RuntimeError):
            # No descriptor left, or no event loop any more: do without.
            socket.close()
            return
        deadline = (self._runtime.time() + seconds, next(self._count), socket)
        self._held[socket.fileno()] = socket
        heapq.heappush(self._deadlines, deadline)
        if self._deadlines[0] is deadline and self._epoll is not None:
            self._runtime.notify_closing(self._epoll.fileno())

    def _watch(self, socket: _socket.socket) -> None:
        if self._epoll is not None:
            self._epoll.register(socket, _EVENTS)
            return
        epoll = select.epoll()
        try:
            epoll.register(socket, _EVENTS)
            self._runtime.spawn(self._run, epoll, name="wsockets linger")
        except BaseException:
            epoll.close()
            raise
        self._epoll = epoll
        _lingerers[self._runtime] = self

    async def _run(self, epoll: select.epoll) -> None:
        """Until none is left."""
        try:
            await self._watch_over(epoll)
        except BaseException:
            await self._stay(epoll)
            raise
        finally:
            self._end(epoll)

    async def _watch_over(self, epoll: select.epoll) -> None:
        while self._held:
            seconds = self._deadlines[0][0] - self._runtime.time()
            await self._wait(epoll, seconds)
            self._sweep(epoll)

    async def _stay(self, epoll: select.epoll) -> None:
        """The event loop ends: see that what was sent has arrived, in their time.

        Nothing tells when the last byte is acknowledged, so it is asked for.
        """
        with self._runtime.scope(_LONGEST_STAY, shield=True):
            while any(unsent(socket) for socket in self._held.values()):
                await self._wait(epoll, _PAUSE)
                self._sweep(epoll)

    async def _wait(self, epoll: select.epoll, seconds: float) -> None:
        """Until something happens, at most for so long."""
        with self._runtime.scope(seconds):
            try:
                await self._runtime.wait_readable(epoll.fileno())
            except self._runtime.Released:
                pass  # a deadline that comes sooner was added

    @protect
    def _sweep(self, epoll: select.epoll) -> None:
        for fd, _ in epoll.poll(0):
            if discard(self._held[fd]):
                self._close(epoll, fd)
        now = self._runtime.time()
        while self._deadlines:
            deadline, _, socket = self._deadlines[0]
            if socket.fileno() >= 0:
                if deadline > now:
                    break
                self._close(epoll, socket.fileno())
            heapq.heappop(self._deadlines)

    def _close(self, epoll: select.epoll, fd: int) -> None:
        # Closing alone leaves it in the epoll if the fd was duplicated.
        epoll.unregister(fd)
        self._held.pop(fd).close()

    @protect
    def _end(self, epoll: select.epoll) -> None:
        self._runtime.notify_closing(epoll.fileno())
        self._epoll = None
        del _lingerers[self._runtime]
        epoll.close()
        held, self._held = self._held, {}
        self._deadlines.clear()
        for socket in held.values():
            socket.close()


def unsent(socket: _socket.socket) -> int:
    """How many bytes the kernel holds that the peer has not acknowledged."""
    held = array.array("i", [0])
    fcntl.ioctl(socket, termios.TIOCOUTQ, held)
    return held[0]


def discard(socket: _socket.socket) -> bool:
    """Throw away what has arrived; whether the peer has closed, or is gone."""
    # On TCP MSG_TRUNC throws away without copying (tcp(7)).
    flags = _socket.MSG_TRUNC if socket.family != _socket.AF_UNIX else 0
    taken = 0
    try:
        while taken < _TURN:
            count = socket.recv_into(_trash, len(_trash), flags)
            if count == 0:
                return True
            taken += count
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False
