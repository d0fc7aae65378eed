"""Opening: every phase ends in time, and nothing is left of one that did not."""

from __future__ import annotations

import socket as _socket
from typing import Literal

import pytest

from tests import certificates, loops
from wsockets import SocketError, SocketOptions, TlsOptions
from wsockets.connection import PlainConnection
from wsockets.handshake import Handshake, Security
from wsockets.opening import Opening
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop


def silent_pair() -> tuple[_socket.socket, _socket.socket]:
    ours, theirs = _socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


async def never() -> _socket.socket:
    await loops.sleep_forever()
    raise AssertionError


async def late(opening: Opening) -> str:
    with pytest.raises(SocketError) as caught:
        await opening.run()
    assert caught.value.code == "timeout"
    return str(caught.value)


async def test_a_plain_connection_is_what_the_opener_gives() -> None:
    ours, theirs = silent_pair()

    async def opener() -> _socket.socket:
        return ours

    with theirs:
        opening = Opening(current(), opener, SocketOptions(), None)
        connection, alpn = await opening.run()
        assert isinstance(connection, PlainConnection)
        assert connection.socket is ours
        assert alpn is None
        connection.close()


async def test_what_is_there_at_once_needs_no_running() -> None:
    ours, theirs = silent_pair()
    answers = [ours]
    options = SocketOptions()
    with theirs:
        opening = Opening(current(), never, options, None, "here", answers.pop)
        connection = opening.at_once()
        assert isinstance(connection, PlainConnection)
        assert connection.socket is ours
        # Tried once, and no more.
        assert opening.at_once() is None
        connection.close()


async def test_with_a_handshake_nothing_is_there_at_once() -> None:
    options = SocketOptions(secureTransport="on")
    handshake = Handshake.make(options, Security(TlsOptions(), "localhost"))
    opening = Opening(current(), never, options, handshake, "here", [].pop)
    assert opening.at_once() is None


async def test_connecting_has_its_limit() -> None:
    options = SocketOptions(connectTimeout=0.01)
    opening = Opening(current(), never, options, None, target="nowhere:1")
    assert await late(opening) == (
        "SocketError: no connection to nowhere:1 within 0.01 s (connectTimeout)"
    )


async def test_without_a_target_only_extending_sets_one() -> None:
    options = SocketOptions(connectTimeout=0.001, handshakeTimeout=0.02)
    opening = Opening(current(), never, options, None)
    with loops.move_on_after(0.05) as scope:
        await opening.run()
    assert scope.cancelled_caught
    opening = Opening(current(), never, options, None)
    opening.extend(0.01)
    assert "before startTls() was not sent within 0.02 s" in await late(opening)


async def test_the_handshake_has_its_own_and_closes_the_socket() -> None:
    ours, theirs = silent_pair()

    async def opener() -> _socket.socket:
        return ours

    options = SocketOptions(secureTransport="on", handshakeTimeout=0.01)
    security = Security(TlsOptions(verify="none"), "localhost")
    handshake = Handshake.make(options, security)
    with theirs:
        opening = Opening(current(), opener, options, handshake, target="here")
        assert "handshake was not complete after 0.01 s" in await late(opening)
        assert ours.fileno() == -1


async def test_giving_up_ends_it() -> None:
    opening = Opening(current(), never, SocketOptions(), None, target="nowhere")
    async with loops.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(SocketError):
                await opening.run()

        nursery.start_soon(run)
        await loops.settle()
        opening.give_up()


async def test_a_handshake_of_either_side_may_complete() -> None:
    ours, theirs = silent_pair()
    theirs.setblocking(False)
    issued = certificates.server()
    tls = {
        "client": TlsOptions(ca=certificates.authority().pem),
        "server": TlsOptions(cert=issued.chain, key=issued.key),
    }
    options = SocketOptions(secureTransport="on", alpn=["x"])
    agreed = []

    async def run(role: Literal["client", "server"], sock: _socket.socket) -> None:
        async def opener() -> _socket.socket:
            return sock

        security = Security(tls[role], "localhost", role=role)
        handshake = Handshake.make(options, security)
        connection, alpn = await Opening(current(), opener, options, handshake).run()
        agreed.append(alpn)
        connection.close()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(run, "client", ours)
        nursery.start_soon(run, "server", theirs)
    assert agreed == ["x", "x"]


@pytest.mark.parametrize("role", ["client", "server"])
async def test_a_peer_that_is_refused_reads_why_if_it_is_a_client(
    role: Literal["client", "server"],
) -> None:
    listener = _socket.create_server(("127.0.0.1", 0))
    theirs = _socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    listener.close()
    ours.setblocking(False)

    async def opener() -> _socket.socket:
        return ours

    issued = certificates.server()
    tls = TlsOptions(cert=issued.chain, key=issued.key, ca=issued.pem)
    options = SocketOptions(secureTransport="on")
    handshake = Handshake.make(options, Security(tls, "localhost", role=role))
    # No hello, and more behind it: closing at once would be answered by a reset.
    garbage = b"\x16\x03\x01\x00\x04\x09\x00\x00\x00" + bytes(1000)
    with theirs:
        theirs.sendall(garbage)
        with pytest.raises(SocketError) as caught:
            await Opening(current(), opener, options, handshake).run()
        assert caught.value.code == "tls"
        theirs.settimeout(10)
        if role == "server":
            assert ours.fileno() >= 0
            assert theirs.recv(100)[:1] == b"\x15"
            assert theirs.recv(100) == b""
        else:
            assert ours.fileno() == -1
