"""The servers that the demonstration talks to, all of them on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs

from .authority import Files

__all__ = ["Mailbox", "Missing", "Ports", "run_mail", "run_peer", "run_postgresql"]

# Ctrl-C is for the demonstration, which then stops its servers.
_OWN_GROUP: Final[dict[str, Any]] = {"process_group": 0}


class Missing(Exception):
    """A server that is not on this machine; says why, and what to do."""


@attrs.frozen
class Ports:
    """Where the plain and the TLS server listen."""

    plain: int
    tls: int


@contextmanager
def run_peer(files: Files) -> Iterator[Ports]:
    """The plain and the TLS server, in a process of their own."""
    module = f"{__package__}.peer"
    with subprocess.Popen(
        [sys.executable, "-m", module, files.chain, files.key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **_OWN_GROUP,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Ports(**json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait()


@attrs.frozen
class Mailbox:
    """A mail server's port, and the messages that it took."""

    port: int
    messages: list[str] = attrs.field(factory=list)

    async def handle_DATA(self, _server: object, _session: object, mail: Any) -> str:
        """Called by aiosmtpd with a message."""
        self.messages.append(mail.content.decode("utf-8", "replace"))
        return "250 thank you, it is in the box"


@contextmanager
def run_mail(files: Files) -> Iterator[Mailbox]:
    """A mail server that insists on STARTTLS, in a thread."""
    try:
        from aiosmtpd.smtp import SMTP
    except ModuleNotFoundError as error:
        raise Missing(
            'aiosmtpd is not installed; get it with: pip install "wsockets[demo]"'
        ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    listener = socket.create_server(("127.0.0.1", 0))
    box = Mailbox(int(listener.getsockname()[1]))
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    def protocol() -> Any:
        return SMTP(
            box,
            hostname="mail.localhost",
            ident="wsockets demo",
            tls_context=context,
            require_starttls=True,
            loop=loop,
        )

    async def serve() -> None:
        async with await loop.create_server(protocol, sock=listener):
            await stopping.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="mail")
    thread.start()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()


@contextmanager
def run_postgresql(files: Files) -> Iterator[int]:
    """A new PostgreSQL with TLS, and its port. It refuses to be root."""
    initdb, user = _find_postgresql()
    with TemporaryDirectory(prefix="wsockets-pg-") as home:
        folder = Path(home)
        for source in (files.chain, files.key):
            copy = folder / source.name
            shutil.copy(source, copy)
            copy.chmod(0o600)
        if user is not None:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, user)
        yield from _serve_postgresql(initdb, folder, files, user)


def _serve_postgresql(
    initdb: Path, folder: Path, files: Files, user: str | None
) -> Iterator[int]:
    data = folder / "data"
    run: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **_OWN_GROUP}
    if user is not None:
        run |= {"user": user, "group": user, "extra_groups": []}
    made = subprocess.run(
        [initdb, "-D", data, "-U", "demo", "-A", "trust", "--no-sync", "-E", "UTF8"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
        **run,
    )
    if made.returncode:
        raise Missing(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")
    port = _free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": folder / files.chain.name,
        "ssl_key_file": folder / files.key.name,
    }
    command = [str(initdb.with_name("postgres")), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **run) as process:
        assert process.stderr is not None
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if "ready to accept connections" in line:
                    break
            else:
                raise Missing("postgres did not start: " + "".join(said[-3:]).strip())
            yield port
        finally:
            process.send_signal(signal.SIGQUIT)
            process.communicate()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _find_postgresql() -> tuple[Path, str | None]:
    """initdb with postgres beside it, and the user to run them as."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(debian, key=lambda path: float(path.parts[4]), default=None)
    found = shutil.which("initdb") or newest
    if found is None:
        raise Missing("there is no PostgreSQL server on this machine")
    initdb = Path(found).resolve()
    if os.geteuid() != 0:
        return initdb, None
    try:
        return initdb, pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise Missing(
            "PostgreSQL refuses to run as root, and there is no user postgres"
        ) from None
