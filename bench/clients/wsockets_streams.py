"""wsockets: connect(), reader.read() and writer.write(), on trio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

from bench.clients import job as jobs
from bench.clients.job import Job, Outcome
from wsockets import (
    Binding,
    ReadableStreamDefaultReader,
    SessionCache,
    Socket,
    TlsOptions,
)

Transport = Literal["on", "off"]


def open_socket(job: Job, binding: Binding) -> Socket:
    """A connection to the peer, under way."""
    secure: Transport = "on" if job.tls else "off"
    address = {"hostname": job.host, "port": job.port}
    return binding.connect(address, secureTransport=secure)


def bind(job: Job) -> Binding:
    """What the job's connections share: trust and, to resume, their sessions."""
    if not job.tls:
        return Binding()
    sessions = SessionCache() if job.resume else None
    return Binding(tls=TlsOptions(ca=Path(job.ca), minVersion="1.3", sessions=sessions))


async def receive_exactly(reader: ReadableStreamDefaultReader, size: int) -> bytes:
    """`size` bytes, in as few reads as it takes; no more may have been sent."""
    value = (await reader.read()).value
    data = b"" if value is None else value
    while len(data) < size:
        value, done = await reader.read()
        if done:
            raise EOFError(f"the peer ended after {len(data)} of {size} bytes")
        data += value
    return data


async def roundtrip(job: Job) -> Outcome:
    """Write a message, read its echo, and again."""
    digest, size = job.digest(), job.size
    async with open_socket(job, bind(job)) as socket:
        reader, writer = socket.readable.getReader(), socket.writable.getWriter()
        for message in job.messages():
            await writer.write(message)
            data = await receive_exactly(reader, size)
            if digest is not None:
                digest.add(data)
    return jobs.outcome(job.total, digest)


async def receive(job: Job) -> Outcome:
    """Read what the peer sends, as the chunks come."""
    digest, left = job.digest(), job.total
    async with open_socket(job, bind(job)) as socket:
        reader, writer = socket.readable.getReader(), socket.writable.getWriter()
        await writer.write(job.header())
        while left > 0:
            value, done = await reader.read()
            if done:
                raise EOFError(f"the peer ended {left} bytes early")
            left -= len(value)
            if digest is not None:
                digest.add(value)
    return jobs.outcome(job.total - left, digest)


async def send(job: Job) -> Outcome:
    """Write chunk after chunk and hear how much arrived."""
    async with open_socket(job, bind(job)) as socket:
        reader, writer = socket.readable.getReader(), socket.writable.getWriter()
        await writer.write(job.header())
        for message in job.messages():
            await writer.write(message)
        return jobs.reply(await receive_exactly(reader, jobs.REPLY.size), job)


async def connect(job: Job) -> Outcome:
    """Connect, read the one greeting byte, close; and again."""
    binding, greetings = bind(job), 0
    for _ in range(job.count):
        async with open_socket(job, binding) as socket:
            reader = socket.readable.getReader()
            greetings += len(await receive_exactly(reader, 1))
    return Outcome(greetings)


async def idle(job: Job) -> Outcome:
    """Open connections, use each once, and keep them."""
    binding, digest, messages = bind(job), job.digest(), job.messages()
    opened = []
    for group in (job.warm, job.count - job.warm):
        for _ in range(group):
            socket = open_socket(job, binding)
            reader, writer = socket.readable.getReader(), socket.writable.getWriter()
            await writer.write(next(messages))
            data = await receive_exactly(reader, job.size)
            if digest is not None:
                digest.add(data)
            opened.append((socket, reader, writer))
        jobs.pause()
    for socket, _, _ in opened:
        await socket.close(reason="done")
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
    import trio

    jobs.main(lambda job: trio.run(KINDS[job.kind], job))
