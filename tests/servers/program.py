"""Start a server program, know when it is ready, stop it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

__all__ = [
    "AddressTakenError",
    "accepts",
    "folder",
    "free_port",
    "on_a_free_port",
    "running",
    "unprivileged",
]

READY_WITHIN = 30.0  # seconds; a loaded machine of two cores needs some
STOPPED_WITHIN = 10.0

S = TypeVar("S")


class AddressTakenError(RuntimeError):
    """Somebody else was faster at taking the port."""


@contextmanager
def folder(name: str, owner: str | None = None) -> Iterator[Path]:
    """A short-named folder (a unix address has 107 bytes), removed at the end."""
    path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))
    try:
        if owner is not None:
            shutil.chown(path, owner)
        yield path
    finally:
        shutil.rmtree(path)


def unprivileged(user: str) -> str | None:
    """`user` where we are root and a server refuses to be; else None."""
    if os.geteuid() != 0:
        return None
    pwd.getpwnam(user)  # KeyError names the user that the package should have made
    return user


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(address: tuple[str, int] | str) -> bool:
    """Whether somebody accepts a connection at a TCP or unix address."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(1)
        return sock.connect_ex(address) == 0


@contextmanager
def running(
    arguments: list[str],
    ready: Callable[[], bool],
    *,
    log: Path,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server program for as long as the block takes.

    `ready` is asked until it says so. What the program prints goes to `log`,
    whose end is part of every error. The kernel sends it `stop` when we die.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd=log.parent,
        )
    try:
        _wait(process, ready, log)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path
) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not ready():
        try:
            # Its end is an event; its readiness has to be asked for.
            status = process.wait(0.02)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
            trouble = f"was not ready within {READY_WITHIN:g} s"
        else:
            trouble = f"ended with status {status}"
        said = log.read_text(errors="replace")[-2000:]
        kind = AddressTakenError if "ddress already in use" in said else RuntimeError
        raise kind(f"{process.args!r} {trouble}; it said:\n{said}")


@contextmanager
def on_a_free_port(start: Callable[[int], AbstractContextManager[S]]) -> Iterator[S]:
    """`start(port)` for a program that cannot choose a port by itself."""
    with ExitStack() as stack:
        for attempt in range(5):
            try:
                server = stack.enter_context(start(free_port()))
            except AddressTakenError:
                if attempt == 4:
                    raise
            else:
                break
        yield server
