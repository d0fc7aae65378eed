from __future__ import annotations

import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import sniffio
import trio

from tests import loops
from wsockets import runtime
from wsockets.runtime import Line, Runtime, current
from wsockets.runtime.gate import Gate, Want

pytestmark = pytest.mark.every_loop


async def elsewhere() -> Runtime:
    return current()


@pytest.mark.parametrize("another", loops.LOOPS)
async def test_there_is_one_runtime_for_a_whole_run(another: str) -> None:
    found = current()
    assert found.name == ("trio" if loops.on_trio() else "asyncio")
    assert found.is_current()
    assert current() is found
    other = await loops.in_thread(loops.run, another, elsewhere)
    assert other is not found
    assert not other.is_current()


def test_outside_of_an_event_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="running event loop"):
        current()


def test_an_unknown_event_loop_is_named() -> None:
    sniffio.thread_local.name = "curio"
    try:
        with pytest.raises(RuntimeError, match="does not run on curio"):
            current()
    finally:
        sniffio.thread_local.name = None


async def test_a_runtime_of_an_ended_run_is_not_current() -> None:
    ended = await loops.in_thread(loops.run, "trio", elsewhere)
    assert not await loops.in_thread(ended.is_current)


async def test_sleepers_wake_in_order_and_the_cancelled_leave_the_line() -> None:
    line: Line = {}
    woken: list[int] = []

    async def sleep(number: int) -> None:
        await current().park(line)
        woken.append(number)

    async with loops.open_nursery() as nursery:
        with loops.CancelScope() as scope:
            async with loops.open_nursery() as doomed:
                doomed.start_soon(sleep, 0)
                await loops.settle()
                scope.cancel()
        assert not line
        for number in range(3):
            nursery.start_soon(sleep, number)
            await loops.settle()
        current().wake(line, 1)
        await loops.settle()
        assert woken == [0]
        current().wake(line)
    assert sorted(woken) == [0, 1, 2]
    current().wake(line)


async def test_cancelled_now_tells_before_the_checkpoint() -> None:
    assert not current().cancelled_now()
    with current().scope() as scope:
        scope.cancel()
        assert current().cancelled_now()
        await current().shielded_checkpoint()
        with pytest.raises(loops.cancelled()):
            await current().checkpoint()


async def test_a_turn_is_taken_each_time() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await loops.checkpoint()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(50):
            await current().turn()
        # Who goes first in a round is anybody's guess.
        assert turns >= 48
        nursery.cancel_scope.cancel()
    with current().scope() as scope:
        scope.cancel()
        with pytest.raises(loops.cancelled()):
            await current().turn()


async def test_a_scope_ends_by_its_deadline_or_by_hand() -> None:
    with current().scope(0.001) as scope:
        await current().park({})
    assert scope.cancelled_caught
    with current().scope() as scope:
        scope.cancel()
        await current().park({})
    assert scope.cancelled_caught
    with current().scope(float("inf")) as scope:
        await current().checkpoint()
    assert not scope.cancelled_caught


async def test_a_failing_task_is_logged_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise ValueError("oops")

    with caplog.at_level(logging.ERROR, "wsockets"):
        current().spawn(fail)
        await loops.settle()
    assert "oops" in caplog.text


async def test_a_failing_callback_is_logged_and_the_next_one_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[int] = []

    def fail() -> None:
        raise ValueError("oops")

    def again() -> None:
        current().soon(lambda: ran.append(2))

    for job in (fail, lambda: ran.append(1), again):
        current().soon(job)
    await loops.settle()
    assert ran == [1, 2]
    assert "oops" in caplog.text


async def test_a_nursery_gets_the_task_and_its_error() -> None:
    async def fail() -> None:
        raise ValueError("oops")

    with pytest.RaisesGroup(ValueError):
        async with loops.native_nursery() as (nursery, _):
            assert current().accepts_nursery(nursery)
            current().spawn(fail, nursery=nursery)
    assert not current().accepts_nursery(object())


async def test_getaddrinfo_gives_families_and_numeric_addresses() -> None:
    found = await current().getaddrinfo("127.0.0.1", 80)
    assert found == [(socket.AF_INET, "127.0.0.1")]
    with pytest.raises(socket.gaierror):
        await current().getaddrinfo("not-a-name.invalid", 80)


