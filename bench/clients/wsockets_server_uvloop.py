"""wsockets: the server of `wsockets_server_asyncio` on uvloop's event loop."""

from __future__ import annotations

import uvloop

from bench.clients.pump import read_pump
from bench.clients.wsockets_server_asyncio import serve

if __name__ == "__main__":
    uvloop.run(serve(read_pump()))
