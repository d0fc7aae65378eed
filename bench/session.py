"""Runs the plan: clients taken in turns, several repeats, every result checked."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from bench import machine
from bench.bridges import Bridge
from bench.bridging import Ground, Trial, ground, trial
from bench.plan import Client, Measure
from bench.results import Figure, Results, Section
from bench.run import BenchError, Cost, Pin, Site, run, site

# How much of a measure's work is done once with the payload checked.
CHECKED_PART = 50
QUICK_PART = 0.1

C = TypeVar("C", bound=Client)

Tick = Callable[[str], None]
Attempt = Callable[[Bridge, Sequence[Measure], Ground], Trial]


def steps(measures: Sequence[Measure], clients: Sequence[Client], repeats: int) -> int:
    """How many ticks `perform` gives, at most."""
    each = sum(1 + repeats * (1 if one.kind == "idle" else 2) for one in measures)
    return each * len(clients)


def in_turns(clients: Sequence[C], repeats: int) -> Iterator[C]:
    """Each client once a repeat; the order turns by one place a repeat."""
    for turn in range(repeats):
        shift = turn % max(1, len(clients))
        yield from (*clients[shift:], *clients[:shift])


def value_of(measure: Measure, cost: Cost, baseline: float) -> float:
    """The figure of one run, in the measure's unit."""
    if measure.kind == "idle":
        if cost.memory is None:
            raise BenchError(f"no memory was read on {measure.name}")
        return cost.memory / 1000 / (measure.count - measure.warm) * measure.scale
    return (cost.cpu - baseline) / measure.count * measure.scale


