"""The event loops that a behaviour is tested on, and their common vocabulary.

A test module that says `pytestmark = pytest.mark.every_loop` has each of its
asynchronous tests run on trio, on asyncio and on uvloop (see conftest), but for
those marked `only_trio`. One that takes pytest-trio's `autojump_clock` runs on the
first two, as uvloop has no clock but the machine's. Such tests use the names of
this module in place of trio's. They come from anyio, so on asyncio its
cancellation is delivered again and again, as trio's is; what plain tasks of
asyncio do is tested by test_runtime_asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import sniffio
import trio
import trio.testing
import uvloop
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    Event,
    current_time,
    fail_after,
    move_on_after,
    notify_closing,
    sleep,
    sleep_forever,
    sleep_until,
    wait_readable,
    wait_writable,
)
from anyio import create_task_group as open_nursery
from anyio import get_cancelled_exc_class as cancelled
from anyio.abc import TaskGroup as Nursery
from anyio.lowlevel import checkpoint

from tests.clocks import JumpingLoop
from wsockets.runtime import current

__all__ = [
    "LOOPS",
    "BrokenResourceError",
    "CancelScope",
    "ClosedResourceError",
    "Event",
    "Nursery",
    "assert_checkpoints",
    "assert_no_checkpoints",
    "cancelled",
    "checkpoint",
    "current_time",
    "fail_after",
    "in_thread",
    "move_on_after",
    "native_nursery",
    "nothing",
    "notify_closing",
    "on_trio",
    "open_nursery",
    "run",
    "run_process",
    "settle",
    "sleep",
    "sleep_forever",
    "sleep_until",
    "wait_readable",
    "wait_writable",
]

T = TypeVar("T")

LOOPS: Final = ("trio", "asyncio", "uvloop")

# Turns of asyncio's loop in which nothing happens. A callback may call the next.
_QUIET: Final = 6
# Seconds of its thread's time that asyncio takes to wake one task, at most.
_WAKING: Final = 0.001

_FACTORIES: Final[dict[str, Callable[[], asyncio.AbstractEventLoop] | None]] = {
    "asyncio": None,
    "jumping": JumpingLoop,
    "uvloop": uvloop.new_event_loop,
}

in_thread = anyio.to_thread.run_sync


def on_trio() -> bool:
    """Whether the calling task runs on trio."""
    return sniffio.current_async_library() == "trio"


def assert_no_checkpoints() -> contextlib.AbstractContextManager[None]:
    """On trio, where it can be told: no await in the block lets others run."""
    if on_trio():
        return trio.testing.assert_no_checkpoints()
    return contextlib.nullcontext()


async def run_process(
    command: Sequence[str], *, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, and take what it says."""
    options = {"capture_output": True, "timeout": 50, **options}

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, check=check, **options)

    return await in_thread(run)


async def nothing() -> None:
    """Return."""


async def settle(cushion: float = 0.0) -> None:
    """Until every other task waits for something that does not come by itself.

    With a `cushion`: until nothing has happened for so many seconds.
    """
    if on_trio():
        await trio.testing.wait_all_tasks_blocked(cushion)
        return
    quiet = 0
    while quiet < _QUIET:
        begun = time.thread_time()
        await asyncio.sleep(cushion / _QUIET)
        # Who is busy may wait whenever somebody looks.
        busy = cushion and time.thread_time() - begun > _WAKING + cushion / 10 / _QUIET
        waiting = all(map(_waits, asyncio.all_tasks()))
        quiet = quiet + 1 if waiting and not busy else 0


def assert_checkpoints() -> contextlib.AbstractContextManager[None]:
    """On trio, where that is a rule: every await in the block lets others run."""
    return trio.testing.assert_checkpoints() if on_trio() else contextlib.nullcontext()


def _waits(task: asyncio.Task[Any]) -> bool:
    if task is asyncio.current_task():
        return True
    waits_for: Any = task._fut_waiter  # type: ignore[attr-defined]
    return waits_for is not None and not waits_for.done()


@contextlib.asynccontextmanager
async def native_nursery() -> AsyncIterator[tuple[Any, Callable[[], None]]]:
    """The event loop's own nursery, and how to cancel what runs in it."""
    if on_trio():
        async with trio.open_nursery() as nursery:
            yield nursery, nursery.cancel_scope.cancel
        return
    async with asyncio.TaskGroup() as group:

        def cancel() -> None:
            for task in list(group._tasks):
                task.cancel()

        yield group, cancel


def run(loop: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `function(*args)` on a loop of its own, of the kind named.

    The kinds are those of `LOOPS`, and "jumping": asyncio with a clock that jumps.
    What asyncio would only log, because nobody is there to be told, is raised.
    """
    if loop == "trio":
        return trio.run(function, *args)
    errors: list[BaseException] = []

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        errors.append(context.get("exception") or AssertionError(context["message"]))

    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(failed)
        current()  # opens its own descriptor, which is nobody's leak
        return await function(*args)

    with asyncio.Runner(loop_factory=_FACTORIES[loop]) as runner:
        result = runner.run(main())
    if errors:
        raise BaseExceptionGroup("nobody was told of these", errors)
    return result
