"""Redis on a unix socket, in its own protocol (RESP2)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests import loops
from tests.servers import Redis
from wsockets import Socket, connect

pytestmark = pytest.mark.every_loop


class Client:
    """Commands and replies on one socket; whoever reads, reads alone."""

    def __init__(self, socket: Socket) -> None:
        self.reader = socket.readable.getReader()
        self.writer = socket.writable.getWriter()
        self.received = bytearray()

    def send(self, *words: str | bytes) -> Any:
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        return self.writer.write(b"".join(parts))

    async def more(self) -> None:
        value, done = await self.reader.read()
        assert not done
        self.received += value

    async def take(self, count: int) -> bytes:
        while len(self.received) < count:
            await self.more()
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    async def line(self) -> bytes:
        while (end := self.received.find(b"\r\n")) < 0:
            await self.more()
        return (await self.take(end + 2))[:-2]

    async def receive(self) -> Any:
        line = await self.line()
        kind, rest = line[:1], line[1:]
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else (await self.take(size + 2))[:-2]
        if kind == b"*":
            return [await self.receive() for _ in range(int(rest))]
        assert kind in b"+-"
        return line


async def test_a_ping_is_answered(redis: Redis) -> None:
    async with connect(redis.address) as socket:
        assert (await socket.opened).remoteAddress == redis.address
        client = Client(socket)
        await client.send("PING")
        assert await client.receive() == b"+PONG"
        await client.send("PING", b"\0\r\n\xff")
        assert await client.receive() == b"\0\r\n\xff"


async def test_a_pipeline_of_large_values(redis: Redis, rng: random.Random) -> None:
    values = {f"large-{number}": rng.randbytes(1 << 20) for number in range(4)}
    async with connect(redis.address) as socket:
        client = Client(socket)
        async with loops.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                for key, value in values.items():
                    await client.send("SET", key, value)
                for key in values:
                    await client.send("GET", key)

            for _ in values:
                assert await client.receive() == b"+OK"
            for value in values.values():
                assert await client.receive() == value
        await client.send("DEL", *values)
        assert await client.receive() == len(values)


async def test_a_pipeline_that_nobody_awaits(redis: Redis) -> None:
    async with connect(redis.address) as socket:
        client = Client(socket)
        for number in range(5000):
            client.send("SET", "counted", str(number))
            client.send("GET", "counted")
        for number in range(5000):
            assert await client.receive() == b"+OK"
            assert await client.receive() == str(number).encode()


async def test_messages_come_in_while_commands_go_out(redis: Redis) -> None:
    count = 200
    async with connect(redis.address) as one, connect(redis.address) as other:
        subscriber, publisher = Client(one), Client(other)
        messages: list[bytes] = []
        channels: list[bytes] = []
        ready = loops.Event()

        async def listen() -> None:
            while len(messages) < count or len(channels) < count:
                kind, channel, content = await subscriber.receive()
                if kind == b"message":
                    assert channel == b"news"
                    messages.append(content)
                elif channel == b"news":
                    ready.set()
                else:
                    channels.append(channel)

        async def subscribe() -> None:
            await subscriber.send("SUBSCRIBE", "news")
            for number in range(count):
                await subscriber.send("SUBSCRIBE", f"other-{number}")

        async def publish() -> None:
            await ready.wait()
            for number in range(count):
                await publisher.send("PUBLISH", "news", str(number))
                assert await publisher.receive() == 1

        async with loops.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(subscribe)
            nursery.start_soon(publish)
        assert messages == [str(number).encode() for number in range(count)]
        assert channels == [f"other-{number}".encode() for number in range(count)]


async def test_a_client_that_is_killed_reads_the_end(redis: Redis) -> None:
    async with connect(redis.address) as one, connect(redis.address) as other:
        victim, killer = Client(one), Client(other)
        await victim.send("CLIENT", "ID")
        number = await victim.receive()
        await killer.send("CLIENT", "KILL", "ID", str(number))
        assert await killer.receive() == 1
        assert await victim.reader.read() == (None, True)
        await one.closed
