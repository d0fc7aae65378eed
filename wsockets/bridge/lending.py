"""Between a socket and who borrows its connection: what each asks of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..promise import Promise

if TYPE_CHECKING:
    from ..connection import PlainConnection, TlsConnection

__all__ = ["Borrower", "Lender"]


class Borrower(Protocol):
    """Who has a socket's connection, and what the socket tells it."""

    def _recall(self, lender: Lender, seconds: float) -> None:
        """The socket is being closed: deliver what is under way, in `seconds`."""

    def _revoke(self, lender: Lender, error: BaseException) -> None:
        """The socket has ended: let go of the connection before returning."""


class Lender(Protocol):
    """A socket's connection, to be borrowed once. Its streams are locked."""

    @property
    def opened(self) -> Promise[Any]:
        """When the socket is open."""

    @property
    def is_ready(self) -> bool:
        """Whether the socket is open and what was written is sent."""

    async def ready(self) -> None:
        """Until it is."""

    def lend(
        self, *, read: bool, written: bool
    ) -> tuple[PlainConnection | TlsConnection, bytes]:
        """The connection, and what was received from it and not delivered.

        Where it is not to be `read` from, the latter stays here.
        """

    def give_back(
        self,
        unread: bytes,
        owed: bytes,
        owed_clear: bytes,
        *,
        read_ended: bool,
        write_ended: bool,
    ) -> None:
        """Both directions go on, but for those that have ended; see `Remains`."""

    def fail(self, error: BaseException | None) -> None:
        """The connection has failed."""

    def abort(self, error: BaseException | None) -> None:
        """What was under way is lost: reset the connection."""

    def close(self) -> None:
        """Close the socket in good order."""

    def release(self) -> None:
        """Unlock the streams. Last, in every case."""
