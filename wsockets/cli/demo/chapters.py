"""What the demonstration does with the library; it shows this very code.

Every function is one chapter: its first line of documentation is the title, its
source is printed, it is run, and what it returns is shown.
"""

from __future__ import annotations

import re
import secrets
import socket as sockets

from ... import Binding, ReadableStreamDefaultReader, SocketError, adopt, connect
from ...starttls import upgrade
from .devices import Devices
from .query import first_row, query, startup

__all__ = ["mail", "nobody", "plain", "postgresql", "secured", "tunnel", "untrusted"]

LETTER = """\
From: demo@localhost\r
To: you@localhost\r
Subject: over STARTTLS\r
\r
This letter crossed the wire encrypted.\r
.\r
"""


async def plain(server: str) -> str:
    """A connection is a pair of streams."""
    async with connect(server) as socket:
        writer = socket.writable.getWriter()
        await writer.write("hello world\n")
        reader = socket.readable.getReader()
        value, _done = await reader.read()
        return str(value, "utf-8")


async def secured(server: str, binding: Binding) -> str:
    """TLS, and a protocol agreed on in the handshake."""
    async with binding.connect(
        server, secureTransport="on", alpn=["demo/2", "demo/1"]
    ) as socket:
        info = await socket.opened
        writer = socket.writable.getWriter()
        await writer.write("hello world\n")
        value, _done = await socket.readable.getReader().read()
        return f"{str(value, 'utf-8')}agreed on {info.alpn}"


async def mail(server: str, binding: Binding) -> str:
    """A letter, after STARTTLS."""
    socket = binding.connect(server, secureTransport="starttls")
    async with await upgrade(socket, "smtp") as secure:
        writer = secure.writable.getWriter()
        reader = secure.readable.getReader()
        for command in (
            "EHLO localhost\r\n",
            "MAIL FROM:<demo@localhost>\r\n",
            "RCPT TO:<you@localhost>\r\n",
            "DATA\r\n",
            LETTER,
        ):
            await writer.write(command)
            answer = await reply(reader)
        return answer


async def postgresql(server: str, binding: Binding) -> str:
    """PostgreSQL, after its SSLRequest."""
    socket = binding.connect(server, secureTransport="starttls")
    async with await upgrade(socket, "postgres") as secure:
        writer = secure.writable.getWriter()
        await writer.write(startup("demo", "postgres"))
        await writer.write(
            query(
                "select s.version, s.cipher, split_part(version(), ' ', 2) "
                "from pg_stat_ssl s where pid = pg_backend_pid()"
            )
        )
        tls, cipher, version = await first_row(secure.readable)
        return f"PostgreSQL {version} sees {tls} with {cipher}"


async def nobody(server: str) -> str:
    """Where nobody listens."""
    try:
        async with connect(server):
            return "connected?"
    except SocketError as error:
        return f"{error.code}: {error}"


async def untrusted(server: str) -> str:
    """A certificate that nobody vouches for."""
    try:
        async with connect(server, secureTransport="on"):
            return "connected?"
    except SocketError as error:
        return f"{error.code}: {error}"


async def reply(reader: ReadableStreamDefaultReader) -> str:
    """The last line of the next reply of an SMTP server."""
    said = b""
    while not re.search(rb"^\d{3} .*\r\n\Z", said, re.MULTILINE):
        value, done = await reader.read()
        if done:
            raise SocketError("the mail server hung up", code="closed")
        said += value
    return said.decode().splitlines()[-1]


async def tunnel(devices: Devices, seconds: float) -> str:
    """Packets between two devices, each in a TLS record of its own."""
    here, there = sockets.socketpair()
    key = b"tunnel", secrets.token_bytes(32)
    near = adopt(here, secureTransport="on", psk=key)
    far = adopt(there, secureTransport="on", psk=key, role="server")
    async with (
        near,
        far,
        near.bridge(devices.left, framing="ip", mtu=1280) as bridge,
        far.bridge(devices.right, framing="ip", mtu=1280),
    ):
        return await devices.flood(bridge, seconds)
