"""The seam: the few names by which anything in this library waits.

Streams, sockets and connections name no event loop. They hold a `Runtime` and
suspend only through it, so that a second event loop is one more file here.

A `Runtime` object belongs to one run of one event loop. `current()` gives the
one of the calling task; it is the same object for the whole run, so comparing
with `is` tells whether two things live in the same loop.

Tasks sleep in a `Line`, an ordered set of sleepers that whoever has news keeps
and wakes. A cancelled sleeper has left its line before the cancellation is
raised; a woken one will return, whatever happens in between.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Awaitable, Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

import sniffio

__all__ = ["Line", "Runtime", "Scope", "current", "protect"]

# Whoever sleeps, in order of arrival; the runtime knows what the keys are.
Line: TypeAlias = "dict[Any, None]"

F = TypeVar("F", bound=Callable[..., Any])

# What `protect` was given; and which event loops, once they are imported, have to
# be told.
_protected: Final[list[Callable[..., Any]]] = []
_protectors: Final[list[Callable[[Callable[..., Any]], object]]] = []


def protect(function: F) -> F:
    """Keep Ctrl-C out of `function`: it is raised when the function has returned.

    For the state machines, which an exception at an arbitrary bytecode would
    leave inconsistent. Costs nothing per call. asyncio needs no such help:
    asyncio.run() turns the first Ctrl-C into a cancellation.
    """
    _protected.append(function)
    for tell in _protectors:
        tell(function)
    return function


@runtime_checkable
class Scope(Protocol):
    """A block that can be given up, by a deadline or by `cancel()`."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended because this scope was cancelled."""

    def cancel(self) -> None:
        """Give the block up at its next checkpoint."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc: Any) -> bool | None: ...


class Runtime(Protocol):
    """What an event loop has to offer; see each implementation for the how."""

    name: str
    # What `spawn` takes, in words.
    nursery: str

    @property
    def Cancelled(self) -> type[BaseException]:
        """What a cancelled wait raises; to be let through everywhere."""

    @property
    def Released(self) -> type[BaseException]:
        """What a wait for an fd raises that `notify_closing` has ended."""

    def is_current(self) -> bool:
        """Whether the calling code runs in this run of the event loop."""

    # -- waiting for file descriptors
    def wait_readable(self, fd: int) -> Awaitable[None]:
        """Until `fd` is readable, or so it seems. One task an fd."""

    def wait_writable(self, fd: int) -> Awaitable[None]:
        """Until `fd` is writable, or so it seems. One task an fd."""

    def notify_closing(self, fd: int) -> None:
        """Let go of `fd`: `Released` is raised where it is waited for."""

    # -- waiting for other tasks
    async def park(self, line: Line) -> None:
        """Sleep in `line` until woken."""

    def wake(self, line: Line, count: int | None = None) -> None:
        """Wake the first `count` sleepers of `line`, or all of them."""

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run, if not each time; a cancellation is raised."""

    def turn(self) -> Awaitable[None]:
        """Let every other task run that can; a cancellation is raised."""

    def shielded_checkpoint(self) -> Awaitable[None]:
        """Let other tasks run, if not each time; a cancellation is not raised."""

    def cancelled_now(self) -> bool:
        """Whether the calling task's next unshielded wait would raise Cancelled."""

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> Scope:
        """A block to be given up after `seconds` (None or inf: never by itself)."""

    def extend(self, scope: Scope, seconds: float) -> None:
        """Let `scope` be given up `seconds` from now instead."""

    def time(self) -> float:
        """The loop's clock, in seconds; what `scope` counts by."""

    # -- starting tasks
    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: object,
        nursery: object = None,
        name: str | None = None,
    ) -> None:
        """Run `function(*args)` as a task of its own.

        Without a `nursery` nothing but a cancellation may escape it: any other
        exception is logged and dropped.
        """

    def soon(self, function: Callable[[], None]) -> None:
        """Call `function` from a task of its own; calls keep their order."""

    def accepts_nursery(self, nursery: object) -> bool:
        """Whether `spawn` can take `nursery`."""

    # -- names
    async def getaddrinfo(self, host: str, port: int) -> list[tuple[int, str]]:
        """The (family, numeric address) pairs of `host` for a stream to `port`.

        In the system's order. Raises socket.gaierror.
        """


if TYPE_CHECKING:
    from . import _asyncio, _trio

    _complete: tuple[Callable[[], Runtime], ...] = (_trio.current, _asyncio.current)

# The library that sniffio tells, and who implements the seam on it.
_RUNTIMES: Final = {"trio": "_trio", "asyncio": "_asyncio"}


@functools.cache
def _implementation(library: str) -> Callable[[], Runtime]:
    # Imported when needed: each event loop takes a tenth of a second to import.
    module = importlib.import_module(f".{_RUNTIMES[library]}", __package__)
    found: Callable[[], Runtime] = module.current
    return found


def current() -> Runtime:
    """The runtime of the calling task; RuntimeError outside of any event loop."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        if not _in_callback_of_asyncio():
            raise RuntimeError(
                "wsockets needs a running event loop: call it from inside "
                "trio.run() or asyncio.run()"
            ) from None
        library = "asyncio"
    if library not in _RUNTIMES:
        raise RuntimeError(
            f"wsockets does not run on {library}; it runs on trio and asyncio"
        )
    return _implementation(library)()


def _in_callback_of_asyncio() -> bool:
    # A callback has no task, which is what sniffio looks for.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
