"""The runtime seam on trio."""

from __future__ import annotations

import logging
import math
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    RunVar,
    Task,
    current_task,
    current_trio_token,
    reschedule,
    wait_task_rescheduled,
)

from . import _protected, _protectors, protect

if TYPE_CHECKING:
    from . import Scope

__all__ = ["TrioRuntime", "current"]

_log = logging.getLogger("wsockets")


class TrioRuntime:
    """One run of trio."""

    __slots__ = ("__weakref__", "_jobs", "_token")

    name = "trio"
    nursery = "a trio.Nursery"
    Cancelled = trio.Cancelled
    Released = trio.ClosedResourceError

    def __init__(self) -> None:
        self._token = current_trio_token()
        self._jobs: deque[Callable[[], None]] = deque()

    def is_current(self) -> bool:
        try:
            return current_trio_token() is self._token
        except RuntimeError:
            return False

    # Not wrapped, like the checkpoints below: every round trip goes through them.
    wait_readable = staticmethod(trio.lowlevel.wait_readable)
    wait_writable = staticmethod(trio.lowlevel.wait_writable)

    def notify_closing(self, fd: int) -> None:
        trio.lowlevel.notify_closing(fd)

    @protect
    async def park(self, line: dict[Any, None]) -> None:
        task = current_task()
        line[task] = None

        def abort(_raise_cancel: object) -> Abort:
            del line[task]
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    @protect
    def wake(self, line: dict[Any, None], count: int | None = None) -> None:
        sleepers: list[Task] = list(line)[:count]
        for task in sleepers:
            del line[task]
            reschedule(task)

    checkpoint = staticmethod(trio.lowlevel.checkpoint)
    turn = checkpoint
    shielded_checkpoint = staticmethod(trio.lowlevel.cancel_shielded_checkpoint)

    def cancelled_now(self) -> bool:
        return trio.current_effective_deadline() == -math.inf

    def scope(
        self, seconds: float | None = None, *, shield: bool = False
    ) -> trio.CancelScope:
        deadline = math.inf if seconds is None else trio.current_time() + seconds
        return trio.CancelScope(deadline=deadline, shield=shield)

    def extend(self, scope: Scope, seconds: float) -> None:
        assert isinstance(scope, trio.CancelScope)
        scope.deadline = trio.current_time() + seconds

    def time(self) -> float:
        return trio.current_time()

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: object,
        nursery: object = None,
        name: str | None = None,
    ) -> None:
        if isinstance(nursery, trio.Nursery):
            nursery.start_soon(function, *args, name=name)
        else:
            trio.lowlevel.spawn_system_task(
                _guarded, function, args, name=name, context=copy_context()
            )

    def soon(self, function: Callable[[], None]) -> None:
        self._jobs.append(function)
        if len(self._jobs) == 1:
            self.spawn(self._run_jobs, name="wsockets callbacks")

    async def _run_jobs(self) -> None:
        # A job leaves the queue only when it is done, so that what it adds
        # starts no second runner.
        while self._jobs:
            try:
                self._jobs[0]()
            except BaseException:
                _log.exception("a callback failed")
            self._jobs.popleft()

    def accepts_nursery(self, nursery: object) -> bool:
        return isinstance(nursery, trio.Nursery)

    async def getaddrinfo(self, host: str, port: int) -> list[tuple[int, str]]:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(int(family), str(address[0])) for family, _, _, _, address in found]


async def _guarded(
    function: Callable[..., Awaitable[object]], args: tuple[object, ...]
) -> None:
    # An exception that leaves a system task ends the whole run.
    try:
        await function(*args)
    except trio.Cancelled:
        raise
    except BaseException:
        _log.exception("a background task of wsockets failed; please report this")


_runtime: RunVar[TrioRuntime] = RunVar("wsockets.runtime")


def current() -> TrioRuntime:
    try:
        return _runtime.get()
    except LookupError:
        runtime = TrioRuntime()
        _runtime.set(runtime)
        return runtime


_protectors.append(trio.lowlevel.enable_ki_protection)
for _function in _protected:
    trio.lowlevel.enable_ki_protection(_function)
