"""The command line of the benchmarks."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

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
    bridging,
    install,
    namespace,
    plot,
    profiling,
    results,
    servers,
    session,
    show,
)
from bench.bridges import BRIDGES, Bridge, chosen
from bench.plan import CLIENTS, HERE, MEASURES, Client, Measure, client_named
from bench.run import BenchError, Pin, site

RESULTS = HERE / "results"

C = TypeVar("C", bound=Client)
Command = Callable[..., None]


@attrs.frozen
class Request:
    """What is to be measured, how, and where the figures go."""

    only: tuple[str, ...]
    names: tuple[str, ...]
    repeats: int
    quick: bool
    pin: Pin
    out: Path
    update: bool

    def among(self, programs: Iterable[C]) -> list[C]:
        """Those of `programs` that were asked for, or all."""
        return [each for each in programs if not self.names or each.name in self.names]


def requested(
    programs: Sequence[Client],
    measures: Sequence[Measure] | None = None,
    *,
    one: str,
    repeats: tuple[int, int],
    pin: Pin,
    parties: str,
    result: str,
) -> Callable[[Command], Command]:
    """Give a command the options that all have, as its Request.

    `one` is what one of the programs is called, and `parties` who is pinned.
    `repeats` is the default, and that of a quick run. Where `measures` are not
    given, the command looks at the names itself.
    """
    usual, hasty = repeats
    prefixes = " or those whose names begin so (bulk, tunnel, idle, packets …);"
    options = (
        click.option(
            "--only",
            multiple=True,
            type=measures and click.Choice([each.name for each in measures]),
            help=f"Only this measure{';' if measures else ',' + prefixes}"
            " may be given several times.",
        ),
        click.option(
            f"--{one}",
            "names",
            multiple=True,
            type=click.Choice([each.name for each in programs]),
            help=f"Only this {one}; may be given several times.",
        ),
        click.option(
            "--repeats",
            type=click.IntRange(1),
            help=f"Default {usual}; with --quick {hasty}.",
        ),
        click.option(
            "--quick", is_flag=True, help="A tenth of the work: a look, no figures."
        ),
        click.option(
            "--pin",
            type=click.Choice(["same", "apart", "free"]),
            default=pin,
            show_default=True,
            help=f"{parties} on the same CPU, on different ones, or anywhere.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The JSON file; the picture goes beside it. Default"
            f" results/{result}, or results/partial.json where not everything is run.",
        ),
        click.option(
            "--update",
            is_flag=True,
            help="Put what is measured in place of the same measures of the result"
            " file and keep its others.",
        ),
    )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(
            *arguments: object,
            only: tuple[str, ...],
            names: tuple[str, ...],
            repeats: int | None,
            quick: bool,
            pin: Pin,
            out: Path | None,
            update: bool,
            **others: object,
        ) -> None:
            whole = update or not (only or names or quick)
            request = Request(
                only=only,
                names=names,
                repeats=repeats or (hasty if quick else usual),
                quick=quick,
                pin=pin,
                out=out or RESULTS / (result if whole else "partial.json"),
                update=update,
            )
            command(*arguments, request, **others)

        for option in reversed(options):
            run = option(run)
        return run

    return decorate


@click.group(invoke_without_command=True)
@requested(
    CLIENTS,
    MEASURES,
    one="client",
    repeats=(9, 2),
    pin="same",
    parties="Clients and peer",
    result="sockets.json",
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
    context: click.Context, request: Request, profile: profiling.Profiler | None
) -> None:
    """Measure what sockets cost their client, beside other libraries."""
    if context.invoked_subcommand is not None:
        return
    console = Console()
    measures = [
        each for each in MEASURES if not request.only or each.name in request.only
    ]
    if profile is not None:
        wanted = [client_named(each) for each in request.names or (show.SUBJECT,)]
        try:
            with site(request.pin) as where:
                for measure in measures:
                    for client in wanted:
                        profiling.profile(client, measure, where, profile, console)
        except BenchError as error:
            raise click.ClickException(str(error)) from error
        return
    clients = request.among(CLIENTS)
    steps = session.steps(measures, clients, request.repeats)
    with ticking(steps, console, clients) as each:
        found = session.perform(
            measures,
            clients,
            repeats=request.repeats,
            quick=request.quick,
            pin=request.pin,
            tick=each.tick,
            report=each.report,
        )
    write(found, request, console)


@attrs.frozen
class Ticking:
    """What is told while a run goes on."""

    tick: Callable[[str], None]
    report: Callable[[results.Section], None]


@contextlib.contextmanager
def ticking(
    steps: int, console: Console, programs: Iterable[Client]
) -> Iterator[Ticking]:
    """A bar for the steps, and each section as soon as it is complete."""
    titles = {each.name: each.title for each in programs}
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


def write(found: results.Results, request: Request, console: Console) -> None:
    """Write the result file and its picture; exit with 1 if anything failed."""
    out, failed = request.out, any(section.failed for section in found.sections)
    if request.update and out.exists():
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
@requested(
    BRIDGES,
    one="peer",
    repeats=(5, 1),
    pin="apart",
    parties="Bridge and ends",
    result="bridge.json",
)
def bridge(request: Request) -> None:
    """Measure what it costs to forward between a connection and something else."""
    console = Console()
    try:
        measures = chosen(request.only)
    except KeyError as error:
        raise click.BadParameter(f"no measure begins with {error}") from error
    try:
        namespace.enter()
    except namespace.NamespaceError as error:
        console.print(f"no namespace, so no tunnels: {error}", markup=False)
    forward(request, measures, BRIDGES, bridging.trial, console)


@main.command()
@requested(
    servers.SERVERS,
    servers.MEASURES,
    one="peer",
    repeats=(7, 1),
    pin="apart",
    parties="Server and clients",
    result="server.json",
)
def server(request: Request) -> None:
    """Measure what it costs to accept connections, and to shake hands."""
    measures = servers.chosen(request.only)
    forward(request, measures, servers.SERVERS, arrivals.trial, Console())


def forward(
    request: Request,
    measures: Sequence[Measure],
    every: Sequence[Bridge],
    attempt: session.Attempt,
    console: Console,
) -> None:
    """Run programs that others talk to, and write what was found."""
    programs = request.among(every)
    steps = session.bridge_steps(measures, programs, request.repeats)
    with ticking(steps, console, programs) as each:
        found = session.perform_bridges(
            measures,
            programs,
            repeats=request.repeats,
            quick=request.quick,
            pin=request.pin,
            tick=each.tick,
            report=each.report,
            attempt=attempt,
        )
    write(found, request, console)


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
