"""HTTP/2 with nginx: the h2 library over the streams of one TLS socket."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import attrs
import h2.connection
import h2.events
import h2.settings
import pytest

import tests.servers.nginx
from tests import loops
from tests.conftest import find_peer
from tests.servers import Nginx, run_nginx
from tests.servers.tls import TlsFiles
from wsockets import Binding, Socket, TlsOptions

pytestmark = pytest.mark.every_loop


@attrs.define(eq=False)
class Exchange:
    """A request on its way."""

    status: int = 0
    body: bytearray = attrs.field(factory=bytearray)
    done: loops.Event = attrs.field(factory=loops.Event)


class Client:
    """Any number of requests at once on one connection."""

    def __init__(self, socket: Socket) -> None:
        self.reader = socket.readable.getReader()
        self.writer = socket.writable.getWriter()
        self.h2 = h2.connection.H2Connection()
        self.exchanges: dict[int, Exchange] = {}
        self.window_opened = loops.Event()
        self.blocked = 0

    async def flush(self) -> None:
        await self.writer.write(self.h2.data_to_send())

    async def run(self) -> None:
        while True:
            value, done = await self.reader.read()
            if done:
                return
            for event in self.h2.receive_data(value):
                self.handle(event)
            await self.flush()

    def handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            assert event.stream_id is not None
            assert event.headers is not None
            fields = {bytes(name): bytes(value) for name, value in event.headers}
            self.exchanges[event.stream_id].status = int(fields[b":status"])
        elif isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            self.exchanges[event.stream_id].body += event.data or b""
            self.h2.acknowledge_received_data(
                event.flow_controlled_length or 0, event.stream_id
            )
        elif isinstance(event, h2.events.StreamEnded):
            assert event.stream_id is not None
            self.exchanges[event.stream_id].done.set()
        elif isinstance(
            event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)
        ):
            self.window_opened.set()
            self.window_opened = loops.Event()
        else:
            assert not isinstance(
                event, (h2.events.StreamReset, h2.events.ConnectionTerminated)
            ), event

    async def request(self, method: str, path: str, body: bytes = b"") -> Exchange:
        stream = self.h2.get_next_available_stream_id()
        exchange = self.exchanges[stream] = Exchange()
        self.h2.send_headers(
            stream,
            [
                (":method", method),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", path),
                *([("content-length", str(len(body)))] if body else []),
            ],
            end_stream=not body,
        )
        rest = memoryview(body)
        while rest:
            window = self.h2.local_flow_control_window(stream)
            count = min(window, self.h2.max_outbound_frame_size, len(rest))
            if not count:
                self.blocked += 1
                await self.window_opened.wait()
                continue
            piece, rest = bytes(rest[:count]), rest[count:]
            self.h2.send_data(stream, piece, end_stream=not rest)
            await self.flush()
        await self.flush()
        await exchange.done.wait()
        return exchange


@asynccontextmanager
async def talking_to(
    server: Nginx, tls: TlsFiles, version: Literal["1.2", "1.3"] = "1.3"
) -> AsyncIterator[Client]:
    binding = Binding(
        tls=TlsOptions(ca=tls.root, minVersion=version, maxVersion=version)
    )
    async with (
        loops.open_nursery() as nursery,
        binding.connect(
            server.address, secureTransport="on", alpn=["h2", "http/1.1"]
        ) as socket,
    ):
        assert (await socket.opened).alpn == "h2"
        client = Client(socket)
        client.h2.initiate_connection()
        await client.flush()
        nursery.start_soon(client.run)
        yield client
        client.h2.close_connection()
        await client.flush()


@pytest.fixture(scope="module")
def keeper(tls_files: TlsFiles) -> Iterator[Nginx]:
    """An nginx that takes files as well."""
    find_peer("nginx")
    configuration = tests.servers.nginx.CONFIGURATION
    taking = configuration.replace(
        "server_name localhost;",
        "server_name localhost; dav_methods PUT; client_max_body_size 64m;",
    )
    assert taking != configuration
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(tests.servers.nginx, "CONFIGURATION", taking)
        server = stack.enter_context(run_nginx(tls_files))
        patch.undo()
        yield server


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_requests_share_a_connection(
    version: Literal["1.2", "1.3"], nginx: Nginx, tls_files: TlsFiles
) -> None:
    paths = ["/hello", "/large"] * 6
    async with talking_to(nginx, tls_files, version) as client:
        answers: dict[int, Exchange] = {}

        async def get(number: int) -> None:
            answers[number] = await client.request("GET", paths[number])

        async with loops.open_nursery() as nursery:
            for number in range(len(paths)):
                nursery.start_soon(get, number)
    for number, path in enumerate(paths):
        assert answers[number].status == 200
        assert answers[number].body == nginx.files[path]


async def test_what_is_not_there_is_404(nginx: Nginx, tls_files: TlsFiles) -> None:
    async with talking_to(nginx, tls_files) as client:
        assert (await client.request("GET", "/nowhere")).status == 404
        assert (await client.request("GET", "/hello")).status == 200


async def test_large_bodies_go_both_ways_at_once(
    keeper: Nginx, tls_files: TlsFiles, rng: random.Random
) -> None:
    # It is the same server for all.
    bodies = {f"/{rng.randbytes(8).hex()}": rng.randbytes(3 << 20) for _ in range(3)}
    async with talking_to(keeper, tls_files) as client:

        async def keep(path: str, body: bytes) -> None:
            assert (await client.request("PUT", path, body)).status == 201
            assert (await client.request("GET", path)).body == body

        async def get() -> None:
            answer = await client.request("GET", "/large")
            assert answer.body == keeper.files["/large"]

        async with loops.open_nursery() as nursery:
            for path, body in bodies.items():
                nursery.start_soon(keep, path, body)
                nursery.start_soon(get)
        # The windows of HTTP/2 are 64 KiB: the bodies had to wait for room.
        assert client.blocked
