"""uvloop: the program of `asyncio_protocol` on uvloop's event loop."""

from __future__ import annotations

import uvloop

from bench.clients import asyncio_protocol

if __name__ == "__main__":
    asyncio_protocol.main(uvloop.run)
