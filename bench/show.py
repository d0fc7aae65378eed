"""The results on the terminal: a table a measure, and the goals."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.results import Ratio, Section

SUBJECT = "wsockets"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def parts(ratio: Ratio | None) -> list[str]:
    """The three columns of a ratio."""
    if ratio is None:
        return ["", "", ""]
    return [
        f"{ratio.median:.2f}",
        f"{ratio.low:.2f}–{ratio.high:.2f}",
        f"{ratio.best:.2f}",
    ]


def goal_line(
    section: Section, name: str, limit: float, others: Mapping[str, Section]
) -> Text | None:
    """How the subject stands to one goal; None where it was not measured."""
    if name == "absolute":
        figure = section.figures.get(SUBJECT)
        got, what = (figure.median if figure else None), section.unit
    else:
        client, _, elsewhere = name.partition("@")
        other = others.get(elsewhere) if elsewhere else section
        ratio = other and section.ratio(SUBJECT, client, other)
        got, what = (ratio.median if ratio else None), f"× {name}"
    if got is None:
        return None
    style, word = ("green", "met") if got <= limit else ("yellow", "not met")
    if name == "floor" and got < 1:
        # Nothing costs less than a part of it.
        style, word = "red", "below the floor, so no figure"
    return Text(f"  {got:.3g} {what}, goal {limit:g}: {word}", style=style)


def table(section: Section, titles: Mapping[str, str]) -> Table:
    """The figures of one measure, best first."""
    columns = Table(
        title=f"{section.title}: {section.unit}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    columns.add_column("client", no_wrap=True)
    for heading in (
        "median",
        "best",
        "±",
        f"× {section.reference}",
        "range",
        "best/best",
    ):
        columns.add_column(heading, justify="right", no_wrap=True)
    order = sorted(section.figures, key=lambda name: section.figures[name].median)
    for name in order:
        figure = section.figures[name]
        columns.add_row(
            titles.get(name, name),
            number(figure.median),
            number(figure.best),
            f"{figure.spread:.0%}",
            *parts(section.ratio(name)),
            style="bold cyan" if name == SUBJECT else None,
        )
    return columns


def show(
    section: Section,
    console: Console,
    titles: Mapping[str, str],
    others: Mapping[str, Section],
) -> None:
    """Print one measure; `others` are those of the same run, to compare with."""
    if section.figures:
        console.print(table(section, titles))
    for name, limit in section.goals.items():
        line = goal_line(section, name, limit, others)
        if line is not None:
            console.print(line)
    for name, reason in section.skipped.items():
        console.print(f"  {name}: skipped, {reason}", style="dim", markup=False)
    for name, reason in section.failed.items():
        console.print(f"  {name}: failed, {reason}", style="bold red", markup=False)
    console.print()
