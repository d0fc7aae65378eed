"""What a run found, scenario by scenario; to and from JSON."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from conformance.scenarios import CLAUSES, Level, Scenario, Step

__all__ = ["Line", "Report", "Result", "Side", "Verdict", "describe_step", "transcript"]

# "not offered": the scenario needs something that the text does not ask for.
Verdict = Literal["pass", "fail", "reported", "not offered"]

Side = Literal["client", "peer"]

_FORMAT: Final = 1


@attrs.frozen
class Line:
    """A line of a transcript: a step, what it was to come to, and what it came to."""

    side: Side
    step: str
    expected: str | None
    got: str
    good: bool


@attrs.frozen
class Result:
    """What came of one scenario."""

    id: str
    level: Level
    verdict: Verdict
    lines: Sequence[Line] = ()
    seconds: float = 0.0
    stray: int = 0

    @property
    def fault(self) -> str:
        """The first line that is not as expected."""
        for line in self.lines:
            if not line.good:
                return f"{line.side}: {line.step}: {line.got}, not {line.expected}"
        return ""


@attrs.frozen
class Report:
    """What a run of one implementation found."""

    driver: str
    title: str
    versions: Mapping[str, str]
    specification: str
    date: str
    results: Sequence[Result]

    def counted(self, level: str) -> Counter[str]:
        """How many scenarios of a level have each verdict."""
        return Counter(each.verdict for each in self.results if each.level == level)

    @property
    def conforms(self) -> bool:
        """Whether nothing of the text or of Web IDL failed."""
        return not any(
            each.verdict == "fail" and each.level in ("M", "W") for each in self.results
        )

    def save(self, path: Path) -> None:
        """Write it as JSON, a result a line, without the transcripts of passes."""
        told = attrs.asdict(self) | {"format": _FORMAT}
        results = told.pop("results")
        for each in results:
            # How long it took is another each time, and nobody's business.
            del each["seconds"]
            if each["verdict"] == "pass":
                each["lines"] = []
        head = json.dumps(told, indent=1).removesuffix("\n}")
        rows = ",\n".join(f"  {json.dumps(each)}" for each in results)
        path.write_text(f'{head},\n "results": [\n{rows}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what `save()` wrote."""
        told = json.loads(path.read_text())
        if told.pop("format", None) != _FORMAT:
            raise ValueError(f"{path} is not a result of this suite")
        results = [
            Result(**{**each, "lines": [Line(**line) for line in each["lines"]]})
            for each in told.pop("results")
        ]
        return cls(**told, results=results)


def specification() -> str:
    """The commit of the specification that the clauses are of."""
    return str(tomllib.loads(CLAUSES.read_text())["commit"])


def in_order(results: Iterable[Result], scenarios: Sequence[Scenario]) -> list[Result]:
    """Results in the order of the scenarios."""
    place = {each.id: at for at, each in enumerate(scenarios)}
    return sorted(results, key=lambda each: place[each.id])


def transcript(result: Result) -> str:
    """A result's transcript, a line for each step."""
    return "\n".join(
        f"{'ok ' if line.good else 'BAD'} {line.side}: {line.step} -> {line.got}"
        + ("" if line.good else f", not {line.expected}")
        for line in result.lines
    )


def describe_step(step: Step) -> str:
    """A step on one line."""
    parts = [step["do"]]
    if "on" in step:
        parts.append(str(step["on"]))
    if "of" in step:
        parts.append(" and ".join(step["of"]))
    if "args" in step:
        parts.append("(" + ", ".join(_short(each) for each in step["args"]) + ")")
    for key, value in step.items():
        if key in ("do", "on", "of", "args", "expect", "as"):
            continue
        parts.append(_short(value) if key in _PLAIN else f"{key} {_short(value)}")
    if "as" in step:
        parts.append(f"as {step['as']}")
    return " ".join(parts)


# What stands in a description without its name.
_PLAIN: Final = ("to", "options", "name", "data")


# What a table of one member makes, see README.md.
_MADE: Final = frozenset(
    {
        "buffer", "bytes", "octets", "pattern", "reason", "ref", "text", "view",
        "word", "words",
    }
)  # fmt: skip


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        if len(value) == 1:
            [(key, only)] = value.items()
            if key in _MADE:
                return f"{key} {only}" if key != "ref" else str(only)
            if key in ("nothing", "function"):
                return str(key)
        pairs = ", ".join(f"{key}: {_short(each)}" for key, each in value.items())
        return f"{{{pairs}}}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(each) for each in value) + "]"
    if isinstance(value, str):
        line = value if len(value) < 60 else value[:57] + "…"
        return json.dumps(line, ensure_ascii=False)
    return str(json.dumps(value))
