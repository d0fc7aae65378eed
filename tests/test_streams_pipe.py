"""Pipes between sockets, plain and TLS, by the rules of the standard.

https://streams.spec.whatwg.org/#readable-stream-pipe-to
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from tests import loops
from tests.leaks import tasks
from tests.loopback import Peer, Secure, connected, listening
from wsockets import (
    AbortController,
    AbortError,
    AbortSignal,
    Promise,
    ReadableStream,
    Socket,
    SocketError,
    WritableStream,
    adopt,
    connect,
)

pytestmark = [pytest.mark.every_loop, pytest.mark.usefixtures("engine")]

TASK = "wsockets pipe"
BIG = 1 << 30
SIGNAL = AbortController().signal


@attrs.frozen
class Ends:
    """Two sockets and their peers: what `a` says is to be heard by `b`."""

    a: Peer
    source: Socket
    sink: Socket
    b: Peer

    @property
    def readable(self) -> ReadableStream:
        return self.source.readable

    @property
    def writable(self) -> WritableStream:
        return self.sink.writable

    def pipe(self, **members: Any) -> Promise[None]:
        return self.readable.pipeTo(self.writable, **members)

    @property
    def locked(self) -> tuple[bool, bool]:
        return self.readable.locked, self.writable.locked


@pytest.fixture(params=["off-off", "off-on", "on-off", "on-on"])
def kinds(request: pytest.FixtureRequest) -> tuple[Secure, Secure]:
    first, second = request.param.split("-")
    return first, second


@contextlib.asynccontextmanager
async def ends(
    kinds: tuple[Secure, Secure] = ("off", "off"),
    *,
    half_open: bool = False,
    **members: Any,
) -> AsyncIterator[Ends]:
    """`members` are for the sink."""
    async with (
        connected(kinds[0], allowHalfOpen=half_open) as (source, a),
        connected(kinds[1], allowHalfOpen=half_open, **members) as (sink, b),
    ):
        yield Ends(a, source, sink, b)


async def reason_of(promise: Promise[Any]) -> BaseException:
    """What a promise rejects with."""
    with pytest.raises(BaseException) as caught:
        await promise
    assert not isinstance(caught.value, loops.cancelled())
    return caught.value


async def receive_to_end(peer: Peer) -> bytes:
    """What a peer receives that has sent its own end already."""
    found = bytearray()
    try:
        while chunk := await peer.receive():
            found += chunk
    except loops.BrokenResourceError as error:
        # Python's ssl has another word for the end after both close_notify.
        if not isinstance(error.__cause__, ssl.SSLZeroReturnError):
            raise
    return bytes(found)


class Mine(Exception):
    """A reason that is nobody else's."""


# -- the data


async def test_what_comes_from_the_source_goes_to_the_destination(
    kinds: tuple[Secure, Secure],
) -> None:
    async with ends(kinds) as it:
        done = it.pipe()
        await it.a.send(b"hello ")
        assert await it.b.receive_exactly(6) == b"hello "
        await it.a.send(b"world")
        await it.a.end()
        assert await it.b.receive_to_end() == b"world"
        assert await done is None  # type: ignore[func-returns-value]
        assert not tasks()[TASK]


async def test_every_byte_of_a_big_transfer_arrives(
    kinds: tuple[Secure, Secure],
) -> None:
    data = random.Random(1).randbytes(6 << 20)
    async with ends(kinds, receive_buffer=16384) as it:
        got = hashlib.sha256()

        async def send() -> None:
            await it.a.send(data)
            await it.a.end()

        async with loops.open_nursery() as nursery:
            nursery.start_soon(it.pipe().wait)
            nursery.start_soon(send)
            while chunk := await it.b.receive():
                got.update(chunk)
        assert got.digest() == hashlib.sha256(data).digest()


async def test_both_directions_between_the_same_two_sockets(
    kinds: tuple[Secure, Secure],
) -> None:
    data = random.Random(2).randbytes(1 << 20)
    async with ends(kinds, half_open=True) as it, loops.open_nursery() as nursery:
        there = it.pipe()
        back = it.sink.readable.pipeTo(it.source.writable)
        nursery.start_soon(it.a.send, data)
        nursery.start_soon(it.b.send, data)
        assert await it.a.receive_exactly(len(data)) == data
        assert await it.b.receive_exactly(len(data)) == data
        await it.a.end()
        await there
        assert await it.b.receive() == b""
        await it.b.send(b"one more")
        assert await it.a.receive() == b"one more"
        await it.b.end()
        await back
        assert await receive_to_end(it.a) == b""


