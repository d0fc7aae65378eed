"""A ServerSocket, and those who visit it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from tests import certificates, loops
from tests.loopback import Secure, binding
from wsockets import ServerSocket, Socket, listen

__all__ = [
    "WITHIN",
    "echo",
    "identity",
    "plain",
    "port_of",
    "served",
    "take",
    "visitor",
]

WITHIN = 20.0  # seconds, for anything that is waited for


def identity(issued: certificates.Issued | None = None) -> dict[str, Any]:
    """The members of a server that has a certificate."""
    issued = issued or certificates.server()
    return {"cert": issued.chain, "key": issued.key}


@contextlib.asynccontextmanager
async def served(
    secure: Secure = "off", address: Any = "127.0.0.1:0", **members: Any
) -> AsyncIterator[ServerSocket]:
    """A listening server; nothing is left of it afterwards."""
    if secure == "on":
        members = {"secureTransport": "on", **identity(), **members}
    async with listen(address, **members) as server:
        with loops.fail_after(WITHIN):
            yield server


def port_of(server: ServerSocket) -> int:
    return int(server.localAddress.rpartition(":")[2])


def visitor(
    server: ServerSocket,
    secure: Secure | None = None,
    *,
    tls: Any = None,
    **members: Any,
) -> Socket:
    """A client of ours that connects to the server."""
    kind = secure or server.secureTransport
    return binding(**(tls or {})).connect(
        f"localhost:{port_of(server)}", secureTransport=kind, **members
    )


def plain(server: ServerSocket) -> socket.socket:
    """A connection to the server, by Python's own means."""
    return socket.create_connection(("127.0.0.1", port_of(server)), WITHIN)


async def take(server: ServerSocket) -> Socket:
    """The next connection."""
    async for found in server:
        return found
    raise AssertionError("the server has ended")


async def echo(found: Socket) -> None:
    """Send everything back, and the end."""
    await found.readable.pipeTo(found.writable)
