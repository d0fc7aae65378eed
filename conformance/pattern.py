"""Bytes that tell where they stand in a stream, so that losses are seen.

The byte at offset i is (31 i + 7 (i >> 8) + 3 (i >> 16)) mod 256;
drivers/interpreter.mjs has the same formula.
"""

from __future__ import annotations

import functools
from typing import Any, Final

__all__ = ["describe", "pattern"]

# Up to so many bytes are told one by one.
SHORT: Final = 64


@functools.cache
def _row(first: int) -> bytes:
    return bytes((31 * low + first) & 255 for low in range(256))


def pattern(length: int, start: int = 0) -> bytes:
    """`length` bytes of the pattern, from offset `start` on."""
    first, last = start >> 8, (start + length + 255) >> 8
    rows = b"".join(
        _row((7 * high + 3 * (high >> 8)) & 255) for high in range(first, last)
    )
    offset = start - (first << 8)
    return rows[offset : offset + length]


def describe(data: bytes) -> dict[str, Any]:
    """Bytes as a transcript tells them: short ones as text, others by the pattern."""
    if len(data) <= SHORT:
        return {"text": data.decode("latin-1"), "length": len(data)}
    return {"pattern": data == pattern(len(data)), "length": len(data)}
