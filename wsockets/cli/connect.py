"""`wsockets connect`: the options, and what they do."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import click
import trio

from ..errors import SocketError
from .connecting import connecting_options, settings_of
from .console import error_console, output_console, print_trimmed
from .exits import CTRL_C, EPILOG, OK
from .meter import Meter
from .relay import Crlf, relay
from .report import Message, Report, failed, succeeded
from .settings import Settings
from .show import one_line, show

__all__ = ["connect_command"]


@click.command("connect", epilog=EPILOG)
@click.argument("address", metavar="HOST:PORT|unix:PATH")
@connecting_options
@click.option("--info", is_flag=True, help="Tell about the connection, and leave it.")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
@click.option("--crlf", is_flag=True, help="Send CRLF for every LF of the input.")
@click.option(
    "--no-shutdown",
    is_flag=True,
    help="At the end of the input keep the sending direction open.",
)
@click.option("--progress", is_flag=True, help="Show a progress bar on standard error.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Tell on standard error how it went."
)
def connect_command(**given: Any) -> int:
    """Connect standard input and output to a server.

    Data go through unchanged. The end of the input ends the sending direction
    (--no-shutdown keeps it open); the command ends when the server has ended the
    connection.

    \b
      wsockets connect example.org:443 --tls --info
      wsockets connect mail.example.org:587 --starttls smtp --crlf
      wsockets connect unix:/run/redis.sock < commands > replies
    """
    settings = settings_of(given)
    if given["info"] or given["as_json"]:
        return trio.run(_interruptible, _look, settings, given["as_json"])
    return trio.run(_interruptible, _talk, settings, given)


async def _report(settings: Settings) -> Report:
    """Connect, look, and close again."""
    begun = time.monotonic()
    dialogue: list[Message] = []

    def so_far() -> Report:
        return Report(
            address=settings.address,
            secure_transport=settings.secure_transport,
            starttls=settings.starttls,
            seconds=round(time.monotonic() - begun, 6),
            dialogue=tuple(dialogue),
        )

    try:
        socket = await settings.connect(
            lambda speaker, raw: dialogue.append(Message.of(speaker, raw))
        )
        async with socket:
            return await succeeded(so_far(), socket, settings.verify)
    except SocketError as error:
        if error.code in ("address", "option", "state"):
            raise
        return failed(so_far(), error)


async def _look(settings: Settings, as_json: bool) -> int:
    report = await _report(settings)
    if as_json:
        click.echo(report.to_json())
    else:
        print_trimmed(output_console(), show(report))
    return report.exit_code


async def _talk(settings: Settings, given: dict[str, Any]) -> int:
    begun = time.monotonic()
    async with await settings.connect() as socket:
        if given["verbose"]:
            report = Report(
                settings.address,
                settings.secure_transport,
                settings.starttls,
                seconds=time.monotonic() - begun,
            )
            report = await succeeded(report, socket, settings.verify)
            error_console().print(one_line(report))
        with Meter(source=0, visible=given["progress"]) as meter:
            await relay(
                socket,
                0,
                1,
                translate=Crlf() if given["crlf"] else bytes,
                shutdown=not given["no_shutdown"],
                count=meter.count,
            )
        if given["verbose"]:
            error_console().print(meter.summary())
    return OK


async def _interruptible(function: Callable[..., Awaitable[int]], *args: object) -> int:
    """What `function(*args)` returns, or Ctrl-C's exit code once that has come.

    A shell's background jobs ignore SIGINT, and go on doing so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return await function(*args)
    scope = trio.CancelScope()

    async def listen() -> None:
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                scope.cancel()

    trio.lowlevel.spawn_system_task(listen)
    with scope:
        return await function(*args)
    return CTRL_C