async def test_a_socket_piped_to_itself_is_an_echo(secure: Secure) -> None:
    async with connected(secure) as (it, peer):
        done = it.readable.pipeTo(it.writable)
        await peer.send(b"is there anybody?")
        assert await peer.receive() == b"is there anybody?"
        await peer.end()
        assert await receive_to_end(peer) == b""
        await done
        await it.closed


async def test_a_slow_destination_slows_the_source(
    kinds: tuple[Secure, Secure], engine: str
) -> None:
    data = bytes(32 << 20)
    async with ends(kinds, highWaterMark=1000) as it, loops.open_nursery() as nursery:
        # Otherwise the kernel may take more and more for a source.
        assert it.source._connection is not None
        it.source._connection.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20
        )
        done = it.pipe()
        all_sent = loops.Event()

        async def send() -> None:
            await it.a.send(data)
            all_sent.set()

        nursery.start_soon(send)
        await loops.settle(0.1)
        if engine == "python":
            # It has one chunk more than the mark at most, and waits for room.
            assert -65536 <= it.sink._writable.desired_size <= 0
        assert not all_sent.is_set()
        assert await it.b.receive_exactly(len(data)) == data
        await it.a.end()
        await done


async def test_both_streams_are_locked_meanwhile_and_unlocked_after(
    secure: Secure,
) -> None:
    async with ends((secure, secure)) as it:
        done = it.pipe()
        assert it.locked == (True, True)
        for get in (it.readable.getReader, it.writable.getWriter):
            with pytest.raises(TypeError, match="locked"):
                get()
        await loops.settle(0.01)
        assert it.locked == (True, True)
        await it.a.end()
        await done
        assert it.locked == (False, False)


async def test_a_pipe_may_begin_before_the_sockets_are_open() -> None:
    async with listening() as (listener, port), connected() as (sink, b):
        source = connect(f"127.0.0.1:{port}")
        done = source.readable.pipeTo(sink.writable)
        a = Peer(await listener.accept())
        await a.send(b"x")
        assert await b.receive() == b"x"
        await a.end()
        await done
        await source.close()
        await a.close()


# -- the end of the source


async def test_the_end_of_the_source_closes_the_destination(
    kinds: tuple[Secure, Secure],
) -> None:
    async with ends(kinds) as it:
        done = it.pipe()
        await it.a.end()
        await done
        assert await it.b.receive_to_end() == b""
        await it.writable.getWriter().closed
        # The other direction of the sink lives on.
        await it.b.send(b"x")
        assert (await it.sink.readable.getReader().read()).value == b"x"


async def test_the_promise_waits_until_all_was_written_and_the_end(
    secure: Secure,
) -> None:
    async with ends(("off", secure), highWaterMark=BIG) as it:
        done = it.pipe()
        count = await send_all(it)
        await it.a.end()
        await loops.settle(0.01)
        assert done._is_pending()
        assert it.locked == (True, True)
        assert len(await it.b.receive_to_end()) == count
        await done


async def send_all(it: Ends) -> int:
    """Have the pipe read more than the sink can send; how many bytes it took."""
    count = 8 << 20
    await it.a.send(bytes(count))
    await loops.settle(0.01)
    assert it.sink._writable._queued > 1 << 20
    return count


@pytest.mark.parametrize("name", ["preventClose", "prevent_close"])
async def test_unless_that_is_prevented(secure: Secure, name: str) -> None:
    async with ends((secure, secure)) as it:
        done = it.pipe(**{name: True})
        await it.a.send(b"one ")
        await it.a.end()
        await done
        assert it.locked == (False, False)
        await it.writable.getWriter().write(b"two")
        assert await it.b.receive_exactly(7) == b"one two"


async def test_with_preventClose_the_promise_waits_until_all_was_written() -> None:
    async with ends(highWaterMark=BIG) as it:
        done = it.pipe(preventClose=True)
        count = await send_all(it)
        await it.a.end()
        await loops.settle(0.01)
        assert done._is_pending()
        assert len(await it.b.receive_exactly(count)) == count
        await done


async def test_several_sources_one_after_the_other(secure: Secure) -> None:
    async with connected(secure) as (sink, b):
        for number in range(3):
            async with connected(secure) as (source, a):
                await a.send(b"%d" % number)
                await a.end()
                await source.readable.pipeTo(
                    sink.writable, {"preventClose": number < 2}
                )
        assert await b.receive_to_end() == b"012"


