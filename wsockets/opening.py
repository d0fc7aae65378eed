"""Opening: from nothing to a connection that a socket can use, in bounded time.

Somebody gives a connected socket (dialled, adopted, or taken over from a socket
that is upgraded); with TLS the handshake follows. Each phase has its time limit,
and the whole can be given up at any moment. Whatever ends it early leaves no fd.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from socket import SHUT_WR
from typing import TYPE_CHECKING, final

from .connection import Connection, PlainConnection, TlsConnection
from .errors import SocketError
from .handshake import Handshake
from .linger import linger
from .options import SocketOptions
from .runtime import Runtime, Scope
from .runtime.gate import Gate

if TYPE_CHECKING:
    import socket as _socket

__all__ = ["Opening"]


@final
class Opening:
    """One try to get a connection.

    `opener` gives the connected socket. With a `target`, which names it in the
    error, that has to happen within connectTimeout. `at_once` gives it without
    waiting, or None: then the opener goes on from there.
    """

    __slots__ = (
        "_at_once",
        "_handshake",
        "_opener",
        "_options",
        "_runtime",
        "_scope",
        "_target",
    )

    def __init__(
        self,
        runtime: Runtime,
        opener: Callable[[], Awaitable[_socket.socket]],
        options: SocketOptions,
        handshake: Handshake | None,
        target: object = None,
        at_once: Callable[[], _socket.socket | None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._opener = opener
        self._options = options
        self._handshake = handshake
        self._target = target
        self._at_once = at_once if handshake is None else None
        self._scope: Scope | None = None

    def _limit(self) -> Scope:
        """The limit of time; one that nobody needs is never made."""
        scope = self._scope
        if scope is None:
            scope = self._scope = self._runtime.scope(
                math.inf if self._target is None else self._options.connectTimeout
            )
        return scope

    def extend(self, seconds: float) -> None:
        """Let the phase that is under way end `seconds` from now at the latest."""
        self._runtime.extend(self._limit(), seconds)

    def give_up(self) -> None:
        """Let `run` end as soon as it can; its owner wants no result."""
        self._limit().cancel()

    def at_once(self) -> PlainConnection | None:
        """The connection, if it is a plain one that takes no waiting.

        Does something when called for the first time. Raises like `run`.
        """
        at_once, self._at_once = self._at_once, None
        sock = None if at_once is None else at_once()
        return None if sock is None else PlainConnection(sock)

    async def run(self) -> tuple[Connection, str | None]:
        """The connection, and the protocol that ALPN chose.

        Raises SocketError, and whatever else the opener raises.
        """
        sock = None
        with self._limit():
            sock = await self._opener()
            if self._handshake is None:
                return PlainConnection(sock), None
            self.extend(self._options.handshakeTimeout)
            return await self._shake_hands(sock, self._handshake)
        raise self._too_late(sock is not None)

    async def _shake_hands(
        self, sock: _socket.socket, handshake: Handshake
    ) -> tuple[TlsConnection, str | None]:
        options = self._options
        try:
            connection = handshake.connection(sock, options.tolerateTruncation)
            gate = Gate(self._runtime)
            gate.open(sock.fileno())
            while (want := connection.handshake()) is not None:
                await gate.wait(want)
            alpn = connection.finish_handshake(handshake.alpn, options.alpnRequired)
        except SocketError:
            self._leave(sock, handshake)
            raise
        except BaseException:
            sock.close()
            raise
        return connection, alpn

    def _leave(self, sock: _socket.socket, handshake: Handshake) -> None:
        """Close after a handshake that failed; a client may learn why from an alert.

        Which a reset would destroy, and whoever has certificate and request sent
        in one breath would be reset.
        """
        if handshake.role == "client":
            sock.close()
            return
        with contextlib.suppress(OSError):
            sock.shutdown(SHUT_WR)
        linger(self._runtime, sock, self._options.closeTimeout)

    def _too_late(self, shaking: bool) -> SocketError:
        options = self._options
        if shaking:
            text = (
                "the TLS handshake was not complete after "
                f"{options.handshakeTimeout:g} s (handshakeTimeout)"
            )
        elif self._target is None:
            text = (
                "what was written before startTls() was not sent within "
                f"{options.handshakeTimeout:g} s (handshakeTimeout)"
            )
        else:
            text = (
                f"no connection to {self._target} within "
                f"{options.connectTimeout:g} s (connectTimeout)"
            )
        return SocketError(text, code="timeout")
