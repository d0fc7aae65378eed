"""Bytes that were received already, before what a channel gives next."""

from __future__ import annotations

from typing import Final, final

from ..runtime.gate import Want
from .channel import Source

__all__ = ["Prepended"]

_nothing: Final = memoryview(b"")


@final
class Prepended:
    """A source that delivers `data` first and then what `source` has."""

    __slots__ = ("_data", "_source")

    def __init__(self, data: bytes, source: Source) -> None:
        self._data = memoryview(data)
        self._source = source

    @property
    def left(self) -> bytes:
        """What was not delivered yet."""
        return bytes(self._data)

    def receive(self, limit: int, /) -> bytes | Want:
        if not self._data:
            return self._source.receive(limit)
        return bytes(self._take(limit))

    def receive_into(self, view: memoryview, /) -> int | Want:
        if not self._data:
            return self._source.receive_into(view)
        chunk = self._take(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def _take(self, limit: int) -> memoryview:
        chunk, self._data = self._data[:limit], self._data[limit:]
        if not self._data:
            # An empty view would keep all of it.
            self._data = _nothing
        return chunk
