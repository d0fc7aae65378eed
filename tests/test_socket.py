"""The Socket: opening, closing, and what is left of it each time."""

from __future__ import annotations

import contextlib
import gc
import socket as _socket
from typing import Any

import anyio
import pytest

from tests import certificates, loops
from tests.loopback import (
    Peer,
    Secure,
    binding,
    clog,
    connected,
    failure,
    listening,
    server_context,
    settle,
    starttls,
)
from tests.naming import named
from tests.network import closed_port
from tests.wires import SSLStream
from wsockets import (
    AbortController,
    AbortError,
    AbortSignal,
    Binding,
    Promise,
    ReadableStream,
    Socket,
    SocketError,
    SocketInfo,
    WritableStream,
    connect,
)

pytestmark = pytest.mark.every_loop


# -- opening


class TestOpening:
    async def test_a_socket_is_there_before_its_connection(self) -> None:
        async with listening() as (listener, port):
            socket = connect(f"127.0.0.1:{port}")
            assert repr(socket) == "<Socket connecting secureTransport='off'>"
            assert socket.opened._is_pending()
            assert socket.opened is socket.opened
            assert socket.closed is socket.closed
            assert socket.readable is socket.readable
            assert socket.writable is socket.writable
            info = await socket.opened
            async with await listener.accept() as stream:
                host, number = stream.socket.getpeername()
                assert info == SocketInfo(f"127.0.0.1:{port}", f"{host}:{number}", None)
                assert info.remote_address == info.remoteAddress
                assert info.local_address == info.localAddress
                await socket.close()

    @pytest.mark.only_trio("there every await is a checkpoint")
    async def test_awaiting_it_is_a_checkpoint_also_where_it_opens_at_once(
        self,
    ) -> None:
        async with listening() as (listener, port):
            socket = connect(f"127.0.0.1:{port}")
            with loops.assert_checkpoints():
                await socket.opened
            again = connect(f"127.0.0.1:{port}")
            with loops.CancelScope() as scope:
                scope.cancel()
                await again.opened
            assert scope.cancelled_caught
            await again.opened
            for each in (socket, again):
                async with await listener.accept():
                    await each.close()

    async def test_it_may_be_closed_while_it_is_being_connected(self) -> None:
        def policy(host: str, address: str, port: int) -> None:
            socket.close()

        async with listening() as (listener, port):
            socket = Binding(policy=policy).connect(f"127.0.0.1:{port}")
            with pytest.raises(SocketError, match="before it was open"):
                await socket.opened
            async with await listener.accept() as stream:
                assert await stream.receive_some() == b""
        assert repr(socket).startswith("<Socket closed")

    async def test_tls_is_open_after_the_handshake(self) -> None:
        async with connected("on", alpn=["other", "echo"]) as (socket, _):
            info = await socket.opened
            assert info.alpn == "echo"
            details = socket.tls_info()
            assert details is not None
            assert details.protocol == "TLSv1.3"
            assert details.alpn == "echo"
            assert socket.secureTransport == socket.secure_transport == "on"
        async with connected("off") as (socket, _):
            assert socket.tls_info() is None

    async def test_streams_can_be_used_before_it_is_open(self, secure: Secure) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(f"localhost:{port}", secureTransport=secure)
            reading = socket.readable.getReader().read()
            writer = socket.writable.getWriter()
            writing = writer.write(b"early")
            ending = writer.close()
            async with loops.open_nursery() as nursery:
                nursery.start_soon(reading.wait)
                await settle()
                stream: Any = await listener.accept()
                if secure == "on":
                    stream = SSLStream(stream, server_context(), server_side=True)
                peer = Peer(stream)
                assert await peer.receive_exactly(5) == b"early"
                await writing
                await ending
                await peer.send(b"answer")
            assert (await reading).value == b"answer"
            socket.close(Exception("done"))
            await peer.close()

    async def test_a_failure_is_one_object_everywhere(self) -> None:
        with closed_port() as port:
            socket = connect(f"127.0.0.1:{port}")
            reader = socket.readable.getReader()
            reading = reader.read()
            writer = socket.writable.getWriter()
            writing = writer.write(b"x")
            error = await failure(socket.opened)
            assert error.code == "refused"
            assert error.errno is not None
            assert isinstance(error.__cause__, OSError)
            for promise in (socket.closed, writing, writer.write(b"y"), writer.closed):
                assert await failure(promise) is error
            assert await reading == (None, True)
            assert await reader.read() == (None, True)
            assert socket.close() is socket.closed

    async def test_a_failed_handshake_is_the_same(self) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(f"localhost:{port}", secureTransport="on")
            writing = socket.writable.getWriter().write(b"never sent")
            async with await listener.accept() as stream:
                await stream.send_all(b"220 this is not TLS\r\n")
                error = await failure(socket.opened)
                assert error.code == "tls"
                assert await failure(socket.closed) is error
                assert await failure(writing) is error

    async def test_an_untrusted_certificate_is_refused(self) -> None:
        async with listening() as (listener, port):
            socket = connect(f"localhost:{port}", secureTransport="on")
            stream = SSLStream(
                await listener.accept(), server_context(), server_side=True
            )
            with contextlib.suppress(loops.BrokenResourceError):
                await stream.do_handshake()
                await stream.receive_some()
            error = await failure(socket.opened)
            assert error.code == "tls-verify"
            assert error.certificates[0] == certificates.server().der
            stream.close()

    async def test_a_silent_peer_is_given_up(self) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(
                f"localhost:{port}", secureTransport="on", handshakeTimeout=0.05
            )
            async with await listener.accept():
                error = await failure(socket.opened)
            assert error.code == "timeout"
            assert "handshakeTimeout" in str(error)

    async def test_an_unknown_failure_becomes_a_SocketError(self) -> None:
        async def resolver(host: str, port: int) -> list[tuple[int, str]]:
            raise RuntimeError("the resolver broke")

        from wsockets import Binding

        socket = Binding(resolver=resolver).connect("example.test:80")
        error = await failure(socket.opened)
        assert "resolver" in str(error)
        assert await failure(socket.closed) is error

    async def test_a_connection_that_is_reset_at_once_still_opens(self) -> None:
        async with listening() as (listener, port):
            sock = _socket.create_connection(("127.0.0.1", port))
            stream = await listener.accept()
            Peer(stream).reset()
            sock.setblocking(False)
            await anyio.wait_readable(sock)
            from wsockets.connection import PlainConnection

            socket = connect(f"127.0.0.1:{port}")
            socket._open(PlainConnection(sock), None)
            info = await socket.opened
            assert info.remoteAddress is None
            await failure(socket.readable.getReader().read())
            async with await listener.accept():
                pass

    async def test_attributes_are_read_only(self) -> None:
        async with connected() as (socket, _):
            for name in (
                "readable",
                "writable",
                "opened",
                "closed",
                "upgraded",
                "secureTransport",
                "anything",
            ):
                with pytest.raises(AttributeError):
                    setattr(socket, name, 1)

    def test_a_socket_is_not_constructed_without_an_address(self) -> None:
        with pytest.raises(SocketError, match="remote"):
            Socket()


