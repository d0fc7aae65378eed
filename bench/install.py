"""Installs the peers: Debian's, where they are missing, npm's and pip's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from rich.console import Console

from bench import daemons
from bench.plan import HERE, ROOT

# package.json names exact versions, and so does what it names; nothing that the
# packages would run is needed.
NPM = ("--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund")


def requirements() -> list[str]:
    """What the extra `bench` of this project asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [str(each) for each in project["optional-dependencies"]["bench"]]


def debian() -> list[str]:
    """The Debian packages that are missing: node, and the forwarders."""
    absent = []
    if not (shutil.which("node") and shutil.which("npm")):
        absent += ["nodejs", "npm"]
    absent += [each for each in daemons.DAEMONS if daemons.found(each) is None]
    if not Path(daemons.STREAM_MODULE).exists():
        absent.append("libnginx-mod-stream")
    return absent


def install(console: Console) -> None:
    """Install all peers; one that cannot be had is reported and later skipped."""
    steps = [
        [sys.executable, "-m", "pip", "install", "--quiet", *requirements()],
        ["npm", "install", *NPM],
    ]
    if absent := debian():
        root = [] if os.geteuid() == 0 else ["sudo"]
        apt = [*root, "apt-get", "install", "--yes", "--no-install-recommends"]
        steps.insert(1, [*apt, *absent])
    for command in steps:
        console.print("$", *command, style="bold", markup=False, highlight=False)
        try:
            subprocess.run(command, cwd=HERE, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            console.print(f"  {error}", style="yellow", markup=False)
