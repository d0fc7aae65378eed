from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from tests.naming import named
from wsockets import SocketError
from wsockets.bridge.sink import Sink, open_sink


def blocking(fd: Any) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


@pytest.fixture
def pipes() -> Iterator[tuple[tuple[FileIO, FileIO], tuple[FileIO, FileIO]]]:
    """A pair to be a sink, and its other side: (read, written) each."""
    with contextlib.ExitStack() as stack:
        (in_r, in_w), (out_r, out_w) = os.pipe(), os.pipe()
        files = [
            stack.enter_context(FileIO(fd, mode))
            for fd, mode in ((in_r, "r"), (out_w, "w"), (out_r, "r"), (in_w, "w"))
        ]
        yield (files[0], files[1]), (files[2], files[3])


def opened(sink: object, *, reading: bool = True, writing: bool = True) -> Sink:
    return open_sink(sink, reading=reading, writing=writing)


def let_go(sink: Sink) -> None:
    """What a pump does, and who made it."""
    for fd in {sink.end.read_fd, sink.end.write_fd} - {-1}:
        os.close(fd)
    sink.restore()


# -- what is made of it


@pytest.mark.parametrize("form", ["int", "object"])
def test_a_descriptor_or_an_object_with_one(
    pair: tuple[socket.socket, socket.socket], form: str
) -> None:
    one, two = pair
    sink = opened(one.fileno() if form == "int" else one)
    end = sink.end
    assert end.connection is None
    assert end.read_fd == end.write_fd != one.fileno()
    assert not os.get_inheritable(end.read_fd)
    assert not blocking(end.read_fd)
    os.write(end.write_fd, b"hello")
    assert two.recv(10) == b"hello"
    let_go(sink)
    assert blocking(one)


def test_a_pair(pipes: Any) -> None:
    (read, write), (out, into) = pipes
    sink = opened((read, write))
    into.write(b"in")
    assert os.read(sink.end.read_fd, 10) == b"in"
    os.write(sink.end.write_fd, b"out")
    assert out.read(10) == b"out"
    assert not blocking(read)
    assert not blocking(write)
    let_go(sink)
    assert blocking(read)
    assert blocking(write)


def test_a_pair_of_one_thing_each_way(pair: Any) -> None:
    one, _ = pair
    sink = opened([one, one.fileno()])
    assert {sink.end.read_fd, sink.end.write_fd}.isdisjoint({one.fileno(), -1})
    let_go(sink)
    assert blocking(one)


@pytest.mark.parametrize(("reading", "writing"), [(True, False), (False, True)])
def test_only_the_directions_that_are_bridged(
    pipes: Any, pair: Any, reading: bool, writing: bool
) -> None:
    for given in (pipes[0], pair[0]):
        sink = opened(given, reading=reading, writing=writing)
        assert (sink.end.read_fd >= 0) == reading
        assert (sink.end.write_fd >= 0) == writing
        let_go(sink)


def test_one_way_is_enough_for_one_direction(pipes: Any) -> None:
    (read, write), _ = pipes
    let_go(opened(read, writing=False))
    let_go(opened(write, reading=False))


# -- O_NONBLOCK


def test_what_was_non_blocking_stays_so(pair: Any) -> None:
    one, _ = pair
    one.setblocking(False)
    sink = opened(one)
    let_go(sink)
    assert not blocking(one)


def test_each_side_of_a_pair_is_put_back_as_it_was(pipes: Any) -> None:
    (read, write), _ = pipes
    os.set_blocking(read.fileno(), False)
    sink = opened((read, write))
    let_go(sink)
    assert not blocking(read)
    assert blocking(write)


def test_other_flags_that_were_set_meanwhile_stay(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        sink = opened(file)
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_APPEND)
        let_go(sink)
        assert fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND
        assert blocking(file)


def test_it_is_put_back_though_the_callers_own_is_closed(pair: Any) -> None:
    one, _ = pair
    with one.dup() as other:
        sink = opened(one)
        one.close()
        assert not blocking(other)
        let_go(sink)
        assert blocking(other)


def test_putting_back_again_does_nothing(pair: Any) -> None:
    sink = opened(pair[0])
    let_go(sink)
    os.set_blocking(pair[0].fileno(), False)
    sink.restore()
    assert not blocking(pair[0])


@pytest.mark.parametrize("first", [0, 1])
def test_an_open_file_in_two_sinks_blocks_again_after_both(
    pair: Any, first: int
) -> None:
    with pair[0].dup() as again:
        sinks = [opened(pair[0]), opened(again)]
        let_go(sinks.pop(first))
        assert not blocking(again)
        let_go(sinks.pop())
        assert blocking(again)


