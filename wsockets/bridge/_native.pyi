"""The C extension: sessions and their news. Built from native/*.c.

Numbers stand for words in the order in which work.py and native/*.h have them:
sides (connection, sink), directions (encrypt, decrypt), reasons, framings.
"""

from collections.abc import Mapping
from typing import TypeAlias, final

# read_fd, write_fd, is a connection, tolerates truncation, SSL* or 0, fd of the SSL*
_End: TypeAlias = tuple[int, int, bool, bool, int, int]
_Counters: TypeAlias = tuple[int, int, int, int]

FUNCTIONS: tuple[str, ...]
"""The names of OpenSSL's functions that are needed."""

LONGEST_PREFIX: int
"""How long the prefix of a packet may be, in bytes."""

def configure(functions: Mapping[str, int], threads: int, /) -> None:
    """Take the addresses of OpenSSL's functions, and how many threads there may be.

    Comes first. The addresses count once for the process. ValueError where one is
    missing.
    """

@final
class Queue:
    """The sessions of one event loop that have news."""

    def fileno(self) -> int:
        """The fd that is readable when there is news."""

    def take(self) -> list[object]:
        """The owners of the sessions with news; the ended ones let go of them."""

    def close(self) -> None:
        """Close the fd; no session of it may be running."""

@final
class Session:
    """One running bridge. Its methods are for the thread of the event loop."""

    def __new__(
        cls,
        connection: _End,
        sink: _End,
        encrypt: bool,
        decrypt: bool,
        framing: int,
        prefix: bytes,
        mtu: int,
        idle: float,
        half_close: bool,
        to_sink: bytes,
        to_connection: bytes,
        segmented: bool,
    ) -> Session:
        """The fds are the session's from here on, unless this raises."""

    def start(self, queue: Queue, owner: object, /) -> None:
        """Begin; `owner` is kept until the end, and told of through `queue`.

        OSError where no thread can be had.
        """

    def stop(self, drain: float, /) -> None:
        """Read no more; end "stopped" when all is delivered, or in `drain` seconds."""

    def abandon(self) -> None:
        """End "closed" now; returns when it is over."""

    def fileno(self) -> int:
        """An fd that is readable when it has ended."""

    def stats(self) -> tuple[_Counters, _Counters]:
        """The counters of encrypt and decrypt, in the order of BridgeFlow."""

    def finished(self) -> tuple[bool, bool]:
        """Whether encrypt and decrypt have ended in good order."""

    def report(
        self,
    ) -> tuple[int, int, int, int, int, int, int, tuple[int, ...]] | None:
        """How it ended, or None while it has not.

        Side, direction, reason, errno; what is wrong with a packet (see framing.h),
        the value that is about, the packet's offset; OpenSSL's error codes.
        """

    def remains(
        self,
    ) -> tuple[tuple[bytes, bytes, bytes], tuple[bytes, bytes, bytes]]:
        """What was not delivered, once, by sides: unread, owed, owed in clear."""
