"""Loan: a socket's connection in the hands of a bridge.

From the moment a bridge is made the socket's streams are locked, by a reader and
a writer of the loan. Once the socket is open and what was written is sent, the
connection itself is lent: the streams have no channel, nobody waits at the gate,
and only the borrower touches the connection, until it gives it back. The socket
stays its owner: whatever ends the socket meanwhile asks for it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from .connection import PlainConnection, TlsConnection
from .errors import SocketError, as_exception
from .promise import Promise
from .runtime import protect
from .streams.readable import ReadableState
from .streams.writable import WritableState

if TYPE_CHECKING:
    from .bridge.bridge import Borrower
    from .socket import Socket
    from .socket_info import SocketInfo

__all__ = ["Loan"]


@final
class Loan:
    """What a bridge has of a socket; implements its `Lender`.

    SocketError (code "state") where a stream that is to be `read` or `written`
    is locked or has ended.
    """

    __slots__ = ("_lent", "_over", "_reader", "_socket", "_writer", "borrower")

    def __init__(self, socket: Socket, *, read: bool, written: bool) -> None:
        readable, writable = socket._readable.stream, socket._writable.stream
        if readable.locked or writable.locked:
            raise SocketError(
                "a bridge needs both streams: release the reader or writer first",
                code="state",
            )
        if read and readable._state is not ReadableState.READABLE:
            raise SocketError(
                'the readable has ended; a bridge with direction="encrypt-only" '
                "does without",
                code="state",
            )
        if written and writable._state is not WritableState.WRITABLE:
            raise SocketError(
                'the writable has ended; a bridge with direction="decrypt-only" '
                "does without",
                code="state",
            )
        self._socket = socket
        self._reader = readable.getReader()
        self._writer = writable.getWriter()
        self._lent = False
        # The connection came back, or is not to: what the socket does now is no
        # news to the borrower.
        self._over = False
        self.borrower: Borrower | None = None

    # -- the bridge's calls

    @property
    def opened(self) -> Promise[SocketInfo]:
        return self._socket.opened

    async def ready(self) -> None:
        await self._socket.opened
        if self._socket._writable.stream._state is WritableState.WRITABLE:
            await self._writer.write(b"")

    @protect
    def lend(self) -> tuple[PlainConnection | TlsConnection, bytes]:
        socket = self._socket
        connection = socket._connection
        if connection is None or not socket._is_open:
            raise SocketError("the socket has ended", code="closed")
        assert isinstance(connection, (PlainConnection, TlsConnection))
        unread = socket._readable.lend()
        if isinstance(connection, TlsConnection):
            unread += connection.rejoin()
        socket._writable.lend()
        self._lent = True
        return connection, unread

    @protect
    def give_back(
        self,
        unread: bytes,
        owed: bytes,
        owed_clear: bytes,
        *,
        read_ended: bool,
        write_ended: bool,
    ) -> None:
        socket, connection = self._socket, self._socket._connection
        assert connection is not None
        self._lent, self._over = False, True
        if isinstance(connection, TlsConnection):
            connection.owe(owed)
        else:
            owed_clear = owed + owed_clear
        socket._readable.resume(connection, unread)
        if write_ended:
            socket._writable.lent_end()
        else:
            socket._writable.resume(connection, owed_clear)
        socket._returned(read_ended=read_ended)

    @protect
    def fail(self, error: BaseException | None) -> None:
        self._over = True
        self._socket._failed(_as_socket_error(error))

    @protect
    def abort(self, error: BaseException | None) -> None:
        self._over = True
        self._socket._abort(_as_socket_error(error))

    @protect
    def close(self) -> None:
        self._socket.close()

    @protect
    def release(self) -> None:
        self._socket._loan = None
        self._reader.releaseLock()
        self._writer.releaseLock()

    # -- the socket's calls

    @protect
    def recall(self, seconds: float) -> bool:
        """The socket is being closed. Whether its connection has yet to come back."""
        if self.borrower is not None and not self._over:
            self.borrower._recall(self, seconds)
        return self._lent and not self._over

    @protect
    def revoke(self, error: BaseException) -> None:
        """The socket has ended; on return nobody else uses its connection."""
        if self.borrower is not None and not self._over:
            self._over = True
            self.borrower._revoke(self, error)


def _as_socket_error(error: BaseException | None) -> SocketError:
    if isinstance(error, SocketError):
        return error
    failure = SocketError("the bridge has ended", code="closed")
    failure.__cause__ = None if error is None else as_exception(error)
    return failure
