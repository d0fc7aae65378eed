"""The real programs that the tests talk to, as `peers.toml` lists them.

Run as a program it needs nothing but Python's own library, because it is
asked before anything is installed: `python tests/peers.py missing` prints the
Debian packages of the required peers that this machine lacks, and `python
tests/peers.py` what there is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "Peer", "load"]

LIST = Path(__file__).with_name("peers.toml")


@dataclass(frozen=True, slots=True)
class Peer:
    """One program, and how to come by it; `peers.toml` tells what each field is."""

    name: str
    required: bool
    why: str
    command: str | None = None
    module: str | None = None
    paths: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    debian: str | None = None
    npm: str | None = None
    pypi: str | None = None

    def __post_init__(self) -> None:
        if (self.command is None) is (self.module is None):
            raise ValueError(f"[{self.name}] needs either a command or a module")
        if self.install is None:
            raise ValueError(f"[{self.name}] names no package that brings it")

    @property
    def install(self) -> str | None:
        """The command that installs it."""
        if self.debian:
            return f"sudo apt-get install {self.debian}"
        if self.pypi:
            return f"python -m pip install {self.pypi}"
        return f"npm install {self.npm}" if self.npm else None

    def find(self) -> str | None:
        """The path of the executable (the name of the module), or None."""
        if self.command is None:
            assert self.module is not None
            found = importlib.util.find_spec(self.module)
            return None if found is None else self.module
        return shutil.which(self.command) or shutil.which(
            self.command, path=os.pathsep.join(self._folders())
        )

    def tool(self, name: str) -> str:
        """The path of `name`, a second program from the same package.

        Raises FileNotFoundError where it is not beside the first one.
        """
        first = self.find()
        if first is None or self.command is None:
            raise FileNotFoundError(self.absence)
        beside = Path(first).resolve().with_name(name)
        found = shutil.which(str(beside)) or shutil.which(name)
        if found is None:
            raise FileNotFoundError(
                f"{name} of {self.name} is neither at {beside} nor on PATH; "
                f"install it with: {self.install}"
            )
        return found

    @property
    def absence(self) -> str:
        """What to say of a peer that was not found."""
        kind = "required" if self.required else "optional"
        return (
            f"{self.name} is not on this machine: an {kind} peer of the tests "
            f"({self.why}); install it with: {self.install}"
        ).replace("an required", "a required")

    def describe(self) -> str | None:
        """The version that it prints of itself, or None where it is missing."""
        found = self.find()
        if found is None:
            return None
        if self.module is not None:
            return importlib.metadata.version(self.pypi or self.module)
        done = subprocess.run(
            [found, *self.version],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
            check=False,
        )
        number = re.search(r"\d+(\.\d+)+\w*", done.stdout)
        return number[0] if number else done.stdout.strip()

    def _folders(self) -> list[str]:
        found = (folder for pattern in self.paths for folder in _matching(pattern))
        return sorted(found, key=_numbers, reverse=True)


def _matching(pattern: str) -> list[str]:
    root = Path(pattern).anchor
    return [str(path) for path in Path(root).glob(str(Path(pattern).relative_to(root)))]


def _numbers(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path)]


def load(file: Path = LIST) -> Mapping[str, Peer]:
    """The peers that `file` lists, by name."""
    with file.open("rb") as stream:
        tables = tomllib.load(stream)
    return {name: _peer(name, table) for name, table in tables.items()}


def _peer(name: str, table: dict[str, Any]) -> Peer:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
    }
    return Peer(name=name, **values)


PEERS = load()


def main(arguments: list[str]) -> int:
    """Print what the machine has, or with `missing` the Debian packages it lacks."""
    if arguments == ["missing"]:
        for peer in PEERS.values():
            if peer.required and peer.debian and peer.find() is None:
                sys.stdout.write(f"{peer.debian}\n")
        return 0
    if arguments:
        sys.stderr.write("usage: python tests/peers.py [missing]\n")
        return 2
    for peer in PEERS.values():
        version = peer.describe()
        sys.stdout.write(f"{peer.name}: {version or peer.absence}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
