"""Cancelling a call after so many steps, on any event loop.

A step is one turn of any task, those of the library included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar
from unittest import mock

import trio

from tests import loops

__all__ = ["Interrupter", "interrupted"]


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


async def interrupted(
    steps: int, function: Callable[..., Awaitable[object]], *args: object
) -> Interrupter:
    """Call `function`, and cancel it once all tasks have taken so many steps.

    On asyncio it is a task, and its cancel() is called, once.
    """
    if loops.on_trio():
        with trio.CancelScope() as scope:
            interrupter = Interrupter(steps, scope.cancel)
            trio.lowlevel.add_instrument(interrupter)
            try:
                await function(*args)
            finally:
                trio.lowlevel.remove_instrument(interrupter)
        interrupter.cancelled = scope.cancelled_caught
        return interrupter
    loop = asyncio.get_running_loop()

    async def call() -> None:
        await function(*args)

    with mock.patch.object(asyncio, "Task", Stepping):
        loop.set_task_factory(make_stepping)
        task = loop.create_task(call())
        Stepping.told = interrupter = Interrupter(steps, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            interrupter.cancelled = True
        finally:
            Stepping.told = None
            loop.set_task_factory(None)
    return interrupter
