"""What a bridge program is asked to do; the twin of pump.mjs.

The pump comes as a JSON object in the last argument. The program listens on
127.0.0.1:`port` and forwards, in both directions and without an end, each connection
to 127.0.0.1:`backend`, or for the mode "tunnel" the packets of one connection to and
from the packet device `tun`, an open fd; for "serve" it sends back what comes. From
the moment that a line comes on standard input, an event loop has tasks of 2 ms
besides, one after the other (servers have not); when standard input ends before, so
does the program.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Literal

import attrs

BUFFER = 1 << 16
TASK = 0.002
# Packets that are taken from the device in one go, before others have their turn.
TURN = 64
HEADER = 40

Mode = Literal["forward", "pipe", "tunnel", "handback", "serve"]


@attrs.frozen
class Pump:
    """One task. `bulk` says that throughput is what counts, not many connections."""

    mode: Mode
    tls: bool
    bulk: bool
    port: int
    backend: int
    folder: str
    tun: int | None
    mtu: int
    cycles: int

    @property
    def certificate(self) -> str:
        """The server's certificate chain (PEM)."""
        return f"{self.folder}/cert.pem"

    @property
    def key(self) -> str:
        """Its private key (PEM)."""
        return f"{self.folder}/key.pem"

    @property
    def both(self) -> str:
        """Key and certificate chain in one file (PEM)."""
        text = Path(self.key).read_text() + Path(self.certificate).read_text()
        return self.write("both.pem", text)

    def write(self, name: str, text: str) -> str:
        """Put a file into the folder; its path."""
        path = Path(self.folder) / name
        path.write_text(text)
        return str(path)

    def context(self) -> ssl.SSLContext | None:
        """The server's TLS context: 1.2 for a tunnel, else 1.3."""
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        version = ssl.TLSVersion.TLSv1_3
        if self.mode == "tunnel":
            version = ssl.TLSVersion.TLSv1_2
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(self.certificate, self.key)
        return context


class Cutter:
    """Cuts a stream into IPv6 packets by their length field (RFC 8200, 3)."""

    def __init__(self) -> None:
        self._rest = b""

    def packets(self, data: bytes) -> list[memoryview]:
        """The packets that `data` completes."""
        view = memoryview(self._rest + data if self._rest else data)
        at, found, size = 0, [], len(view)
        while size - at >= HEADER:
            end = at + HEADER + int.from_bytes(view[at + 4 : at + 6], "big")
            if end > size:
                break
            if view[at] >> 4 != 6:
                raise ValueError(f"version {view[at] >> 4} in the packet at {at}")
            found.append(view[at:end])
            at = end
        self._rest = bytes(view[at:])
        return found


def told() -> bool:
    """Whether it is a line that has come on standard input, and not the end."""
    return bool(os.read(sys.stdin.fileno(), 4096))


def spin() -> None:
    """One task: 2 ms of Python."""
    until = time.perf_counter() + TASK
    while time.perf_counter() < until:
        pass


def read_pump(text: str | None = None) -> Pump:
    """The pump in `text`, or in the last argument."""
    return Pump(**json.loads(sys.argv[-1] if text is None else text))
