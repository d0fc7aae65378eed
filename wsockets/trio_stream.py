"""A Socket as a `trio.abc.HalfCloseableStream`.

For code that is written to trio's streams: an HTTP client, trio's own helpers.
The socket is made with allowHalfOpen, so that the end of one direction leaves
the other alone, as trio's interface has it.

trio's rules differ from the streams' in three ways, all of them kept here: one
task a direction at a time (BusyResourceError), errors of trio's own kinds, with
the SocketError as their cause, and an operation after `aclose()` is a
ClosedResourceError whatever else is wrong.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import trio

from .errors import SocketError
from .streams.direct_readable import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .promise import Promise
    from .socket import Socket

__all__ = ["SocketStream"]

_OVER: Final = "this stream was closed before"


@final
class SocketStream(trio.abc.HalfCloseableStream):
    """The view of a Socket that trio's code expects; locks both of its streams.

    The socket has to be made on trio (RuntimeError) with `allowHalfOpen=True`
    (ValueError). The first
    operation waits for it to open, and raises BrokenResourceError if it cannot.
    """

    def __init__(self, socket: Socket) -> None:
        if socket._runtime.name != "trio":
            raise RuntimeError(
                f"a SocketStream is for trio; this socket runs on "
                f"{socket._runtime.name}: use its readable and writable"
            )
        if not socket._options.allowHalfOpen:
            raise ValueError(
                "a SocketStream needs a socket made with allowHalfOpen=True"
            )
        self._socket = socket
        self._reader = socket.readable.getReader()
        try:
            self._writer = socket.writable.getWriter()
        except TypeError:
            self._reader.releaseLock()
            raise
        self._sending = False
        self._receiving = False
        self._closed = False
        self._sent_eof = False

    @property
    def socket(self) -> Socket:
        """The socket underneath."""
        return self._socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; returns when the operating system has it."""
        with self._one_sender():
            if self._sent_eof:
                raise trio.ClosedResourceError("send_eof() was called before")
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._try_to(lambda: self._writer.write(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until everything that was sent before has left."""
        with self._one_sender():
            if self._sent_eof:
                raise trio.ClosedResourceError("send_eof() was called before")
            await self._try_to(lambda: self._writer.ready)
            self._check_open()

    async def send_eof(self) -> None:
        """Send the end (close_notify and FIN); receiving goes on."""
        with self._one_sender():
            if self._sent_eof:
                await trio.lowlevel.checkpoint()
                return
            self._sent_eof = True
            await self._try_to(self._writer.close)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Up to `max_bytes` bytes (None: 64 KiB); b"" at the end."""
        if max_bytes is not None:
            if isinstance(max_bytes, bool) or not isinstance(max_bytes, int):
                raise TypeError(f"max_bytes must be an int, not {max_bytes!r}")
            if max_bytes < 1:
                raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        try:
            self._check_open()
            # A finished read is awaited without looking for a cancellation.
            await trio.lowlevel.checkpoint_if_cancelled()
            source = self._socket._readable
            try:
                value, _ = await source.pull(min(max_bytes or CHUNK, CHUNK))
            except Exception as error:
                self._translate(error)
            self._check_open()
            if value is None:
                await self._check_end()
            chunk: bytes = value or b""
            return chunk
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close the socket: what was sent arrives, close_notify and FIN follow.

        Cancelled, it resets the connection and raises Cancelled.
        """
        if not self._closed:
            self._closed = True
            self._socket.close()
        try:
            await self._socket.closed
        except SocketError:
            pass  # it never opened, which is closed enough
        await trio.lowlevel.checkpoint()

    # -- one task at a time, and trio's errors

    @contextmanager
    def _one_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            self._check_open()
            yield
        finally:
            self._sending = False

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(_OVER)

    async def _try_to(self, start: Callable[[], Promise[Any]]) -> None:
        try:
            await start()
        except Exception as error:
            self._translate(error)

    async def _check_end(self) -> None:
        """Tell the peer's end from a socket that never opened, or was aborted."""
        if self._socket._opened._is_rejected():
            await self._try_to(lambda: self._socket._opened)
        if not self._socket._read_to_end:
            raise trio.BrokenResourceError("the socket was closed underneath")

    def _translate(self, error: Exception) -> NoReturn:
        self._check_open()
        if type(error) is TypeError:  # what was to be sent is not bytes
            raise error
        raise trio.BrokenResourceError(str(error)) from error
