"""update(): other values for a socket that exists, and TLS under its streams."""

from __future__ import annotations

import array
import fcntl
import socket as _socket
import termios
from typing import Any

import pytest

from tests import certificates, loops
from tests.early import constructed, remote
from tests.loopback import Peer, Secure, connected, failure, listening, settle
from tests.naming import named
from wsockets import Socket, SocketDataEvent, SocketError, adopt, listen

pytestmark = pytest.mark.every_loop

TLS: dict[str, Any] = {"type": "tls", "servername": "localhost"}


def waiting(sock: _socket.socket) -> int:
    """How many bytes the kernel has for whoever reads next."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return count[0]


async def securing_fails(peer: Peer) -> None:
    """The peer is ready to upgrade, and the socket breaks it off."""
    with pytest.raises(loops.BrokenResourceError):
        await peer.secure()
        await peer.receive()


class TestOptionsOfTheSystem:
    async def test_they_are_set_and_read_back(self, secure: Secure) -> None:
        async with constructed(secure) as (socket, _):
            await socket.update(noDelay=False, keep_alive=True, keepAliveCount=3)
            options = socket.system_options()
            assert options.noDelay is False
            assert options.keepAlive is True
            assert options.keepAliveCount == 3
            await socket.update({"noDelay": True, "linger": "off"})
            assert socket.system_options().noDelay is True

    async def test_a_value_that_cannot_be_rejects_and_changes_nothing(self) -> None:
        async with constructed() as (socket, _):
            for wrong in ({"ttl": 0}, {"ttl": 7, "idleTimeout": -1}, {"body": "x"}):
                error = await failure(socket.update(wrong))
                assert error.code == "option"
            assert socket.system_options().ttl == 64

    async def test_a_keyword_that_nobody_knows_is_a_type_error(self) -> None:
        async with constructed() as (socket, _):
            with pytest.raises(TypeError, match="noDelays"):
                socket.update(noDelays=True)  # type: ignore[call-arg]

    async def test_there_has_to_be_a_connection(self) -> None:
        async with listening() as (_, port):
            socket = Socket(remote=remote(port))
            early = [socket.update(each) for each in ({"noDelay": True}, TLS)]
            for promise in early:
                error = await failure(promise)
                assert error.code == "state"
                assert "ready" in str(error)
            await socket.ready
            await socket.close()
            error = await failure(socket.update(noDelay=True))
            assert "ended" in str(error)

    async def test_nothing_is_done_and_resolves(self) -> None:
        async with constructed() as (socket, _):
            await socket.update()
            await socket.update(type="tcp", allowPooling=False)


class TestTimeouts:
    """What they do is in test_early_timers.py."""

    async def test_a_limit_takes_the_place_of_the_one_before(self) -> None:
        async with constructed(idleTimeout=10_000, readyTimeout=10_000) as (socket, _):
            assert socket._extras is not None
            first = socket._extras.idle_timer
            await socket.update(idleTimeout=9_000, readyTimeout=9_000)
            assert socket._extras.idle_timer is not first
            await socket.update(idleTimeout=50)
            assert (await reading_fails(socket)).code == "timeout"

    async def test_before_the_socket_is_open_both_can_be_given(self) -> None:
        async with listening() as (_, port):
            socket = Socket(remote=remote(port))
            first = socket.update(readyTimeout=10_000)
            second = socket.update(readyTimeout=9_000, idleTimeout=50)
            third = socket.update(readyTimeout=0)
            for promise in (first, second, third):
                await promise
            assert (await reading_fails(socket)).code == "timeout"

    async def test_none_is_no_limit(self) -> None:
        async with constructed() as (socket, _):
            await socket.update(idleTimeout=50)
            await socket.update(idleTimeout=0)
            with loops.move_on_after(0.1):
                await socket.closed
            assert not socket._has_ended

    async def test_of_a_unix_socket_nobody_counts_the_bytes(self) -> None:
        ours, theirs = _socket.socketpair()
        with theirs:
            async with adopt(ours) as socket:
                error = await failure(socket.update(idleTimeout=50))
                assert error.code == "option"


class TestUpgrading:
    async def test_the_same_streams_go_on_with_tls(self) -> None:
        async with constructed() as (socket, peer):
            reader, writer = socket.readable.getReader(), socket.writable.getWriter()
            await writer.write(b"upgrade?")
            assert await peer.receive_exactly(8) == b"upgrade?"
            await peer.send(b"yes")
            assert (await reader.read()).value == b"yes"
            upgraded = socket.update(TLS)
            secret = writer.write(b"secret")
            await peer.secure()
            await upgraded
            assert await peer.receive_exactly(6) == b"secret"
            await secret
            await peer.send(b"kept")
            assert (await reader.read()).value == b"kept"
            assert socket.secureTransport == "on"
            assert socket.info.type == "tls"
            assert socket.info.verificationStatus == "verified"
            assert socket.tls_info() is not None
            assert not socket.upgraded
            await writer.close()
            assert await peer.receive_to_end() == b""
            await peer.end()
            assert (await reader.read()).done
            await socket.closed

    async def test_nothing_that_is_written_after_the_call_goes_out_in_the_clear(
        self,
    ) -> None:
        async with constructed() as (socket, peer):
            writer = socket.writable.getWriter()
            socket.update(TLS)
            writing = writer.write(b"secret" * 100_000)
            hello = await peer.receive()
            assert hello[:1] == b"\x16"
            assert b"secret" not in hello
            socket.close(ValueError("enough"))
            with pytest.raises(ValueError, match="enough"):
                await writing

    async def test_a_pending_read_gets_what_comes_encrypted(self) -> None:
        async with constructed() as (socket, peer):
            reader = socket.readable.getReader()
            got: list[bytes] = []

            async def read() -> None:
                got.append((await reader.read()).value)

            async with loops.open_nursery() as nursery:
                nursery.start_soon(read)
                await settle()
                upgraded = socket.update(TLS)
                await peer.secure()
                await upgraded
                assert not got
                await peer.send(b"kept")
            assert got == [b"kept"]

    async def test_listeners_go_on_listening(self) -> None:
        async with constructed() as (socket, peer):
            heard = loops.Event()
            data: list[bytes] = []

            def listener(event: SocketDataEvent) -> None:
                data.extend(event.buffers)
                heard.set()

            socket.addEventListener("data", listener)
            await settle()
            upgraded = socket.update(TLS)
            await peer.secure()
            await upgraded
            await peer.send(b"x")
            await heard.wait()
            assert data == [b"x"]

    async def test_a_protocol_may_be_asked_for_and_has_to_be_agreed_on(self) -> None:
        async with constructed() as (socket, peer):
            upgraded = socket.update(type="echo", servername="localhost")
            await peer.secure()
            await upgraded
            assert socket.info.type == "echo"
        async with constructed() as (socket, peer):
            upgraded = socket.update(type="other", servername="localhost")
            async with loops.open_nursery() as nursery:
                nursery.start_soon(securing_fails, peer)
                assert (await failure(upgraded)).code == "alpn"
                await socket.closed

    async def test_the_protocols_of_the_socket_are_offered_without_another(
        self,
    ) -> None:
        for offered, agreed in (["echo", "other"], "echo"), (["other"], None):
            async with connected("off", secureTransport="starttls", alpn=offered) as (
                socket,
                peer,
            ):
                upgraded = socket.update(TLS)
                await peer.secure()
                await upgraded
                assert socket.info.alpn == agreed
                assert socket.info.type == (agreed or "tls")

    async def test_trust_may_be_given_with_it(self) -> None:
        async with connected("off", secureTransport="starttls") as (socket, peer):
            upgraded = socket.update(
                {**TLS, "ca": certificates.authority().pem, "maxVersion": "1.2"}
            )
            await peer.secure()
            await upgraded
            assert socket.info.cipher is not None
            assert socket.info.cipher.version == "TLSv1.2"

    async def test_the_servers_side_upgrades_as_well(self) -> None:
        issued = certificates.server()
        async with listen("127.0.0.1:0", secureTransport="starttls") as server:
            async with Socket(
                remote=server.localAddress, ca=certificates.authority().pem
            ) as client:
                accepted = await anext(aiter(server))
                done = accepted.update(type="tls", cert=issued.chain, key=issued.key)
                await client.update(TLS)
                await done
                await accepted.writable.getWriter().write(b"hello")
                assert (await client.readable.getReader().read()).value == b"hello"
                assert accepted.info.certificate == client.info.peerCertificate
                await accepted.close()

    async def test_plaintext_that_was_injected_fails_the_handshake(self) -> None:
        async with constructed() as (socket, peer):
            await peer.send(b"220 go ahead\r\n250 injected\r\n")
            await settle()
            error = await failure(socket.update(TLS))
            assert error.code == "tls"
            assert (await reading_fails(socket)) is error


async def reading_fails(socket: Socket) -> SocketError:
    with pytest.raises(SocketError) as caught:
        await socket.readable.getReader().read()
    return caught.value


class TestRefusals:
    async def test_tls_is_never_renegotiated(self) -> None:
        async with constructed("on") as (socket, peer):
            error = await failure(socket.update(TLS))
            assert error.code == "state"
            assert "renegotiat" in str(error)
            assert "away" in str(await failure(socket.update(type="tcp")))
            await socket.writable.getWriter().write(b"all is well")
            assert await peer.receive_exactly(11) == b"all is well"

    async def test_what_is_off_stays_off(self) -> None:
        async with connected() as (socket, _):
            error = await failure(socket.update(TLS))
            assert error.code == "state"
            assert '"off"' in str(error)

    async def test_what_is_still_to_be_sent_would_go_out_in_the_clear(self) -> None:
        async with constructed(sendBufferSize=4096) as (socket, _):
            socket.writable.getWriter().write(bytes(1 << 22))
            error = await failure(socket.update(TLS))
            assert error.code == "state"
            assert "to be sent" in str(error)

    async def test_a_direction_that_has_ended(self) -> None:
        async with constructed() as (socket, _):
            await socket.readable.cancel()
            assert "readable" in str(await failure(socket.update(TLS)))
        async with constructed() as (socket, _):
            await socket.writable.getWriter().close()
            assert "writable" in str(await failure(socket.update(TLS)))

    async def test_a_socket_that_is_bridged_upgraded_or_closed(self) -> None:
        ours, theirs = _socket.socketpair()
        with ours, theirs:
            async with constructed() as (socket, _):
                bridge = socket.bridge(ours)
                assert "bridged" in str(await failure(socket.update(TLS)))
                await bridge.stop()
        async with constructed() as (socket, _):
            first = socket.update(TLS)
            assert "being upgraded" in str(await failure(socket.update(TLS)))
            with pytest.raises(SocketError, match="bridged"):
                socket.startTls()
            await socket.abort(ValueError("enough"))
            with pytest.raises(ValueError, match="enough"):
                await first
        async with constructed(sendBufferSize=4096) as (socket, _):
            socket.writable.getWriter().write(bytes(1 << 22))
            socket.close()
            assert "closed" in str(await failure(socket.update(TLS)))

    async def test_what_a_bridge_has_received_and_nobody_read(self) -> None:
        ours, theirs = _socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    ours.send(bytes(1 << 16))
            async with constructed() as (socket, peer):
                bridge = socket.bridge(ours, direction="decrypt-only")
                bridge.start()
                await peer.send(b"left over")
                assert socket._connection is not None
                while waiting(socket._connection.socket):
                    await loops.checkpoint()
                await bridge.stop(0)
                error = await failure(socket.update(TLS))
                assert error.code == "state"
                got = await socket.readable.getReader().read()
                assert got.value == b"left over"

    async def test_a_name_to_verify_is_asked_for_at_once(self) -> None:
        ours, theirs = _socket.socketpair()
        with theirs:
            async with adopt(ours, secureTransport="starttls", verify="none") as socket:
                error = await failure(socket.update(type="tls", verify="full"))
                assert error.code == "option"
                assert not socket._has_ended


class TestEndingMeanwhile:
    async def test_a_certificate_that_is_not_good_ends_the_socket(self) -> None:
        async with constructed() as (socket, peer):
            upgraded = socket.update(type="tls", servername="other.example")
            async with loops.open_nursery() as nursery:
                nursery.start_soon(securing_fails, peer)
                error = await failure(upgraded)
                assert error.code == "tls-verify"
                assert await reading_fails(socket) is error
                await socket.closed

    async def test_a_client_without_trust_is_told_by_an_alert(self) -> None:
        issued = certificates.server()
        async with listen("127.0.0.1:0", secureTransport="starttls") as server:
            async with Socket(remote=server.localAddress) as client:
                accepted = await anext(aiter(server))
                done = accepted.update(
                    type="tls",
                    cert=issued.chain,
                    key=issued.key,
                    minVersion="1.3",
                )
                context = {"servername": "localhost", "maxVersion": "1.2"}
                error = await failure(client.update({"type": "tls", **context}))
                assert error.code == "tls-alert"
                await failure(done)
                await accepted.closed

    async def test_a_silent_peer_has_no_more_than_the_time_for_a_handshake(
        self,
    ) -> None:
        async with connected(
            "off", secureTransport="starttls", handshakeTimeout=0.05
        ) as (socket, _):
            error = await failure(socket.update(TLS))
            assert error.code == "timeout"
            assert "handshakeTimeout" in str(error)

    @pytest.mark.parametrize("end", ["close(reason)", "abort", "reset"], ids=named)
    async def test_whatever_ends_it_the_handshake_lets_go(self, end: str) -> None:
        async with constructed() as (socket, peer):
            upgraded = socket.update(TLS)
            await peer.receive()
            if end == "abort":
                socket.abort(ValueError("enough"))
            elif end == "reset":
                peer.reset()
            else:
                socket.close(ValueError("enough"))
            with pytest.raises((ValueError, SocketError)):
                await upgraded
            await socket.closed
            # The descriptor may be somebody else's by now.
            async with constructed() as (other, far):
                await settle()
                await other.writable.getWriter().write(b"x")
                assert await far.receive() == b"x"

    async def test_it_may_be_aborted_before_the_handshake_has_begun(self) -> None:
        async with constructed() as (socket, peer):
            upgraded = socket.update(TLS)
            socket.abort(ValueError("enough"))
            with pytest.raises(ValueError, match="enough"):
                await upgraded
            await settle()
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive()

    async def test_close_waits_for_it_and_ends_in_good_order(self) -> None:
        async with constructed() as (socket, peer):
            upgraded = socket.update(TLS)
            socket.writable.getWriter().write(b"last words")
            closed = socket.close()
            await peer.secure()
            await upgraded
            assert await peer.receive_to_end() == b"last words"
            await closed

    async def test_close_does_not_wait_for_long(self) -> None:
        async with connected("off", secureTransport="starttls", closeTimeout=0.05) as (
            socket,
            _,
        ):
            upgraded = socket.update(TLS)
            await socket.close()
            assert (await failure(upgraded)).code == "timeout"

    async def test_a_writable_that_is_closed_meanwhile_says_so_encrypted(self) -> None:
        async with constructed() as (socket, peer):
            upgraded = socket.update(TLS)
            closing = socket.writable.getWriter().close()
            await peer.secure()
            await upgraded
            await closing
            assert await peer.receive_to_end() == b""
            await peer.send(b"answer")
            assert (await socket.readable.getReader().read()).value == b"answer"
