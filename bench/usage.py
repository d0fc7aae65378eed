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

# What the files of a thread or process answer that has ended meanwhile.
GONE = (FileNotFoundError, ProcessLookupError)


def tree(pid: int) -> Iterator[int]:
    """`pid` and all its living descendants; threads may end while we look."""
    yield pid
    threads: list[Path] = []
    with contextlib.suppress(*GONE):
        threads += Path(f"/proc/{pid}/task").iterdir()
    for thread in threads:
        children = ""
        with contextlib.suppress(*GONE):
            children = (thread / "children").read_text()
        for child in children.split():
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
    for each in [*tree(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
