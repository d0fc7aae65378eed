"""Writers, on a plain and on a TLS connection."""

from __future__ import annotations

import array
import hashlib
import random

import anyio
import pytest

from tests import loops
from tests.loopback import Peer, Secure, clog, connected
from wsockets import (
    AbortError,
    Promise,
    SocketError,
    WritableStream,
    WritableStreamDefaultWriter,
)

pytestmark = pytest.mark.every_loop

BULK = 16 << 20  # more than the kernel keeps for two ends


async def test_a_write_arrives_and_resolves(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        writer = socket.writable.getWriter()
        assert await writer.write(b"hello") is None  # type: ignore[func-returns-value]
        assert await peer.receive() == b"hello"
        with loops.assert_checkpoints():
            await writer.write(b"again")


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ("grüß", "grüß".encode()),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd"), b"abcd"),
        (memoryview(b"abcd")[::2], b"ac"),
        (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
    ],
    ids=["str", "bytearray", "memoryview", "gaps", "array"],
)
async def test_chunks_count_by_their_bytes(chunk: object, expected: bytes) -> None:
    async with connected() as (socket, peer):
        await socket.writable.getWriter().write(chunk)
        assert await peer.receive_exactly(len(expected)) == expected


async def test_an_empty_chunk_sends_nothing(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        writer = socket.writable.getWriter()
        for empty in (b"", "", bytearray()):
            await writer.write(empty)
        await writer.write(b"x")
        assert await peer.receive() == b"x"


@pytest.mark.parametrize(
    "chunk",
    [None, 1, ["a"], "\ud800", object()],
    ids=["None", "int", "list", "surrogate", "object"],
)
async def test_anything_else_rejects_and_loses_nothing(chunk: object) -> None:
    async with connected() as (socket, peer):
        writer = socket.writable.getWriter()
        writer.write(b"before ")
        with pytest.raises(TypeError):
            await writer.write(chunk)
        await writer.write(b"after")
        assert await peer.receive_exactly(12) == b"before after"


async def test_writes_keep_their_order_and_every_byte(secure: Secure) -> None:
    data = random.Random(1).randbytes(BULK)
    async with connected(secure, receive_buffer=4096) as (socket, peer):
        writer = socket.writable.getWriter()
        sizes = [1, 16384, 16385, 100_000, 3, 1 << 20, 65536]
        position = count = 0
        while position < len(data):
            size = sizes[count % len(sizes)]
            writer.write(data[position : position + size])
            position += size
            count += 1
        closed = writer.close()
        received = await peer.receive_to_end()
        await closed
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


async def test_a_write_that_nobody_awaits_is_sent(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        socket.writable.getWriter().write(bytes(BULK))
        assert len(await peer.receive_exactly(BULK)) == BULK


async def test_the_caller_may_change_its_buffer_at_once(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        buffer = bytearray(b"a" * BULK)
        promise = socket.writable.getWriter().write(buffer)
        assert promise._is_pending()
        buffer[:] = b"b" * BULK
        assert set(await peer.receive_exactly(BULK)) == {ord("a")}


async def test_a_cancelled_write_awaiter_detaches_and_the_write_completes(
    secure: Secure,
) -> None:
    async with connected(secure) as (socket, peer):
        writer, queued = clog(socket, BULK)
        with loops.move_on_after(0.001) as scope:
            await queued
        assert scope.cancelled_caught
        end = writer.close()
        await peer.receive_to_end()
        await queued
        await end


async def test_desiredSize_and_ready_tell_of_back_pressure(secure: Secure) -> None:
    async with connected(secure, highWaterMark=1000) as (socket, peer):
        writer = socket.writable.getWriter()
        assert writer.desiredSize == writer.desired_size == 1000
        await writer.ready
        assert writer.ready is writer.ready
        writer.releaseLock()
        writer, queued = clog(socket, BULK)
        size = writer.desiredSize
        assert size is not None
        assert size <= 0
        ready = writer.ready
        assert ready._is_pending()
        assert writer.ready is ready
        with loops.CancelScope() as reading:
            async with loops.open_nursery() as nursery:

                async def read() -> None:
                    await peer.receive_to_end()

                nursery.start_soon(read)
                await ready
                await queued
                assert writer.desiredSize == 1000
                reading.cancel()


async def test_what_is_queued_does_not_grow_for_one_who_waits(secure: Secure) -> None:
    async with connected(secure) as (socket, _):
        writer = socket.writable.getWriter()
        waiting = None
        while waiting is None or not waiting.cancelled_caught:
            writer.write(bytes(65536))
            with loops.move_on_after(0.1) as waiting:
                await writer.ready
        size = writer.desiredSize
        assert size is not None
        assert -65536 <= size <= 0


async def test_a_queue_that_is_sent_leaves_no_memory_behind(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        writer = socket.writable.getWriter()
        wrote = writer.write(bytes(4 * BULK))
        assert wrote._is_pending()
        await peer.receive_exactly(4 * BULK)
        await wrote
        # An empty deque is as large as the rest of an idle stream.
        assert socket._writable._queue == ()


async def test_closing_sends_the_rest_and_the_end(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        writer = socket.writable.getWriter()
        writer.write(bytes(BULK))
        ready = writer.ready
        size = writer.desiredSize
        end = writer.close()
        # The end counts for nothing; some of the rest may have left with it.
        assert size is not None
        assert size <= (writer.desiredSize or 0) < 0
        await ready
        await writer.ready
        with pytest.raises(TypeError, match="closed"):
            await writer.write(b"late")
        with pytest.raises(TypeError, match="closed"):
            await writer.close()
        assert len(await peer.receive_to_end()) == BULK
        await end
        await writer.closed
        assert writer.desiredSize == 0
        await writer.abort()
        assert socket.closed._is_pending()


async def test_reading_goes_on_after_the_writable_is_closed(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        await socket.writable.close()
        assert await peer.receive_to_end() == b""
        await peer.send(b"answer")
        assert (await socket.readable.getReader().read()).value == b"answer"
        assert socket.closed._is_pending()


async def test_aborting_drops_the_queue_and_leaves_whole_records(
    secure: Secure,
) -> None:
    async with connected(secure) as (socket, peer):
        writer, queued = clog(socket)
        late = writer.write(b"late")
        ready = writer.ready
        closed = writer.closed
        aborted = writer.abort("enough")
        for promise in (queued, late, ready, writer.ready, writer.write(b"x")):
            with pytest.raises(AbortError) as caught:
                await promise
            assert caught.value.reason == "enough"
        assert writer.desiredSize is None
        if secure == "off":
            assert b"late" not in await peer.receive_to_end()
        else:
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive_to_end()
        await aborted
        with pytest.raises(AbortError):
            await closed
        await writer.abort("again")
        assert socket.closed._is_pending()
        if secure == "off":
            await peer.send(b"the other direction")
            got = await socket.readable.getReader().read()
            assert got.value == b"the other direction"


async def test_an_abort_with_an_exception_rejects_with_it(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        error = ValueError("mine")
        writer = socket.writable.getWriter()
        await writer.abort(error)
        with pytest.raises(ValueError, match="mine") as caught:
            await writer.write(b"x")
        assert caught.value is error
        with pytest.raises(ValueError, match="mine"):
            await writer.closed
        if secure == "off":
            assert await peer.receive_to_end() == b""


async def test_after_a_failure_writes_raise(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        writer, queued = clog(socket)
        ready = writer.ready
        peer.reset()
        with pytest.raises(SocketError) as caught:
            await queued
        assert caught.value.code == "reset"
        for promise in (
            ready,
            writer.ready,
            writer.closed,
            writer.write(b"x"),
            writer.close(),
        ):
            with pytest.raises(SocketError) as again:
                await promise
            assert again.value is caught.value
        await socket.closed


async def test_a_failure_met_in_the_call_itself_is_the_same(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        peer.reset()
        await anyio.wait_readable(socket._connection.socket)  # type: ignore[union-attr]
        writer = socket.writable.getWriter()
        closed = writer.closed
        with pytest.raises(SocketError):
            for _ in range(9):
                await writer.write(b"x")
        with pytest.raises(SocketError):
            await closed
        await socket.closed


async def test_a_failure_ends_an_abort_and_rejects_a_close(secure: Secure) -> None:
    for method in ("abort", "close"):
        async with connected(secure) as (socket, peer):
            writer, _ = clog(socket)
            ended: Promise[None] = getattr(writer, method)()
            if method == "abort" and secure == "off":
                await ended
                continue
            peer.reset()
            if method == "abort":
                await ended
            else:
                with pytest.raises(SocketError):
                    await ended


async def test_releasing_the_lock_leaves_writes_alone(secure: Secure) -> None:
    async with connected(secure) as (socket, peer):
        writer, queued = clog(socket, BULK)
        ready, closed = writer.ready, writer.closed
        writer.releaseLock()
        writer.release_lock()
        assert not socket.writable.locked
        for promise in (
            ready,
            closed,
            writer.ready,
            writer.closed,
            writer.write(b"x"),
            writer.close(),
            writer.abort(),
        ):
            with pytest.raises(TypeError, match="released its lock"):
                await promise
        with pytest.raises(TypeError, match="released its lock"):
            _ = writer.desiredSize
        end = socket.writable.close()
        await peer.receive_to_end()
        await queued
        await end


async def test_a_stream_has_one_writer_at_a_time() -> None:
    async with connected() as (socket, _):
        assert not socket.writable.locked
        socket.writable.get_writer()
        assert socket.writable.locked
        with pytest.raises(TypeError, match="locked"):
            socket.writable.getWriter()
        with pytest.raises(TypeError, match="locked stream cannot be aborted"):
            await socket.writable.abort()
        with pytest.raises(TypeError, match="locked stream cannot be closed"):
            await socket.writable.close()


async def test_the_stream_itself_can_be_aborted() -> None:
    async with connected() as (socket, peer):
        await socket.writable.abort()
        assert await peer.receive_to_end() == b""
        with pytest.raises(AbortError):
            await socket.writable.getWriter().closed


async def test_a_new_writer_learns_the_state() -> None:
    async with connected() as (socket, peer):
        await socket.writable.close()
        writer = socket.writable.getWriter()
        await writer.closed
        await writer.ready
        assert await peer.receive_to_end() == b""


async def test_the_constructor_and_other_streams_are_refused() -> None:
    with pytest.raises(TypeError, match="not constructed"):
        WritableStream()
    with pytest.raises(TypeError, match="WritableStream"):
        WritableStreamDefaultWriter(object())  # type: ignore[arg-type]


async def test_both_directions_at_once_with_small_buffers(secure: Secure) -> None:
    async with connected(secure, receive_buffer=2048) as (socket, peer):
        sent = hashlib.sha256()
        back = hashlib.sha256()

        async def echo(peer: Peer) -> None:
            while chunk := await peer.receive():
                await peer.send(chunk)
            await peer.end()

        async def write() -> None:
            writer = socket.writable.getWriter()
            source = random.Random(2)
            for _ in range(200):
                chunk = source.randbytes(source.randrange(1, 20_000))
                sent.update(chunk)
                await writer.ready
                writer.write(chunk)
            await writer.close()

        async with loops.open_nursery() as nursery:
            nursery.start_soon(echo, peer)
            nursery.start_soon(write)
            async for chunk in socket.readable:
                back.update(chunk)
        assert back.digest() == sent.digest()
