"""wsockets.tls.cache: the last used few."""

from __future__ import annotations

import pytest

from wsockets.tls.cache import RecentlyUsed


def test_a_value_is_made_once() -> None:
    cache: RecentlyUsed[list[int]] = RecentlyUsed(2)
    made = cache.get("key", list)
    assert cache.get("key", list) is made


def test_the_least_recently_used_makes_room() -> None:
    cache: RecentlyUsed[list[int]] = RecentlyUsed(2)
    a, b = cache.get("a", list), cache.get("b", list)
    assert cache.get("a", list) is a
    cache.get("c", list)
    assert cache.get("a", list) is a
    assert cache.get("b", list) is not b


def test_what_could_not_be_made_is_tried_again() -> None:
    cache: RecentlyUsed[int] = RecentlyUsed(2)

    def fails() -> int:
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            cache.get("key", fails)
    assert cache.get("key", int) == 0


def test_of_two_made_at_once_the_first_is_kept() -> None:
    cache: RecentlyUsed[list[int]] = RecentlyUsed(2)
    inner: list[list[int]] = []

    def make() -> list[int]:
        inner.append(cache.get("key", list))
        return [1]

    assert cache.get("key", make) is inner[0]
