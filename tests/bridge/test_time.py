"""How long a bridge waits."""

from __future__ import annotations

import time
from typing import get_args

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Kind,
    bridged,
    either,
    joined,
    sink_of,
)
from wsockets.bridge import python
from wsockets.bridge.work import BridgeEnd, Direction

pytestmark = pytest.mark.every_loop

IDLE = BridgeEnd("connection", "decrypt", "idle")
STOPPED = BridgeEnd("connection", "decrypt", "stopped")


async def test_an_idle_bridge_ends(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, _), either("unix") as (sink, _):
        begun = time.monotonic()
        async with bridged(engine, connection, sink, idle_timeout=0.2) as running:
            assert await running.end() == IDLE
            assert 0.15 < time.monotonic() - begun < 2.0


async def test_bytes_in_either_direction_keep_it_alive(engine: Engine) -> None:
    async with loops.open_nursery() as nursery:
        for kind in get_args(Kind):
            for direction in get_args(Direction):
                nursery.start_soon(keep_alive, engine, kind, direction)


async def keep_alive(engine: Engine, kind: Kind, direction: Direction) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        source, target = (other, peer) if direction == "encrypt" else (peer, other)
        async with bridged(engine, connection, sink, idle_timeout=0.5) as running:
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                # Time has to pass: it is what this is about.
                await loops.sleep(0.05)
                await source.send(b"x")
                assert await target.receive() == b"x"
            assert running.pump.ended is None
            last = time.monotonic()
            assert await running.end() == IDLE
            assert time.monotonic() - last > 0.4


async def test_so_it_does_with_one_direction_alone(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer), either("unix") as (sink, other):
        async with bridged(
            engine, connection, sink, idle_timeout=0.2, encrypt=False
        ) as running:
            await peer.send(b"x")
            assert await other.receive() == b"x"
            assert await running.end() == IDLE


async def test_a_sink_that_takes_nothing_is_idle_too(
    engine: Engine, kind: Kind
) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, _):
            async with bridged(engine, connection, sink, idle_timeout=0.3) as running:
                with loops.move_on_after(WITHIN) as scope:
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(peer.send, bytes(4 << 20))
                        assert await running.end() == IDLE
                        nursery.cancel_scope.cancel()
                assert not scope.cancelled_caught
                assert running.pump.remains().unread


async def test_stopping_takes_no_longer_than_it_may(engine: Engine, kind: Kind) -> None:
    async with joined(kind) as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink) as running:
                with loops.fail_after(WITHIN):
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(peer.send, bytes(4 << 20))
                        await other.receive_exactly(1)
                        begun = time.monotonic()
                        running.pump.stop(0.3)
                        assert await running.end() == STOPPED
                        nursery.cancel_scope.cancel()
                assert 0.2 < time.monotonic() - begun < 2.0
                assert running.pump.remains().unread


@pytest.mark.only_trio("it takes seconds")
async def test_a_sink_that_takes_nothing_holds_up_the_report_for_seconds_only(
    engine: Engine,
) -> None:
    assert 3.0 < await held_up(engine) < 10.0


async def test_how_long_is_the_python_engines_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(python, "_GRACE", 0.5)
    assert 0.3 < await held_up(python.python_pump) < 3.0


async def held_up(engine: Engine) -> float:
    """For how many seconds a sink that takes nothing holds up the report."""
    async with joined("plain", "tcp") as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(engine, connection, sink) as running:
                with loops.move_on_after(0.3):
                    await peer.send(bytes(4 << 20))
                await other.receive_exactly(1)
                peer.reset()
                begun = time.monotonic()
                end = await running.end()
                assert end == BridgeEnd("connection", "decrypt", "reset")
                return time.monotonic() - begun
