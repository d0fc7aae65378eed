"""What a bridge is to do, what it did, and who does it: the words between them.

A `Bridge` (the public object) describes its task as a `Work` and gives it to an
engine, native or Python, which answers with a `Pump`. The pump moves the bytes,
and is asked for its `BridgeEnd`, its `BridgeStats` and, when it has ended, for
what `Remains`. Both engines behave alike; one suite of tests holds them to it.

Directions are named by what TLS does to the payload, also where there is no TLS:
"decrypt" is from the connection to the sink, "encrypt" from the sink to the
connection.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from ..connection import PlainConnection, TlsConnection

__all__ = [
    "BridgeEnd",
    "BridgeFlow",
    "BridgeStats",
    "Direction",
    "End",
    "Framing",
    "Pump",
    "Reason",
    "Remains",
    "Side",
    "Work",
]

Side: TypeAlias = Literal["connection", "sink"]
Direction: TypeAlias = Literal["encrypt", "decrypt"]
Reason: TypeAlias = Literal[
    "eof",
    "truncated",
    "reset",
    "tls",
    "sink",
    "framing",
    "stopped",
    "idle",
    "closed",
]


class Framing(enum.Enum):
    """How the bytes of a bridge are cut; the values are those of `bridge()`."""

    STREAM = "stream"
    IP = "ip"
    LENGTH16 = "length16"


@attrs.frozen
class BridgeEnd:
    """How a bridge ended: the report that `Bridge.closed` resolves to.

    - `side`: which side ended it, "connection" or "sink".
    - `direction`: in which direction the bytes went when it did, "encrypt"
      (sink to connection) or "decrypt" (connection to sink).
    - `reason`: "eof" (in good order), "truncated" (a FIN without close_notify),
      "reset", "tls", "sink" (the sink failed), "framing" (bytes that are no
      packet), "stopped" (by `stop()`), "idle" (`idleTimeout`) or "closed" (by
      the socket's `close()`, a signal, or the end of the event loop).
    - `error`: what failed, or None where nothing did.
    """

    side: Side
    direction: Direction
    reason: Reason
    error: BaseException | None = attrs.field(default=None, eq=False)


class BridgeFlow(NamedTuple):
    """What has gone in one direction.

    Bytes are payload bytes: without the prefix, the length of "length16", and
    TLS. Packets are counted with a packet framing only; records are TLS records
    (0 without TLS). A drop is a packet that the sink refused (EIO or EINVAL
    from a packet device) or that was none (empty, or shorter than the prefix).
    """

    bytes: int = 0
    packets: int = 0
    records: int = 0
    drops: int = 0


class BridgeStats(NamedTuple):
    """What a bridge has moved since it started.

    `encrypt` from the sink to the connection, `decrypt` the other way.
    """

    encrypt: BridgeFlow = BridgeFlow()
    decrypt: BridgeFlow = BridgeFlow()


@attrs.frozen
class End:
    """One end of a bridge.

    The fds belong to the pump, which closes them: duplicates with CLOEXEC,
    O_NONBLOCK set. One number where both are one open file, two for a pair of
    pipes, -1 where that direction is not bridged (TLS always has both). Where
    the end is a socket of ours, `connection` is lent together with them, and
    nobody else uses it until the pump has ended.
    """

    read_fd: int
    write_fd: int
    connection: PlainConnection | TlsConnection | None = None


@attrs.frozen
class Work:
    """What a pump is to do.

    - `encrypt`, `decrypt`: which directions; at least one.
    - `prefix`: stripped from (that many bytes) each packet that is read from
      the sink and put before each that is written to it; packet framings only.
    - `segmented`: the prefix is a virtio header, which says how many packets the
      rest of a read is (see segments.py); framing "ip" only.
    - `mtu`: the longest packet in bytes, without the prefix; a longer one ends
      the bridge with "framing".
    - `idle_timeout`: seconds without a byte in either direction; inf for none.
    - `half_close`: whether the end of one side is passed on to the other; without
      it the bridge only says that it came. Without it, others may be reading a
      connection that is only written to here: that it broke is theirs to find.
    - `to_sink`: cleartext that was received before the bridge began: goes to the
      sink first, as if the connection had just delivered it (it is cut into
      packets too). `to_connection` the same, from a sink that is a socket.
    """

    connection: End
    sink: End
    encrypt: bool = True
    decrypt: bool = True
    framing: Framing = Framing.STREAM
    prefix: bytes = b""
    mtu: int = 65535
    idle_timeout: float = float("inf")
    half_close: bool = True
    to_sink: bytes = b""
    to_connection: bytes = b""
    segmented: bool = False


@attrs.frozen
class Remains:
    """What an ended pump had taken and could not deliver: nothing is lost.

    - `unread`: cleartext of the connection that the sink did not take; belongs
      before what its readable gives next.
    - `owed`: what the connection must send before anything else, as it goes over
      the wire (TLS records already, where the connection is TLS).
    - `owed_clear`: cleartext that the connection must send first; begins with
      the write that it has in flight, where it has one.
    - `sink_unread`, `sink_owed`, `sink_owed_clear`: the same for a sink that is a
      socket.

    Where an end is a connection, everything that was read from the other end is
    in what is owed, but for an incomplete packet: that is unread. All is unread
    where the sink is a foreign fd.
    """

    unread: bytes = b""
    owed: bytes = b""
    owed_clear: bytes = b""
    sink_unread: bytes = b""
    sink_owed: bytes = b""
    sink_owed_clear: bytes = b""


class Pump(Protocol):
    """One running bridge inside of an engine.

    All methods are for the thread of the event loop. `notify`, which the engine
    was given with the work, is called there too, from a task of its own: when
    one direction has ended, and when all has.
    """

    def start(self) -> None:
        """Begin to move bytes. Once."""

    def stop(self, drain: float) -> None:
        """Read no more; end "stopped" when all is delivered, or in `drain` s."""

    def abandon(self) -> None:
        """End "closed" now. What was in flight is lost; returns when it is over.

        After it, and after the end, nothing touches the connections or the fds.
        """

    @property
    def ended(self) -> BridgeEnd | None:
        """The report, once all is over; the fds are closed then."""

    @property
    def finished(self) -> frozenset[Direction]:
        """The directions whose source has ended and was delivered in full."""

    @property
    def stats(self) -> BridgeStats:
        """The counters, as of now."""

    def fileno(self) -> int:
        """An fd that is readable when the pump has ended; made at the first call.

        The pump's own: valid for as long as the pump is referred to.
        """

    def remains(self) -> Remains:
        """Once, after the end: what is to be handed back.

        The TLS engine of each connection is back on its own fd by then.
        """
