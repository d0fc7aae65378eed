"""Clients of a listener that do it badly, and a system that has nothing left."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import certificates, loops
from tests.leaks import Snapshot, left_behind, tasks
from tests.loopback import NO_LINGER, Secure, settle
from tests.naming import named
from tests.serving import echo, identity, plain, served, take, visitor
from tests.wires import SocketStream
from wsockets import ServerSocket, SocketError, listen

from .peers import visiting
from .records import ALERT, DATA, HANDSHAKE, in_the_clear, message

pytestmark = pytest.mark.every_loop

# The alerts of RFC 8446, section 6.
HANDSHAKE_FAILURE = 40
DECODE_ERROR = 50
PROTOCOL_VERSION = 70
NO_APPLICATION_PROTOCOL = 120


async def calm(server: ServerSocket, failed: int) -> None:
    """Until so many have come to nothing, and none is under way."""
    with loops.fail_after(20):
        while server.stats.failed < failed or server.stats.handshaking:
            await loops.checkpoint()
    assert server.stats.failed == failed


async def serves(server: ServerSocket) -> None:
    """The next client is served as if nothing had happened."""
    client = visitor(server)
    found = await take(server)
    await client.writable.getWriter().write("hello")
    assert (await found.readable.getReader().read()).value == b"hello"
    await client.close()
    await found.close()


async def lingered() -> None:
    """Until what was closed here has been closed by its peer too."""
    with loops.fail_after(20):
        while any("linger" in name for name in tasks()):
            await loops.checkpoint()


async def answer(sock: socket.socket) -> bytes:
    """Everything that the server says before it ends the connection."""

    def read() -> bytes:
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65536):
                data += chunk
        return data

    return await loops.in_thread(read)


def hello(
    *, server_name: str = "localhost", alpn: list[str] | None = None
) -> tuple[bytes, ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """A ClientHello of Python's ssl, and what goes on from it."""
    context = visiting()
    if alpn is not None:
        context = ssl.create_default_context(cadata=certificates.authority().pem)
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read(), tls, incoming, outgoing


def extended(client_hello: bytes, extension: bytes) -> bytes:
    """A ClientHello with one extension more (RFC 8446, section 4.1.2)."""
    body = client_hello[9:]
    position = 34
    position += 1 + body[position]
    position += 2 + int.from_bytes(body[position : position + 2])
    position += 1 + body[position]
    size = int.from_bytes(body[position : position + 2])
    extensions = body[position + 2 : position + 2 + size]
    # Before the others: a pre-shared key has to be the last.
    extensions = extension + extensions
    body = body[:position] + struct.pack("!H", len(extensions)) + extensions
    handshake = b"\x01" + struct.pack("!I", len(body))[1:] + body
    return b"".join(
        in_the_clear(HANDSHAKE, handshake[start : start + 16384], 0x0301)
        for start in range(0, len(handshake), 16384)
    )


# -- hellos


async def test_a_hello_may_come_byte_by_byte() -> None:
    data, tls, incoming, outgoing = hello()
    async with served("on") as server:
        with plain(server) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in data:
                sock.sendall(bytes([byte]))
                await settle()
            # Nobody else has waited.
            await serves(server)
            while True:
                incoming.write(await loops.in_thread(sock.recv, 65536))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            sock.sendall(outgoing.read())
            found = await take(server)
            found.close("done")


@pytest.mark.parametrize("size", [1, 3, 50])
async def test_a_hello_may_be_cut_into_many_records(size: int) -> None:
    data, tls, incoming, outgoing = hello()
    body = data[5:]
    async with served("on") as server:
        with plain(server) as sock:
            for start in range(0, len(body), size):
                sock.sendall(in_the_clear(HANDSHAKE, body[start : start + size]))
            said = await loops.in_thread(sock.recv, 65536)
            if said[0] == ALERT:
                # OpenSSL refuses what nobody sends without malice.
                assert size == 1
            else:
                incoming.write(said)
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                sock.sendall(outgoing.read())
                (await take(server)).close("done")
        await serves(server)


