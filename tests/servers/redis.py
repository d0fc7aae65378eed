"""Redis on a unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.peers import PEERS

from .program import accepts, folder, running

__all__ = ["Redis", "run_redis"]


@attrs.frozen
class Redis:
    """A running Redis that listens on a unix socket only."""

    path: Path

    @property
    def address(self) -> str:
        return f"unix:{self.path}"


@contextmanager
def run_redis() -> Iterator[Redis]:
    """An empty Redis that keeps nothing on disk."""
    program = PEERS["redis"].find()
    assert program is not None, PEERS["redis"].absence
    with folder("redis") as home:
        path = home / "socket"
        with running(
            [
                program,
                *("--port", "0"),
                *("--unixsocket", str(path)),
                *("--dir", str(home)),
                *("--save", ""),
                *("--appendonly", "no"),
            ],
            lambda: accepts(str(path)),
            log=home / "log",
        ):
            yield Redis(path)
