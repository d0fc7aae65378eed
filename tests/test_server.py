"""listen() and ServerSocket: who is accepted, delivered, kept waiting, given up."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import Any

import pytest

from tests import loops
from tests.leaks import tasks
from tests.loopback import Secure, settle
from tests.serving import (
    echo,
    identity,
    plain,
    port_of,
    served,
    take,
    visitor,
)
from wsockets import (
    AbortController,
    AbortError,
    Binding,
    ReadableStream,
    ServerSocket,
    ServerStats,
    Socket,
    SocketError,
    SocketInfo,
    TlsOptions,
    listen,
)

pytestmark = pytest.mark.every_loop


async def until(condition: Any) -> None:
    """Until a condition that other tasks bring about holds."""
    with loops.fail_after(20):
        while not condition():
            await loops.checkpoint()


# -- accepting


async def test_a_server_gives_open_sockets_to_whoever_iterates(secure: Secure) -> None:
    async with served(secure) as server, loops.open_nursery() as nursery:
        clients = [visitor(server) for _ in range(5)]
        count = 0
        async for found in server:
            info = await found.opened
            assert info.localAddress == server.localAddress
            assert info.remoteAddress is not None
            assert found.secureTransport == secure
            nursery.start_soon(echo, found)
            count += 1
            if count == 5:
                break
        for number, client in enumerate(clients):
            await client.writable.getWriter().write(f"hello {number}")
            value, _ = await client.readable.getReader().read()
            assert value == f"hello {number}".encode()
            await client.close()
        assert server.stats == ServerStats(5, 0, 0, 0)


async def test_the_address_is_known_at_once_and_so_is_that_it_listens(
    secure: Secure,
) -> None:
    async with served(secure) as server:
        assert port_of(server) > 0
        assert await server.opened == SocketInfo(localAddress=server.localAddress)
        assert server.local_address == server.localAddress
        assert server.secure_transport == server.secureTransport == secure
        assert repr(server) == (
            f"<ServerSocket listening {server.localAddress} secureTransport={secure!r}>"
        )
        with plain(server):
            pass


async def test_the_stream_has_the_sockets_too(secure: Secure) -> None:
    async with served(secure) as server:
        assert isinstance(server.readable, ReadableStream)
        reader = server.readable.getReader()
        read = reader.read()
        client = visitor(server)
        found, done = await read
        assert isinstance(found, Socket)
        assert not done
        await client.close()
        await found.close()
        with pytest.raises(TypeError, match="locked"):
            await take(server)


async def test_leaving_the_loop_leaves_the_server_open(secure: Secure) -> None:
    async with served(secure) as server:
        for _ in range(3):
            client = visitor(server)
            found = await take(server)
            await client.opened
            await client.close()
            await found.close()
        assert not server.readable.locked


async def test_cancelling_the_stream_closes_the_server(secure: Secure) -> None:
    async with served(secure) as server:
        await server.readable.cancel("enough")
        await server.closed
        with pytest.raises(ConnectionRefusedError):
            plain(server)


async def test_a_timeout_takes_no_connection_with_it() -> None:
    async with served() as server:
        reader = server.readable.getReader()
        with loops.move_on_after(0.01):
            await reader.read()
        with plain(server):
            found, _ = await reader.read()
            assert (await found.opened).localAddress == server.localAddress
            await found.close()


async def test_members_are_those_of_the_sockets(secure: Secure) -> None:
    async with served(secure, highWaterMark=7, allow_half_open=True) as server:
        client = visitor(server)
        found = await take(server)
        assert found.writable.getWriter().desiredSize == 7
        await client.writable.getWriter().close()
        reader = found.readable.getReader()
        assert (await reader.read()).done
        await settle()
        assert "open" in repr(found)
        await found.close()
        await client.close()


async def test_a_server_made_by_a_binding_object_has_its_certificate() -> None:
    # Its `ca` and `verify` are for the servers that it connects to.
    bound = Binding(tls=TlsOptions(**identity(), ca=b"unused", verify="none"))
    async with bound.listen("127.0.0.1:0", secureTransport="on") as server:
        client = visitor(server)
        found = await take(server)
        info = found.tls_info()
        assert info is not None
        assert not info.verified
        await client.opened
        await client.close()
        await found.close()


# -- many at once, and slow ones


async def test_one_who_says_nothing_holds_up_nobody() -> None:
    async with served("on") as server:
        silent = [plain(server) for _ in range(30)]
        for _ in range(3):
            client = visitor(server)
            found = await take(server)
            await client.opened
            await client.close()
            await found.close()
        assert server.stats == ServerStats(33, 0, 30, 0)
        for sock in silent:
            sock.close()
        await until(lambda: server.stats == ServerStats(33, 30, 0, 0))


async def test_at_the_limit_of_handshakes_accepting_waits() -> None:
    async with served("on", maxHandshakes=2) as server:
        reader = server.readable.getReader()
        read = reader.read()
        silent = [plain(server) for _ in range(2)]
        await until(lambda: server.stats.handshaking == 2)
        client = visitor(server)
        await settle()
        assert server.stats.accepted == 2
        silent[0].close()
        found, _ = await read
        await client.opened
        await client.close()
        await found.close()
        assert server.stats.accepted == 3
        silent[1].close()


async def test_a_handshake_that_takes_too_long_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "wsockets")
    async with served("on", handshakeTimeout=0.1) as server:
        with plain(server) as sock:
            await until(lambda: server.stats == ServerStats(1, 1, 0, 0))
            assert sock.recv(1) == b""
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "handshakeTimeout" in record.getMessage()
    assert "127.0.0.1:" in record.getMessage()


async def test_the_backlog_fills_when_nobody_takes_sockets(secure: Secure) -> None:
    async with served(secure) as server:
        clients = [visitor(server) for _ in range(40)]
        await until(lambda: server.stats.waiting == 16)
        await settle()
        assert server.stats == ServerStats(16, 0, 0, 16)
        # Whoever takes one makes room for one.
        reader = server.readable.getReader()
        taken = [(await reader.read()).value]
        await until(lambda: server.stats.accepted == 17)
        taken += [(await reader.read()).value for _ in range(39)]
        for client, found in zip(clients, taken, strict=True):
            await client.opened
            client.close("done")
            found.close("done")
        assert server.stats == ServerStats(40, 0, 0, 0)


async def test_a_read_that_waits_lets_in_more_than_there_is_room_for() -> None:
    async with served("on") as server:
        read = server.readable.getReader().read()
        silent = [plain(server) for _ in range(20)]
        await until(lambda: server.stats.handshaking == 20)
        client = visitor(server)
        found, _ = await read
        await client.opened
        client.close("done")
        found.close("done")
        for sock in silent:
            sock.close()


# -- closing


async def test_close_ends_the_loop_and_leaves_live_sockets(secure: Secure) -> None:
    async with served(secure) as server:
        client = visitor(server)
        found = await take(server)
        closed = server.close()
        assert closed is server.closed
        assert server.close() is closed
        await closed
        assert [each async for each in server] == []
        with pytest.raises(ConnectionRefusedError):
            plain(server)
        await client.writable.getWriter().write("still there")
        assert (await found.readable.getReader().read()).value == b"still there"
        await client.close()
        await found.close()
        assert "closed" in repr(server)


async def test_close_keeps_what_was_accepted_and_what_is_under_way() -> None:
    async with served("on") as server:
        client = visitor(server)
        await client.opened
        slow = plain(server)
        await until(lambda: server.stats == ServerStats(2, 0, 1, 1))
        closed = server.close()
        await settle()
        assert "stopping" in repr(server)
        assert closed._is_pending()
        slow.close()
        await closed
        sockets = [each async for each in server]
        assert len(sockets) == 1
        await sockets[0].close()
        await client.close()


async def test_a_handshake_that_ends_after_close_is_delivered() -> None:
    async with served("on") as server:
        slow = plain(server)
        await until(lambda: server.stats.handshaking == 1)
        server.close()
        from tests import certificates
        from wsockets import Binding, TlsOptions

        tls = TlsOptions(ca=certificates.authority().pem)
        client = Binding(tls=tls).adopt(
            slow, secureTransport="on", hostname="localhost"
        )
        (found,) = [each async for each in server]
        await client.opened
        await server.closed
        await found.close()
        await client.close()


async def test_close_with_a_reason_resets_what_nobody_has_taken(
    secure: Secure,
) -> None:
    async with served(secure) as server:
        client = visitor(server)
        await client.opened
        await until(lambda: server.stats.waiting == 1)
        slow = plain(server) if secure == "on" else None
        if slow is not None:
            await until(lambda: server.stats.handshaking == 1)
        await server.close("not today")
        assert server.stats.waiting == 0
        with pytest.raises(SocketError) as caught:
            await client.readable.getReader().read()
        assert caught.value.code == "reset"
        if slow is not None:
            await until(lambda: server.stats.handshaking == 0)
            assert slow.recv(1) == b""
            slow.close()
        assert [each async for each in server] == []


async def test_close_with_a_reason_ends_a_read_that_waits(secure: Secure) -> None:
    async with served(secure) as server:
        read = server.readable.getReader().read()
        await server.close("not today")
        assert (await read).done


async def test_close_with_a_reason_comes_after_one_without() -> None:
    async with served() as server:
        with plain(server) as sock:
            await until(lambda: server.stats.waiting == 1)
            await server.close()
            await server.close("after all")
            assert server.stats.waiting == 0
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


async def test_leaving_the_block_drops_what_was_not_taken(secure: Secure) -> None:
    async with served(secure) as server:
        client = visitor(server)
        await client.opened
        await until(lambda: server.stats.waiting == 1)
    assert server.stats.waiting == 0
    await client.close()


async def test_an_aborted_signal_closes_the_server() -> None:
    controller = AbortController()
    async with served(signal=controller.signal) as server:
        read = server.readable.getReader().read()
        controller.abort("enough")
        await server.closed
        assert (await read).done
    aborted = AbortController()
    aborted.abort()
    server = listen("127.0.0.1:0", signal=aborted.signal)
    await server.closed
    with pytest.raises(ConnectionRefusedError):
        plain(server)


async def test_a_closed_server_leaves_its_signal_alone() -> None:
    controller = AbortController()
    async with served(signal=controller.signal) as server:
        await server.close()
    controller.abort()

    class Foreign:
        aborted = False

        def addEventListener(self, *_: object, **__: object) -> None:
            pass

    async with served(signal=Foreign()):
        pass


async def test_a_signal_of_the_server_is_none_of_its_sockets() -> None:
    controller = AbortController()
    async with served(signal=controller.signal) as server:
        client = visitor(server)
        found = await take(server)
        controller.abort()
        await server.closed
        await client.writable.getWriter().write("still there")
        assert (await found.readable.getReader().read()).value == b"still there"
        await client.close()
        await found.close()


async def test_a_nursery_waits_for_its_server_and_ends_it(secure: Secure) -> None:
    async with loops.native_nursery() as (nursery, _):
        async with served(secure, nursery=nursery) as server:
            client = visitor(server)
            found = await take(server)
            await client.opened
    await server.closed
    await client.close()
    await found.close()

    async with loops.native_nursery() as (nursery, cancel):
        server = listen("127.0.0.1:0", nursery=nursery)
        slow = plain(server)
        cancel()
    await server.closed
    slow.close()

    with pytest.raises(SocketError, match=r"nursery is .*(Nursery|TaskGroup), not str"):
        listen("127.0.0.1:0", nursery="x")


async def test_a_cancelled_nursery_gives_up_handshakes() -> None:
    async with loops.native_nursery() as (nursery, cancel):
        server = listen(
            "127.0.0.1:0", nursery=nursery, secureTransport="on", **identity()
        )
        slow = plain(server)
        await until(lambda: server.stats.handshaking == 1)
        cancel()
    assert server.stats == ServerStats(1, 1, 0, 0)
    assert slow.recv(1) == b""
    slow.close()


async def test_a_nursery_that_is_over_gets_no_server() -> None:
    async with loops.native_nursery() as (nursery, _):
        pass
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with pytest.raises(RuntimeError):
            listen(listening, nursery=nursery)
        # It is still the caller's.
        assert listening.fileno() >= 0
        listening.getsockname()
    with pytest.raises(RuntimeError):
        listen("127.0.0.1:0", nursery=nursery)


@pytest.mark.parametrize("kind", loops.LOOPS)
def test_at_the_end_of_the_run_everything_is_closed(kind: str) -> None:
    async def main() -> ServerSocket:
        server = listen("127.0.0.1:0", secureTransport="on", **identity())
        with plain(server):
            await until(lambda: server.stats.handshaking == 1)
        return server

    server = loops.run(kind, main)
    assert server.stats.handshaking == 0
    with pytest.raises(ConnectionRefusedError):
        plain(server)


async def test_a_server_has_one_task_and_its_sockets_none() -> None:
    before = tasks()
    async with served() as server:
        client = visitor(server)
        found = await take(server)
        await client.opened
        await settle()
        assert tasks() - before == {"wsockets listen": 1}
        await client.close()
        await found.close()


def test_a_server_needs_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        listen("127.0.0.1:0")


def test_a_server_is_made_by_listen() -> None:
    with pytest.raises(TypeError, match="listen"):
        ServerSocket()


# -- what the system says


async def test_without_descriptors_the_server_pauses_and_goes_on(
    secure: Secure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(secure) as server:
        answers = Answers(server, [errno.EMFILE, errno.ENFILE])
        monkeypatch.setattr(server._endpoint, "socket", answers)
        client = visitor(server)
        found = await take(server)
        await client.opened
        await client.close()
        await found.close()
        assert answers.asked >= 3
    (record,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert "Too many open files" in record.getMessage()


async def test_a_server_that_pauses_can_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as server:
        answers = Answers(server, [errno.ENOMEM] * 1000)
        monkeypatch.setattr(server._endpoint, "socket", answers)
        with plain(server):
            await until(lambda: answers.asked == 1)
            await settle()
            assert answers.asked == 1
            await server.close()


async def test_what_happened_to_one_connection_is_ignored(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(secure) as server:
        answers = Answers(server, [errno.ECONNABORTED, errno.EPROTO])
        monkeypatch.setattr(server._endpoint, "socket", answers)
        client = visitor(server)
        found = await take(server)
        await client.opened
        await client.close()
        await found.close()


async def test_a_listening_socket_that_breaks_ends_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as server:
        read = server.readable.getReader().read()
        await settle()
        server._endpoint.socket.shutdown(socket.SHUT_RD)
        with pytest.raises(SocketError) as caught:
            await read
        assert caught.value.code == "os"
        assert caught.value.errno == errno.EINVAL
        await server.closed
    assert caplog.records[-1].levelno == logging.ERROR


class Answers:
    """A listening socket whose accept() fails a few times first."""

    def __init__(self, server: ServerSocket, failures: list[int]) -> None:
        self.real = server._endpoint.socket
        self.failures = failures
        self.asked = 0

    def accept(self) -> Any:
        self.asked += 1
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return self.real.accept()

    def close(self) -> None:
        self.real.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


async def test_a_reason_that_is_no_exception_is_one_for_the_signal() -> None:
    async with served() as server:
        with plain(server) as sock:
            found = await take(server)
            found.close("bye")
            with pytest.raises(AbortError):
                await found.writable.getWriter().closed
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