async def test_a_source_that_has_ended_before_closes_the_destination() -> None:
    async with ends() as it:
        await it.readable.cancel()
        await it.pipe()
        assert await it.b.receive_to_end() == b""


async def test_a_source_that_is_closed_here_ends_the_pipe() -> None:
    async with ends() as it:
        done = it.pipe()
        await loops.settle(0.01)
        it.source.close()
        await done
        assert await it.b.receive_to_end() == b""


async def test_a_failure_while_the_destination_closes_is_the_result(
    secure: Secure,
) -> None:
    async with ends(("off", secure), highWaterMark=BIG) as it:
        done = it.pipe()
        await send_all(it)
        await it.a.end()
        await loops.settle(0.01)
        it.b.reset()
        error = await reason_of(done)
        assert isinstance(error, SocketError)
        assert error.code == "reset"
        assert it.locked == (False, False)


# -- an error of the source


async def test_an_error_of_the_source_aborts_the_destination(
    kinds: tuple[Secure, Secure],
) -> None:
    async with ends(kinds) as it:
        done = it.pipe()
        await it.a.send(b"before")
        assert await it.b.receive_exactly(6) == b"before"
        it.a.reset()
        error = await reason_of(done)
        assert isinstance(error, SocketError)
        assert error.code == "reset"
        assert it.locked == (False, False)
        assert await reason_of(it.writable.getWriter().closed) is error
        # No close_notify: what was sent is not all there is.
        if kinds[1] == "off":
            assert await it.b.receive_to_end() == b""
        else:
            with pytest.raises(loops.BrokenResourceError):
                await it.b.receive()


async def test_unless_that_is_prevented_too(kinds: tuple[Secure, Secure]) -> None:
    async with ends(kinds) as it:
        done = it.pipe(preventAbort=True)
        it.a.reset()
        error = await reason_of(done)
        assert isinstance(error, SocketError)
        assert it.locked == (False, False)
        await it.writable.getWriter().write(b"well")
        assert await it.b.receive() == b"well"


@pytest.mark.parametrize("prevented", [False, True])
async def test_what_was_read_before_the_error_is_written_first(
    prevented: bool,
) -> None:
    """ "Shutdown with an action", step 3.1, and "shutdown", step 3.1."""
    async with ends(highWaterMark=BIG) as it:
        done = it.pipe(preventAbort=prevented)
        count = await send_all(it)
        it.a.reset()
        await loops.settle(0.01)
        assert done._is_pending()
        assert it.locked == (True, True)
        assert len(await it.b.receive_exactly(count)) == count
        assert isinstance(await reason_of(done), SocketError)
        if prevented:
            await it.writable.getWriter().write(b"more")
            assert await it.b.receive() == b"more"
        else:
            assert await it.b.receive() == b""


async def test_a_source_that_has_failed_before_aborts_the_destination() -> None:
    async with ends() as it:
        it.a.reset()
        error = await reason_of(it.readable.getReader().read())
        it.readable._reader.releaseLock()  # type: ignore[union-attr]
        assert await reason_of(it.pipe()) is error
        assert await reason_of(it.writable.getWriter().closed) is error


# -- an error or the end of the destination


async def test_an_error_of_the_destination_cancels_the_source(
    kinds: tuple[Secure, Secure],
) -> None:
    async with ends(kinds) as it:
        done = it.pipe()
        it.b.reset()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(flood, it.a)
            error = await reason_of(done)
            nursery.cancel_scope.cancel()
        assert isinstance(error, SocketError)
        assert error.code == "reset"
        assert it.locked == (False, False)
        assert await it.readable.getReader().read() == (None, True)


async def flood(peer: Peer) -> None:
    with contextlib.suppress(loops.BrokenResourceError):
        while True:
            await peer.send(bytes(65536))


async def test_it_is_noticed_while_the_source_is_silent(secure: Secure) -> None:
    async with ends((secure, secure)) as it:
        done = it.pipe()
        await loops.settle(0.01)
        mine = Mine()
        it.sink.close(mine)
        assert await reason_of(done) is mine
        assert await it.readable.getReader().read() == (None, True)


