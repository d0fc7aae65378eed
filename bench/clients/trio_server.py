"""trio: serve_tcp() and serve_ssl_over_tcp()."""

from __future__ import annotations

import contextlib
import sys

import trio

from bench.clients.pump import Pump, read_pump, told

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def answer(stream: Stream) -> None:
    """Send back what comes, and close when nothing more does."""
    with contextlib.suppress(trio.BrokenResourceError):
        async with stream:
            async for chunk in stream:
                await stream.send_all(chunk)


async def attend(pump: Pump) -> None:
    """Serve whoever comes."""
    context = pump.context()
    if context is None:
        await trio.serve_tcp(answer, pump.port, host="127.0.0.1", backlog=4096)
    else:
        await trio.serve_ssl_over_tcp(
            answer, pump.port, context, host="127.0.0.1", backlog=4096
        )


async def serve(pump: Pump) -> None:
    """Serve until standard input ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attend, pump)
        await trio.lowlevel.wait_readable(sys.stdin)
        told()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(serve, read_pump())
