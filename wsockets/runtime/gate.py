"""Where the tasks of one connection wait for its file descriptor.

An event loop lets one task wait for one direction of an fd. A TLS connection
needs more: its reader may have to wait until it can write, while its writer
waits for the same. So every wait for an fd goes through its gate: the first
task of a direction waits for the fd, later ones park behind it and all return
together; each tries its call again and, if it must, waits again.

A wait ends early when the gate is opened, held or closed, or its waiters are called
back (`interrupt`). It never says why: callers look at their own state in a loop.
"""

from __future__ import annotations

import enum
from typing import Final, final

from . import Line, Runtime, protect

__all__ = ["Gate", "Want"]


class Want(enum.Enum):
    """What a call that could not go on is waiting for."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"


# Python 3.11 finds the members of an enum by a function, which costs two calls.
_OPEN: Final = Want.OPEN
_READ: Final = Want.READ


@final
class Gate:
    """The waiting room of one connection."""

    __slots__ = ("_closed", "_fd", "_opening", "_reading", "_runtime", "_writing")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._fd = -1
        self._closed = False
        self._opening: Line | None = None
        # The line behind the task that waits for the fd; None: nobody does.
        self._reading: Line | None = None
        self._writing: Line | None = None

    @protect
    def open(self, fd: int) -> None:
        """From now on `fd` can be waited for."""
        self._fd = fd
        if self._opening:
            self._runtime.wake(self._opening)

    @protect
    def interrupt(self) -> None:
        """Let everybody who waits return now."""
        if self._opening:
            self._runtime.wake(self._opening)
        if self._reading is not None or self._writing is not None:
            self._runtime.notify_closing(self._fd)

    @protect
    def hold(self) -> None:
        """Let nobody wait for the fd, now or until `open`: somebody else has it."""
        self.interrupt()
        self._fd = -1

    @protect
    def close(self) -> None:
        """Let everybody return, now and from now on. Call before closing the fd."""
        self.interrupt()
        self._closed = True
        self._fd = -1

    @protect
    async def wait(self, want: Want) -> None:
        """Until it is worth trying again."""
        if self._fd < 0 or want is _OPEN:
            if self._closed:
                await self._runtime.checkpoint()
                return
            if self._opening is None:
                self._opening = {}
            await self._runtime.park(self._opening)
        elif want is _READ:
            if self._reading is not None:
                await self._runtime.park(self._reading)
                return
            line = self._reading = {}
            try:
                await self._runtime.wait_readable(self._fd)
            except self._runtime.Released:
                pass
            finally:
                self._reading = None
                if line:
                    self._runtime.wake(line)
        else:
            if self._writing is not None:
                await self._runtime.park(self._writing)
                return
            line = self._writing = {}
            try:
                await self._runtime.wait_writable(self._fd)
            except self._runtime.Released:
                pass
            finally:
                self._writing = None
                if line:
                    self._runtime.wake(line)
