"""The plaintext dialogues before TLS, against peers that follow a script.

A script is what happens on the server's side: bytes that it sends, and patterns
that it waits for. Behind the script the peer answers the TLS handshake and greets.
"""

from __future__ import annotations

import re
import socket as plain_socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import certificates, loops
from tests.network import closed_port
from tests.servers import PostgreSQL, Smtp
from tests.servers.tls import TlsFiles
from tests.wires import Listener, SocketStream, SSLStream, listen_tcp, listen_unix
from wsockets import AbortError, Binding, Socket, SocketError, TlsOptions
from wsockets.address import format_address
from wsockets.starttls import PROTOCOLS, Protocol, upgrade
from wsockets.starttls.dialogues import DIALOGUES, Hear, Refused, Say
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

pytestmark = pytest.mark.every_loop

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
    secured: bytes | bytearray | None = None


def server_context(issued: certificates.Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.files())
    return context


async def follow(
    stream: SocketStream, script: Script, peer: Peer, dripping: bool
) -> bool:
    """Whether the script could be followed to its end."""
    for step in script:
        if isinstance(step, bytes):
            size = 1 if dripping else len(step) or 1
            for start in range(0, len(step), size):
                await stream.send_all(step[start : start + size])
                if dripping:
                    await loops.settle()
            continue
        words = b""
        while not step.fullmatch(words):
            more = await stream.receive_some(1)
            if not more:
                return False
            words += more
        peer.heard.append(words)
    return True


def listen(host: str) -> tuple[Listener, str]:
    """A listener at a numeric address or a path, and its address."""
    if not host.startswith("/"):
        listener, _ = listen_tcp(host)
        return listener, format_address(listener.socket.getsockname())
    return listen_unix(host), f"unix:{host}"


@asynccontextmanager
async def serving(
    script: Script,
    *,
    dripping: bool = False,
    secure: bool = True,
    issued: certificates.Issued | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Peer]:
    """A peer for one connection; gone when the block is left."""
    context = server_context(issued or certificates.server())
    listener, address = listen(host)
    peer = Peer(address)

    async def serve() -> None:
        async with listener, await listener.accept() as stream:
            try:
                if not (await follow(stream, script, peer, dripping) and secure):
                    return
                tls = SSLStream(stream, context, server_side=True)
                await tls.send_all(GREETING)
                peer.secured = await tls.receive_some()
            except loops.BrokenResourceError:
                # The client has dropped the connection, as it should.
                pass

    # The peer ends when the connection does; nobody waits for one that does not.
    with loops.fail_after(20):
        async with loops.open_nursery() as nursery:
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
        with pytest.raises(TypeError):
            await socket.writable.getWriter().write(b"password")
    return caught.value


# -- consent ---------------------------------------------------------------------


@PROTOCOL
@pytest.mark.parametrize("dripping", [False, True], ids=["whole", "byte by byte"])
async def test_a_server_that_consents_is_spoken_to_over_tls(
    protocol: str, dripping: bool
) -> None:
    async with (
        serving(CONSENT[protocol], dripping=dripping) as peer,
        await ask(peer, protocol) as secured,
    ):
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
    ("host", "words"),
    [
        ("127.0.0.1", rb"EHLO \[127\.0\.0\.1\]\r\n"),
        ("::1", rb"EHLO \[IPv6:::1\]\r\n"),
        ("/socket", rb"EHLO localhost\r\n"),
    ],
)
async def test_ehlo_gives_the_local_address(
    host: str, words: bytes, tmp_path: Path
) -> None:
    script = [*CONSENT["smtp"]]
    script[1] = re.compile(words)
    host = host.replace("/", f"{tmp_path}/")
    async with serving(script, host=host) as peer:
        socket = await upgrade(dial(peer, sni="localhost"), "smtp")
        assert await greeting(socket) == GREETING
        await socket.close()


