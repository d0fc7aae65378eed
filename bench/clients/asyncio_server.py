"""asyncio: start_server(), StreamReader and StreamWriter."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from bench.clients.pump import Pump, read_pump, told


async def until_told() -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin, ready.set)
    await ready.wait()
    loop.remove_reader(sys.stdin)
    told()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and close when nothing more does."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def serve(pump: Pump) -> None:
    """Serve until standard input ends."""
    await asyncio.start_server(
        answer, "127.0.0.1", pump.port, ssl=pump.context(), backlog=4096
    )
    await until_told()


if __name__ == "__main__":
    asyncio.run(serve(read_pump()))
