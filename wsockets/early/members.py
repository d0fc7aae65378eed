"""The early draft's members of a Socket, as a base of that class."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs

from ..connection import TlsConnection
from ..errors import SocketError
from ..events import EventTarget
from ..promise import Promise, rejected
from ..socket_info import Particulars, SocketInfo
from ..socket_options import SystemOptions, read
from .data import DataPump
from .extras import Extras, abort, extras_of
from .init import read_update
from .stats import SocketStats
from .update import update

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..abort import AbortSignal
    from ..socket import Socket
    from ..streams import ReadableStreamAsyncIterator
    from .init import SocketInitMembers

__all__ = ["EarlyMembers"]


class EarlyMembers(EventTarget):
    """What the early draft gives a Socket that the Sockets API does not."""

    __slots__ = ("_extras",)

    _extras: Extras | None

    def __init__(self) -> None:
        super().__init__()
        self._extras = None

    @property
    def _socket(self) -> Socket:
        return cast("Socket", self)

    # -- promises and signals

    @property
    def ready(self) -> Promise[None]:
        """Settles as `opened` does, and gives nothing."""
        extras = extras_of(self._socket)
        if extras.ready is None:
            extras.ready = self._socket.opened.then(lambda _: None)
        return extras.ready

    def abort(self, reason: object = None) -> Promise[None]:
        """End the socket at once, and abort its signal; returns `closed`.

        The connection is reset and what is queued dropped, either way: reads raise
        the reason as writes do (an AbortError round one that is no exception), which
        is the difference to close(reason). Nothing happens once it has ended.
        """
        abort(self._socket, reason)
        return self._socket.closed

    @property
    def signal(self) -> AbortSignal:
        """Aborted by abort(), and with the signal that the socket was given."""
        return extras_of(self._socket).signal(self._socket)

    # -- facts

    @property
    def stats(self) -> SocketStats:
        """What has gone over the connection so far; after its end, in all.

        The system counts, and the socket asks: at the end only where it was made by
        the constructor, or was asked for something of the kind before.
        """
        return extras_of(self._socket).count(self._socket)

    @property
    def info(self) -> SocketInfo:
        """What is known of the connection now, or was last.

        Beside the members of what `opened` resolves to it has what TLS came to:
        `servername`, `certificate`, `peerCertificate`, `verificationStatus`,
        `cipher`, `ephemeralKey`, `session` and `ticket`; not while the socket is
        bridged. Everything is None before the socket is open.
        """
        socket = self._socket
        extras = extras_of(socket)
        opened = socket._opened
        if opened._is_pending() or opened._is_rejected():
            return SocketInfo()
        known = extras.info or opened._value
        connection = socket._connection
        if isinstance(connection, TlsConnection) and not socket._loans:
            details = connection.details()
            known = attrs.evolve(
                known, alpn=details.alpn, particulars=Particulars("tls", details)
            )
        extras.info = known
        return known

    def system_options(self) -> SystemOptions:
        """The operating system's options of the socket, as they are now.

        SocketError (code "state") unless it is open. `update()` sets them.
        """
        connection = self._socket._connection
        if connection is None:
            raise SocketError("the socket is not open", code="state")
        return read(connection.socket)

    # -- change

    def update(
        self, init: object = None, /, **members: Unpack[SocketInitMembers]
    ) -> Promise[None]:
        """Change the socket: its timeouts, the system's options, or to TLS.

        - `readyTimeout`, `idleTimeout`: in milliseconds from now, 0 for none.
        - The members of `SystemOptions` (`noDelay`, `keepAlive` …), once open.
        - `type`: "tls", or a protocol's name, goes on with TLS on this very socket
          and its streams; the members of TlsOptions and `servername` may be given
          with it. Needs a socket that is open, secureTransport "starttls" (which
          the constructor's type "tcp" has), and writes that are sent: what is
          written after the call goes out encrypted. TLS is never renegotiated.

        The promise resolves once that is done. It rejects with a SocketError if it
        cannot be, and nothing has changed then; but a handshake that fails ends the
        socket.
        """
        try:
            return update(self._socket, read_update(init, members))
        except SocketError as error:
            return rejected(self._socket._runtime, error.with_traceback(None))

    def stream(self) -> ReadableStreamAsyncIterator:
        """What arrives, for `async for`: `readable.values()`."""
        return self._socket.readable.values()

    # -- events

    def _heard(self, type: str) -> None:
        if type == "data":
            extras_of(self._socket).pump = DataPump(self._socket)

    def _unheard(self, type: str) -> None:
        if type == "data":
            extras = extras_of(self._socket)
            pump, extras.pump = extras.pump, None
            if pump is not None:
                pump.stop()