async def test_hostname_is_the_name_that_is_verified() -> None:
    issued = certificates.server("mail.example")
    async with serving(CONSENT["imap"], issued=issued) as peer:
        socket = await ask(peer, "imap", hostname="mail.example")
        assert await greeting(socket) == GREETING
        await socket.close()


async def test_start_tls_can_be_told_of_another_name_to_verify() -> None:
    issued = certificates.server("host.example")
    async with serving(CONSENT["xmpp"], issued=issued) as peer:
        socket = await ask(
            peer,
            "xmpp",
            hostname="domain.example",
            expected_server_hostname="host.example",
        )
        await socket.close()


async def test_the_options_of_start_tls_are_passed_on() -> None:
    async with serving(CONSENT["pop3"], issued=certificates.server(issuer="other")) as (
        peer
    ):
        socket = await upgrade(dial(peer), "pop3", {"verify": "none"}, maxVersion="1.2")
        session = socket.tls_info()
        assert session is not None
        assert session.protocol == "TLSv1.2"
        await socket.close()


async def test_the_domain_is_escaped_in_the_stream_header_of_xmpp() -> None:
    script = [*CONSENT["xmpp"]]
    script[0] = re.compile(rb".*to=\"it's&lt;&gt;\" [^>]*>")
    async with serving(script, secure=False) as peer:
        with pytest.raises(SocketError):
            await ask(peer, "xmpp", hostname="it's<>")
    assert peer.heard[1].startswith(b"<starttls ")


async def test_an_xmpp_server_may_choose_its_own_prefixes() -> None:
    script = (
        XMPP_OPEN,
        (
            b"<s:stream xmlns:s='http://etherx.jabber.org/streams' a='>'>\n"
            b"<s:features><t:starttls xmlns:t='urn:ietf:params:xml:ns:xmpp-tls'/>"
            b"</s:features>"
        ),
        XMPP_STARTTLS,
        b"\n<t:proceed xmlns:t='urn:ietf:params:xml:ns:xmpp-tls'></t:proceed>",
    )
    async with serving(script) as peer, await ask(peer, "xmpp") as secured:
        assert await greeting(secured) == GREETING


async def test_a_mail_server_takes_a_letter_after_starttls(
    smtp: Smtp, tls_files: TlsFiles
) -> None:
    binding = Binding(tls=TlsOptions(ca=tls_files.root))
    socket = binding.connect(smtp.address, secureTransport="starttls")
    async with await upgrade(socket, "smtp") as secured:
        writer = secured.writable.getWriter()
        reader = secured.readable.getReader()
        for words, code in (
            ("EHLO localhost\r\n", b"250 "),
            ("MAIL FROM:<a@localhost>\r\n", b"250 "),
            ("RCPT TO:<b@localhost>\r\n", b"250 "),
            ("DATA\r\n", b"354 "),
            ("Subject: hello\r\n\r\nhello\r\n.\r\n", b"250 "),
        ):
            await writer.write(words)
            reply = b""
            while not (reply.endswith(b"\r\n") and code in reply):
                reply += (await reader.read()).value
    assert smtp.messages[-1].content == b"Subject: hello\r\n\r\nhello\r\n"


async def test_postgresql_consents(postgresql: PostgreSQL, tls_files: TlsFiles) -> None:
    binding = Binding(tls=TlsOptions(ca=tls_files.root))
    socket = binding.connect(postgresql.address, secureTransport="starttls")
    async with await upgrade(socket, "postgres") as secured:
        # An unfinished StartupMessage is dropped without a word.
        assert secured.secureTransport == "on"


# -- refusal ---------------------------------------------------------------------

