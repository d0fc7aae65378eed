"""wsockets: the program of `wsockets_streams` on uvloop's event loop."""

from __future__ import annotations

import uvloop

from bench.clients import wsockets_streams

if __name__ == "__main__":
    wsockets_streams.main(uvloop.run)
