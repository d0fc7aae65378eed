"""The two consoles: colours on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

__all__ = ["error_console", "output_console", "print_trimmed"]

_FILE_WIDTH = 120


def output_console() -> Console:
    """Standard output. In a file or pipe lines are up to 120 columns wide."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def error_console() -> Console:
    """Standard error; lines are not wrapped."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_trimmed(console: Console, what: RenderableType) -> None:
    """Print; in a file or pipe without the blanks that fill a table's columns."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    for line in captured.get().splitlines():
        console.out(line.rstrip())
