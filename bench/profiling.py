"""Where a Python client spends its time: one run under cProfile or py-spy.

cProfile sees every call and makes calls look dearer than they are; py-spy takes a
sample a millisecond from outside, and with `native` looks into C code too. The
figures of a profiled run are no measurement.
"""

from __future__ import annotations

import collections
import pstats
import sys
import tempfile
from pathlib import Path
from typing import Literal

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from bench.plan import Client, Measure
from bench.run import BenchError, Site, run

# Frames by which py-spy's stacks are told apart.
JOB = "bench/clients/job.py"
WAITING = ("EpollIOManager.get_events", "EpollSelector.select")

Profiler = Literal["cprofile", "py-spy", "py-spy-native"]


def profile(
    client: Client,
    measure: Measure,
    where: Site,
    profiler: Profiler,
    console: Console,
    rows: int = 30,
) -> None:
    """Run `client` on `measure` under `profiler` and print the dearest places.

    Raises BenchError where the client is not a Python program or the profiler is
    not installed.
    """
    program = client.command()
    if program[0] != sys.executable:
        raise BenchError(f"{client.name} is no Python program: nothing to profile")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "profile"
        if profiler == "cprofile":
            command = [sys.executable, "-m", "cProfile", "-o", str(out), *program[1:]]
        else:
            beside = Path(sys.executable).with_name("py-spy")
            if not beside.exists():
                raise BenchError("py-spy is not installed: python -m bench setup")
            options = ["--rate", "1000", "--format", "raw", "--output", str(out)]
            options.append("--function")
            if profiler == "py-spy-native":
                options.append("--native")
            command = [str(beside), "record", *options, "--", *program]
        wrapped = attrs.evolve(client, command=lambda: command)
        run(wrapped, measure, where)
        console.rule(f"{client.title} · {measure.title} · {profiler}")
        if profiler == "cprofile":
            stats = pstats.Stats(str(out))
            for order in ("tottime", "cumulative"):
                stats.sort_stats(order).print_stats(rows)
        else:
            show_samples(out.read_text(), console, rows)


def show_samples(raw: str, console: Console, rows: int) -> None:
    """Print the functions of py-spy's raw format by their own and by all samples.

    Only what the job itself does counts: not its imports, and not the waiting.
    """
    own: collections.Counter[str] = collections.Counter()
    under: collections.Counter[str] = collections.Counter()
    waiting = 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not any(JOB in frame for frame in frames):
            continue
        if any(frame.startswith(WAITING) for frame in frames):
            waiting += int(count)
            continue
        own[frames[-1]] += int(count)
        under.update(dict.fromkeys(frames, int(count)))
    total = sum(own.values()) or 1
    console.print(f"{total} samples at work, {waiting} more waiting for events")
    for title, samples in (("own time", own), ("with all it calls", under)):
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("samples", justify="right")
        table.add_column("%", justify="right")
        table.add_column("where", overflow="fold")
        for frame, taken in samples.most_common(rows):
            table.add_row(str(taken), f"{100 * taken / total:.1f}", frame)
        console.print(table)
