"""Standard input and output over a socket.

Both files are read and written in threads. They may be anything: a terminal, a
pipe, a disk file. Making them non-blocking would change them for every other
process that shares them (the shell, for a terminal), epoll refuses disk files,
and a blocking write to a full pipe would stop the whole loop. A thread that
still blocks when the connection has ended is left behind; it holds nothing and
goes with the process.

A slow side slows the other one down, in both directions: of what was read but
not yet written there is one chunk on the way out and `AHEAD` chunks on the way
in. These are collected while the thread is busy and written at once, because
handing work to a thread costs as much as moving a chunk.

The peer decides when it is over: reading ends the relay. The end of the input
only ends the sending direction.
"""

from __future__ import annotations

import os
import select
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ..errors import SocketError
from .exits import OutputClosed

if TYPE_CHECKING:
    from ..promise import Promise
    from ..socket import Socket

__all__ = ["AHEAD", "CHUNK", "Crlf", "relay", "write_all"]

AHEAD: Final = 16
CHUNK: Final = 1 << 18


class Crlf:
    """Turns the line ends LF of successive chunks into CRLF; CRLF stays as it is."""

    def __init__(self) -> None:
        self._after_cr = False

    def __call__(self, chunk: bytes) -> bytes:
        """The next chunk, translated."""
        if not chunk:
            return chunk
        split = self._after_cr and chunk.startswith(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        translated = chunk.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return translated[1:] if split else translated


def _unchanged(chunk: bytes) -> bytes:
    return chunk


def _uncounted(_sent: int, _received: int) -> None:
    pass


async def relay(
    socket: Socket,
    source: int,
    sink: int,
    *,
    translate: Callable[[bytes], bytes] = _unchanged,
    shutdown: bool = True,
    count: Callable[[int, int], object] = _uncounted,
) -> None:
    """Send what `source` gives, write what comes to `sink`, until the peer's end.

    `shutdown` ends the sending direction when `source` has ended. `count(sent,
    received)` is called with the bytes of each chunk. Raises SocketError when
    the connection fails, OSError when a file does, and `OutputClosed`.
    """
    failures: list[Exception] = []
    put, take = trio.open_memory_channel[bytes](AHEAD)
    async with trio.open_nursery() as nursery:

        async def ending(direction: Callable[[], Awaitable[None]]) -> None:
            try:
                await direction()
            except (SocketError, OSError, OutputClosed) as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async def receiving() -> None:
            async with put:
                try:
                    async for chunk in socket.readable:
                        count(0, len(chunk))
                        await put.send(chunk)
                except SocketError as error:
                    # What came before it is still written.
                    failures.append(error)

        async def writing() -> None:
            async for chunk in take:
                await write_all(sink, chunk + b"".join(_waiting(take)))
            nursery.cancel_scope.cancel()

        async def sending() -> None:
            writer = socket.writable.getWriter()
            while chunk := await _in_thread(_read, source):
                count(len(chunk), 0)
                if not await _done(writer.write(translate(chunk))):
                    return
            if shutdown:
                await _done(writer.close())

        nursery.start_soon(ending, sending)
        nursery.start_soon(ending, writing)
        nursery.start_soon(receiving)
    if failures:
        raise failures[0]


async def _done(written: Promise[None]) -> bool:
    """Whether it could be written. If not, reading tells what became of it all."""
    try:
        await written
    except TypeError:
        # A SocketError, or the peer's end has closed the stream.
        return False
    return True


def _waiting(take: trio.MemoryReceiveChannel[bytes]) -> Iterator[bytes]:
    while True:
        try:
            yield take.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return


async def write_all(sink: int, chunk: bytes) -> None:
    """Write it to a file, in a thread. Raises OSError and `OutputClosed`."""
    await _in_thread(_write, sink, chunk)


async def _in_thread(function: Callable[..., bytes], *args: object) -> bytes:
    return await trio.to_thread.run_sync(
        partial(function, *args), abandon_on_cancel=True
    )


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            # Somebody else made it non-blocking.
            select.select([fd], [], [])


def _write(fd: int, chunk: bytes) -> bytes:
    view = memoryview(chunk)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except BrokenPipeError as error:
            raise OutputClosed from error
    return b""
