"""The Python engine by itself: what tests/bridge cannot see from outside."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from trio.testing import MockClock

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Running,
    bridged,
    either,
    joined,
    lend,
    packet,
    sink_of,
    streams,
)
from tests.leaks import Snapshot, left_behind, tasks
from wsockets.bridge.python import python_pump
from wsockets.bridge.sink import open_sink
from wsockets.bridge.work import (
    BridgeEnd,
    BridgeFlow,
    BridgeStats,
    Framing,
    Remains,
    Work,
)
from wsockets.connection import PlainConnection
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

STOPPED = BridgeEnd("connection", "decrypt", "stopped")
CLOSED = BridgeEnd("connection", "decrypt", "closed")


@contextlib.asynccontextmanager
async def running(**members: Any) -> AsyncIterator[tuple[Running, Any, Any]]:
    """A pump between a plain connection and a unix socket, and both other sides."""
    async with joined("plain", "unix") as (connection, peer):
        async with either("unix") as (sink, other):
            async with bridged(python_pump, connection, sink, **members) as made:
                yield made, peer, other


async def test_a_bridge_has_a_task_for_each_direction() -> None:
    before = tasks()
    async with running() as (made, peer, other):
        await peer.send(b"x")
        assert await other.receive() == b"x"
        news = tasks() - before
        assert news == {"wsockets bridge encrypt": 1, "wsockets bridge decrypt": 1}
        made.pump.stop(1.0)
        assert await made.end() == STOPPED
    await loops.settle()
    assert not tasks() - before


async def test_counters_go_by_direction() -> None:
    async with running(framing=Framing.LENGTH16) as (made, peer, other):
        assert made.pump.stats == BridgeStats()
        await peer.send(b"\0\3one")
        assert await other.receive() == b"one"
        await other.send(b"four")
        assert await peer.receive() == b"\0\4four"
        assert made.pump.stats == BridgeStats(
            BridgeFlow(4, 1, 0, 0), BridgeFlow(3, 1, 0, 0)
        )


@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
async def test_a_direction_that_is_not_bridged_counts_nothing(direction: str) -> None:
    only = {"encrypt": direction == "encrypt", "decrypt": direction == "decrypt"}
    async with running(**only) as (made, peer, other):
        source, target = (other, peer) if only["encrypt"] else (peer, other)
        await source.send(b"x")
        assert await target.receive() == b"x"
        flow = BridgeFlow(1, 0, 0, 0)
        assert made.pump.stats == BridgeStats(**{direction: flow})
        await source.end()
        assert (await made.end()).reason == "eof"


async def test_idle_bridges_end_in_time(autojump_clock: MockClock) -> None:
    async with running(idle_timeout=1000.0) as (made, peer, other):
        await loops.sleep(900)
        await peer.send(b"x")
        assert await other.receive() == b"x"
        begun = loops.current_time()
        await loops.sleep(900)
        assert made.ended is None
        await loops.sleep(200)
        assert made.ended == BridgeEnd("connection", "decrypt", "idle")
        assert begun + 1000 <= loops.current_time() <= begun + 1101


async def test_stopping_ends_in_time(autojump_clock: MockClock) -> None:
    async with joined("plain", "unix") as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, _):
            async with bridged(python_pump, connection, sink) as made:
                with loops.move_on_after(1):
                    await peer.send(bytes(1 << 22))
                made.pump.stop(100)
                await loops.sleep(90)
                assert made.pump.ended is None
                # A second one does not make it shorter.
                made.pump.stop(1)
                await loops.sleep(5)
                assert made.pump.ended is None
                await loops.sleep(10)
                assert made.pump.ended == STOPPED
                assert made.pump.remains().unread


async def test_it_may_fail_while_it_stops(
    autojump_clock: MockClock,
) -> None:
    async with joined("plain", "unix") as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, other):
            async with bridged(python_pump, connection, sink) as made:
                with loops.move_on_after(1):
                    await peer.send(bytes(1 << 22))
                made.pump.stop(1000)
                other.close()
                await loops.sleep(100)
                assert made.pump.ended == BridgeEnd("sink", "decrypt", "sink")


async def test_a_report_is_held_up_for_five_seconds_at_most(
    autojump_clock: MockClock,
) -> None:
    async with joined("plain", "tcp") as (connection, peer):
        with sink_of("unix", buffer=4608) as (sink, _):
            async with bridged(python_pump, connection, sink) as made:
                with loops.move_on_after(1):
                    await peer.send(bytes(1 << 24))
                peer.reset()
                await loops.sleep(4)
                assert made.pump.ended is None
                await loops.sleep(3)
                assert made.pump.ended == BridgeEnd("connection", "decrypt", "reset")


async def test_it_can_be_stopped_before_it_has_started() -> None:
    async with running(start=False, to_sink=b"early") as (made, _, _):
        made.pump.stop(1.0)
        assert made.pump.ended == STOPPED
        assert made.pump.remains() == Remains(unread=b"early")


async def test_what_a_connection_owes_goes_by_its_kind() -> None:
    for kind, name in (("plain", "owed"), ("tls", "owed_clear")):
        async with joined(kind) as (connection, _):  # type: ignore[arg-type]
            async with joined(kind) as (sink, _):  # type: ignore[arg-type]
                async with bridged(
                    python_pump,
                    connection,
                    sink,
                    start=False,
                    to_sink=b"one",
                    to_connection=b"two",
                ) as made:
                    made.pump.abandon()
                    assert made.pump.remains() == Remains(
                        **{f"sink_{name}": b"one", name: b"two"}
                    )


async def test_remains_are_for_the_end() -> None:
    async with running() as (made, _, _):
        with pytest.raises(AssertionError, match="not ended"):
            made.pump.remains()


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_fd_of_its_end_is_there_as_long_as_the_pump_is(loop: str) -> None:
    made: list[Any] = []

    async def main(near: socket.socket, given: Any) -> None:
        made.extend(pump_of(near, given))
        made[1].start()
        await loops.settle()
        assert select.select([made[1]], [], [], 0)[0] == []

    with streams() as (near, _), sink_of("unix") as (given, _):
        before = Snapshot.take()
        loops.run(loop, main, near, given)
        made.pop(0).restore()
        assert select.select(made, [], [], 0)[0] == made
        assert len(Snapshot.take().news(before)) == 1
        made.clear()
        assert left_behind(before) == []


def pump_of(near: socket.socket, given: Any, **members: Any) -> Any:
    sink = open_sink(given, reading=True, writing=True)
    pump = python_pump(
        current(), Work(lend(PlainConnection(near)), sink.end, **members), lambda: None
    )
    return sink, pump


@pytest.mark.parametrize("idle_timeout", [1000.0, float("inf")])
@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_event_loop_is_its_end(loop: str, idle_timeout: float) -> None:
    made: list[Any] = []

    async def main(near: socket.socket, given: Any) -> None:
        made.extend(pump_of(near, given, idle_timeout=idle_timeout))
        made[1].start()
        await loops.settle()

    with streams() as (near, _), sink_of("unix") as (given, _):
        loops.run(loop, main, near, given)
        sink, pump = made
        sink.restore()
        assert pump.ended == CLOSED


async def test_a_failure_ends_it_whatever_the_other_direction_does() -> None:
    # The sink has nothing more to say, but is there; the connection breaks.
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(python_pump, connection, sink) as made:
            await other.end()
            await made.until_finished("encrypt")
            peer.cut()
            end = await made.end()
            assert end == BridgeEnd("connection", "decrypt", "truncated")
            assert made.finished == {"encrypt"}


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_where_there_is_no_loop_any_more_it_does_not_start(loop: str) -> None:
    made: list[Any] = []

    async def main(near: socket.socket, given: Any) -> None:
        made.extend(pump_of(near, given))

    with streams() as (near, _), sink_of("unix") as (given, _):
        loops.run(loop, main, near, given)
        sink, pump = made
        with pytest.raises(RuntimeError):
            pump.start()
        sink.restore()
        assert pump.ended == CLOSED


async def test_what_nobody_thought_of_ends_it_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = RuntimeError("a mistake")

    class Wrong(socket.socket):
        def recv_into(self, *_: Any) -> int:
            raise error

    near, far = socket.socketpair()
    with far, Wrong(fileno=near.detach()) as wrong:
        wrong.setblocking(False)
        with sink_of("unix") as (given, _):
            async with bridged(python_pump, PlainConnection(wrong), given) as made:
                end = await made.end()
                assert end == CLOSED
                assert end.error is error
    assert "a mistake" in caplog.text


async def test_with_packets_one_end_ends_both() -> None:
    async with joined("plain") as (connection, peer):
        async with either("seqpacket") as (sink, other):
            async with bridged(
                python_pump, connection, sink, framing=Framing.IP
            ) as made:
                await other.put(packet(40))
                other.cut()
                with loops.fail_after(WITHIN):
                    assert await peer.receive_to_end() == packet(40)
                assert await made.end() == BridgeEnd("sink", "encrypt", "eof")
                assert made.finished == {"encrypt"}


async def test_the_first_failure_is_the_one_that_counts() -> None:
    async with running() as (made, peer, other):
        await other.send(b"last")
        other.close()
        await peer.send(b"for nobody")
        with loops.fail_after(WITHIN):
            assert await peer.receive() == b"last"
        end = await made.end()
        assert end.side == "sink"
        # Whatever the other lane met after that is nobody's business.
        made.pump.stop(1)
        assert made.pump.ended is end


async def test_the_guard_of_a_connection_that_is_only_written_to() -> None:
    async with joined("plain") as (connection, peer), either("unix") as (sink, _):
        async with bridged(python_pump, connection, sink, decrypt=False) as running:
            await loops.settle()
            peer.reset()
            assert await running.end() == BridgeEnd("connection", "encrypt", "reset")
        # It may be over before the guard begins.
        before = Snapshot.take()
        async with bridged(python_pump, connection, sink, decrypt=False) as running:
            running.pump.abandon()
        assert left_behind(before) == []
