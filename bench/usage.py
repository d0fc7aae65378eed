"""What a running process and its children use: CPU time and memory.

CPU time is read off the clocks of the processes (clock_getcpuclockid(3)): user and
system, all threads, also those that are gone, in nanoseconds. So a part of a run can
be measured, from a moment when all is connected to one when all has arrived.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path


def tree(pid: int) -> Iterator[int]:
    """`pid` and all its living descendants."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from tree(int(child))


def cpu_of(pid: int) -> float:
    """Seconds of CPU that one process has used."""
    return time.clock_gettime((~pid << 3) | 2)


def cpu(pid: int) -> float:
    """Seconds of CPU that `pid` and its living descendants have used."""
    return sum(cpu_of(each) for each in tree(pid))


def memory(pid: int) -> int:
    """Bytes of RAM that `pid` and its descendants have (proc_pid_smaps(5), Pss).

    What several of them share counts once.
    """
    total = 0
    for each in tree(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def end(pid: int) -> None:
    """Kill `pid`, which is a child of ours, and all its descendants."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for each in [*tree(pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
