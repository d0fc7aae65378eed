"""A socket's task in its user's nursery: what makes the nursery end the socket."""

from __future__ import annotations

from collections.abc import Callable

from . import Line, Runtime

__all__ = ["guard"]


async def guard(
    runtime: Runtime,
    is_over: Callable[[], bool],
    when_over: Callable[[Callable[[], object]], object],
    end: Callable[[], object],
) -> None:
    """Live until the socket is over; call `end` then, or when cancelled before.

    `when_over` is given what to call when it is.
    """
    line: Line = {}
    when_over(lambda: runtime.wake(line))
    try:
        while not is_over():
            await runtime.park(line)
    finally:
        end()