async def test_it_is_noticed_while_the_destination_is_slow(secure: Secure) -> None:
    async with ends(("off", secure)) as it:
        done = it.pipe()
        async with loops.open_nursery() as nursery:
            nursery.start_soon(flood, it.a)
            await loops.settle(0.01)
            mine = Mine()
            it.sink.close(mine)
            assert await reason_of(done) is mine
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["preventCancel", "prevent_cancel"])
async def test_with_preventCancel_the_source_can_be_read_on(
    secure: Secure, name: str
) -> None:
    async with ends((secure, secure)) as it:
        done = it.pipe(**{name: True})
        await loops.settle(0.01)
        mine = Mine()
        it.sink.close(mine)
        assert await reason_of(done) is mine
        await it.a.send(b"nothing is lost")
        result = await it.readable.getReader().read()
        assert result == (b"nothing is lost", False)


async def test_the_end_of_the_destination_cancels_the_source(secure: Secure) -> None:
    async with ends((secure, secure)) as it:
        done = it.pipe()
        await loops.settle(0.01)
        it.sink.close()
        error = await reason_of(done)
        assert isinstance(error, TypeError)
        assert "closed" in str(error)
        assert it.locked == (False, False)
        assert await it.readable.getReader().read() == (None, True)


async def test_a_destination_that_is_closed_before_is_the_same(secure: Secure) -> None:
    async with ends((secure, secure)) as it:
        await it.a.send(b"not read")
        await it.writable.close()
        error = await reason_of(it.pipe(preventCancel=True))
        assert isinstance(error, TypeError)
        result = await it.readable.getReader().read()
        assert result == (b"not read", False)
        it.readable._reader.releaseLock()  # type: ignore[union-attr]
        error = await reason_of(it.pipe())
        assert isinstance(error, TypeError)
        assert await it.readable.getReader().read() == (None, True)


async def test_the_end_of_the_destination_is_noticed_while_it_still_sends() -> None:
    """ "Closing must be propagated backward": when close is queued or in flight."""
    async with ends(highWaterMark=BIG) as it:
        done = it.pipe(preventCancel=True)
        count = await send_all(it)
        it.sink.close()
        await loops.settle(0.01)
        assert not done._is_pending()
        assert isinstance(await reason_of(done), TypeError)
        assert not it.readable.locked
        await it.a.send(b"too late")
        result = await it.readable.getReader().read()
        assert result == (b"too late", False)
        assert len(await it.b.receive_to_end()) == count


async def test_no_chunk_is_lost_when_a_slow_destination_is_closed() -> None:
    data = random.Random(4).randbytes(16 << 20)
    async with ends() as it:
        done = it.pipe(preventCancel=True)
        async with loops.open_nursery() as nursery:
            nursery.start_soon(it.a.send, data)
            await loops.settle(0.01)
            # From now on writes are refused.
            it.sink.close()
            received = await it.b.receive_to_end()
            assert isinstance(await reason_of(done), TypeError)
            reader = it.readable.getReader()
            rest = bytearray()
            while len(received) + len(rest) < len(data):
                with loops.move_on_after(5) as late:
                    value, finished = await reader.read()
                assert not late.cancelled_caught, "a chunk was lost"
                assert not finished
                rest += value
            assert received + rest == data


# -- who comes first


async def failed_source(it: Ends) -> BaseException:
    it.a.reset()
    reader = it.readable.getReader()
    error = await reason_of(reader.read())
    reader.releaseLock()
    return error


async def test_an_error_of_the_source_comes_before_one_of_the_destination() -> None:
    async with ends() as it:
        error = await failed_source(it)
        await it.writable.abort(Mine())
        assert await reason_of(it.pipe()) is error
        assert isinstance(await reason_of(it.writable.getWriter().closed), Mine)


async def test_an_error_of_the_source_comes_before_the_destinations_end() -> None:
    async with ends() as it:
        error = await failed_source(it)
        await it.writable.close()
        assert await reason_of(it.pipe()) is error


async def test_an_error_of_the_destination_comes_before_the_sources_end() -> None:
    async with ends() as it:
        mine = Mine()
        await it.readable.cancel()
        await it.writable.abort(mine)
        assert await reason_of(it.pipe()) is mine


async def test_two_streams_that_have_ended_make_a_pipe_that_is_done() -> None:
    async with ends() as it:
        await it.readable.cancel()
        await it.writable.close()
        await it.pipe()


async def test_an_aborted_signal_comes_before_everything() -> None:
    async with ends() as it:
        await failed_source(it)
        mine = Mine()
        await it.writable.abort(KeyError())
        assert await reason_of(it.pipe(signal=AbortSignal.abort(mine))) is mine


