"""trio: SocketStream and SSLStream, a task a direction."""

from __future__ import annotations

import os
import sys

import trio

from bench.clients.pump import BUFFER, TURN, Cutter, Pump, read_pump, spin, told

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def copy(source: Stream, target: Stream) -> None:
    """Until the source ends."""
    while data := await source.receive_some(BUFFER):
        await target.send_all(data)


async def forward(front: Stream, pump: Pump) -> None:
    """One connection, to its backend and back."""
    back = await trio.open_tcp_stream("127.0.0.1", pump.backend)
    async with front, back, trio.open_nursery() as nursery:
        nursery.start_soon(copy, back, front)
        await copy(front, back)
        nursery.cancel_scope.cancel()


async def to_device(source: Stream, tun: int) -> None:
    """A write per packet; the device takes what it is given, or drops it."""
    cutter = Cutter()
    while data := await source.receive_some(BUFFER):
        for packet in cutter.packets(bytes(data)):
            os.write(tun, packet)


async def from_device(tun: int, mtu: int, target: Stream) -> None:
    """A record per packet."""
    while True:
        await trio.lowlevel.wait_readable(tun)
        for _ in range(TURN):
            try:
                packet = os.read(tun, mtu)
            except BlockingIOError:
                break
            await target.send_all(packet)


async def be_busy(program: trio.CancelScope) -> None:
    """Tasks of 2 ms, from the first line on standard input on."""
    await trio.lowlevel.wait_readable(sys.stdin)
    busy = told()
    while busy:
        spin()
        await trio.lowlevel.checkpoint()
    program.cancel()


async def serve(pump: Pump) -> None:
    """Bridge without an end."""
    context = pump.context()

    async def one(sock: trio.SocketStream) -> None:
        front: Stream = sock
        if context is not None:
            front = trio.SSLStream(
                sock, context, server_side=True, https_compatible=True
            )
        try:
            if pump.tun is None:
                await forward(front, pump)
                return
            os.set_blocking(pump.tun, False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(from_device, pump.tun, pump.mtu, front)
                await to_device(front, pump.tun)
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_busy, nursery.cancel_scope)
        await trio.serve_tcp(one, pump.port, host="127.0.0.1", backlog=4096)


if __name__ == "__main__":
    trio.run(serve, read_pump())
