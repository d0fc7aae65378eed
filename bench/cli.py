"""The command line of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from bench import install, plot, profiling, results, session, show
from bench.plan import CLIENTS, HERE, MEASURES, client_named
from bench.run import BenchError, Pin, site

RESULTS = HERE / "results"
MEASURE_NAMES = [each.name for each in MEASURES]
CLIENT_NAMES = [each.name for each in CLIENTS]


@click.group(invoke_without_command=True)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(MEASURE_NAMES),
    help="Only this measure; may be given several times.",
)
@click.option(
    "--client",
    "names",
    multiple=True,
    type=click.Choice(CLIENT_NAMES),
    help="Only this client; may be given several times.",
)
@click.option("--repeats", type=click.IntRange(1), help="Default 9; with --quick 2.")
@click.option("--quick", is_flag=True, help="A tenth of the work: a look, no figures.")
@click.option(
    "--pin",
    type=click.Choice(["same", "apart", "free"]),
    default="same",
    show_default=True,
    help="Clients and peer on the same CPU, on different ones, or anywhere.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The JSON file; the picture goes beside it. Default results/sockets.json,"
    " or results/partial.json where not everything is run.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Put what is measured in place of the same measures of the result file and"
    " keep its others.",
)
@click.option(
    "--profile",
    is_flag=False,
    flag_value="cprofile",
    type=click.Choice(["cprofile", "py-spy", "py-spy-native"]),
    help="Measure nothing, but show where the client (wsockets, or --client) spends"
    " its time.",
)
@click.pass_context
def main(
    context: click.Context,
    only: tuple[str, ...],
    names: tuple[str, ...],
    repeats: int | None,
    quick: bool,
    pin: Pin,
    out: Path | None,
    update: bool,
    profile: profiling.Profiler | None,
) -> None:
    """Measure what sockets cost their client, beside other libraries."""
    if context.invoked_subcommand is not None:
        return
    console = Console()
    measures = [each for each in MEASURES if not only or each.name in only]
    if profile is not None:
        wanted = [client_named(each) for each in names or (show.SUBJECT,)]
        try:
            with site(pin) as where:
                for measure in measures:
                    for client in wanted:
                        profiling.profile(client, measure, where, profile, console)
        except BenchError as error:
            raise click.ClickException(str(error)) from error
        return
    clients = [each for each in CLIENTS if not names or each.name in names]
    repeats = repeats or (2 if quick else 9)
    whole = update or not (only or names or quick)
    out = out or RESULTS / ("sockets.json" if whole else "partial.json")
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=session.steps(measures, clients, repeats))
        found = session.perform(
            measures,
            clients,
            repeats=repeats,
            quick=quick,
            pin=pin,
            tick=lambda text: progress.update(task, advance=1, description=text),
            report=lambda section: show.show(section, progress.console),
        )
    if update and out.exists():
        try:
            found = results.merge(results.load(out), found)
        except ValueError as error:
            raise click.ClickException(f"{out}: {error}") from error
    results.save(found, out)
    console.print(f"written: {out}")
    draw(out, console)
    if any(section.failed for section in found.sections):
        sys.exit(1)


def draw(path: Path, console: Console) -> None:
    """Draw the picture of a result file beside it, where matplotlib is installed."""
    picture = path.with_suffix(".svg")
    try:
        plot.plot(results.load(path), picture)
    except ImportError as error:
        console.print(f"no picture: {error}; python -m bench setup", markup=False)
    else:
        console.print(f"written: {picture}")


@main.command()
def setup() -> None:
    """Install the peers (Debian, npm and pip packages)."""
    install.install(Console())


@main.command("show")
@click.argument(
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=RESULTS / "sockets.json",
)
def show_again(path: Path) -> None:
    """Print a result file, and draw its picture anew."""
    console = Console()
    for section in results.load(path).sections:
        show.show(section, console)
    draw(path, console)
