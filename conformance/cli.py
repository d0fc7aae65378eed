"""The command line of the conformance suite."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from conformance import report
from conformance.coverage import write_coverage
from conformance.drivers import ROOT, Driver, DriverError, drivers, read_drivers
from conformance.results import Report, Result
from conformance.runner import Times, run
from conformance.scenarios import LEVELS, chosen, load

RESULTS = ROOT / "results"
PAGE = RESULTS / "index.html"


@click.group()
def main() -> None:
    """Hold implementations of the Sockets API against its specification."""


@main.command("run")
@click.option(
    "--driver",
    "names",
    multiple=True,
    metavar="NAME",
    help="The implementation; may be given several times. Default: python.",
)
@click.option("--all", "everything", is_flag=True, help="All that can be run here.")
@click.option(
    "--table",
    "table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A table of further implementations, like drivers/drivers.toml.",
)
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.Choice(list(LEVELS)),
    help="Only scenarios of this level; may be given several times.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    help="Only this scenario, chapter (the id up to a dot) or pattern.",
)
@click.option("--jobs", type=click.IntRange(1), default=6, show_default=True)
@click.option(
    "--limit",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    help="Seconds for what is to happen.",
)
@click.option(
    "--settle",
    type=click.FloatRange(0.01),
    default=0.12,
    show_default=True,
    help="Seconds to see that something does not.",
)
@click.option("--mutant", help="With a Python driver: the misbehaviour to be noticed.")
@click.option("--json", "to_json", type=click.Path(path_type=Path, file_okay=False))
@click.option("--junit", type=click.Path(path_type=Path, file_okay=False))
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-v", "--verbose", is_flag=True, help="Show the failures' transcripts.")
@click.pass_obj
def run_command(
    isolated: bool | None,
    names: tuple[str, ...],
    everything: bool,
    table: Path | None,
    levels: tuple[str, ...],
    only: tuple[str, ...],
    jobs: int,
    limit: float,
    settle: float,
    mutant: str | None,
    to_json: Path | None,
    junit: Path | None,
    html: Path | None,
    verbose: bool,
) -> None:
    """Run scenarios; the exit status is 1 where one of level M or W fails.

    --json and --junit name folders, for a file per implementation, and --html a
    page that compares them.
    """
    console = Console()
    scenarios = chosen(load(), levels=levels, only=only)
    if not scenarios:
        raise click.UsageError("there is no such scenario")
    reports = []
    for driver in _chosen_drivers(console, names, everything, table):
        if isolated:
            driver = attrs.evolve(driver, offers=[*driver.offers, "isolation"])
        with _progress(console, driver.title, len(scenarios)) as advance:
            try:
                reports.append(
                    run(
                        driver,
                        scenarios,
                        jobs=jobs,
                        times=Times(limit, settle),
                        mutant=mutant,
                        progress=advance,
                    )
                )
            except DriverError as error:
                raise click.ClickException(str(error)) from error
    report.show(console, reports, scenarios, verbose=verbose)
    if to_json is not None:
        to_json.mkdir(parents=True, exist_ok=True)
        for each in reports:
            each.save(to_json / f"{each.driver}.json")
    if junit is not None:
        junit.mkdir(parents=True, exist_ok=True)
        for each in reports:
            report.write_junit(each, scenarios, junit / f"{each.driver}.xml")
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(report.page(reports, scenarios))
        console.print(f"The comparison is in {html}", soft_wrap=True)
    sys.exit(0 if all(each.conforms for each in reports) else 1)


def _chosen_drivers(
    console: Console, names: tuple[str, ...], everything: bool, table: Path | None
) -> list[Driver]:
    known = drivers() | (read_drivers(table) if table is not None else {})
    if everything:
        for each in known.values():
            if missing := each.lacks():
                console.print(f"{each.title}: left out, lacks {', '.join(missing)}")
        return [each for each in known.values() if not each.lacks()]
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise click.UsageError(
            f"there is no driver {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return [known[name] for name in names or ("python",)]


@contextlib.contextmanager
def _progress(
    console: Console, title: str, total: int
) -> Iterator[Callable[[Result], None]]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    failed = 0
    with bar:
        task = bar.add_task(title, total=total, failed="")

        def advance(result: Result) -> None:
            nonlocal failed
            failed += result.verdict == "fail"
            bar.update(task, advance=1, failed=f"{failed} failed" if failed else "")

        yield advance


@main.command("list")
@click.argument("only", nargs=-1)
def list_command(only: tuple[str, ...]) -> None:
    """Print the scenarios: level, id, title."""
    for each in chosen(load(), only=only):
        click.echo(f"{each.level} {each.id}: {each.title}")


@main.command("page")
@click.argument(
    "files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=PAGE)
def page_command(files: tuple[Path, ...], output: Path) -> None:
    """Make the page of results again, from JSON (default: those of results/)."""
    order = list(drivers())
    found = [Report.read(each) for each in files or RESULTS.glob("*.json")]
    if not files:
        found.sort(key=lambda each: order.index(each.driver))
    output.write_text(report.page(found, load()))


@main.command("clauses")
def clauses_command() -> None:
    """Write into spec/clauses.toml which scenarios show each clause."""
    changed = write_coverage()
    click.echo(f"{changed} clauses changed")
