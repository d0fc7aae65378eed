"""The program `wsockets`: its commands, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ..errors import SocketError
from .bridge import bridge_command
from .connect import connect_command
from .console import print_error
from .demo import demo_command
from .exits import (
    CTRL_C,
    INTERNAL,
    OK,
    OUTPUT_CLOSED,
    USAGE,
    OutputClosed,
    exit_for,
)
from .listen import listen_command
from .report import message_of

__all__ = ["main", "program"]


class Program(click.Group):
    """Ends with this program's exit codes, whatever click would have chosen."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and have what it printed out of the buffer."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            # click would exit with 1.
            raise OutputClosed from error
        return status

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *_: Any,
        **__: Any,
    ) -> NoReturn:
        """Run a command and exit."""
        sys.exit(_run(self, args, prog_name or "wsockets"))


def _run(group: click.Group, args: Sequence[str] | None, name: str) -> int:
    try:
        status = click.Group.main(group, args, name, standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return CTRL_C
    except OutputClosed:
        _discard(1)
        return OUTPUT_CLOSED
    except (click.ClickException, SocketError, OSError) as error:
        return _complain(error)
    return status if isinstance(status, int) else OK


def _complain(error: click.ClickException | SocketError | OSError) -> int:
    """Say on standard error what went wrong; gives the exit code."""
    try:
        if isinstance(error, click.ClickException):
            error.show()
        elif isinstance(error, SocketError):
            print_error(error.code, message_of(error))
        else:
            _discard(1)
            print_error("os", str(error))
    except (OSError, OutputClosed):
        _discard(2)
    if isinstance(error, SocketError):
        return exit_for(error.code)
    return USAGE if isinstance(error, click.ClickException) else INTERNAL


def _discard(fd: int) -> None:
    """What is still buffered cannot be written, and would say so again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)


@click.group(
    "wsockets", cls=Program, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(
    None, "-V", "--version", package_name="wsockets", message="%(prog)s %(version)s"
)
def program() -> None:
    """Sockets, with and without TLS, from the command line."""


program.add_command(connect_command)
program.add_command(bridge_command)
program.add_command(demo_command)
program.add_command(listen_command)


def main() -> NoReturn:
    """Run the command line that the process was started with."""
    occupy_standard_files()
    program.main()


def occupy_standard_files() -> None:
    """Give standard files that were closed a file, so that no socket gets their number.

    A closed input is at its end, a closed output fails when it is written to, and
    complaints go nowhere.
    """
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
