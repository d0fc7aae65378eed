"""As much of PostgreSQL's protocol as one question takes.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterable
from typing import Final

__all__ = ["first_row", "query", "startup"]

_VERSION: Final = 3 << 16


def startup(user: str, database: str) -> bytes:
    """The StartupMessage."""
    body = struct.pack("!I", _VERSION)
    body += f"user\0{user}\0database\0{database}\0\0".encode()
    return struct.pack("!I", 4 + len(body)) + body


def query(sql: str) -> bytes:
    """A Query, followed by Terminate."""
    text = sql.encode() + b"\0"
    return b"Q" + struct.pack("!I", 4 + len(text)) + text + b"X\0\0\0\x04"


async def first_row(chunks: AsyncIterable[bytes]) -> list[str]:
    """The columns of the first DataRow; RuntimeError with an ErrorResponse's text."""
    buffer = b""
    row: list[str] = []
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= 5:
            kind, size = buffer[:1], int.from_bytes(buffer[1:5], "big")
            if len(buffer) < 1 + size:
                break
            body, buffer = buffer[5 : 1 + size], buffer[1 + size :]
            if kind == b"E":
                raise RuntimeError(body.replace(b"\0", b" ").decode("utf-8", "replace"))
            if kind == b"D" and not row:
                row = _columns(body)
    return row


def _columns(body: bytes) -> list[str]:
    columns, position = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        (size,) = struct.unpack_from("!i", body, position)
        end = position + 4 + max(size, 0)
        columns.append(body[position + 4 : end].decode())
        position = end
    return columns
