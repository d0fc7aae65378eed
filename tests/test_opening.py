"""Opening: every phase ends in time, and nothing is left of one that did not."""

from __future__ import annotations

import socket as _socket

import pytest
import trio
import trio.testing

from wsockets import SocketError, SocketOptions, TlsOptions
from wsockets.connection import PlainConnection
from wsockets.handshake import Handshake, Security
from wsockets.opening import Opening
from wsockets.runtime import current


def silent_pair() -> tuple[_socket.socket, _socket.socket]:
    ours, theirs = _socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


async def never() -> _socket.socket:
    await trio.sleep_forever()
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
    with trio.move_on_after(0.05) as scope:
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
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(SocketError):
                await opening.run()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        opening.give_up()