REFUSALS: list[tuple[str, Script, str]] = [
    ("smtp", (b"554 go away\r\n",), "554 go away"),
    ("smtp", (CONSENT["smtp"][0], CONSENT["smtp"][1], b"502 what?\r\n"), "502 what"),
    (
        "smtp",
        (CONSENT["smtp"][0], CONSENT["smtp"][1], b"250-hello STARTTLS\r\n250 \r\n"),
        "does not offer STARTTLS",
    ),
    (
        "smtp",
        (CONSENT["smtp"][0], CONSENT["smtp"][1], b"250 STARTTLS\r\n"),
        "does not offer STARTTLS",
    ),
    (
        "smtp",
        (*CONSENT["smtp"][:4], b"454-no TLS today\r\n454 sorry\r\n"),
        "454-no TLS today / 454 sorry",
    ),
    ("imap", (b"* BYE busy\r\n",), "BYE busy"),
    ("imap", (b"* PREAUTH welcome back\r\n",), "PREAUTH"),
    ("imap", (*CONSENT["imap"][:2], b"a1 NO never\r\n"), "NO never"),
    ("imap", (*CONSENT["imap"][:2], b"a1 BAD what\r\n"), "BAD what"),
    ("pop3", (b"-ERR busy\r\n",), "-ERR busy"),
    ("pop3", (*CONSENT["pop3"][:2], b"-ERR\r\n"), "-ERR"),
    ("ftp", (b"421 full\r\n",), "421 full"),
    ("ftp", (*CONSENT["ftp"][:2], b"534 no\r\n"), "534 no"),
    ("ldap", (any_bytes(31), ldap(52, b"down")), "resultCode 52 down"),
    ("ldap", (any_bytes(31), ldap(2, b"x" * 300)), "resultCode 2 xxx"),
    ("ldap", (any_bytes(31), ldap(0, b"bye", message=0)), "resultCode 0 bye"),
    (
        "xmpp",
        (XMPP_OPEN, XMPP_HEADER + b"<stream:features/>"),
        "does not offer starttls",
    ),
    (
        "xmpp",
        (
            XMPP_OPEN,
            XMPP_HEADER + b"<stream:error><host-unknown xmlns='urn:x'/></stream:error>",
        ),
        "<error host-unknown>",
    ),
    ("xmpp", (XMPP_OPEN, XMPP_HEADER + b"</stream:stream>"), "the end of its stream"),
    (
        "xmpp",
        (
            *CONSENT["xmpp"][:3],
            b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>",
        ),
        "<failure>",
    ),
    ("xmpp", (*CONSENT["xmpp"][:3], b"<proceed xmlns='urn:other'/>"), "<proceed>"),
    ("postgres", (any_bytes(8), b"N"), "answers N"),
    ("postgres", (any_bytes(8), b"ESFATAL\0secret\0"), "answers E"),
    ("mysql", (mysql(0xFFFF_F7FF),), "8.0.36 is not set up for TLS"),
    (
        "mysql",
        (b"\x0f\0\0\0\xff\x10\x04Too many\x1b[2J",),
        r"error 1040: Too many\x1b[2J",
    ),
]


@pytest.mark.parametrize(("protocol", "script", "text"), REFUSALS)
async def test_a_refusal_is_an_error_and_the_end(
    protocol: str, script: Script, text: str
) -> None:
    error = await refusal(script, protocol)
    assert error.code == "tls"
    assert f"the {protocol} server refuses to start TLS: " in str(error)
    assert text in str(error)
    assert "secret" not in str(error)
    assert len(str(error)) < 300


def test_every_protocol_is_refused_by_some_server() -> None:
    assert {protocol for protocol, _, _ in REFUSALS} == set(PROTOCOLS)


# -- attacks and accidents -------------------------------------------------------


@PROTOCOL
@pytest.mark.parametrize("injected", [b"x", b"* OK injected\r\n" * 100])
async def test_plaintext_behind_the_consent_fails_the_handshake(
    protocol: str, injected: bytes
) -> None:
    script = [*CONSENT[protocol]]
    # MySQL's server consents first.
    place = 0 if protocol == "mysql" else -1
    consent = script[place]
    assert isinstance(consent, bytes)
    script[place] = consent + injected
    async with serving(script) as peer:
        socket = dial(peer)
        name = "localhost" if protocol == "xmpp" else None
        with pytest.raises(SocketError) as caught:
            await upgrade(socket, cast("Protocol", protocol), hostname=name)
        assert caught.value.code == "tls"
        assert "injected" not in str(caught.value)
        await socket.closed
        assert await socket.readable.getReader().read() == (None, True)


