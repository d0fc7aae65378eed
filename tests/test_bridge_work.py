from __future__ import annotations

import attrs
import pytest

from wsockets import SocketError
from wsockets.bridge.work import (
    BridgeEnd,
    BridgeFlow,
    BridgeStats,
    End,
    Framing,
    Remains,
    Work,
)


def test_ends_are_compared_without_their_errors() -> None:
    error = SocketError("could not read: it broke", code="reset")
    end = BridgeEnd("connection", "decrypt", "reset", error)
    assert end == BridgeEnd("connection", "decrypt", "reset")
    assert end != BridgeEnd("sink", "decrypt", "reset")
    assert end.error is error


def test_values_do_not_change() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        BridgeEnd("sink", "encrypt", "eof").reason = "reset"  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Remains().unread = b"x"  # type: ignore[misc]


def test_nothing_has_moved_at_first() -> None:
    assert BridgeStats() == (BridgeFlow(0, 0, 0, 0), BridgeFlow(0, 0, 0, 0))
    assert Remains() == Remains(b"", b"", b"", b"", b"", b"")


def test_work_is_a_stream_both_ways_unless_it_says_more() -> None:
    work = Work(End(3, 3), End(4, 5))
    assert work.encrypt
    assert work.decrypt
    assert work.framing is Framing.STREAM
    assert work.idle_timeout == float("inf")
    assert work.sink.connection is None


def test_framings_have_the_names_that_users_give() -> None:
    assert [framing.value for framing in Framing] == ["stream", "ip", "length16"]
