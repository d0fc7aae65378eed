"""Streams over file descriptors."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import socket
import tty
from functools import partial
from pathlib import Path

import pytest

from tests import loops
from tests.loops import settle
from wsockets import SocketError, from_fd, to_fd

pytestmark = pytest.mark.every_loop


def nonblocking(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


async def test_what_is_written_to_a_pipe_is_read_from_it() -> None:
    near, far = os.pipe()
    data = random.Random(1).randbytes(1 << 20)
    readable, writable = from_fd(near), to_fd(far)
    os.close(near)
    os.close(far)
    writer = writable.getWriter()
    async with loops.open_nursery() as nursery:

        async def write() -> None:
            await writer.write(data)
            await writer.close()

        nursery.start_soon(write)
        found = b"".join([chunk async for chunk in readable])
    assert found == data


async def test_a_pipe_between_descriptors_goes_the_long_way(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(1 << 20)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        await from_fd(source).pipeTo(to_fd(sink))
    assert (tmp_path / "out").read_bytes() == data


async def test_bytes_can_be_read_into_a_buffer() -> None:
    near, far = os.pipe()
    try:
        reader = from_fd(near).getReader(mode="byob")
        buffer = bytearray(5)
        reading = reader.read(buffer, min=5)
        os.write(far, b"abc")
        async with loops.open_nursery() as nursery:
            nursery.start_soon(reading.wait)
            await settle()
            os.write(far, b"de")
        assert bytes((await reading).value) == b"abcde"
        await reader.cancel()
    finally:
        os.close(near)
        os.close(far)


async def test_the_end_of_one_stream_leaves_the_other_of_the_same_file_alone() -> None:
    near, far = socket.socketpair()
    with near, far:
        readable, writable = from_fd(near), to_fd(near)
        await readable.cancel()
        assert nonblocking(near.fileno())
        # More than the kernel takes: a write that blocks would stop the loop.
        writing = writable.getWriter().write(bytes(1 << 22))
        assert writing._is_pending()
        far.close()
        with pytest.raises(SocketError):
            await writing
        assert not nonblocking(near.fileno())


async def test_a_descriptor_blocks_again_when_its_stream_has_ended() -> None:
    near, far = os.pipe()
    try:
        readable, writable = from_fd(near), to_fd(far)
        assert nonblocking(near) and nonblocking(far)
        await readable.cancel()
        assert not nonblocking(near)
        await writable.abort()
        assert not nonblocking(far)
    finally:
        os.close(near)
        os.close(far)


async def test_closing_shuts_a_socket_down_and_leaves_the_callers_open() -> None:
    near, far = socket.socketpair()
    with near, far:
        writable = to_fd(near)
        await writable.getWriter().write(b"last")
        writable._writer.releaseLock()  # type: ignore[union-attr]
        await writable.close()
        assert far.recv(10) == b"last"
        assert far.recv(10) == b""
        far.send(b"the other direction")
        assert near.recv(100) == b"the other direction"
        far.close()
        gone = to_fd(near)
        await gone.close()


async def test_a_reader_that_has_gone_fails_the_stream() -> None:
    near, far = os.pipe()
    writer = to_fd(far).getWriter()
    os.close(near)
    os.close(far)
    with pytest.raises(SocketError) as caught:
        await writer.write(b"x")
    assert caught.value.errno == 32
    with pytest.raises(SocketError):
        await writer.closed


async def test_a_read_that_fails_fails_the_stream(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for read in (
        from_fd(fd).getReader().read,
        partial(from_fd(fd).getReader(mode="byob").read, bytearray(1)),
    ):
        with pytest.raises(SocketError) as caught:
            await read()
        assert caught.value.errno == 21
    os.close(fd)


async def test_a_terminal_whose_other_side_is_closed_has_ended() -> None:
    for mode in (None, "byob"):
        master, slave = os.openpty()
        tty.setraw(slave)
        readable = from_fd(master)
        os.close(master)
        os.write(slave, b"last words")
        os.close(slave)
        if mode is None:
            assert b"".join([chunk async for chunk in readable]) == b"last words"
        else:
            reader = readable.getReader(mode=mode)
            found = await reader.read(bytearray(20))
            assert bytes(found.value) == b"last words"
            assert (await reader.read(bytearray(20))).done


async def test_the_loop_goes_on_where_somebody_makes_the_file_block() -> None:
    near, far = os.pipe()
    try:
        reader, writer = from_fd(near).getReader(), to_fd(far).getWriter()
        os.set_blocking(near, True)
        os.set_blocking(far, True)
        reading = reader.read()
        assert reading._is_pending()
        # More than the pipe takes.
        writing = writer.write(bytes(1 << 18))
        assert writing._is_pending()
        assert (await reading).value
        await writer.abort()
        await reader.cancel()
    finally:
        os.close(near)
        os.close(far)


async def test_one_that_nobody_holds_any_more_lets_go() -> None:
    near, far = os.pipe()
    try:
        readable = from_fd(near)
        assert nonblocking(near)
        del readable
        gc.collect()
        assert not nonblocking(near)
    finally:
        os.close(near)
        os.close(far)


@pytest.mark.parametrize("make", [from_fd, to_fd])
async def test_what_is_no_descriptor_is_refused(make: object) -> None:
    assert callable(make)
    near, far = os.pipe()
    try:
        for wrong in (-1, 1 << 20, "stdin", None, far if make is from_fd else near):
            with pytest.raises(SocketError, match="sink") as caught:
                make(wrong)
            assert caught.value.code == "option"
    finally:
        os.close(near)
        os.close(far)


def test_there_is_none_outside_of_an_event_loop() -> None:
    with pytest.raises(RuntimeError):
        from_fd(0)
