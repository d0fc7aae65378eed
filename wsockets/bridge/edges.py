"""The two ends of a bridge as the Python engine sees them: read and write, now.

A call does what can be done without waiting and says what came of it: a number
of bytes, or what stands in the way. `wait` waits for that, through the runtime.
A failure is a `Broken`, which says how the bridge ends.

Nothing here raises SIGPIPE: Python ignores it from its start (signal(3)).
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import select
import socket as _socket
import stat
from collections.abc import Iterator
from typing import Final, Protocol, TypeAlias, final

from ..connection import TlsConnection
from ..errors import SocketError, os_error
from ..runtime import Runtime
from ..runtime.gate import Gate, Want
from .framing import Buffer
from .nowait import NoWait
from .work import End, Reason, Side

__all__ = ["Broken", "ConnectionEdge", "Edge", "FdEdge", "Obstacle", "Written"]

# Bytes in the longest TLS record (RFC 8446, section 5.1).
_RECORD: Final = 16384

_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})
_REFUSED: Final = frozenset({errno.EIO, errno.EINVAL})

_REASONS: Final[dict[str, Reason]] = {
    "truncated": "truncated",
    "tls": "tls",
    "tls-alert": "tls",
    "tls-verify": "tls",
}


class Obstacle(enum.Enum):
    """Why a write did nothing, where waiting for the fd is no answer."""

    # The device has no room, and no event will tell when it has.
    NO_BUFFERS = "no buffers"
    # The device does not take this packet, and will take others.
    REFUSED = "refused"


Written: TypeAlias = "int | Want | Obstacle"


class Broken(Exception):
    """An end failed, or gave what cannot be passed on; the bridge ends so."""

    def __init__(self, side: Side, reason: Reason, error: SocketError) -> None:
        super().__init__(side, reason, error)
        self.side: Side = side
        self.reason: Reason = reason
        self.error = error


class Edge(Protocol):
    """One end of a bridge."""

    side: Side

    def read(self, view: memoryview) -> int | Want | None:
        """How many bytes were put into `view`; None at the end."""

    def write(self, head: bytes, data: Buffer) -> Written:
        """How many bytes of both, one behind the other, were taken."""

    def finish(self) -> Want | None:
        """Tell the other end that nothing more will come."""

    async def wait(self, want: Want) -> None:
        """Until it is worth trying again, or `interrupt`."""

    def interrupt(self) -> None:
        """Let those who wait in order to read return now, and perhaps others."""

    def readable(self) -> bool:
        """Whether the kernel holds something to read, now."""

    def failure(self) -> SocketError | None:
        """What the connection broke with, where that can be known without a read."""

    async def breaks(self) -> Broken | None:
        """Until it is broken; None where it is closed, or nobody can tell.

        It takes nothing of what was received.
        """

    def close(self) -> None:
        """Let everybody who waits return, and close the fds."""


@final
class ConnectionEdge:
    """A connection of ours."""

    def __init__(self, runtime: Runtime, side: Side, end: End) -> None:
        assert end.connection is not None
        self.side: Side = side
        self._runtime = runtime
        self._end = end
        self._connection = end.connection
        # Both fds are of the same socket, whose readers and writers share a gate:
        # either may have to wait for what the other waits for.
        self._gate = Gate(runtime)
        self._gate.open(end.read_fd if end.read_fd >= 0 else end.write_fd)
        self.encrypts = isinstance(end.connection, TlsConnection)
        # OpenSSL reads no more when a write has failed, and what the peer had sent
        # before would be lost. So writes look first whether there is a peer.
        self._poll: select.poll | None = None
        # Readable when the connection is broken: see breaks().
        self._broken: tuple[select.epoll, Gate] | None = None
        if self.encrypts and end.read_fd >= 0 and end.write_fd >= 0:
            self._poll = select.poll()
            self._poll.register(end.write_fd, 0)
        # TLS records, so far.
        self.received = 0
        self.sent = 0

    def read(self, view: memoryview) -> int | Want | None:
        with self._naming():
            if not isinstance(self._connection, TlsConnection):
                got = self._connection.receive_into(view)
                return None if got == 0 else got
            found = self._connection.receive_records(view)
            if isinstance(found, Want):
                return found
            count, records = found
            self.received += records
            return count or None

    def write(self, head: bytes, data: Buffer) -> Written:
        if head:
            data = head + data
        if self._poll is not None and _hung_up(self._poll.poll(0)):
            failure = self.failure() or _failure(errno.EPIPE)
            raise Broken(self.side, "reset", failure)
        with self._naming():
            done = self._connection.send(data)
        if isinstance(done, int) and isinstance(self._connection, TlsConnection):
            self.sent += -(-done // _RECORD)
        return done

    def finish(self) -> Want | None:
        return self._connection.finish()

    async def wait(self, want: Want) -> None:
        await self._gate.wait(want)

    def interrupt(self) -> None:
        self._gate.interrupt()

    def readable(self) -> bool:
        return _polled(self._connection.socket.fileno(), select.POLLIN)

    def failure(self) -> SocketError | None:
        number = self._connection.socket.getsockopt(
            _socket.SOL_SOCKET, _socket.SO_ERROR
        )
        return _failure(number) if number else None

    async def breaks(self) -> Broken | None:
        # Event loops wait for data as well, of which there may be some that nobody
        # reads now. An epoll that is asked for nothing tells of hang-ups.
        gate = Gate(self._runtime)
        try:
            epoll = select.epoll()
            self._broken = epoll, gate
            epoll.register(max(self._end.read_fd, self._end.write_fd), select.EPOLLET)
        except OSError:
            # No descriptor is to be had for it: the next write will notice.
            return None
        gate.open(epoll.fileno())
        while not _hung_up(epoll.poll(0)):
            await gate.wait(Want.READ)
            if epoll.closed:
                return None
        return Broken(self.side, "reset", self.failure() or _failure(errno.EPIPE))

    def close(self) -> None:
        self._gate.close()
        if self._broken is not None:
            epoll, gate = self._broken
            gate.close()
            epoll.close()
        _close(self._runtime, self._end.read_fd, self._end.write_fd)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except SocketError as error:
            reason = _REASONS.get(error.code, "reset")
            raise Broken(self.side, reason, error) from error


@final
class FdEdge:
    """Descriptors of the user: sockets, pipes, devices, terminals, files."""

    side: Side = "sink"

    def __init__(self, runtime: Runtime, end: End, *, packets: bool) -> None:
        self._runtime = runtime
        self._packets = packets
        self._read_fd = end.read_fd
        self._write_fd = end.write_fd
        self._input = NoWait(end.read_fd) if end.read_fd >= 0 else None
        self._output = NoWait(end.write_fd) if end.write_fd >= 0 else None
        self._reading = Gate(runtime)
        self._writing = Gate(runtime)
        if end.read_fd >= 0:
            self._reading.open(end.read_fd)
        if end.write_fd >= 0:
            self._writing.open(end.write_fd)
        # An empty read of these is an empty datagram.
        self._datagrams = _type(end.read_fd) == _socket.SOCK_DGRAM
        # Whether the read before had nothing to read.
        self._waited = False

    def read(self, view: memoryview) -> int | Want | None:
        assert self._input is not None
        try:
            count = self._input.read_into(view)
        except OSError as error:
            if error.errno in _NO_ROOM:
                # Readable, and nothing there: that may go on for ever.
                if self._waited and self._datagrams and self._shut():
                    return None
                self._waited = True
                return Want.READ
            raise self._broken("read from", error) from error
        self._waited = False
        if count or (self._datagrams and not self._shut()):
            return count
        return None

    def write(self, head: bytes, data: Buffer) -> Written:
        assert self._output is not None
        try:
            return self._output.write(head, data) if head else self._output.write(data)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return Want.WRITE
            if error.errno == errno.ENOBUFS:
                return Obstacle.NO_BUFFERS
            if self._packets and error.errno in _REFUSED:
                return Obstacle.REFUSED
            raise self._broken("write to", error) from error

    def finish(self) -> Want | None:
        if _type(self._write_fd) is not None:
            # ENOTCONN: its peer is gone; there is nobody to tell.
            with contextlib.suppress(OSError), _as_socket(self._write_fd) as sock:
                sock.shutdown(_socket.SHUT_WR)
        elif self._write_fd != self._read_fd:
            self._writing.close()
            _close(self._runtime, self._write_fd)
            self._write_fd = -1
        return None

    async def wait(self, want: Want) -> None:
        gate = self._reading if want is Want.READ else self._writing
        try:
            await gate.wait(want)
        except OSError as error:
            raise self._broken("wait for", error) from error

    def interrupt(self) -> None:
        self._reading.interrupt()

    def readable(self) -> bool:
        return _polled(self._read_fd, select.POLLIN)

    def failure(self) -> SocketError | None:
        return None

    async def breaks(self) -> Broken | None:
        return None

    def close(self) -> None:
        self._reading.close()
        self._writing.close()
        _close(self._runtime, self._read_fd, self._write_fd)

    def _shut(self) -> bool:
        """Whether a datagram socket will receive no more."""
        return _polled(self._read_fd, select.POLLRDHUP)

    def _broken(self, doing: str, error: OSError) -> Broken:
        text = error.strerror or str(error)
        failure = SocketError(
            f"could not {doing} the sink: {text}", code="os", errno=error.errno
        )
        failure.__cause__ = error.with_traceback(None)
        return Broken("sink", "sink", failure)


def _hung_up(events: list[tuple[int, int]]) -> bool:
    """Whether nothing can be written any more.

    Errors are told of too, and may be messages in the error queue of a socket.
    """
    return any(mask & select.POLLHUP for _, mask in events)


def _polled(fd: int, events: int) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(0))


def _failure(number: int) -> SocketError:
    return os_error("use the connection", OSError(number, os.strerror(number)))


def _close(runtime: Runtime, *fds: int) -> None:
    for fd in set(fds) - {-1}:
        # There may be no event loop any more.
        with contextlib.suppress(RuntimeError):
            runtime.notify_closing(fd)
        os.close(fd)


@contextlib.contextmanager
def _as_socket(fd: int) -> Iterator[_socket.socket]:
    """A socket object of an fd that stays open."""
    sock = _socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def _type(fd: int) -> int | None:
    """The type of a socket; None for whatever is none."""
    if fd < 0 or not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    with _as_socket(fd) as sock:
        return int(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE))
