"""The early draft's members of a socket: promises, signal, facts, events' methods."""

from __future__ import annotations

import socket as _socket
from typing import Any

import pytest

from tests import certificates, loops
from tests.early import constructed, remote
from tests.loopback import Secure, connected, listening, settle
from wsockets import (
    AbortController,
    AbortError,
    AbortSignal,
    Event,
    Socket,
    SocketAddress,
    SocketError,
    SocketInfo,
    SocketStats,
    SystemOptions,
    adopt,
    connect,
)

pytestmark = pytest.mark.every_loop


class TestReady:
    async def test_it_settles_with_opened_and_gives_nothing(
        self, secure: Secure
    ) -> None:
        async with constructed(secure) as (socket, _):
            assert await socket.ready is None  # type: ignore[func-returns-value]
            assert socket.ready is socket.ready

    async def test_it_rejects_with_the_error_of_opened(self) -> None:
        async with listening() as (_, port):
            pass
        socket = Socket(remote=remote(port))
        with pytest.raises(SocketError) as caught:
            await socket.ready
        with pytest.raises(SocketError) as opened:
            await socket.opened
        assert caught.value is opened.value


class TestAbort:
    async def test_both_streams_raise_the_reason_and_the_peer_is_reset(
        self, secure: Secure
    ) -> None:
        async with constructed(secure) as (socket, peer):
            reader, writer = socket.readable.getReader(), socket.writable.getWriter()
            reading = reader.read()
            reason = ValueError("enough")
            ended = socket.abort(reason)
            assert ended is socket.closed
            await ended
            for promise in (reading, reader.read(), writer.write(b"x"), writer.closed):
                with pytest.raises(ValueError, match="enough"):
                    await promise
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive()

    async def test_a_reason_that_is_no_exception_is_raised_in_an_abort_error(
        self,
    ) -> None:
        async with constructed() as (socket, _):
            await socket.abort("enough")
            with pytest.raises(AbortError, match="enough"):
                await socket.readable.getReader().read()
            assert socket.signal.aborted
            assert socket.signal.reason == "enough"

    async def test_it_aborts_the_signal_once(self) -> None:
        async with constructed() as (socket, _):
            signal, seen = socket.signal, list[str]()
            assert signal is socket.signal
            assert not signal.aborted
            signal.addEventListener("abort", lambda event: seen.append(event.type))
            await socket.abort()
            await socket.abort("again")
            assert seen == ["abort"]
            assert isinstance(signal.reason, AbortError)

    async def test_before_the_socket_is_open_it_rejects_opened(self) -> None:
        async with listening() as (_, port):
            socket = Socket(remote=remote(port))
            await socket.abort("enough")
            with pytest.raises(AbortError, match="enough"):
                await socket.ready

    async def test_after_the_end_it_does_nothing(self) -> None:
        async with constructed() as (socket, _):
            await socket.close()
            await socket.abort("late")
            assert not socket.signal.aborted
            await socket.opened

    async def test_it_takes_the_connection_back_from_a_bridge(self) -> None:
        ours, theirs = _socket.socketpair()
        with ours, theirs:
            async with constructed() as (socket, _):
                bridge = socket.bridge(ours)
                bridge.start()
                await socket.abort(ValueError("enough"))
                await bridge.closed
                assert bridge.result() is not None


class TestSignal:
    async def test_it_follows_the_signal_that_the_socket_was_given(self) -> None:
        controller = AbortController()
        async with constructed(signal=controller.signal) as (socket, _):
            signal, seen = socket.signal, list[Any]()
            assert signal is not controller.signal
            signal.addEventListener("abort", seen.append)
            controller.abort("enough")
            assert signal.aborted
            assert signal.reason == "enough"
            assert len(seen) == 1
            await socket.closed

    async def test_asked_for_late_it_knows_all_the_same(self) -> None:
        controller = AbortController()
        async with constructed(signal=controller.signal) as (socket, _):
            controller.abort("enough")
            assert socket.signal.reason == "enough"
            await socket.closed

    async def test_a_signal_that_was_aborted_before_makes_no_connection(self) -> None:
        async with listening() as (_, port):
            socket = Socket(
                remote=remote(port), body="x", signal=AbortSignal.abort("before")
            )
            with pytest.raises(AbortError, match="before"):
                await socket.ready
            assert socket.signal.reason == "before"

    async def test_the_end_of_the_socket_is_none_of_its_business(self) -> None:
        controller = AbortController()
        async with constructed(signal=controller.signal) as (socket, _):
            signal = socket.signal
            await socket.close()
            assert not controller.signal._listeners
            controller.abort()
            assert not signal.aborted

    async def test_after_the_end_it_follows_nothing(self) -> None:
        controller = AbortController()
        async with constructed(signal=controller.signal) as (socket, _):
            await socket.close()
            assert not socket.signal.aborted
            assert not controller.signal._listeners

    async def test_a_signal_that_only_adds_listeners_is_followed(self) -> None:
        class Simple:
            def __init__(self) -> None:
                self.aborted = False
                self.listeners: list[Any] = []

            def addEventListener(self, _: str, listener: Any, **__: Any) -> None:
                self.listeners.append(listener)

            def abort(self) -> None:
                self.aborted = True
                for listener in self.listeners:
                    listener(None)

        source = Simple()
        async with constructed(signal=source) as (socket, _):
            signal = socket.signal
            source.abort()
            assert signal.aborted
            await socket.closed


