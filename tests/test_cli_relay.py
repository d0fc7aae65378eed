"""Standard input and output over a socket, inside this process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from wsockets import Socket, SocketError, connect
from wsockets.address import format_address
from wsockets.cli.exits import OutputClosed
from wsockets.cli.relay import AHEAD, Crlf, relay


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Socket, trio.SocketStream]]:
    """Both ends of a connection over loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        address = format_address(listener.socket.getsockname())
        async with connect(address) as socket, await listener.accept() as peer:
            yield socket, peer


class Pipe:
    """A pipe with two ends to be closed in their own time."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self._open = {self.read_end, self.write_end}

    def close_end(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)


@pytest.fixture
def source() -> Iterator[Pipe]:
    with closing(Pipe()) as pipe:
        yield pipe


@pytest.fixture
def sink() -> Iterator[Pipe]:
    with closing(Pipe()) as pipe:
        yield pipe


@pytest.fixture
def output(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "output"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    yield fd, path
    os.close(fd)


async def everything(peer: trio.SocketStream) -> bytes:
    return b"".join([bytes(chunk) async for chunk in peer])


async def test_the_end_of_the_input_ends_the_sending_direction_only(
    source: Pipe, output: tuple[int, Path]
) -> None:
    os.write(source.write_end, b"question")
    source.close_end(source.write_end)
    async with connected() as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(relay, socket, source.read_end, output[0])
        assert await everything(peer) == b"question"
        await peer.send_all(b"answer")
        await peer.send_eof()
    assert output[1].read_bytes() == b"answer"


async def test_the_sending_direction_can_be_kept_open(
    source: Pipe, output: tuple[int, Path]
) -> None:
    source.close_end(source.write_end)
    async with connected() as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: relay(socket, source.read_end, output[0], shutdown=False)
        )
        await peer.send_all(b"still here?")
        while output[1].read_bytes() != b"still here?":
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0) as nothing_came:
            await peer.receive_some()
        assert nothing_came.cancelled_caught
        await peer.send_eof()


async def test_the_end_of_the_peer_ends_it_whatever_the_input_does(
    source: Pipe, output: tuple[int, Path]
) -> None:
    async with connected() as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(relay, socket, source.read_end, output[0])
        await peer.send_all(b"bye")
        await peer.send_eof()
    assert output[1].read_bytes() == b"bye"
    # Lets go the thread that still reads.
    source.close_end(source.write_end)


async def test_a_disk_file_is_sent_as_it_is_and_counted(
    tmp_path: Path, output: tuple[int, Path]
) -> None:
    content = os.urandom(1_000_000)
    path = tmp_path / "input"
    path.write_bytes(content)
    counted = [0, 0]

    def count(sent: int, received: int) -> None:
        counted[0] += sent
        counted[1] += received

    with path.open("rb") as file:
        async with connected() as (socket, peer), trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: relay(socket, file.fileno(), output[0], count=count)
            )
            assert await everything(peer) == content
            await peer.send_all(content[:100_000])
            await peer.send_eof()
    assert output[1].read_bytes() == content[:100_000]
    assert counted == [1_000_000, 100_000]


async def test_a_reader_that_does_not_read_holds_the_peer_back(
    source: Pipe, sink: Pipe
) -> None:
    sent = 0

    async def flood(peer: trio.SocketStream) -> None:
        nonlocal sent
        block = bytes(65536)
        while True:
            await peer.send_all(block)
            sent += len(block)

    source.close_end(source.write_end)
    async with connected() as (socket, peer), trio.open_nursery() as nursery:
        peer.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 65536)
        nursery.start_soon(flood, peer)
        nursery.start_soon(relay, socket, source.read_end, sink.write_end)
        # The thread blocks in its write, which trio cannot see; nothing moves.
        before = -1
        while sent != before:
            before = sent
            await trio.testing.wait_all_tasks_blocked(cushion=0.2)
        held = sent
        nursery.cancel_scope.cancel()
    # Lets go the thread that still writes.
    sink.close_end(sink.read_end)
    # What the kernel holds for both ends is below the rest.
    assert 0 < held < AHEAD * 65536 + (8 << 20)


async def test_a_reader_that_has_gone_is_told_of(source: Pipe, sink: Pipe) -> None:
    sink.close_end(sink.read_end)
    source.close_end(source.write_end)
    async with connected() as (socket, peer):
        await peer.send_all(b"anybody?")
        with pytest.raises(OutputClosed) as caught:
            await relay(socket, source.read_end, sink.write_end)
    assert isinstance(caught.value.__cause__, BrokenPipeError)


async def test_an_output_that_cannot_be_written_is_an_error(source: Pipe) -> None:
    source.close_end(source.write_end)
    with open("/dev/full", "wb", buffering=0) as full:
        async with connected() as (socket, peer):
            await peer.send_all(b"x")
            with pytest.raises(OSError, match="No space left"):
                await relay(socket, source.read_end, full.fileno())


async def test_an_input_that_cannot_be_read_is_an_error(
    tmp_path: Path, output: tuple[int, Path]
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        async with connected() as (socket, _):
            with pytest.raises(IsADirectoryError):
                await relay(socket, folder, output[0])
    finally:
        os.close(folder)


async def test_what_came_before_a_reset_is_written(
    source: Pipe, output: tuple[int, Path]
) -> None:
    async with connected() as (socket, peer):
        await peer.send_all(b"last words")

        async def reset_when_read() -> None:
            while output[1].read_bytes() != b"last words":
                await trio.testing.wait_all_tasks_blocked()
            linger = b"\x01\0\0\0\0\0\0\0"
            peer.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
            await peer.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reset_when_read)
            with pytest.raises(SocketError) as caught:
                await relay(socket, source.read_end, output[0])
    source.close_end(source.write_end)
    assert caught.value.code == "reset"
    assert output[1].read_bytes() == b"last words"


@pytest.mark.parametrize("late", [b"", b"too late"])
async def test_an_input_that_cannot_be_sent_any_more_is_not_the_error(
    source: Pipe, output: tuple[int, Path], late: bytes
) -> None:
    os.write(source.write_end, late)
    source.close_end(source.write_end)
    async with connected() as (socket, peer):
        await socket.writable.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay, socket, source.read_end, output[0])
            await trio.testing.wait_all_tasks_blocked(cushion=0.05)
            await peer.send_all(b"the end")
            await peer.send_eof()
    assert output[1].read_bytes() == b"the end"


async def test_files_that_somebody_made_non_blocking_are_waited_for(
    source: Pipe, sink: Pipe
) -> None:
    os.set_blocking(source.read_end, False)
    os.set_blocking(sink.write_end, False)
    content = os.urandom(300_000)
    async with connected() as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(relay, socket, source.read_end, sink.write_end)
        await trio.testing.wait_all_tasks_blocked(cushion=0.05)
        os.write(source.write_end, b"now")
        assert await peer.receive_some() == b"now"
        source.close_end(source.write_end)
        await peer.send_all(content)
        await peer.send_eof()
        received = b""
        while len(received) < len(content):
            received += await trio.to_thread.run_sync(os.read, sink.read_end, 65536)
    assert received == content


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], b"a\r\nb\r\n"),
        ([b"a\r\nb"], b"a\r\nb"),
        ([b"a\r", b"\nb"], b"a\r\nb"),
        ([b"a\r", b"", b"\nb"], b"a\r\nb"),
        ([b"a\r", b"b\n"], b"a\rb\r\n"),
        ([b"\n", b"\n"], b"\r\n\r\n"),
        ([b"\r\r\n"], b"\r\r\n"),
    ],
)
def test_line_ends_become_crlf(chunks: list[bytes], expected: bytes) -> None:
    translate = Crlf()
    assert b"".join(translate(chunk) for chunk in chunks) == expected


@given(st.lists(st.text("ab\r\n", max_size=4).map(str.encode), max_size=6))
def test_line_ends_do_not_depend_on_where_chunks_end(chunks: list[bytes]) -> None:
    whole, parts = Crlf(), Crlf()
    translated = b"".join(parts(chunk) for chunk in chunks)
    assert translated == whole(b"".join(chunks))
    assert translated.replace(b"\r\n", b"").count(b"\n") == 0
