"""What may be written to a byte stream."""

from __future__ import annotations

__all__ = ["as_bytes"]


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
