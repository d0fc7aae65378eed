"""The writable of messages, over messages that do what a test tells them to."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import loops
from tests.loopback import settle
from wsockets import AbortError, SocketError
from wsockets.runtime import current
from wsockets.runtime.gate import Gate, Want
from wsockets.streams.message_writable import MessageWritable

pytestmark = pytest.mark.every_loop

OWN = SocketError("too long", code="os")
FATAL = SocketError("gone", code="refused")


class Told:
    """A message that is sent as its script says, and then is out."""

    def __init__(self, name: str, script: list[Any], sent: list[str]) -> None:
        self.name = name
        self.size = 10
        self._script = list(script)
        self._sent = sent
        # What has to happen first.
        self.before: loops.Event | None = None
        self.unpreparable: SocketError | None = None
        self.prepared = False

    @property
    def ready(self) -> bool:
        return self.before is None or self.prepared

    async def prepare(self) -> None:
        assert self.before is not None
        await self.before.wait()
        if self.unpreparable is not None:
            raise self.unpreparable
        self.prepared = True

    def send(self) -> Any:
        assert self.ready
        outcome = self._script.pop(0) if self._script else None
        if outcome is FATAL:
            raise FATAL
        if outcome is None:
            self._sent.append(self.name)
        return outcome


class Owner:
    """Who is told what the writable notices, and ends it as a socket would."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.writable: MessageWritable

    def _failed(self, error: SocketError) -> None:
        self.told.append(error)
        self.writable.stream._fail(error)

    def _write_ended(self) -> None:
        self.told.append("write ended")

    def _read_ended(self) -> None:
        raise AssertionError

    _read_cancelled = _read_ended


class Place:
    """A writable, what it has sent, and what its owner was told."""

    def __init__(self, sock: socket.socket) -> None:
        runtime = current()
        self.sent: list[str] = []
        self.owner = Owner()
        self.gate = Gate(runtime)
        self.gate.open(sock.fileno())
        self.made: dict[str, Told] = {}
        self.writable = MessageWritable(runtime, self.gate, self.owner, 35, self._take)
        self.owner.writable = self.writable
        self.writer = self.writable.stream.getWriter()

    def _take(self, chunk: Any) -> Told:
        if not isinstance(chunk, Told):
            raise TypeError(f"{chunk!r} is no message")
        return chunk

    def message(self, name: str, *script: Any, held: bool = False) -> Told:
        made = Told(name, list(script), self.sent)
        if held:
            made.before = loops.Event()
        return made


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[Place]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        made = Place(ours)
        yield made
        made.gate.close()
        await settle()


async def test_a_message_is_sent_by_the_call_that_writes_it() -> None:
    async with place() as here:
        written = here.writer.write(here.message("one"))
        assert here.sent == ["one"]
        assert not written._is_pending()
        await written
        assert here.writer.desiredSize == 35
        # Nothing was queued: it is the same promise for all.
        assert here.writer.write(here.message("two")) is written


async def test_what_cannot_go_at_once_is_queued_and_sent_in_order() -> None:
    async with place() as here:
        first = here.writer.write(here.message("one", Want.WRITE, Want.WRITE))
        second = here.writer.write(here.message("two"))
        assert here.sent == []
        assert here.writer.desiredSize == 15
        await second
        assert here.sent == ["one", "two"]
        assert not first._is_pending()
        assert here.writer.desiredSize == 35


async def test_it_is_sent_whether_or_not_anybody_awaits_it() -> None:
    async with place() as here:
        here.writer.write(here.message("one", Want.WRITE))
        gc.collect()
        await settle()
        assert here.sent == ["one"]


async def test_ready_is_pending_while_the_queue_is_full() -> None:
    async with place() as here:
        held = here.message("one", held=True)
        written = here.writer.write(held)
        for name in ("two", "three", "four"):
            assert not here.writer.ready._is_pending()
            here.writer.write(here.message(name))
        assert here.writer.desiredSize == -5
        ready = here.writer.ready
        assert ready._is_pending()
        held.before.set()  # type: ignore[union-attr]
        await ready
        await written
        await settle()
        assert here.sent == ["one", "two", "three", "four"]


async def test_a_bad_chunk_rejects_its_write_and_nothing_else() -> None:
    async with place() as here:
        with pytest.raises(TypeError, match="5 is no message"):
            await here.writer.write(5)
        await here.writer.write(here.message("one"))
        assert here.sent == ["one"]


