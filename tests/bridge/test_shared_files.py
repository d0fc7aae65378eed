"""Sinks whose open file another process has as well, and makes block."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.bridge.harness import (
    SINKS,
    WITHIN,
    Engine,
    Far,
    Kind,
    bridged,
    joined,
    nonblocking,
    sink_of,
    until,
)

DATA = random.Random(9).randbytes(1 << 20)

# As a program does that tidies up the files it was given.
CLEAR = """
import fcntl, os, sys
for fd in map(int, sys.argv[1:]):
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
"""


async def make_blocking(sink: Any) -> None:
    """Have another process clear O_NONBLOCK."""
    files = sink if isinstance(sink, tuple) else (sink,)
    fds = [file.fileno() for file in files]
    command = [sys.executable, "-c", CLEAR, *map(str, fds)]
    run = partial(subprocess.run, command, pass_fds=fds, check=True, timeout=WITHIN)
    await trio.to_thread.run_sync(run)


@contextmanager
def fifos(folder: Path) -> Iterator[tuple[Any, Far]]:
    """Pipes with names, for whose files the kernel knows less than for pipes."""
    ends = []
    for name in ("in", "out"):
        os.mkfifo(folder / name)
        reading = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
        ends.append((reading, os.open(folder / name, os.O_WRONLY)))
    (in_r, in_w), (out_r, out_w) = ends
    far = Far(out_r, in_w)
    nonblocking(in_w)
    with FileIO(in_r, "r") as source, FileIO(out_w, "w") as target:
        yield (source, target), far
    far.close()


@pytest.mark.parametrize("what", [*SINKS, "fifos"])
async def test_another_process_may_make_the_sink_block(
    engine: Engine, kind: Kind, what: str, tmp_path: Path
) -> None:
    async with joined(kind) as (connection, peer):
        with fifos(tmp_path) if what == "fifos" else sink_of(what) as (sink, other):
            async with bridged(engine, connection, sink) as running:
                await make_blocking(sink)
                with trio.fail_after(WITHIN):
                    # The read that follows finds nothing …
                    await other.send(b"ping")
                    assert await peer.receive_exactly(4) == b"ping"
                    await peer.send(b"pong")
                    assert await other.receive_exactly(4) == b"pong"
                await make_blocking(sink)
                with trio.fail_after(WITHIN):
                    async with trio.open_nursery() as nursery:
                        # … and the writes find no room.
                        nursery.start_soon(peer.send, DATA)
                        await until(lambda: running.pump.stats.decrypt.bytes > 4)
                        for number in range(50):
                            await other.send(b"%02d" % number)
                            assert await peer.receive_exactly(2) == b"%02d" % number
                        assert await other.receive_exactly(len(DATA)) == DATA
