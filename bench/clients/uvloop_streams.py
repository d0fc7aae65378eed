"""uvloop: the program of `asyncio_streams` on uvloop's event loop."""

from __future__ import annotations

import uvloop

from bench.clients import asyncio_streams

if __name__ == "__main__":
    asyncio_streams.main(uvloop.run)
