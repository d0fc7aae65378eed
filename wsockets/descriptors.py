"""Streams over file descriptors: pipes, terminals, files, devices.

`from_fd()` reads one and `to_fd()` writes to one, as the readable and writable
of a socket do: no queue, and a task only for what the kernel does not take. They
work on a duplicate, so the caller's descriptor stays the caller's; O_NONBLOCK,
which both share, is put back when the stream has ended.
"""

from __future__ import annotations

import contextlib
import os
import socket as _socket
import stat
from typing import final

from .bridge.nowait import NoWait
from .bridge.sink import Sink, open_sink
from .errors import SocketError, os_error
from .ferry import ferry_between
from .runtime import Runtime, current
from .runtime.gate import Gate, Want
from .streams import ReadableStream, WritableStream
from .streams.direct_readable import DirectReadable
from .streams.direct_writable import DirectWritable
from .streams.readable import Ferry, ReadableState
from .streams.writable import WritableController, WritableState

__all__ = ["Descriptor", "from_fd", "to_fd"]

_HIGH_WATER_MARK = 65536


def from_fd(fd: object, /) -> ReadableStream:
    """A readable byte stream of what is read from `fd`.

    `fd` is an open descriptor or an object with fileno(), which stays the
    caller's. The stream works on a duplicate, non-blocking; it closes that, and
    puts O_NONBLOCK back as it was, at its end: when everything was read, or it
    is cancelled, or fails.

    SocketError (code "option") for what cannot be read from; RuntimeError
    outside of an event loop.
    """
    return Descriptor(current(), fd, reading=True).readable.stream


def to_fd(fd: object, /) -> WritableStream:
    """A writable stream of bytes that are written to `fd`.

    As `from_fd`. Closing the stream closes the duplicate only; a socket is shut
    down for writing (shutdown(2), SHUT_WR).
    """
    return Descriptor(current(), fd, reading=False).writable.stream


@final
class _FdChannel:
    """read(2) and write(2), tried now."""

    __slots__ = ("_calls", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._calls = NoWait(fd)

    def receive(self, limit: int, /) -> bytes | Want:
        view = memoryview(bytearray(limit))
        got = self.receive_into(view)
        return got if isinstance(got, Want) else bytes(view[:got])

    def receive_into(self, view: memoryview, /) -> int | Want:
        try:
            return self._calls.read_into(view)
        except BlockingIOError:
            return Want.READ
        except OSError as error:
            raise os_error("read from the descriptor", error) from error

    def send(self, data: bytes | memoryview, /) -> int | Want:
        try:
            return self._calls.write(data)
        except BlockingIOError:
            return Want.WRITE
        except OSError as error:
            raise os_error("write to the descriptor", error) from error

    def flush(self) -> int | Want:
        return 0

    def unsent(self) -> int:
        return 0

    def finish(self) -> Want | None:
        if stat.S_ISSOCK(os.fstat(self.fd).st_mode):
            sock = _socket.socket(fileno=self.fd)
            try:
                # ENOTCONN: the peer has gone; there is nobody to tell.
                with contextlib.suppress(OSError):
                    sock.shutdown(_socket.SHUT_WR)
            finally:
                sock.detach()
        return None

    def cut(self) -> Want | None:
        return None


@final
class Descriptor:
    """One stream over a descriptor, and what the stream notices."""

    __slots__ = ("_channel", "_gate", "_sink", "readable", "writable")

    readable: DirectReadable
    writable: DirectWritable

    def __init__(self, runtime: Runtime, fd: object, *, reading: bool) -> None:
        self._sink: Sink | None = open_sink(fd, reading=reading, writing=not reading)
        end = self._sink.end
        self._channel: _FdChannel | None = _FdChannel(
            end.read_fd if reading else end.write_fd
        )
        self._gate = Gate(runtime)
        self._gate.open(self._channel.fd)
        if reading:
            self.readable = DirectReadable(runtime, self._gate, self)
            self.readable.open(self._channel)
        else:
            self.writable = DirectWritable(runtime, self._gate, self, _HIGH_WATER_MARK)
            self.writable.open(self._channel)

    @property
    def fd(self) -> int:
        """The duplicate that is read from or written to; -1 after the end."""
        return -1 if self._channel is None else self._channel.fd

    @property
    def is_open(self) -> bool:
        """Whether the stream has not ended, and nothing is queued."""
        if self._channel is None:
            return False
        if hasattr(self, "readable"):
            return self.readable.stream._state is ReadableState.READABLE
        ended = self.writable.stream._state is not WritableState.WRITABLE
        return not ended and self.writable.flushed() is None

    def _ferry_to(self, destination: WritableController) -> Ferry | None:
        return ferry_between(self, destination)

    # -- what the streams notice

    def _read_ended(self) -> None:
        self._end()

    def _read_cancelled(self) -> None:
        self._end()

    def _write_ended(self) -> None:
        self._end()

    def _failed(self, error: SocketError) -> None:
        if self._channel is None:
            return
        error.__traceback__ = None
        self._end()
        if hasattr(self, "readable"):
            self.readable.stream._fail(error)
        else:
            self.writable.fail(error)

    def _stall_limit(self) -> float | None:
        return None

    def _stalled(self) -> None:
        pass  # there is no limit

    def _end(self) -> None:
        channel, self._channel = self._channel, None
        sink, self._sink = self._sink, None
        if channel is None or sink is None:
            return
        self._gate.close()
        os.close(channel.fd)
        sink.restore()

    def __del__(self) -> None:
        if getattr(self, "_channel", None) is not None and self._sink is not None:
            os.close(self.fd)
            self._sink.restore()