def test_files_that_were_opened_apart_are_apart(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with FileIO(path, "r+") as one, FileIO(path, "r+") as two:
        os.set_blocking(two.fileno(), False)
        sinks = opened(one), opened(two)
        let_go(sinks[0])
        assert blocking(one)
        let_go(sinks[1])
        assert not blocking(two)


def test_the_signal_of_an_open_file_stays(pair: Any) -> None:
    one, _ = pair
    fcntl.fcntl(one, fcntl.F_SETSIG, signal.SIGUSR1)
    sinks = opened(one), opened(one)
    assert fcntl.fcntl(one, fcntl.F_GETSIG) == signal.SIGUSR1
    for sink in sinks:
        let_go(sink)
    assert blocking(one)


def test_where_files_cannot_be_told_apart_each_is_put_back(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(pair[0])
    monkeypatch.setattr(fcntl, "F_GETSIG", 1 << 30)
    other = opened(pair[0])
    let_go(other)
    assert not blocking(pair[0])
    let_go(sink)
    assert blocking(pair[0])


def test_a_forked_child_leaves_the_mode_to_its_parent(pair: Any) -> None:
    sink = opened(pair[0])
    child = os.fork()
    if child == 0:
        sink.restore()
        os._exit(0)
    os.waitpid(child, 0)
    assert not blocking(pair[0])
    let_go(sink)
    assert blocking(pair[0])


# -- the end of one direction


def test_nothing_keeps_the_write_side_open(pipes: Any) -> None:
    (read, write), (out, _) = pipes
    sink = opened((read, write))
    os.close(sink.end.write_fd)
    sink.end_writing(close=True)
    assert write.closed
    sink.end_writing(close=True)
    assert out.read(1) == b""
    assert not blocking(read)
    os.close(sink.end.read_fd)
    sink.restore()
    assert blocking(read)
    sink.close_sink()
    assert read.closed


def test_the_callers_own_stays_unless_it_is_to_be_closed(pipes: Any) -> None:
    (read, write), _ = pipes
    sink = opened((read, write))
    os.close(sink.end.write_fd)
    sink.end_writing()
    assert blocking(write)
    os.close(sink.end.read_fd)
    sink.restore()
    assert not write.closed


def test_an_open_file_for_both_stays_non_blocking_until_all_is_over(pair: Any) -> None:
    one, _ = pair
    sink = opened((one, one.fileno()))
    sink.end_writing()
    assert not blocking(one)
    let_go(sink)
    assert blocking(one)


def test_what_is_no_pair_has_no_write_side_of_its_own(pair: Any) -> None:
    one, _ = pair
    sink = opened(one)
    sink.end_writing(close=True)
    assert one.fileno() >= 0
    assert not blocking(one)
    let_go(sink)


# -- closing the caller's own


@pytest.mark.parametrize("form", ["int", "object"])
def test_the_callers_own_is_closed(form: str) -> None:
    near, far = socket.socketpair()
    with near, far:
        sink = opened(near.detach() if form == "int" else near)
        let_go(sink)
        sink.close_sink()
        assert far.recv(1) == b""
        sink.close_sink()


def test_a_number_that_leads_elsewhere_by_now_is_not_closed() -> None:
    near, far = socket.socketpair()
    with near, far:
        number = near.detach()
        sink = opened(number)
        os.close(number)
        read, write = os.pipe()
        assert number in (read, write)
        let_go(sink)
        sink.close_sink()
        os.write(write, b"still open")
        assert os.read(read, 20) == b"still open"
        os.close(read)
        os.close(write)


def test_what_was_closed_before_is_let_be() -> None:
    near, far = socket.socketpair()
    with near, far:
        number = near.detach()
        sink = opened(number)
        let_go(sink)
        os.close(number)
        sink.close_sink()


class Awkward:
    """Something with a descriptor, and a close() that does not work."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        raise RuntimeError("not today")


def test_a_close_that_fails_is_logged(
    pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sink = opened(Awkward(pair[0].fileno()))
    let_go(sink)
    sink.close_sink()
    assert "closing the sink" in caplog.text
    assert "not today" in caplog.text


# -- what is refused


class Strange:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def fileno(self) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("sink", "words"),
    [
        (True, "True is no file descriptor"),
        (False, "False is no file descriptor"),
        (-1, "-1 is no open descriptor"),
        (1 << 40, "is no open descriptor"),
        (999999, "999999 is not open"),
        (None, "NoneType has no fileno"),
        ("/dev/null", "str has no fileno"),
        (3.0, "float has no fileno"),
        (Strange("7"), "fileno() is '7'"),
        (Strange(True), "fileno() is True"),
        (Strange(-1), "-1 is no open descriptor"),
        (Strange(ValueError("closed file")), "closed file"),
        ((), "0 of them"),
        ((0,), "1 of them"),
        ((0, 1, 2), "3 of them"),
        ((True, 1), "True is no file descriptor"),
    ],
    ids=named,
)
def test_what_is_no_sink_is_refused(sink: object, words: str) -> None:
    with pytest.raises(SocketError) as caught:
        opened(sink)
    assert caught.value.code == "option"
    assert words in str(caught.value)
    assert "it must be an open file descriptor" in str(caught.value)


def test_a_failing_fileno_is_the_cause() -> None:
    error = ValueError("closed file")
    with pytest.raises(SocketError) as caught:
        opened(Strange(error))
    assert caught.value.__cause__ is error


def test_one_that_is_not_open_has_its_number() -> None:
    with pytest.raises(SocketError) as caught:
        opened(999999)
    assert caught.value.errno == errno.EBADF


def test_the_wrong_way_is_refused(pipes: Any) -> None:
    (read, write), _ = pipes
    with pytest.raises(SocketError, match="cannot be read from") as caught:
        opened(write)
    assert caught.value.code == "option"
    with pytest.raises(SocketError, match="cannot be written to"):
        opened(read)
    with pytest.raises(SocketError, match="cannot be read from"):
        opened((write, read))
    assert blocking(read)
    assert blocking(write)


def test_a_mere_path_is_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(SocketError, match="O_PATH"):
            opened(fd, writing=False)
    finally:
        os.close(fd)


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_where_no_descriptor_is_left_nothing_is(pipes: Any, left: int) -> None:
    (read, write), _ = pipes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(read.fileno())
    os.close(spare)
    taken = []
    try:
        # Numbers below the limit that are free would serve.
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 50, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(read.fileno()))
        for _ in range(left):
            os.close(taken.pop())
        with pytest.raises(SocketError) as caught:
            opened((read, write))
        free = []
        with contextlib.suppress(OSError):
            while True:
                free.append(os.dup(read.fileno()))
        taken += free
        assert len(free) == left
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.code == "os"
    assert caught.value.errno == errno.EMFILE
    assert blocking(read)
    assert blocking(write)
