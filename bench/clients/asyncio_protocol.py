"""asyncio: transports and a Protocol, callbacks only; its fastest interface."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from bench.clients import job as jobs
from bench.clients.job import Digest, Job, Outcome


class Work(asyncio.Protocol):
    """A connection with work to do; `done` is set when it is done."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the work where it is not done."""
        self.gone.set_result(None)
        if not self.done.done():
            self.done.set_exception(exc or EOFError("the peer ended early"))


W = TypeVar("W", bound=Work)


class Echo(Work):
    """Writes messages, each when the echo of the one before is complete."""

    def __init__(self, messages: Iterator[bytes], size: int, digest: Digest | None):
        super().__init__()
        self.messages, self.size, self.digest = messages, size, digest
        self.left = 0

    def next(self) -> None:
        """Write the next message, if there is one."""
        message = next(self.messages, None)
        if message is None:
            self.done.set_result(None)
        else:
            self.left = self.size
            self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Count the echo."""
        if self.digest is not None:
            self.digest.add(data)
        self.left -= len(data)
        if self.left == 0:
            self.next()


class Receive(Work):
    """Counts what arrives until it is `left` bytes."""

    def __init__(self, left: int, digest: Digest | None) -> None:
        super().__init__()
        self.left, self.digest = left, digest

    def data_received(self, data: bytes) -> None:
        """Count it."""
        self.left -= len(data)
        if self.digest is not None:
            self.digest.add(data)
        if self.left <= 0:
            self.done.set_result(None)


class Send(Work):
    """Writes messages while the transport takes them; then awaits the reply."""

    def __init__(self, messages: Iterator[bytes]) -> None:
        super().__init__()
        self.messages, self.paused, self.reply = messages, False, b""

    def pause_writing(self) -> None:
        """The transport is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.paused = False
        self.fill()

    def fill(self) -> None:
        """Write until told to pause."""
        while not self.paused:
            message = next(self.messages, None)
            if message is None:
                break
            self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Collect the reply."""
        self.reply += data
        if len(self.reply) == jobs.REPLY.size:
            self.done.set_result(None)


async def open_work(
    job: Job, context: ssl.SSLContext | None, make: Callable[[], W]
) -> W:
    """A connection to the peer, its handshake done."""
    _, work = await asyncio.get_running_loop().create_connection(
        make,
        job.host,
        job.port,
        ssl=context,
        server_hostname=None if context is None else job.host,
    )
    return work


async def finish(work: Work) -> None:
    """Wait for the work, close, and wait for that."""
    await work.done
    work.transport.close()
    await work.gone


async def roundtrip(job: Job) -> Outcome:
    """Write a message, read its echo, and again."""
    digest, messages = job.digest(), job.messages()
    echo = await open_work(job, job.context(), lambda: Echo(messages, job.size, digest))
    echo.next()
    await finish(echo)
    return jobs.outcome(job.total, digest)


async def receive(job: Job) -> Outcome:
    """Take what the peer sends as it comes."""
    digest = job.digest()
    work = await open_work(job, job.context(), lambda: Receive(job.total, digest))
    if job.total == 0:
        work.done.set_result(None)
    work.transport.write(job.header())
    await finish(work)
    return jobs.outcome(job.total - work.left, digest)


async def send(job: Job) -> Outcome:
    """Write chunk after chunk and hear how much arrived."""
    messages = job.messages()
    work = await open_work(job, job.context(), lambda: Send(messages))
    work.transport.write(job.header())
    work.fill()
    await finish(work)
    return jobs.reply(work.reply, job)


async def connect(job: Job) -> Outcome:
    """Connect, read the one greeting byte, close; and again."""
    context, greetings = job.context(), 0
    for _ in range(job.count):
        work = await open_work(job, context, lambda: Receive(1, None))
        await finish(work)
        greetings += 1 - work.left
    return Outcome(greetings)


async def idle(job: Job) -> Outcome:
    """Open connections, use each once, and keep them."""
    context, digest, messages = job.context(), job.digest(), job.messages()
    opened: list[Echo] = []
    for group in (job.warm, job.count - job.warm):
        for _ in range(group):
            make = functools.partial(Echo, iter([next(messages)]), job.size, digest)
            echo = await open_work(job, context, make)
            echo.next()
            await echo.done
            opened.append(echo)
        jobs.pause()
    for echo in opened:
        echo.transport.abort()
    return jobs.outcome(job.total, digest)


KINDS = {
    "roundtrip": roundtrip,
    "receive": receive,
    "send": send,
    "connect": connect,
    "idle": idle,
}


def main(run: Callable[[Coroutine[Any, Any, Outcome]], Outcome]) -> None:
    """Do the job on the event loop behind `run`."""
    jobs.main(lambda job: run(KINDS[job.kind](job)))


if __name__ == "__main__":
    main(asyncio.run)