class TestStats:
    async def test_every_byte_counts_once(self) -> None:
        async with constructed() as (socket, peer):
            assert socket.stats.bytesSent == socket.stats.bytesReceived == 0
            await socket.writable.getWriter().write(b"twelve bytes")
            await peer.receive_exactly(12)
            await peer.send(b"seven!!")
            await socket.readable.getReader().read()
            stats = socket.stats
            assert (stats.bytesSent, stats.bytesReceived) == (12, 7)
            assert (stats.bytes_sent, stats.bytes_received) == (12, 7)
            # Two of the handshake, one with data each way.
            assert stats.packetsSent == stats.packets_sent
            assert stats.packetsReceived == stats.packets_received
            assert (stats.packetsSent or 0) >= 3
            assert (stats.packetsReceived or 0) >= 2

    async def test_with_tls_the_records_count(self) -> None:
        async with constructed("on") as (socket, peer):
            before = socket.stats.bytesSent
            await socket.writable.getWriter().write(bytes(1000))
            await peer.receive_exactly(1000)
            after = socket.stats.bytesSent
            assert before is not None and after is not None
            assert before > 0
            assert 1000 < after - before < 1100

    async def test_what_the_kernel_holds_was_sent_and_the_end_is_no_byte(self) -> None:
        size = 1 << 18
        async with constructed() as (socket, peer):
            writer = socket.writable.getWriter()
            await writer.write(bytes(size))
            writer.close()
            await settle()
            assert socket.stats.bytesSent == size
            assert await peer.receive_to_end() == bytes(size)
            await peer.send(b"answer")
            await peer.end()
            reader = socket.readable.getReader()
            assert (await reader.read()).value == b"answer"
            assert socket.stats.bytesReceived == 6
            assert (await reader.read()).done
            await socket.closed
            assert socket.stats.bytesReceived == 6
            assert socket.stats.bytesSent == size

    async def test_a_constructed_socket_keeps_them_when_it_ends(
        self, secure: Secure
    ) -> None:
        async with constructed(secure) as (socket, peer):
            await socket.writable.getWriter().write(b"some")
            await peer.receive_exactly(4)
            await socket.close()
            assert (socket.stats.bytesSent or 0) >= 4
            again = socket.stats
            assert again == socket.stats

    async def test_nobody_counts_for_a_unix_socket_or_without_a_connection(
        self,
    ) -> None:
        ours, theirs = _socket.socketpair()
        with theirs:
            async with adopt(ours) as socket:
                assert socket.stats == SocketStats(None, None, None, None)
        async with connected() as (made, _):
            await made.close()
            assert made.stats == SocketStats()


