"""asyncio: transports and protocols that write into each other, with back-pressure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import cast

from bench.clients.pump import TURN, Cutter, Pump, read_pump, spin, told


class Half(asyncio.Protocol):
    """One of the two transports of a bridge; what it reads, the other writes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not derived from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        assert self.other.transport is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Front(Half):
    """The half that was accepted: reads when the backend is there."""

    def __init__(self, pump: Pump, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._pump = pump
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self.other = await loop.create_connection(
            Half, "127.0.0.1", self._pump.backend
        )
        self.other.other = self
        assert self.transport is not None
        self.transport.resume_reading()


class Tunnel(asyncio.Protocol):
    """A TLS transport and a packet device."""

    def __init__(self, tun: int, mtu: int) -> None:
        self._tun = tun
        self._mtu = mtu
        self._cutter = Cutter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        for packet in self._cutter.packets(data):
            os.write(self._tun, packet)

    def _from_device(self) -> None:
        assert self._transport is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(TURN):
                self._transport.write(os.read(self._tun, self._mtu))

    def pause_writing(self) -> None:
        asyncio.get_running_loop().remove_reader(self._tun)

    def resume_writing(self) -> None:
        asyncio.get_running_loop().add_reader(self._tun, self._from_device)

    def connection_lost(self, error: Exception | None) -> None:
        self.pause_writing()


async def be_busy() -> None:
    """Tasks of 2 ms, from the first line on standard input on."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin, ready.set)
    await ready.wait()
    loop.remove_reader(sys.stdin)
    busy = told()
    while busy:
        spin()
        await asyncio.sleep(0)


async def serve(pump: Pump) -> None:
    """Bridge without an end."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def protocol() -> asyncio.Protocol:
        if pump.tun is None:
            return Front(pump, tasks)
        os.set_blocking(pump.tun, False)
        return Tunnel(pump.tun, pump.mtu)

    await loop.create_server(
        protocol, "127.0.0.1", pump.port, ssl=pump.context(), backlog=4096
    )
    await be_busy()


if __name__ == "__main__":
    asyncio.run(serve(read_pump()))