# -- signals


async def test_a_signal_that_is_aborted_before_ends_both_at_once(
    secure: Secure,
) -> None:
    async with ends((secure, secure)) as it:
        await it.a.send(b"not read")
        mine = Mine()
        done = it.readable.pipeTo(it.writable, {"signal": AbortSignal.abort(mine)})
        assert await reason_of(done) is mine
        assert it.locked == (False, False)
        assert await it.readable.getReader().read() == (None, True)
        assert await reason_of(it.writable.getWriter().write(b"x")) is mine
        if secure == "off":
            assert await it.b.receive_to_end() == b""


async def test_a_reason_that_is_no_exception_arrives_in_an_AbortError() -> None:
    async with ends() as it:
        error = await reason_of(it.pipe(signal=AbortSignal.abort("enough")))
        assert isinstance(error, AbortError)
        assert error.reason == "enough"


@pytest.mark.parametrize("before", [True, False])
async def test_prevented_ends_are_left_alone_by_a_signal(
    secure: Secure, before: bool
) -> None:
    async with ends((secure, secure)) as it:
        controller = AbortController()
        if before:
            controller.abort(Mine())
        done = it.pipe(signal=controller.signal, preventAbort=True, preventCancel=True)
        await loops.settle(0.01)
        controller.abort(Mine())
        assert isinstance(await reason_of(done), Mine)
        await it.a.send(b"still")
        assert (await it.readable.getReader().read()).value == b"still"
        await it.writable.getWriter().write(b"there")
        assert await it.b.receive() == b"there"


async def test_a_signal_ends_a_pipe_whose_source_is_silent(secure: Secure) -> None:
    async with ends((secure, secure)) as it:
        controller = AbortController()
        done = it.pipe(signal=controller.signal)
        await it.a.send(b"one")
        assert await it.b.receive() == b"one"
        await loops.settle(0.01)
        mine = Mine()
        controller.abort(mine)
        assert await reason_of(done) is mine
        assert await it.readable.getReader().read() == (None, True)
        assert await reason_of(it.writable.getWriter().closed) is mine


async def test_a_signal_ends_a_pipe_whose_destination_is_slow() -> None:
    async with ends() as it:
        controller = AbortController()
        done = it.pipe(signal=controller.signal)
        async with loops.open_nursery() as nursery:
            nursery.start_soon(flood, it.a)
            await loops.settle(0.01)
            mine = Mine()
            controller.abort(mine)
            nursery.start_soon(it.b.receive_to_end)
            assert await reason_of(done) is mine
            nursery.cancel_scope.cancel()


async def test_what_was_read_before_the_signal_is_written_first() -> None:
    async with ends(highWaterMark=BIG) as it:
        controller = AbortController()
        done = it.pipe(signal=controller.signal)
        count = await send_all(it)
        controller.abort(Mine())
        await loops.settle(0.01)
        assert done._is_pending()
        assert len(await it.b.receive_to_end()) == count
        assert isinstance(await reason_of(done), Mine)


async def test_a_signal_that_is_aborted_later_changes_nothing() -> None:
    async with ends() as it:
        controller = AbortController()
        done = it.pipe(signal=controller.signal, preventClose=True)
        await it.a.end()
        await done
        assert not controller.signal._listeners
        controller.abort(Mine())
        await done
        await it.writable.getWriter().write(b"x")
        assert await it.b.receive() == b"x"


# -- the run


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_run_ends_it(loop: str, engine: str) -> None:
    async def main(one: socket.socket, two: socket.socket) -> tuple[Socket, Socket]:
        source, sink = adopt(one), adopt(two)
        source.readable.pipeTo(sink.writable)
        await loops.settle(0.01)
        assert source.readable.locked
        return source, sink

    pairs = [socket.socketpair() for _ in range(2)]
    source, sink = loops.run(loop, main, pairs[0][0], pairs[1][0])
    assert not source.readable.locked
    assert not sink.writable.locked
    for left in (source, sink):
        # The engine may have had bytes in hand: it has reset the connections.
        assert (left._connection is None) == (engine == "native")
        if left._connection is not None:
            left._connection.close()
    for _, peer in pairs:
        peer.close()


# -- pipeThrough


async def shout(peer: Peer) -> None:
    while chunk := await peer.receive():
        await peer.send(chunk.upper())
    await peer.end()


