"""wsockets: the server of `wsockets_server` on asyncio."""

from __future__ import annotations

import asyncio

from bench.clients.asyncio_server import until_told
from bench.clients.pump import Pump, read_pump
from bench.clients.wsockets_server import answer, listening


async def attend(pump: Pump) -> None:
    """Serve whoever comes."""
    async with listening(pump) as server, asyncio.TaskGroup() as group:
        async for socket in server:
            group.create_task(answer(socket))


async def serve(pump: Pump) -> None:
    """Serve until standard input ends."""
    serving = asyncio.ensure_future(attend(pump))
    await until_told()
    serving.cancel()


if __name__ == "__main__":
    asyncio.run(serve(read_pump()))
