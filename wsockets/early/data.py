"""The event "data": what arrives, as it arrives, told to whoever listens.

The first listener takes the lock of the readable, the last to go gives it back.
Between a receive and its event nothing else runs, so that a chunk is never in the
hands of a task that has been told to stop: what was not told is still to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, final

from ..errors import SocketError
from ..events import Event
from ..runtime import protect

if TYPE_CHECKING:
    from ..socket import Socket

__all__ = ["DataPump", "SocketDataEvent"]


@final
class SocketDataEvent(Event):
    """The event "data" of a Socket: bytes that have arrived.

    While somebody listens to it the socket is read as fast as data arrive, and its
    readable is locked; listening is a SocketError (code "state") while somebody else
    has it locked.

    Made like any event, with `buffers` among its options.
    """

    __slots__ = ("_buffers",)

    def __init__(
        self,
        type: str,
        options: Mapping[str, object] | None = None,
        /,
        *,
        cancelable: bool = False,
        buffers: Iterable[bytes] = (),
    ) -> None:
        super().__init__(type, options, cancelable=cancelable)
        given = (options or {}).get("buffers", buffers)
        if isinstance(given, (bytes, str)) or not isinstance(given, Iterable):
            raise TypeError(f"buffers is a sequence of bytes, not {given!r:.80}")
        self._buffers: tuple[bytes, ...] = tuple(given)

    @property
    def buffers(self) -> tuple[bytes, ...]:
        """The bytes, in their order; at least one buffer, none of them empty."""
        return self._buffers


@final
class DataPump:
    """Reads a socket for its listeners. SocketError (code "state") where it cannot."""

    __slots__ = ("_reader", "_scope", "_socket", "_stopped")

    def __init__(self, socket: Socket) -> None:
        if socket.readable.locked:
            raise SocketError(
                'the readable is locked: the event "data" needs it, so release the '
                "reader first",
                code="state",
            )
        self._socket = socket
        self._reader = socket.readable.getReader()
        self._scope = socket._runtime.scope()
        self._stopped = False
        socket._runtime.spawn(self._run, name="wsockets data")

    @protect
    def stop(self) -> None:
        """Read no more; what was not told of is left to others."""
        self._stopped = True
        self._scope.cancel()
        self._reader.releaseLock()

    @protect
    async def _run(self) -> None:
        with self._scope:
            while not self._stopped:
                reading = self._reader.read()
                if reading._is_pending():
                    try:
                        await reading
                    except Exception:
                        return  # the socket's failure, or stop()
                if reading._is_rejected() or reading._value.done:
                    return
                self._socket.dispatchEvent(
                    SocketDataEvent("data", buffers=(reading._value.value,))
                )
                await self._socket._runtime.checkpoint()
