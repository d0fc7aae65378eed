"""The bulk transfer: this library beside trio's own streams."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import trio

from ... import Binding, Socket, TlsOptions, connect
from .authority import Files
from .servers import Ports

__all__ = ["CONTENDERS", "Contender", "Figures", "download", "measure"]

Count: TypeAlias = Callable[[int], object]

_READ: Final = 65536


@attrs.frozen
class Figures:
    """A transfer: bytes, and the seconds and this process's CPU seconds it took."""

    size: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds

    @property
    def cpu_per_gib(self) -> float:
        """CPU seconds a GiB."""
        return self.cpu / self.size * (1 << 30)


@attrs.frozen
class Contender:
    """A way to download: who, and over what."""

    name: str
    transport: str
    download: Callable[[Ports, Files, int, Count], Awaitable[None]]


async def measure(
    contender: Contender, ports: Ports, files: Files, size: int, count: Count
) -> Figures:
    """Download `size` bytes, telling `count` of each chunk."""
    got = 0

    def counted(length: int) -> None:
        nonlocal got
        got += length
        count(length)

    seconds, cpu = time.perf_counter(), time.process_time()
    await contender.download(ports, files, size, counted)
    figures = Figures(got, time.perf_counter() - seconds, time.process_time() - cpu)
    if got != size:
        raise RuntimeError(f"{contender.name}: {got} of {size} bytes came")
    return figures


async def ours_plain(ports: Ports, files: Files, size: int, count: Count) -> None:
    """wsockets, plain."""
    await download(connect(f"localhost:{ports.plain}"), size, count)


async def ours_tls(ports: Ports, files: Files, size: int, count: Count) -> None:
    """wsockets, TLS."""
    binding = Binding(tls=TlsOptions(ca=files.root))
    await download(
        binding.connect(f"localhost:{ports.tls}", secureTransport="on"), size, count
    )


async def download(socket: Socket, size: int, count: Count) -> None:
    """A bulk transfer, beside trio's own streams."""
    async with socket:
        await socket.writable.getWriter().write(f"send {size}\n")
        reader = socket.readable.getReader()
        while size > 0:
            value, done = await reader.read()
            if done:
                return
            count(len(value))
            size -= len(value)


async def trio_plain(ports: Ports, files: Files, size: int, count: Count) -> None:
    """trio's SocketStream."""
    await _trio(await trio.open_tcp_stream("localhost", ports.plain), size, count)


async def trio_tls(ports: Ports, files: Files, size: int, count: Count) -> None:
    """trio's SSLStream."""
    context = ssl.create_default_context(cafile=files.root)
    stream = await trio.open_ssl_over_tcp_stream(
        "localhost", ports.tls, ssl_context=context
    )
    await _trio(stream, size, count)


async def _trio(stream: trio.abc.Stream, size: int, count: Count) -> None:
    async with stream:
        await stream.send_all(f"send {size}\n".encode())
        while size > 0:
            value = await stream.receive_some(_READ)
            if not value:
                return
            count(len(value))
            size -= len(value)


CONTENDERS: Final = (
    Contender("wsockets", "plain", ours_plain),
    Contender("trio SocketStream", "plain", trio_plain),
    Contender("wsockets", "TLS", ours_tls),
    Contender("trio SSLStream", "TLS", trio_tls),
)
"""Each of ours is followed by what it is compared with."""
