"""The two consoles: colours on a terminal, plain text elsewhere; and complaints."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

from rich.console import Console, RenderableType
from rich.text import Text

from .exits import OutputClosed

__all__ = ["error_console", "output_console", "print_error", "print_trimmed"]

_FILE_WIDTH: Final = 120


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Called by rich, which by itself would exit with 1."""
        raise OutputClosed


def output_console() -> Console:
    """Standard output. In a file or pipe lines are up to 120 columns wide."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def error_console() -> Console:
    """Standard error; lines are not wrapped."""
    return _Console(stderr=True, highlight=False, soft_wrap=True)


def print_trimmed(console: Console, what: RenderableType) -> None:
    """Print; in a file or pipe without the blanks that fill a table's columns."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    for line in captured.get().splitlines():
        console.out(line.rstrip())


def print_error(code: str, message: str) -> None:
    """An error, in a line on standard error."""
    error_console().print(
        Text.assemble(("wsockets: ", "dim"), (code, "bold red"), ": ", message)
    )