@PROTOCOL
async def test_a_certificate_that_is_refused_leaves_nothing_to_talk_to(
    protocol: str,
) -> None:
    issued = certificates.server(issuer="other")
    async with serving(CONSENT[protocol], issued=issued) as peer:
        socket = dial(peer)
        name = "localhost" if protocol == "xmpp" else None
        with pytest.raises(SocketError) as caught:
            await upgrade(socket, cast("Protocol", protocol), hostname=name)
        assert caught.value.code == "tls-verify"
        assert caught.value.certificates[0] == issued.der
    assert peer.secured is None


def cut_short() -> list[tuple[str, Script]]:
    """Each dialogue, ended before, inside and after every message of the server."""
    scripts: list[tuple[str, Script]] = []
    for protocol, script in CONSENT.items():
        for index, step in enumerate(script):
            if isinstance(step, bytes):
                scripts.append((protocol, script[:index]))
                scripts.append((protocol, (*script[:index], step[:-1])))
    return scripts


@pytest.mark.parametrize(("protocol", "script"), cut_short())
async def test_a_server_that_hangs_up_is_an_error(
    protocol: str, script: Script
) -> None:
    error = await refusal(script, protocol)
    assert error.code in ("closed", "reset")


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
XML_BOMB = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;'>]><x>&b;</x>"

GARBAGE: list[tuple[str, Script, str]] = [
    *((protocol, (HTTP,), "") for protocol in ("smtp", "imap", "pop3", "ftp", "mysql")),
    ("ldap", (any_bytes(31), HTTP), "0x48"),
    ("xmpp", (XMPP_OPEN, HTTP + b"<html>"), "cannot be read"),
    ("postgres", (any_bytes(8), HTTP), "'H', not S or N"),
    ("smtp", (b"22\r\n",), "'22'"),
    ("smtp", (b"220hello\r\n",), "three-digit"),
    ("smtp", (b"\xb2\xb20 hi\r\n",), "three-digit"),
    ("smtp", (b"220 " + b"x" * LINE_LIMIT,), "a line of over 4096 bytes"),
    ("smtp", (b"220-" + b"x" * 4000 + b"\r\n220-",) * 17, "over 65536 bytes"),
    ("imap", (*CONSENT["imap"][:2], b"* X\r\n" * 20000), "over 65536 bytes"),
    ("imap", (*CONSENT["imap"][:2], b"* X {5}\r\na1 OK\r\n"), "not a response"),
    ("imap", (*CONSENT["imap"][:2], b"+ go\r\n"), "not a response"),
    ("imap", (*CONSENT["imap"][:2], b"a1 MAYBE\r\n"), "not OK"),
    ("ldap", (any_bytes(31), b"\x30\x80"), "a length in 0 bytes"),
    ("ldap", (any_bytes(31), b"\x30\x85"), "a length in 5 bytes"),
    ("ldap", (any_bytes(31), b"\x30\x84\xff\xff\xff\xff"), "4294967295 bytes"),
    ("ldap", (any_bytes(31), b"\x30\0"), "not an element of tag 0x02"),
    ("ldap", (any_bytes(31), b"\x30\x03\x02\x05\x01"), "ends inside an element"),
    ("ldap", (any_bytes(31), ldap(0, message=2)), "message 02"),
    ("ldap", (any_bytes(31), ldap(0, tag=0x61)), "not an element of tag 0x78"),
    ("xmpp", (XMPP_OPEN, b"<html>"), "<html>, not an XMPP stream"),
    ("xmpp", (XMPP_OPEN, XML_BOMB), "RFC 6120 section 11.1 forbids"),
    ("xmpp", (XMPP_OPEN, XMPP_HEADER + b"<!-- x -->"), "forbids"),
    ("xmpp", (XMPP_OPEN, XMPP_HEADER + b"<?php ?>"), "forbids"),
    ("xmpp", (XMPP_OPEN, XMPP_HEADER + b"<a>&b;</a>"), "cannot be read"),
    ("xmpp", (XMPP_OPEN, XMPP_HEADER + b"<a>" * 30000), "over 65536 bytes"),
    ("xmpp", (XMPP_OPEN, XMPP_HEADER + b" " * 70000), "over 65536 bytes"),
    ("xmpp", (*CONSENT["xmpp"][:3], b"<stream:x/>"), "cannot be read"),
    ("mysql", (b"\x01\0\0\x01x",), "first packet"),
    ("mysql", (b"\0\0\0\0",), "first packet"),
    ("mysql", (b"\xff\xff\xff\0",), "16777215 bytes"),
    ("mysql", (b"\x02\0\0\0\x09x",), "version 10"),
    ("mysql", (b"\x04\0\0\0\x0ax\0y",), "version 10"),
]