@pytest.mark.parametrize("form", ["socket", "mapping", "object"])
async def test_pipeThrough_takes_whatever_has_the_two_ends(
    secure: Secure, form: str
) -> None:
    async with ends((secure, secure)) as it, loops.open_nursery() as nursery:
        nursery.start_soon(shout, it.b)
        pair: Any = it.sink
        if form != "socket":
            pair = {"readable": it.sink.readable, "writable": it.writable}
        if form == "object":
            pair = SimpleNamespace(**pair)
        result = it.readable.pipeThrough(pair)
        assert result is it.sink.readable
        assert it.locked == (True, True)
        assert not result.locked
        await it.a.send(b"louder")
        await it.a.end()
        assert b"".join([chunk async for chunk in result]) == b"LOUDER"


async def test_pipeThrough_passes_the_options_on() -> None:
    async with ends() as it:
        controller = AbortController()
        it.readable.pipe_through(
            it.sink,
            {"preventAbort": True},
            signal=controller.signal,
            preventCancel=True,
        )
        await loops.settle(0.01)
        controller.abort(Mine())
        await loops.settle(0.01)
        assert it.locked == (False, False)
        await it.a.send(b"still")
        assert (await it.readable.getReader().read()).value == b"still"
        await it.writable.getWriter().write(b"there")
        assert await it.b.receive() == b"there"


@pytest.mark.parametrize(
    "which", ["readable", "writable", "nothing", "stranger", "half a mapping", "flag"]
)
async def test_pipeThrough_raises_at_once_what_is_wrong(which: str) -> None:
    async with ends() as it:
        pair: Any = it.sink
        members: dict[str, Any] = {}
        if which == "readable":
            it.readable.getReader()
        elif which == "writable":
            it.writable.getWriter()
        elif which == "nothing":
            pair = None
        elif which == "stranger":
            pair = {"readable": it.sink.readable, "writable": object()}
        elif which == "half a mapping":
            pair = {"writable": it.writable}
        else:
            members = {"preventClose": 1}
        with pytest.raises(TypeError):
            it.readable.pipeThrough(pair, **members)
        assert it.locked == (which == "readable", which == "writable")
        await loops.settle(0.01)
        assert not tasks()[TASK]


# -- arguments


@pytest.mark.parametrize(
    ("arguments", "members", "why"),
    [
        ((None,), {}, "WritableStream"),
        ((object(),), {}, "WritableStream"),
        ((), {"preventClose": 1}, "preventClose"),
        ((), {"prevent_close": "yes"}, "preventClose"),
        ((), {"prevent": True}, "unexpected keyword"),
        ((), {"preventClose": True, "prevent_close": True}, "twice"),
        (({"preventCancel": True},), {"preventCancel": False}, "twice"),
        (({"signal": SIGNAL},), {"signal": SIGNAL}, "twice"),
        ((), {"signal": object()}, "AbortSignal"),
        (({"signal": 1},), {}, "AbortSignal"),
        ((5,), {}, "mapping"),
        ((["preventClose"],), {}, "mapping"),
    ],
    ids=[
        "no destination",
        "not a stream",
        "a flag that is a number",
        "a flag that is a str",
        "an unknown keyword",
        "both spellings",
        "a flag in both places",
        "a signal in both places",
        "no signal",
        "no signal in the mapping",
        "no mapping",
        "a list",
    ],
)
async def test_wrong_arguments_reject_and_lock_nothing(
    arguments: tuple[Any, ...], members: dict[str, Any], why: str
) -> None:
    async with ends() as it:
        if why != "WritableStream":
            arguments = (it.writable, *arguments)
        with pytest.raises(TypeError, match=why):
            await it.readable.pipeTo(*arguments, **members)
        assert it.locked == (False, False)
        await it.readable.getReader().cancel()


async def test_a_locked_stream_on_either_side_rejects() -> None:
    async with ends() as it:
        reader = it.readable.getReader()
        with pytest.raises(TypeError, match="locked"):
            await it.pipe()
        assert not it.writable.locked
        reader.releaseLock()
        it.writable.getWriter()
        with pytest.raises(TypeError, match="locked"):
            await it.pipe()
        assert not it.readable.locked


async def test_members_of_a_mapping_that_nobody_knows_are_ignored() -> None:
    async with ends() as it:
        done = it.readable.pipe_to(
            it.writable, {"unknown": 1, "preventClose": None, "signal": None}
        )
        await it.a.end()
        await done
        assert await it.b.receive_to_end() == b""
