"""Socket: the specification's object over a connection.

https://sockets-api.proposal.wintertc.org/#socket-section

A socket is made before there is a connection, and passes through four states:

    CONNECTING --> OPEN --> CLOSING --> CLOSED
         |          |          |           ^
         +----------+----------+-----------+

In CONNECTING a task (`_establish`) makes the connection: it is the only one a
socket has, and gone once the socket is open. What needs no waiting is done by
whoever awaits `opened`, if that comes before the task's turn. In OPEN whoever
reads and writes does the work, see streams.channel, and tells the socket what it
notices. In CLOSING what was written is still being sent. CLOSED is for good.

Everything that ends a socket is one of five events, each a method here:

    _refused(error)   no connection, or no handshake: opened and closed reject
    _abort(error)     close(reason), a signal, a cancelled nursery: RST, at once
    _failed(error)    the connection broke: both streams raise, closed resolves
    _start_closing()  close(), or the peer's FIN was read: flush, then FIN
    startTls()        the connection goes to another socket, see handover

The socket owns the fd from the moment there is one; every wait for it goes
through the socket's gate, which is closed before the fd is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from .abort import when_aborted
from .bridge import Bridge, BridgeOptions
from .connection import Connection, PlainConnection, TlsConnection
from .early import EarlyMembers, begin
from .errors import SocketError, as_exception
from .ferry import ferry_between
from .handover import start_tls
from .handshake import Security
from .linger import linger
from .loan import Loan
from .opening import Opening
from .options import SecureTransportKind, SocketOptions, read_members
from .promise import PENDING, Promise
from .runtime import Runtime, protect
from .runtime.gate import Gate
from .runtime.guard import guard
from .socket_info import SocketInfo, info_of
from .streams import ReadableStream, WritableStream
from .streams.direct_readable import DirectReadable
from .streams.direct_writable import DirectWritable
from .streams.readable import Ferry
from .streams.writable import WritableController, WritableState

if TYPE_CHECKING:
    import socket as _socket
    from typing import Self

    from typing_extensions import Unpack

    from .bridge import BridgeMembers
    from .early import SocketInitMembers
    from .early.upgrade import Upgrade
    from .mixed_options import UpgradeMembers
    from .tls import TlsInfo

__all__ = ["Socket"]


class _State(enum.Enum):
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


# Python 3.11 finds the members of an enum by a function, which costs two calls.
_CONNECTING, _OPEN, _CLOSING, _CLOSED = _State


class _Opened(Promise[SocketInfo]):
    """The promise `opened`: whoever awaits it first tries to connect at once."""

    __slots__ = ("_socket",)

    _socket: Socket

    def _wait(self) -> Any:
        self._socket._open_at_once()
        return super()._wait() if self._state == PENDING else self._checkpoint()


class _Closed(Promise[None]):
    """The promise `closed`: cancelling a flushing close turns it into an abort."""

    __slots__ = ("_socket",)

    _socket: Socket

    def _wait(self) -> Coroutine[Any, Any, None]:
        self._socket._readable.attend()
        return super()._wait()

    def _watched(self) -> None:
        self._socket._readable.attend()

    def _abandoned(self) -> None:
        self._socket._close_abandoned()


@final
class Socket(EarlyMembers):
    """A TCP connection, plain or TLS, to be read from and written to.

    Made by `connect()`, `adopt()` and `startTls()`; and by its constructor, which
    connects to `remote` as the early draft of the API has it. Its members:

    - `type`: "tcp", "tls", or the name of a protocol, which is TLS that has to
      agree on it (ALPN).
    - `remote`: {"address" or "hostname", "port"}; `local`: where to connect from.
    - `body`: what to send, and then the end: str, bytes-like, a ReadableStream, a
      file, an iterable or async iterable of chunks, an awaitable, or a function that
      gives one of these. If it fails the socket is aborted.
    - `signal`: ends the socket when it is aborted.
    - `readyTimeout`, `idleTimeout`: in milliseconds, until it is open and without a
      byte either way. 0 is no limit of idling; without a readyTimeout connection
      and handshake have 30 seconds each.
    - `servername`, `session` (a SessionCache) and the members of TlsOptions, for
      TLS now or later.
    - `noDelay` (as everywhere here True by default), `ttl`, `sendBufferSize`,
      `receiveBufferSize` and the other members of SystemOptions.
    - `allowPooling` has no effect: each socket is a connection of its own.

    SocketError (code "option" or "address") for what cannot be right; RuntimeError
    outside of an event loop.
    https://sockets-api.proposal.wintertc.org/#socket-class
    """

    __slots__ = (
        "__weakref__",
        "_asked_to_close",
        "_closed",
        "_connection",
        "_gate",
        "_loans",
        "_nursery",
        "_on_end",
        "_opened",
        "_opening",
        "_options",
        "_read_to_end",
        "_readable",
        "_runtime",
        "_secure_transport",
        "_security",
        "_state",
        "_upgraded",
        "_writable",
    )

    _asked_to_close: bool
    _closed: _Closed
    _connection: Connection | None
    _gate: Gate
    _loans: tuple[Loan | Upgrade, ...]
    _nursery: object
    _on_end: list[Callable[[], object]] | None
    _opened: _Opened
    _opening: Opening | None
    _options: SocketOptions
    _read_to_end: bool
    _readable: DirectReadable
    _runtime: Runtime
    _secure_transport: SecureTransportKind
    _security: Security
    _state: _State
    _upgraded: bool
    _writable: DirectWritable

    def __init__(
        self,
        init: object = None,
        /,
        *,
        nursery: object = None,
        **members: Unpack[SocketInitMembers],
    ) -> None:
        begin(self, init, members, nursery)

    @classmethod
    def _make(
        cls,
        runtime: Runtime,
        options: SocketOptions,
        security: Security,
        nursery: object = None,
    ) -> Socket:
        self = cls.__new__(cls)
        self._set_up(runtime, options, security, nursery)
        return self

    def _set_up(
        self,
        runtime: Runtime,
        options: SocketOptions,
        security: Security,
        nursery: object,
    ) -> None:
        super().__init__()
        self._runtime = runtime
        self._options = options
        self._security = security
        self._secure_transport = options.secureTransport
        self._state = _CONNECTING
        self._upgraded = False
        self._asked_to_close = False
        self._read_to_end = False
        self._connection = None
        self._opening = None
        self._loans = ()
        self._gate = gate = Gate(runtime)
        self._readable = DirectReadable(runtime, gate, self)
        self._writable = DirectWritable(runtime, gate, self, options.highWaterMark)
        self._opened = _Opened(runtime)
        self._opened._socket = self
        self._closed = _Closed(runtime)
        self._closed._socket = self
        self._on_end = None
        self._nursery = nursery
        if options.signal is not None:
            self._obey(options.signal)
        if nursery is not None:
            runtime.spawn(self._guard, nursery=nursery, name="wsockets socket")

    # -- the specification's members

    @property
    def readable(self) -> ReadableStream:
        """What the peer sends: a byte stream of chunks of up to 64 KiB."""
        return self._readable.stream

    @property
    def writable(self) -> WritableStream:
        """What is sent to the peer: takes bytes-like objects and str."""
        return self._writable.stream

    @property
    def opened(self) -> Promise[SocketInfo]:
        """Resolves once connected and, with TLS, shaken hands."""
        return self._opened

    @property
    def closed(self) -> Promise[None]:
        """Resolves when the socket has closed; rejects only if it never opened."""
        return self._closed

    @property
    def upgraded(self) -> bool:
        """Whether startTls() has taken the connection away from this socket."""
        return self._upgraded

    @property
    def secureTransport(self) -> SecureTransportKind:
        """ "off", "on" or "starttls"; "on" for a socket made by startTls()."""
        return self._secure_transport

    @protect
    def close(self, reason: object = None) -> Promise[None]:
        """Close the socket; returns `closed`.

        Without a reason what was written is sent first; a peer that takes none
        of it for `closeTimeout` seconds is given up. With a reason the
        connection is reset at once, and writes reject with the reason (an
        AbortError round one that is not an exception). Cancelling the awaiting
        of a close that still sends resets the connection as well.
        https://sockets-api.proposal.wintertc.org/#close-method
        """
        if self._upgraded or self._state is _CLOSED:
            return self._closed
        if reason is not None:
            self._abort(as_exception(reason))
        elif self._state is _CONNECTING:
            self._abort(
                SocketError("the socket was closed before it was open", code="closed")
            )
        else:
            self._asked_to_close = True
            if self._state is _OPEN:
                self._start_closing()
        return self._closed

    @protect
    def startTls(
        self, options: object = None, /, **members: Unpack[UpgradeMembers]
    ) -> Socket:
        """Go on with TLS over the same connection, as a new socket.

        What was written is sent first, in the clear. This socket is closed, its
        readers and writers are of no use any more. Legal before `opened` and
        with locked streams. The members are `sni`, `alpn` (by default those of
        the socket), `expectedServerHostname` and TlsOptions'.

        SocketError (code "state") unless secureTransport is "starttls", after
        close(), and for a second call.
        https://sockets-api.proposal.wintertc.org/#starttls-method
        """
        return start_tls(self, options, members)

    @protect
    def bridge(
        self, sink: object, options: object = None, /, **members: Unpack[BridgeMembers]
    ) -> Bridge:
        """Forward natively between this connection and `sink`; see `Bridge`.

        `sink` is a file descriptor, an object with fileno(), a pair of these
        (read from, written to) or another Socket. The members, keywords or a
        mapping, are those of `BridgeOptions`. Nothing moves before the bridge is
        started; from now until it ends both streams are locked. May be called
        before `opened`.

        SocketError (code "state") after close() or startTls(), while bridged, for
        a stream that is locked or has ended; (code "option") for a sink or a
        member that cannot be.
        """
        wanted = read_members(BridgeOptions, options, members, where="bridge()")
        loan = self._loan_out(read=wanted.decrypt, written=wanted.encrypt)
        other: Loan | None = None
        try:
            if isinstance(sink, Socket):
                if sink._runtime is not self._runtime:
                    raise SocketError(
                        "the sink is a socket of another event loop", code="option"
                    )
                other = sink._loan_out(read=wanted.encrypt, written=wanted.decrypt)
            bridge = Bridge._make(
                self._runtime, wanted, self, loan, other or sink, foreign=other is None
            )
        except BaseException:
            for each in (loan, other):
                if each is not None:
                    each.release()
            raise
        for each in (loan, other):
            if each is not None:
                each.borrower = bridge
        return bridge

    start_tls = startTls
    secure_transport = secureTransport

    # -- ours

    def tls_info(self) -> TlsInfo | None:
        """What TLS negotiated, and the peer's certificates; None without TLS."""
        if isinstance(self._connection, TlsConnection):
            return self._connection.info()
        return None

    async def __aenter__(self) -> Self:
        """Wait until the socket is open."""
        try:
            await self._opened
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the socket; what was written is sent."""
        await self.close()

    def __repr__(self) -> str:
        state = "upgraded" if self._upgraded else self._state.value
        return f"<Socket {state} secureTransport={self._secure_transport!r}>"

    # -- opening

    def _start(self, opening: Opening) -> bool:
        """Have the connection made.

        False where the opener will not be called: the signal was aborted.
        """
        if self._state is not _CONNECTING:
            return False
        self._opening = opening
        self._runtime.spawn(self._establish, opening, name="wsockets connect")
        return True

    @protect
    def _open_at_once(self) -> None:
        """Connect, unless that was tried before or takes waiting."""
        opening = self._opening
        if opening is None or self._state is not _CONNECTING:
            return
        try:
            connection = opening.at_once()
            if connection is not None:
                self._open(connection, None)
        except BaseException as error:
            self._not_opened(error)
        if self._state is not _CONNECTING:
            self._opening = None

    async def _establish(self, opening: Opening) -> None:
        self._open_at_once()
        if self._opening is None:
            return
        try:
            self._open(*await opening.run())
        except self._runtime.Cancelled:
            # The event loop ends.
            self._writable.warn_of_loss()
            raise
        except BaseException as error:
            self._not_opened(error)
        self._opening = None

    def _not_opened(self, error: BaseException) -> None:
        if not isinstance(error, SocketError):
            failure = SocketError(f"could not connect: {error!r}", code="os")
            failure.__cause__ = error
            error = failure
        self._refused(error)

    @protect
    def _open(self, connection: Connection, alpn: str | None) -> None:
        if self._state is not _CONNECTING:
            connection.close()
            return
        sock = connection.socket
        try:
            info = info_of(
                sock,
                alpn,
                self._security.announced,
                secure=isinstance(connection, TlsConnection),
            )
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._state = _OPEN
        self._readable.open(connection)
        self._opened._fulfil(info)
        self._gate.open(sock.fileno())
        self._writable.open(connection)

    # -- handing the connection on

    def _loan_out(self, *, read: bool, written: bool) -> Loan:
        if self._upgraded:
            raise SocketError("startTls() has taken the connection", code="state")
        if self._is_bridged:
            raise SocketError("the socket is bridged already", code="state")
        if self._is_ending:
            raise SocketError(
                "bridge() came after close(), or after the connection had ended",
                code="state",
            )
        loan = Loan(self)
        try:
            loan.lock(read=read, written=written)
        except SocketError:
            loan.release()
            raise
        return loan

    @property
    def _is_bridged(self) -> bool:
        return any(loan.locked for loan in self._loans)

    def _ferry_to(self, destination: WritableController) -> Ferry | None:
        """What moves bytes from this socket into `destination` natively."""
        if self._secure_transport == "starttls" or self._upgraded:
            return None
        return ferry_between(self, destination)

    @property
    def _has_ended(self) -> bool:
        return self._upgraded or self._state is _CLOSED

    @property
    def _is_ending(self) -> bool:
        return self._state in (_CLOSING, _CLOSED)

    @property
    def _is_open(self) -> bool:
        return self._state is _OPEN

    @protect
    def _returned(self, *, read_ended: bool) -> None:
        """A bridge has given the connection back, and the streams have it."""
        if read_ended:
            self._readable.stream._close()
            self._read_ended()
        elif self._state is _CLOSING:
            self._go_on_closing()

    @protect
    def _part_with_connection(self) -> _socket.socket:
        """End, and give the connected socket away."""
        self._let_go()
        connection = self._connection
        assert connection is not None
        self._end(_CLOSED)
        return connection.release()

    # -- ending

    def _let_go(self, *, broken: bool = False) -> None:
        """Before the descriptor is closed, or another's; `broken`: a call failed."""
        if self._extras is not None:
            self._extras.count(self, broken=broken)
        self._gate.close()

    @protect
    def _refused(self, error: SocketError) -> None:
        if self._state is not _CONNECTING:
            return
        error.__traceback__ = None
        self._let_go()
        self._readable.stream._close()
        self._writable.fail(error)
        self._opened._reject(error)
        self._closed._reject(error)
        self._end(_CLOSED)

    @protect
    def _abort(self, error: BaseException) -> None:
        if self._state is _CLOSED:
            return
        self._take_back(error)
        self._opened._reject(error)
        if self._opening is not None:
            self._opening.give_up()
        self._let_go()
        if self._connection is not None:
            self._connection.reset()
        self._readable.stream._close()
        self._writable.fail(error)
        self._closed._fulfil(None)
        self._end(_CLOSED)

    @protect
    def _failed(self, error: SocketError) -> None:
        if self._state is _CLOSED:
            return
        error.__traceback__ = None
        self._take_back(error)
        self._let_go(broken=True)
        if self._connection is not None:
            self._connection.close()
        self._readable.stream._fail(error)
        self._writable.fail(error)
        self._closed._fulfil(None)
        self._end(_CLOSED)

    @protect
    def _start_closing(self) -> None:
        self._state = _CLOSING
        self._readable.stream._close()
        for loan in self._loans:
            loan.recall(self._options.closeTimeout)
        self._go_on_closing()

    def _go_on_closing(self) -> None:
        """Once the whole connection is here."""
        if not any(loan.is_lent for loan in self._loans):
            self._close_writable()

    @protect
    def _close_writable(self) -> None:
        # The flusher may be waiting without a limit; there is one now.
        self._gate.interrupt()
        stream = self._writable.stream
        if stream._state is WritableState.WRITABLE:
            if self._has_sent():
                stream._close()
                return
            self._writable.end_unused()
            self._finish_closing()
        elif stream._state in (WritableState.CLOSED, WritableState.ERRORED):
            self._finish_closing()

    def _take_back(self, error: BaseException) -> None:
        """Nobody else shall use the connection from here on."""
        for loan in self._loans:
            loan.revoke(error)

    def _finish_closing(self) -> None:
        connection = self._connection
        assert connection is not None
        self._let_go()
        if self._read_to_end and isinstance(connection, PlainConnection):
            # There was the peer's FIN; close_notify is not that yet.
            connection.close()
        else:
            linger(
                self._runtime,
                connection.release(),
                self._options.closeTimeout,
                sent=self._has_sent(),
            )
        self._closed._fulfil(None)
        self._end(_CLOSED)

    def _has_sent(self) -> bool:
        """Whether the peer may have got anything, a TLS handshake for instance."""
        return self._writable.used or isinstance(self._connection, TlsConnection)

    def _close_abandoned(self) -> None:
        if self._state is _CLOSING and self._asked_to_close:
            self._abort(SocketError("close() was cancelled", code="closed"))

    def _end(self, state: _State) -> None:
        self._state = state
        self._connection = None
        hooks, self._on_end = self._on_end, None
        for hook in hooks or ():
            hook()

    # -- what the streams notice

    def _read_ended(self) -> None:
        self._read_to_end = True
        if self._state is _OPEN and not self._options.allowHalfOpen:
            self._start_closing()

    def _read_cancelled(self) -> None:
        """That direction has ended, and nothing else."""

    def _write_ended(self) -> None:
        if self._state is _CLOSING:
            self._finish_closing()

    def _stall_limit(self) -> float | None:
        return self._options.closeTimeout if self._state is _CLOSING else None

    def _stalled(self) -> None:
        self._failed(
            SocketError(
                f"the peer took nothing for {self._options.closeTimeout:g} s while "
                "the socket was closing (closeTimeout)",
                code="timeout",
            )
        )

    # -- who else may end it

    def _when_ended(self, hook: Callable[[], object]) -> None:
        if self._on_end is None:
            self._on_end = []
        self._on_end.append(hook)

    def _guard(self) -> Coroutine[Any, Any, None]:
        return guard(
            self._runtime,
            lambda: self._state is _CLOSED,
            self._when_ended,
            lambda: self._abort(
                SocketError("the socket's nursery was cancelled", code="closed")
            ),
        )

    def _obey(self, signal: object) -> None:
        def stop(error: BaseException) -> None:
            if not self._upgraded:
                self._abort(error)

        forget = when_aborted(signal, stop)
        if forget is not None:
            self._when_ended(forget)
