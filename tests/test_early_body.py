"""The body: what is sent first, wherever it comes from, and then the end."""

from __future__ import annotations

import array
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import loops
from tests.early import constructed, remote
from tests.loopback import Secure, connected, listening, settle
from tests.naming import named
from wsockets import AbortError, Promise, Socket, SocketError
from wsockets.early.body import check_body

pytestmark = pytest.mark.every_loop

TEXT = b"some bytes, and m\xc3\xb6re"


class File:
    """An async file, as far as a body needs one."""

    def __init__(self) -> None:
        self._inner = io.BytesIO(TEXT)

    async def read(self, size: int) -> bytes:
        await loops.checkpoint()
        return self._inner.read(size)


def generator() -> Iterator[bytes]:
    yield TEXT[:4]
    yield TEXT[4:]


async def agenerator() -> AsyncIterator[bytes]:
    await loops.checkpoint()
    yield TEXT[:4]
    yield TEXT[4:]


async def coroutine(result: Any) -> Any:
    await loops.checkpoint()
    return result


BODIES: dict[str, Callable[[], Any]] = {
    "str": TEXT.decode,
    "bytes": lambda: TEXT,
    "bytearray": lambda: bytearray(TEXT),
    "array": lambda: array.array("B", TEXT),
    "list": lambda: [TEXT[:4], TEXT[4:8], TEXT[8:]],
    "generator": generator,
    "async generator": agenerator,
    "file": lambda: io.BytesIO(TEXT),
    "text file": lambda: io.StringIO(TEXT.decode()),
    "async file": File,
    "coroutine": lambda: coroutine(TEXT),
    "promise": lambda: Promise.resolve(TEXT),
    "function": lambda: lambda: TEXT,
    "async function": lambda: lambda: coroutine(TEXT),
    "function of a generator": lambda: generator,
    "async function of an async generator": lambda: lambda: coroutine(agenerator()),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_body_of_any_kind_is_all_that_is_sent(
    kind: str, secure: Secure
) -> None:
    async with constructed(secure, body=BODIES[kind]()) as (socket, peer):
        assert await peer.receive_to_end() == TEXT
        await peer.send(b"answer")
        await peer.end()
        assert b"".join([chunk async for chunk in socket.stream()]) == b"answer"
        await socket.closed


async def test_a_stream_is_piped(secure: Secure) -> None:
    async with connected() as (source, feeder):
        async with constructed(secure, body=source.readable) as (_, peer):
            await feeder.send(TEXT)
            assert await peer.receive_exactly(len(TEXT)) == TEXT
            await feeder.end()
            assert await peer.receive_to_end() == b""


async def test_it_holds_the_writable_meanwhile() -> None:
    never = loops.Event()

    async def silent() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with constructed(body=silent()) as (socket, _):
        assert socket.writable.locked
        with pytest.raises(TypeError, match="locked"):
            socket.writable.getWriter()


async def test_it_is_sent_no_faster_than_it_is_taken() -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield bytes(1 << 16)

    async with constructed(body=endless(), sendBufferSize=1 << 16) as (_, peer):
        await settle()
        before = given
        await settle()
        assert given == before < 1000
        # What is still in the kernel's hands on either side, and a little more.
        await peer.receive_exactly((before + 1) << 16)
        assert given > before


class TestFailing:
    """A FIN would say that there is no more."""

    async def test_a_body_that_raises_aborts_the_socket(self, secure: Secure) -> None:
        def broken() -> Iterator[bytes]:
            yield b"first"
            raise ValueError("no more")

        async with constructed(secure, body=broken()) as (socket, peer):
            await socket.closed
            with pytest.raises(ValueError, match="no more"):
                await socket.readable.getReader().read()
            assert socket.signal.reason.args == ("no more",)
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive_to_end()

    async def test_so_does_a_stream_that_fails(self) -> None:
        async with connected() as (source, feeder):
            async with constructed(body=source.readable) as (socket, _):
                feeder.reset()
                await socket.closed
                with pytest.raises(SocketError) as caught:
                    await socket.readable.getReader().read()
                assert caught.value.code == "reset"

    @pytest.mark.parametrize(
        "body",
        [[1], lambda: None, lambda: 1, dict, lambda: coroutine(object())],
        ids=["a number in a list", "None", "a number", "a mapping", "an object"],
    )
    async def test_so_does_what_turns_out_to_be_no_body(self, body: Any) -> None:
        async with listening() as (_, port):
            socket = Socket(remote=remote(port), body=body)
            await socket.closed
            with pytest.raises(TypeError):
                await socket.readable.getReader().read()

    async def test_a_function_that_always_gives_another_is_given_up(self) -> None:
        def again() -> Any:
            return again

        async with listening() as (_, port):
            socket = Socket(remote=remote(port), body=again)
            with pytest.raises(SocketError, match="8 times"):
                await socket.readable.getReader().read()

    @pytest.mark.parametrize("body", [1, 1.5, object(), {}, {"a": b"b"}], ids=named)
    def test_what_cannot_be_a_body_is_refused(self, body: Any) -> None:
        with pytest.raises(SocketError, match="body is") as caught:
            check_body(body)
        assert caught.value.code == "option"


class TestTheEndOfTheSocket:
    async def test_it_ends_the_source(self) -> None:
        ended: list[str] = []

        async def asynchronous() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
                    await loops.sleep_forever()
            finally:
                ended.append("async generator")

        def synchronous() -> Iterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 16)
            finally:
                ended.append("generator")

        for body in (asynchronous(), synchronous()):
            async with constructed(body=body) as (socket, _):
                await settle()
                await socket.abort()
                await settle()
        assert ended == ["async generator", "generator"]

    async def test_the_rest_of_a_file_is_left_and_the_file_open(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "large"
        path.write_bytes(bytes(1 << 24))
        with path.open("rb") as file:
            async with constructed(body=file) as (socket, _):
                await settle()
                await socket.abort()
                await settle()
                assert file.tell() < 1 << 24

    async def test_a_reset_by_the_peer_ends_it_too(self) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(1 << 16)

        async with constructed(body=endless()) as (socket, peer):
            peer.reset()
            await socket.closed
            with pytest.raises(SocketError):
                await socket.readable.getReader().read()
            assert not socket.signal.aborted


async def test_a_body_at_hand_is_on_its_way_before_anybody_waits() -> None:
    async with listening() as (listener, port):
        socket = Socket(remote=remote(port), body=b"early")
        async with await listener.accept() as stream:
            assert await stream.receive_some() == b"early"
            assert await stream.receive_some() == b""
            socket.close(ValueError("the test is over"))


async def test_a_socket_that_never_opens_ends_its_body() -> None:
    async with listening() as (_, port):
        pass

    started: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        started.append(1)
        await loops.checkpoint()
        yield b"x"

    for given in (body(), b"x"):
        socket = Socket(remote=remote(port), body=given)
        with pytest.raises(SocketError):
            await socket.ready
        await settle()
    with pytest.raises(SocketError):
        await socket.closed
    assert not isinstance(socket.signal.reason, AbortError)