def checked(client: Client, measure: Measure, where: Site) -> int:
    """Run a part of the work with its payload checked; the bytes it was."""
    count = max(1, measure.count // CHECKED_PART)
    run(client, measure, where, count=count, check=True)
    return 0 if measure.kind == "connect" else count * measure.size


def perform_one(
    measure: Measure,
    clients: Sequence[Client],
    where: Site,
    repeats: int,
    missing: Mapping[str, str],
    tick: Tick,
) -> Section:
    """All clients on one measure, interleaved: every repeat runs each of them once.

    The order turns by one place a repeat, so that nobody always follows the same.
    """
    section = Section.empty(measure, repeats)
    verified: dict[str, int] = {}
    for client in clients:
        reason = missing.get(client.name) or client.cannot.get(measure.name)
        if reason is not None:
            section.skipped[client.name] = reason
            continue
        tick(f"{measure.name}: checking {client.name}")
        try:
            verified[client.name] = checked(client, measure, where)
        except BenchError as error:
            section.failed[client.name] = str(error)
    running = [client for client in clients if client.name in verified]
    baselines: dict[str, list[float]] = {each.name: [] for each in running}
    costs: dict[str, list[Cost]] = {each.name: [] for each in running}
    for client in in_turns(running, repeats):
        if client.name in section.failed:
            continue
        try:
            if measure.kind != "idle":
                tick(f"{measure.name}: start-up of {client.name}")
                start = run(client, measure, where, count=0)
                baselines[client.name].append(start.cpu)
            tick(f"{measure.name}: {client.name}")
            costs[client.name].append(run(client, measure, where))
        except BenchError as error:
            section.failed[client.name] = str(error)
    for client in running:
        if client.name not in section.failed:
            section.figures[client.name] = figure_of(
                measure,
                costs[client.name],
                baselines[client.name],
                verified[client.name],
            )
    return section.ended()


def figure_of(
    measure: Measure, costs: Sequence[Cost], baselines: Sequence[float], checked: int
) -> Figure:
    """The figure of one client on `measure`."""
    baseline = statistics.median(baselines) if baselines else 0.0
    ciphers = {each for cost in costs for each in cost.peer["ciphers"]}
    return Figure(
        values=tuple(value_of(measure, each, baseline) for each in costs),
        baseline=baseline,
        wall=statistics.median(each.wall for each in costs),
        checked=checked,
        cipher=", ".join(sorted(ciphers)) or None,
    )


def absent(clients: Sequence[Client]) -> dict[str, str]:
    """Why some of them cannot run here."""
    reasons = {client.name: client.missing() for client in clients}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def described(
    clients: Sequence[Client], missing: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Titles and versions of those that can run."""
    return {
        client.name: {"title": client.title, "version": client.version()}
        for client in clients
        if client.name not in missing
    }


def perform(
    measures: Sequence[Measure],
    clients: Sequence[Client],
    *,
    repeats: int,
    quick: bool = False,
    pin: Pin = "same",
    tick: Tick = lambda text: None,
    report: Callable[[Section], None] = lambda section: None,
) -> Results:
    """Run everything; `report` gets each section as soon as it is complete."""
    where_we_are = machine.describe()
    missing = absent(clients)
    sections = []
    with site(pin) as where:
        for measure in measures:
            scaled = measure.shortened(QUICK_PART) if quick else measure
            section = perform_one(scaled, clients, where, repeats, missing, tick)
            sections.append(section)
            report(section)
    return Results(
        quick=quick,
        pin=pin,
        machine=where_we_are,
        clients=described(clients, missing),
        sections=tuple(sections),
    )


def rows_of(measures: Sequence[Measure]) -> list[list[Measure]]:
    """The measures that are taken together, row by row."""
    rows: dict[str, list[Measure]] = {}
    for measure in measures:
        rows.setdefault(measure.row, []).append(measure)
    return list(rows.values())


def bridge_steps(
    measures: Sequence[Measure], bridges: Sequence[Bridge], repeats: int
) -> int:
    """How many ticks `perform_bridges` gives, at most."""
    rows = rows_of(measures)
    return repeats * sum(row[0].row in each.rows for row in rows for each in bridges)


def perform_row(
    row: Sequence[Measure],
    bridges: Sequence[Bridge],
    where: Ground,
    repeats: int,
    missing: Mapping[str, str],
    tick: Tick,
    attempt: Attempt = trial,
) -> list[Section]:
    """All bridges on the measures of one row, interleaved like `perform_one`.

    Every run has its payload checked, before the part that counts.
    """
    sections = [Section.empty(measure, repeats) for measure in row]
    taking_part = [each for each in bridges if row[0].row in each.rows]
    for bridge in taking_part:
        if bridge.name in missing:
            for section in sections:
                section.skipped[bridge.name] = missing[bridge.name]
    present = [each for each in taking_part if each.name not in missing]
    trials: dict[str, list[Trial]] = {each.name: [] for each in present}
    for bridge in in_turns(present, repeats):
        if bridge.name in sections[0].failed:
            continue
        tick(f"{row[0].row}: {bridge.name}")
        try:
            trials[bridge.name].append(attempt(bridge, row, where))
        except BenchError as error:
            for section in sections:
                section.failed[bridge.name] = str(error)
    for section in sections:
        for name, taken in trials.items():
            if name not in section.failed:
                section.figures[name] = Figure(
                    values=tuple(each.values[section.name] for each in taken),
                    baseline=0.0,
                    wall=statistics.median(each.wall for each in taken),
                    checked=taken[0].checked,
                    cipher=taken[0].cipher,
                )
    return [section.ended() for section in sections]


def perform_bridges(
    measures: Sequence[Measure],
    bridges: Sequence[Bridge],
    *,
    repeats: int,
    quick: bool = False,
    pin: Pin = "apart",
    tick: Tick = lambda text: None,
    report: Callable[[Section], None] = lambda section: None,
    attempt: Attempt = trial,
) -> Results:
    """Run everything; `report` gets each section as soon as its row is complete.

    `attempt` is how one program takes the measures of one row.
    """
    where_we_are = machine.describe()
    missing = absent(bridges)
    sections: list[Section] = []
    with ground(pin) as where:
        for row in rows_of(measures):
            scaled = [each.shortened(QUICK_PART) if quick else each for each in row]
            found = perform_row(scaled, bridges, where, repeats, missing, tick, attempt)
            sections += found
            for section in found:
                report(section)
    return Results(
        quick=quick,
        pin=pin,
        machine=where_we_are,
        clients=described(bridges, missing),
        sections=tuple(sections),
    )
