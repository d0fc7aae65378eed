"""Which scenarios show each clause of the specification.

Scenarios name their clauses; spec/clauses.toml names the scenarios of each clause, or
says why there is none (`why-no-scenario`). The former is written by hand, the latter
by `python -m conformance clauses`; a test holds them together.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final

from conformance.scenarios import CLAUSES, Scenario, load

__all__ = ["read_clauses", "shown_by", "write_coverage"]

_FIELD: Final = re.compile(
    r"^scenarios = \[\n(?:    .*\n)*\]\n|^scenarios = \[.*\]\n", re.MULTILINE
)


def read_clauses() -> list[dict[str, Any]]:
    """The clauses, as tables."""
    found: list[dict[str, Any]] = tomllib.loads(CLAUSES.read_text())["clause"]
    return found


def shown_by(clause: str, scenarios: Iterable[Scenario]) -> list[str]:
    """The ids of the scenarios that show a clause; variants count as one."""
    found = (each.family for each in scenarios if clause in each.clauses)
    return list(dict.fromkeys(found))


def write_coverage() -> int:
    """Bring the fields `scenarios` up to date; the number of clauses changed."""
    head, *blocks = CLAUSES.read_text().split("[[clause]]\n")
    changed = 0
    for at, block in enumerate(blocks):
        name = re.search(r'^id = "(.*)"$', block, re.MULTILINE)
        assert name is not None
        new = _FIELD.sub("", block)
        if found := shown_by(name[1], load()):
            new = _with_field(new, found)
        changed += new != block
        blocks[at] = new
    CLAUSES.write_text("[[clause]]\n".join([head, *blocks]))
    return changed


def _with_field(block: str, scenarios: list[str]) -> str:
    line = "scenarios = [" + ", ".join(f'"{each}"' for each in scenarios) + "]\n"
    if len(line) > 100:
        rows = "".join(f'    "{each}",\n' for each in scenarios)
        line = f"scenarios = [\n{rows}]\n"
    # At the end of the table, before what leads over to the next one.
    end = max(
        (match.end() for match in re.finditer(r"^[^#\n].*\n", block, re.MULTILINE)),
        default=0,
    )
    return block[:end] + line + block[end:]
