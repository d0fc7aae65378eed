"""Streams whose queue is the kernel's.

A textbook stream has a queue, and a task that fills or empties it. Between a
socket and its user that is waste: the kernel has a queue already, and every
hop through a task costs a trip round the event loop. So these controllers move
data in the task that asked:

Reading. `read()` tries to receive at once, unless the read before had to wait
and took all there was: then this one will have to wait too, and looking first
would be a system call for nothing. If there is nothing yet, its
promise joins `_requests`, and the first task to await any of them becomes the
leader: it waits for the fd, receives, and settles the requests in their order,
until its own is settled. Tasks that await other requests sleep in their
promise's line; a leader that leaves wakes one of them to lead on. A request
whose last awaiter was cancelled leaves `_requests`, so a timeout never takes a
chunk with it; awaiting its promise again queues it anew. A caller that is
cancelled already gets a pending promise, for the same reason. The promise of a
finished read is awaited with a shielded checkpoint.

Writing. `write()` sends at once. What the kernel does not take is queued, in
order, and a task of its own (the flusher, which lives while something is
queued) sends it, so that a write that nobody awaits is still sent.

The end. `close` sends what is queued and then the end; `abort` drops the queue,
and lets a TLS record that is half out go out, since the other direction lives
on. Both are tried at once and finished by the flusher.

Messages. A readable can also deliver whole objects, datagrams for instance: its
source gives one a call, there are no buffers to read into, and as one message
tells nothing of whether more are waiting, each read looks. What sends messages is
`message_writable`: a message goes out whole or not at all.

Who owns what: the channel (a connection, see below) and the gate belong to the
owner, the socket. The controllers tell the owner what they notice, and the
owner ends them through the streams' `_close`, `_fail` and `_finish`. Before
the socket is open there is no channel; reads and writes are queued.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import SocketError
from ..runtime.gate import Want

__all__ = ["Channel", "Messages", "Owner", "PatientOwner", "Source"]


class Messages(Protocol):
    """Where whole messages come from, tried now: nothing here waits."""

    def receive(self, limit: int, /) -> Any:
        """The next message, any object that is true; None at the end; or a Want.

        `limit` is how many bytes a read takes. Failures are SocketErrors, and
        final.
        """


class Source(Protocol):
    """One direction of a connection, tried now."""

    def receive(self, limit: int, /) -> bytes | Want:
        """Up to `limit` bytes; b"" at the end."""

    def receive_into(self, view: memoryview, /) -> int | Want:
        """How many bytes were put into `view`; 0 at the end."""


class Channel(Source, Protocol):
    """Both directions of a connection, tried now: nothing here waits.

    A call that cannot go on says what it waits for. Failures are SocketErrors,
    and final.
    """

    def send(self, data: bytes | memoryview, /) -> int | Want:
        """How many bytes were taken. After a Want the same bytes come again."""

    def flush(self) -> int | Want:
        """Send what the channel itself holds back; 0 when it holds nothing."""

    def unsent(self) -> int:
        """How many bytes the kernel holds that the peer has not acknowledged."""

    def finish(self) -> Want | None:
        """Send the end, in good order."""

    def cut(self) -> Want | None:
        """Send the end without ceremony, but leave no record half sent."""


class Owner(Protocol):
    """Who is told what the streams notice."""

    def _read_ended(self) -> None:
        """The peer's end was read; the readable is closed."""

    def _read_cancelled(self) -> None:
        """Nobody will read any more; the readable is closed."""

    def _write_ended(self) -> None:
        """The end was sent; the writable is closed or errored."""

    def _failed(self, error: SocketError) -> None:
        """The connection is broken. Ends both streams."""


class PatientOwner(Owner, Protocol):
    """Who decides how long a peer may take nothing of what is sent."""

    def _stall_limit(self) -> float | None:
        """How long sending may make no progress now, in seconds."""

    def _stalled(self) -> None:
        """It made none. Ends both streams."""
