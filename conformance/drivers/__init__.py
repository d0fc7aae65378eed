"""The implementations, as drivers.toml lists them, and the processes they run in."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

__all__ = ["ROOT", "Driver", "DriverError", "Process", "drivers", "read_drivers"]

ROOT: Final = Path(__file__).parents[1]


class DriverError(Exception):
    """A driver cannot be started, has died, or does not answer."""


class Process(Protocol):
    """A running driver: answers one request after the other."""

    def ask(self, request: Mapping[str, Any], within: float) -> dict[str, Any]:
        """The answer to a request; DriverError where there is none in time."""

    def close(self) -> None:
        """End the process."""


@attrs.frozen
class Driver:
    """An implementation; drivers.toml tells what each field is."""

    name: str
    title: str
    speaks: str
    command: Sequence[str]
    env: Mapping[str, str] = attrs.field(factory=dict)
    offers: Sequence[str] = ()
    needs: Sequence[str] = ()
    versions: Mapping[str, Sequence[str]] = attrs.field(factory=dict)

    def lacks(self) -> list[str]:
        """What it needs and is not there."""
        return [
            need
            for need in self.needs
            if not (any(ROOT.glob(need)) or ("/" not in need and shutil.which(need)))
        ]

    def start(self, authority: Path) -> Process:
        """A process of it that trusts the authority in a PEM file."""
        from conformance.drivers.lines import LineProcess
        from conformance.drivers.workerd import WorkerdProcess

        if missing := self.lacks():
            raise DriverError(
                f"{self.name} needs {', '.join(missing)}; run: make implementations"
            )
        filled = {"{python}": sys.executable, "{authority}": str(authority)}
        command = [filled.get(each, _found(each)) for each in self.command]
        env = {name: filled.get(value, value) for name, value in self.env.items()}
        kind = WorkerdProcess if self.speaks == "workerd" else LineProcess
        return kind(command, environment(env), authority)

    def found_versions(self) -> dict[str, str]:
        """The versions of its parts, by running what prints them."""
        found = {}
        for part, command in self.versions.items():
            filled = [
                sys.executable if each == "{python}" else _found(each)
                for each in command
            ]
            done = subprocess.run(
                filled, cwd=ROOT, env=environment({}), capture_output=True, text=True,
                check=False, timeout=30,
            )  # fmt: skip
            found[part] = done.stdout.strip().removeprefix(part).strip() or "unknown"
        return found


def _found(name: str) -> str:
    """The path that a pattern stands for."""
    if "*" not in name:
        return name
    return next((str(path) for path in ROOT.glob(name)), name)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and more; the suite's own tree comes first."""
    path = os.pathsep.join(
        filter(None, [str(ROOT.parent), os.environ.get("PYTHONPATH", "")])
    )
    return {**os.environ, "PYTHONPATH": path, **extra}


@functools.cache
def drivers() -> dict[str, Driver]:
    """The drivers of the suite, by name."""
    return read_drivers(Path(__file__).with_name("drivers.toml"))


def read_drivers(path: Path) -> dict[str, Driver]:
    """The drivers that a table lists, by name; drivers.toml tells the fields."""
    tables = tomllib.loads(path.read_text())
    return {name: Driver(name=name, **table) for name, table in tables.items()}
