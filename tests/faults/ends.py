"""What the tests of faults do at their own end."""

from __future__ import annotations

import pytest

from tests.loopback import binding
from wsockets import Socket, SocketError, WritableStreamDefaultWriter

__all__ = ["assert_broken", "secure"]


async def secure(address: str, **members: object) -> Socket:
    """An open socket that speaks TLS, with these members."""
    socket = binding().connect(address, {"secureTransport": "on", **members})
    await socket.opened
    return socket


async def assert_broken(
    socket: Socket, error: SocketError, writer: WritableStreamDefaultWriter
) -> None:
    """The whole socket has ended with this one error."""
    await socket.closed
    with pytest.raises(SocketError) as caught:
        await writer.write(b"more")
    assert caught.value is error
    with pytest.raises(SocketError) as caught:
        await writer.closed
    assert caught.value is error
    assert writer.desiredSize is None
    await socket.close()
