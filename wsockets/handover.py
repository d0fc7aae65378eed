"""startTls(): a socket's connection goes on with TLS, as another socket's.

The one handover rule: whoever takes a connection over gets every byte that was
not delivered. A plain connection never receives more than it delivers, so what
is not delivered is still in the kernel, and the TLS engine, which reads the fd
itself, gets it; plaintext that was injected before an upgrade makes the
handshake fail. What was written is sent before the connection changes hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from .errors import SocketError
from .handshake import Handshake
from .mixed_options import UpgradeMembers, read_upgrade
from .opening import Opening
from .options import secured
from .promise import Promise
from .runtime import protect
from .streams.writable import WritableState

if TYPE_CHECKING:
    import socket as _socket

    from .socket import Socket

__all__ = ["start_tls", "why_not"]

# Why startTls() is not possible.
_NOT_STARTTLS: Final = 'startTls() needs secureTransport "starttls"; this socket\'s is '
_REFUSED: Final = {
    "off": _NOT_STARTTLS + '"off"',
    "on": _NOT_STARTTLS + '"on": it is secure already',
    "upgraded": "startTls() was called before; use the socket that it returned",
    "closed": "startTls() came after close(), or after the connection had ended",
    "ended": "startTls() needs a writable that was neither closed nor aborted",
    "bridged": "startTls() is not possible while the socket is bridged",
}


def why_not(socket: Socket) -> str | None:
    """In a word why `socket` cannot be upgraded; None: it can."""
    if socket._secure_transport != "starttls":
        return socket._secure_transport
    if socket._upgraded:
        return "upgraded"
    if socket._is_ending:
        return "closed"
    if socket._is_bridged:
        return "bridged"
    if socket._writable.stream._state is not WritableState.WRITABLE:
        return "ended"
    return None


def start_tls(plain: Socket, options: object, members: UpgradeMembers) -> Socket:
    """The socket that goes on where `plain` leaves off. SocketError."""
    refusal = why_not(plain)
    if refusal is not None:
        raise SocketError(_REFUSED[refusal], code="state")
    upgrade, over = read_upgrade(plain._security.options, options, members)
    security = attrs.evolve(plain._security, options=over)
    handshake = Handshake.make(plain._options, security, upgrade)
    handshake.check()
    secure = type(plain)._make(
        plain._runtime,
        secured(plain._options, handshake.alpn, upgrade.sni),
        security,
        plain._nursery,
    )
    plain._upgraded = True
    unread = plain._readable.lend()
    plain._readable.stream._close()
    flushed = plain._writable.hand_over()
    plain._closed._fulfil(None)
    opening = Opening(
        plain._runtime,
        lambda: _hand_over(plain, flushed, secure, unread),
        secure._options,
        handshake,
    )
    if not secure._start(opening):
        _give_up(plain)
    return secure


async def _hand_over(
    plain: Socket, flushed: Promise[None], secure: Socket, unread: bytes
) -> _socket.socket:
    """The connected socket, once it is there and what was written is sent."""
    try:
        await plain._opened
        assert secure._opening is not None
        secure._opening.extend(plain._options.handshakeTimeout)
        await flushed
        if unread:
            raise SocketError(
                "what a bridge had received was not read before startTls()",
                code="tls",
            )
    except BaseException:
        # Nobody will want the connection any more.
        _give_up(plain)
        raise
    return plain._part_with_connection()


@protect
def _give_up(plain: Socket) -> None:
    plain._abort(SocketError("the upgrade was given up", code="closed"))
