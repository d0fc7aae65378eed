"""The plaintext dialogues before TLS, against peers that follow a script.

A script is what happens on the server's side: bytes that it sends, and patterns
that it waits for. Behind the script the peer answers the TLS handshake and greets.
"""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests import certificates
from tests.servers import PostgreSQL, Smtp
from wsockets import Binding, Socket, SocketError, TlsOptions
from wsockets.starttls import PROTOCOLS, Protocol, upgrade
from wsockets.starttls.dialogues import DIALOGUES, Hear, Say
from wsockets.starttls.frames import (
    LINE_LIMIT,
    MESSAGE_LIMIT,
    Frame,
    Unexpected,
    ber,
    coded_reply,
    line,
    mysql_packet,
    one_byte,
    readable,
    tagged_reply,
    xmpp_element,
)

Script = Sequence[bytes | re.Pattern[bytes]]

GREETING = b"greeting over TLS"
XMPP_HEADER = (
    b"<?xml version='1.0'?><stream:stream from='localhost' id='x' version='1.0' "
    b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
XMPP_FEATURES = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"
    b"<required/></starttls><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
XMPP_PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
XMPP_OPEN = re.compile(rb"<\?xml version='1.0'\?><stream:stream [^>]*>")
XMPP_STARTTLS = re.compile(rb"<starttls [^>]*/>")


def crlf(text: str) -> re.Pattern[bytes]:
    return re.compile(text.encode() + rb"\r\n")


def any_bytes(size: int) -> re.Pattern[bytes]:
    return re.compile(b".{%d}" % size, re.DOTALL)


def mysql(capabilities: int, version: bytes = b"8.0.36") -> bytes:
    payload = b"\x0a" + version + b"\0" + b"\x07\0\0\0" + b"saltsalt" + b"\0"
    payload += (capabilities & 0xFFFF).to_bytes(2, "little") + b"\x2d\x02\0"
    payload += (capabilities >> 16).to_bytes(2, "little") + b"\x15" + bytes(10)
    payload += b"moresaltmore\0" + b"caching_sha2_password\0"
    return len(payload).to_bytes(3, "little") + b"\0" + payload


def ldap(code: int, text: bytes = b"", message: int = 1, tag: int = 0x78) -> bytes:
    body = b"\x0a\x01" + bytes([code]) + b"\x04\0" + b"\x04" + ber_length(len(text))
    body += text
    body = b"\x02\x01" + bytes([message, tag]) + ber_length(len(body)) + body
    return b"\x30" + ber_length(len(body)) + body


def ber_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    return b"\x82" + length.to_bytes(2, "big")


CONSENT: dict[str, Script] = {
    "smtp": (
        b"220-mail.example ESMTP\r\n220 at your service\r\n",
        crlf(r"EHLO \[127\.0\.0\.1\]"),
        b"250-mail.example\r\n250-SIZE 1000\r\n250-StartTLS\r\n250 HELP\r\n",
        crlf("STARTTLS"),
        b"220 go ahead\r\n",
    ),
    "imap": (
        b"* OK [CAPABILITY IMAP4rev2 STARTTLS] ready\r\n",
        crlf("a1 STARTTLS"),
        b"* CAPABILITY IMAP4rev2\r\na1 ok begin\r\n",
    ),
    "pop3": (b"+OK ready <1@x>\r\n", crlf("STLS"), b"+OK begin\r\n"),
    "ftp": (
        b"220-welcome\r\n to this server\r\n220 ready\r\n",
        crlf("AUTH TLS"),
        b"234 begin\r\n",
    ),
    "ldap": (any_bytes(31), ldap(0)),
    "xmpp": (
        XMPP_OPEN,
        XMPP_HEADER + XMPP_FEATURES,
        XMPP_STARTTLS,
        XMPP_PROCEED,
    ),
    "postgres": (any_bytes(8), b"S"),
    "mysql": (mysql(0xFFFF_FFFF), any_bytes(36)),
}

PROTOCOL = pytest.mark.parametrize("protocol", PROTOCOLS)


@attrs.define
class Peer:
    """What became of the connection on the server's side."""

    address: str
    heard: list[bytes] = attrs.field(factory=list)
    secured: bytes | None = None


def server_context(issued: certificates.Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.files())
    return context


async def follow(
    stream: trio.SocketStream, script: Script, peer: Peer, dripping: bool
) -> bool:
    """Whether the script could be followed to its end."""
    for step in script:
        if isinstance(step, bytes):
            size = 1 if dripping else len(step)
            for start in range(0, len(step), size):
                await stream.send_all(step[start : start + size])
                if dripping:
                    await trio.testing.wait_all_tasks_blocked()
            continue
        words = b""
        while not step.fullmatch(words):
            more = await stream.receive_some(1)
            if not more:
                return False
            words += more
        peer.heard.append(words)
    return True


@asynccontextmanager
async def serving(
    script: Script,
    *,
    dripping: bool = False,
    secure: bool = True,
    issued: certificates.Issued | None = None,
) -> AsyncIterator[Peer]:
    """A peer for one connection; gone when the block is left."""
    context = server_context(issued or certificates.server())
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    peer = Peer(f"127.0.0.1:{port}")

    async def serve() -> None:
        async with listener, await listener.accept() as stream:
            if not await follow(stream, script, peer, dripping):
                return
            if not secure:
                return
            try:
                tls = trio.SSLStream(stream, context, server_side=True)
                await tls.send_all(GREETING)
                peer.secured = await tls.receive_some()
            except trio.BrokenResourceError:
                pass

    # The peer ends when the connection does; nobody waits for one that does not.
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield peer


def dial(peer: Peer, **options: Any) -> Socket:
    tls = TlsOptions(ca=certificates.authority().certificate)
    return Binding(tls=tls).connect(peer.address, secureTransport="starttls", **options)


async def ask(peer: Peer, protocol: str, **options: Any) -> Socket:
    if protocol == "xmpp":
        options = {"hostname": "localhost"} | options
    return await upgrade(dial(peer), cast("Protocol", protocol), **options)


async def greeting(secured: Socket) -> bytes:
    value, done = await secured.readable.getReader().read()
    assert not done
    return bytes(value)


async def refusal(script: Script, protocol: str, **options: Any) -> SocketError:
    """The error of an upgrade that must fail, the connection being gone with it."""
    async with serving(script, secure=False) as peer:
        socket = dial(peer)
        if protocol == "xmpp":
            options = {"hostname": "localhost"} | options
        with pytest.raises(SocketError) as caught:
            await upgrade(socket, cast("Protocol", protocol), **options)
        await socket.closed
        assert not socket.upgraded
        assert await socket.readable.getReader().read() == (None, True)
        with pytest.raises(SocketError):
            await socket.writable.getWriter().write(b"password")
    return caught.value


# -- consent ---------------------------------------------------------------------


@PROTOCOL
@pytest.mark.parametrize("dripping", [False, True], ids=["whole", "byte by byte"])
async def test_a_server_that_consents_is_spoken_to_over_tls(
    protocol: str, dripping: bool
) -> None:
    async with serving(CONSENT[protocol], dripping=dripping) as peer:
        async with await ask(peer, protocol) as secured:
            assert await greeting(secured) == GREETING
            assert secured.secureTransport == "on"
            session = secured.tls_info()
            assert session is not None
            assert session.verified
            await secured.writable.getWriter().write(b"first words")
    assert peer.secured == b"first words"


@PROTOCOL
async def test_the_old_socket_is_upgraded_and_its_streams_are_free(
    protocol: str,
) -> None:
    async with serving(CONSENT[protocol]) as peer:
        socket = dial(peer)
        name = "localhost" if protocol == "xmpp" else None
        secured = await upgrade(socket, cast("Protocol", protocol), hostname=name)
        assert socket.upgraded
        assert not socket.readable.locked
        assert not socket.writable.locked
        await socket.closed
        await secured.close()


async def test_both_sides_of_the_dialogue_can_be_overheard() -> None:
    overheard: list[tuple[str, bytes]] = []
    async with serving(CONSENT["imap"]) as peer:
        socket = await ask(
            peer, "imap", overheard=lambda *message: overheard.append(message)
        )
        await socket.close()
    greeting, go = CONSENT["imap"][0], CONSENT["imap"][2]
    assert overheard == [
        ("server", greeting),
        ("client", b"a1 STARTTLS\r\n"),
        ("server", go),
    ]


async def test_a_driver_for_mysql_overhears_the_greeting_with_its_salt() -> None:
    overheard: list[tuple[str, bytes]] = []
    async with serving(CONSENT["mysql"]) as peer:
        socket = await ask(
            peer, "mysql", overheard=lambda *message: overheard.append(message)
        )
        await socket.close()
    assert overheard[0] == ("server", mysql(0xFFFF_FFFF))


async def test_the_name_in_ehlo_can_be_chosen() -> None:
    script = [*CONSENT["smtp"]]
    script[1] = crlf("EHLO client[.]example")
    async with serving(script) as peer:
        await (await ask(peer, "smtp", client="client.example")).close()


@pytest.mark.parametrize(
    ("ip", "words"),
    [("::1", b"EHLO [IPv6:::1]\r\n"), ("127.0.0.1", b"EHLO [127.0.0.1]\r\n")],
)
async def test_ehlo_gives_the_local_address(ip: str, words: bytes) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=ip)
        port = listener.socket.getsockname()[1]
        address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        nursery.start_soon(refuse_ehlo, listener, words)
        socket = Binding().connect(address, secureTransport="starttls")
        with pytest.raises(SocketError, match="502 no"):
            await upgrade(socket, "smtp")


async def refuse_ehlo(
    listener: trio.abc.Listener[trio.SocketStream], words: bytes
) -> None:
    async with listener, await listener.accept() as stream:
        await stream.send_all(b"220 hello\r\n")
        heard = b""
        while len(heard) < len(words):
            heard += await stream.receive_some()
        assert heard == words
        await stream.send_all(b"502 no\r\n")


async def test_a_server_behind_a_unix_address_hears_localhost(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(path)
        sock.listen()
        listener = trio.SocketListener(_FakeTcp.of(sock))
