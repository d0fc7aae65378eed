"""Reads and writes that do not wait, though their open file would block."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tty
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from wsockets.bridge import nowait
from wsockets.bridge.nowait import NoWait


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def files(kind: str, stack: ExitStack, folder: Path) -> tuple[int, int, int, int]:
    """Blocking: read from, its other side, written to, its other side."""
    if kind == "pipe":
        (read, into), (out, write) = os.pipe(), os.pipe()
        found = read, into, write, out
    elif kind == "fifo":
        os.mkfifo(folder / "fifo")
        fd = os.open(folder / "fifo", os.O_RDWR)
        found = fd, fd, fd, fd
    else:
        master, slave = os.openpty()
        tty.setraw(slave)
        found = master, slave, master, slave
    for fd in set(found):
        stack.callback(os.close, fd)
    return found


def would_block(fd: int) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


def clear(fd: int) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)


@pytest.mark.parametrize("kind", ["pipe", "fifo", "pty"])
@pytest.mark.parametrize("known", [True, False], ids=["flag", "no-flag"])
def test_neither_waits(
    kind: str,
    known: bool,
    stack: ExitStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not known:
        # A C library that does not have it.
        monkeypatch.setattr(nowait, "_FLAG", 0)
    read, into, write, out = files(kind, stack, tmp_path)
    reading, writing = NoWait(read), NoWait(write)
    view = memoryview(bytearray(10))
    for _ in range(2):
        clear(read)
        clear(write)
        with pytest.raises(BlockingIOError):
            reading.read_into(view)
        os.write(into, b"abc")
        assert reading.read_into(view) == 3
        assert bytes(view[:3]) == b"abc"
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                clear(write)
                sent += writing.write(b"head", memoryview(bytes(4000)))
        while sent:
            sent -= len(os.read(out, sent))


def test_a_kernel_that_does_not_know_it_is_asked_once(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, into, write, out = files("pipe", stack, tmp_path)
    asked = []

    def unknown(fd: int, *_: object) -> int:
        asked.append(fd)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "preadv", unknown)
    monkeypatch.setattr(os, "pwritev", unknown)
    reading, writing = NoWait(read), NoWait(write)
    view = memoryview(bytearray(10))
    os.write(into, b"ab")
    assert would_block(read)
    assert reading.read_into(view[:1]) == 1
    assert not would_block(read)
    assert reading.read_into(view[:1]) == 1
    assert writing.write(b"x") == writing.write(b"y") == 1
    assert os.read(out, 9) == b"xy"
    assert asked == [read, write]


def test_nothing_is_a_datagram() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        far.setblocking(False)
        writing = NoWait(near.fileno())
        assert writing.write(b"") == writing.write(b"", b"") == 0
        assert far.recv(1) == far.recv(1) == b""
        with pytest.raises(BlockingIOError):
            while True:
                clear(near.fileno())
                writing.write(b"")


def test_failures_are_raised(stack: ExitStack) -> None:
    (read, closed), (gone, write) = os.pipe(), os.pipe()
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    os.close(closed)
    os.close(gone)
    with pytest.raises(BrokenPipeError):
        NoWait(write).write(b"x")
    assert NoWait(read).read_into(memoryview(bytearray(1))) == 0
    with pytest.raises(OSError) as caught:
        NoWait(write).read_into(memoryview(bytearray(1)))
    assert caught.value.errno == errno.EBADF


def test_a_pseudoterminal_without_its_other_side_is_at_its_end() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    os.write(slave, b"bye")
    os.close(slave)
    reading = NoWait(master)
    view = memoryview(bytearray(9))
    assert reading.read_into(view) == 3
    assert reading.read_into(view) == 0
    os.close(master)


def test_regular_files_are_read_and_written_as_ever(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        calls = NoWait(file.fileno())
        assert calls.write(b"one, ", b"two") == 8
        file.seek(0)
        view = memoryview(bytearray(20))
        assert calls.read_into(view) == 8
        assert calls.read_into(view) == 0
