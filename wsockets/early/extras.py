"""Extras: what a socket remembers for the early draft's members, once it has to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ..abort import AbortController, AbortSignal
from ..errors import as_exception
from ..promise import Promise
from ..runtime import protect
from .stats import SocketStats, read_stats

if TYPE_CHECKING:
    from ..socket import Socket
    from ..socket_info import SocketInfo
    from .data import DataPump
    from .timers import Timer

__all__ = ["Extras", "abort", "extras_of"]


@final
class Extras:
    """See the members of the same names; None: not there, or not asked for yet."""

    __slots__ = (
        "_controller",
        "idle_timer",
        "info",
        "pump",
        "ready",
        "ready_timer",
        "stats",
    )

    def __init__(self) -> None:
        self._controller: AbortController | None = None
        self.ready: Promise[None] | None = None
        self.pump: DataPump | None = None
        self.ready_timer: Timer | None = None
        self.idle_timer: Timer | None = None
        # What they were last, for when there is no connection to ask.
        self.stats = SocketStats()
        self.info: SocketInfo | None = None

    def count(self, socket: Socket, *, broken: bool = False) -> SocketStats:
        """The statistics as they are now, or were at the end."""
        connection = socket._connection
        if connection is not None and connection.socket.fileno() >= 0:
            self.stats = read_stats(connection.socket, broken=broken)
        return self.stats

    def signal(self, socket: Socket) -> AbortSignal:
        """The signal, which from now on follows the one that the socket obeys."""
        controller = self._controller
        if controller is None:
            controller = self._controller = AbortController()
            _follow(socket, controller)
        return controller.signal

    def aborted(self, reason: object) -> None:
        """The socket was aborted."""
        if self._controller is None:
            self._controller = AbortController()
        self._controller.abort(reason)


def _follow(socket: Socket, controller: AbortController) -> None:
    source: Any = socket._options.signal
    if source is None:
        return

    def follow(_: object = None) -> None:
        if source.aborted:
            controller.abort(getattr(source, "reason", None))

    follow()
    if socket._has_ended or source.aborted:
        return
    source.addEventListener("abort", follow, once=True)
    remove = getattr(source, "removeEventListener", None)

    def ended() -> None:
        # The end may be the signal's doing, and this comes before its listener.
        follow()
        if remove is not None:
            remove("abort", follow)

    socket._when_ended(ended)


def extras_of(socket: Socket) -> Extras:
    """The extras of `socket`, made if need be."""
    extras = socket._extras
    if extras is None:
        extras = socket._extras = Extras()
    return extras


@protect
def abort(socket: Socket, reason: object) -> None:
    """End `socket` at once: both streams raise, and its signal is aborted."""
    if socket._has_ended:
        return
    error = as_exception(reason)
    socket._take_back(error)
    socket._readable.stream._fail(error)
    socket._abort(error)
    extras_of(socket).aborted(reason)
