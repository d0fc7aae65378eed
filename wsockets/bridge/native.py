"""The native engine: pumps over the C extension, whose threads move the bytes.

A pump owns a session of the extension. The sessions of one runtime share a queue,
whose fd is readable when any of them has news; one task a runtime waits for it and
has the pumps tell. It lives for as long as a pump runs. When the event loop ends
under it, it abandons them: nobody would be told any more.

A running session keeps its pump alive, and that the connections.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from typing import Any, Final, final

from .. import tls
from ..connection import TlsConnection
from ..errors import SocketError, os_error
from ..runtime import Runtime, protect
from ..tls import openssl
from . import _native, framing
from .work import (
    BridgeEnd,
    BridgeFlow,
    BridgeStats,
    Direction,
    End,
    Framing,
    Pump,
    Reason,
    Remains,
    Side,
    Work,
)

__all__ = ["configure", "native_pump", "session_of", "suits"]

_log = logging.getLogger("wsockets")

# By the numbers of the extension.
_SIDES: Final[tuple[Side, ...]] = ("connection", "sink")
_DIRECTIONS: Final[tuple[Direction, ...]] = ("encrypt", "decrypt")
_REASONS: Final[tuple[Reason, ...]] = (
    *("eof", "truncated", "reset", "tls", "sink"),
    *("framing", "stopped", "idle", "closed"),
)
_FRAMINGS: Final = (Framing.STREAM, Framing.IP, Framing.LENGTH16)
_NO_VERSION, _TOO_SHORT, _TOO_LONG = 2, 3, 4

# What has its length in two bytes.
_LONGEST_PACKET: Final = 65535

# Threads at most, where WSOCKETS_BRIDGE_THREADS does not say.
_THREADS: Final = 4

# Those with running pumps, by runtime.
_watchers: Final[dict[Runtime, _Watcher]] = {}


def configure() -> None:
    """Give the extension what it needs; before the first pump.

    Raises AttributeError where cryptography lacks a function, and ValueError
    where WSOCKETS_BRIDGE_THREADS is no number.
    """
    processors = len(os.sched_getaffinity(0))
    given = os.environ.get("WSOCKETS_BRIDGE_THREADS")
    threads = min(processors, _THREADS) if given is None else int(given)
    _native.configure(openssl.functions(_native.FUNCTIONS), threads)


def suits(work: Work) -> bool:
    """Whether the extension has room for packets like these."""
    return len(work.prefix) <= _native.LONGEST_PREFIX and work.mtu <= _LONGEST_PACKET


def native_pump(runtime: Runtime, work: Work, notify: Callable[[], None]) -> Pump:
    """A pump that moves the bytes of `work` in a thread of the extension.

    Raises ValueError for what it has no room for (`suits`).
    """
    return _NativePump(runtime, work, notify)


def session_of(work: Work) -> _native.Session:
    """The session that does `work`, not started. Raises ValueError."""
    return _native.Session(
        _end(work.connection),
        _end(work.sink),
        work.encrypt,
        work.decrypt,
        _FRAMINGS.index(work.framing),
        work.prefix,
        work.mtu,
        work.idle_timeout,
        work.half_close,
        work.to_sink,
        work.to_connection,
        work.segmented,
    )


@final
class _NativePump:
    """One session, and whom to tell of it."""

    __slots__ = (
        "__weakref__",
        "_connection",
        "_ended",
        "_mtu",
        "_notify",
        "_runtime",
        "_session",
        "_sink",
        "_told",
        "_unmoved",
        "_watcher",
    )

    def __init__(
        self, runtime: Runtime, work: Work, notify: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        # Of the work only what is needed later: there may be thousands.
        self._connection = work.connection.connection
        self._sink = work.sink.connection
        self._mtu = work.mtu
        # What remains if it never starts; None once it has.
        self._unmoved: Remains | None = Remains(
            unread=work.to_sink, owed_clear=work.to_connection
        )
        self._notify = notify
        self._ended: BridgeEnd | None = None
        self._told = False
        self._watcher: _Watcher | None = None
        self._session = session_of(work)

    @protect
    def start(self) -> None:
        self._unmoved = None
        try:
            self._watcher = _Watcher.of(self._runtime)
            self._watcher.add(self)
            self._session.start(self._watcher.queue, self)
        except BaseException:
            self.abandon()
            raise

    @protect
    def stop(self, drain: float) -> None:
        if self._unmoved is None:
            self._session.stop(drain)
        elif self._ended is None:
            self._session.abandon()
            self._ended = BridgeEnd("connection", "decrypt", "stopped")
            self.tell()

    @protect
    def abandon(self) -> None:
        self._session.abandon()
        try:
            self.tell()
        except RuntimeError:
            pass  # there is no loop to be told in any more

    @protect
    def tell(self) -> None:
        """There is news: have it told in the event loop; the end, once."""
        if self.has_news():
            self._runtime.soon(self._notify)

    def tell_now(self) -> None:
        """The same, from a task that may call anybody."""
        if not self.has_news():
            return
        try:
            self._notify()
        except Exception:
            _log.exception("a bridge failed; please report this")

    def has_news(self) -> bool:
        """Whether there is anything to tell; of the end there is only once."""
        if self._told:
            return False
        self._told = self.ended is not None
        if self._told:
            # It may have ended while the queue told of something earlier.
            self._session.abandon()
            if self._watcher is not None:
                self._watcher.discard(self)
        return True

    @property
    def ended(self) -> BridgeEnd | None:
        if self._ended is None:
            report = self._session.report()
            if report is not None:
                self._ended = self._describe(*report)
        return self._ended

    @property
    def finished(self) -> frozenset[Direction]:
        finished = zip(_DIRECTIONS, self._session.finished(), strict=True)
        return frozenset(direction for direction, done in finished if done)

    @property
    def stats(self) -> BridgeStats:
        encrypt, decrypt = self._session.stats()
        return BridgeStats(BridgeFlow(*encrypt), BridgeFlow(*decrypt))

    def fileno(self) -> int:
        return self._session.fileno()

    def remains(self) -> Remains:
        assert self.ended is not None, "the pump has not ended"
        if self._unmoved is not None:
            return self._unmoved
        connection, sink = self._session.remains()
        return Remains(*connection, *sink)

    # -- how it ended, in words

    def _describe(
        self,
        side: int,
        direction: int,
        reason: int,
        number: int,
        wrong: int,
        value: int,
        offset: int,
        codes: tuple[int, ...],
    ) -> BridgeEnd:
        why = _REASONS[reason]
        error: SocketError | None = None
        if why == "framing":
            error = self._misframed(direction, wrong, value, offset)
        elif why in ("truncated", "tls"):
            end = self._connection if side == 0 else self._sink
            met = openssl.truncation() if why == "truncated" else openssl.failure(codes)
            assert isinstance(end, TlsConnection)
            error = tls.tls_error("use the TLS connection", met, end._tls)
        elif number:
            cause = OSError(number, os.strerror(number))
            if why == "sink":
                doing = "read from" if direction == 0 else "write to"
                error = SocketError(
                    f"could not {doing} the sink: {cause.strerror}",
                    code="os",
                    errno=number,
                )
                error.__cause__ = cause
            else:
                error = os_error("bridge the connection", cause)
        return BridgeEnd(_SIDES[side], _DIRECTIONS[direction], why, error)

    def _misframed(
        self, direction: int, wrong: int, value: int, offset: int
    ) -> SocketError:
        if wrong == _NO_VERSION:
            return framing.no_version(value, offset)
        if wrong == _TOO_SHORT:
            return framing.too_short(value, offset)
        if wrong == _TOO_LONG:
            # A device's packet may have been longer than the read.
            length = f"{value} or more" if direction == 0 else str(value)
            return framing.too_long(length, self._mtu, offset)
        return framing.cut_off(value, offset)


def _end(end: End) -> tuple[int, int, bool, bool, int, int]:
    connection = end.connection
    if not isinstance(connection, TlsConnection):
        return end.read_fd, end.write_fd, connection is not None, False, 0, -1
    ssl: Any = connection._ssl
    return (
        end.read_fd,
        end.write_fd,
        True,
        connection._tolerant,
        openssl.address(ssl),
        connection.socket.fileno(),
    )


@final
class _Watcher:
    """The running pumps of one runtime, and the task that waits for their news."""

    def __init__(self, runtime: Runtime) -> None:
        self.queue = _native.Queue()
        self._runtime = runtime
        self._pumps: dict[_NativePump, None] = {}

    @classmethod
    def of(cls, runtime: Runtime) -> _Watcher:
        """The one of `runtime`."""
        found = _watchers.get(runtime)
        if found is None:
            found = cls(runtime)
            runtime.spawn(found._run, name="wsockets bridges")
            _watchers[runtime] = found
        return found

    def add(self, pump: _NativePump) -> None:
        self._pumps[pump] = None

    @protect
    def discard(self, pump: _NativePump) -> None:
        """It has ended. The last one's queue is closed; the task finds that out."""
        self._pumps.pop(pump, None)
        if not self._pumps and _watchers.get(self._runtime) is self:
            del _watchers[self._runtime]
            self._runtime.notify_closing(self.queue.fileno())
            self.queue.close()

    async def _run(self) -> None:
        """Until none is left."""
        try:
            while self._pumps:
                try:
                    await self._runtime.wait_readable(self.queue.fileno())
                except self._runtime.Released:
                    break
                self._take()
        finally:
            self.abandon_all()

    @protect
    def _take(self) -> None:
        for pump in self.queue.take():
            assert isinstance(pump, _NativePump)
            pump.tell_now()

    def abandon_all(self) -> None:
        """Nobody will be there to be told."""
        while self._pumps:
            next(iter(self._pumps)).abandon()


@atexit.register
def _leave() -> None:
    """No thread of ours outlives the interpreter."""
    for watcher in list(_watchers.values()):
        watcher.abandon_all()


# The child of a fork has no thread of the engine; the extension has ended its pumps.
os.register_at_fork(after_in_child=_watchers.clear)
