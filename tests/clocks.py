"""An event loop of asyncio whose clock jumps, as trio's MockClock does.

Nobody waits for a deadline: when nothing else can happen, it is then. The clock
starts at 0. What threads and other processes do takes no time on it; tests that
need them need a real clock.
"""

from __future__ import annotations

import asyncio
import selectors

__all__ = ["JumpingLoop"]


class JumpingLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop, apart from its clock."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


class _Selector(selectors.EpollSelector):
    """Where a loop waits: for events as ever, and for deadlines not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()
        found = super().select(0)
        if not found:
            self.now += max(timeout, 0)
        return found
