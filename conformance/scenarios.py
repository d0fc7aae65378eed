"""The scenarios, read from scenarios/*.toml and checked against schema.json."""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import jsonschema

__all__ = [
    "CLAUSES",
    "HERE",
    "LEVELS",
    "SPECIFICATION",
    "Level",
    "Scenario",
    "chosen",
    "filled",
    "filled_in",
    "load",
    "read_chapter",
]

HERE: Final = Path(__file__).parent
CLAUSES: Final = HERE.parent / "spec" / "clauses.toml"
SPECIFICATION: Final = "https://sockets-api.proposal.wintertc.org/"

Level = Literal["M", "W", "D", "O"]
LEVELS: Final[dict[Level, str]] = {
    "M": "the text",
    "W": "Web IDL",
    "D": "decisions",
    "O": "reported only",
}
Step = Mapping[str, Any]


@attrs.frozen(eq=False)
class Scenario:
    """What a peer does, what a program does, and what both are to see."""

    chapter: str
    id: str
    title: str
    anchor: str
    clauses: Sequence[str]
    level: Level
    client: Sequence[Step]
    peer: Sequence[Step] = ()
    why: str = ""
    needs: Sequence[str] = ()
    listen: str = "127.0.0.1"
    receive_buffer: int | None = None
    # The id without the name of the variant.
    family: str = attrs.field(default=attrs.Factory(lambda self: self.id, True))

    @property
    def link(self) -> str:
        """The address of what the specification says about it."""
        return f"{SPECIFICATION}#{self.anchor}"


@functools.cache
def _validator() -> Any:
    schema = json.loads((HERE / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read_chapter(text: str, where: str = "the text") -> list[Scenario]:
    """The scenarios of a chapter; ValueError where the schema is not kept."""
    document = tomllib.loads(text)
    scenarios = document.get("scenario", [])
    document["scenario"] = [one for each in scenarios for one in _varied(each)]
    fault = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if fault is not None:
        raise ValueError(f"{where}: {_place(fault, document)}: {fault.message}")
    return [
        Scenario(
            chapter=document["chapter"],
            **{key.replace("-", "_"): value for key, value in each.items()},
        )
        for each in document["scenario"]
    ]


def _varied(table: dict[str, Any]) -> list[dict[str, Any]]:
    """A scenario, or one for each of its variants, with their values for $value."""
    table = dict(table)
    variants = table.pop("vary", None)
    if variants is None:
        return [table]
    return [
        _with(table, value)
        | {
            "id": f"{table['id']}.{name}",
            "family": table["id"],
            "title": f"{table['title']}: {name.replace('-', ' ')}",
        }
        for name, value in variants.items()
    ]


def _with(given: Any, value: Any) -> Any:
    if isinstance(given, list):
        return [_with(each, value) for each in given]
    if isinstance(given, Mapping):
        return {key: _with(each, value) for key, each in given.items()}
    if given == "$value":
        return value
    if isinstance(given, str) and isinstance(value, str):
        return given.replace("$value", value)
    return given


def _place(fault: Any, document: dict[str, Any]) -> str:
    path = list(fault.absolute_path)
    if path[:1] == ["scenario"] and len(path) > 1:
        scenario = document["scenario"][path[1]]
        path = [scenario.get("id", f"scenario {path[1] + 1}"), *path[2:]]
    return ".".join(map(str, path)) or "the chapter"


@functools.cache
def load() -> tuple[Scenario, ...]:
    """All scenarios, in the order of the files and in them."""
    found: list[Scenario] = []
    for path in sorted((HERE / "scenarios").glob("*.toml")):
        found += read_chapter(path.read_text(), path.name)
    ids = [each.id for each in found]
    twice = {name for name in ids if ids.count(name) > 1}
    if twice:
        raise ValueError(f"ids that are given twice: {', '.join(sorted(twice))}")
    return tuple(found)


def chosen(
    scenarios: Iterable[Scenario],
    *,
    levels: Sequence[str] = (),
    only: Sequence[str] = (),
) -> list[Scenario]:
    """Those of some levels, and whose id is, begins with, or matches one of `only`."""
    return [
        each
        for each in scenarios
        if (not levels or each.level in levels)
        and (not only or any(_named(each.id, name) for name in only))
    ]


def _named(id: str, name: str) -> bool:
    return id == name or id.startswith(name + ".") or fnmatchcase(id, name)


def filled_in(steps: Sequence[Step], values: Mapping[str, str]) -> list[Any]:
    """The steps without their expectations, with values in place of their $names.

    A port that stands by itself becomes a number.
    """
    without = [
        {key: value for key, value in step.items() if key != "expect"} for step in steps
    ]
    found: list[Any] = filled(without, values)
    return found


def filled(given: Any, values: Mapping[str, str]) -> Any:
    """Anything with values in place of its $names."""
    if isinstance(given, list):
        return [filled(each, values) for each in given]
    if isinstance(given, Mapping):
        return {key: filled(each, values) for key, each in given.items()}
    if not isinstance(given, str) or "$" not in given:
        return given
    if given in values:
        return int(values[given]) if values[given].isdecimal() else values[given]
    for name, value in values.items():
        given = given.replace(name, value)
    return given
