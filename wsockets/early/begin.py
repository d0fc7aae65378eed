"""Socket(): from its options to a socket that is being connected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..dial import Dialling
from ..handshake import Handshake, Security
from ..opening import Opening
from ..options import check_nursery
from ..runtime import current
from .body import send_body
from .extras import extras_of
from .init import read_init
from .timers import limit_idling, limit_opening

if TYPE_CHECKING:
    from ..socket import Socket

__all__ = ["begin"]


def begin(
    socket: Socket, options: object, members: Mapping[str, object], nursery: object
) -> None:
    """Make `socket`, which is nothing yet, one that connects as it is told."""
    init = read_init(options, members)
    runtime = current()
    check_nursery(runtime, nursery)
    remote = init.remote
    security = Security(init.tls, remote.hostname, remote.port)
    handshake: Handshake | None = Handshake.make(init.options, security)
    if init.options.secureTransport == "on":
        assert handshake is not None
        handshake.check()
    else:
        handshake = None  # its names were looked at
    socket._set_up(runtime, init.options, security, nursery)
    extras = extras_of(socket)
    dialling = Dialling(
        *(runtime, remote, None, None, False, None), prepare=init.prepare
    )
    opening = Opening(
        *(runtime, dialling.finish, init.options, handshake, remote),
        at_once=dialling.at_once,
    )
    if not socket._start(opening):
        return  # the signal was aborted already
    if init.ready_timeout is not None:
        extras.ready_timer = limit_opening(socket, init.ready_timeout)
    if init.idle_timeout is not None:
        extras.idle_timer = limit_idling(socket, init.idle_timeout)
    if init.body is not None:
        send_body(socket, init.body)
