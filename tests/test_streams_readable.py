"""Readers, on a plain and on a TLS connection."""

from __future__ import annotations

import array
import gc

import anyio
import pytest
import trio

from tests import loops
from tests.loopback import Peer, Secure, connected, settle
from tests.naming import named
from wsockets import (
    ReadableStream,
    ReadableStreamBYOBReader,
    ReadableStreamDefaultReader,
    ReadResult,
    SocketError,
)

pytestmark = pytest.mark.every_loop


class Steps(trio.abc.Instrument):
    """Counts how often any task was resumed."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_a_read_gives_a_chunk_and_the_end_is_done(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        assert isinstance(reader, ReadableStreamDefaultReader)
        await peer.send(b"hello")
        result = await reader.read()
        assert result == ReadResult(b"hello", False)
        assert result.value == b"hello"
        value, done = result
        assert (value, done) == (b"hello", False)
        await peer.end()
        assert await reader.read() == (None, True)
        assert await reader.read() == (None, True)
        await reader.closed


async def test_chunks_have_at_most_64_KiB_and_lose_nothing(secure: Secure) -> None:
    data = bytes(range(256)) * 4096
    async with connected(secure) as (socket, peer):
        async with loops.open_nursery() as nursery:

            async def send() -> None:
                await peer.send(data)
                await peer.end()

            nursery.start_soon(send)
            chunks = [chunk async for chunk in socket.readable]
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= 65536 for chunk in chunks)


async def test_reads_are_served_in_order_by_whoever_awaits_any(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        first, second, third = reader.read(), reader.read(), reader.read()
        got: list[bytes] = []

        async def last() -> None:
            got.append((await third).value)

        async with loops.open_nursery() as nursery:
            nursery.start_soon(last)
            for number in range(3):
                await settle()
                await peer.send(b"%d" % number)
        assert (await first).value == b"0"
        assert (await second).value == b"1"
        assert got == [b"2"]


async def test_many_tasks_may_await_reads_at_once(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        got: list[bytes] = []

        async def read() -> None:
            got.append((await reader.read()).value)

        async with loops.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)
            for number in range(5):
                await settle()
                await peer.send(b"%d" % number)
        assert sorted(got) == [b"0", b"1", b"2", b"3", b"4"]


async def test_two_tasks_may_await_the_same_read(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        promise = socket.readable.getReader().read()
        async with loops.open_nursery() as nursery:
            leader = loops.CancelScope()

            async def lead() -> None:
                with leader:
                    await promise

            nursery.start_soon(lead)
            await settle()
            nursery.start_soon(promise.wait)
            await settle()
            leader.cancel()
            await settle()
            await peer.send(b"x")
        assert (await promise).value == b"x"


async def test_a_timeout_never_takes_a_chunk_with_it(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        with loops.move_on_after(0.001) as scope:
            await reader.read()
        assert scope.cancelled_caught
        await peer.send(b"kept")
        assert (await reader.read()).value == b"kept"


async def test_an_abandoned_read_leaves_the_queue_and_can_be_awaited_again(
    secure: Secure,
) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        abandoned = reader.read()
        with loops.move_on_after(0.001):
            await abandoned
        later = reader.read()
        await peer.send(b"for the later one")
        assert (await later).value == b"for the later one"
        await peer.send(b"for the first")
        assert (await abandoned).value == b"for the first"


@pytest.mark.only_trio("on asyncio a task is cancelled where it waits")
async def test_a_cancelled_caller_takes_no_data(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        await peer.send(b"data")
        await anyio.wait_readable(socket._connection.socket)  # type: ignore[union-attr]
        with loops.CancelScope() as scope:
            scope.cancel()
            promise = reader.read()
            await promise
        assert scope.cancelled_caught
        assert (await reader.read()).value == b"data"


@pytest.mark.only_trio("it counts the steps of trio's tasks")
async def test_awaiting_a_settled_read_is_shielded(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        # The first read of TLS may find a ticket.
        await peer.send(b"first")
        assert (await reader.read()).value == b"first"
        await peer.send(b"data")
        await anyio.wait_readable(socket._connection.socket)  # type: ignore[union-attr]
        promise = reader.read()
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        with loops.CancelScope() as scope:
            scope.cancel()
            result = await promise
        trio.lowlevel.remove_instrument(steps)
        assert result.value == b"data"
        assert steps.count, "the event loop had no turn"


async def test_a_leader_that_is_cancelled_hands_over(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        got: list[bytes] = []
        leader = loops.CancelScope()

        async def lead() -> None:
            with leader:
                await reader.read()

        async def follow() -> None:
            got.append((await reader.read()).value)

        async with loops.open_nursery() as nursery:
            nursery.start_soon(lead)
            await settle()
            nursery.start_soon(follow)
            await settle()
            leader.cancel()
            await settle()
            await peer.send(b"x")
        assert got == [b"x"]


async def test_a_callback_on_a_read_makes_it_happen(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        promise = reader.read().then(lambda result: result.value)
        await settle()
        await peer.send(b"x")
        assert await promise == b"x"
        failing = reader.read().catch(lambda error: type(error))
        await settle()
        peer.reset()
        assert await failing is SocketError


async def test_releasing_the_lock_rejects_what_is_pending(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        closed = reader.closed
        pending = reader.read()
        outcome: list[BaseException] = []

        async def wait() -> None:
            try:
                await pending
            except TypeError as error:
                outcome.append(error)

        async with loops.open_nursery() as nursery:
            nursery.start_soon(wait)
            await settle()
            assert socket.readable.locked
            reader.releaseLock()
        assert "released" in str(outcome[0])
        assert not socket.readable.locked
        for promise in (closed, reader.closed, reader.read(), reader.cancel()):
            with pytest.raises(TypeError, match="released its lock"):
                await promise
        reader.release_lock()
        await peer.send(b"for the next reader")
        assert (await socket.readable.get_reader().read()).value == (
            b"for the next reader"
        )


async def test_a_stream_has_one_reader_at_a_time() -> None:
    async with connected() as (socket, _):
        assert not socket.readable.locked
        socket.readable.getReader()
        with pytest.raises(TypeError, match="locked"):
            socket.readable.getReader()
        with pytest.raises(TypeError, match="locked"):
            socket.readable.values()
        with pytest.raises(TypeError, match="locked stream cannot be cancelled"):
            await socket.readable.cancel()


async def test_cancelling_ends_reading_and_nothing_else(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        pending = reader.read()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(pending.wait)
            await settle()
            await reader.cancel("no more")
        assert await pending == (None, True)
        assert await reader.read() == (None, True)
        await reader.closed
        await reader.cancel()
        await socket.writable.getWriter().write(b"still open")
        assert await peer.receive() == b"still open"
        assert socket.closed._is_pending()


async def test_after_a_failure_reads_raise_and_cancel_rejects(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        reader = socket.readable.getReader()
        pending = reader.read()
        peer.reset()
        with pytest.raises(SocketError) as caught:
            await pending
        assert caught.value.code == "reset"
        for promise in (reader.read(), reader.closed, reader.cancel()):
            with pytest.raises(SocketError) as again:
                await promise
            assert again.value is caught.value
        await socket.closed


async def test_the_constructor_and_other_readers_are_refused() -> None:
    with pytest.raises(TypeError, match="not constructed"):
        ReadableStream()
    with pytest.raises(TypeError, match="ReadableStream"):
        ReadableStreamDefaultReader(object())  # type: ignore[arg-type]
    async with connected() as (socket, _):
        for bad in ("bob", 1):
            with pytest.raises(TypeError, match="byob"):
                socket.readable.getReader(mode=bad)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="twice"):
            socket.readable.getReader({"mode": "byob"}, mode="byob")  # type: ignore[call-overload]
        reader = socket.readable.getReader({"mode": "byob", "unknown": 1})
        assert isinstance(reader, ReadableStreamBYOBReader)


class TestByob:
    async def test_it_fills_the_callers_memory(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            buffer = bytearray(8)
            await peer.send(b"abc")
            value, done = await reader.read(buffer)
            assert value == b"abc"
            assert not done
            assert buffer == b"abc\0\0\0\0\0"
            value[0] = ord("X")
            assert buffer[0] == ord("X")

    async def test_a_small_buffer_leaves_the_rest(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            await peer.send(b"abc")
            assert (await reader.read(bytearray(1))).value == b"a"
            reader.releaseLock()
            assert (await socket.readable.getReader().read()).value == b"bc"

    async def test_min_waits_for_so_many_bytes(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            promise = reader.read(bytearray(8), {"min": 4})
            async with loops.open_nursery() as nursery:
                nursery.start_soon(promise.wait)
                for part in (b"ab", b"cde"):
                    await settle()
                    await peer.send(part)
            assert (await promise).value == b"abcde"

    async def test_a_partly_filled_buffer_keeps_its_place(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            promise = reader.read(bytearray(4), min=4)
            async with loops.open_nursery() as nursery:
                nursery.start_soon(promise.wait)
                await settle()
                await peer.send(b"ab")
                await settle()
                await settle()
                nursery.cancel_scope.cancel()
            other = reader.read(bytearray(4))
            await peer.send(b"cdef")
            assert (await other).value == b"ef"
            assert (await promise).value == b"abcd"

    async def test_the_end_gives_what_there_is_as_done(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            await peer.send(b"ab")
            await peer.end()
            value, done = await reader.read(bytearray(4), min=4)
            assert (bytes(value), done) == (b"ab", True)
            value, done = await reader.read(bytearray(4))
            assert (bytes(value), done) == (b"", True)

    async def test_any_writable_contiguous_buffer_will_do(self) -> None:
        async with connected() as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            await peer.send(b"\1\0\2\0")
            words = array.array("H", [0, 0])
            value, _ = await reader.read(words)
            assert value.format == "B"
            assert words[0] == int.from_bytes(b"\1\0", "little")
            await peer.send(b"xy")
            target = bytearray(10)
            await reader.read(memoryview(target)[4:6])
            assert target == b"\0\0\0\0xy\0\0\0\0"

    @pytest.mark.parametrize(
        ("view", "options", "why"),
        [
            (b"abc", {}, "read-only"),
            (bytearray(), {}, "at least one byte"),
            ("abc", {}, "writable buffer"),
            (memoryview(bytearray(8))[::2], {}, "contiguous"),
            (bytearray(4), {"min": 5}, "from 1 to 4"),
            (bytearray(4), {"min": 0}, "from 1 to 4"),
            (bytearray(4), {"min": True}, "from 1 to 4"),
            (bytearray(4), {"min": "1"}, "from 1 to 4"),
        ],
    )
    async def test_other_buffers_and_minimums_are_refused(
        self, view: bytearray, options: dict[str, object], why: str
    ) -> None:
        async with connected() as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            with pytest.raises(TypeError, match=why):
                await reader.read(view, options)
            await peer.send(b"nothing lost")
            assert (await reader.read(bytearray(99))).value == b"nothing lost"
            reader.releaseLock()
            with pytest.raises(TypeError, match="released"):
                await reader.read(bytearray(1))

    @pytest.mark.only_trio("on asyncio a task is cancelled where it waits")
    async def test_a_cancelled_caller_takes_no_data(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            await peer.send(b"data")
            await anyio.wait_readable(socket._connection.socket)  # type: ignore[union-attr]
            with loops.CancelScope() as scope:
                scope.cancel()
                await reader.read(bytearray(9))
            assert (await reader.read(bytearray(9))).value == b"data"

    async def test_a_failure_is_raised(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reader = socket.readable.getReader(mode="byob")
            pending = reader.read(bytearray(9))
            peer.reset()
            with pytest.raises(SocketError):
                await pending


class TestIteration:
    async def test_breaking_out_cancels_the_stream(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            await peer.send(b"one")
            async for chunk in socket.readable:
                assert chunk == b"one"
                break
            gc.collect()
            assert not socket.readable.locked
            assert await socket.readable.getReader().read() == (None, True)

    async def test_preventCancel_keeps_it(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            await peer.send(b"one")
            async for _ in socket.readable.values(preventCancel=True):
                break
            gc.collect()
            await peer.send(b"two")
            async for chunk in socket.readable.values({"prevent_cancel": True}):
                assert chunk == b"two"
                break

    async def test_aclose_ends_it(self) -> None:
        async with connected() as (socket, peer):
            await peer.send(b"one")
            chunks = socket.readable.values()
            assert await anext(chunks) == b"one"
            assert socket.readable.locked
            await chunks.aclose()
            await chunks.aclose()
            assert not socket.readable.locked
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)

    async def test_a_failure_is_raised_and_unlocks(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            peer.reset()
            with pytest.raises(SocketError):
                async for _ in socket.readable:
                    pass
            assert not socket.readable.locked

    @pytest.mark.parametrize(
        "members", [{"prevent": True}, {"preventCancel": 1}], ids=named
    )
    async def test_options_are_checked(self, members: dict[str, bool]) -> None:
        async with connected() as (socket, _):
            with pytest.raises(TypeError):
                socket.readable.values(**members)
            with pytest.raises(TypeError, match="twice"):
                socket.readable.values(preventCancel=True, prevent_cancel=True)
            assert not socket.readable.locked


async def test_a_peer_that_sends_byte_by_byte_is_read(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):

        async def send(peer: Peer) -> None:
            for number in range(100):
                await peer.send(bytes([number]))
            await peer.end()

        async with loops.open_nursery() as nursery:
            nursery.start_soon(send, peer)
            data = b"".join([chunk async for chunk in socket.readable])
    assert data == bytes(range(100))
