"""startTls(): from one socket to its successor, and what is left of the first."""

from __future__ import annotations

import contextlib

import anyio
import pytest

from tests import certificates, loops
from tests.loopback import (
    Peer,
    binding,
    clog,
    connected,
    failure,
    listening,
    settle,
    starttls,
)
from tests.network import closed_port
from wsockets import (
    AbortController,
    Socket,
    SocketError,
    connect,
)

pytestmark = pytest.mark.every_loop


class TestStartTls:
    async def test_the_connection_goes_over_to_a_new_socket(self) -> None:
        async with starttls(alpn=["echo"]) as (socket, peer):
            reader = socket.readable.getReader()
            writer = socket.writable.getWriter()
            await writer.write(b"STARTTLS\r\n")
            assert await peer.receive() == b"STARTTLS\r\n"
            await peer.send(b"go\r\n")
            assert (await reader.read()).value == b"go\r\n"
            assert not socket.upgraded
            upgraded = socket.startTls()
            assert socket.upgraded
            assert not upgraded.upgraded
            assert upgraded.secureTransport == "on"
            assert upgraded is not socket
            await socket.closed
            assert socket.close() is socket.closed
            await peer.secure()
            info = await upgraded.opened
            assert info.alpn == "echo"
            await upgraded.writable.getWriter().write(b"secret")
            assert await peer.receive() == b"secret"
            await peer.send(b"answer")
            assert (await upgraded.readable.getReader().read()).value == b"answer"
            for promise in (writer.write(b"x"), writer.close()):
                with pytest.raises(TypeError):
                    await promise
            assert await reader.read() == (None, True)
            await upgraded.close()
            await peer.close()

    async def test_it_is_legal_before_opened_and_flushes_first(self) -> None:
        async with listening() as (listener, port):
            socket = binding().connect(f"localhost:{port}", secureTransport="starttls")
            writing = socket.writable.getWriter().write(b"STARTTLS\r\n")
            upgraded = socket.start_tls()
            await socket.closed
            stream = await listener.accept()
            peer = Peer(stream)
            assert await peer.receive_exactly(10) == b"STARTTLS\r\n"
            await writing
            await peer.secure()
            await upgraded.opened
            info = await socket.opened
            assert info.remoteAddress == f"127.0.0.1:{port}"
            await upgraded.close()
            await peer.close()

    async def test_a_long_queue_is_sent_in_the_clear_first(self) -> None:
        async with starttls() as (socket, peer):
            writer = socket.writable.getWriter()
            writing = writer.write(bytes(8 << 20))
            upgraded = socket.startTls(ca=certificates.authority().pem)
            assert await peer.receive_exactly(8 << 20) == bytes(8 << 20)
            await writing
            await peer.secure()
            await upgraded.opened
            await upgraded.close()
            await peer.close()

    async def test_a_pending_read_is_done(self) -> None:
        async with starttls() as (socket, peer):
            reading = socket.readable.getReader().read()
            async with loops.open_nursery() as nursery:
                nursery.start_soon(reading.wait)
                await settle()
                upgraded = socket.startTls(ca=certificates.authority().pem)
            assert await reading == (None, True)
            await peer.secure()
            await upgraded.opened
            await upgraded.close()
            await peer.close()

    async def test_injected_plaintext_fails_the_handshake(self) -> None:
        async with starttls() as (socket, peer):
            await peer.send(b"+OK injected\r\n")
            await anyio.wait_readable(socket._connection.socket)  # type: ignore[union-attr]
            upgraded = socket.startTls(ca=certificates.authority().pem)
            reading = upgraded.readable.getReader().read()
            error = await failure(upgraded.opened)
            assert error.code == "tls"
            assert await failure(upgraded.closed) is error
            assert await reading == (None, True)
            with pytest.raises(loops.BrokenResourceError):
                while await peer.receive():
                    pass

    async def test_where_the_old_one_cannot_connect_both_fail_alike(self) -> None:
        with closed_port() as port:
            socket = connect(f"127.0.0.1:{port}", secureTransport="starttls")
            upgraded = socket.startTls()
            error = await failure(socket.opened)
        assert error.code == "refused"
        assert await failure(upgraded.opened) is error
        assert await failure(upgraded.closed) is error
        await socket.closed

    async def test_where_the_queue_cannot_be_sent_the_new_one_fails(self) -> None:
        async with starttls() as (socket, peer):
            _, writing = clog(socket)
            upgraded = socket.startTls()
            await settle()
            peer.reset()
            error = await failure(upgraded.opened)
            assert error.code == "reset"
            assert await failure(writing) is error

    async def test_closing_the_new_one_early_closes_the_connection(self) -> None:
        async with listening() as (_, port):
            socket = connect(f"localhost:{port}", secureTransport="starttls")
            upgraded = socket.startTls()
            await upgraded.close()
            assert (await failure(upgraded.opened)).code == "closed"
            assert (await failure(socket.opened)).code == "closed"
        async with starttls() as (socket, peer):
            upgraded = socket.startTls()
            await settle()
            await upgraded.close("stop")
            with contextlib.suppress(loops.BrokenResourceError):
                while await peer.receive():
                    pass

    async def test_an_aborted_signal_ends_the_upgraded_socket(self) -> None:
        controller = AbortController()
        async with starttls(signal=controller.signal) as (socket, peer):
            upgraded = socket.startTls(ca=certificates.authority().pem)
            await peer.secure()
            await upgraded.opened
            controller.abort("stop")
            await upgraded.closed
            with pytest.raises(loops.BrokenResourceError):
                await peer.receive()
            peer.stream.close()

    async def test_expectedServerHostname_is_what_is_verified(self) -> None:
        async with starttls() as (socket, peer):
            upgraded = socket.startTls(
                {
                    "ca": certificates.authority().pem,
                    "expectedServerHostname": "other.test",
                }
            )
            async with loops.open_nursery() as nursery:

                async def serve() -> None:
                    with contextlib.suppress(loops.BrokenResourceError):
                        await peer.secure()
                        await peer.receive()

                nursery.start_soon(serve)
                error = await failure(upgraded.opened)
            assert error.code == "tls-verify"
            assert "other.test" in str(error)
            peer.stream.close()

    async def test_where_it_is_not_possible_the_error_says_why(self) -> None:
        sentences = set()

        def refused(socket: Socket) -> None:
            with pytest.raises(SocketError) as caught:
                socket.startTls()
            assert caught.value.code == "state"
            sentences.add(str(caught.value))

        async with connected("off") as (socket, _):
            refused(socket)
        async with connected("on") as (socket, _):
            refused(socket)
        async with starttls() as (socket, _):
            upgraded = socket.startTls()
            refused(socket)
            await upgraded.close("stop")
        async with starttls() as (socket, _):
            socket.close()
            refused(socket)
        async with starttls() as (socket, _peer):
            await socket.close()
            refused(socket)
        assert len(sentences) == 4

    async def test_a_bad_option_leaves_the_socket_as_it_was(self) -> None:
        async with starttls() as (socket, peer):
            for bad in ({"verify": "some"}, {"alpn": [""]}, {"sni": ""}):
                with pytest.raises(SocketError) as caught:
                    socket.startTls(bad)
                assert caught.value.code == "option"
            with pytest.raises(TypeError):
                socket.startTls(unknown=1)  # type: ignore[call-arg]
            assert not socket.upgraded
            await socket.writable.getWriter().write(b"still here")
            assert await peer.receive() == b"still here"

    async def test_TlsOptions_are_those_of_the_binding_unless_given(self) -> None:
        for options, trusted in (({}, True), ({"verify": "none"}, True)):
            async with starttls() as (socket, peer):
                upgraded = socket.startTls(options)
                await peer.secure()
                await upgraded.opened
                details = upgraded.tls_info()
                assert details is not None
                assert details.verified is (options == {}) and trusted
                await upgraded.close()
                await peer.close()


# -- what the text says beyond that
