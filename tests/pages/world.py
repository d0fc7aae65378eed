"""The internet that the documentation lives in, on this machine's loopback.

The names and the addresses are given; where an address and a port really lead
is filled in by whoever starts the servers. `enter()` makes a process see it, by
putting itself between Python's socket module and the kernel: a name resolves to
its addresses and to no others, connecting to one of them connects to its
server, and `getpeername()` tells the address that was asked for.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["NAMES", "World", "enter"]

VARIABLE: Final = "WSOCKETS_DOCS_WORLD"

NAMES: Final[dict[str, str]] = {
    "localhost": "127.0.0.1",
    "example.com": "93.184.215.14",
    "echo.example.com": "93.184.215.15",
    "smtp.example.com": "93.184.215.16",
    "silent.example.com": "93.184.215.17",
    "untrusted.example.com": "93.184.215.18",
    "members.example.com": "93.184.215.19",
    "stripped.example.com": "93.184.215.20",
    "proxy.example.com": "93.184.215.80",
    "rebound.example.com": "169.254.169.254",
    "intranet.example.com": "10.1.2.3",
}


@attrs.frozen
class World:
    """Where addresses lead: "93.184.215.14:443" to a port of 127.0.0.1."""

    ports: dict[str, int] = attrs.field(factory=dict)
    paths: dict[str, str] = attrs.field(factory=dict)

    def serve(self, place: str, port: int) -> None:
        """Let "name:port" lead to `port` of 127.0.0.1."""
        name, _, wanted = place.rpartition(":")
        self.ports[f"{NAMES[name]}:{wanted}"] = port

    def lookup(self, host: str, port: int) -> tuple[str, int]:
        """Where a name or address and a port really lead; OSError for nowhere."""
        address = NAMES.get(host, host)
        found = self.ports.get(f"{address}:{port}")
        if found is not None:
            return "127.0.0.1", found
        if address in NAMES.values():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def environment(self, trust: Path) -> dict[str, str]:
        """What the environment of a process that enters it has in addition."""
        return {VARIABLE: json.dumps(attrs.asdict(self)), "SSL_CERT_FILE": str(trust)}


def enter() -> None:
    """Make this process see the world that its environment describes."""
    world = World(**json.loads(os.environ[VARIABLE]))
    peers = {port: place for place, port in world.ports.items()}
    really = socket.socket

    def getaddrinfo(
        host: str | bytes | None, port: Any, family: int = 0, type: int = 0, *_: Any
    ) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else str(host)
        address = NAMES.get(name.removesuffix("."))
        if address is None and set(name) <= set("0123456789."):
            address = name
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = type or socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 0, "", (address, int(port)))]

    def target(address: Any) -> Any:
        if isinstance(address, str):
            return world.paths.get(address, address)
        host, port = address[:2]
        if host == "127.0.0.1" and f"{host}:{port}" not in world.ports:
            return address  # a server that the example itself has started
        return world.lookup(host, port)

    class Socket(socket.socket):
        __slots__ = ()

        def connect(self, address: Any) -> None:
            really.connect(self, target(address))

        def connect_ex(self, address: Any) -> int:
            try:
                return really.connect_ex(self, target(address))
            except OSError as error:
                return error.errno or errno.EIO

        def getpeername(self) -> Any:
            real = really.getpeername(self)
            place = peers.get(real[1]) if isinstance(real, tuple) else None
            if place is None:
                return real
            host, _, port = place.rpartition(":")
            return host, int(port)

    socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]
    socket.socket = Socket  # type: ignore[misc]