@pytest.mark.parametrize(("protocol", "script", "text"), GARBAGE)
async def test_what_is_not_the_protocol_is_an_error(
    protocol: str, script: Script, text: str
) -> None:
    error = await refusal(script, protocol)
    assert error.code == "tls"
    assert f"this is no {protocol} server" in str(error)
    assert text in str(error)
    assert error.__cause__ is not None
    assert len(str(error)) < 400


async def test_a_silent_server_is_given_up() -> None:
    begun = loops.current_time()
    error = await refusal((any_bytes(1),), "smtp", timeout=0.05)
    assert error.code == "timeout"
    assert "0.05 seconds" in str(error)
    assert loops.current_time() - begun < 5


async def test_a_server_that_never_ends_its_greeting_is_given_up() -> None:
    async with serving((b"220-hello\r\n", any_bytes(1)), secure=False) as peer:
        with pytest.raises(SocketError) as caught:
            await upgrade(dial(peer), "smtp", timeout=0.05)
    assert caught.value.code == "timeout"


async def test_a_cancelled_upgrade_drops_the_connection() -> None:
    async with serving((b"220-hello\r\n", any_bytes(1)), secure=False) as peer:
        socket = dial(peer)
        heard = loops.Event()
        with loops.CancelScope() as scope:
            async with loops.open_nursery() as nursery:
                nursery.start_soon(cancel_when, heard, scope)
                await socket.opened
                heard.set()
                await upgrade(socket, "smtp")
        assert scope.cancelled_caught
        await socket.closed
        with pytest.raises(AbortError, match="given up"):
            await socket.writable.getWriter().write(b"x")


async def cancel_when(event: loops.Event, scope: loops.CancelScope) -> None:
    await event.wait()
    await loops.settle()
    scope.cancel()


async def test_an_upgrade_cancelled_in_its_handshake_drops_the_connection() -> None:
    script = (*CONSENT["pop3"], any_bytes(100_000))
    async with serving(script, secure=False) as peer:
        socket = dial(peer)
        with loops.CancelScope() as scope:
            async with loops.open_nursery() as nursery:
                said = loops.Event()
                nursery.start_soon(cancel_when, said, scope)

                def overheard(speaker: str, message: bytes) -> None:
                    if message == b"+OK begin\r\n":
                        said.set()

                await upgrade(socket, "pop3", overheard=overheard)
        assert scope.cancelled_caught
        assert socket.upgraded
        await socket.closed


async def test_what_connecting_raises_is_raised() -> None:
    with closed_port() as port:
        socket = Binding().connect(f"127.0.0.1:{port}", secureTransport="starttls")
        with pytest.raises(SocketError) as caught:
            await upgrade(socket, "smtp")
    assert caught.value.code == "refused"


async def test_material_that_start_tls_refuses_ends_the_connection() -> None:
    async with serving(CONSENT["pop3"], secure=False) as peer:
        socket = dial(peer)
        with pytest.raises(SocketError) as caught:
            await upgrade(socket, "pop3", cert="no certificate")
        assert caught.value.code == "option"
        await socket.closed


