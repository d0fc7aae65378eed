"""Cancellation on asyncio, kept to the promises of the seam.

`task.cancel()` raises CancelledError once, at the wait the task is in, and if
that is over already, where the task goes on. A sleeper that was woken must
return, because something was decided for it (a chunk was read, say). So it
returns, and the cancellation is owed: the task's next wait raises it, unless
whoever wanted it has taken it back by then with `uncancel()`, as asyncio.timeout
does. (asyncio's own way to keep it would be `_must_cancel`, which cannot be
taken back before Python 3.13.)

A scope counts cancellations as asyncio.timeout does. Both can be nested, and a
cancellation from elsewhere passes through.

What cancel() was told comes along when its cancellation is raised later: whoever
has cancelled may know it again by that, as AnyIO does.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, TypeAlias, final

__all__ = ["Debts", "Scope", "Task"]

Task: TypeAlias = "asyncio.Task[Any]"
# What a CancelledError has been made with.
Words: TypeAlias = tuple[Any, ...]


@final
class Debts:
    """The cancellations that tasks of one loop have coming, and their scopes."""

    __slots__ = ("_owed", "due", "scopes")

    def __init__(self) -> None:
        # Tasks whose next wait may have to raise.
        self.due: set[Task] = set()
        # How often those that are owed one had been asked to end before it, and its
        # words.
        self._owed: dict[Task, tuple[int, Words]] = {}
        # The innermost scope of each task that is in one.
        self.scopes: dict[Task, Scope] = {}

    def owe(self, task: Task, before: int, words: Words) -> None:
        """Let the next wait of `task` raise, if it still is asked to end by then.

        `before` is how often it had been asked when the wait began that took no
        notice.
        """
        if task not in self._owed:
            self._owed[task] = before, words
            self.due.add(task)
            # Its next wait may be for something that is not ours.
            task.get_loop().call_soon(self._collect, task)

    def _collect(self, task: Task) -> None:
        words = self.settle(task)
        if words is not None and not task.done():
            # The request has been counted already.
            task.cancel(*words)
            task.uncancel()

    def settle(self, task: Task) -> Words | None:
        """Forget what is due; the words of the cancellation if one is owed."""
        self.due.discard(task)
        before, words = self._owed.pop(task, (0, None))
        return words if task.cancelling() > before else None

    def pay(self) -> None:
        """Raise what is due to the calling task. Call at the start of a wait."""
        task = asyncio.current_task()
        if task is None or task not in self.due:
            return
        words = self.settle(task)
        if words is not None:
            raise asyncio.CancelledError(*words)
        scope = self.scopes.get(task)
        while scope is not None:
            if scope.asked and not scope.told:
                scope.told = True
                raise asyncio.CancelledError
            scope = scope.outer

    def is_kept_out(self, error: asyncio.CancelledError) -> bool:
        """Whether a shield keeps out the cancellation that has just been raised."""
        shield = self.shield_of(asyncio.current_task())
        if shield is None:
            return False
        if shield.kept_out is None:
            shield.kept_out = error.args
        return True

    def shield_of(self, task: Task | None) -> Scope | None:
        """What keeps out a cancellation of `task` now, if anything does."""
        scope = None if task is None else self.scopes.get(task)
        while scope is not None and not scope.told:
            if scope.shield:
                return scope
            scope = scope.outer
        return None


@final
class Scope:
    """A block that can be given up."""

    __slots__ = (
        "_before",
        "_counted",
        "_deadline",
        "_debts",
        "_task",
        "_timer",
        "asked",
        "cancelled_caught",
        "kept_out",
        "outer",
        "shield",
        "told",
    )

    def __init__(self, debts: Debts, seconds: float | None, shield: bool) -> None:
        self._debts = debts
        self.shield = shield
        self._task: Task | None = None
        self.outer: Scope | None = None
        self._timer: asyncio.TimerHandle | None = None
        # How often the task was asked to end when it entered.
        self._before = 0
        # Whether somebody has given the block up, whether the task has got to
        # know, and whether that was by its cancel().
        self.asked = False
        self.told = False
        self._counted = False
        # The words of the first cancellation that the shield has kept out.
        self.kept_out: Words | None = None
        self.cancelled_caught = False
        self.set_deadline(seconds)

    def set_deadline(self, seconds: float | None) -> None:
        """Let the block be given up `seconds` from now."""
        if seconds is None or seconds == math.inf:
            self._deadline = math.inf
        else:
            self._deadline = asyncio.get_running_loop().time() + seconds
        if self._task is not None:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadline != math.inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._deadline, self.cancel)

    def cancel(self) -> None:
        if not self.asked:
            self.asked = True
            self._tell()

    def _tell(self) -> None:
        """Cancel the task: now, or if it runs, at its next wait."""
        task = self._task
        if task is None or self.told:
            return
        loop = task.get_loop()
        if task is asyncio.current_task(loop):
            self._debts.due.add(task)
            # Its next wait may be for something that is not ours.
            loop.call_soon(self._tell_late, task)
        else:
            self.told = self._counted = True
            task.cancel()

    def _tell_late(self, task: Task) -> None:
        self._debts.due.discard(task)
        self._tell()

    def __enter__(self) -> Scope:
        task = asyncio.current_task()
        assert task is not None, "a scope is entered by a task"
        self._task = task
        self._before = task.cancelling()
        self.outer = self._debts.scopes.get(task)
        self._debts.scopes[task] = self
        if self.asked:
            self._tell()
        else:
            self._set_timer()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        task, self._task = self._task, None
        assert task is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.outer is None:
            del self._debts.scopes[task]
        else:
            self._debts.scopes[task] = self.outer
            self.outer = None
        left = task.uncancel() if self._counted else task.cancelling()
        if self.kept_out is not None:
            self._debts.owe(task, self._before, self.kept_out)
        self.cancelled_caught = (
            self.told
            and kind is asyncio.CancelledError
            and (self.shield or left <= self._before)
        )
        return self.cancelled_caught
