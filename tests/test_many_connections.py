"""Many connections: what they leave behind, and what idle ones hold."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator

import anyio
import pytest

from tests import loops
from tests.leaks import Snapshot, tasks
from tests.loopback import Secure, binding, server_context
from wsockets import Bridge, adopt

pytestmark = pytest.mark.every_loop

BRIDGES = 100
# Bytes that Python may hold for an idle bridge between two plain sockets; with what
# the test needs it has 4,100 of them.
LIMIT = 4_600


def connections() -> tuple[int, int]:
    """How many are made first, and how many are measured after that."""
    return (1000, 2000) if loops.on_trio() else (200, 400)


@contextlib.contextmanager
def echo_server(secure: Secure) -> Iterator[int]:
    """An echo server in a thread, one client at a time; its port."""

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            with contextlib.closing(client):
                if stopping.is_set():
                    return
                client.settimeout(10)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError):
                    stream: socket.socket = client
                    if secure == "on":
                        stream = server_context().wrap_socket(client, server_side=True)
                    with stream:
                        while data := stream.recv(4096):
                            stream.sendall(data)
                        if isinstance(stream, ssl.SSLSocket):
                            stream.unwrap()

    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        port: int = listener.getsockname()[1]
        try:
            yield port
        finally:
            stopping.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def resident() -> int:
    """The memory of this process, in bytes."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("secure", ["off", "on"])
async def test_connections_leave_nothing_behind(secure: Secure) -> None:
    with echo_server(secure) as port:
        client = binding()

        async def connect(times: int) -> None:
            for number in range(times):
                async with client.connect(
                    f"127.0.0.1:{port}",
                    secureTransport=secure,
                ) as made:
                    if number % 2:
                        writer = made.writable.getWriter()
                        await writer.write(b"hello")
                        await made.readable.getReader().read()

        async def state() -> tuple[Snapshot, object]:
            await loops.settle()
            # What lingers ends when its peer has closed.
            with loops.move_on_after(5):
                while any("linger" in name for name in tasks()):
                    await loops.checkpoint()
            gc.collect()
            return Snapshot.take(), tasks()

        first, measured = connections()
        await connect(first)
        before, tasks_before = await state()
        memory = resident()
        await connect(measured)
        after, tasks_after = await state()
        grown = resident() - memory
    assert after.news(before) == []
    assert tasks_after == tasks_before
    assert grown < 1 << 20, f"{grown} bytes for {measured} connections"


async def test_an_idle_bridge_holds_little() -> None:
    with contextlib.ExitStack() as stack:
        bridges: list[Bridge] = []

        async def bridge() -> None:
            near, client = socket.socketpair()
            far, backend = socket.socketpair()
            stack.enter_context(client)
            stack.enter_context(backend)
            bridges.append(adopt(near).bridge(adopt(far)))
            bridges[-1].start()
            client.send(b"hello")
            await anyio.wait_readable(backend)
            assert backend.recv(100) == b"hello"

        # The first ones bring along what all share.
        for _ in range(BRIDGES):
            await bridge()
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(BRIDGES):
                await bridge()
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held / BRIDGES < LIMIT, f"{held / BRIDGES:.0f} bytes each"
        for each in bridges:
            each.socket.close(reason="done")
            await each.closed
