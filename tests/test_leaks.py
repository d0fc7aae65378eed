from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from tests import loops
from tests.leaks import Snapshot, left_behind, tasks
from wsockets.runtime import current

pytest_plugins = ["pytester"]


def test_nothing_is_left_behind_by_nothing() -> None:
    assert left_behind(Snapshot.take()) == []


def test_an_open_descriptor_is_told_with_what_it_leads_to(tmp_path: Path) -> None:
    before = Snapshot.take()
    with (tmp_path / "file").open("w") as file:
        found = left_behind(before, within=0)
        assert found == [f"descriptor {file.fileno()}: {tmp_path}/file"]


def test_one_descriptor_in_the_place_of_another_is_seen() -> None:
    first, second = socket.socketpair()
    with first, second:
        before = Snapshot.take()
        fd = first.fileno()
        with socket.socket() as other:
            os.dup2(other.fileno(), fd)
        (found,) = left_behind(before, within=0)
        assert found.startswith(f"descriptor {fd}: socket:[")


def test_a_running_thread_is_told_by_its_name() -> None:
    before = Snapshot.take()
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="forgotten")
    thread.start()
    try:
        (found,) = left_behind(before, within=0)
        assert found == f"thread {thread.native_id}: forgotten"
    finally:
        go.set()
        thread.join()


def test_a_thread_that_is_just_ending_may_do_so() -> None:
    before = Snapshot.take()
    threading.Timer(0.05, lambda: None).start()
    assert left_behind(before) == []


@pytest.mark.every_loop
async def test_the_idle_threads_of_the_loop_are_not_a_leak() -> None:
    before = Snapshot.take()
    await loops.in_thread(lambda: None)
    assert left_behind(before) == []


def test_what_only_garbage_holds_is_not_a_leak() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self
            self.fd = os.open("/dev/null", os.O_RDONLY)

        def __del__(self) -> None:
            os.close(self.fd)

    before = Snapshot.take()
    Cycle()
    assert left_behind(before) == []


@pytest.mark.every_loop
async def test_a_task_is_counted_until_it_ends() -> None:
    async def sleeper() -> None:
        await loops.sleep_forever()

    before = tasks()
    async with loops.open_nursery() as nursery:
        nursery.start_soon(sleeper, name="sleeper")
        current().spawn(sleeper, name="system sleeper")
        assert (tasks() - before) == {"sleeper": 1, "system sleeper": 1}
        nursery.cancel_scope.cancel()
    assert (tasks() - before) == {"system sleeper": 1}


@pytest.fixture
def inner(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    conftest = Path(__file__).with_name("conftest.py").read_text()
    pytester.makeconftest(conftest)
    pytester.makeini("[pytest]\nmarkers = leaks(reason)\n")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return pytester


LEAKY = """
import os, pytest
kept = []
{mark}
def test_leaky():
    kept.append(os.open("/dev/null", os.O_RDONLY))
def test_next():
    pass
"""


def test_a_test_that_leaks_fails_and_the_next_one_passes(
    inner: pytest.Pytester,
) -> None:
    inner.makepyfile(LEAKY.format(mark=""))
    done = inner.runpytest_subprocess("--no-header")
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*left behind by the test: descriptor *: /dev/null*"])


def test_a_test_may_say_that_it_leaks(inner: pytest.Pytester) -> None:
    inner.makepyfile(LEAKY.format(mark="@pytest.mark.leaks('because')"))
    inner.runpytest_subprocess("--no-header").assert_outcomes(passed=2)
