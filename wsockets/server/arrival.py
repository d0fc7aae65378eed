"""An arrival: somebody who has connected, until there is an open Socket for him.

What happens in between depends on what he sends (a proxy's header, a ClientHello),
so each has a task and a time limit of his own, and nobody waits for anybody else.
"""

from __future__ import annotations

import socket as _socket
from typing import final

import attrs

from ..connection import Connection
from ..errors import SocketError, os_error
from ..handshake import Handshake
from ..opening import Opening
from ..proxy_header import AHEAD, HeaderReader
from ..runtime import Runtime
from ..runtime.gate import Gate, Want
from ..socket import Socket
from .options import Settings

__all__ = ["Arrival", "opened"]


def opened(
    runtime: Runtime,
    settings: Settings,
    connection: Connection,
    alpn: str | None = None,
    announced: str | None = None,
) -> Socket:
    """The socket of a connection that is ready for use."""
    security = settings.security
    if announced is not None:
        security = attrs.evolve(security, announced=announced)
    socket = Socket._make(runtime, settings.options, security)
    socket._open(connection, alpn)
    return socket


@final
class Arrival:
    """One accepted descriptor, which it owns until `run` has returned."""

    __slots__ = ("_handshake", "_runtime", "_scope", "_settings", "_sock", "peer")

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        handshake: Handshake | None,
        sock: _socket.socket,
        peer: object,
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._handshake = handshake
        self._sock = sock
        self._scope = runtime.scope()
        self.peer = peer

    def give_up(self) -> None:
        """Let `run` end as soon as it can."""
        self._scope.cancel()

    async def run(self) -> Socket | None:
        """The socket, or None after `give_up`. Raises SocketError."""
        with self._scope:
            announced = None
            if self._settings.own.trusts(self.peer):
                announced = await self._announced()
            options = self._settings.options
            connection, alpn = await Opening(
                self._runtime, self._taken, options, self._handshake
            ).run()
            return opened(self._runtime, self._settings, connection, alpn, announced)
        return None

    async def _taken(self) -> _socket.socket:
        return self._sock

    # -- the proxy's header

    async def _announced(self) -> str | None:
        """For whom the proxy has connected; None: for itself, or it does not say."""
        seconds = self._settings.options.handshakeTimeout
        try:
            with self._runtime.scope(seconds):
                return await self._read_header()
        except BaseException:
            self._sock.close()
            raise
        self._sock.close()
        raise SocketError(
            f"the PROXY header was not complete after {seconds:g} s (handshakeTimeout)",
            code="timeout",
        )

    async def _read_header(self) -> str | None:
        reader = HeaderReader()
        gate = Gate(self._runtime)
        gate.open(self._sock.fileno())
        while reader.header is None:
            try:
                # What is behind the header stays for whoever reads next.
                ahead = self._sock.recv(AHEAD, _socket.MSG_PEEK)
                if not ahead:
                    raise SocketError(
                        "the proxy ended the connection within its PROXY header",
                        code="proxy",
                    )
                self._sock.recv(reader.receive(ahead))
            except BlockingIOError:
                await gate.wait(Want.READ)
            except OSError as error:
                raise os_error("receive the PROXY header", error) from error
        return reader.header.source
