"""Show what each module's own test files cover by themselves.

The tests of wsockets/a/b.py are tests/test_a_b.py and tests/test_a_b_*.py; where
there is none, those of the package it is in: tests/test_a.py and tests/test_a_*.py.
A module may be covered by accident, from far away; here only its own tests count.

    python -m tools.module_coverage [MODULE …]      # wsockets.tls, wsockets.streams
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wsockets"
TESTS = ROOT / "tests"
GOAL = 95.0  # percent of lines and branches
TIMEOUT = 600  # seconds for the tests of one module


@attrs.frozen
class Group:
    """Modules with the same test files: one run of pytest."""

    tests: tuple[Path, ...]
    modules: tuple[Path, ...]


@attrs.frozen
class Coverage:
    """What the own tests reached of one module; `percent` is None without any."""

    module: Path
    tests: tuple[Path, ...]
    percent: float | None
    missing: str
    passed: bool


def own_tests(module: Path, tests: Path = TESTS) -> tuple[Path, ...]:
    """The test files of a module, a path relative to wsockets/."""
    parts = [part for part in module.with_suffix("").parts if part != "__init__"]
    while parts:
        name = "_".join(part.strip("_") for part in parts)
        found = {tests / f"test_{name}.py", *tests.glob(f"test_{name}_*.py")}
        if present := tuple(sorted(file for file in found if file.exists())):
            return present
        parts.pop()
    return ()


def groups(modules: Sequence[Path], tests: Path = TESTS) -> list[Group]:
    """The modules by what has to be run for them."""
    found: dict[tuple[Path, ...], list[Path]] = {}
    for module in modules:
        found.setdefault(own_tests(module, tests), []).append(module)
    return [Group(files, tuple(members)) for files, members in found.items()]


def measure(group: Group) -> list[Coverage]:
    """Run the tests of a group and read what they covered of its modules."""
    if not group.tests:
        return [Coverage(module, (), None, "", True) for module in group.modules]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("--cov", f"--cov-report=json:{report}", "--cov-fail-under=0"),
                *map(str, group.tests),
            ],
            cwd=ROOT,
            env={**os.environ, "COVERAGE_FILE": str(Path(folder, "data"))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if not report.exists():
            raise SystemExit(f"no coverage of {group.tests}:\n{done.stdout}")
        files = json.loads(report.read_text())["files"]
    return [
        Coverage(
            module,
            group.tests,
            files[name]["summary"]["percent_covered"],
            _missing(files[name]),
            done.returncode == 0,
        )
        for module in group.modules
        if (name := f"wsockets/{module}") in files
    ]


def _missing(file: dict[str, Any]) -> str:
    lines = [str(line) for line in file["missing_lines"]]
    branches = [f"{start}→{end}" for start, end in file["missing_branches"]]
    return ", ".join(lines + branches)


def table(found: Sequence[Coverage]) -> Table:
    """The figures, the lowest first."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    shown.add_column("module", no_wrap=True)
    shown.add_column("%", justify="right", no_wrap=True)
    shown.add_column("own tests")
    shown.add_column("not covered")
    for row in sorted(found, key=lambda row: (row.percent or 0.0, row.module)):
        good = row.percent is not None and row.percent >= GOAL and row.passed
        missing = textwrap.shorten(row.missing, 60, placeholder=" …")
        shown.add_row(
            str(row.module),
            "—" if row.percent is None else f"{row.percent:.1f}",
            _named(row.tests),
            missing if row.passed else f"tests fail; {missing}",
            style=None if good else "red",
        )
    return shown


def _named(tests: Sequence[Path]) -> str:
    if len(tests) > 2:
        return f"{tests[0].name} and {len(tests) - 1} more"
    return ", ".join(test.name for test in tests) or "none"


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 where a module's own tests fail or reach too little."""
    wanted = tuple(arguments) or ("wsockets",)
    modules = [
        file.relative_to(PACKAGE)
        for file in sorted(PACKAGE.rglob("*.py"))
        if f"{_dotted(file)}.".startswith(tuple(f"{name}." for name in wanted))
    ]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [row for rows in pool.map(measure, groups(modules)) for row in rows]
    Console(width=None if sys.stdout.isatty() else 140).print(table(found))
    low = [row for row in found if not row.passed or (row.percent or 0) < GOAL]
    return 1 if low else 0


def _dotted(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
