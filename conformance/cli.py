"""The command line of the conformance suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
from conformance.drivers import ROOT, DriverError, drivers
from conformance.results import Report, Result
from conformance.runner import Times, run
from conformance.scenarios import LEVELS, chosen, load

RESULTS = ROOT / "results"


@click.group()
def main() -> None:
    """Hold implementations of the Sockets API against its specification."""


@main.command("run")
@click.option(
    "--driver",
    "names",
    multiple=True,
    type=click.Choice(sorted(drivers())),
    help="The implementation; may be given several times. Default: python.",
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
@click.option(
    "--mutant", help="With a Python driver: the misbehaviour to be found out."
)
@click.option("--json", "to_json", type=click.Path(path_type=Path, file_okay=False))
@click.option("--junit", type=click.Path(path_type=Path, file_okay=False))
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-v", "--verbose", is_flag=True, help="Show the failures' transcripts.")
def run_command(
    names: tuple[str, ...],
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
    arguments = ["--mutant", mutant] if mutant else []
    reports = []
    for name in names or ("python",):
        with _shown(console, name, len(scenarios)) as (progress, advance), progress:
            try:
                reports.append(
                    run(
                        drivers()[name],
                        scenarios,
                        jobs=jobs,
                        times=Times(limit, settle),
                        arguments=arguments,
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
        html.write_text(report.page(reports, scenarios))
    sys.exit(0 if all(each.conforms for each in reports) else 1)
