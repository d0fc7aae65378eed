"""Cancelling a call after so many steps, on any event loop.

A step is one turn of any task, those of the library included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Literal, TypeAlias
from unittest import mock

import trio

from tests import loops

__all__ = ["Interrupter", "Way", "interrupted", "ways"]

# A scope of AnyIO's, or the cancel() of a task of asyncio.
Way: TypeAlias = Literal["scope", "task"]


class Interrupter(trio.abc.Instrument):
    """Calls a function once tasks have taken so many steps."""

    def __init__(self, steps: int, interrupt: Callable[[], object]) -> None:
        self.left = steps
        # Whether the one that was to be cancelled has ended so.
        self.cancelled = False
        self._interrupt = interrupt

    def after_task_step(self, task: object) -> None:
        self.left -= 1
        if self.left == 0:
            self._interrupt()


class Stepping(asyncio.tasks._PyTask):  # type: ignore[name-defined, misc]
    """A task of asyncio that tells of its steps, as trio does."""

    told: ClassVar[Interrupter | None] = None

    def _Task__step(self, exc: BaseException | None = None) -> None:
        super()._Task__step(exc)
        if self.told is not None:
            self.told.after_task_step(self)


def make_stepping(loop: asyncio.AbstractEventLoop, work: Any, **members: Any) -> Any:
    return Stepping(work, loop=loop, **members)


def ways() -> list[Way]:
    """The ways to be cancelled that there are on this event loop."""
    return ["scope"] if loops.on_trio() else ["scope", "task"]


async def interrupted(
    steps: int,
    function: Callable[..., Awaitable[object]],
    *args: object,
    way: Way = "scope",
) -> Interrupter:
    """Call `function`, and cancel it once all tasks have taken so many steps.

    By a scope it is cancelled for as long as it takes; by "task", on asyncio, once.
    """
    scope = loops.CancelScope()
    interrupter = Interrupter(steps, scope.cancel)

    async def call() -> None:
        with scope:
            await function(*args)

    if loops.on_trio():
        assert way == "scope"
        trio.lowlevel.add_instrument(interrupter)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(interrupter)
        interrupter.cancelled = scope.cancelled_caught
        return interrupter
    loop = asyncio.get_running_loop()
    with mock.patch.object(asyncio, "Task", Stepping):
        loop.set_task_factory(make_stepping)
        task = loop.create_task(call())
        if way == "task":
            interrupter = Interrupter(steps, task.cancel)
        Stepping.told = interrupter
        try:
            await task
        except asyncio.CancelledError:
            assert way == "task", "the scope did not take its own for its own"
            interrupter.cancelled = True
        else:
            interrupter.cancelled = scope.cancelled_caught
        finally:
            Stepping.told = None
            loop.set_task_factory(None)
    return interrupter
