"""`wsockets demo`: the library against real servers, all on this machine."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
import click
import trio
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from ... import Binding, TlsOptions
from ...bridge.engines import engine_name
from ..console import output_console
from ..exits import OK
from . import chapters
from .authority import Files, found_authority
from .bulk import CONTENDERS, Contender, Figures, download, measure
from .devices import open_devices
from .servers import Mailbox, Missing, Ports, run_mail, run_peer, run_postgresql
from .signals import Obedience
from .stage import Stage

__all__ = ["demo_command"]

_MIB: Final = 1 << 20
_DRAW_EVERY: Final = 4 * _MIB
_ROUNDS: Final = 2
_FLOOD: Final = 1.0  # seconds
_ENGINE: Final = "WSOCKETS_BRIDGE_ENGINE"


@click.command("demo")
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="MIB",
    help="How much each bulk transfer moves.",
)
@click.option("--code/--no-code", default=True, help="Show the code of each chapter.")
def demo_command(size: int, code: bool) -> int:
    """Show the library at work, in well under a minute.

    Servers are started on this machine, without root: a plain and a TLS one, a mail
    server with STARTTLS, and PostgreSQL where it is installed.
    """
    stage = Stage(output_console(), code=code)
    begun = time.monotonic()
    stage.open()
    with Obedience() as obedience, ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="wsockets-demo-"))
        files = found_authority(Path(folder))
        ports = stack.enter_context(run_peer(files))
        database, box = ExitStack(), ExitStack()
        stack.enter_context(database)
        stack.enter_context(box)
        # It takes seconds to start, while the first chapters run.
        pool = stack.enter_context(ThreadPoolExecutor(1))
        postgresql = pool.submit(database.enter_context, run_postgresql(files))
        mail = _started(box, run_mail(files))
        # Whatever ends it, the servers are stopped in peace.
        stack.callback(obedience.end)
        trio.run(_perform, stage, files, Servers(ports, mail, postgresql), size * _MIB)
    stage.console.print()
    stage.good(f"all of that in {time.monotonic() - begun:.0f} seconds")
    return OK


@attrs.frozen
class Servers:
    """What there is to talk to; a server that is missing raises Missing when asked."""

    ports: Ports
    mail: Future[Mailbox]
    postgresql: Future[int]


def _started(
    stack: ExitStack, server: AbstractContextManager[Mailbox]
) -> Future[Mailbox]:
    found: Future[Mailbox] = Future()
    try:
        found.set_result(stack.enter_context(server))
    except (Missing, OSError) as error:
        found.set_exception(error)
    return found


async def _perform(stage: Stage, files: Files, servers: Servers, size: int) -> None:
    binding = Binding(tls=TlsOptions(ca=files.root))
    plain = f"localhost:{servers.ports.plain}"
    secure = f"localhost:{servers.ports.tls}"

    stage.chapter(chapters.plain)
    stage.good(await chapters.plain(plain))

    stage.chapter(chapters.secured)
    stage.good(await chapters.secured(secure, binding))

    stage.chapter(chapters.mail)
    try:
        box = servers.mail.result()
        stage.good(await chapters.mail(f"localhost:{box.port}", binding))
        stage.letter(box.messages[0])
    except (Missing, OSError) as missing:
        stage.skipped(str(missing))

    stage.chapter(chapters.postgresql)
    try:
        port = await trio.to_thread.run_sync(servers.postgresql.result)
        stage.good(await chapters.postgresql(f"localhost:{port}", binding))
    except (Missing, OSError) as missing:
        stage.skipped(str(missing))

    stage.chapter(chapters.nobody)
    stage.error(await chapters.nobody("localhost:1"))

    stage.chapter(chapters.untrusted)
    stage.error(await chapters.untrusted(secure))

    stage.chapter(chapters.tunnel)
    await _tunnels(stage)

    stage.chapter(download)
    stage.figures(await _transfers(stage.console, servers.ports, files, size))


async def _tunnels(stage: Stage) -> None:
    """With the engine that serves here; then with the other, to compare."""
    chosen = os.environ.get(_ENGINE)
    engines = dict.fromkeys((engine_name(), chosen or "python"))
    with open_devices() as devices, ExitStack() as stack:
        stack.callback(_set_engine, chosen)
        stage.good(f"between {devices.what}")
        for engine in engines:
            _set_engine(engine)
            stage.good(await chapters.tunnel(devices, _FLOOD))


def _set_engine(name: str | None) -> None:
    if name is None:
        os.environ.pop(_ENGINE, None)
    else:
        os.environ[_ENGINE] = name


async def _transfers(
    console: Console, ports: Ports, files: Files, size: int
) -> list[tuple[Contender, Figures]]:
    """The better of two rounds for each, taken in turns."""
    best: dict[Contender, Figures] = {}
    with Progress(
        TextColumn("  {task.description:<24}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        refresh_per_second=5,
        transient=True,
    ) as progress:
        for contender in CONTENDERS * _ROUNDS:
            name = f"{contender.name}, {contender.transport}"
            meter = _Meter(progress, progress.add_task(name, total=size))
            found = await measure(contender, ports, files, size, meter.count)
            if contender not in best or found.rate > best[contender].rate:
                best[contender] = found
            progress.remove_task(meter.task)
    return list(best.items())


@attrs.define
class _Meter:
    """A bar that is told of every chunk; drawing each would be what is measured."""

    progress: Progress
    task: TaskID
    received: int = 0
    drawn: int = 0

    def count(self, length: int) -> None:
        """So many bytes more."""
        self.received += length
        if self.received - self.drawn >= _DRAW_EVERY:
            self.drawn = self.received
            self.progress.update(self.task, completed=self.received)
