"""anyio: connect_tcp() and its byte streams, on the backend named by the module.

Run as it is, the backend is asyncio; `anyio_on_trio` runs it on trio.
"""

from __future__ import annotations

import ssl

import anyio
from anyio.abc import ByteStream

from bench.clients import job as jobs
from bench.clients.job import Job, Outcome


async def open_stream(job: Job, context: ssl.SSLContext | None) -> ByteStream:
    """A connection to the peer, its handshake done."""
    if context is None:
        return await anyio.connect_tcp(job.host, job.port)
    return await anyio.connect_tcp(
        job.host, job.port, ssl_context=context, tls_hostname=job.host
    )


async def receive_exactly(stream: ByteStream, size: int) -> bytes:
    """`size` bytes, in as few receives as it takes."""
    data = await stream.receive(size)
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return data


async def roundtrip(job: Job) -> Outcome:
    """Write a message, read its echo, and again."""
    digest, size = job.digest(), job.size
    async with await open_stream(job, job.context()) as stream:
        for message in job.messages():
            await stream.send(message)
            data = await receive_exactly(stream, size)
            if digest is not None:
                digest.add(data)
    return jobs.outcome(job.total, digest)


async def receive(job: Job) -> Outcome:
    """Read what the peer sends, in pieces of up to 64 KiB."""
    digest, left = job.digest(), job.total
    async with await open_stream(job, job.context()) as stream:
        await stream.send(job.header())
        while left > 0:
            data = await stream.receive(jobs.CHUNK)
            left -= len(data)
            if digest is not None:
                digest.add(data)
    return jobs.outcome(job.total - left, digest)


async def send(job: Job) -> Outcome:
    """Write chunk after chunk and hear how much arrived."""
    async with await open_stream(job, job.context()) as stream:
        await stream.send(job.header())
        for message in job.messages():
            await stream.send(message)
        return jobs.reply(await receive_exactly(stream, jobs.REPLY.size), job)


async def connect(job: Job) -> Outcome:
    """Connect, read the one greeting byte, close; and again."""
    context, greetings = job.context(), 0
    for _ in range(job.count):
        async with await open_stream(job, context) as stream:
            greetings += len(await stream.receive(1))
    return Outcome(greetings)


async def idle(job: Job) -> Outcome:
    """Open connections, use each once, and keep them."""
    context, digest, messages = job.context(), job.digest(), job.messages()
    opened: list[ByteStream] = []
    for group in (job.warm, job.count - job.warm):
        for _ in range(group):
            stream = await open_stream(job, context)
            await stream.send(next(messages))
            data = await receive_exactly(stream, job.size)
            if digest is not None:
                digest.add(data)
            opened.append(stream)
        jobs.pause()
    for stream in opened:
        await anyio.aclose_forcefully(stream)
    return jobs.outcome(job.total, digest)


KINDS = {
    "roundtrip": roundtrip,
    "receive": receive,
    "send": send,
    "connect": connect,
    "idle": idle,
}


def main(backend: str) -> None:
    """Do the job on the event loop that `backend` names."""
    jobs.main(lambda job: anyio.run(KINDS[job.kind], job, backend=backend))


if __name__ == "__main__":
    main("asyncio")
