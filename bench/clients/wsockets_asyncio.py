"""wsockets: the program of `wsockets_streams` on asyncio."""

from __future__ import annotations

import asyncio

from bench.clients import wsockets_streams

if __name__ == "__main__":
    wsockets_streams.main(asyncio.run)
