"""readyTimeout and idleTimeout: what ends a socket that does nothing.

Whether bytes have moved is asked of the kernel, when a limit would be over: reading
and writing do nothing for it, and what a bridge moves counts as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from ..errors import SocketError
from ..runtime import Runtime
from .stats import idle_seconds

if TYPE_CHECKING:
    from ..socket import Socket

__all__ = ["Timer", "limit_idling", "limit_opening"]


@final
class Timer:
    """A task that waits, and can be told to stop."""

    __slots__ = ("_runtime", "_scope", "_seconds", "_socket")

    def __init__(self, socket: Socket, seconds: float) -> None:
        self._socket = socket
        self._seconds = seconds
        self._runtime: Runtime = socket._runtime
        self._scope = self._runtime.scope()
        socket._when_ended(self.stop)

    def stop(self) -> None:
        """Let the task end."""
        self._scope.cancel()

    async def wait_for_opening(self) -> None:
        """readyTimeout: refuse a socket that is not open by then."""
        with self._scope:
            with self._runtime.scope(self._seconds) as limit:
                await _opens(self._socket)
            if limit.cancelled_caught:
                self._too_late()

    def _too_late(self) -> None:
        opening = self._socket._opening
        self._socket._refused(
            SocketError(
                f"the socket was not open after {self._seconds:g} s (readyTimeout)",
                code="timeout",
            )
        )
        if opening is not None:
            opening.give_up()

    async def watch(self) -> None:
        """idleTimeout: end a socket of which no byte has moved for so long."""
        with self._scope:
            if await _opens(self._socket):
                await self._watch()

    async def _watch(self) -> None:
        runtime, begun = self._runtime, self._runtime.time()
        while True:
            connection = self._socket._connection
            idle = None if connection is None else idle_seconds(connection.socket)
            if idle is None:
                return
            left = self._seconds - min(idle, runtime.time() - begun)
            if left <= 0:
                self._socket._failed(
                    SocketError(
                        f"no byte either way for {self._seconds:g} s (idleTimeout)",
                        code="timeout",
                    )
                )
                return
            # The kernel's clock ticks in milliseconds.
            with runtime.scope(math.ceil(left * 1000) / 1000):
                await runtime.park({})


async def _opens(socket: Socket) -> bool:
    try:
        await socket.opened
    except Exception:
        return False
    return True


def limit_opening(socket: Socket, seconds: float) -> Timer:
    """Refuse `socket` unless it is open in so many seconds."""
    timer = Timer(socket, seconds)
    socket._runtime.spawn(timer.wait_for_opening, name="wsockets ready timeout")
    return timer


def limit_idling(socket: Socket, seconds: float) -> Timer:
    """End `socket` once it was idle for so many seconds."""
    timer = Timer(socket, seconds)
    socket._runtime.spawn(timer.watch, name="wsockets idle timeout")
    return timer
