"""The event "data": what arrives is told to whoever listens."""

from __future__ import annotations

from typing import Any

import pytest

from tests import loops
from tests.early import constructed
from tests.loopback import Secure, connected, settle
from wsockets import AbortController, SocketDataEvent, SocketError

pytestmark = pytest.mark.every_loop


class Gathering:
    """A listener that waits for so many bytes."""

    def __init__(self) -> None:
        self.data = b""
        self._news = loops.Event()

    def __call__(self, event: SocketDataEvent) -> None:
        assert isinstance(event, SocketDataEvent)
        assert event.type == "data"
        assert all(event.buffers)
        self.data += b"".join(event.buffers)
        self._news.set()

    async def until(self, expected: bytes) -> None:
        while self.data != expected:
            assert expected.startswith(self.data)
            await self._news.wait()
            self._news = loops.Event()


async def test_what_arrives_is_told(secure: Secure) -> None:
    async with constructed(secure) as (socket, peer):
        gathering = Gathering()
        socket.addEventListener("data", gathering)
        assert socket.readable.locked
        await peer.send(b"one")
        await gathering.until(b"one")
        await peer.send(bytes(1 << 18))
        await gathering.until(b"one" + bytes(1 << 18))
        await peer.end()
        await socket.closed


async def test_before_the_socket_is_open_one_can_listen_already() -> None:
    async with connected() as (_, _):
        async with constructed() as (socket, peer):
            gathering = Gathering()
            socket.add_event_listener("data", gathering)
            await peer.send(b"x")
            await gathering.until(b"x")


async def test_all_listeners_are_told_and_one_that_fails_keeps_nobody_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with constructed() as (socket, peer):
        first, last = Gathering(), Gathering()

        def fail(_: object) -> None:
            raise ValueError("not my day")

        for listener in (first, fail, last):
            socket.addEventListener("data", listener)
        await peer.send(b"x")
        await first.until(b"x")
        await last.until(b"x")
    assert "not my day" in caplog.text


async def test_the_last_to_go_gives_the_readable_back(secure: Secure) -> None:
    async with constructed(secure) as (socket, peer):
        one, other = Gathering(), Gathering()
        socket.addEventListener("data", one)
        socket.addEventListener("data", other)
        socket.removeEventListener("data", one)
        assert socket.readable.locked
        await peer.send(b"told")
        await other.until(b"told")
        socket.remove_event_listener("data", other)
        assert not socket.readable.locked
        await peer.send(b"read")
        assert (await socket.readable.getReader().read()).value == b"read"
        assert other.data == b"told"
        assert not one.data


async def test_not_a_byte_is_lost_between_a_listener_and_a_reader() -> None:
    async with constructed() as (socket, peer):
        gathering = Gathering()

        def listen_once(event: SocketDataEvent) -> None:
            gathering(event)
            socket.removeEventListener("data", listen_once)

        received = told = b""
        for number in range(20):
            socket.addEventListener("data", listen_once)
            told += f"{number:04}".encode()
            await peer.send(told[-4:])
            await gathering.until(told)
            await peer.send(b"between")
            reader = socket.readable.getReader()
            received += (await reader.read()).value
            reader.releaseLock()
        assert received == b"between" * 20


async def test_a_listener_for_once_is_told_once_and_the_rest_is_to_be_read() -> None:
    async with constructed() as (socket, peer):
        await peer.send(bytes(1 << 17))
        await settle()
        events: list[SocketDataEvent] = []
        socket.addEventListener("data", events.append, once=True)
        while not events:
            await loops.checkpoint()
        assert not socket.readable.locked
        told = sum(map(len, events[0].buffers))
        await peer.end()
        rest = sum([len(chunk) async for chunk in socket.stream()])
        assert told + rest == 1 << 17


async def test_an_aborted_signal_ends_the_listening() -> None:
    async with constructed() as (socket, _):
        controller = AbortController()
        socket.addEventListener("data", Gathering(), signal=controller.signal)
        assert socket.readable.locked
        controller.abort()
        assert not socket.readable.locked


async def test_a_locked_readable_cannot_be_listened_to() -> None:
    async with constructed() as (socket, peer):
        reader = socket.readable.getReader()
        gathering = Gathering()
        with pytest.raises(SocketError, match="locked") as caught:
            socket.addEventListener("data", gathering)
        assert caught.value.code == "state"
        reader.releaseLock()
        socket.addEventListener("data", gathering)
        await peer.send(b"x")
        await gathering.until(b"x")


async def test_listening_to_nothing_or_to_other_things_reads_nothing() -> None:
    async with constructed() as (socket, _):
        socket.addEventListener("data", None)
        socket.addEventListener("date", print)
        socket.removeEventListener("date", print)
        assert not socket.readable.locked


async def test_a_failure_ends_the_reading(secure: Secure) -> None:
    async with constructed(secure) as (socket, peer):
        socket.addEventListener("data", Gathering())
        await settle()
        peer.reset()
        await socket.closed


async def test_an_upgrade_elsewhere_ends_the_reading() -> None:
    async with constructed() as (socket, _):
        gathering = Gathering()
        socket.addEventListener("data", gathering)
        await settle()
        secure = socket.startTls(sni="localhost")
        secure.close(ValueError("enough"))
        await settle()
        assert not gathering.data


@pytest.mark.parametrize("buffers", [b"bytes", "str", 1])
def test_an_event_has_a_sequence_of_buffers(buffers: Any) -> None:
    assert SocketDataEvent("data", {"buffers": [b"x"]}).buffers == (b"x",)
    assert SocketDataEvent("data", buffers=[b"x"], cancelable=True).cancelable
    with pytest.raises(TypeError, match="buffers"):
        SocketDataEvent("data", buffers=buffers)
