"""wsockets: bridge() from an adopted connection to a socket or a packet device.

For "pipe" it is pipeTo() in both directions instead.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from pathlib import Path
from typing import Literal

import trio

from bench.clients.pump import Pump, read_pump, spin, told
from wsockets import Binding, ReadableStream, Socket, TlsOptions, WritableStream

# Until the next stop of a bridge, at most.
MOMENT = 0.004


def binding_of(pump: Pump) -> Binding:
    """What all connections share: the certificate."""
    version: Literal["1.2", "1.3"] = "1.2" if pump.mode == "tunnel" else "1.3"
    tls = TlsOptions(
        cert=Path(pump.certificate),
        key=Path(pump.key),
        minVersion=version,
        maxVersion=version,
    )
    return Binding(tls=tls)


def adopted(binding: Binding, sock: socket.socket, pump: Pump) -> Socket:
    """The connection that was accepted."""
    secure: Literal["on", "off"] = "on" if pump.tls else "off"
    return binding.adopt(sock, secureTransport=secure, role="server")


def dialled(binding: Binding, pump: Pump) -> Socket:
    """The connection to the backend."""
    return binding.connect({"hostname": "127.0.0.1", "port": pump.backend})


def start(front: Socket, sink: Socket | int, pump: Pump) -> None:
    """Bridge for as long as both sides live."""
    if isinstance(sink, int):
        bridge = front.bridge(sink, framing="ip", mtu=pump.mtu)
    else:
        bridge = front.bridge(sink)
    bridge.start()


async def pipe(source: ReadableStream, target: WritableStream) -> None:
    """Until either fails or the source ends."""
    with contextlib.suppress(Exception):
        await source.pipeTo(target)


async def handback(front: Socket, back: Socket, pump: Pump) -> None:
    """Stop and bridge again at random moments, then say so and go on."""
    moments = random.Random(1)
    for _ in range(pump.cycles):
        bridge = front.bridge(back)
        bridge.start()
        await trio.sleep(moments.uniform(0, MOMENT))
        await bridge.stop(moments.choice((0.0, 0.001, 1.0)))
    start(front, back, pump)
    print("done", flush=True)


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
    binding = binding_of(pump)
    listener = socket.create_server(("127.0.0.1", pump.port), backlog=4096)
    listener.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_busy, nursery.cancel_scope)
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                continue
            front = adopted(binding, sock, pump)
            if pump.tun is not None:
                start(front, pump.tun, pump)
                continue
            back = dialled(binding, pump)
            if pump.mode == "pipe":
                nursery.start_soon(pipe, front.readable, back.writable)
                nursery.start_soon(pipe, back.readable, front.writable)
            elif pump.mode == "handback":
                nursery.start_soon(handback, front, back, pump)
            else:
                start(front, back, pump)


if __name__ == "__main__":
    trio.run(serve, read_pump())
