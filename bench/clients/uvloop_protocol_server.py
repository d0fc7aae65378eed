"""uvloop: the program of `asyncio_protocol_server` on its event loop."""

from __future__ import annotations

import uvloop

from bench.clients.asyncio_protocol_server import serve
from bench.clients.pump import read_pump

if __name__ == "__main__":
    uvloop.run(serve(read_pump()))
