"""update(): another value for some of what a socket was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SocketError
from ..promise import Promise, fulfilled
from ..socket_options import apply
from .extras import extras_of
from .stats import idle_seconds
from .timers import limit_idling, limit_opening
from .upgrade import Upgrade

if TYPE_CHECKING:
    from ..socket import Socket
    from .init import Update

__all__ = ["update"]


def update(socket: Socket, wanted: Update) -> Promise[None]:
    """Do what is wanted, all of it or nothing; SocketError for what cannot be."""
    if socket._has_ended:
        raise SocketError("update() came after the socket had ended", code="state")
    connection = socket._connection
    if connection is None and (wanted.system is not None or wanted.secure):
        raise SocketError(
            "update() needs an open socket for that; await ready first", code="state"
        )
    if wanted.secure is False and socket.secureTransport == "on":
        raise SocketError("update() cannot take TLS away again", code="state")
    if wanted.idle_timeout and connection is not None:
        _check_idling(socket)
    upgrade = Upgrade(socket, wanted) if wanted.secure else None
    if wanted.system is not None:
        assert connection is not None
        apply(connection.socket, wanted.system)
    done = fulfilled(socket._runtime, None) if upgrade is None else upgrade.start()
    _set_timers(socket, wanted)
    return done


def _check_idling(socket: Socket) -> None:
    assert socket._connection is not None
    if idle_seconds(socket._connection.socket) is None:
        raise SocketError(
            "idleTimeout is for TCP, whose bytes the system counts", code="option"
        )


def _set_timers(socket: Socket, wanted: Update) -> None:
    """Put new timers in the place of the old ones; 0 puts none there."""
    extras = extras_of(socket)
    if wanted.ready_timeout is not None:
        if extras.ready_timer is not None:
            extras.ready_timer.stop()
        if wanted.ready_timeout and socket._connection is None:
            extras.ready_timer = limit_opening(socket, wanted.ready_timeout)
    if wanted.idle_timeout is not None:
        if extras.idle_timer is not None:
            extras.idle_timer.stop()
        if wanted.idle_timeout:
            extras.idle_timer = limit_idling(socket, wanted.idle_timeout)
