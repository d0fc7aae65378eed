"""`openssl s_server` and `s_client`: the other end of a connection, and a witness.

Both print what they negotiated and every byte that they receive, and send what
is typed, except where it begins with one of their commands: "k" and "K" update
the keys (K asks the peer to do so too), "R" renegotiates, "Q" ends everything.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Callable

import attrs

from tests import certificates, loops
from tests.peers import PEERS
from tests.wires import SocketStream

__all__ = ["Program", "s_client", "s_server"]

WITHIN = 20.0  # seconds, for anything that is waited for


@attrs.define(eq=False)
class Program:
    """A running program, and all that it has said so far."""

    process: subprocess.Popen[bytes]
    stream: SocketStream
    said: bytearray = attrs.field(factory=bytearray)
    _news: loops.Event = attrs.field(factory=loops.Event)
    _silent: bool = False

    async def type(self, text: str | bytes) -> None:
        """Give it input; one line at a time is a command or data."""
        await self.stream.send_all(text.encode() if isinstance(text, str) else text)

    async def until(self, condition: Callable[[bytearray], object]) -> None:
        """Wait until what it has said is such that `condition(said)`."""
        with loops.fail_after(WITHIN):
            while not condition(self.said):
                assert not self._silent, f"it has ended and said: {self.said!r}"
                await self._news.wait()

    async def says(self, pattern: str) -> re.Match[bytes]:
        """Wait until what it has said contains the regular expression."""
        expression = re.compile(pattern.encode())
        await self.until(expression.search)
        found = expression.search(self.said)
        assert found is not None
        return found

    async def ends(self) -> str:
        """Wait until it has ended; everything that it said."""
        with loops.fail_after(WITHIN):
            while not self._silent:
                await self._news.wait()
        await loops.in_thread(self.process.wait, WITHIN)
        return self.said.decode(errors="replace")

    async def listen(self) -> None:
        """Take in what it says: it is never kept from going on."""
        # Reset if it has not read all that it was given.
        with contextlib.suppress(loops.BrokenResourceError):
            async for chunk in self.stream:
                self.said += chunk
                self._tell()
        self._silent = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = loops.Event()


@contextlib.asynccontextmanager
async def _running(*arguments: str) -> AsyncIterator[Program]:
    program = PEERS["openssl"].find()
    assert program is not None, PEERS["openssl"].absence
    near, far = socket.socketpair()
    with far:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=far.fileno(),
            stdout=far.fileno(),
            stderr=subprocess.STDOUT,
        )
    async with SocketStream(near) as stream, loops.open_nursery() as nursery:
        running = Program(process, stream)
        nursery.start_soon(running.listen)
        try:
            yield running
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def s_server(
    *arguments: str, issued: certificates.Issued | None = None
) -> AsyncIterator[tuple[Program, str]]:
    """`openssl s_server`, and the "127.0.0.1:port" that it listens on.

    It has a certificate for localhost and loopback unless it is told otherwise.
    """
    command = ["s_server", "-accept", "127.0.0.1:0", *arguments]
    if "-nocert" not in arguments:
        files = (issued or certificates.server()).files()
        command += ["-cert", str(files.cert), "-key", str(files.key)]
    async with _running(*command) as program:
        found = await program.says(r"ACCEPT (127\.0\.0\.1:\d+)")
        yield program, found[1].decode()


@contextlib.asynccontextmanager
async def s_client(port: int, *arguments: str) -> AsyncIterator[Program]:
    """`openssl s_client`, connecting to `port` of 127.0.0.1."""
    command = ["s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    async with _running(*command) as program:
        yield program
