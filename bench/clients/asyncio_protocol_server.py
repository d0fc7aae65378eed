"""asyncio: create_server() and a Protocol, callbacks only."""

from __future__ import annotations

import asyncio
from typing import cast

from bench.clients.asyncio_server import until_told
from bench.clients.pump import Pump, read_pump


class Echo(asyncio.Protocol):
    """Sends back what comes; the transport closes when nothing more does."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not derived from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(pump: Pump) -> None:
    """Serve until standard input ends."""
    await asyncio.get_running_loop().create_server(
        Echo, "127.0.0.1", pump.port, ssl=pump.context(), backlog=4096
    )
    await until_told()


if __name__ == "__main__":
    asyncio.run(serve(read_pump()))
