"""Loan: a socket's connection in other hands, a bridge's or a pipe's.

Once the socket is open and what was written is sent, the connection, or one of
its directions, is lent: that stream has no channel, nobody waits at the gate for
it, and only the borrower touches it, until it gives it back. The socket stays
the owner: whatever ends the socket meanwhile asks for the connection first.

For a bridge the streams are locked as well, from the moment the bridge is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

from .connection import PlainConnection, TlsConnection
from .errors import SocketError, as_exception
from .promise import Promise
from .runtime import protect
from .streams.readable import ReadableState
from .streams.writable import WritableState

if TYPE_CHECKING:
    from .bridge.lending import Borrower
    from .socket import Socket
    from .socket_info import SocketInfo

__all__ = ["Loan"]


@final
class Loan:
    """What somebody may borrow of a socket; a bridge's `Lender`."""

    __slots__ = (
        "_kept",
        "_over",
        "_read",
        "_socket",
        "_written",
        "borrower",
        "locked",
    )

    def __init__(self, socket: Socket, borrower: Borrower | None = None) -> None:
        self._socket = socket
        # Whether this loan holds the streams, as a bridge does.
        self.locked = False
        # The directions that are lent now.
        self._read = False
        self._written = False
        # What was received, of a connection that is lent but not to be read from.
        self._kept = b""
        # The socket has ended: what it does now is no news to the borrower.
        self._over = False
        self.borrower = borrower
        socket._loans += (self,)

    def lock(self, *, read: bool, written: bool) -> None:
        """Lock both streams until the release.

        SocketError (code "state") where a stream that is to be `read` or
        `written` has ended, or one of them is locked.
        """
        readable, writable = (
            self._socket._readable.stream,
            self._socket._writable.stream,
        )
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
        readable._hold()
        writable._hold()
        self.locked = True

    # -- the borrower's calls

    @property
    def opened(self) -> Promise[SocketInfo]:
        return self._socket.opened

    @property
    def is_ready(self) -> bool:
        return self._socket._is_open and self._socket._writable.flushed() is None

    async def ready(self) -> None:
        await self._socket.opened
        flushed = self._socket._writable.flushed()
        if flushed is not None:
            await flushed

    def is_free(self, *, read: bool, written: bool) -> bool:
        """Whether these directions can be lent, and nobody waits for the other.

        TLS is lent as a whole, for its directions share one state.
        """
        if not self.is_ready:
            return False
        socket = self._socket
        if read and socket._readable.stream._state is not ReadableState.READABLE:
            return False
        if written and socket._writable.stream._state is not WritableState.WRITABLE:
            return False
        whole = isinstance(socket._connection, TlsConnection)
        return not (read or whole) or not socket._readable.is_asked

    @protect
    def lend(
        self,
        *,
        read: bool,
        written: bool,
        wanted: Callable[[], None] | None = None,
    ) -> tuple[PlainConnection | TlsConnection, bytes]:
        socket = self._socket
        connection = socket._connection
        if connection is None or not socket._is_open:
            raise SocketError("the socket has ended", code="closed")
        assert isinstance(connection, (PlainConnection, TlsConnection))
        whole = isinstance(connection, TlsConnection)
        unread = b""
        if read or whole:
            unread = socket._readable.lend(wanted)
        if isinstance(connection, TlsConnection):
            try:
                unread += connection.rejoin()
            except SocketError as error:
                socket._failed(error)
                raise
        if written or whole:
            socket._writable.lend(wanted)
        self._read, self._written = read or whole, written or whole
        if not read:
            self._kept, unread = unread, b""
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
        read, self._read = self._read, False
        written, self._written = self._written, False
        if isinstance(connection, TlsConnection):
            connection.owe(owed)
        else:
            owed_clear = owed + owed_clear
        kept, self._kept = self._kept, b""
        if read:
            socket._readable.resume(connection, kept + unread)
        if write_ended:
            socket._writable.lent_end()
        elif written:
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
        self._over = True
        self._socket._loans = tuple(
            loan for loan in self._socket._loans if loan is not self
        )
        if self.locked:
            self.locked = False
            self._socket._readable.stream._let_go()
            self._socket._writable.stream._let_go()

    # -- the socket's calls

    @property
    def is_lent(self) -> bool:
        """Whether somebody else uses the connection now."""
        return self._read or self._written

    @protect
    def recall(self, seconds: float) -> None:
        """The socket is being closed; let the connection come back."""
        if self.borrower is not None and not self._over:
            self.borrower._recall(self, seconds)

    @protect
    def revoke(self, error: BaseException) -> None:
        """The socket has ended; on return nobody else uses its connection."""
        if self.borrower is not None and not self._over:
            self._over = True
            self._read = self._written = False
            self.borrower._revoke(self, error)


def _as_socket_error(error: BaseException | None) -> SocketError:
    if isinstance(error, SocketError):
        return error
    failure = SocketError("the bridge has ended", code="closed")
    failure.__cause__ = None if error is None else as_exception(error)
    return failure
