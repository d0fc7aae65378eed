"""Sockets and the run they live in: guest mode, Ctrl-C, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket as _socket
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import outcome
import pytest
import trio
import trio.testing

import wsockets
from tests import loops
from tests.loopback import (
    Peer,
    Secure,
    binding,
    connected,
    listening,
    server_context,
    settle,
)
from tests.network import listener
from tests.wires import SSLStream
from wsockets import Socket, SocketError, connect
from wsockets.runtime import current

LIBRARY = wsockets.__path__[0]

every_loop = pytest.mark.parametrize("loop", loops.LOOPS)


# -- guest mode


def as_guest(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` under trio as a guest of asyncio."""

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        assert current().name == "asyncio"
        (await done).unwrap()

    asyncio.run(host())


def test_it_works_as_a_guest_of_asyncio(secure: Secure) -> None:
    finished: list[bytes] = []

    async def main() -> None:
        assert current().name == "trio"
        async with connected(secure) as (socket, peer):
            data = bytes(1 << 20)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.writable.getWriter().write(data).wait)
                assert await peer.receive_exactly(len(data)) == data
            await peer.send(b"done")
            finished.append((await socket.readable.getReader().read()).value)
            await socket.close()

    as_guest(main)
    assert finished == [b"done"]


# -- Ctrl-C


class Ki(trio.abc.Instrument):
    """Presses Ctrl-C when everybody waits."""

    def __init__(self, after: int = 1) -> None:
        self.left = after

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0.1:
            self.left -= 1
            if not self.left:
                signal.raise_signal(signal.SIGINT)


def press_soon() -> None:
    """Press Ctrl-C when everybody waits."""

    async def press() -> None:
        await settle()
        signal.raise_signal(signal.SIGINT)

    if loops.on_trio():
        trio.lowlevel.add_instrument(Ki())
    else:
        current().spawn(press)


def interruption() -> type[BaseException]:
    """What it is to a task: asyncio.run() cancels the first one."""
    return KeyboardInterrupt if loops.on_trio() else asyncio.CancelledError


@every_loop
def test_Ctrl_C_during_a_read_takes_no_data(loop: str, secure: Secure) -> None:
    async def main() -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader()
            first = reader.read()
            press_soon()
            with pytest.raises(interruption()):
                await first
            await peer.send(b"all there")
            assert (await reader.read()).value == b"all there"
            # The one that was given up can be taken up again.
            assert first._is_pending()
            await peer.send(b"and more")
            assert (await first).value == b"and more"

    loops.run(loop, main)


@every_loop
def test_Ctrl_C_during_a_write_leaves_it_to_be_sent(loop: str, secure: Secure) -> None:
    data = bytes(range(256)) * (1 << 15)

    async def main() -> None:
        async with connected(secure) as (socket, peer):
            writer = socket.writable.getWriter()
            writing = writer.write(data)
            assert writing._is_pending()
            press_soon()
            with pytest.raises(interruption()):
                await writing
            writer.write(b"the end")
            assert await peer.receive_exactly(len(data)) == data
            assert await peer.receive() == b"the end"
            await writing

    loops.run(loop, main)


@every_loop
def test_Ctrl_C_in_the_context_manager_closes_the_socket(
    loop: str, secure: Secure
) -> None:
    found: list[Socket] = []

    async def main() -> None:
        async with listening() as (server, port), loops.open_nursery() as nursery:
            stream: Any = None

            async def serve() -> None:
                nonlocal stream
                stream = await server.accept()
                if secure == "on":
                    stream = SSLStream(stream, server_context(), server_side=True)
                assert await stream.receive_some() == b"hello"

            nursery.start_soon(serve)
            try:
                async with binding().connect(
                    f"localhost:{port}", secureTransport=secure
                ) as socket:
                    found.append(socket)
                    await socket.writable.getWriter().write(b"hello")
                    press_soon()
                    await socket.readable.getReader().read()
            finally:
                await Peer(stream).close()

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
        loops.run(loop, main)
    if loop == "trio":
        assert caught.group_contains(KeyboardInterrupt)
    else:
        assert caught.type is KeyboardInterrupt
    assert not found[0].closed._is_pending()


@contextlib.contextmanager
def pressing(step: int) -> Iterator[list[str]]:
    """Press Ctrl-C at the `step`th line of the library in the block; where it was."""
    place: list[str] = []
    left = step

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                code = frame.f_code
                place.append(f"{code.co_filename}:{frame.f_lineno} {code.co_name}")
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield place
    finally:
        sys.settrace(before)


async def pressed(step: int, work: Callable[[], Awaitable[object]]) -> list[str]:
    """Do `work`, press Ctrl-C in it, and tell where; empty if it is shorter."""
    place: list[str] = []
    with each_is_the_first(), contextlib.suppress(interruption()):
        with pressing(step) as place:
            await work()
        # Where the library is protected, it is raised at the next checkpoint.
        await loops.checkpoint()
    return place


@contextlib.contextmanager
def each_is_the_first() -> Iterator[None]:
    """To asyncio.run(), which cancels its task the first time only."""
    if loops.on_trio():
        yield
        return
    task = asyncio.current_task()
    assert task is not None
    before = signal.signal(signal.SIGINT, lambda *_: task.cancel())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        task.uncancel()


