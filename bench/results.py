"""What a run of the benchmarks found, as values and as a JSON file.

README.md describes the file; `load` reads back what `save` wrote.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from bench import bridges, plan, servers
from bench.plan import REFERENCE, Measure

SCHEMA = 1


def rounded(value: float) -> float:
    """To four significant digits, which is more than the noise leaves."""
    return float(f"{value:.4g}")


@attrs.frozen
class Figure:
    """One client on one measure.

    `values` are in the measure's unit, one a repeat; `baseline` is the CPU seconds
    (median) that were taken off each, `wall` how long a run took (median). `checked`
    is the number of payload bytes whose sha256 was compared beforehand, 0 where the
    peer's greeting is all that comes.
    """

    values: tuple[float, ...]
    baseline: float
    wall: float
    checked: int
    cipher: str | None

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def best(self) -> float:
        """The least value: what the work costs where nothing disturbs it."""
        return min(self.values)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, in parts of the median."""
        if len(self.values) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / 2 / abs(self.median) if self.median else 0.0


@attrs.frozen
class Ratio:
    """One client's figure in parts of another's.

    `median`, `low` and `high` are over the repeats, each of which ran both clients
    one soon after the other; `best` compares the least values.
    """

    median: float
    low: float
    high: float
    best: float


@attrs.frozen
class Section:
    """All clients on one measure; the skipped and failed ones with the reason.

    `load` is the machine's load average (a minute's) when the measure began and when
    it ended; the bench alone makes it about 1. Ratios are to `reference`. Sections of
    one `series` are points of a line, at `at`.
    """

    name: str
    title: str
    unit: str
    count: int
    size: int
    goals: Mapping[str, float]
    started: str
    load: tuple[float, float]
    repeats: int
    figures: dict[str, Figure]
    skipped: dict[str, str]
    failed: dict[str, str]
    reference: str = REFERENCE
    series: str | None = None
    at: int | None = None

    @classmethod
    def empty(cls, measure: Measure, repeats: int) -> Section:
        """What will hold the figures of `measure`, which begins now."""
        before = round(os.getloadavg()[0], 2)
        return cls(
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
            reference=measure.reference,
            series=measure.series,
            at=measure.at,
        )

    def ended(self) -> Section:
        """The same, complete now."""
        return attrs.evolve(self, load=(self.load[0], round(os.getloadavg()[0], 2)))

    def ratio(
        self, client: str, to: str | None = None, of: Section | None = None
    ) -> Ratio | None:
        """`client` in parts of `to`, by default the reference, perhaps of another
        section of the same repeats; None unless both were measured.
        """
        mine = self.figures.get(client)
        other = (of or self).figures.get(to or self.reference)
        if mine is None or other is None or min(other.values) <= 0:
            return None
        if len(mine.values) != len(other.values):
            return None
        parts = [a / b for a, b in zip(mine.values, other.values, strict=True)]
        return Ratio(
            median=statistics.median(parts),
            low=min(parts),
            high=max(parts),
            best=mine.best / other.best,
        )


@attrs.frozen
class Results:
    """A whole run."""

    quick: bool
    pin: str
    machine: dict[str, Any]
    clients: dict[str, dict[str, str]]
    sections: tuple[Section, ...]


def _figure(section: Section, name: str) -> dict[str, Any]:
    figure = section.figures[name]
    ratio = section.ratio(name)
    return {
        "median": rounded(figure.median),
        "best": rounded(figure.best),
        "spread": rounded(figure.spread),
        "values": [rounded(each) for each in figure.values],
        "ratio": None
        if ratio is None
        else {key: rounded(each) for key, each in attrs.asdict(ratio).items()},
        "baseline": rounded(figure.baseline),
        "wall": rounded(figure.wall),
        "checked": figure.checked,
        "cipher": figure.cipher,
    }


def save(results: Results, path: Path) -> None:
    """Write `results` as JSON."""
    data = {
        "schema": SCHEMA,
        "quick": results.quick,
        "pin": results.pin,
        "machine": results.machine,
        "clients": results.clients,
        "measures": {
            section.name: {
                "title": section.title,
                "unit": section.unit,
                "count": section.count,
                "size": section.size,
                "reference": section.reference,
                "series": section.series,
                "at": section.at,
                "goals": dict(section.goals),
                "started": section.started,
                "load": list(section.load),
                "repeats": section.repeats,
                "figures": {each: _figure(section, each) for each in section.figures},
                "skipped": section.skipped,
                "failed": section.failed,
            }
            for section in results.sections
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> Results:
    """Read what `save` wrote; ValueError where the file is of another schema."""
    data = json.loads(path.read_text())
    if data["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {data['schema']!r}; known is {SCHEMA}")
    keys = ("baseline", "wall", "checked", "cipher")
    sections = tuple(
        Section(
            name=name,
            title=each["title"],
            unit=each["unit"],
            count=each["count"],
            size=each["size"],
            goals=each["goals"],
            started=each["started"],
            load=tuple(each["load"]),
            repeats=each["repeats"],
            figures={
                client: Figure(
                    values=tuple(figure["values"]),
                    **{key: figure[key] for key in keys},
                )
                for client, figure in each["figures"].items()
            },
            skipped=each["skipped"],
            failed=each["failed"],
            # Older files have one reference for all, and no series.
            reference=each.get("reference", REFERENCE),
            series=each.get("series"),
            at=each.get("at"),
        )
        for name, each in data["measures"].items()
    )
    return Results(
        quick=data["quick"],
        pin=data["pin"],
        machine=data["machine"],
        clients=data["clients"],
        sections=sections,
    )


def merge(old: Results, new: Results) -> Results:
    """`old` with the sections of `new` in place of its own of the same names.

    A section is complete in itself, so that nothing is compared across runs; machine
    and versions are those of `new`. ValueError where the two were run differently.
    """
    if (old.quick, old.pin) != (new.quick, new.pin):
        raise ValueError(
            f"results with quick={new.quick}, pin={new.pin} do not go into a file"
            f" with quick={old.quick}, pin={old.pin}"
        )
    fresh = {section.name: section for section in new.sections}
    kept = {section.name: section for section in old.sections}
    merged = kept | fresh
    known = (*plan.MEASURES, *bridges.MEASURES, *servers.MEASURES)
    order = [each.name for each in known if each.name in merged]
    return attrs.evolve(
        new,
        clients=old.clients | new.clients,
        sections=tuple(merged[name] for name in order),
    )
