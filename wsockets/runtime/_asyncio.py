"""The runtime seam on asyncio, and so on uvloop.

Three things are different here than on trio.

Waiting. asyncio knows callbacks, and a call of add_reader and remove_reader
around each wait costs as much as the rest of a round trip. So all waits of a
run share one epoll of ours, and only that is registered with the loop. It is
told of an fd for one event at a time (EPOLLONESHOT), which makes a closed fd
and a number that is used again harmless. When an fd is ready, its task goes on
inside the loop's callback, not one turn later: see `_Wait`.

Cancellation is an edge: `task.cancel()` raises CancelledError once, at the wait
the task is in, and if that is over already, where the task goes on. A sleeper
that was woken must return, because something was decided for it (a chunk was
read, say). It returns, and the cancellation is raised by the wait that follows
(`_owe`), unless whoever wanted it has taken it back by then with `uncancel()`,
as asyncio.timeout does. A scope counts cancellations as asyncio.timeout does,
so both can be nested, and the task's own cancellation passes through.

Turns. Awaiting what is there already does not go round the loop, as everywhere
in asyncio; but a task that always finds something must not keep the others from
running, so every so many times it does.

The end. asyncio.run() cancels all tasks at once, also those that have not begun.
A task of ours always begins, or what it was given would be nobody's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import select
import socket
import threading
import weakref
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextlib import suppress
from contextvars import Context
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

if TYPE_CHECKING:
    from . import Scope

__all__ = ["AsyncioRuntime", "Released", "current"]

_log = logging.getLogger("wsockets")

# How often in a row tasks may find what they await without going round the loop.
_TURNS: Final = 16

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_ONE_SHOT: Final = select.EPOLLONESHOT

Callback: TypeAlias = "Callable[[object], None]"
Task: TypeAlias = "asyncio.Task[Any]"

_running_loop: Final = asyncio._get_running_loop
_current_task: Final = asyncio.current_task


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

    def __init__(self) -> None:
        self._asyncio_future_blocking = True
        self._loop = asyncio.get_running_loop()
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
        if self._callback is None:
            return False  # it has gone on, or is about to
        self._leave()
        self._go_on_soon(asyncio.CancelledError(*(() if msg is None else (msg,))))
        return True

    def _leave(self) -> None:
        """The task is cancelled: nobody may find this any more."""

    def _go_on_soon(self, error: BaseException | None = None) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._error = error
            # After the end of the loop nobody waits for anything.
            if not self._loop.is_closed():
                self._loop.call_soon(callback, self, context=self._context)


@final
class _Sleeper(_Future):
    """A task in a line."""

    __slots__ = ("_line", "woken")

    def __init__(self, line: dict[Any, None]) -> None:
        super().__init__()
        self._line = line
        self.woken = False
        line[self] = None

    def _leave(self) -> None:
        self._line.pop(self, None)

    def wake(self) -> None:
        self.woken = True
        self._go_on_soon()


@final
class _Wait(_Future):
    """A task that waits for an fd.

    It goes on in the very call that finds the fd ready. A turn of the loop later
    would cost a system call, and the loop would find the fd ready again.
    """

    __slots__ = ("_fd", "_table")

    def __init__(self, table: dict[int, _Wait], fd: int) -> None:
        super().__init__()
        self._table = table
        self._fd = fd
        table[fd] = self

    def _leave(self) -> None:
        if self._table.get(self._fd) is self:
            del self._table[self._fd]

    def go_on(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            assert self._context is not None
            self._context.run(callback, self)

    def release(self) -> None:
        self._go_on_soon(Released(f"fd {self._fd} is about to be closed"))


@final
class _Nothing:
    """An awaitable that is done."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return cast("Generator[Any, Any, None]", iter(()))


_nothing: Final = _Nothing()


@coroutine
def _turn() -> Generator[None, None, None]:
    """Once round the loop."""
    yield


