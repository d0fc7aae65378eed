"""What the tests of dialling share: resolvers, policies, fds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tests import loops
from wsockets.dial import dial
from wsockets.errors import SocketError
from wsockets.runtime import current

__all__ = ["Allow", "Answer", "Names", "failure", "fds"]

Answer = list[tuple[int, str]]


def fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Names:
    """A resolver with one answer after the other; the last one stays."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Iterable[tuple[int, str]]:
        await loops.checkpoint()
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Allow:
    """A policy that allows some addresses, and remembers what it was asked."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.asked: list[tuple[str, str, int]] = []

    def __call__(self, host: str, address: str, port: int) -> object:
        self.asked.append((host, address, port))
        return address in self._addresses


async def failure(**arguments: Any) -> SocketError:
    """The error of a dial, which leaves no fd behind."""
    before = fds()
    with pytest.raises(SocketError) as caught:
        await dial(current(), **arguments)
    assert fds() == before
    return caught.value
