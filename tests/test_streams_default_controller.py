"""The default controller: a queue, a source to pull, reads that are cancelled."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from tests import loops
from tests.loopback import settle
from wsockets import (
    Promise,
    ReadableStreamBYOBReader,
    ReadableStreamDefaultReader,
    ReadResult,
)
from wsockets.promise import fulfilled, rejected
from wsockets.runtime import current
from wsockets.streams.default_controller import ReadableStreamDefaultController

pytestmark = pytest.mark.every_loop


@attrs.define(eq=False)
class Source:
    """A source that writes down what it is asked for."""

    high_water_mark: float = 1
    size: Any = None
    pulls: int = 0
    cancelled: list[object] = attrs.field(factory=list)
    discarded: list[object] = attrs.field(factory=list)
    # What the methods return; an exception is raised.
    on_pull: Any = None
    on_cancel: Any = None
    controller: Any = None

    def pull(self) -> Any:
        self.pulls += 1
        return self._outcome(self.on_pull)

    def cancel(self, reason: object) -> Any:
        self.cancelled.append(reason)
        return self._outcome(self.on_cancel)

    def _outcome(self, outcome: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome() if callable(outcome) else outcome

    def start(self) -> ReadableStreamDefaultController:
        self.controller = ReadableStreamDefaultController._set_up(
            current(),
            pull=self.pull,
            cancel=self.cancel,
            high_water_mark=self.high_water_mark,
            size=self.size,
            discard=self.discarded.append,
        )
        self.controller._start()
        made: ReadableStreamDefaultController = self.controller
        return made


async def test_chunks_of_any_kind_come_in_order_and_then_the_end() -> None:
    controller = Source().start()
    chunks = [object(), None, "text", b""]
    for chunk in chunks:
        controller.enqueue(chunk)
    controller.close()
    reader = controller.stream.getReader()
    for chunk in chunks:
        value, done = await reader.read()
        assert value is chunk
        assert not done
    await reader.closed
    assert await reader.read() == (None, True)


async def test_a_waiting_read_is_given_the_next_chunk_past_the_queue() -> None:
    weighed: list[object] = []

    def weigh(chunk: object) -> int:
        weighed.append(chunk)
        return 1

    source = Source(size=weigh)
    controller = source.start()
    reader = controller.stream.getReader()
    first, second = reader.read(), reader.read()
    controller.enqueue("a")
    controller.enqueue("b")
    assert (await second).value == "b"
    assert (await first).value == "a"
    assert weighed == []
    controller.enqueue("c")
    assert weighed == ["c"]
    assert (await reader.read()).value == "c"


async def test_the_source_is_pulled_while_there_is_room_or_somebody_waits() -> None:
    source = Source(high_water_mark=2)
    controller = source.start()
    assert source.pulls == 1
    assert controller.desiredSize == controller.desired_size == 2
    controller.enqueue(1)
    assert source.pulls == 2
    controller.enqueue(2)
    controller.enqueue(3)
    assert source.pulls == 2
    assert controller.desiredSize == -1
    reader = controller.stream.getReader()
    assert [(await reader.read()).value for _ in range(2)] == [1, 2]
    assert source.pulls == 3
    assert (await reader.read()).value == 3
    waiting = reader.read()
    assert source.pulls == 5
    assert controller._should_call_pull(1000)
    controller.enqueue(4)
    assert (await waiting).value == 4
    assert controller._should_call_pull(1)
    assert not controller._should_call_pull(2)


async def test_a_stream_without_room_pulls_for_readers_only() -> None:
    source = Source(high_water_mark=0)
    controller = source.start()
    assert source.pulls == 0
    reader = controller.stream.getReader()
    read = reader.read()
    assert source.pulls == 1
    controller.enqueue("x")
    assert source.pulls == 1
    assert (await read).value == "x"


async def test_the_size_of_chunks_is_the_sources_to_say() -> None:
    controller = Source(high_water_mark=10, size=len).start()
    controller.enqueue("four")
    assert controller.desiredSize == 6
    reader = controller.stream.getReader()
    await reader.read()
    assert controller.desiredSize == 10
    endless = Source(high_water_mark=math.inf).start()
    endless.enqueue(1)
    assert endless.desiredSize == math.inf


async def test_a_pull_that_is_under_way_is_not_repeated_but_followed() -> None:
    promises: list[Promise[None]] = []

    def pulled() -> Promise[None]:
        promises.append(Promise(current()))
        return promises[-1]

    source = Source(high_water_mark=3, on_pull=pulled)
    controller = source.start()
    controller.enqueue(1)
    controller.enqueue(2)
    assert source.pulls == 1
    promises[0]._fulfil(None)
    await settle()
    assert source.pulls == 2
    promises[1]._fulfil(None)
    await settle()
    assert source.pulls == 2  # nothing has happened since


async def test_a_pull_that_fails_errors_the_stream() -> None:
    for failing in (
        OSError("no more"),
        lambda: rejected(current(), OSError("no more")),
    ):
        controller = Source(on_pull=failing).start()
        await settle()
        assert controller.desiredSize is None
        reader = controller.stream.getReader()
        with pytest.raises(OSError, match="no more"):
            await reader.read()


async def test_a_pull_may_enqueue_at_once() -> None:
    source = Source(high_water_mark=3)

    def fill() -> None:
        source.controller.enqueue(source.pulls)

    source.on_pull = fill
    controller = source.start()
    assert source.pulls == 3
    reader = controller.stream.getReader()
    assert [(await reader.read()).value for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_an_error_drops_the_queue_and_rejects_reads() -> None:
    source = Source()
    controller = source.start()
    controller.enqueue("never read")
    reader = controller.stream.getReader()
    error = ValueError("broken")
    controller.error(error)
    controller.error(ValueError("a second one"))
    assert source.discarded == ["never read"]
    with pytest.raises(ValueError) as caught:
        await reader.read()
    assert caught.value is error
    with pytest.raises(ValueError):
        await reader.closed


async def test_an_error_reaches_a_read_that_waits() -> None:
    controller = Source().start()
    read = controller.stream.getReader().read()
    controller.error(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await read


async def test_cancelling_drops_the_queue_and_tells_the_source() -> None:
    source = Source()
    controller = source.start()
    controller.enqueue(1)
    controller.enqueue(2)
    await controller.stream.cancel("enough")
    assert source.cancelled == ["enough"]
    assert source.discarded == [1, 2]
    assert controller.desiredSize == 0
    assert await controller.stream.getReader().read() == (None, True)

    failing = Source(on_cancel=OSError("cannot stop")).start()
    with pytest.raises(OSError, match="cannot stop"):
        await failing.stream.cancel()
    later = Source(on_cancel=lambda: fulfilled(current(), None)).start()
    await later.stream.cancel()


async def test_nothing_can_be_added_after_the_end() -> None:
    controller = Source().start()
    controller.enqueue("the last")
    controller.close()
    with pytest.raises(TypeError, match="takes no chunk"):
        controller.close()
    with pytest.raises(TypeError, match="takes no chunk"):
        controller.enqueue(1)
    reader = controller.stream.getReader()
    assert (await reader.read()).value == "the last"
    assert (await reader.read()).done


async def test_a_closed_stream_ends_waiting_reads() -> None:
    controller = Source().start()
    reader = controller.stream.getReader()
    reads = [reader.read(), reader.read()]
    controller.close()
    assert [(await read).done for read in reads] == [True, True]


async def test_a_reader_that_lets_go_rejects_its_reads_and_takes_nothing() -> None:
    controller = Source().start()
    reader = controller.stream.getReader()
    read = reader.read()
    reader.releaseLock()
    with pytest.raises(TypeError, match="released"):
        await read
    controller.enqueue("for the next")
    assert (await controller.stream.getReader().read()).value == "for the next"


async def test_there_are_no_byob_readers() -> None:
    controller = Source().start()
    for call in (
        lambda: controller.stream.getReader(mode="byob"),
        lambda: ReadableStreamBYOBReader(controller.stream),
    ):
        with pytest.raises(TypeError, match="byte stream"):
            call()  # type: ignore[no-untyped-call]
    assert not controller.stream.locked
    with pytest.raises(TypeError, match="byte stream"):
        await controller.pull_into(memoryview(bytearray(1)), 1)
    with pytest.raises(TypeError, match="not constructed"):
        ReadableStreamDefaultController()


# -- cancellation


async def test_a_timeout_takes_no_chunk_with_it() -> None:
    controller = Source().start()
    reader = controller.stream.getReader()
    read = reader.read()
    with loops.move_on_after(0):
        await read
    controller.enqueue("kept")
    assert (await reader.read()).value == "kept"
    # Awaiting it again takes part again.
    controller.enqueue("for the first")
    assert (await read).value == "for the first"


@pytest.mark.only_trio("on asyncio a task is cancelled where it waits")
async def test_a_caller_that_is_cancelled_already_takes_nothing() -> None:
    controller = Source().start()
    controller.enqueue("kept")
    reader = controller.stream.getReader()
    with loops.CancelScope() as scope:
        scope.cancel()
        await reader.read()
        raise AssertionError
    assert scope.cancelled_caught
    assert (await reader.read()).value == "kept"


async def test_a_chunk_that_comes_while_a_cancellation_is_on_its_way_is_not_lost() -> (
    None
):
    controller = Source().start()
    reader = controller.stream.getReader()
    got = []

    async def read(scope: loops.CancelScope) -> None:
        with scope:
            got.append((await reader.read()).value)

    for followed in (False, True):
        got.clear()
        first, second = loops.CancelScope(), loops.CancelScope()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(read, first)
            await settle()
            if followed:
                nursery.start_soon(read, second)
                await settle()
            first.cancel()
            # The task has not run yet; the chunk is for whoever comes next.
            controller.enqueue("chunk")
            await settle()
            if not followed:
                assert got == []
                assert (await reader.read()).value == "chunk"
        assert first.cancelled_caught
        assert got == (["chunk"] if followed else [])


async def test_a_read_that_several_await_survives_one_of_them() -> None:
    controller = Source().start()
    read = controller.stream.getReader().read()
    got = []
    gone = loops.CancelScope()

    async def wait(scope: loops.CancelScope) -> None:
        with scope:
            got.append((await read).value)

    async with loops.open_nursery() as nursery:
        nursery.start_soon(wait, gone)
        nursery.start_soon(wait, loops.CancelScope())
        await settle()
        gone.cancel()
        controller.enqueue("for the other")
    assert got == ["for the other"]


async def test_a_reaction_keeps_a_read_in_line() -> None:
    controller = Source().start()
    read = controller.stream.getReader().read()
    seen: list[object] = []
    read.then(lambda result: seen.append(result.value))
    with loops.move_on_after(0):
        await read
    controller.enqueue("for the reaction")
    await settle()
    assert seen == ["for the reaction"]


def read_cancelled(reader: ReadableStreamDefaultReader) -> Promise[ReadResult]:
    """A read of a task that is cancelled already, and has not noticed."""
    reads = []
    with loops.CancelScope() as scope:
        scope.cancel()
        reads.append(reader.read())
    return reads[0]


async def test_a_cancelled_callers_read_is_served_for_its_reaction() -> None:
    controller = Source().start()
    controller.enqueue("chunk")
    reader = controller.stream.getReader()
    seen: list[object] = []
    read = read_cancelled(reader)
    read.then(lambda result: seen.append(result.value))
    await settle()
    assert seen == ["chunk"]


async def test_a_read_given_up_gets_the_news_when_it_is_awaited_again() -> None:
    async def given_up(controller: ReadableStreamDefaultController) -> tuple[Any, Any]:
        reader = controller.stream.getReader()
        read = reader.read()
        with loops.move_on_after(0):
            await read
        return read, reader

    controller = Source().start()
    read, _ = await given_up(controller)
    controller.close()
    assert (await read).done

    read, _ = await given_up(failing := Source().start())
    failing.error(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await read

    read, reader = await given_up(Source().start())
    reader.releaseLock()
    with pytest.raises(TypeError, match="released"):
        await read


async def test_a_read_in_a_cancelled_scope_is_served_when_awaited_outside() -> None:
    controller = Source().start()
    controller.enqueue("chunk")
    reader = controller.stream.getReader()
    read = read_cancelled(reader)
    assert (await read).value == "chunk"


async def test_iteration_ends_with_the_stream() -> None:
    controller = Source().start()
    for number in range(3):
        controller.enqueue(number)
    controller.close()
    seen: list[Any] = [chunk async for chunk in controller.stream]
    assert seen == [0, 1, 2]
