"""The command line of the benchmarks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from bench import (
    arrivals,
    install,
    namespace,
    plot,
    profiling,
    results,
    servers,
    session,
    show,
)
from bench.bridges import BRIDGES, chosen
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
    titles = {client.name: client.title for client in clients}
    with ticking(session.steps(measures, clients, repeats), console, titles) as each:
        found = session.perform(
            measures,
            clients,
            repeats=repeats,
            quick=quick,
            pin=pin,
            tick=each.tick,
            report=each.report,
        )
    write(found, out, console, update=update)


@attrs.frozen
class Ticking:
    """What is told while a run goes on."""

    tick: Callable[[str], None]
    report: Callable[[results.Section], None]


@contextlib.contextmanager
def ticking(
    steps: int, console: Console, titles: Mapping[str, str]
) -> Iterator[Ticking]:
    """A bar for the steps, and each section as soon as it is complete."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    complete: dict[str, results.Section] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=steps)

        def report(section: results.Section) -> None:
            complete[section.name] = section
            show.show(section, progress.console, titles, complete)

        yield Ticking(
            lambda text: progress.update(task, advance=1, description=text), report
        )


def write(found: results.Results, out: Path, console: Console, *, update: bool) -> None:
    """Write the result file and its picture; exit with 1 if anything failed."""
    failed = any(section.failed for section in found.sections)
    if update and out.exists():
        try:
            found = results.merge(results.load(out), found)
        except ValueError as error:
            raise click.ClickException(f"{out}: {error}") from error
    results.save(found, out)
    console.print(f"written: {out}")
    draw(out, console)
    if failed:
        sys.exit(1)


@main.command()
@click.option(
    "--only",
    multiple=True,
    help="Only this measure, or those whose names begin so (bulk, tunnel, idle,"
    " packets …); may be given several times.",
)
@click.option(
    "--peer",
    "names",
    multiple=True,
    type=click.Choice([each.name for each in BRIDGES]),
    help="Only this program; may be given several times.",
)
@click.option("--repeats", type=click.IntRange(1), help="Default 5; with --quick 1.")
@click.option("--quick", is_flag=True, help="A tenth of the work: a look, no figures.")
@click.option(
    "--pin",
    type=click.Choice(["same", "apart", "free"]),
    default="apart",
    show_default=True,
    help="Bridge and ends on the same CPU, on different ones, or anywhere.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The JSON file; the picture goes beside it. Default results/bridge.json,"
    " or results/partial.json where not everything is run.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Put what is measured in place of the same measures of the result file and"
    " keep its others.",
)
def bridge(
    only: tuple[str, ...],
    names: tuple[str, ...],
    repeats: int | None,
    quick: bool,
    pin: Pin,
    out: Path | None,
    update: bool,
) -> None:
    """Measure what it costs to forward between a connection and something else."""
    console = Console()
    try:
        measures = chosen(only)
    except KeyError as error:
        raise click.BadParameter(f"no measure begins with {error}") from error
    bridges = [each for each in BRIDGES if not names or each.name in names]
    repeats = repeats or (1 if quick else 5)
    whole = update or not (only or names or quick)
    out = out or RESULTS / ("bridge.json" if whole else "partial.json")
    try:
        namespace.enter()
    except namespace.NamespaceError as error:
        console.print(f"no namespace, so no tunnels: {error}", markup=False)
    titles = {each.name: each.title for each in bridges}
    steps = session.bridge_steps(measures, bridges, repeats)
    with ticking(steps, console, titles) as each:
        found = session.perform_bridges(
            measures,
            bridges,
            repeats=repeats,
            quick=quick,
            pin=pin,
            tick=each.tick,
            report=each.report,
        )
    write(found, out, console, update=update)


@main.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([each.name for each in servers.MEASURES]),
    help="Only this measure; may be given several times.",
)
@click.option(
    "--peer",
    "names",
    multiple=True,
    type=click.Choice([each.name for each in servers.SERVERS]),
    help="Only this program; may be given several times.",
)
@click.option("--repeats", type=click.IntRange(1), help="Default 7; with --quick 1.")
@click.option("--quick", is_flag=True, help="A tenth of the work: a look, no figures.")
@click.option(
    "--pin",
    type=click.Choice(["same", "apart", "free"]),
    default="apart",
    show_default=True,
    help="Server and clients on the same CPU, on different ones, or anywhere.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The JSON file; the picture goes beside it. Default results/server.json,"
    " or results/partial.json where not everything is run.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Put what is measured in place of the same measures of the result file and"
    " keep its others.",
)
def server(
    only: tuple[str, ...],
    names: tuple[str, ...],
    repeats: int | None,
    quick: bool,
    pin: Pin,
    out: Path | None,
    update: bool,
) -> None:
    """Measure what it costs to accept connections, and to shake hands."""
    console = Console()
    measures = servers.chosen(only)
    programs = [each for each in servers.SERVERS if not names or each.name in names]
    repeats = repeats or (1 if quick else 7)
    whole = update or not (only or names or quick)
    out = out or RESULTS / ("server.json" if whole else "partial.json")
    titles = {each.name: each.title for each in programs}
    steps = session.bridge_steps(measures, programs, repeats)
    with ticking(steps, console, titles) as each:
        found = session.perform_bridges(
            measures,
            programs,
            repeats=repeats,
            quick=quick,
            pin=pin,
            tick=each.tick,
            report=each.report,
            attempt=arrivals.trial,
        )
    write(found, out, console, update=update)


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
    found = results.load(path)
    titles = {name: each["title"] for name, each in found.clients.items()}
    sections = {section.name: section for section in found.sections}
    for section in found.sections:
        show.show(section, console, titles, sections)
    draw(path, console)
