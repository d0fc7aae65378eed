"""Sockets made by the constructor, each with the other end of its connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests import certificates
from tests.loopback import Peer, Secure, listening, met
from wsockets import Socket

__all__ = ["constructed", "remote"]


def remote(port: int, secure: Secure = "off") -> dict[str, object]:
    """The early draft's address of a listener on loopback."""
    return {"address": "localhost" if secure == "on" else "127.0.0.1", "port": port}


@contextlib.asynccontextmanager
async def constructed(
    secure: Secure = "off", **members: Any
) -> AsyncIterator[tuple[Socket, Peer]]:
    """An open Socket of type "tcp" or "tls", and its peer; closed at the end."""
    async with listening() as (listener, port):
        members.setdefault("type", "tls" if secure == "on" else "tcp")
        members.setdefault("remote", remote(port, secure))
        made = Socket(ca=certificates.authority().pem, **members)
        async with met(made, listener, secure) as peer:
            yield made, peer
