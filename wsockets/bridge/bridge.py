"""Bridge: what the user holds of a connection that is forwarded.

    NEW --start()--> ARMED --opened, flushed--> RUNNING --end--> ENDED
     |                 |                           |
     +--- stop() ------+----------- ends ----------+

The streams of the socket are locked from NEW to ENDED. Where the socket is not yet
open, or what was written not yet sent, a task waits for that in ARMED. In RUNNING
the connection is lent to a pump of one of the engines, and neither a task nor a
byte of the payload is in Python (with the native engine). A pump that has news
calls `_on_news`, which gives the connection back.

How it comes back depends on how the bridge ended:

    stopped                  both directions go on where the pump left off; if the
                             sink's end had been passed on, the writable has ended
    eof                      the directions that ended are ended, as if the end had
                             been read or written by hand; the rest goes on (of
                             packets there is no rest: the socket is closed)
    truncated, reset, tls    the connection has failed, and so has its socket
    sink, framing            what was under way is lost: the socket is reset, lest
                             its peer take what it got for all
    idle                     the socket is closed in good order
    closed                   by the socket, which was closed, aborted or failed; or
                             by the end of the event loop, which resets the socket

A sink that is a socket of ours is lent and given back the same way; for it the
sides are exchanged. If one of two sockets is closed, so is the other; if one is
aborted, the other is too.
"""

from __future__ import annotations

import enum
import functools
import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import attrs

from ..errors import SocketError, os_error
from ..promise import Promise
from ..runtime import Runtime, Scope, protect
from .engines import EngineName, engine_name, make_pump
from .sink import Sink, open_sink
from .work import (
    BridgeEnd,
    BridgeStats,
    Direction,
    End,
    Framing,
    Pump,
    Reason,
    Side,
    Work,
)

if TYPE_CHECKING:
    from typing import Self

    from ..connection import PlainConnection, TlsConnection
    from ..socket import Socket
    from .lending import Lender
    from .options import BridgeOptions

__all__ = ["Bridge"]

_log = logging.getLogger("wsockets")

# Each call of frozenset() makes another one, of 216 bytes.
_NEITHER: frozenset[Direction] = frozenset()

# How long stop() goes on delivering, in seconds, where nothing else is said.
_DRAIN = 1.0
# The failures of a connection, as opposed to those of a foreign sink.
_BROKEN: frozenset[Reason] = frozenset({"truncated", "reset", "tls"})
# After these, what was under way is lost.
_ABRUPT: frozenset[Reason] = _BROKEN | {"sink", "framing", "closed"}


class _State(enum.Enum):
    NEW = "new"
    ARMED = "armed"
    RUNNING = "running"
    ENDED = "ended"


