"""What plain tasks of asyncio see: cancelled once, by whatever means asyncio has.

The other tests use anyio's scopes, which cancel again and again. Here nothing
but asyncio is used.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from tests.leaks import Snapshot, left_behind
from tests.loopback import Peer, Secure, connected
from tests.loops import settle
from tests.network import black_hole
from wsockets import (
    Promise,
    ReadableStreamDefaultReader,
    Socket,
    SocketError,
    adopt,
    connect,
)
from wsockets.promise import fulfilled
from wsockets.runtime import Line, Runtime, current
from wsockets.runtime._asyncio import AsyncioRuntime

Main = Callable[[], Awaitable[Any]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`asyncio.run()`, on asyncio's own event loop or on uvloop's."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def run(main: Main) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())  # type: ignore[arg-type]

    return run


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@asynccontextmanager
async def reading(
    secure: Secure = "off",
) -> AsyncIterator[tuple[ReadableStreamDefaultReader, Peer]]:
    async with connected(secure) as (made, peer):
        yield made.readable.getReader(), peer


def unsent(sock: Socket) -> Promise[None]:
    """A write that the system takes only a part of."""
    return sock.writable.getWriter().write(bytes(8 << 20))


# -- a read that is given up


async def by_timeout(reader: ReadableStreamDefaultReader) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader.read()


async def by_wait_for(reader: ReadableStreamDefaultReader) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 0.01)


async def by_cancel(reader: ReadableStreamDefaultReader) -> None:
    task = asyncio.create_task(reader.read().wait())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_a_task_group(reader: ReadableStreamDefaultReader) -> None:
    async def fail() -> None:
        await settle()
        raise KeyError("mine")

    with pytest.RaisesGroup(KeyError):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await reader.read()


@pytest.mark.parametrize(
    "give_up", [by_timeout, by_wait_for, by_cancel, by_a_task_group]
)
def test_a_read_that_is_given_up_swallows_nothing(
    run: Callable[..., Any],
    secure: Secure,
    give_up: Callable[[ReadableStreamDefaultReader], Awaitable[None]],
) -> None:
    async def main() -> None:
        async with reading(secure) as (reader, peer):
            for number in range(3):
                await give_up(reader)
                await peer.send(b"%d" % number)
                assert (await reader.read()).value == b"%d" % number

    run(main)


def test_every_chunk_is_read_by_somebody_however_often_reads_are_cancelled(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        got = bytearray()
        async with reading() as (reader, peer):

            async def read() -> None:
                result = await reader.read()
                got.extend(result.value or b"")

            for number in range(500):
                tasks = [asyncio.create_task(read()) for _ in range(3)]
                await asyncio.sleep(0)
                await peer.send(bytes((number % 256,)))
                # At every moment between the arrival and the last step.
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await peer.end()
            while not (result := await reader.read()).done:
                got.extend(result.value or b"")
        assert got == bytes(number % 256 for number in range(500))

    run(main)


def test_a_cancelled_write_is_still_sent(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected() as (made, peer):
            task = asyncio.create_task(unsent(made).wait())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await peer.receive_exactly(8 << 20)

    run(main)


def test_a_timeout_round_the_context_manager_leaves_nothing(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            current()
            before = Snapshot.take()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    async with connect(address, secureTransport="on", sni="x") as made:
                        raise AssertionError(made)
            await settle()
            assert not left_behind(before)

    run(main)


def test_cancelling_a_flushing_close_aborts(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected() as (made, _):
            unsent(made)
            task = asyncio.create_task(made.close().wait())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not made.closed._is_pending()

    run(main)


# -- a sleeper that is woken and cancelled at once


async def woken_and_cancelled(
    body: Callable[[Runtime], Awaitable[Any]],
) -> asyncio.Task[Any]:
    """A task that sleeps in a line, is woken, and cancelled before it runs."""
    line: Line = {}
    runtime = current()

    async def sleeper() -> Any:
        await runtime.park(line)
        return await body(runtime)

    task = asyncio.create_task(sleeper())
    await settle()
    runtime.wake(line)
    task.cancel("its words")
    await asyncio.wait([task])
    return task


def test_it_returns_and_its_next_wait_raises(run: Callable[..., Any]) -> None:
    order: list[str] = []

    async def main() -> None:
        async def go_on(runtime: Runtime) -> None:
            order.append("woken")
            assert runtime.cancelled_now()
            await runtime.shielded_checkpoint()
            order.append("shielded")
            with pytest.raises(asyncio.CancelledError, match="its words"):
                await runtime.park({})
            order.append("cancelled")
            assert not runtime.cancelled_now()

        async def wait_elsewhere(_: Runtime) -> None:
            with pytest.raises(asyncio.CancelledError, match="its words"):
                await asyncio.sleep(60)
            order.append("elsewhere")

        async def check(runtime: Runtime) -> None:
            with pytest.raises(asyncio.CancelledError, match="its words"):
                await runtime.checkpoint()
            order.append("checkpoint")

        for body in (go_on, wait_elsewhere, check):
            await woken_and_cancelled(body)

    run(main)
    assert order == ["woken", "shielded", "cancelled", "elsewhere", "checkpoint"]


def test_what_it_returns_is_not_lost_with_its_task(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async def value(_: Runtime) -> str:
            return "the value"

        task = await woken_and_cancelled(value)
        assert task.result() == "the value"

    run(main)


def test_a_timeout_that_comes_too_late_cancels_nothing_else(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        line: Line = {}
        runtime = current()

        async def sleeper() -> None:
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await runtime.park(line)
            await asyncio.sleep(0)
            await runtime.park(line)

        timeouts: list[asyncio.Timeout] = []
        task = asyncio.create_task(sleeper())
        await settle()
        timeouts[0].reschedule(-1)
        # Its callback is in the loop's queue now; the sleeper comes after it.
        await asyncio.sleep(0)
        runtime.wake(line)
        await settle()
        if task.done():
            with pytest.raises(TimeoutError):
                await task
        else:
            runtime.wake(line)
            await task

    run(main)


def test_a_cancelled_sleeper_has_left_its_line(run: Callable[..., Any]) -> None:
    async def main() -> None:
        line: Line = {}
        runtime = current()
        first = asyncio.create_task(runtime.park(line))
        second = asyncio.create_task(runtime.park(line))
        await settle()
        first.cancel("a reason")
        assert len(line) == 1
        runtime.wake(line, 1)
        await second
        with pytest.raises(asyncio.CancelledError, match="a reason"):
            await first

    run(main)


def test_a_task_that_cancels_itself_reads_nothing(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with reading() as (reader, peer):
            await peer.send(b"kept")

            async def read() -> None:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await reader.read()

            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(read())
            assert (await reader.read()).value == b"kept"

    run(main)


# -- scopes


def test_a_cancellation_from_outside_passes_through_a_scope(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        runtime = current()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                with runtime.scope(60) as scope:
                    await runtime.park({})
        assert not scope.cancelled_caught
        with runtime.scope(0.001) as outer, runtime.scope(60) as inner:
            await asyncio.sleep(60)
        assert outer.cancelled_caught
        assert not inner.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    run(main)


def test_a_scope_that_was_left_cancels_nobody(run: Callable[..., Any]) -> None:
    async def main() -> None:
        runtime = current()
        with runtime.scope(0) as scope:
            scope.cancel()
            await runtime.shielded_checkpoint()
        assert not scope.cancelled_caught
        await runtime.checkpoint()
        await asyncio.sleep(0.001)
        with runtime.scope() as scope:
            pass
        scope.cancel()
        await asyncio.sleep(0)

    run(main)


def test_the_outer_of_two_scopes_is_given_up_from_inside(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        runtime = current()
        line: Line = {}
        with runtime.scope() as outer, runtime.scope() as inner:
            outer.cancel()
            await runtime.park({})
        assert outer.cancelled_caught
        assert not inner.cancelled_caught
        other = asyncio.create_task(sleep_in(line))
        with runtime.scope() as scope:
            scope.cancel()
            # The other task waits before this one is told.
            await asyncio.sleep(0)
            await asyncio.sleep(60)
        assert scope.cancelled_caught
        runtime.wake(line)
        await other

    async def sleep_in(line: Line) -> None:
        await current().park(line)

    run(main)


def test_its_deadline_can_be_moved(run: Callable[..., Any]) -> None:
    async def main() -> None:
        runtime = current()
        with runtime.scope(60) as scope:
            runtime.extend(scope, 0.001)
            await runtime.park({})
        assert scope.cancelled_caught
        with runtime.scope(0.001) as scope:
            runtime.extend(scope, 60)
            await asyncio.sleep(0.01)
        assert not scope.cancelled_caught
        early = runtime.scope(60)
        runtime.extend(early, 0.001)
        with early:
            await runtime.park({})
        assert early.cancelled_caught

    run(main)


def test_a_shield_keeps_cancellations_until_its_end(
    run: Callable[..., Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    order: list[str] = []

    async def main() -> None:
        runtime = current()
        line: Line = {}
        readable = asyncio.Event()

        async def shielded() -> None:
            with runtime.scope(60, shield=True):
                await runtime.wait_readable(pair[0].fileno())
                order.append("readable")
                readable.set()
                await runtime.park(line)
                order.append("woken")
            await runtime.checkpoint()

        task = asyncio.create_task(shielded())
        await settle()
        task.cancel("the first")
        await settle()
        pair[1].send(b"x")
        await readable.wait()
        await settle()
        task.cancel("the second")
        await settle()
        runtime.wake(line)
        with pytest.raises(asyncio.CancelledError, match="the first"):
            await task

        async def limited() -> None:
            with runtime.scope(0.01, shield=True) as scope:
                await runtime.park({})
            assert scope.cancelled_caught
            order.append("over")

        await asyncio.create_task(limited())

    run(main)
    assert order == ["readable", "woken", "over"]


def test_behind_a_shield_one_who_is_cancelled_can_be_woken_at_once(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        runtime = current()
        line: Line = {}

        async def sleep() -> None:
            with runtime.scope(shield=True):
                await runtime.park(line)
            await asyncio.sleep(60)

        task = asyncio.create_task(sleep())
        await settle()
        task.cancel()
        # Before it has a turn in which it could lie down again.
        runtime.wake(line)
        async with asyncio.timeout(10):
            await asyncio.wait([task])
        assert task.cancelled()

    run(main)


def test_a_shield_lets_turns_pass(run: Callable[..., Any]) -> None:
    async def main() -> None:
        runtime = current()
        turns = 0

        async def shielded() -> None:
            nonlocal turns
            with runtime.scope(shield=True):
                while turns < 100:
                    turns += 1
                    await runtime.checkpoint()
            await asyncio.sleep(60)

        task = asyncio.create_task(shielded())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert turns == 100

    run(main)


# -- turns


def test_a_task_that_always_finds_something_lets_others_run(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        promise = fulfilled(current(), 1)
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(1000):
            await promise
        assert 10 < others < 1000
        task.cancel()

        async def endless(wait: Callable[[], Awaitable[None]]) -> None:
            while not current().cancelled_now():
                await wait()
            await current().checkpoint()

        for wait in (current().checkpoint, current().shielded_checkpoint):
            task = asyncio.create_task(endless(wait))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main)


# -- descriptors


def test_two_directions_of_one_fd_are_waited_for(
    run: Callable[..., Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    def fill() -> None:
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(65536))

    def drain() -> None:
        with suppress(BlockingIOError):
            while theirs.recv(65536):
                pass

    async def main() -> None:
        runtime = current()
        fd = ours.fileno()
        for first in ("read", "write"):
            fill()
            reader = asyncio.ensure_future(runtime.wait_readable(fd))
            writer = asyncio.ensure_future(runtime.wait_writable(fd))
            await settle()
            with pytest.raises(RuntimeError, match="another task"):
                await runtime.wait_readable(fd)
            if first == "read":
                theirs.send(b"x")
                await reader
                assert not writer.done()
                ours.recv(1)
                drain()
                await writer
            else:
                drain()
                await writer
                assert not reader.done()
                theirs.send(b"x")
                await reader
                ours.recv(1)
        fill()
        both = [
            asyncio.ensure_future(wait(fd))
            for wait in (runtime.wait_readable, runtime.wait_writable)
        ]
        await settle()
        theirs.close()
        await asyncio.gather(*both)

    run(main)


def test_a_number_that_is_used_again_is_another_fd(run: Callable[..., Any]) -> None:
    async def main() -> None:
        runtime = current()
        number = -1
        for _ in range(3):
            ours, theirs = socket.socketpair()
            with theirs:
                assert number in (-1, ours.fileno())
                number = ours.fileno()
                # Closed without a word after the wait, as a dropped socket is.
                with ours:
                    theirs.send(b"x")
                    await runtime.wait_readable(number)

    run(main)


def test_released_and_cancelled_at_once_is_cancelled(
    run: Callable[..., Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    async def main() -> None:
        runtime = current()
        fd = pair[0].fileno()
        for release_first in (True, False):
            task = asyncio.ensure_future(runtime.wait_readable(fd))
            await settle()
            if release_first:
                runtime.notify_closing(fd)
                task.cancel()
            else:
                task.cancel()
                runtime.notify_closing(fd)
            with pytest.raises(asyncio.CancelledError):
                await task
        task = asyncio.ensure_future(runtime.wait_readable(fd))
        await settle()
        runtime.notify_closing(fd)
        with pytest.raises(runtime.Released, match="about to be closed"):
            await task

    run(main)


def test_an_exception_that_ends_the_loop_costs_no_event(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    class Gone(SystemExit):
        pass

    async def leave(fd: int) -> None:
        await current().wait_readable(fd)
        raise Gone

    async def stay(fd: int) -> str:
        await current().wait_readable(fd)
        return "stayed"

    others = socket.socketpair()
    with others[0], others[1], asyncio.Runner() as runner:
        loop = runner.get_loop()
        tasks = [
            loop.create_task(leave(pair[0].fileno())),
            loop.create_task(stay(others[0].fileno())),
        ]
        loop.run_until_complete(settle_apart_from(tasks))
        pair[1].send(b"x")
        others[1].send(b"x")
        with pytest.raises(Gone):
            loop.run_until_complete(tasks[1])
        assert loop.run_until_complete(tasks[1]) == "stayed"
        with pytest.raises(Gone):
            tasks[0].result()


async def settle_apart_from(tasks: list[asyncio.Task[Any]]) -> None:
    await settle()
    assert not any(task.done() for task in tasks)


# -- tasks


def test_a_task_begins_even_if_it_is_cancelled_first(run: Callable[..., Any]) -> None:
    order: list[object] = []

    async def begin(what: str) -> None:
        order.append(what)
        try:
            await current().park({})
        except asyncio.CancelledError:
            order.append("cancelled")
            raise

    async def main() -> None:
        with pytest.RaisesGroup(KeyError):
            async with asyncio.TaskGroup() as group:
                current().spawn(begin, "in a group", nursery=group)
                raise KeyError
        current().spawn(begin, "alone")

    run(main)
    assert order == ["in a group", "cancelled", "alone", "cancelled"]


def test_a_task_is_not_begun_inside_of_the_call(run: Callable[..., Any]) -> None:
    begun: list[int] = []

    async def begin() -> None:
        begun.append(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if sys.version_info >= (3, 12):
            loop.set_task_factory(asyncio.eager_task_factory)
        current().spawn(begin)
        assert not begun
        loop.set_task_factory(None)
        await settle()
        assert begun

    run(main)


def test_a_task_group_that_is_over_takes_none(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            pass
        with pytest.raises(RuntimeError, match="finished"):
            current().spawn(settle, nursery=group)

    run(main)


def test_a_task_is_started_in_its_loop_only(run: Callable[..., Any]) -> None:
    found: list[Runtime] = []

    async def main() -> None:
        found.append(current())

    run(main)
    with pytest.raises(RuntimeError, match="inside of its event loop"):
        found[0].spawn(settle)


def test_a_callback_of_the_loop_can_connect(run: Callable[..., Any]) -> None:
    async def main() -> None:
        made: asyncio.Future[Socket] = asyncio.get_running_loop().create_future()
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            asyncio.get_running_loop().call_soon(
                lambda: made.set_result(connect(address))
            )
            async with await made:
                server.accept()[0].close()

    run(main)


def test_a_callback_may_read_and_write(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected() as (made, peer):
            reader, writer = made.readable.getReader(), made.writable.getWriter()
            echoed = asyncio.get_running_loop().create_future()

            def echo(result: Any) -> None:
                writer.write(result.value)
                echoed.set_result(None)

            reader.read().then(echo)
            await peer.send(b"there and back")
            await echoed
            assert await peer.receive() == b"there and back"

    run(main)


# -- the end of the run


def test_what_was_not_sent_is_reported(
    run: Callable[..., Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    kept: list[Socket] = []

    async def main() -> None:
        kept.append(adopt(pair[0]))
        await kept[0].opened
        unsent(kept[0])

    with pytest.warns(ResourceWarning, match="were not sent"):
        run(main)
    kept[0]._connection.close()  # type: ignore[union-attr]


def test_what_was_written_before_it_connected_is_reported(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        host, port = hole.getsockname()
        made = connect(f"{host}:{port}")
        made.writable.getWriter().write(b"lost")

    with black_hole() as hole, pytest.warns(ResourceWarning, match="4 bytes"):
        run(main)


def test_lingering_sockets_get_their_time(run: Callable[..., Any]) -> None:
    got = bytearray()
    size = 4 << 20

    def receive(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            while data := peer.recv(65536):
                got.extend(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=receive, args=(server,))
        thread.start()

        async def main() -> None:
            async with connect(f"127.0.0.1:{server.getsockname()[1]}") as made:
                await made.writable.getWriter().write(bytes(size))

        run(main)
        thread.join()
    assert len(got) == size


def test_a_loop_that_is_run_twice_has_one_runtime() -> None:
    async def found() -> Runtime:
        return current()

    loop = asyncio.new_event_loop()
    try:
        first = loop.run_until_complete(found())
        other = asyncio.run(found())
        assert loop.run_until_complete(found()) is first
        assert other is not first
    finally:
        loop.close()


def test_a_loop_that_was_shut_down_can_go_on(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def wait() -> Runtime:
        await current().wait_readable(pair[0].fileno())
        return current()

    pair[1].send(b"x")
    loop = asyncio.new_event_loop()
    try:
        first = loop.run_until_complete(wait())
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert loop.run_until_complete(wait()) is first
    finally:
        loop.close()


def test_a_loop_that_is_only_closed_leaves_nothing_behind() -> None:
    before = Snapshot.take()

    async def found() -> Runtime:
        return current()

    loop = asyncio.new_event_loop()
    runtime = weakref.ref(loop.run_until_complete(found()))
    loop.close()
    del loop
    gc.collect()
    assert runtime() is None
    assert not left_behind(before)


def test_sleepers_of_a_closed_loop_are_woken_in_vain() -> None:
    line: Line = {}
    found: list[Runtime] = []

    async def sleeper() -> None:
        found.append(current())
        await current().park(line)

    loop = asyncio.new_event_loop()
    task = loop.create_task(sleeper())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    found[0].wake(line)
    assert not line
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_asynchronous_generators_may_use_sockets_at_the_end(
    run: Callable[..., Any],
) -> None:
    ended: list[bytes] = []

    async def main() -> None:
        ours, theirs = socket.socketpair()

        async def generator() -> AsyncIterator[int]:
            with theirs:
                made = adopt(ours)
                reading = asyncio.ensure_future(made.readable.getReader().read())
                try:
                    yield 1
                finally:
                    theirs.send(b"late")
                    with suppress(asyncio.CancelledError):
                        await reading
                    result = await made.readable._controller.pull()
                    ended.append(result.value)
                    await made.close("done")

        agen = generator()
        await agen.__anext__()
        kept.append(agen)

    kept: list[object] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main)
    assert ended == [b"late"]


def test_promises_belong_to_their_loop(run: Callable[..., Any]) -> None:
    async def make() -> Promise[int]:
        return fulfilled(current(), 1)

    promise = run(make)
    with pytest.raises(RuntimeError, match="another event loop"):
        run(promise.wait)


def test_a_promise_is_what_asyncio_can_await(run: Callable[..., Any]) -> None:
    async def main() -> None:
        promise: Promise[int] = Promise(current())
        task = asyncio.create_task(promise.wait())
        future = asyncio.ensure_future(promise)
        gathered = asyncio.gather(promise, promise)
        shielded = asyncio.shield(promise)
        await settle()
        promise._fulfil(7)
        assert [await task, await future, await shielded] == [7] * 3
        assert list(await gathered) == [7, 7]

    run(main)


def test_a_failing_task_is_logged_and_harms_nobody(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise SystemExit("oops")

    async def main() -> None:
        current().spawn(fail)
        await settle()

    with caplog.at_level(logging.ERROR, "wsockets"):
        run(main)
    assert "oops" in caplog.text


def test_a_stranger_to_both_loops_is_not_needed() -> None:
    code = (
        "import asyncio, sys, wsockets\n"
        "async def main():\n"
        "    s = wsockets.connect('127.0.0.1:1')\n"
        "    try: await s.opened\n"
        "    except wsockets.SocketError as error: print(error.code)\n"
        "asyncio.run(main())\n"
        "print('trio' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.split() == ["refused", "False"]


def test_debug_mode_finds_nothing_to_say() -> None:
    async def main() -> None:
        async with reading() as (reader, peer):
            await peer.send(b"x")
            await reader.read()
        assert isinstance(current(), AsyncioRuntime)
        with pytest.raises(SocketError):
            await connect("127.0.0.1:1").opened

    asyncio.run(main(), debug=True)
