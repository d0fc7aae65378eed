"""Results as one HTML page that needs nothing else: see page.html.j2."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import jinja2

from conformance.results import Report, Result
from conformance.scenarios import LEVELS, SPECIFICATION, Scenario

__all__ = ["page"]

_HERE: Final = Path(__file__).parent
_ICONS: Final = {
    "pass": "✓",
    "fail": "✗",
    "reported": "·",
    "not offered": "–",
    "not run": "",
}
_NOT_RUN: Final = "not run"


@attrs.frozen
class _Cell:
    """What one implementation made of one scenario."""

    report: Report
    result: Result | None

    @property
    def verdict(self) -> str:
        return _NOT_RUN if self.result is None else self.result.verdict

    @property
    def told(self) -> bool:
        """Whether the transcript is worth its place."""
        return self.verdict in ("fail", "reported")


@attrs.frozen
class _Row:
    scenario: Scenario
    cells: Sequence[_Cell]

    @property
    def verdicts(self) -> str:
        """The verdicts that occur, for the filter."""
        found = {cell.verdict.replace(" ", "-") for cell in self.cells}
        if len(found - {"not-offered", "not-run"}) > 1:
            found.add("differs")
        return " ".join(sorted(found))


def page(reports: Sequence[Report], scenarios: Sequence[Scenario]) -> str:
    """The page that compares `reports`, scenario by scenario."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found = {
        id(report): {each.id: each for each in report.results} for report in reports
    }
    rows = [
        _Row(
            scenario,
            [_Cell(each, found[id(each)].get(scenario.id)) for each in reports],
        )
        for scenario in scenarios
    ]
    chapters = [
        (name, list(group))
        for name, group in itertools.groupby(rows, lambda row: row.scenario.chapter)
    ]
    template = environment.get_template("page.html.j2")
    return template.render(
        reports=reports,
        chapters=chapters,
        count=len(scenarios),
        levels=LEVELS,
        icons=_ICONS,
        specification=SPECIFICATION,
        summary=_summary,
    )


def _summary(report: Report) -> list[dict[str, Any]]:
    """The counts of each level, as a bar shows them."""
    found = []
    for level, name in LEVELS.items():
        counted = report.counted(level)
        if level == "O" or not counted.total():
            continue
        tried = counted["pass"] + counted["fail"]
        found.append(
            {
                "level": level,
                "name": name,
                "passed": counted["pass"],
                "tried": tried,
                "skipped": counted["not offered"],
                "share": 100 * counted["pass"] / tried if tried else 0,
            }
        )
    return found
