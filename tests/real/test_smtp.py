"""Mail, sent by hand through a mail server that wants STARTTLS (RFC 3207)."""

from __future__ import annotations

import pytest

from tests import loops
from tests.servers import Smtp
from tests.servers.tls import TlsFiles
from wsockets import Socket, SocketError, connect

pytestmark = pytest.mark.every_loop


class Session:
    """One end of an SMTP dialogue on one socket."""

    def __init__(self, socket: Socket) -> None:
        self.reader = socket.readable.getReader(mode="byob")
        self.writer = socket.writable.getWriter()

    async def line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            value, done = await self.reader.read(bytearray(1))
            assert not done, line
            line += value
        return line

    async def reply(self) -> list[bytes]:
        lines = [await self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.line())
        return lines

    async def say(self, line: str, code: bytes) -> list[bytes]:
        await self.writer.write(line + "\r\n")
        lines = await self.reply()
        assert lines[-1].startswith(code), lines
        return lines


async def start_tls(plain: Socket, tls: TlsFiles) -> Socket:
    session = Session(plain)
    await session.reply()
    offers = await session.say("EHLO client.example.com", b"250")
    assert b"250-STARTTLS\r\n" in offers
    await session.say("STARTTLS", b"220")
    return plain.startTls(ca=tls.root)


async def send(session: Session, text: bytes) -> None:
    await session.say("EHLO client.example.com", b"250")
    await session.say("MAIL FROM:<a@example.com>", b"250")
    await session.say("RCPT TO:<b@example.com>", b"250")
    await session.say("DATA", b"354")
    stuffed = text.replace(b"\r\n.", b"\r\n..")
    await session.writer.write(stuffed + b".\r\n")
    assert (await session.reply())[0].startswith(b"250")


async def test_a_mail_is_sent_over_starttls(smtp: Smtp, tls_files: TlsFiles) -> None:
    before = len(smtp.messages)
    text = b"Subject: hello\r\n\r\nTwo lines,\r\n.one of them dotted.\r\n"
    async with connect(smtp.address, secureTransport="starttls") as plain:
        socket = await start_tls(plain, tls_files)
        assert plain.upgraded
        await plain.closed
        session = Session(socket)
        await send(session, text)
        await session.say("QUIT", b"221")
        assert await session.reader.read(bytearray(1)) == (b"", True)
        await socket.closed
    (message,) = smtp.messages[before:]
    assert message.mail_from == "a@example.com"
    assert message.rcpt_tos == ["b@example.com"]
    assert message.content == text


async def test_a_large_mail_is_sent_over_starttls(
    smtp: Smtp, tls_files: TlsFiles
) -> None:
    before = len(smtp.messages)
    text = b"Subject: large\r\n\r\n"
    text += b"".join(b"%077d\r\n" % number for number in range(10_000))
    async with connect(smtp.address, secureTransport="starttls") as plain:
        socket = await start_tls(plain, tls_files)
        await send(Session(socket), text)
        await socket.close()
    (message,) = smtp.messages[before:]
    assert message.content == text


async def test_mails_are_sent_side_by_side(smtp: Smtp, tls_files: TlsFiles) -> None:
    before = len(smtp.messages)
    texts = [b"Subject: %d\r\n\r\nText.\r\n" % number for number in range(10)]

    async def deliver(text: bytes) -> None:
        async with connect(smtp.address, secureTransport="starttls") as plain:
            socket = await start_tls(plain, tls_files)
            await send(Session(socket), text)
            await socket.close()

    async with loops.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(deliver, text)
    received = {message.content for message in smtp.messages[before:]}
    assert received == set(texts)


async def test_a_mail_server_that_is_not_trusted_gets_no_mail(smtp: Smtp) -> None:
    before = len(smtp.messages)
    async with connect(smtp.address, secureTransport="starttls") as plain:
        session = Session(plain)
        await session.reply()
        await session.say("EHLO client.example.com", b"250")
        await session.say("STARTTLS", b"220")
        socket = plain.startTls()
        lost = socket.writable.getWriter().write("MAIL FROM:<a@example.com>\r\n")
        with pytest.raises(SocketError) as caught:
            await socket.opened
        assert caught.value.code == "tls-verify"
        with pytest.raises(SocketError):
            await lost
    assert len(smtp.messages) == before