@every_loop
def test_Ctrl_C_at_any_line_of_a_read_leaves_a_socket_that_works(
    loop: str,
    secure: Secure,
) -> None:
    # What an interrupted call had taken is gone with it, as with any function;
    # nothing is given twice or out of order, and the next read works.
    async def main() -> int:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader()
            step = 0
            while True:
                step += 1
                got = bytearray()

                async def read(got: bytearray = got) -> None:
                    got += (await reader.read()).value

                await peer.send(b"(%d)" % step)
                await settle()
                place = await pressed(step, read)
                await peer.send(b"[%d]" % step)
                while not got.endswith(b"[%d]" % step):
                    await read()
                assert got in (b"(%d)[%d]" % (step, step), b"[%d]" % step), place
                if not place:
                    return step

    assert loops.run(loop, main) > 10


@every_loop
def test_Ctrl_C_at_any_line_of_a_write_leaves_a_socket_that_works(
    loop: str,
    secure: Secure,
) -> None:
    async def main() -> int:
        async with connected(secure) as (socket, peer):
            writer = socket.writable.getWriter()
            step = 0
            while True:
                step += 1

                async def write(step: int = step) -> None:
                    await writer.write(b"(%d)" % step)

                place = await pressed(step, write)
                await writer.write(b"[%d]" % step)
                got = b""
                while not got.endswith(b"[%d]" % step):
                    got += await peer.receive()
                assert got in (b"(%d)[%d]" % (step, step), b"[%d]" % step), place
                if not place:
                    return step

    assert loops.run(loop, main) > 10


@every_loop
def test_Ctrl_C_at_any_line_of_a_close_leaves_a_socket_that_can_be_closed(
    loop: str,
    secure: Secure,
) -> None:
    async def main(step: int) -> list[str]:
        async with connected(secure) as (socket, peer):
            socket.writable.getWriter().write(b"last words")
            place = await pressed(step, lambda: socket.close().wait())
            await socket.close()
            assert await peer.receive_to_end() == b"last words"
        return place

    step = 1
    while loops.run(loop, main, step):
        step += 1
    assert step > 10


# -- the end of the run


@every_loop
def test_data_that_was_not_sent_by_then_is_lost_with_a_warning(
    loop: str,
    secure: Secure,
) -> None:
    async def main() -> Socket:
        async with listening() as (server, port):
            socket = binding().connect(f"localhost:{port}", secureTransport=secure)
            stream: Any = await server.accept()
            if secure == "on":
                stream = SSLStream(stream, server_context(), server_side=True)
                await stream.do_handshake()
            await socket.opened
            socket.writable.getWriter().write(bytes(64 << 20))
            await settle()
            transport = stream.transport_stream if secure == "on" else stream
            peers.append(_socket.socket(fileno=transport.socket.detach()))
        return socket

    peers: list[_socket.socket] = []
    with pytest.warns(ResourceWarning, match="bytes written to a socket were not sent"):
        socket = loops.run(loop, main)
    leave(socket)
    peers[0].close()


def leave(socket: Socket) -> None:
    """Close the fd of a socket whose run has ended."""
    assert socket._connection is not None
    socket._connection.socket.close()


@every_loop
def test_a_socket_left_open_by_then_is_like_any_other_left_open(loop: str) -> None:
    async def main(address: str) -> None:
        await connect(address).opened

    def use(address: str) -> None:
        loops.run(loop, main, address)
        gc.collect()

    with listener() as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.warns(ResourceWarning, match="unclosed"):
            use(address)


@every_loop
def test_a_socket_that_was_closed_leaves_no_warning(loop: str, secure: Secure) -> None:
    async def main() -> None:
        async with connected(secure) as (socket, peer):
            socket.writable.getWriter().write(b"all of it")
            await socket.close()
            assert await peer.receive() == b"all of it"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loops.run(loop, main)
        gc.collect()


@every_loop
def test_one_that_was_still_connecting_is_given_up(loop: str) -> None:
    async def main(address: str) -> None:
        connect(address, secureTransport="on")
        await settle()

    with listener() as server:
        loops.run(loop, main, f"127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
        with peer:
            peer.settimeout(10)
            while peer.recv(1000):
                pass


@every_loop
def test_a_promise_of_another_run_cannot_be_awaited(loop: str) -> None:
    async def make(address: str) -> Socket:
        socket = connect(address)
        await socket.opened
        await socket.close()
        return socket

    async def use(socket: Socket) -> None:
        for promise in (socket.opened, socket.closed):
            with pytest.raises(RuntimeError, match="another event loop"):
                await promise

    with listener() as server:
        socket = loops.run(loop, make, f"127.0.0.1:{server.getsockname()[1]}")
    loops.run(loop, use, socket)


def test_threads_with_runs_of_their_own_do_not_meet(secure: Secure) -> None:
    found: dict[int, bytes] = {}

    async def main(number: int) -> None:
        async with connected(secure) as (socket, peer):
            for _ in range(50):
                await socket.writable.getWriter().write(b"%d" % number)
                socket.writable._writer.releaseLock()  # type: ignore[union-attr]
                await peer.send(await peer.receive())
                reader = socket.readable.getReader()
                found[number] = (await reader.read()).value
                reader.releaseLock()

    threads = [
        threading.Thread(target=loops.run, args=(loop, main, number))
        for number, loop in enumerate(loops.LOOPS * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: b"%d" % number for number in range(6)}


@every_loop
def test_an_error_of_the_program_is_not_hidden_by_its_socket(loop: str) -> None:
    async def main(address: str) -> None:
        async with connect(address):
            raise KeyError("mine")

    with listener() as server, pytest.raises(KeyError):
        loops.run(loop, main, f"127.0.0.1:{server.getsockname()[1]}")
    with _socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SocketError):
            loops.run(loop, main, f"127.0.0.1:{unused.getsockname()[1]}")
