"""Bytes before those of a channel."""

from __future__ import annotations

from wsockets.runtime.gate import Want
from wsockets.streams.prepended import Prepended


class Source:
    """Has "later", once."""

    def __init__(self) -> None:
        self.data = b"later"

    def receive(self, limit: int, /) -> bytes | Want:
        taken, self.data = self.data[:limit], self.data[limit:]
        return taken or Want.READ

    def receive_into(self, view: memoryview, /) -> int | Want:
        got = self.receive(len(view))
        if isinstance(got, Want):
            return got
        view[: len(got)] = got
        return len(got)


def test_what_was_there_comes_first_in_pieces_as_they_are_asked_for() -> None:
    source = Prepended(b"sooner", Source())
    assert source.left == b"sooner"
    assert source.receive(4) == b"soon"
    assert source.left == b"er"
    assert source.receive(4) == b"er"
    assert source.left == b""
    assert source.receive(100) == b"later"
    assert source.receive(100) is Want.READ


def test_into_a_buffer_as_well() -> None:
    source = Prepended(b"sooner", Source())
    buffer = bytearray(4)
    found = b""
    while not isinstance(count := source.receive_into(memoryview(buffer)), Want):
        found += buffer[:count]
    assert found == b"soonerlater"


def test_what_was_delivered_is_kept_no_longer() -> None:
    data = bytearray(b"sooner")
    source = Prepended(data, Source())  # type: ignore[arg-type]
    assert source.receive(100) == b"sooner"
    data.clear()  # a BufferError while anybody looks at it
