"""Sending a few bytes, and receiving exactly as many as are ours.

What follows the answer of a proxy belongs to the connection made through it, and
must stay in the kernel for whoever takes the socket over.
"""

from __future__ import annotations

import re
import socket
from typing import Final

from ..runtime import Runtime

__all__ = ["MAX_HEAD", "HeadTooLong", "receive_exactly", "receive_head", "send_all"]

MAX_HEAD: Final = 65536
"""The bytes that one HTTP message head may have."""

# As lenient about line ends as h11, which gets to see the result.
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")


class HeadTooLong(Exception):
    """A message head that did not end within the limit."""


async def send_all(runtime: Runtime, sock: socket.socket, data: bytes) -> None:
    """Send all of `data`."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await runtime.wait_writable(sock.fileno())


async def receive_exactly(runtime: Runtime, sock: socket.socket, count: int) -> bytes:
    """`count` bytes, never more; EOFError if they do not come."""
    received = b""
    while len(received) < count:
        piece = await _receive(runtime, sock, count - len(received), 0)
        received += piece
    return received


async def receive_head(
    runtime: Runtime, sock: socket.socket, *, begins: bytes, limit: int = MAX_HEAD
) -> bytes:
    """A message head up to and with its blank line, and not a byte more.

    The kernel's queue is looked into before anything is taken from it. Raises
    EOFError if the head does not end, HeadTooLong if not within `limit` bytes,
    and ValueError as soon as it cannot begin with `begins`.
    """
    head = b""
    while len(head) < limit:
        seen = await _receive(runtime, sock, limit - len(head), socket.MSG_PEEK)
        known = len(head)
        blank = _BLANK_LINE.search(head + seen, max(0, known - 2))
        ours = blank.end() - known if blank else len(seen)
        head += await receive_exactly(runtime, sock, ours)
        if head[: len(begins)] != begins[: len(head)]:
            raise ValueError("it begins with other bytes")
        if blank:
            return head
    raise HeadTooLong


async def _receive(
    runtime: Runtime, sock: socket.socket, limit: int, flags: int
) -> bytes:
    while True:
        try:
            data = sock.recv(limit, flags)
        except BlockingIOError:
            await runtime.wait_readable(sock.fileno())
        else:
            if not data:
                raise EOFError
            return data