class TestInfo:
    async def test_it_has_both_ends_in_parts(self, secure: Secure) -> None:
        async with constructed(secure) as (socket, peer):
            info = socket.info
            opened = await socket.opened
            host, port = peer.tcp.socket.getpeername()
            assert info.local == SocketAddress(host, port)
            assert info.local is not None
            assert info.local.address == info.local.hostname == host
            assert info.remote == SocketAddress(*peer.tcp.socket.getsockname())
            assert info == opened
            assert opened.remote == info.remote
            assert info.type == opened.type == ("tls" if secure == "on" else "tcp")
            assert info.signatureAlgorithms is info.signature_algorithms is None

    async def test_it_tells_what_tls_came_to(self) -> None:
        async with constructed("on", servername="localhost") as (socket, peer):
            await peer.send(b"x")
            await socket.readable.getReader().read()  # with it come the tickets
            info = socket.info
            assert info.servername == "localhost"
            assert info.certificate is None
            server = certificates.server().der
            assert info.peerCertificate == info.peer_certificate == server
            assert info.verificationStatus == info.verification_status == "verified"
            assert info.cipher is not None
            assert info.cipher.version == "TLSv1.3"
            assert info.ephemeralKey is not None
            assert info.ephemeral_key == info.ephemeralKey
            assert info.session is not None
            assert info.ticket is not None
            assert info.ticket in info.session
            assert "session" not in repr(info)
            await socket.close()
            assert socket.info is info

    async def test_what_opened_resolves_to_has_nothing_of_tls(self) -> None:
        async with constructed("on") as (socket, _):
            info = await socket.opened
            assert info.type == "tls"
            for member in (
                *("servername", "certificate", "peerCertificate", "cipher"),
                *("verificationStatus", "ephemeralKey", "session", "ticket"),
            ):
                assert getattr(info, member) is None

    async def test_a_protocol_is_the_type(self) -> None:
        async with constructed("on", type="echo") as (socket, _):
            assert socket.info.type == socket.info.alpn == "echo"

    async def test_a_unix_socket_has_neither_type_nor_parts(self) -> None:
        ours, theirs = _socket.socketpair()
        with theirs:
            async with adopt(ours) as socket:
                info = socket.info
                assert info.remoteAddress == "unix:"
                assert info.type is None
                assert info.remote is info.local is None

    async def test_before_the_socket_is_open_nothing_is_known(self) -> None:
        async with listening() as (_, port):
            socket = Socket(remote=remote(port))
            assert socket.info == SocketInfo()
            assert socket.info.type is None
            await socket.abort()
            assert socket.info == SocketInfo()

    async def test_while_it_is_bridged_it_is_what_it_was(self) -> None:
        ours, theirs = _socket.socketpair()
        with ours, theirs:
            async with constructed("on") as (socket, _):
                before = socket.info
                async with socket.bridge(ours):
                    assert socket.info is before


class TestSystemOptions:
    async def test_they_are_what_the_system_says(self) -> None:
        async with constructed(keepAlive=True, keepAliveDelay=77) as (socket, _):
            options = socket.system_options()
            assert isinstance(options, SystemOptions)
            assert options.noDelay is options.no_delay is True
            assert options.keepAlive is options.keep_alive is True
            assert options.keepAliveDelay == options.keep_alive_delay == 77
            assert options.keepAliveInterval == options.keep_alive_interval
            assert options.keepAliveCount == options.keep_alive_count
            assert options.sendBufferSize == options.send_buffer_size
            assert options.receiveBufferSize == options.receive_buffer_size

    async def test_a_socket_that_is_not_open_has_none(self) -> None:
        async with constructed() as (socket, _):
            await socket.close()
            with pytest.raises(SocketError, match="not open") as caught:
                socket.system_options()
            assert caught.value.code == "state"


class TestStream:
    async def test_it_gives_chunks_to_their_end(self, secure: Secure) -> None:
        async with constructed(secure) as (socket, peer):
            await peer.send(b"one")
            stream = socket.stream()
            assert await anext(stream) == b"one"
            await peer.send(b"two")
            await peer.end()
            assert [chunk async for chunk in stream] == [b"two"]
            await socket.closed


class TestEvents:
    """What is told is in test_early_data.py."""

    async def test_who_listens_to_data_holds_the_readable(self) -> None:
        async with constructed() as (socket, peer):
            heard = loops.Event()
            socket.addEventListener("data", lambda _: heard.set(), once=True)
            assert socket.readable.locked
            await peer.send(b"x")
            await heard.wait()
            assert not socket.readable.locked

    async def test_a_readable_that_is_held_cannot_be_listened_to(self) -> None:
        async with constructed() as (socket, _):
            socket.readable.getReader()
            with pytest.raises(SocketError, match="locked"):
                socket.addEventListener("data", print)
            assert not socket._listeners

    async def test_an_update_that_cannot_be_rejects(self) -> None:
        async with constructed() as (socket, _):
            await socket.update(noDelay=False)
            with pytest.raises(SocketError, match="ttl"):
                await socket.update(ttl=0)


class TestEveryOtherSocket:
    """The members are there, however a socket was made, and cost it nothing."""

    async def test_a_connected_socket_has_them(self, secure: Secure) -> None:
        async with connected(secure) as (socket, _):
            assert socket._extras is None
            seen: list[str] = []
            socket.addEventListener("custom", lambda event: seen.append(event.type))
            socket.dispatchEvent(Event("custom"))
            assert seen == ["custom"]
            assert socket._extras is None
            await socket.ready
            assert socket.info.type == ("tls" if secure == "on" else "tcp")
            assert not socket.signal.aborted
            await socket.abort()
            assert socket.signal.aborted

    async def test_listening_to_one_is_not_listening_to_another(self) -> None:
        async with connected() as (one, _), connected() as (other, _):
            one.removeEventListener("custom", print)
            one.addEventListener("custom", print)
            assert not other._listeners

    def test_it_has_to_be_asked_for_inside_of_an_event_loop(self) -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            Socket(remote={"address": "127.0.0.1", "port": 9})
        with pytest.raises(RuntimeError, match="event loop"):
            connect("127.0.0.1:9")
