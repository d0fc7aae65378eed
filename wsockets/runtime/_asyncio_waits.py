"""What tasks of asyncio wait for: descriptors, and each other.

asyncio knows callbacks, and a call of add_reader and remove_reader around each
wait costs as much as the rest of a round trip. So all waits of a loop share one
epoll of ours, and only that is registered with the loop. It is told of an fd for
one event at a time (EPOLLONESHOT), which makes it harmless when an fd is closed
without a word and its number is used again.

When an fd is ready, its task goes on inside the loop's callback. A turn of the
loop later would cost one more system call.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import Context
from types import coroutine
from typing import Any, Final, TypeAlias, final

from ._asyncio_cancel import Debts, Task

__all__ = ["Poll", "Released", "Sleeper"]

Callback: TypeAlias = "Callable[[object], None]"

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_ONE_SHOT: Final = select.EPOLLONESHOT


class Released(Exception):
    """The fd that was waited for is about to be closed."""


class _Future:
    """What a task of asyncio awaits; the least that asyncio.Task asks for.

    Unlike asyncio.Future it knows at once when its task is cancelled, and its
    task can go on right where it is resolved.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_error",
        "_loop",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = True
        self._callback: Callback | None = None
        self._context: Context | None = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[_Future, None, None]:
        yield self

    def add_done_callback(
        self, callback: Callback, *, context: Context | None = None
    ) -> None:
        self._callback = callback
        self._context = context

    def done(self) -> bool:
        return self._callback is None

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self, msg: object = None) -> bool:
        """What Task.cancel() calls; False where the task is about to go on."""
        if self._callback is None:
            return False
        self._leave()
        arguments = () if msg is None else (msg,)
        self._go_on_soon(asyncio.CancelledError(*arguments))
        return True

    def _leave(self) -> None:
        """The task is cancelled: nobody may count on it any more."""

    def _go_on_soon(self, error: BaseException | None = None) -> None:
        callback, self._callback = self._callback, None
        # After the end of the loop nobody waits for anything.
        if callback is not None and not self._loop.is_closed():
            self._error = error
            self._loop.call_soon(callback, self, context=self._context)


@final
class Sleeper(_Future):
    """A task in a line."""

    __slots__ = ("_debts", "_line", "_task", "woken")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line: dict[Any, None],
        debts: Debts,
        task: Task,
    ) -> None:
        super().__init__(loop)
        self._line = line
        self._debts = debts
        self._task = task
        self.woken = False
        line[self] = None

    def _leave(self) -> None:
        # Behind a shield it will sleep on, and may be woken before it gets there.
        if self._debts.shield_of(self._task) is None:
            self.leave()

    def leave(self) -> None:
        """Be in the line no more."""
        self._line.pop(self, None)

    def wake(self) -> None:
        """Let the task go on; whoever calls has taken it out of the line."""
        self.woken = True
        self._go_on_soon()


@final
class _Wait(_Future):
    """The task that waits for one direction of an fd, one after the other."""

    __slots__ = ("busy",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.busy = False

    def go_on(self) -> None:
        """Let the task go on now: this is a callback of the loop."""
        callback, self._callback = self._callback, None
        if callback is not None:
            assert self._context is not None
            self._context.run(callback, self)

    def release(self, fd: int) -> None:
        self._go_on_soon(Released(f"fd {fd} is about to be closed"))


Table: TypeAlias = "dict[int, _Wait]"


@final
class Poll:
    """The descriptors that tasks of one loop wait for.

    Opens its epoll at once, and closes it when the loop shuts down.
    """

    __slots__ = ("_debts", "_end", "_epoll", "_loop", "_owner", "_readers", "_writers")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, debts: Debts, owner: object
    ) -> None:
        self._loop = loop
        self._debts = debts
        # Lives as long as the loop, which knows us by a callback.
        self._owner = owner
        # By fd; each is kept for the next wait.
        self._readers: Table = {}
        self._writers: Table = {}
        self._epoll = self._open()
        # Asynchronous generators are told when their loop shuts down.
        self._end = self._until_the_end()
        with suppress(StopIteration):
            self._end.__anext__().__await__().__next__()

    def wait_readable(self, fd: int) -> Awaitable[None]:
        return self._wait(self._readers, fd)

    def wait_writable(self, fd: int) -> Awaitable[None]:
        return self._wait(self._writers, fd)

    @coroutine
    def _wait(self, table: Table, fd: int) -> Generator[_Future, None, None]:
        wait = table.get(fd)
        if wait is None:
            wait = table[fd] = _Wait(self._loop)
        elif wait.busy:
            raise RuntimeError(f"another task waits for fd {fd} already")
        wait.busy = True
        try:
            while True:
                try:
                    if self._debts.due:
                        self._debts.pay()
                    self._watch(fd)
                    wait._asyncio_future_blocking = True
                    yield wait
                    return
                except asyncio.CancelledError as error:
                    if not self._debts.is_kept_out(error):
                        raise
                    wait._error = None
        finally:
            wait.busy = False
            wait._callback = wait._context = wait._error = None

    def _watch(self, fd: int) -> None:
        events = _ONE_SHOT
        reader, writer = self._readers.get(fd), self._writers.get(fd)
        if reader is not None and reader.busy:
            events |= _IN
        if writer is not None and writer.busy:
            events |= _OUT
        if self._epoll.closed:
            self._epoll = self._open()
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def _open(self) -> select.epoll:
        epoll = select.epoll()
        self._loop.add_reader(epoll.fileno(), self._look)
        return epoll

    def _look(self) -> None:
        """Let go on whoever waits for an fd that is ready."""
        events = iter(self._epoll.poll(0))
        try:
            for fd, flags in events:
                self._go_on(fd, flags)
        except BaseException:
            # KeyboardInterrupt or SystemExit, on its way out of the loop.
            for fd, _ in events:
                self._watch(fd)
            raise

    def _go_on(self, fd: int, flags: int) -> None:
        reader, writer = self._readers.get(fd), self._writers.get(fd)
        can_read, can_write = flags != _OUT, flags != _IN
        # One event ends the watch over both directions.
        if (writer is not None and writer.busy and not can_write) or (
            reader is not None and reader.busy and not can_read
        ):
            self._watch(fd)
        if reader is not None and can_read:
            reader.go_on()
        if writer is not None and can_write:
            writer.go_on()

    def notify_closing(self, fd: int) -> None:
        """Forget `fd`, whose number may mean something else from now on."""
        for table in (self._readers, self._writers):
            wait = table.pop(fd, None)
            if wait is not None:
                wait.release(fd)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            waits = (*self._readers.values(), *self._writers.values())
            if not any(wait.busy for wait in waits):
                self._loop.remove_reader(self._epoll.fileno())
                self._epoll.close()
