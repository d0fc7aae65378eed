"""Ferries: pipeTo() on the native engine.

    a.readable.pipeTo(b.writable)

Where `a` or `b` is a socket, and the other one a socket too or a descriptor
(`from_fd`, `to_fd`), the engine of bridges can move the bytes: the payload stays
out of Python. The pipe asks its source for that (`Ferry`), and does the rest the
long way: what ends it, and what follows from that. So a ferry has nothing to do
with ends. It gives the connection back, with what was received and not
delivered, and the pipe finds the end where it always does, by reading.

Two pipes in opposite directions between the same two are one `Link`: one pump
for both. Their promises, flags and signals stay their own.

A connection may be wanted while it is lent. TLS is lent as a whole, since its
directions share one state; so a write to a socket whose readable is piped brings
the connection back, is sent, and the ferry goes on. If that happens often, or
somebody waits for a read, the pipe goes the long way from there on.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final, Protocol, TypeGuard, final

from .bridge.engines import engine_name, make_pump
from .bridge.work import BridgeEnd, Direction, End, Pump, Work
from .errors import SocketError, os_error
from .loan import Loan
from .runtime import Line, Runtime, protect
from .streams.direct_writable import DirectWritable
from .streams.writable import WritableController

if TYPE_CHECKING:
    from .bridge.lending import Lender
    from .socket import Socket
    from .streams.readable import Ferry

__all__ = ["ferry_between"]

# How often a connection may be wanted back before the pipe goes the long way.
_PATIENCE: Final = 16

# Bytes; who wants a longer queue wants one that the engine does not have.
_LARGEST_QUEUE: Final = 1 << 20

# Seconds in which what is under way is delivered when somebody wants it back.
_AT_ONCE: Final = 0.0
# Seconds that an engine is given to stop, when a socket cannot wait; it takes less
# than a thousandth of that.
_GRACE: Final = 1.0


class Descriptor(Protocol):
    """A stream over a descriptor; see descriptors."""

    @property
    def fd(self) -> int:
        """What the stream reads from or writes to; -1 after the end."""

    @property
    def is_open(self) -> bool:
        """Whether the stream has not ended, and nothing is queued."""

    def _failed(self, error: SocketError) -> None:
        """The descriptor is broken. Ends the stream."""


def _is_socket(owner: object) -> TypeGuard[Socket]:
    return hasattr(owner, "_loans")


def _is_descriptor(owner: object) -> TypeGuard[Descriptor]:
    return hasattr(owner, "fd")


def ferry_between(
    source: Socket | Descriptor, destination: WritableController
) -> Ferry | None:
    """What moves bytes from `source` into `destination`; None if nothing does."""
    if not isinstance(destination, DirectWritable):
        return None
    if destination.high_water_mark > _LARGEST_QUEUE:
        return None
    sides = _sides(source, destination.owner)
    if sides is None or not _is_native():
        return None
    near, far, direction = sides
    for loan in near._loans:
        link = loan.borrower
        if isinstance(link, Link) and link.takes(far, direction):
            return _Passage(link, direction, far)
    link = Link(near, far if _is_socket(far) else None)
    return _Passage(link, direction, far)


def _is_native() -> bool:
    try:
        return engine_name() == "native"
    except SocketError:
        return False


def _sides(
    source: object, target: object
) -> tuple[Socket, Socket | Descriptor, Direction] | None:
    """Which is the link's connection, which the other, and where the bytes go."""
    if source is target:
        return None
    if _is_socket(source) and _is_socket(target):
        # The same pair has the same link, whoever is the source.
        if any(
            isinstance(loan.borrower, Link) and loan.borrower.far is source
            for loan in target._loans
        ):
            return target, source, "encrypt"
        return source, target, "decrypt"
    if _is_socket(source) and _is_descriptor(target):
        return source, target, "decrypt"
    if _is_descriptor(source) and _is_socket(target):
        return target, source, "encrypt"
    return None


@final
class _Passage:
    """One direction of a link, for one pipe."""

    __slots__ = ("_direction", "_link", "_other")

    def __init__(
        self, link: Link, direction: Direction, other: Socket | Descriptor
    ) -> None:
        self._link = link
        self._direction: Direction = direction
        self._other = other
        link.reserve(direction)

    async def carry(self) -> None:
        other = self._other
        descriptor = other if _is_descriptor(other) else None
        await self._link.carry(self._direction, descriptor)


