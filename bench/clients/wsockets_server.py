"""wsockets: listen(), and each connection read and written, or bridged to a backend."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import trio

from bench.clients.pump import Pump, read_pump, told
from wsockets import ServerSocket, Socket, SocketError, connect, listen


def listening(pump: Pump) -> ServerSocket:
    """The server."""
    members: dict[str, Any] = {}
    if pump.tls:
        members = {
            "secureTransport": "on",
            "cert": Path(pump.certificate),
            "key": Path(pump.key),
            "minVersion": "1.3",
        }
    return listen(f"127.0.0.1:{pump.port}", members)


async def answer(socket: Socket) -> None:
    """Send back what comes, and close when nothing more does."""
    with contextlib.suppress(SocketError):
        async with socket:
            writer = socket.writable.getWriter()
            async for chunk in socket.readable:
                await writer.write(chunk)


async def forward(socket: Socket, pump: Pump) -> None:
    """Bridge until both directions have ended."""
    with contextlib.suppress(SocketError):
        async with socket, connect(f"127.0.0.1:{pump.backend}") as backend:
            bridge = socket.bridge(backend)
            bridge.start()
            await bridge.closed


async def until_told(program: trio.CancelScope) -> None:
    """Until standard input ends."""
    await trio.lowlevel.wait_readable(sys.stdin)
    told()
    program.cancel()


async def serve(pump: Pump) -> None:
    """Serve whoever comes."""
    async with listening(pump) as server, trio.open_nursery() as nursery:
        nursery.start_soon(until_told, nursery.cancel_scope)
        async for socket in server:
            if pump.mode == "serve":
                nursery.start_soon(answer, socket)
            else:
                nursery.start_soon(forward, socket, pump)


if __name__ == "__main__":
    trio.run(serve, read_pump())
