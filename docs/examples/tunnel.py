"""A tunnel: TLS comes in, and goes on in the clear to a backend of its protocol.

    python tunnel.py :8443 server.pem h2=127.0.0.1:8080 http/1.1=unix:/run/web.sock

A client offers protocols (ALPN, RFC 7301), and the first of ours that it offers is
confirmed: the order is the server's. A client that offers others only is refused by
the alert no_application_protocol. One that offers none gets the last backend, as it
would have before there was ALPN. The bytes move in the engine of bridges, not here.

Ctrl-C or SIGTERM stops listening and lets connections end, a second one ends them.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from wsockets import ServerSocket, Socket, SocketError, connect, listen

_CONNECTIONS = 1000
# Seconds: to reach a backend, without a byte either way, from Ctrl-C to the end.
_PATIENCE, _IDLE, _GRACE = 5.0, 600.0, 10.0


async def forward(
    client: Socket, backends: Mapping[str, str], say: Callable[[str], object]
) -> None:
    """One connection, to its end; whatever goes wrong is told and is its own."""
    who = "a client"
    try:
        async with client:
            info = await client.opened
            protocol = info.alpn or [*backends][-1]
            who = f"{info.remoteAddress} {protocol}"
            async with connect(backends[protocol], connectTimeout=_PATIENCE) as backend:
                bridge = client.bridge(backend, idleTimeout=_IDLE)
                bridge.start()
                try:
                    end = await bridge.closed
                except trio.Cancelled:
                    # Nobody is to take what he got for all: both ends are reset.
                    client.close("no time is left")
                    raise
        say(f"{who}: {end.error or end.reason}")
    except SocketError as error:
        say(f"{who}: {error}")


async def serve(
    server: ServerSocket, backends: Mapping[str, str], say: Callable[[str], object]
) -> None:
    """Forward whoever comes, until the server is closed and the last one has ended."""
    room = trio.Semaphore(_CONNECTIONS)

    async def attend(client: Socket) -> None:
        try:
            await forward(client, backends, say)
        finally:
            room.release()

    async with trio.open_nursery() as nursery:
        # Where there is no room, clients wait in the backlog.
        await room.acquire()
        async for client in server:
            nursery.start_soon(attend, client)
            await room.acquire()


async def main(
    address: str,
    certificate: Path,
    backends: Mapping[str, str],
    say: Callable[[str], object] = print,
) -> None:
    """Listen at `address`, until a signal comes."""
    tls = {"secureTransport": "on", "cert": certificate, "alpn": [*backends]}
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with listen(address, tls) as server, trio.open_nursery() as nursery:

            async def stop() -> None:
                await anext(signals)
                server.close()
                with trio.move_on_after(_GRACE):
                    await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            say(f"listening at {server.localAddress}")
            await serve(server, backends, say)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    where, pem, *pairs = sys.argv[1:]
    trio.run(main, where, Path(pem), dict(pair.split("=", 1) for pair in pairs))