@final
class _Scope:
    """A block that can be given up; cancels its task as asyncio.timeout does."""

    __slots__ = (
        "_before",
        "_counted",
        "_deadline",
        "_held_back",
        "_runtime",
        "_shield",
        "_task",
        "_timer",
        "asked",
        "cancelled_caught",
        "outer",
        "sent",
    )

    def __init__(
        self, runtime: AsyncioRuntime, seconds: float | None, shield: bool
    ) -> None:
        self._runtime = runtime
        self._shield = shield
        self._task: Task | None = None
        self.outer: _Scope | None = None
        self._timer: asyncio.TimerHandle | None = None
        # How often the task was asked to end when it entered.
        self._before = 0
        # Whether somebody has given the block up, whether the task was told, and
        # whether that was with its cancel().
        self.asked = False
        self.sent = False
        self._counted = False
        # Whether a shield has kept a cancellation from its task.
        self._held_back = False
        self.cancelled_caught = False
        self.set_deadline(seconds)

    def set_deadline(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        if seconds is None or seconds == math.inf:
            self._deadline = math.inf
        else:
            self._deadline = loop.time() + seconds
        if self._task is not None:
            self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadline != math.inf:
            self._timer = loop.call_at(self._deadline, self.cancel)

    def cancel(self) -> None:
        if not self.asked:
            self.asked = True
            if self._task is not None:
                self._send()

    def _send(self) -> None:
        """Tell the task: now, or if it runs, at its next wait."""
        task = self._task
        if task is None or self.sent:
            return
        loop = task.get_loop()
        if task is _current_task(loop):
            self._runtime._due.add(task)
            # Its next wait may be for something that is not ours.
            loop.call_soon(self._send_late, task)
        else:
            self.sent = self._counted = True
            task.cancel()

    def _send_late(self, task: Task) -> None:
        self._runtime._settle(task)
        self._send()

    def __enter__(self) -> _Scope:
        task = _current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        scopes = self._runtime._scopes
        self.outer = scopes.get(task)
        scopes[task] = self
        if self.asked:
            self._send()
        else:
            self._set_timer(asyncio.get_running_loop())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        task, self._task = self._task, None
        assert task is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.outer is None:
            del self._runtime._scopes[task]
        else:
            self._runtime._scopes[task] = self.outer
            self.outer = None
        left = task.uncancel() if self._counted else task.cancelling()
        if self._held_back:
            self._runtime._owe(task, self._before)
        self.cancelled_caught = (
            self.sent
            and kind is asyncio.CancelledError
            and (self._shield or left <= self._before)
        )
        return self.cancelled_caught

    def keeps_out(self) -> bool:
        """Whether a cancellation that has just been raised stays outside."""
        scope: _Scope | None = self
        while scope is not None and not scope.sent:
            if scope._shield:
                scope._held_back = True
                return True
            scope = scope.outer
        return False


@final
class AsyncioRuntime:
    """One event loop of asyncio."""

    __slots__ = (
        "__weakref__",
        "_due",
        "_end",
        "_epoll",
        "_loop",
        "_owed",
        "_readers",
        "_scopes",
        "_tasks",
        "_turns",
        "_writers",
    )

    name = "asyncio"
    nursery = "an asyncio.TaskGroup"
    Cancelled = asyncio.CancelledError
    Released = Released

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, so that a loop and what it has opened can go.
        self._loop = weakref.ref(loop)
        self._epoll: select.epoll | None = None
        self._end: AsyncGenerator[None, None] | None = None
        self._readers: dict[int, _Wait] = {}
        self._writers: dict[int, _Wait] = {}
        self._scopes: dict[Task, _Scope] = {}
        # Tasks whose next wait may have to raise a cancellation; and how often
        # those that have missed one had been asked to end before.
        self._due: set[Task] = set()
        self._owed: dict[Task, int] = {}
        # asyncio itself may forget a task that nobody holds.
        self._tasks: set[Task] = set()
        self._turns = _TURNS

    def is_current(self) -> bool:
        loop = _running_loop()
        return loop is not None and loop is self._loop()

    # -- file descriptors

    def wait_readable(self, fd: int) -> Awaitable[None]:
        return self._wait(self._readers, fd)

    def wait_writable(self, fd: int) -> Awaitable[None]:
        return self._wait(self._writers, fd)

    @coroutine
    def _wait(self, table: dict[int, _Wait], fd: int) -> Generator[_Future, None, None]:
        if fd in table:
            raise RuntimeError(f"another task waits for fd {fd} already")
        while True:
            wait = _Wait(table, fd)
            try:
                if self._due:
                    self._raise_what_is_due()
                self._watch(fd)
                yield wait
                return
            except asyncio.CancelledError:
                if not self._is_kept_out():
                    raise
            finally:
                wait._leave()

    def _watch(self, fd: int) -> None:
        events = _ONE_SHOT
        if fd in self._readers:
            events |= _IN
        if fd in self._writers:
            events |= _OUT
        epoll = self._epoll
        if epoll is None:
            epoll = self._open()
        try:
            epoll.modify(fd, events)
        except FileNotFoundError:
            epoll.register(fd, events)

    def _open(self) -> select.epoll:
        loop = asyncio.get_running_loop()
        epoll = self._epoll = select.epoll()
        loop.add_reader(epoll.fileno(), self._look)
        if self._end is None:
            # Asynchronous generators are told of the end of the loop.
            self._end = self._until_the_end()
            with suppress(StopIteration):
                self._end.__anext__().__await__().__next__()
        return epoll

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self._epoll is not None and not self._readers and not self._writers:
                asyncio.get_running_loop().remove_reader(self._epoll.fileno())
                self._epoll.close()
                self._epoll = None

    def _look(self) -> None:
        """Let go on whoever waits for an fd that is ready."""
        assert self._epoll is not None
        events = iter(self._epoll.poll(0))
        try:
            for fd, flags in events:
                reader = writer = None
                if flags != _OUT:
                    reader = self._readers.pop(fd, None)
                if flags != _IN:
                    writer = self._writers.pop(fd, None)
                if fd in self._readers or fd in self._writers:
                    self._watch(fd)
                if reader is not None:
                    reader.go_on()
                if writer is not None:
                    writer.go_on()
        except BaseException:
            # KeyboardInterrupt or SystemExit, on its way out of the loop.
            for fd, _ in events:
                self._watch(fd)
            raise

    def notify_closing(self, fd: int) -> None:
        for table in (self._readers, self._writers):
            wait = table.pop(fd, None)
            if wait is not None:
                wait.release()

    # -- other tasks

    async def park(self, line: dict[Any, None]) -> None:
        task = _current_task()
        assert task is not None
        before = task.cancelling()
        while True:
            sleeper = _Sleeper(line)
            try:
                if self._due:
                    self._raise_what_is_due()
                await sleeper
                return
            except asyncio.CancelledError:
                if sleeper.woken:
                    self._owe(task, before)
                    return
                if not self._is_kept_out():
                    raise
            finally:
                sleeper._leave()

    def wake(self, line: dict[Any, None], count: int | None = None) -> None:
        sleepers: list[_Sleeper] = list(line)[:count]
        for sleeper in sleepers:
            del line[sleeper]
            sleeper.wake()

    def checkpoint(self) -> Awaitable[None]:
        self._turns -= 1
        if self._turns and not self.cancelled_now():
            return _nothing
        self._turns = _TURNS
        return self._take_turn(shielded=False)

    def shielded_checkpoint(self) -> Awaitable[None]:
        self._turns -= 1
        if self._turns:
            return _nothing
        self._turns = _TURNS
        return self._take_turn(shielded=True)

    async def _take_turn(self, shielded: bool) -> None:
        task = _current_task()
        before = 0 if task is None else task.cancelling()
        try:
            if self._due and not shielded:
                self._raise_what_is_due()
            await _turn()
        except asyncio.CancelledError:
            if shielded and task is not None:
                self._owe(task, before)
            elif not self._is_kept_out():
                raise

    def cancelled_now(self) -> bool:
        task = _current_task()
        return task is not None and (
            task in self._due or getattr(task, "_must_cancel", False)
        )

    def _owe(self, task: Task, before: int) -> None:
        """Let the next wait of `task` raise, if it still is asked to end by then.

        `before` is how often it had been asked when the wait began that took no
        notice.
        """
        if task not in self._owed:
            self._owed[task] = before
            self._due.add(task)
            task.get_loop().call_soon(self._collect, task)

    def _collect(self, task: Task) -> None:
        if self._settle(task) and not task.done():
            # The request has been counted already.
            task.cancel()
            task.uncancel()

    def _settle(self, task: Task) -> bool:
        """Forget what is due; whether it is a cancellation that is owed."""
        self._due.discard(task)
        before = self._owed.pop(task, None)
        return before is not None and task.cancelling() > before

    def _raise_what_is_due(self) -> None:
        task = _current_task()
        if task is None or task not in self._due:
            return
        if self._settle(task):
            raise asyncio.CancelledError
        scope = self._scopes.get(task)
        while scope is not None:
            if scope.asked and not scope.sent:
                scope.sent = True
                raise asyncio.CancelledError
            scope = scope.outer

    def _is_kept_out(self) -> bool:
        """Whether a shield keeps out the cancellation that has just been raised."""
        task = _current_task()
        scope = None if task is None else self._scopes.get(task)
        return scope is not None and scope.keeps_out()

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> _Scope:
        return _Scope(self, seconds, shield)

    def extend(self, scope: Scope, seconds: float) -> None:
        assert isinstance(scope, _Scope)
        scope.set_deadline(seconds)

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    # -- tasks

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: object,
        nursery: object = None,
        name: str | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(nursery, asyncio.TaskGroup):
            work = self._begin(function, args)
            try:
                nursery.create_task(work, name=name)
            except BaseException:
                work.close()
                raise
            return
        # Not the loop's own way to make one, which may run the task at once.
        task = asyncio.Task(self._guard(function, args), loop=loop, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _guard(
        self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> Coroutine[Any, Any, None]:
        async def guarded() -> None:
            try:
                await function(*args)
            except asyncio.CancelledError:
                raise
            except BaseException:
                _log.exception(
                    "a background task of wsockets failed; please report this"
                )

        return self._begin(guarded, ())

    def _begin(
        self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> Coroutine[Any, Any, None]:
        """A coroutine that calls `function`, whatever happens to it before."""

        async def begun() -> None:
            try:
                await _turn()
            except asyncio.CancelledError:
                task = _current_task()
                assert task is not None
                self._owe(task, task.cancelling() - 1)
            await function(*args)

        # A task that is cancelled before its first step never takes it. This is
        # the first step.
        work = begun()
        work.send(None)
        return work

    def soon(self, function: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(_call, function)

    def accepts_nursery(self, nursery: object) -> bool:
        return isinstance(nursery, asyncio.TaskGroup)

    async def getaddrinfo(self, host: str, port: int) -> list[tuple[int, str]]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        return [(int(family), str(address[0])) for family, _, _, _, address in found]


def _call(function: Callable[[], None]) -> None:
    try:
        function()
    except BaseException:
        _log.exception("a callback failed")


_runtimes: Final[
    weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioRuntime]
] = weakref.WeakKeyDictionary()
_making: Final = threading.Lock()


def current() -> AsyncioRuntime:
    loop = asyncio.get_running_loop()
    runtime = _runtimes.get(loop)
    if runtime is None:
        with _making:
            # A task that never ended would keep its loop for ever.
            for other in [each for each in _runtimes if each.is_closed()]:
                del _runtimes[other]
            runtime = _runtimes[loop] = AsyncioRuntime(loop)
    return runtime