# -- calls that cannot work ------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "options", "text"),
    [
        ("gopher", {}, "one of smtp, imap, pop3, ftp, ldap, xmpp, postgres, mysql"),
        ("xmpp", {}, "xmpp needs hostname"),
        ("xmpp", {"hostname": "a\nb"}, "printable"),
        ("smtp", {"hostname": ""}, "non-empty"),
        ("smtp", {"client": "two words"}, "without spaces"),
        ("smtp", {"client": "x\r\nRSET"}, "without spaces"),
        ("smtp", {"client": "ü"}, "ASCII"),
    ],
)
async def test_a_wrong_argument_leaves_the_socket_alone(
    protocol: str, options: dict[str, Any], text: str
) -> None:
    async with serving(CONSENT["imap"]) as peer:
        socket = dial(peer)
        with pytest.raises(SocketError, match=re.escape(text)) as caught:
            await upgrade(socket, cast("Protocol", protocol), **options)
        assert caught.value.code == "option"
        await (await upgrade(socket, "imap")).close()


async def test_a_socket_of_another_kind_is_not_upgraded() -> None:
    async with (
        serving((b"220 hello\r\n", any_bytes(1)), secure=False) as peer,
        Binding().connect(peer.address) as socket,
    ):
        with pytest.raises(SocketError, match="not 'off'") as caught:
            await upgrade(socket, "smtp")
        assert caught.value.code == "state"
        value, _done = await socket.readable.getReader().read()
        assert value == b"220 hello\r\n"


@pytest.mark.parametrize("side", ["readable", "writable"])
async def test_a_locked_stream_is_a_type_error_and_stays_locked(side: str) -> None:
    async with serving(CONSENT["imap"], secure=False) as peer, dial(peer) as socket:
        holder: Any = (
            socket.readable.getReader()
            if side == "readable"
            else socket.writable.getWriter()
        )
        with pytest.raises(TypeError, match="locked"):
            await upgrade(socket, "imap")
        assert socket.readable.locked is (side == "readable")
        holder.releaseLock()
        await socket.close(reason="enough")


# -- the tables and the frames ---------------------------------------------------


def test_every_message_to_send_takes_the_names() -> None:
    names = {b"client": b"C", b"server": b"'S'"}
    for dialogue in DIALOGUES.values():
        for step in dialogue:
            if isinstance(step, Say):
                assert b"%(" not in step.words % names


def test_every_dialogue_ends_with_the_go() -> None:
    for protocol, dialogue in DIALOGUES.items():
        last = Say if protocol == "mysql" else Hear
        assert isinstance(dialogue[-1], last)


