"""trio: SocketStream and SSLStream."""

from __future__ import annotations

import ssl
from typing import Any

import trio

from bench.clients import job as jobs
from bench.clients.job import Job, Outcome

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def open_stream(
    job: Job, context: ssl.SSLContext | None, session: Any = None
) -> Stream:
    """A connection to the peer, its handshake done."""
    stream = await trio.open_tcp_stream(job.host, job.port)
    if context is None:
        return stream
    secure = trio.SSLStream(stream, context, server_hostname=job.host)
    if session is not None:
        secure.session = session
    await secure.do_handshake()
    return secure


async def receive_exactly(stream: Stream, size: int) -> bytes:
    """`size` bytes, in as few receives as it takes."""
    data = bytes(await stream.receive_some(size))
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise EOFError(f"the peer ended after {len(data)} of {size} bytes")
        data += more
    return data


async def roundtrip(job: Job) -> Outcome:
    """Write a message, read its echo, and again."""
    digest, size = job.digest(), job.size
    async with await open_stream(job, job.context()) as stream:
        for message in job.messages():
            await stream.send_all(message)
            data = await receive_exactly(stream, size)
            if digest is not None:
                digest.add(data)
    return jobs.outcome(job.total, digest)


async def receive(job: Job) -> Outcome:
    """Read what the peer sends, in pieces of up to 64 KiB."""
    digest, left = job.digest(), job.total
    async with await open_stream(job, job.context()) as stream:
        await stream.send_all(job.header())
        while left > 0:
            data = await stream.receive_some(jobs.CHUNK)
            if not data:
                raise EOFError(f"the peer ended {left} bytes early")
            left -= len(data)
            if digest is not None:
                digest.add(data)
    return jobs.outcome(job.total - left, digest)


async def send(job: Job) -> Outcome:
    """Write chunk after chunk and hear how much arrived."""
    async with await open_stream(job, job.context()) as stream:
        await stream.send_all(job.header())
        for message in job.messages():
            await stream.send_all(message)
        return jobs.reply(await receive_exactly(stream, jobs.REPLY.size), job)


async def connect(job: Job) -> Outcome:
    """Connect, read the one greeting byte, close; and again."""
    context, session, greetings = job.context(), None, 0
    for _ in range(job.count):
        async with await open_stream(job, context, session) as stream:
            greetings += len(await stream.receive_some(1))
            if job.resume:
                session = stream.session  # type: ignore[union-attr]
    return Outcome(greetings)


async def idle(job: Job) -> Outcome:
    """Open connections, use each once, and keep them."""
    context, streams, digest = job.context(), [], job.digest()
    messages = job.messages()
    for group in (job.warm, job.count - job.warm):
        for _ in range(group):
            stream = await open_stream(job, context)
            await stream.send_all(next(messages))
            data = await receive_exactly(stream, job.size)
            if digest is not None:
                digest.add(data)
            streams.append(stream)
        jobs.pause()
    for stream in streams:
        await trio.aclose_forcefully(stream)
    return jobs.outcome(job.total, digest)


KINDS = {
    "roundtrip": roundtrip,
    "receive": receive,
    "send": send,
    "connect": connect,
    "idle": idle,
}

if __name__ == "__main__":
    jobs.main(lambda job: trio.run(KINDS[job.kind], job))
