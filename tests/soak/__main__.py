"""`python -m tests.soak [--seconds 600] [--engine native|python|both] [--loop …]`.

Exits with 0 if every byte arrived and nothing grew or was left behind, else with
1. What was random can be had again: the seed is printed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import secrets
import sys
import time
import traceback
from typing import Final

from tests import loops
from tests.leaks import Snapshot, left_behind
from tests.soak.lap import KINDS, Kind, Tally, lap
from tests.soak.watch import Watch
from wsockets.bridge.engines import engine_name

SEED: Final = "WSOCKETS_SEED"
ENGINE: Final = "WSOCKETS_BRIDGE_ENGINE"
# How many laps there are at a time, and how long one takes at most, in seconds.
LANES: Final = 5
LONGEST: Final = 8.0


async def run(engine: str, seconds: float, seed: str) -> list[str]:
    """Laps for so long; what was wrong."""
    tally, watch, begun = Tally(), Watch(), time.monotonic()
    end = loops.current_time() + seconds

    async def lane(number: int) -> None:
        rng = random.Random(f"{seed} {engine} {number}")
        turn = number
        while (left := end - loops.current_time()) > 0:
            kind: Kind = KINDS[turn % len(KINDS)]
            turn += 1
            lasts = min(rng.random() * LONGEST, left)
            try:
                tally.add(await lap(kind, rng, lasts))
            except BaseException as error:
                error.add_note(f"a lap of {kind} with the {engine} engine")
                raise

    async def tell() -> None:
        every = min(60.0, seconds / 5)
        watching = max(seconds / 60, 0.2)
        told = 0
        while True:
            await loops.sleep(watching)
            reading = watch.look()
            lasted = time.monotonic() - begun
            if lasted >= (told + 1) * every:
                told += 1
                say(
                    f"{lasted:6.0f} s  {engine:6}  {tally.laps:6} laps"
                    f"  {tally.bridges:7} bridges  {tally.bytes / 2**30:7.2f} GiB"
                    f"  {reading}"
                )

    async with loops.open_nursery() as nursery:
        nursery.start_soon(tell)
        async with loops.open_nursery() as lanes:
            for number in range(LANES):
                lanes.start_soon(lane, number)
        nursery.cancel_scope.cancel()
    assert tally.laps >= LANES and tally.bytes
    # What is in flight comes and goes; only time tells it from what stays.
    return watch.complaints(memory=(16 if seconds >= 120 else 64) << 20)


def soak(engine: str, loop: str, seconds: float, seed: str) -> list[str]:
    """`run()`, from an empty process to an empty process."""
    os.environ[ENGINE] = engine
    assert engine_name() == engine
    # What stays for the life of the process (the engine's thread) is there now.
    loops.run(loop, lap, "tls", random.Random(0), 0.1)
    before = Snapshot.take()
    try:
        wrong = loops.run(loop, run, engine, seconds, seed)
    except Exception:
        traceback.print_exc()
        wrong = ["a lap has failed"]
    return wrong + [f"left behind: {each}" for each in left_behind(before)]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Each engine on each loop has its share of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--engine", choices=["native", "python", "both"])
    parser.add_argument("--loop", choices=[*loops.LOOPS, "all"], default="trio")
    given = parser.parse_args()
    engines = [given.engine]
    if given.engine in (None, "both"):
        engines = ["native", "python"]
    seed = os.environ.get(SEED) or str(secrets.randbelow(1 << 32))
    say(f"{SEED}={seed}, {given.seconds:g} s")
    found = loops.LOOPS if given.loop == "all" else [given.loop]
    turns = list(itertools.product(engines, found))
    failed = False
    for engine, loop in turns:
        say(f"the {engine} engine on {loop}")
        for line in soak(engine, loop, given.seconds / len(turns), seed):
            say(f"{engine} on {loop}: {line}")
            failed = True
    say("failed" if failed else "all is well")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
