"""A mail server that takes mail under STARTTLS only, and prints what it gets.

    python smtp_server.py 127.0.0.1:2525 server.pem

Whoever has not begun TLS may say EHLO and STARTTLS and little else. The reader
takes one line at a time off the connection and not a byte more, so what a client
(or somebody on the way) puts behind STARTTLS is left for the TLS handshake, which
fails on it.

https://www.rfc-editor.org/rfc/rfc5321, https://www.rfc-editor.org/rfc/rfc3207
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import trio

from wsockets import Socket, SocketError, listen

# RFC 5321, section 4.5.3: a command line, a line of text, both with their CRLF.
_LINE_MAX: Final = 512
_TEXT_MAX: Final = 1000
_MESSAGE_MAX: Final = 10 << 20
_RECIPIENTS_MAX: Final = 100
# RFC 5321, section 4.5.3.2.7: five minutes; here nobody has that much to think.
_PATIENCE: Final = 60.0


class Message(NamedTuple):
    """What was delivered."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class _Goodbye(Exception):
    """The conversation is over."""


class _Lines:
    """A socket, read a line at a time."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self._reader = socket.readable.getReader(mode="byob")
        self._writer = socket.writable.getWriter()

    async def read(self, limit: int) -> bytes:
        """The next line, without its end."""
        line = bytearray()
        while not line.endswith(b"\r\n"):
            # A byte at a time: what follows the line may be the handshake's.
            value, done = await self._reader.read(bytearray(1))
            if done:
                raise _Goodbye
            line += value
            if len(line) > limit:
                await self.say("500 the line is too long")
                raise _Goodbye
        return bytes(line[:-2])

    async def say(self, *lines: str) -> None:
        """A reply of one or more lines, each beginning with its code."""
        more = [f"{line[:3]}-{line[4:]}" for line in lines[:-1]]
        await self._writer.write("\r\n".join([*more, lines[-1], ""]))


class Conversation:
    """One client."""

    def __init__(self, socket: Socket, deliver: Callable[[Message], object]) -> None:
        self._lines = _Lines(socket)
        self._deliver = deliver
        self._secure = False
        self._forget()

    def _forget(self) -> None:
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Talk until the client leaves, breaks off, or is silent for too long."""
        try:
            await self._lines.say("220 example ESMTP")
            while True:
                with trio.fail_after(_PATIENCE):
                    line = await self._lines.read(_LINE_MAX)
                    await self._obey(line.decode("ascii", "replace"))
        except (_Goodbye, SocketError, trio.TooSlowError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                await self._lines.socket.close()

    async def _obey(self, line: str) -> None:
        word, _, argument = line.partition(" ")
        match word.upper():
            case "EHLO" | "HELO":
                self._forget()
                offers = [] if self._secure else ["250 STARTTLS"]
                await self._say("250 example", "250 8BITMIME", *offers)
            case "STARTTLS" if not self._secure and not argument:
                await self._start_tls()
            case "NOOP":
                await self._say("250 all right")
            case "RSET":
                self._forget()
                await self._say("250 forgotten")
            case "QUIT":
                await self._say("221 good bye")
                raise _Goodbye
            case "MAIL" | "RCPT" | "DATA" if not self._secure:
                await self._say("530 begin with STARTTLS")
            case "MAIL" if (sender := _address(argument, "FROM:")) is not None:
                self._forget()
                self._sender = sender
                await self._say("250 go on")
            case "RCPT" if self._sender is None:
                await self._say("503 MAIL comes first")
            case "RCPT" if recipient := _address(argument, "TO:"):
                if len(self._recipients) == _RECIPIENTS_MAX:
                    await self._say("452 too many recipients")
                    return
                self._recipients.append(recipient)
                await self._say("250 go on")
            case "DATA" if not self._recipients:
                await self._say("503 RCPT comes first")
            case "DATA":
                await self._take_message()
            case "MAIL" | "RCPT":
                await self._say("501 an address in angle brackets is missing")
            case _:
                await self._say("502 no such command")

    async def _say(self, *lines: str) -> None:
        await self._lines.say(*lines)

    async def _start_tls(self) -> None:
        await self._say("220 go ahead")
        secure = self._lines.socket.startTls()
        await secure.opened
        # What was said in the clear may have been said by anybody.
        self._lines = _Lines(secure)
        self._secure = True
        self._forget()

    async def _take_message(self) -> None:
        await self._say("354 end with a dot on a line of its own")
        content = bytearray()
        while (line := await self._lines.read(_TEXT_MAX)) != b".":
            content += line.removeprefix(b".") + b"\r\n"
            if len(content) > _MESSAGE_MAX:
                await self._say("552 the message is too large")
                raise _Goodbye
        assert self._sender is not None
        message = Message(self._sender, tuple(self._recipients), bytes(content))
        self._deliver(message)
        self._forget()
        await self._say("250 delivered")


def _address(argument: str, keyword: str) -> str | None:
    """What stands between the angle brackets; parameters behind it are ignored."""
    if not argument.upper().startswith(keyword):
        return None
    path = argument[len(keyword) :].strip()
    if not path.startswith("<") or ">" not in path:
        return None
    return path[1 : path.index(">")]


async def serve(
    address: str,
    certificate: Path,
    deliver: Callable[[Message], object],
    *,
    ready: Callable[[str], object] = print,
) -> None:
    """Listen at `address`, until cancelled; `ready` is told where."""
    async with (
        listen(address, secureTransport="starttls", cert=certificate) as server,
        trio.open_nursery() as nursery,
    ):
        ready(server.localAddress)
        async for socket in server:
            nursery.start_soon(Conversation(socket, deliver).run)


if __name__ == "__main__":
    where, pem = sys.argv[1:]
    trio.run(serve, where, Path(pem), print)
