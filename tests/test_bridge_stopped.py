"""A bridge that is stopped when one of its directions has ended already."""

from __future__ import annotations

import socket

import pytest

from tests.loopback import Secure, connected
from tests.wires import SocketStream

pytestmark = [pytest.mark.every_loop, pytest.mark.usefixtures("engine")]


async def test_after_the_sinks_end_the_writable_has_ended_and_reading_goes_on(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        await far.send_all(b"question")
        await far.send_eof()
        assert await peer.receive_to_end() == b"question"
        assert (await bridge.stop()).reason == "stopped"
        # The end was sent, as if by hand.
        writer = near.writable.getWriter()
        await writer.closed
        with pytest.raises(TypeError, match="closed"):
            await writer.write(b"more")
        writer.releaseLock()
        # The other direction goes on, by a bridge and by hand.
        async with near.bridge(sink, direction="decrypt-only"):
            await peer.send(b"answer")
            assert await far.receive_exactly(6) == b"answer"
        await peer.send(b"and more")
        assert (await near.readable.getReader().read()).value == b"and more"


async def test_after_the_peers_end_writing_goes_on_until_the_end_is_read(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure) as (near, peer):
        bridge = near.bridge(sink)
        bridge.start()
        await peer.send(b"question")
        await peer.end()
        assert await far.receive_to_end() == b"question"
        assert (await bridge.stop()).reason == "stopped"
        await near.writable.getWriter().write(b"answer")
        assert (await near.readable.getReader().read()).done
        await near.closed