async def test_a_failure_of_one_message_rejects_its_write_and_nothing_else() -> None:
    async with place() as here:
        with pytest.raises(SocketError) as at_once:
            await here.writer.write(here.message("one", OWN))
        assert at_once.value is OWN
        later = here.writer.write(here.message("two", Want.WRITE, OWN))
        await here.writer.write(here.message("three"))
        with pytest.raises(SocketError) as queued:
            await later
        assert queued.value is OWN
        assert here.sent == ["three"]
        assert here.owner.told == []
        assert here.writer.desiredSize == 35


async def test_a_failure_of_the_connection_is_the_owners() -> None:
    async with place() as here:
        with pytest.raises(SocketError) as caught:
            await here.writer.write(here.message("one", FATAL))
        assert caught.value is FATAL
        assert here.owner.told == [FATAL]
        with pytest.raises(SocketError):
            await here.writer.write(here.message("two"))
        assert here.sent == []


async def test_a_failure_of_the_connection_rejects_what_is_queued() -> None:
    async with place() as here:
        first = here.writer.write(here.message("one", Want.WRITE, FATAL))
        second = here.writer.write(here.message("two"))
        for promise in (first, second, here.writer.closed):
            with pytest.raises(SocketError) as caught:
                await promise
            assert caught.value is FATAL
        assert here.owner.told == [FATAL]
        assert here.writer.desiredSize is None


async def test_what_has_to_be_prepared_holds_up_what_comes_after_it() -> None:
    async with place() as here:
        held = here.message("one", held=True)
        here.writer.write(held)
        second = here.writer.write(here.message("two"))
        await settle()
        assert here.sent == []
        assert held.before is not None
        held.before.set()
        await second
        assert here.sent == ["one", "two"]


async def test_what_cannot_be_prepared_rejects_its_write_and_nothing_else() -> None:
    async with place() as here:
        held = here.message("one", held=True)
        held.unpreparable = OWN
        first = here.writer.write(held)
        second = here.writer.write(here.message("two"))
        assert held.before is not None
        held.before.set()
        with pytest.raises(SocketError) as caught:
            await first
        assert caught.value is OWN
        await second
        assert here.sent == ["two"]


async def test_close_sends_what_is_queued_first() -> None:
    async with place() as here:
        written = here.writer.write(here.message("one", Want.WRITE))
        closed = here.writer.close()
        assert here.owner.told == []
        with pytest.raises(TypeError, match="closed before"):
            await here.writer.write(here.message("two"))
        await closed
        assert not written._is_pending()
        assert here.sent == ["one"]
        assert here.owner.told == ["write ended"]
        await here.writer.closed


async def test_close_without_a_queue_ends_at_once() -> None:
    async with place() as here:
        closed = here.writer.close()
        assert not closed._is_pending()
        assert here.owner.told == ["write ended"]


async def test_abort_drops_what_is_queued() -> None:
    async with place() as here:
        held = here.message("one", held=True)
        first = here.writer.write(held)
        second = here.writer.write(here.message("two"))
        await settle()
        await here.writer.abort("enough")
        for promise in (first, second, here.writer.closed):
            with pytest.raises(AbortError, match="enough"):
                await promise
        assert here.owner.told == ["write ended"]
        await settle()
        assert here.sent == []


async def test_abort_rejects_a_close_that_waits() -> None:
    async with place() as here:
        here.writer.write(here.message("one", held=True))
        closed = here.writer.close()
        await settle()
        await here.writer.abort("enough")
        with pytest.raises(AbortError):
            await closed


async def test_a_cancelled_write_awaiter_detaches_and_the_write_completes() -> None:
    async with place() as here:
        held = here.message("one", held=True)
        written = here.writer.write(held)
        with loops.move_on_after(0) as scope:
            await written
        assert scope.cancelled_caught
        assert held.before is not None
        held.before.set()
        await written
        assert here.sent == ["one"]


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_what_the_end_of_the_event_loop_takes_along_is_told(loop: str) -> None:
    ours, theirs = socket.socketpair()

    async def main() -> None:
        here = Place(ours)
        here.writer.write(here.message("one", held=True))
        here.writer.write(here.message("two"))
        await settle()

    with ours, theirs, pytest.warns(ResourceWarning, match="2 messages .* not sent"):
        loops.run(loop, main)
