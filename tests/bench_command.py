"""`python -m bench …`, as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from bench import plan

__all__ = ["bench"]


def bench(*arguments: object) -> str:
    """What it printed. Fails the test if it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=plan.ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
