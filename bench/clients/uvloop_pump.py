"""uvloop: the program of asyncio on its event loop."""

from __future__ import annotations

import uvloop

from bench.clients.asyncio_pump import serve
from bench.clients.pump import read_pump

if __name__ == "__main__":
    uvloop.run(serve(read_pump()))