@final
class Link:
    """What moves bytes between a socket and another one, or descriptors.

    Its task (`_run`) lives while there is a pipe that it carries. It implements
    `Borrower`.
    """

    __slots__ = (
        "_alone",
        "_descriptors",
        "_far",
        "_give_up",
        "_leaving",
        "_lines",
        "_near",
        "_pump",
        "_reserved",
        "_running",
        "_runtime",
        "_under_way",
        "_wanted",
        "far",
    )

    def __init__(self, near: Socket, far: Socket | None) -> None:
        self._runtime: Runtime = near._runtime
        self.far = far
        self._near = Loan(near, self)
        self._far = None if far is None else Loan(far, self)
        self._descriptors: dict[Direction, Descriptor] = {}
        # Directions that a pipe will come for.
        self._reserved: set[Direction] = set()
        # The pipes that are carried, each asleep in its line.
        self._lines: dict[Direction, Line] = {}
        # Those that the pump works for now.
        self._under_way: frozenset[Direction] = frozenset()
        self._pump: Pump | None = None
        # Where those sleep who were cancelled and wait until nothing moves.
        self._leaving: Line = {}
        # Where the link's own task sleeps.
        self._alone: Line = {}
        self._running = False
        self._wanted = 0
        self._give_up = False

    def takes(self, far: Socket | Descriptor, direction: Direction) -> bool:
        """Whether a pipe of this direction belongs to this link."""
        if direction in self._reserved or direction in self._lines or self._give_up:
            return False
        return self.far is far or (self.far is None and _is_descriptor(far))

    def reserve(self, direction: Direction) -> None:
        """A pipe of this direction has begun, and will ask to be carried."""
        self._reserved.add(direction)

    async def carry(self, direction: Direction, descriptor: Descriptor | None) -> None:
        """Until the direction cannot go on here; cancelled, until nothing moves."""
        line: Line = {}
        self._reserved.discard(direction)
        self._lines[direction] = line
        if descriptor is not None:
            self._descriptors[direction] = descriptor
        if self._running:
            self._interrupt()
        else:
            self._running = True
            self._runtime.spawn(self._run, name="wsockets ferry")
        try:
            while self._lines.get(direction) is line:
                await self._runtime.park(line)
        finally:
            if self._lines.get(direction) is line:
                del self._lines[direction]
                self._interrupt()
                with self._runtime.scope(shield=True):
                    while direction in self._under_way:
                        await self._runtime.park(self._leaving)

    # -- the link's task

    async def _run(self) -> None:
        try:
            # Both pipes of a pair are made before either moves.
            await self._runtime.turn()
            while self._lines and not self._give_up and await self._ready():
                self._set_off()
                while self._pump is not None:
                    await self._runtime.park(self._alone)
        finally:
            self._running = False
            self._stop_all()

    async def _ready(self) -> bool:
        """Wait until the connections can be lent; False if they cannot be."""
        for _ in range(_PATIENCE):
            try:
                await self._near.ready()
                if self._far is not None:
                    await self._far.ready()
            except Exception:
                return False  # the streams know
            decrypt, encrypt = "decrypt" in self._lines, "encrypt" in self._lines
            free = self._near.is_free(read=decrypt, written=encrypt)
            if self._far is not None:
                free = free and self._far.is_free(read=encrypt, written=decrypt)
            if free and all(
                self._descriptors[direction].is_open
                for direction in self._lines
                if direction in self._descriptors
            ):
                return True
            if not self._lines:
                return False
            await self._runtime.turn()
        return False

    @protect
    def _set_off(self) -> None:
        decrypt, encrypt = "decrypt" in self._lines, "encrypt" in self._lines
        near, unread = None, b""
        other, other_unread = None, b""
        fds: list[int] = []
        try:
            near, unread = self._near.lend(
                read=decrypt, written=encrypt, wanted=self._on_wanted
            )
            if self._far is not None:
                other, other_unread = self._far.lend(
                    read=encrypt, written=decrypt, wanted=self._on_wanted
                )
                fds.append(os.dup(other.socket.fileno()))
                far = End(fds[-1], fds[-1], other)
            else:
                source = self._descriptors["encrypt"].fd if encrypt else -1
                target = self._descriptors["decrypt"].fd if decrypt else -1
                fds.extend(-1 if fd < 0 else os.dup(fd) for fd in (source, target))
                far = End(fds[0], fds[1])
            fds.append(os.dup(near.socket.fileno()))
            work = Work(
                End(fds[-1], fds[-1], near),
                far,
                encrypt=encrypt,
                decrypt=decrypt,
                half_close=False,
                to_sink=unread,
                to_connection=other_unread,
            )
            pump, _ = make_pump(self._runtime, work, self._on_news)
            fds.clear()
            pump.start()
        except BaseException as error:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
            self._give_up = True
            if near is not None:
                self._near.give_back(
                    unread, b"", b"", read_ended=False, write_ended=False
                )
            if other is not None and self._far is not None:
                self._far.give_back(
                    other_unread, b"", b"", read_ended=False, write_ended=False
                )
            if isinstance(error, (OSError, SocketError)):
                # No descriptor or thread is left, and the long way needs none; or
                # a connection has failed, which its streams tell.
                return
            raise
        self._pump = pump
        self._under_way = frozenset(self._lines)

    @protect
    def _on_news(self) -> None:
        pump = self._pump
        if pump is None:
            return
        for direction in pump.finished:
            # Its pipe finds the end by itself.
            self._wake(direction)
        end = pump.ended
        if end is None:
            return
        self._pump = None
        remains = pump.remains()
        self._under_way = frozenset()
        if end.reason not in ("stopped", "eof"):
            self._give_up = True
        if end.reason == "closed":
            self._reset()
        else:
            self._near.give_back(
                remains.unread,
                remains.owed,
                remains.owed_clear,
                read_ended=False,
                write_ended=False,
            )
            if self._far is not None:
                self._far.give_back(
                    remains.sink_unread,
                    remains.sink_owed,
                    remains.sink_owed_clear,
                    read_ended=False,
                    write_ended=False,
                )
            self._blame(end)
        self._wake_all()

    def _reset(self) -> None:
        """What was under way is lost: let no peer take what it got for all."""
        error = SocketError("the event loop ended", code="closed")
        self._near.abort(error)
        if self._far is not None:
            self._far.abort(error)

    def _wake_all(self) -> None:
        """The pump has ended."""
        self._runtime.wake(self._leaving)
        self._runtime.wake(self._alone)

    def _blame(self, end: BridgeEnd) -> None:
        """Let the stream that failed know."""
        if end.error is None or end.reason == "eof":
            return
        if end.side == "connection":
            self._near.fail(end.error)
        elif self._far is not None:
            self._far.fail(end.error)
        elif (descriptor := self._descriptors.get(end.direction)) is not None:
            error = end.error
            if not isinstance(error, SocketError):
                assert isinstance(error, OSError)
                error = os_error("use the descriptor", error)
            descriptor._failed(error)

    def _wake(self, direction: Direction) -> None:
        line = self._lines.pop(direction, None)
        if line is not None:
            self._runtime.wake(line)

    def _stop_all(self) -> None:
        """Nothing is carried any more."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.abandon()  # the event loop ends
            self._reset()
        self._under_way = frozenset()
        self._wake_all()
        for direction in list(self._lines):
            self._wake(direction)
        if not self._reserved:
            self._give_up = True
            self._near.release()
            if self._far is not None:
                self._far.release()

    # -- who wants the connection back

    def _interrupt(self) -> None:
        if self._pump is not None:
            self._pump.stop(_AT_ONCE)

    def _on_wanted(self) -> None:
        """Somebody uses a stream that is lent."""
        self._wanted += 1
        if self._wanted > _PATIENCE:
            self._give_up = True
        self._interrupt()

    def _recall(self, lender: Lender, seconds: float) -> None:
        """See `Borrower`."""
        self._give_up = True
        if self._pump is not None:
            self._pump.stop(seconds)

    @protect
    def _revoke(self, lender: Lender, error: BaseException) -> None:
        """See `Borrower`."""
        self._give_up = True
        pump, self._pump = self._pump, None
        if pump is None:
            return
        # Not abandoned: the other one's connection shall be of use afterwards.
        pump.stop(_AT_ONCE)
        _wait_for(pump)
        if pump.ended is None:
            pump.abandon()
        remains = pump.remains()
        self._under_way = frozenset()
        if lender is self._near:
            other = self._far
            parts = remains.sink_unread, remains.sink_owed, remains.sink_owed_clear
        else:
            other = self._near
            parts = remains.unread, remains.owed, remains.owed_clear
        if other is not None and other.is_lent:
            if pump.ended is not None and pump.ended.reason == "closed":
                other.abort(error)
            else:
                other.give_back(*parts, read_ended=False, write_ended=False)
        self._wake_all()


def _wait_for(pump: Pump) -> None:
    """Block until it has ended, or might as well be given up."""
    try:
        fd = pump.fileno()
    except OSError:
        return  # no descriptor is left
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(_GRACE * 1000)
