"""What holds the lock of a stream that nobody reads or writes through it.

A stream is locked while it has a reader or a writer. A connection that is lent
needs the lock and nothing else, and there may be thousands of them; so they
share one object, which is never asked for anything but its promises: it has none.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["HELD", "Held"]


@final
class Held:
    """Stands for a reader or a writer, of any stream."""

    __slots__ = ()

    _closed: Final = None
    _ready: Final = None


HELD: Final = Held()