@pytest.mark.parametrize(
    ("protocol", "hello"),
    [("pop3", b"+OK\r\n"), ("ldap", b""), ("postgres", b""), ("mysql", b"?")],
)
def test_openssl_says_the_same(
    protocol: str, hello: bytes, peer: Callable[[str], str]
) -> None:
    """What s_client sends before its ClientHello is what we send."""
    hello = mysql(0xFFFF_FFFF) if hello == b"?" else hello
    ours = b"".join(step.words for step in DIALOGUES[protocol] if isinstance(step, Say))
    with plain_socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        with subprocess.Popen(
            [
                *(peer("openssl"), "s_client", "-starttls", protocol),
                *("-connect", f"127.0.0.1:{port}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                connection.sendall(hello)
                theirs = b""
                while len(theirs) < len(ours):
                    more = connection.recv(len(ours) - len(theirs))
                    assert more
                    theirs += more
            process.kill()
    if protocol == "mysql":
        # They differ in capabilities: what counts is the shape and the wish for TLS.
        assert theirs[:4] == ours[:4]
        assert theirs[5] & ours[5] & 0x08
        assert theirs[13:] == ours[13:]
    else:
        assert theirs == ours


def drive(frame: Frame[Any], data: bytes) -> tuple[Any, int]:
    """The message of a frame and how many bytes of `data` it took."""
    reading = frame()
    position = 0
    wanted = next(reading)
    while True:
        assert wanted >= 0
        if position + wanted > len(data):
            raise EOFError
        part = data[position : position + wanted]
        position += wanted
        try:
            wanted = reading.send(part)
        except StopIteration as end:
            return end.value, position


def a_line(text: str) -> bytes:
    return text.encode() + b"\r\n"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=100)
replies = st.builds(
    lambda code, more, last: (
        b"".join(a_line(f"{code}-{each}") for each in more) + a_line(f"{code} {last}")
    ),
    st.integers(100, 999),
    st.lists(texts, max_size=5),
    texts,
)
untagged = st.lists(texts.filter(lambda text: "{" not in text), max_size=5).map(
    lambda more: b"".join(a_line(f"* {each}") for each in more) + b"a1 OK\r\n"
)
elements = st.recursive(
    st.just("<a xmlns='urn:a' b='>'/>"),
    lambda inner: st.lists(inner, max_size=3).map(
        lambda parts: f"<b>ü{''.join(parts)}</b>"
    ),
)
messages = st.one_of(
    st.tuples(st.just(line), texts.map(a_line)),
    st.tuples(st.just(coded_reply), replies),
    st.tuples(st.just(tagged_reply("a1")), untagged),
    st.tuples(st.just(one_byte), st.binary(min_size=1, max_size=1)),
    st.tuples(
        st.just(ber),
        st.binary(max_size=300).map(
            lambda body: b"\x30" + ber_length(len(body)) + body
        ),
    ),
    st.tuples(
        st.just(mysql_packet),
        st.binary(min_size=1, max_size=300).map(
            lambda body: len(body).to_bytes(3, "little") + b"\0" + body
        ),
    ),
    st.tuples(st.just(xmpp_element(in_stream=True)), elements.map(str.encode)),
    st.tuples(
        st.just(xmpp_element(in_stream=False)),
        elements.map(lambda text: XMPP_HEADER + text.encode()),
    ),
)


@given(messages, st.binary(max_size=40))
def test_a_frame_takes_its_message_and_not_a_byte_more(
    message: tuple[Frame[Any], bytes], behind: bytes
) -> None:
    frame, data = message
    assert drive(frame, data + behind)[1] == len(data)


@given(messages, st.data())
def test_a_frame_waits_for_the_end_of_its_message(
    message: tuple[Frame[Any], bytes], data: st.DataObject
) -> None:
    frame, whole = message
    with pytest.raises(EOFError):
        drive(frame, whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(
    st.sampled_from(sorted(DIALOGUES)),
    st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
)
def test_no_answer_makes_a_dialogue_fail_in_another_way(
    protocol: str, noise: bytes
) -> None:
    for step in DIALOGUES[protocol]:
        if isinstance(step, Hear):
            try:
                message, _ = drive(step.frame, noise)
                step.verdict(message)
            except (Unexpected, Refused, EOFError):
                pass


def test_the_names_in_an_element_come_with_their_namespaces() -> None:
    found, _ = drive(xmpp_element(in_stream=False), XMPP_HEADER + XMPP_FEATURES)
    assert found == [
        "http://etherx.jabber.org/streams features",
        "urn:ietf:params:xml:ns:xmpp-tls starttls",
        "urn:ietf:params:xml:ns:xmpp-tls required",
        "urn:ietf:params:xml:ns:xmpp-sasl mechanisms",
        "urn:ietf:params:xml:ns:xmpp-sasl mechanism",
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"caf\xc3\xa9 \xff", r"café \xff"),
        ("a\x1b[31mb\r\n\u202e", r"a\x1b[31mb\r\n\u202e"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_what_a_peer_said_is_shown_without_harm(said: str | bytes, shown: str) -> None:
    assert readable(said) == shown


def test_the_limits_are_far_above_what_servers_send() -> None:
    assert LINE_LIMIT >= 8 * 512
    assert MESSAGE_LIMIT >= 8 * LINE_LIMIT
