"""How the demonstration looks: a chapter's title, its code, what came of it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ..console import print_trimmed
from .bulk import Contender, Figures

__all__ = ["Stage"]


class Stage:
    """Prints to a console; what servers said comes as Text, never as markup."""

    def __init__(self, console: Console, *, code: bool = True) -> None:
        self.console = console
        self._code = code
        self._number = 0

    def open(self) -> None:
        """Say what this is."""
        text = Text.assemble(
            ("The Sockets API, for Python\n", "bold"),
            "All servers run on this machine, for this demonstration only.",
        )
        self.console.print(
            Panel(text, border_style="cyan", padding=(0, 2), expand=False)
        )

    def chapter(self, function: Callable[..., object]) -> None:
        """A title, the first line of a function's documentation, and its code."""
        self._number += 1
        title = (function.__doc__ or "").splitlines()[0].rstrip(".")
        self.console.print()
        self.console.print(
            Rule(
                Text(f"{self._number}  {title}", "bold cyan"),
                align="left",
                style="cyan",
            )
        )
        if self._code:
            self.console.print()
            self.console.print(_source(function), soft_wrap=True)

    def good(self, text: str) -> None:
        """It went as it should."""
        self._outcome(("✓", "bold green"), text)

    def error(self, text: str) -> None:
        """The error that the chapter is about."""
        self._outcome(("✓", "bold green"), text, "red")

    def letter(self, text: str) -> None:
        """What came by mail."""
        letter = Panel(Text(text.strip()), expand=False, border_style="dim")
        self.console.print(Padding(letter, (0, 0, 0, 4), expand=False))

    def skipped(self, text: str) -> None:
        """It cannot be shown here."""
        self._outcome(("–", "bold yellow"), text, "yellow")

    def _outcome(self, mark: tuple[str, str], text: str, style: str = "") -> None:
        outcome = Table.grid(padding=(0, 1))
        outcome.add_row(Text.assemble(mark), Text(text.strip(), style))
        print_trimmed(self.console, Padding(outcome, (0, 0, 0, 2)))

    def figures(self, results: Sequence[tuple[Contender, Figures]]) -> None:
        """The bulk transfers side by side."""
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column("")
        table.add_column("", style="dim")
        table.add_column("MB/s", justify="right")
        table.add_column("", width=20)
        table.add_column("CPU s", justify="right")
        table.add_column("CPU s/GiB", justify="right")
        fastest = max(found.rate for _, found in results)
        for contender, found in results:
            ours = contender.name == "wsockets"
            table.add_row(
                Text(contender.name, "bold cyan" if ours else ""),
                contender.transport,
                f"{found.rate / 1e6:,.0f}",
                ProgressBar(
                    fastest,
                    found.rate,
                    width=20,
                    complete_style="cyan" if ours else "white",
                    finished_style="cyan" if ours else "white",
                ),
                f"{found.cpu:.2f}",
                f"{found.cpu_per_gib:.2f}",
            )
        print_trimmed(self.console, Padding(table, (0, 0, 0, 2)))
        self.console.print(
            Text("  CPU seconds are this process's; the server is another.", "dim")
        )


def _source(function: Callable[..., object]) -> Text:
    """The function's source without its documentation."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    shown = "\n".join("  " + line for line in lines if '"""' not in line)
    syntax = Syntax("", "python", theme="ansi_dark", background_color="default")
    return syntax.highlight(shown)