@pytest.mark.only_trio("asyncio has no such protection")
async def test_on_trio_protect_keeps_Ctrl_C_out() -> None:
    protects_now = trio.lowlevel.currently_ki_protected
    assert not protects_now()
    assert runtime.protect(lambda: protects_now())()

    # What was protected before trio was needed.
    seen: list[bool] = []
    watcher: Any = SimpleNamespace(wake=lambda _: seen.append(protects_now()))
    gate = Gate(watcher)
    gate._opening = {None: None}
    gate.interrupt()
    assert seen == [True]


def test_protect_keeps_the_function() -> None:
    def double(number: int) -> int:
        return 2 * number

    assert runtime.protect(double)(2) == 4


class TestGate:
    async def test_waiting_before_it_is_open_ends_with_the_opening(self) -> None:
        gate = Gate(current())
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with loops.open_nursery() as nursery:
                nursery.start_soon(gate.wait, Want.OPEN)
                nursery.start_soon(gate.wait, Want.READ)
                await loops.settle()
                gate.open(ours.fileno())
            gate.close()

    @pytest.mark.parametrize("want", [Want.READ, Want.WRITE])
    async def test_many_tasks_wait_for_one_direction(self, want: Want) -> None:
        gate = Gate(current())
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            gate.open(ours.fileno())
            if want is Want.WRITE:
                fill(ours)
            async with loops.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(gate.wait, want)
                await loops.settle()
                if want is Want.READ:
                    theirs.send(b"x")
                else:
                    drain(theirs)
            gate.close()

    @pytest.mark.parametrize("want", [Want.READ, Want.WRITE])
    async def test_when_the_first_is_cancelled_the_others_return(
        self, want: Want
    ) -> None:
        gate = Gate(current())
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            fill(ours)
            gate.open(ours.fileno())
            async with loops.open_nursery() as others:
                async with loops.open_nursery() as first:
                    first.start_soon(gate.wait, want)
                    await loops.settle()
                    others.start_soon(gate.wait, want)
                    await loops.settle()
                    first.cancel_scope.cancel()
            gate.close()

    async def test_interrupting_and_closing_let_everybody_return(self) -> None:
        gate = Gate(current())
        gate.interrupt()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            fill(ours)
            gate.open(ours.fileno())
            for let_go in (gate.interrupt, gate.close):
                async with loops.open_nursery() as nursery:
                    for want in (Want.READ, Want.WRITE, Want.READ, Want.WRITE):
                        nursery.start_soon(gate.wait, want)
                    await loops.settle()
                    let_go()
        await gate.wait(Want.READ)

    async def test_closing_before_opening_lets_everybody_return(self) -> None:
        gate = Gate(current())
        async with loops.open_nursery() as nursery:
            nursery.start_soon(gate.wait, Want.OPEN)
            await loops.settle()
            gate.close()

    async def test_holding_makes_everybody_wait_for_the_next_opening(self) -> None:
        gate = Gate(current())
        ours, theirs = socket.socketpair()
        with ours, theirs:
            gate.open(ours.fileno())
            returned = []

            async def wait_twice() -> None:
                await gate.wait(Want.READ)
                returned.append("held")
                await gate.wait(Want.READ)
                returned.append("open")

            async with loops.open_nursery() as nursery:
                nursery.start_soon(wait_twice)
                await loops.settle()
                gate.hold()
                theirs.send(b"x")
                await loops.settle()
                assert returned == ["held"]
                gate.open(ours.fileno())
            gate.hold()
            gate.close()
            await gate.wait(Want.READ)

    async def test_another_may_wait_for_the_fd_as_soon_as_the_gate_is_held(
        self,
    ) -> None:
        gate, other = Gate(current()), Gate(current())
        ours, theirs = socket.socketpair()
        with ours, theirs:
            gate.open(ours.fileno())
            async with loops.open_nursery() as nursery:
                nursery.start_soon(gate.wait, Want.READ)
                await loops.settle()
                gate.hold()
                other.open(ours.fileno())
                theirs.send(b"x")
                await other.wait(Want.READ)
            gate.close()
            other.close()


def fill(sock: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            sock.recv(65536)
