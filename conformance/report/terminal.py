"""Results as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conformance.results import Report, Result
from conformance.scenarios import LEVELS, Scenario

__all__ = ["show"]


def show(
    console: Console,
    reports: Sequence[Report],
    scenarios: Sequence[Scenario],
    *,
    verbose: bool = False,
) -> None:
    """Print what failed, with transcripts if `verbose`, and the counts by level."""
    titles = {each.id: each.title for each in scenarios}
    for report in reports:
        failed = [each for each in report.results if each.verdict == "fail"]
        if failed:
            console.print(f"\n[bold]{escape(report.title)}[/]: {len(failed)} failed")
        for each in failed:
            _show_failure(console, each, titles[each.id], verbose)
    console.print()
    console.print(_table(reports))


def _show_failure(console: Console, result: Result, title: str, verbose: bool) -> None:
    console.print(
        f"[red]✗[/] [dim]{result.level}[/] [cyan]{result.id}[/] {escape(title)}",
        highlight=False,
        soft_wrap=True,
    )
    for line in result.lines:
        if verbose or not line.good:
            mark = "[green]✓[/]" if line.good else "[red]✗[/]"
            wanted = "" if line.good else f"  [dim]not {escape(str(line.expected))}[/]"
            console.print(
                f"    {mark} [dim]{line.side}[/] {escape(line.step)}"
                f" [dim]→[/] {escape(line.got)}{wanted}",
                highlight=False,
                soft_wrap=True,
            )
        if not line.good and not verbose:
            break


def _table(reports: Sequence[Report]) -> Table:
    table = Table(title="Conformance to the Sockets API", title_justify="left")
    table.add_column("implementation")
    levels = [
        level
        for level in LEVELS
        if any(each.level == level for report in reports for each in report.results)
    ]
    for level in levels:
        table.add_column(f"{level} {LEVELS[level]}", justify="right")
    for report in reports:
        versions = ", ".join(
            f"{part} {number}" for part, number in report.versions.items()
        )
        table.add_row(
            f"{escape(report.title)}\n[dim]{escape(versions)}[/]",
            *(_cell(level, report.counted(level)) for level in levels),
        )
    return table


def _cell(level: str, counted: Counter[str]) -> str:
    if level == "O":
        return str(counted["reported"])
    tried = counted["pass"] + counted["fail"]
    colour = "green" if not counted["fail"] else "red" if level in "MW" else "yellow"
    told = f"[{colour}]{counted['pass']}[/] of {tried}"
    if counted["not offered"]:
        told += f"\n[dim]{counted['not offered']} not offered[/]"
    return told
