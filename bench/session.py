"""Runs the plan: clients taken in turns, several repeats, every result checked."""

from __future__ import annotations

import datetime
import os
import statistics
from collections.abc import Callable, Mapping, Sequence

import attrs

from bench import machine
from bench.plan import Client, Measure
from bench.results import Figure, Results, Section
from bench.run import BenchError, Cost, Pin, Site, run, site

# How much of a measure's work is done once with the payload checked.
CHECKED_PART = 50
QUICK_PART = 0.1

Tick = Callable[[str], None]


def steps(measures: Sequence[Measure], clients: Sequence[Client], repeats: int) -> int:
    """How many ticks `perform` gives, at most."""
    each = sum(1 + repeats * (1 if one.kind == "idle" else 2) for one in measures)
    return each * len(clients)


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
    before = minute_load()
    section = Section(
        name=measure.name,
        title=measure.title,
        unit=measure.unit,
        count=measure.count,
        size=measure.size,
        goals=measure.goals,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        load=(before, before),
        repeats=repeats,
        figures={},
        skipped={},
        failed={},
    )
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
    for turn in range(repeats):
        shift = turn % max(1, len(running))
        for client in running[shift:] + running[:shift]:
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
    return attrs.evolve(section, load=(before, minute_load()))


def minute_load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


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
    described = machine.describe()
    missing = {
        client.name: reason
        for client in clients
        if (reason := client.missing()) is not None
    }
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
        machine=described,
        clients={
            client.name: {"title": client.title, "version": client.version()}
            for client in clients
            if client.name not in missing
        },
        sections=tuple(sections),
    )
