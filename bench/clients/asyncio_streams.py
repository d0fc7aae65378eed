"""asyncio: open_connection(), StreamReader and StreamWriter."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from bench.clients import job as jobs
from bench.clients.job import Job, Outcome

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_streams(job: Job, context: ssl.SSLContext | None) -> Streams:
    """A connection to the peer, its handshake done."""
    return await asyncio.open_connection(
        job.host,
        job.port,
        ssl=context,
        server_hostname=None if context is None else job.host,
    )


async def close(writer: asyncio.StreamWriter) -> None:
    """Close as the documentation says."""
    writer.close()
    await writer.wait_closed()


async def roundtrip(job: Job) -> Outcome:
    """Write a message, read its echo, and again."""
    digest, size = job.digest(), job.size
    reader, writer = await open_streams(job, job.context())
    for message in job.messages():
        writer.write(message)
        await writer.drain()
        data = await reader.readexactly(size)
        if digest is not None:
            digest.add(data)
    await close(writer)
    return jobs.outcome(job.total, digest)


async def receive(job: Job) -> Outcome:
    """Read what the peer sends, in pieces of up to 64 KiB."""
    digest, left = job.digest(), job.total
    reader, writer = await open_streams(job, job.context())
    writer.write(job.header())
    while left > 0:
        data = await reader.read(jobs.CHUNK)
        if not data:
            raise EOFError(f"the peer ended {left} bytes early")
        left -= len(data)
        if digest is not None:
            digest.add(data)
    await close(writer)
    return jobs.outcome(job.total - left, digest)


async def send(job: Job) -> Outcome:
    """Write chunk after chunk and hear how much arrived."""
    reader, writer = await open_streams(job, job.context())
    writer.write(job.header())
    for message in job.messages():
        writer.write(message)
        await writer.drain()
    result = jobs.reply(await reader.readexactly(jobs.REPLY.size), job)
    await close(writer)
    return result


async def connect(job: Job) -> Outcome:
    """Connect, read the one greeting byte, close; and again."""
    context, greetings = job.context(), 0
    for _ in range(job.count):
        reader, writer = await open_streams(job, context)
        greetings += len(await reader.readexactly(1))
        await close(writer)
    return Outcome(greetings)


async def idle(job: Job) -> Outcome:
    """Open connections, use each once, and keep them."""
    context, digest = job.context(), job.digest()
    messages = job.messages()
    opened: list[Streams] = []
    for group in (job.warm, job.count - job.warm):
        for _ in range(group):
            reader, writer = await open_streams(job, context)
            writer.write(next(messages))
            data = await reader.readexactly(job.size)
            if digest is not None:
                digest.add(data)
            opened.append((reader, writer))
        jobs.pause()
    for _, writer in opened:
        writer.transport.abort()
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
