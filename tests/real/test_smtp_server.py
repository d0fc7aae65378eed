"""The mail server of the documentation, with clients that are not ours."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from docs.examples.smtp_server import Message, serve
from tests import certificates
from tests.loopback import binding
from tests.serving import WITHIN
from wsockets.starttls import upgrade

from .openssl import s_client

pytestmark = pytest.mark.only_trio("the example is a program of trio's")

AUTHORITY = certificates.authority().pem


@contextlib.asynccontextmanager
async def mail(tmp_path: Path) -> AsyncIterator[tuple[int, list[Message]]]:
    """The server's port, and what was delivered to it."""
    pem = tmp_path / "server.pem"
    issued = certificates.server()
    pem.write_text(issued.pem + issued.key_pem())
    delivered: list[Message] = []
    where: list[str] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await serve("127.0.0.1:0", pem, delivered.append, ready=where.append)

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(2 * WITHIN):
            yield int(where[0].rpartition(":")[2]), delivered
        nursery.cancel_scope.cancel()


def client(port: int) -> smtplib.SMTP:
    found = smtplib.SMTP(timeout=WITHIN, local_hostname="client.example")
    found.connect("127.0.0.1", port)
    found._host = "localhost"  # type: ignore[attr-defined]
    return found


async def in_thread(function: Any) -> Any:
    return await trio.to_thread.run_sync(function)


async def test_pythons_smtplib_delivers_under_tls(tmp_path: Path) -> None:
    def send(port: int) -> None:
        context = ssl.create_default_context(cadata=AUTHORITY)
        with client(port) as session:
            session.starttls(context=context)
            assert not session.has_extn("starttls")
            session.sendmail(
                "ada@example.com",
                ["bob@example.com", "eve@example.com"],
                b"Subject: hello\r\n\r\n.leading dot\r\n",
            )

    async with mail(tmp_path) as (port, delivered):
        await in_thread(lambda: send(port))
        assert delivered == [
            Message(
                "ada@example.com",
                ("bob@example.com", "eve@example.com"),
                b"Subject: hello\r\n\r\n.leading dot\r\n",
            )
        ]


async def test_nothing_is_taken_in_the_clear(tmp_path: Path) -> None:
    def try_to(port: int) -> None:
        with client(port) as session:
            with pytest.raises(smtplib.SMTPSenderRefused) as caught:
                session.sendmail("ada@example.com", "bob@example.com", b"hello")
            assert caught.value.smtp_code == 530
            assert session.docmd("VRFY", "ada")[0] == 502
            assert session.noop()[0] == 250

    async with mail(tmp_path) as (port, delivered):
        await in_thread(lambda: try_to(port))
        assert delivered == []


async def test_commands_behind_starttls_are_never_obeyed(tmp_path: Path) -> None:
    """CVE-2011-0411, and aiosmtpd's of 2022: injected by whoever is on the way."""

    def inject(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), WITHIN) as sock:
            replies = sock.makefile("rb")
            replies.readline()
            sock.sendall(b"STARTTLS\r\nNOOP\r\nQUIT\r\n")
            assert replies.readline().startswith(b"220")
            return replies.read()

    async with mail(tmp_path) as (port, _):
        rest = await in_thread(lambda: inject(port))
        # An alert at most, and no word of SMTP.
        assert rest[:1] in (b"", b"\x15")
        assert len(rest) < 10


async def test_our_own_dialogue_gets_to_tls(tmp_path: Path) -> None:
    async with mail(tmp_path) as (port, _):
        plain = binding().connect(f"localhost:{port}", secureTransport="starttls")
        async with await upgrade(plain, "smtp") as secure:
            info = secure.tls_info()
            assert info is not None
            assert info.verified


async def test_openssl_starts_tls_in_smtp(tmp_path: Path) -> None:
    root = str(certificates.authority().files().cert)
    async with mail(tmp_path) as (port, _):
        async with s_client(port, "-starttls", "smtp", "-CAfile", root) as program:
            await program.says("Verification: OK")
            await program.type("NOOP\n")
            # Its lines end in LF alone, which is no line here.
            await program.type("\r\nNOOP\r\n")
            await program.says("502|250 all right")


async def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    def flood(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), WITHIN) as sock:
            sock.sendall(b"x" * 600)
            replies = b""
            while more := sock.recv(4096):
                replies += more
            return replies

    async with mail(tmp_path) as (port, _):
        assert b"500 the line is too long" in await in_thread(lambda: flood(port))
