"""The runtime seam on asyncio, and so on uvloop.

How its tasks wait is in `_asyncio_waits`, and how they are cancelled in
`_asyncio_cancel`. Two more things are different here than on trio:

Turns. Awaiting what is there already does not go round the loop, as everywhere
in asyncio; but a task that always finds something must not keep the others from
running, so every so many times it does.

The end. asyncio.run() cancels all tasks at once, also those that have not begun.
A task of ours always begins, or what it was given would be nobody's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import weakref
from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, cast, final

from ._asyncio_cancel import Debts, Scope
from ._asyncio_waits import Poll, Released, Sleeper

if TYPE_CHECKING:
    from . import Scope as AnyScope

__all__ = ["AsyncioRuntime", "current"]

_log = logging.getLogger("wsockets")

# How often in a row tasks may find what they await without going round the loop.
_TURNS: Final = 16

_running_loop: Final = asyncio._get_running_loop


@final
class _Nothing:
    """An awaitable that is done."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _no_waits


_no_waits: Final = cast("Generator[Any, Any, None]", iter(()))
_nothing: Final = _Nothing()


@coroutine
def _turn() -> Generator[None, None, None]:
    """Once round the loop."""
    yield


@final
class AsyncioRuntime:
    """One event loop of asyncio."""

    __slots__ = (
        "__weakref__",
        "_debts",
        "_due",
        "_loop",
        "_tasks",
        "_turns",
        "notify_closing",
        "wait_readable",
        "wait_writable",
    )

    name = "asyncio"
    nursery = "an asyncio.TaskGroup"
    Cancelled = asyncio.CancelledError
    Released = Released

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._debts = Debts()
        self._due = self._debts.due
        poll = Poll(loop, self._debts, owner=self)
        self.wait_readable = poll.wait_readable
        self.wait_writable = poll.wait_writable
        self.notify_closing = poll.notify_closing
        # asyncio itself may forget a task that nobody holds.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turns = _TURNS

    def is_current(self) -> bool:
        return _running_loop() is self._loop

    # -- other tasks

    async def park(self, line: dict[Any, None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        while True:
            sleeper = Sleeper(self._loop, line, self._debts, task)
            try:
                if self._due:
                    self._debts.pay()
                await sleeper
                return
            except asyncio.CancelledError as error:
                if sleeper.woken:
                    self._debts.owe(task, before, error.args)
                    return
                if not self._debts.is_kept_out(error):
                    raise
            finally:
                sleeper.leave()

    def wake(self, line: dict[Any, None], count: int | None = None) -> None:
        sleepers: list[Sleeper] = list(line)[:count]
        for sleeper in sleepers:
            del line[sleeper]
            sleeper.wake()

    def checkpoint(self) -> Awaitable[None]:
        self._turns -= 1
        if self._turns and not self._due:
            return _nothing
        return self.turn()

    async def turn(self) -> None:
        self._turns = _TURNS
        try:
            if self._due:
                self._debts.pay()
            await _turn()
        except asyncio.CancelledError as error:
            if not self._debts.is_kept_out(error):
                raise

    def shielded_checkpoint(self) -> Awaitable[None]:
        self._turns -= 1
        if self._turns:
            return _nothing
        self._turns = _TURNS
        return self._take_shielded_turn()

    async def _take_shielded_turn(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            await _turn()
        except asyncio.CancelledError as error:
            self._debts.owe(task, before, error.args)

    def cancelled_now(self) -> bool:
        task = asyncio.current_task()
        return task is not None and (
            task in self._due or getattr(task, "_must_cancel", False)
        )

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> Scope:
        return Scope(self._debts, seconds, shield)

    def extend(self, scope: AnyScope, seconds: float) -> None:
        assert isinstance(scope, Scope)
        scope.set_deadline(seconds)

    def time(self) -> float:
        return self._loop.time()

    # -- tasks

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: object,
        nursery: object = None,
        name: str | None = None,
    ) -> None:
        if not self.is_current():
            raise RuntimeError("a task is started from inside of its event loop")
        work = self._run(function, args, guarded=nursery is None)
        # A task that is cancelled before its first step never takes it. This is
        # the first step.
        work.send(None)
        if isinstance(nursery, asyncio.TaskGroup):
            try:
                nursery.create_task(work, name=name)
            except BaseException:
                work.close()
                raise
        else:
            # Not the loop's own way to make one, which may run the task at once.
            task = asyncio.Task(work, loop=self._loop, name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(
        self,
        function: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        *,
        guarded: bool,
    ) -> None:
        try:
            await _turn()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            assert task is not None
            self._debts.owe(task, task.cancelling() - 1, error.args)
        try:
            await function(*args)
        except asyncio.CancelledError:
            raise
        except BaseException:
            if not guarded:
                raise
            _log.exception("a background task of wsockets failed; please report this")

    def soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon(_call, function)

    def accepts_nursery(self, nursery: object) -> bool:
        return isinstance(nursery, asyncio.TaskGroup)

    async def getaddrinfo(self, host: str, port: int) -> list[tuple[int, str]]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(int(family), str(address[0])) for family, _, _, _, address in found]


def _call(function: Callable[[], None]) -> None:
    try:
        function()
    except BaseException:
        _log.exception("a callback failed")


# A runtime is held by its loop, through a callback, as long as that is open.
_runtimes: Final[
    weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[AsyncioRuntime]]
] = weakref.WeakKeyDictionary()


def current() -> AsyncioRuntime:
    loop = asyncio.get_running_loop()
    known = _runtimes.get(loop)
    runtime = None if known is None else known()
    if runtime is None:
        runtime = AsyncioRuntime(loop)
        _runtimes[loop] = weakref.ref(runtime)
    return runtime
