"""The soak test in five seconds, and whether it notices what it is there for."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests import loops
from tests.bridge.harness import ENGINES
from tests.soak.lap import KINDS, Kind, _Lap, lap
from tests.soak.watch import Reading, Watch

pytestmark = pytest.mark.every_loop

ROOT = Path(__file__).parents[2]


def test_five_seconds_of_it_go_well() -> None:
    command = "-W error -m tests.soak --seconds 5 --loop all"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")
    for engine, loop in itertools.product(ENGINES, loops.LOOPS):
        assert f"the {engine} engine on {loop}\n" in done.stdout


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("kind", KINDS)
async def test_a_lap_of_each_kind_goes_well(
    kind: Kind, engine: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", engine)
    tally = await lap(kind, rng, 0.2)
    assert tally.laps == 1
    assert tally.bridges >= 1


async def test_a_byte_that_is_lost_is_noticed(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(run: _Lap) -> None:
        async for chunk in run.socket.readable.values(preventCancel=True):
            assert chunk
            break

    monkeypatch.setattr(_Lap, "_by_hand", lose)
    monkeypatch.setattr(random.Random, "choice", lambda _, options: options[-1])
    # Between any two bridges.
    monkeypatch.setattr(random.Random, "random", lambda _: 0.0)
    with pytest.RaisesGroup(
        AssertionError, flatten_subgroups=True, allow_unwrapped=True
    ):
        await lap("tls", rng, 1)


def readings(*memory: int, fds: int = 10, threads: int = 2) -> Watch:
    return Watch([Reading(each << 20, fds, threads) for each in memory])


def test_what_grows_without_end_is_noticed() -> None:
    assert readings(100, 150, 150, 150, 150, 151, 150, 152, 150).complaints() == []
    assert readings(100, 150).complaints() == []
    (found,) = readings(100, 110, 120, 130, 140, 150, 160, 170, 180).complaints()
    assert found.startswith("memory has grown from ")
    growing = Watch([Reading(0, fds, fds) for fds in range(0, 90, 10)])
    assert growing.complaints() == [
        "fds has grown from 40 to 70",
        "threads has grown from 40 to 70",
    ]


def test_a_look_is_at_this_process() -> None:
    watch = Watch()
    before = watch.look()
    reading, writing = os.pipe()
    after = watch.look()
    os.close(reading)
    os.close(writing)
    assert after.fds == before.fds + 2
    assert after.memory > 1 << 20
    assert str(after).endswith(f"{after.threads:2} threads")
