"""From plain to TLS in place: the same socket and streams, another connection.

At the call both streams lose their channel, and the gate is held: what is read or
written from then on waits. So nothing that is written after the call goes out in the
clear, and nothing that arrives is delivered. The handshake has a gate of its own.
When it is done the streams get the TLS connection, and go on.

For the socket this is a loan (see loan.py), which is asked for the connection when
the socket ends: whoever closes the descriptor has told the handshake before, which
then does not touch it any more.
"""

from __future__ import annotations

import contextlib
from socket import SHUT_WR
from typing import TYPE_CHECKING, Final, final

import attrs

from ..connection import PlainConnection, TlsConnection
from ..errors import SocketError, as_exception
from ..handover import why_not
from ..handshake import Handshake, Security
from ..linger import linger
from ..mixed_options import UpgradeOptions
from ..options import SocketOptions, secured
from ..promise import Promise
from ..runtime import protect
from ..runtime.gate import Gate
from ..streams.readable import ReadableState

if TYPE_CHECKING:
    from ..socket import Socket
    from .init import Update

__all__ = ["Upgrade"]

_REFUSED: Final = {
    "off": 'secureTransport is "off"; what is to be upgraded is made by Socket(), or '
    'with "starttls"',
    "on": "it is secure already, and TLS is not renegotiated (RFC 8446 has no "
    "renegotiation)",
    "upgraded": "startTls() has taken the connection",
    "closed": "it is being closed, or has ended",
    "ended": "its writable was closed or aborted",
    "bridged": "it is bridged, or being upgraded",
}


def _refusal(why: str) -> SocketError:
    return SocketError(f"update() cannot upgrade the socket: {why}", code="state")


@final
class Upgrade:
    """One upgrade; to the socket a loan. SocketError where it cannot be, at once."""

    __slots__ = (
        "_done",
        "_gate",
        "_handshake",
        "_limit",
        "_options",
        "_over",
        "_required",
        "_security",
        "_socket",
        "borrower",
    )

    def __init__(self, socket: Socket, update: Update) -> None:
        why = why_not(socket)
        if why is not None:
            raise _refusal(_REFUSED[why])
        if socket._loans:
            raise _refusal(_REFUSED["bridged"])
        if socket._readable.stream._state is not ReadableState.READABLE:
            raise _refusal("its readable has ended")
        if socket._writable._queue:
            raise _refusal("something is still to be sent in the clear; await it first")
        assert isinstance(socket._connection, PlainConnection)
        if unread := socket._readable.lend():
            socket._readable.resume(socket._connection, unread)
            raise _refusal("what a bridge had received was not read")
        socket._readable.resume(socket._connection, b"")
        security = socket._security
        if update.tls:
            security = attrs.evolve(
                security, options=attrs.evolve(security.options, **update.tls)
            )
        upgrade = UpgradeOptions(sni=update.servername, alpn=update.alpn or None)
        self._handshake = Handshake.make(socket._options, security, upgrade)
        self._handshake.check()
        self._security: Security = security
        self._options: SocketOptions = secured(
            socket._options, self._handshake.alpn, update.servername
        )
        # A type that is a protocol leaves no choice.
        self._required = self._options.alpnRequired or bool(update.alpn)
        self._socket = socket
        # A bridge has a borrower; here it is the socket itself.
        self.borrower = None
        self._over = False
        self._done: Promise[None] = Promise(socket._runtime)
        self._gate = Gate(socket._runtime)
        self._limit = socket._runtime.scope(self._options.handshakeTimeout)

    @protect
    def start(self) -> Promise[None]:
        """Take the connection; the promise settles with the handshake."""
        socket = self._socket
        connection = socket._connection
        assert isinstance(connection, PlainConnection)
        socket._readable.lend()
        socket._writable.lend()
        socket._loans += (self,)
        socket._gate.hold()
        self._gate.open(connection.socket.fileno())
        socket._runtime.spawn(self._run, connection, name="wsockets upgrade")
        return self._done

    # -- the socket's calls

    @property
    def locked(self) -> bool:
        """Nobody else may have the connection meanwhile."""
        return True

    @property
    def is_lent(self) -> bool:
        """Whether the connection is here."""
        return not self._over

    @protect
    def recall(self, seconds: float) -> None:
        """The socket is being closed; it waits for the handshake, for so long."""
        self._socket._runtime.extend(self._limit, seconds)

    @protect
    def revoke(self, error: BaseException) -> None:
        """The socket has ended; on return nobody uses its connection."""
        self._over = True
        self._gate.close()
        self._limit.cancel()
        self._done._reject(as_exception(error))

    def _release(self) -> None:
        self._socket._loans = tuple(
            loan for loan in self._socket._loans if loan is not self
        )

    # -- the handshake

    async def _run(self, plain: PlainConnection) -> None:
        try:
            connection = None
            with self._limit:
                connection = await self._shake_hands(plain)
            if connection is not None:
                self._succeed(connection)
            elif not self._over:
                raise SocketError(
                    "the TLS handshake was not complete after "
                    f"{self._options.handshakeTimeout:g} s (handshakeTimeout), or by "
                    "the time the socket was to be closed",
                    code="timeout",
                )
        except SocketError as error:
            self._fail(plain, error)

    async def _shake_hands(self, plain: PlainConnection) -> TlsConnection | None:
        handshake, options = self._handshake, self._options
        if self._over:
            return None
        connection = handshake.connection(plain.socket, options.tolerateTruncation)
        while not self._over:
            want = connection.handshake()
            if want is None:
                connection.finish_handshake(handshake.alpn, self._required)
                return connection
            await self._gate.wait(want)
        return None

    @protect
    def _succeed(self, connection: TlsConnection) -> None:
        socket = self._socket
        self._over = True
        self._release()
        socket._options, socket._security = self._options, self._security
        socket._secure_transport = "on"
        socket._connection = connection
        self._gate.close()
        socket._readable.resume(connection, b"")
        socket._gate.open(connection.socket.fileno())
        socket._writable.resume(connection, b"")
        socket._returned(read_ended=False)
        self._done._fulfil(None)

    @protect
    def _fail(self, plain: PlainConnection, error: SocketError) -> None:
        socket = self._socket
        self._over = True
        self._release()
        self._gate.close()
        if self._handshake.role == "server":
            # A client may learn why from an alert, which a reset would destroy.
            socket._connection = None
            with contextlib.suppress(OSError):
                plain.socket.shutdown(SHUT_WR)
            linger(socket._runtime, plain.socket, self._options.closeTimeout)
        socket._failed(error)
        self._done._reject(error)