# -- closing


class TestClosing:
    async def test_close_sends_what_is_queued_and_the_end(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            size = 8 << 20
            writing = socket.writable.getWriter().write(bytes(size))
            closed = socket.close()
            assert closed is socket.closed
            assert socket.close() is closed
            assert repr(socket).startswith("<Socket closing")
            assert len(await peer.receive_to_end()) == size
            await writing
            await closed
            assert repr(socket).startswith("<Socket closed")
            assert await socket.close() is None  # type: ignore[func-returns-value]

    async def test_pending_reads_are_done(self, secure: Secure) -> None:
        async with connected(secure) as (socket, _):
            reader = socket.readable.getReader()
            reading = reader.read()
            async with loops.open_nursery() as nursery:
                nursery.start_soon(reading.wait)
                await settle()
                socket.close()
            assert await reading == (None, True)
            assert await reader.read() == (None, True)
            with pytest.raises(TypeError):
                await socket.writable.getWriter().write(b"late")

    async def test_unread_input_does_not_destroy_what_was_sent(
        self, secure: Secure
    ) -> None:
        async with connected(secure) as (socket, peer):
            await peer.send(b"never read" * 1000)
            await socket.writable.getWriter().write(b"goodbye")
            await socket.close()
            await peer.send(b"more that is never read")
            assert await peer.receive_to_end() == b"goodbye"

    async def test_a_reason_resets_the_connection(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reading = socket.readable.getReader().read()
            writer, writing = clog(socket)
            await socket.close("stop")
            assert await reading == (None, True)
            for promise in (writing, writer.closed, writer.write(b"x")):
                with pytest.raises(AbortError) as caught:
                    await promise
                assert caught.value.reason == "stop"
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive_to_end()

    async def test_an_exception_as_reason_is_raised_as_it_is(self) -> None:
        async with connected() as (socket, _):
            writer = socket.writable.getWriter()
            error = KeyError("mine")
            await socket.close(reason=error)
            with pytest.raises(KeyError) as caught:
                await writer.closed
            assert caught.value is error

    @pytest.mark.parametrize("reason", [None, "changed my mind"])
    async def test_closing_while_connecting_rejects_opened_promptly(
        self, reason: object
    ) -> None:
        async with listening() as (_, port):
            socket = connect(f"127.0.0.1:{port}")
            writing = socket.writable.getWriter().write(b"x")
            await socket.close(reason)
            expected = SocketError if reason is None else AbortError
            for promise in (socket.opened, writing):
                with pytest.raises(expected):
                    await promise

    async def test_closing_during_the_handshake_too(self) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(f"localhost:{port}", secureTransport="on")
            async with await listener.accept() as stream:
                await stream.receive_some()
                await socket.close()
                assert (await failure(socket.opened)).code == "closed"
                with contextlib.suppress(loops.BrokenResourceError):
                    assert await stream.receive_some() == b""

    async def test_cancelling_a_flushing_close_makes_it_an_abort(
        self, secure: Secure
    ) -> None:
        async with connected(secure) as (socket, peer):
            _, writing = clog(socket)
            with loops.move_on_after(0.01) as scope:
                await socket.close()
            assert scope.cancelled_caught
            await socket.closed
            assert (await failure(writing)).code == "closed"
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive_to_end()

    async def test_a_peer_that_takes_nothing_is_given_up(self, secure: Secure) -> None:
        async with connected(secure, closeTimeout=0.05) as (socket, _):
            _, writing = clog(socket)
            await settle()
            await socket.close()
            error = await failure(writing)
            assert error.code == "timeout"
            assert "closeTimeout" in str(error)

    async def test_a_reason_overtakes_a_flushing_close(self) -> None:
        async with connected() as (socket, _):
            _, writing = clog(socket)
            closed = socket.close()
            assert closed._is_pending()
            await socket.close("now")
            with pytest.raises(AbortError):
                await writing

    async def test_closing_waits_for_an_end_that_is_under_way(
        self, secure: Secure
    ) -> None:
        async with connected(secure) as (socket, peer):
            writer, _ = clog(socket, 8 << 20)
            ending = writer.close()
            closed = socket.close()
            await peer.receive_to_end()
            await ending
            await closed

    async def test_closing_after_both_ends_closes_at_once(self, secure: Secure) -> None:
        async with connected(secure, allowHalfOpen=True) as (socket, peer):
            await socket.writable.close()
            assert await peer.receive_to_end() == b""
            await peer.end()
            assert await socket.readable.getReader().read() == (None, True)
            assert socket.closed._is_pending()
            await socket.close()


class TestContextManager:
    async def test_it_waits_until_open_and_closes(self, secure: Secure) -> None:
        async with listening() as (listener, port):
            async with loops.open_nursery() as nursery:

                async def serve() -> None:
                    stream: Any = await listener.accept()
                    if secure == "on":
                        stream = SSLStream(stream, server_context(), server_side=True)
                    peer = Peer(stream)
                    assert await peer.receive_to_end() == b"hello"
                    await peer.close()

                nursery.start_soon(serve)
                made = binding().connect(f"localhost:{port}", secureTransport=secure)
                async with made as socket:
                    assert socket is made
                    assert not socket.opened._is_pending()
                    socket.writable.getWriter().write(b"hello")
                assert not socket.closed._is_pending()

    async def test_a_failure_to_open_is_raised(self) -> None:
        with closed_port() as port, pytest.raises(SocketError):
            async with connect(f"127.0.0.1:{port}"):
                pytest.fail("it cannot open")

    async def test_cancelling_the_opening_closes(self) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(
                f"127.0.0.1:{port}", secureTransport="on", sni="localhost"
            )
            with loops.move_on_after(0.01) as scope:
                async with socket:
                    pytest.fail("nobody shakes hands")
            assert scope.cancelled_caught
            await socket.closed
            assert (await failure(socket.opened)).code == "closed"
            async with await listener.accept():
                pass

    async def test_leaving_by_cancellation_resets_what_cannot_be_sent(self) -> None:
        async with connected() as (made, peer):
            with loops.move_on_after(0.05) as scope:
                async with made as socket:
                    await socket.writable.getWriter().write(bytes(64 << 20))
            assert scope.cancelled_caught
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive_to_end()


# -- what the peer does


class TestThePeersEnd:
    async def test_fin_closes_once_the_readable_is_read_to_its_end(
        self, secure: Secure
    ) -> None:
        async with connected(secure) as (socket, peer):
            await peer.send(b"last words")
            await peer.end()
            await settle()
            assert socket.closed._is_pending()
            reader = socket.readable.getReader()
            assert (await reader.read()).value == b"last words"
            assert socket.closed._is_pending()
            assert await reader.read() == (None, True)
            await socket.closed
            await socket.writable.getWriter().closed

    async def test_queued_writes_are_flushed_before_it_closes(
        self, secure: Secure
    ) -> None:
        async with connected(secure) as (socket, peer):
            writing = socket.writable.getWriter().write(bytes(8 << 20))
            await peer.end()
            assert await socket.readable.getReader().read() == (None, True)
            assert socket.closed._is_pending()
            if secure == "off":
                # Python's ssl reads no more once it has said goodbye.
                assert len(await peer.receive_to_end()) == 8 << 20
                await writing
                await socket.closed

    async def test_allowHalfOpen_leaves_the_writable_open(self, secure: Secure) -> None:
        async with connected(secure, allowHalfOpen=True) as (socket, peer):
            await peer.end()
            assert await socket.readable.getReader().read() == (None, True)
            writer = socket.writable.getWriter()
            await writer.write(b"answer")
            await writer.close()
            if secure == "off":
                assert await peer.receive_to_end() == b"answer"
            assert socket.closed._is_pending()
            await socket.close()

    async def test_rst_fails_the_read_and_resolves_closed(self, secure: Secure) -> None:
        async with connected(secure) as (socket, peer):
            reading = socket.readable.getReader().read()
            peer.reset()
            error = await failure(reading)
            assert error.code == "reset"
            await socket.closed
            assert await failure(socket.writable.getWriter().write(b"x")) is error

    async def test_a_fin_without_close_notify_is_truncation(self) -> None:
        async with connected("on") as (socket, peer):
            await peer.send(b"hel")
            await peer.cut()
            reader = socket.readable.getReader()
            assert (await reader.read()).value == b"hel"
            assert (await failure(reader.read())).code == "truncated"
            await socket.closed

    async def test_unless_it_is_tolerated(self) -> None:
        async with connected("on", tolerateTruncation=True) as (socket, peer):
            await peer.send(b"hel")
            await peer.cut()
            assert [c async for c in socket.readable] == [b"hel"]
            await socket.closed


# -- signals and nurseries


class TestSignals:
    async def test_an_aborted_signal_aborts_the_socket(self, secure: Secure) -> None:
        controller = AbortController()
        async with connected(secure, signal=controller.signal) as (socket, peer):
            writer = socket.writable.getWriter()
            controller.abort("enough")
            await socket.closed
            with pytest.raises(AbortError):
                await writer.write(b"x")
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive_to_end()

    async def test_while_connecting_opened_rejects_with_the_reason(self) -> None:
        controller = AbortController()
        async with listening() as (_, port):
            socket = connect(f"127.0.0.1:{port}", signal=controller.signal)
            error = KeyError("why")
            controller.abort(error)
            with pytest.raises(KeyError) as caught:
                await socket.opened
            assert caught.value is error
            await socket.closed

    async def test_one_that_is_aborted_already_connects_nowhere(self) -> None:
        async with listening() as (listener, port):
            socket = connect(f"127.0.0.1:{port}", signal=AbortSignal.abort("no"))
            with pytest.raises(AbortError):
                await socket.opened
            await settle()
            with loops.move_on_after(0.01) as scope:
                await listener.accept()
            assert scope.cancelled_caught

    async def test_a_closed_socket_no_longer_listens(self) -> None:
        controller = AbortController()
        async with connected(signal=controller.signal) as (socket, _):
            await socket.close()
            assert not controller.signal._listeners


class TestNurseries:
    async def test_cancelling_the_nursery_aborts_the_socket(self) -> None:
        async with (
            listening() as (listener, port),
            loops.native_nursery() as (nursery, cancel),
        ):
            socket = connect(f"127.0.0.1:{port}", nursery=nursery)
            async with await listener.accept() as stream:
                await socket.opened
                cancel()
                with loops.CancelScope(shield=True):
                    await socket.closed
                    with pytest.raises(loops.BrokenResourceError):
                        await stream.receive_some()

    async def test_the_nursery_waits_for_the_socket(self) -> None:
        async with listening() as (listener, port):
            async with loops.native_nursery() as (nursery, _):
                socket = connect(f"127.0.0.1:{port}", nursery=nursery)
                async with await listener.accept():
                    await socket.opened
                socket.close()
            assert not socket.closed._is_pending()

    async def test_an_upgraded_socket_stays_in_the_nursery(self) -> None:
        async with (
            loops.native_nursery() as (nursery, cancel),
            starttls(nursery=nursery) as (socket, peer),
        ):
            upgraded = socket.startTls(ca=certificates.authority().pem)
            await peer.secure()
            await upgraded.opened
            cancel()
            with loops.CancelScope(shield=True):
                await upgraded.closed
                await peer.close()


# -- upgrading


class TestTheText:
    """Statements of the specification that nothing above shows by itself."""

    async def test_every_attribute_has_its_value_at_once(self, secure: Secure) -> None:
        async with listening() as (_, port):
            address = f"localhost:{port}"
            one = binding().connect(address, secureTransport=secure)
            other = binding().connect(address, secureTransport=secure)
            assert isinstance(one, Socket)
            assert isinstance(one.readable, ReadableStream)
            assert isinstance(one.writable, WritableStream)
            assert one.upgraded is False
            assert one.secureTransport == secure
            promises = {one.opened, one.closed, other.opened, other.closed}
            assert len(promises) == 4
            for promise in promises:
                assert isinstance(promise, Promise)
                assert promise._is_pending()
            await one.close()
            await other.close()

    async def test_it_opens_when_the_handshake_is_complete_and_not_before(
        self,
    ) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(f"localhost:{port}", secureTransport="on")
            tcp = await listener.accept()
            stream = SSLStream(tcp, server_context(), server_side=True)
            # The ClientHello is there, so the connection is.
            await anyio.wait_readable(tcp.socket)
            await settle()
            assert socket.opened._is_pending()
            async with loops.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                info = await socket.opened
            assert info == SocketInfo(
                f"127.0.0.1:{port}", "{}:{}".format(*tcp.socket.getpeername()), None
            )
            await socket.close()
            stream.close()

    async def test_a_failure_that_nobody_looks_at_is_reported_nowhere(
        self,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        with closed_port() as port:
            socket = connect(f"127.0.0.1:{port}")
            # Another promise tells when it has failed.
            await failure(socket.writable.getWriter().closed)
        assert repr((socket.opened, socket.closed)).count("rejected") == 2
        del socket
        gc.collect()
        await settle()
        assert not caplog.records
        assert capfd.readouterr() == ("", "")

    async def test_ending_both_streams_leaves_closed_pending(
        self, secure: Secure
    ) -> None:
        async with connected(secure) as (socket, peer):
            await socket.readable.cancel("enough")
            assert socket.closed._is_pending()
            await socket.writable.close()
            assert await peer.receive_to_end() == b""
            await settle()
            assert socket.closed._is_pending()
            await socket.close()
        async with connected(secure) as (socket, _):
            await socket.writable.abort("enough")
            await socket.readable.cancel()
            await settle()
            assert socket.closed._is_pending()

    @pytest.mark.parametrize("half_open", [False, True])
    @pytest.mark.parametrize("call", ["read", "write", "flush"])
    async def test_a_failure_ends_everything_whichever_call_notices_it(
        self, call: str, half_open: bool, secure: Secure
    ) -> None:
        async with connected(secure, allowHalfOpen=half_open) as (socket, peer):
            assert socket._connection is not None
            sock = socket._connection.socket
            reader = socket.readable.getReader()
            if call == "flush":
                writer, _ = clog(socket)
                await settle()
            else:
                writer = socket.writable.getWriter()
            peer.reset()
            if call == "read":
                await failure(reader.read())
            elif call == "write":
                await anyio.wait_readable(sock)
                while socket.closed._is_pending():
                    writer.write(b"x")
            await socket.closed
            assert sock.fileno() == -1
            error = await failure(reader.read())
            assert error.code == "reset"
            for promise in (reader.closed, writer.closed, writer.write(b"x")):
                assert await failure(promise) is error

    async def test_close_after_the_peers_end_resolves(self, secure: Secure) -> None:
        async with connected(secure, closeTimeout=60) as (socket, peer):
            assert socket._connection is not None
            await peer.end()
            await anyio.wait_readable(socket._connection.socket)
            assert socket.closed._is_pending()
            await socket.close()
            assert await socket.readable.getReader().read() == (None, True)

    async def test_what_is_queued_is_counted_in_bytes(self) -> None:
        async with listening() as (listener, port):
            socket = connect(f"127.0.0.1:{port}", highWaterMark=100)
            writer = socket.writable.getWriter()
            for chunk, left in (("grüß", 94), (bytes(90), 4), (b"", 4), (b"12345", -1)):
                writer.write(chunk)
                assert writer.desiredSize == left
            assert writer.ready._is_pending()
            async with await listener.accept() as stream:
                peer = Peer(stream)
                await peer.receive_exactly(101)
                await writer.ready
                assert writer.desiredSize == 100
                await socket.close()

    @pytest.mark.parametrize("chunk", [None, 1, ["a"], "\ud800"], ids=named)
    async def test_a_bad_chunk_rejects_its_write_and_not_the_call(
        self, chunk: object
    ) -> None:
        async with connected() as (socket, peer):
            writer = socket.writable.getWriter()
            while (writer.desiredSize or 0) > 0:
                queued = writer.write(bytes(1 << 20))
            size = writer.desiredSize
            bad = writer.write(chunk)
            good = writer.write(b"after")
            assert queued._is_pending()
            assert size is not None
            assert writer.desiredSize == size - 5
            with pytest.raises(TypeError):
                await bad
            ended = writer.close()
            assert (await peer.receive_to_end())[-6:] == b"\0after"
            for promise in (queued, good, ended):
                await promise
