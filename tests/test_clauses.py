"""`spec/clauses.toml`: well-formed, and every clause shown by a test or excused."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "spec"

LEVELS = {"M", "W", "D", "O"}
FORCES = {"must", "should", "may"}
REQUIRED = {"id", "anchor", "level", "force", "text"}
OPTIONAL = {
    "tests", "why-untested", "deviates-from", "scenarios", "why-no-scenario",
}  # fmt: skip

DOCUMENT = tomllib.loads((SPEC / "clauses.toml").read_text())
CLAUSES: list[dict[str, Any]] = DOCUMENT["clause"]
ANCHORS = {
    line
    for line in (SPEC / "anchors.txt").read_text().splitlines()
    if line and not line.startswith("#")
}

each_clause = pytest.mark.parametrize(
    "clause", CLAUSES, ids=[str(clause.get("id")) for clause in CLAUSES]
)


def problems(clause: dict[str, Any]) -> list[str]:
    """What is wrong with the form of a clause."""
    found = [f"it lacks {name}" for name in sorted(REQUIRED - clause.keys())]
    found += [f"it has {name}" for name in sorted(clause.keys() - REQUIRED - OPTIONAL)]
    if found:
        return found
    if not re.fullmatch(r"[a-z]+(\.[a-z0-9]+(-[a-z0-9]+)*)+", clause["id"]):
        found.append(f"{clause['id']!r} is not an id")
    if clause["anchor"] not in ANCHORS:
        found.append(f"the text has no anchor {clause['anchor']!r}")
    if clause["level"] not in LEVELS:
        found.append(f"{clause['level']!r} is not a level")
    if clause["force"] not in FORCES:
        found.append(f"{clause['force']!r} is not a force")
    if not (clause["text"][:1].strip() and clause["text"].endswith((".", ")."))):
        found.append("its text is not a sentence")
    tests, excuse = clause.get("tests", []), clause.get("why-untested", "")
    if not tests and not excuse:
        found.append("no test shows it, and nothing says why")
    if tests and excuse:
        found.append("it has tests and an excuse for having none")
    if len(set(tests)) < len(tests):
        found.append("it names a test twice")
    found += [f"there is no test {test}" for test in tests if not exists(test)]
    return found


def exists(test: str) -> bool:
    """Whether `tests/test_x.py::test_y` (or `::TestX::test_y`) is defined."""
    path, *names = test.split("::")
    if not re.fullmatch(r"(tests|conformance)/[\w/]*test_\w+\.py", path) or not names:
        return False
    return "::".join(names) in defined_in(ROOT / path)


@functools.cache
def defined_in(file: Path) -> frozenset[str]:
    if not file.is_file():
        return frozenset()
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{test}" for test in functions(node)}
    return frozenset(found | functions(ast.parse(file.read_text())))


def functions(node: ast.Module | ast.ClassDef) -> set[str]:
    return {
        each.name
        for each in node.body
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        and each.name.startswith("test_")
    }


@each_clause
def test_a_clause_is_well_formed_and_shown(clause: dict[str, Any]) -> None:
    assert problems(clause) == []


def test_ids_are_unique() -> None:
    counted = Counter(clause["id"] for clause in CLAUSES)
    assert [name for name, count in counted.items() if count > 1] == []


def test_the_texts_are_unique() -> None:
    counted = Counter(clause["text"] for clause in CLAUSES)
    assert [text for text, count in counted.items() if count > 1] == []


def test_a_deviation_is_a_decision_and_names_the_clause_it_departs_from() -> None:
    ids = {clause["id"]: clause for clause in CLAUSES}
    for clause in CLAUSES:
        if "deviates-from" in clause:
            assert clause["level"] == "D"
            assert ids[clause["deviates-from"]]["level"] == "M"


def test_decisions_are_called_so() -> None:
    assert [
        clause["id"]
        for clause in CLAUSES
        if (clause["level"] == "D") != clause["id"].startswith("decision.")
    ] == []


def test_every_section_that_states_something_has_a_clause() -> None:
    # Introductions, examples and the headings over other headings state nothing.
    silent = {"intro", "concepts", "socket-section", "using-a-socket", "attributes"}
    silent |= {"methods"}
    sections = {
        anchor
        for anchor in ANCHORS
        if not anchor.startswith(("dom-", "dictdef-", "enumdef-", "typedefdef-"))
    }
    # Definitions inside of sections that have anchors themselves.
    definitions = {
        "socket-concept", "connect-concept", "binding-object", "socket",
        "socketerror", "connect",
    }  # fmt: skip
    covered = {clause["anchor"] for clause in CLAUSES}
    assert sections - silent - definitions - covered == set()


# -- the checker itself


GOOD: dict[str, Any] = {
    "id": "connect.returns-pending",
    "anchor": "connect-section",
    "level": "M",
    "force": "must",
    "text": "It returns.",
    "tests": ["tests/test_clauses.py::test_ids_are_unique"],
}


def test_the_checker_accepts_a_good_clause() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": "Connect"}, "is not an id"),
        ({"anchor": "nowhere"}, "no anchor 'nowhere'"),
        ({"level": "X"}, "is not a level"),
        ({"force": "shall"}, "is not a force"),
        ({"text": ""}, "not a sentence"),
        ({"text": "no full stop"}, "not a sentence"),
        ({"tests": []}, "no test shows it"),
        ({"why-untested": "just so"}, "an excuse for having none"),
        ({"tests": ["tests/test_clauses.py::test_no_such"]}, "there is no test"),
        ({"tests": ["tests/test_nowhere.py::test_x"]}, "there is no test"),
        ({"tests": ["tests/test_clauses.py"]}, "there is no test"),
        ({"tests": GOOD["tests"] * 2}, "names a test twice"),
        ({"stray": 1}, "it has stray"),
    ],
)
def test_the_checker_refuses(change: dict[str, Any], complaint: str) -> None:
    assert any(complaint in found for found in problems({**GOOD, **change}))


def test_the_checker_refuses_a_clause_that_lacks_a_field() -> None:
    for name in REQUIRED:
        lacking = {key: value for key, value in GOOD.items() if key != name}
        assert problems(lacking) == [f"it lacks {name}"]
