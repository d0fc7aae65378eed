"""anyio: the program of `anyio_streams` on its trio backend."""

from __future__ import annotations

from bench.clients import anyio_streams

if __name__ == "__main__":
    anyio_streams.main("trio")