@final
class Bridge:
    """Forwarding between a connection and a sink, made by `Socket.bridge()`."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_connection",
        "_end",
        "_engine",
        "_event",
        "_fds",
        "_halves",
        "_options",
        "_other",
        "_pump",
        "_recalled",
        "_revoked",
        "_runtime",
        "_scope",
        "_sink",
        "_socket",
        "_state",
    )

    _closed: Promise[BridgeEnd]
    _connection: Lender
    _end: BridgeEnd | None
    # An eventfd, where fileno() was called before there was a pump.
    _event: int
    # Descriptors that are to be closed, unless a pump gets them.
    _fds: tuple[int, ...]
    _engine: EngineName | None
    _halves: frozenset[Direction]
    _options: BridgeOptions
    _other: Lender | None
    _pump: Pump | None
    # The socket that wants its connection back, or has ended.
    _recalled: Lender | None
    _revoked: Lender | None
    _runtime: Runtime
    # Of the task that begins.
    _scope: Scope | None
    _sink: Sink | None
    _socket: Socket
    _state: _State

    def __init__(self) -> None:
        raise TypeError("a Bridge is made by Socket.bridge() or createBridge()")

    @classmethod
    def _make(
        cls,
        runtime: Runtime,
        options: BridgeOptions,
        socket: Socket,
        connection: Lender,
        sink: object | Lender,
        *,
        foreign: bool,
    ) -> Bridge:
        """A bridge that is not started. Opens a `foreign` sink; SocketError."""
        self = cls.__new__(cls)
        self._runtime = runtime
        self._options = options
        self._socket = socket
        self._connection = connection
        self._sink = None
        self._other = None
        self._fds = ()
        if foreign:
            self._sink = open_sink(
                sink,
                reading=options.encrypt,
                writing=options.decrypt,
            )
            end = self._sink.end
            self._fds = tuple({end.read_fd, end.write_fd} - {-1})
        else:
            self._other = sink  # type: ignore[assignment]
        self._state = _State.NEW
        self._scope = None
        self._pump = None
        self._engine = None
        self._recalled = None
        self._revoked = None
        self._halves = _NEITHER
        self._end = None
        self._event = -1
        self._closed = Promise(runtime)
        return self

    # -- what the user calls

    @property
    def socket(self) -> Socket:
        """The socket that is bridged."""
        return self._socket

    def handshake(self) -> Promise[Any]:
        """`opened` of the socket: connected and, with TLS, shaken hands."""
        return self._connection.opened

    @protect
    def start(self) -> None:
        """Begin to forward, or as soon as the socket is open.

        What was written to the socket before is sent first, and what it received
        goes to the sink first. SocketError (code "state") for a second call;
        RuntimeError outside of the event loop, and nothing has changed.
        """
        if self._state is not _State.NEW:
            raise SocketError("this bridge was started before", code="state")
        if not self._runtime.is_current():
            raise RuntimeError("a bridge is started in its socket's event loop")
        self._state = _State.ARMED
        if self._connection.is_ready and (self._other is None or self._other.is_ready):
            try:
                self._set_off()
            except Exception as error:
                # Nobody is called back from within the call.
                self._runtime.soon(functools.partial(self._could_not_begin, error))
        else:
            self._scope = self._runtime.scope()
            self._runtime.spawn(self._begin, self._scope, name="wsockets bridge")

    @protect
    def stop(self, drain: float = _DRAIN) -> Promise[BridgeEnd]:
        """Hand the connection back; returns `closed`.

        Nothing more is taken from either side. What was taken is delivered for
        at most `drain` seconds; what the sink does not take in time is the first
        that the socket's readable gives, and what the connection does not take
        is sent before anything that is written. After the end it does nothing.
        """
        if isinstance(drain, bool) or not isinstance(drain, (int, float)):
            raise SocketError(f"drain is in seconds, not {drain!r}", code="option")
        if not drain >= 0:
            raise SocketError(f"drain is 0 s or more, not {drain!r}", code="option")
        if self._state is _State.RUNNING:
            assert self._pump is not None
            self._pump.stop(drain)
        elif self._state is not _State.ENDED:
            self._give_up()
            self._finish(BridgeEnd("connection", "decrypt", "stopped"))
        return self._closed

    @property
    def closed(self) -> Promise[BridgeEnd]:
        """Resolves to the `BridgeEnd` when the bridge has ended; never rejects."""
        return self._closed

    def result(self) -> BridgeEnd:
        """The `BridgeEnd`, once there is one; from any thread.

        SocketError (code "state") before.
        """
        end = self._end
        if end is None and self._pump is not None:
            end = self._pump.ended
        if end is None:
            raise SocketError("the bridge has not ended yet", code="state")
        return end

    @property
    def stats(self) -> BridgeStats:
        """What has been moved so far; from any thread."""
        return BridgeStats() if self._pump is None else self._pump.stats

    @property
    def engine(self) -> EngineName:
        """The engine that moves the bytes: "native" or "python"."""
        return self._engine or engine_name()

    def fileno(self) -> int:
        """An fd that is readable when the bridge has ended, for any event loop.

        Valid for as long as this object is. Not to be read from.
        """
        if self._event < 0:
            if self._pump is not None:
                return self._pump.fileno()
            self._event = os.eventfd(1 if self._end else 0, os.EFD_CLOEXEC)
        return self._event

    async def __aenter__(self) -> Self:
        """Start, and wait until the socket is open."""
        self.start()
        try:
            await self.handshake()
        except Exception:
            await self._closed
            raise
        except BaseException:
            await self._stop_at_once()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; the socket can be read from and written to again."""
        if error is None:
            await self.stop()
        else:
            await self._stop_at_once()

    async def _stop_at_once(self) -> None:
        with self._runtime.scope(shield=True):
            await self.stop(0)

    def __repr__(self) -> str:
        state = self._end.reason if self._end else self._state.value
        return f"<Bridge {state} {self._options.direction}>"

    def __del__(self) -> None:
        if hasattr(self, "_closed"):  # it was made
            self._let_go_of_sink()
            if self._event >= 0:
                os.close(self._event)

    # -- beginning

    async def _begin(self, scope: Scope) -> None:
        try:
            with scope:
                await self._connection.ready()
                if self._other is not None:
                    await self._other.ready()
                self._set_off()
        except self._runtime.Cancelled:
            # The event loop ends.
            self._refuse(SocketError("the event loop ended", code="closed"))
            raise
        except Exception as error:
            self._could_not_begin(error)
        finally:
            self._scope = None

    def _could_not_begin(self, error: Exception) -> None:
        if isinstance(error, OSError):
            error = os_error("make the bridge", error)
        self._refuse(error)

    def _give_up(self) -> None:
        """Begin no more."""
        if self._scope is not None:
            self._scope.cancel()

    @protect
    def _set_off(self) -> None:
        if self._state is not _State.ARMED:
            return
        encrypt, decrypt = self._options.encrypt, self._options.decrypt
        connection, unread = self._connection.lend(read=decrypt, written=encrypt)
        other, sink_unread = None, b""
        try:
            if self._other is not None:
                other, sink_unread = self._other.lend(read=encrypt, written=decrypt)
            work = self._work(connection, unread, other, sink_unread)
            self._pump, self._engine = make_pump(self._runtime, work, self._on_news)
            self._fds = ()
            self._pump.start()
        except BaseException:
            self._connection.give_back(
                unread, b"", b"", read_ended=False, write_ended=False
            )
            if other is not None and self._other is not None:
                self._other.give_back(
                    sink_unread, b"", b"", read_ended=False, write_ended=False
                )
            raise
        self._state = _State.RUNNING

    def _work(
        self,
        connection: PlainConnection | TlsConnection,
        unread: bytes,
        other: PlainConnection | TlsConnection | None,
        sink_unread: bytes,
    ) -> Work:
        options = self._options
        prefix, segmented = options.prefix, False
        if self._sink is not None:
            far = self._sink.end
            if options.framing == "ip" and not prefix:
                # Zeros say: one packet, nothing to be completed.
                prefix = bytes(self._sink.device_header)
                segmented = bool(prefix)
        else:
            assert other is not None
            far = self._end_of(other)
        return Work(
            self._end_of(connection),
            far,
            encrypt=options.encrypt,
            decrypt=options.decrypt,
            framing=Framing(options.framing),
            prefix=prefix,
            segmented=segmented,
            mtu=options.mtu or 65535,
            idle_timeout=options.idleTimeout,
            to_sink=unread,
            to_connection=sink_unread,
        )

    def _end_of(self, connection: PlainConnection | TlsConnection) -> End:
        fd = os.dup(connection.socket.fileno())
        self._fds += (fd,)
        return End(fd, fd, connection)

    @protect
    def _refuse(self, error: BaseException) -> None:
        self._finish(BridgeEnd("connection", "decrypt", "closed", error))

    # -- what the sockets say

    @protect
    def _recall(self, lender: Lender, seconds: float) -> None:
        """See `Borrower`."""
        if self._pump is None or self._pump.ended is None:
            self._recalled = lender
            self.stop(seconds)

    @protect
    def _revoke(self, lender: Lender, error: BaseException) -> None:
        """See `Borrower`."""
        self._revoked = lender
        if self._state is _State.RUNNING:
            assert self._pump is not None
            self._pump.abandon()
            self._on_news()
        else:
            self._give_up()
            self._refuse(error)

    # -- the end

    @protect
    def _on_news(self) -> None:
        """The pump has something to say."""
        pump = self._pump
        if pump is None or self._state is not _State.RUNNING:
            return
        if "decrypt" in pump.finished and "decrypt" not in self._halves:
            self._halves = pump.finished
            if self._sink is not None:
                self._sink.end_writing(close=self._options.closeSink)
        if (end := pump.ended) is not None:
            self._give_back(pump, end)
            self._finish(end)

    def _give_back(self, pump: Pump, end: BridgeEnd) -> None:
        reason = end.reason
        left = pump.remains()
        read_to_end = pump.finished if reason == "eof" else _NEITHER
        for lender, side, parts, read, written in (
            (
                self._connection,
                "connection",
                (left.unread, left.owed, left.owed_clear),
                "decrypt",
                "encrypt",
            ),
            (
                self._other,
                "sink",
                (left.sink_unread, left.sink_owed, left.sink_owed_clear),
                "encrypt",
                "decrypt",
            ),
        ):
            if lender is None or lender is self._revoked:
                continue
            if reason in _BROKEN and end.side == side:
                lender.fail(end.error)
            elif reason in _ABRUPT or self._revoked is not None:
                lender.abort(end.error)
            else:
                # An end that was sent is sent, however the rest ended; one that
                # was received is found again by whoever reads.
                lender.give_back(
                    *parts,
                    read_ended=read in read_to_end,
                    write_ended=written in pump.finished,
                )
                packets = self._options.framing != "stream"
                over = reason == "idle" or (reason == "eof" and packets)
                if over or self._recalled is not None:
                    lender.close()

    def _let_go_of_sink(self) -> None:
        while self._fds:
            fd, *others = self._fds
            self._fds = tuple(others)
            os.close(fd)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.restore()
            if self._options.closeSink:
                sink.close_sink()

    @protect
    def _finish(self, end: BridgeEnd) -> None:
        if self._state is _State.ENDED:
            return
        self._state = _State.ENDED
        cause = self._revoked or self._recalled
        if cause is not None and end.reason in ("stopped", "closed"):
            side: Side = "connection" if cause is self._connection else "sink"
            end = attrs.evolve(end, side=side, reason="closed")
        self._end = end
        self._connection.release()
        if self._other is not None:
            self._other.release()
        self._let_go_of_sink()
        if self._event >= 0:
            os.eventfd_write(self._event, 1)
        if self._options.onError is not None and end.error is not None:
            _call(self._options.onError, end.error)
        if self._options.onClose is not None:
            _call(self._options.onClose)
        self._closed._fulfil(end)


def _call(function: Callable[..., object], *args: object) -> None:
    try:
        function(*args)
    except Exception:
        _log.exception("a callback of a bridge failed")
