"""readyTimeout and idleTimeout, in real time: the kernel's clock is no mock."""

from __future__ import annotations

import socket as _socket

import pytest

from tests import certificates, loops
from tests.early import constructed, remote
from tests.loopback import Peer, Secure, connected, listening, settle
from wsockets import Socket, SocketError, adopt

pytestmark = pytest.mark.every_loop


class TestReadyTimeout:
    async def test_a_socket_that_is_not_open_in_time_is_refused(self) -> None:
        async with listening() as (listener, port):
            socket = Socket(
                type="tls",
                remote=remote(port),
                servername="localhost",
                ca=certificates.authority().pem,
                readyTimeout=200,
            )
            silent = Peer(await listener.accept())
            with pytest.raises(SocketError, match=r"0\.2 s \(readyTimeout") as caught:
                await socket.ready
            assert caught.value.code == "timeout"
            with pytest.raises(SocketError) as closed:
                await socket.closed
            assert closed.value is caught.value
            # Whose handshake was given up.
            with pytest.raises(loops.BrokenResourceError):
                while await silent.receive():
                    pass
                raise loops.BrokenResourceError
            await silent.close()

    async def test_a_socket_that_is_open_in_time_stays(self, secure: Secure) -> None:
        async with constructed(secure, readyTimeout=5000) as (socket, _):
            await settle()
            assert not socket._has_ended

    async def test_a_socket_that_fails_before_needs_no_limit(self) -> None:
        async with listening() as (_, port):
            pass
        socket = Socket(remote=remote(port), readyTimeout=5000, idleTimeout=5000)
        with pytest.raises(SocketError) as caught:
            await socket.ready
        assert caught.value.code == "refused"
        await settle()

    async def test_it_can_be_changed_until_then(self) -> None:
        async with listening() as (listener, port):
            socket = Socket(
                type="tls",
                remote=remote(port, "on"),
                ca=certificates.authority().pem,
                readyTimeout=10_000,
            )
            silent = Peer(await listener.accept())
            await socket.update(readyTimeout=0)
            await socket.update(readyTimeout=30)
            with pytest.raises(SocketError, match=r"0\.03 s"):
                await socket.ready
            await silent.close()

    async def test_once_open_it_means_nothing(self) -> None:
        async with constructed() as (socket, _):
            await socket.update(readyTimeout=1)
            with loops.move_on_after(0.05):
                await socket.closed
            assert not socket._has_ended


class TestIdleTimeout:
    async def test_without_a_byte_either_way_both_streams_fail(
        self, secure: Secure
    ) -> None:
        async with constructed(secure, idleTimeout=100) as (socket, _):
            reader, writer = socket.readable.getReader(), socket.writable.getWriter()
            with pytest.raises(SocketError, match=r"0\.1 s \(idleTimeout") as caught:
                await reader.read()
            assert caught.value.code == "timeout"
            with pytest.raises(SocketError) as written:
                await writer.closed
            assert written.value is caught.value
            await socket.closed

    @pytest.mark.parametrize("sender", ["we", "the peer"])
    async def test_a_byte_of_either_starts_it_anew(self, sender: str) -> None:
        async with constructed(idleTimeout=300) as (socket, peer):
            writer = socket.writable.getWriter()
            began = last = loops.current_time()
            while last < began + 0.6 and not socket._has_ended:
                last = loops.current_time()
                if sender == "we":
                    await writer.write(b"x")
                else:
                    await peer.send(b"x")
                with loops.move_on_after(0.05):
                    await socket.closed
            await socket.closed
            # On a busy machine bytes may be further apart than they should be.
            assert loops.current_time() > last + 0.28

    async def test_what_a_bridge_moves_counts(self) -> None:
        ours, theirs = _socket.socketpair()
        theirs.setblocking(False)
        with ours, theirs:
            async with constructed(idleTimeout=300) as (socket, peer):
                bridge = socket.bridge(ours)
                bridge.start()
                began = last = loops.current_time()
                while last < began + 0.6 and not socket._has_ended:
                    last = loops.current_time()
                    await peer.send(b"x")
                    with loops.move_on_after(0.05):
                        await bridge.closed
                await socket.closed
                await bridge.closed
                assert loops.current_time() > last + 0.28

    async def test_it_counts_from_when_it_was_set(self) -> None:
        async with connected() as (socket, _):
            with loops.move_on_after(0.15):
                await socket.closed
            began = loops.current_time()
            await socket.update(idleTimeout=100)
            await socket.closed
            assert loops.current_time() >= began + 0.09

    async def test_it_can_be_taken_away(self) -> None:
        async with constructed(idleTimeout=500) as (socket, _):
            await socket.update(idleTimeout=0)
            with loops.move_on_after(0.6):
                await socket.closed
            assert not socket._has_ended

    async def test_a_unix_socket_has_none(self) -> None:
        ours, theirs = _socket.socketpair()
        with theirs:
            async with adopt(ours) as socket:
                with pytest.raises(SocketError, match="TCP") as caught:
                    await socket.update(idleTimeout=100)
                assert caught.value.code == "option"
                await socket.update(idleTimeout=0)

    async def test_of_a_unix_socket_that_was_not_open_yet_nobody_asks(self) -> None:
        ours, theirs = _socket.socketpair()
        with theirs:
            socket = adopt(ours)
            await socket.update(idleTimeout=1)
            await socket.ready
            await settle()
            assert not socket._has_ended
            await socket.close()
