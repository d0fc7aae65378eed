"""What may be written to a byte stream, and what may be read into."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["as_bytes", "minimum_of", "writable_bytes"]


def as_bytes(chunk: object) -> bytes:
    """The bytes of a chunk, copied: the caller may change its buffer at once.

    A str is encoded as UTF-8; any object with a buffer (bytearray,
    memoryview, array, …) counts by its bytes. TypeError for anything else.
    """
    if isinstance(chunk, str):
        try:
            return chunk.encode()
        except UnicodeEncodeError as error:
            raise TypeError(
                f"this str cannot be encoded as UTF-8: {error.reason} at character "
                f"{error.start}"
            ) from error
    try:
        with memoryview(chunk) as view:  # type: ignore[arg-type]
            return view.tobytes()
    except (TypeError, BufferError):
        raise TypeError(
            f"a chunk is a str or a bytes-like object, not {type(chunk).__name__}"
        ) from None


def writable_bytes(view: Buffer) -> memoryview:
    """The caller's memory as bytes, to be read into; TypeError if it cannot be."""
    try:
        target = memoryview(view)
    except TypeError:
        raise TypeError(
            f"read() needs a writable buffer such as a bytearray, not {view!r}"
        ) from None
    if target.readonly:
        raise TypeError(f"read() cannot write to a read-only {type(view).__name__}")
    if not target.c_contiguous:
        raise TypeError("read() needs a contiguous buffer; this memoryview has gaps")
    if target.nbytes == 0:
        raise TypeError("read() needs a buffer of at least one byte")
    return target.cast("B")


def minimum_of(minimum: object, length: int) -> int:
    """How many of `length` bytes a read has to fill; TypeError if it cannot."""
    if minimum is None:
        return 1
    if (
        isinstance(minimum, bool)
        or not isinstance(minimum, int)
        or not 1 <= minimum <= length
    ):
        raise TypeError(f"min must be an int from 1 to {length}, not {minimum!r}")
    return minimum
