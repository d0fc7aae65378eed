"""Clocks that jump, on trio and on asyncio: what tests with them rely on."""

from __future__ import annotations

import socket
import time

import pytest
from trio.testing import MockClock

from tests import loops
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop


async def test_they_begin_at_0_and_nobody_waits(autojump_clock: MockClock) -> None:
    assert loops.current_time() == 0
    begun = time.monotonic()
    await loops.sleep(3600)
    assert loops.current_time() == pytest.approx(3600)
    assert time.monotonic() - begun < 60
    assert current().time() == loops.current_time()


async def test_deadlines_come_in_their_order(autojump_clock: MockClock) -> None:
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await loops.sleep(seconds)
        woken.append(seconds)
        assert loops.current_time() == pytest.approx(seconds)

    async with loops.open_nursery() as nursery:
        for seconds in (3e5, 0.1, 1e-3, 7.0):
            nursery.start_soon(sleep, seconds)
    assert woken == [1e-3, 0.1, 7.0, 3e5]


async def test_time_stands_still_while_anybody_can_go_on(
    autojump_clock: MockClock,
) -> None:
    with loops.move_on_after(1e-3) as scope:
        for _ in range(1000):
            await loops.checkpoint()
    assert not scope.cancelled_caught
    assert loops.current_time() == 0


async def test_what_has_arrived_comes_before_a_deadline(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        for _ in range(100):
            theirs.send(b"x")
            with loops.fail_after(1e-6):
                await current().wait_readable(ours.fileno())
            assert ours.recv(1) == b"x"
        with loops.move_on_after(5) as scope:
            await current().wait_readable(ours.fileno())
        assert scope.cancelled_caught
    assert loops.current_time() == pytest.approx(5)