GARBAGE = {
    "a request in the clear": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(64),
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(100),
    "a hello without content": message(1, bytes(40)),
    "a server's hello": message(2, bytes(40)),
    "an SSLv2 hello": b"\x80\x2e\x01\x00\x02" + bytes(44),
    "early data": in_the_clear(DATA, b"early"),
    "an alert": in_the_clear(ALERT, b"\x02\x28"),
    "a banner": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a PROXY header": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1\r\n",
    "half a hello": hello()[0][:100],
    "nothing": b"",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_sixty_clients_that_send_garbage_leave_nothing(data: bytes) -> None:
    async with served("on") as server:
        await serves(server)
        await lingered()
        before, tasks_before = Snapshot.take(), tasks()
        for _ in range(60):
            with plain(server) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
        await calm(server, 60)
        assert server.stats.waiting == 0
        await serves(server)
        await lingered()
        assert tasks() == tasks_before
        assert left_behind(before) == []


async def test_a_giant_hello_is_refused_and_not_kept() -> None:
    """As much as its record and its length allow, and still not complete."""
    data = b"\x01\xff\xff\xff\x03\x03"
    async with served("on") as server:
        with plain(server) as sock:
            sock.sendall(in_the_clear(HANDSHAKE, data + bytes(16000)))
            said = await answer(sock)
            assert said[:1] == bytes([ALERT])
        await calm(server, 1)
        await serves(server)


@pytest.mark.parametrize(
    ("extension", "alert"),
    [
        # ALPN (16): an empty list, an empty name, a name that is longer than the
        # list, GREASE beside a name, a name of 255 bytes.
        (b"\0\x10\0\2\0\0", DECODE_ERROR),
        (b"\0\x10\0\3\0\1\0", DECODE_ERROR),
        (b"\0\x10\0\4\0\2\5h", DECODE_ERROR),
        (b"\0\x10\0\7\0\5\2\x0a\x0a\1x", NO_APPLICATION_PROTOCOL),
        (b"\0\x10\1\2\1\0\xff" + b"n" * 255, NO_APPLICATION_PROTOCOL),
        # Server name (0): an empty list, two hosts, a NUL in the name.
        (b"\0\0\0\2\0\0", DECODE_ERROR),
        (b"\0\0\0\6\0\4\0\0\1\0", None),
    ],
    ids=named,
)
async def test_a_malformed_extension_ends_one_handshake(
    extension: bytes, alert: int | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    async with served("on", alpn=["h2"]) as server:
        with plain(server) as sock:
            sock.sendall(extended(outgoing.read(), extension))
            said = await answer(sock)
            assert said[:1] == bytes([ALERT])
            assert alert in (None, said[6])
        await calm(server, 1)
        await serves(server)


async def test_many_extensions_are_read_or_refused() -> None:
    unknown = b"".join(struct.pack("!HH", 0x4000 + number, 0) for number in range(4000))
    async with served("on") as server:
        with plain(server) as sock:
            sock.sendall(extended(hello()[0], unknown))
            said = await loops.in_thread(sock.recv, 5)
            assert said[0] in (ALERT, HANDSHAKE)
        await calm(server, 1)
        await serves(server)


@pytest.mark.parametrize("alpn", [["smtp"], ["H2"], ["h2c", "h2 "]], ids=named)
async def test_an_offer_without_overlap_gets_the_alert_120(alpn: list[str]) -> None:
    async with served("on", alpn=["h2", "http/1.1"]) as server:
        with plain(server) as sock:
            sock.sendall(hello(alpn=alpn)[0])
            said = await answer(sock)
        assert said == in_the_clear(ALERT, bytes([2, NO_APPLICATION_PROTOCOL]))
        await calm(server, 1)


async def test_an_old_version_is_refused_with_its_alert() -> None:
    # A complete hello of TLS 1.0.
    body = b"\x03\x01" + bytes(32) + b"\0" + b"\0\2\0\x2f" + b"\1\0"
    async with served("on") as server:
        with plain(server) as sock:
            sock.sendall(message(1, body))
            said = await answer(sock)
        assert said[0] == ALERT
        assert said[6] == PROTOCOL_VERSION
        await calm(server, 1)
        await serves(server)


async def test_no_cipher_in_common_is_refused_with_its_alert() -> None:
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\0\x05" + b"\1\0"
    async with served("on") as server:
        with plain(server) as sock:
            sock.sendall(message(1, body))
            said = await answer(sock)
        assert (said[0], said[6]) == (ALERT, HANDSHAKE_FAILURE)
        await calm(server, 1)


async def test_whoever_leaves_before_the_handshake_delivers_nothing() -> None:
    """A client that sends data and goes is never a socket, nor is its data read."""
    async with served("on") as server:
        reader = server.readable.getReader()
        read = reader.read()
        for goodbye in ("end", "reset"):
            with plain(server) as sock:
                sock.sendall(b"DELETE / HTTP/1.1\r\n\r\n")
                if goodbye == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        await calm(server, 2)
        assert read._is_pending()
        reader.releaseLock()
        await serves(server)


async def test_an_alert_arrives_though_the_client_has_said_more() -> None:
    """A reset for what nobody reads would destroy it."""
    async with served("on", clientCa=certificates.authority().pem) as server:
        client = visitor(server)
        # TLS 1.3: for the client all is well; it sends its request at once.
        await client.opened
        await client.writable.getWriter().write("GET /")
        with pytest.raises(SocketError) as caught:
            await client.readable.getReader().read()
        assert caught.value.code == "tls-alert"
        assert "certificate_required" in str(caught.value)
        await calm(server, 1)


async def test_an_end_without_close_notify_is_noticed_here_too() -> None:
    async with served("on") as server:
        client = visitor(server)
        found = await take(server)
        await client.opened
        assert client._connection is not None
        client._connection.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(SocketError) as caught:
            await found.readable.getReader().read()
        assert caught.value.code == "truncated"
        client.close("done")


# -- a system that has nothing left


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process have no more descriptors than it has."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    filling: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filling:
            os.close(fd)


async def test_without_descriptors_a_server_waits_without_being_busy(
    secure: Secure, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(secure) as server:
        await serves(server)
        await lingered()
        tries = Counting(server._endpoint.socket.accept)
        waiting = [socket.socket() for _ in range(4)]
        address = ("127.0.0.1", int(server.localAddress.rpartition(":")[2]))
        with no_descriptors():
            for sock in waiting:
                sock.connect(address)
            server._endpoint.socket = tries.standing_for(server._endpoint.socket)
            begun = loops.current_time()
            # For 0.1 s, then for 0.2 s.
            while tries.count < 3:
                assert loops.current_time() < begun + 10
                await loops.checkpoint()
            assert loops.current_time() - begun >= 0.25
            assert server.stats.accepted == 1
        while server.stats.accepted < 1 + len(waiting):
            await loops.checkpoint()
        for sock in waiting:
            if secure == "off":
                await (await take(server)).close()
            sock.close()
        await serves(server)
        (record,) = (each for each in caplog.records if each.levelname == "WARNING")
        assert record.getMessage() == (
            f"cannot accept connections on {server.localAddress}: Too many open files; "
            "trying until it works"
        )


class Counting:
    """accept(), counted."""

    def __init__(self, accept: Callable[[], Any]) -> None:
        self._accept = accept
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        return self._accept()

    def standing_for(self, real: socket.socket) -> Any:
        counting = self

        class Standing:
            accept = staticmethod(counting)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        return Standing()


# -- given up at any moment


@pytest.mark.parametrize("turns", range(0, 24, 2))
async def test_a_nursery_cancelled_at_any_moment_leaves_nothing(
    secure: Secure, turns: int
) -> None:
    members = {"secureTransport": "on", **identity()} if secure == "on" else {}
    async with (
        loops.open_nursery() as others,
        loops.native_nursery() as (nursery, cancel),
    ):
        server = listen("127.0.0.1:0", members, nursery=nursery)
        clients = [visitor(server) for _ in range(3)]

        async def serve() -> None:
            async for found in server:
                others.start_soon(echo, found)

        others.start_soon(serve)
        for _ in range(turns):
            await loops.checkpoint()
        cancel()
        others.cancel_scope.cancel()
    assert not server.closed._is_pending()
    assert server.stats.handshaking == server.stats.waiting == 0
    for client in clients:
        client.close("done")
    await settle()
    assert not any("wsockets" in name for name in tasks() if "linger" not in name)


# -- many


@pytest.mark.timeout(180)
async def test_many_clients_shake_hands_at_the_same_time() -> None:
    """All are connected before the first says a word; each gets its answer."""
    # It takes its time, so elsewhere they are fewer.
    count = 2000 if loops.on_trio() else 200
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (min(2 * count + 500, limits[1]), limits[1])
    )
    members = {
        "secureTransport": "on",
        "maxHandshakes": count,
        "handshakeTimeout": 120,
        **identity(),
    }
    try:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(listen("127.0.0.1:0", members))
            # A read that waits makes room for all of them.
            reader = server.readable.getReader()
            first = reader.read()
            clients = []
            for _ in range(count):
                # The system accepts them by itself.
                clients.append(stack.enter_context(plain(server)))
                clients[-1].setblocking(False)
            while server.stats.handshaking < count:
                await loops.checkpoint()

            async def visit(sock: socket.socket) -> None:
                data, tls, incoming, outgoing = hello()
                stream = SocketStream(sock)
                await stream.send_all(data)
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        incoming.write(await stream.receive_some())
                tls.write(b"x")
                await stream.send_all(outgoing.read())
                while True:
                    incoming.write(await stream.receive_some())
                    with contextlib.suppress(ssl.SSLWantReadError):
                        assert tls.read(1) == b"x"
                        break
                stream.close()

            async def answer(found: Any) -> None:
                async with found:
                    writer = found.writable.getWriter()
                    await writer.write((await found.readable.getReader().read()).value)

            async with loops.open_nursery() as nursery:
                for sock in clients:
                    nursery.start_soon(visit, sock)
                nursery.start_soon(answer, (await first).value)
                for _ in range(count - 1):
                    nursery.start_soon(answer, (await reader.read()).value)
            stats = server.stats
            assert (stats.accepted, stats.failed, stats.handshaking) == (count, 0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
