"""Bytes through a bridge, between everything that can be bridged."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
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
    sink_of,
)

SIZE = 3 << 20  # bytes, more than all buffers on the way hold


@pytest.fixture(params=["plain", "tls"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(params=[*SINKS, "plain", "tls"])
def sink_kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@contextlib.asynccontextmanager
async def either(kind: str) -> AsyncIterator[tuple[Any, Far]]:
    """A sink: a foreign one, or a connection of ours."""
    if kind in ("plain", "tls"):
        async with joined(kind) as (connection, far):  # type: ignore[arg-type]
            yield connection, far
    else:
        with sink_of(kind) as (given, far):
            yield given, far


async def send_and_end(far: Far, data: bytes) -> None:
    await far.send(data)
    await far.end()


async def test_bytes_go_both_ways_at_once(
    engine: Engine, kind: Kind, sink_kind: str, rng: random.Random
) -> None:
    down, up = rng.randbytes(SIZE), rng.randbytes(SIZE)
    found: dict[str, bytes] = {}

    async def take(name: str, far: Far, count: int) -> None:
        found[name] = await far.receive_exactly(count)

    async with joined(kind) as (connection, peer), either(sink_kind) as (sink, other):
        async with bridged(engine, connection, sink) as running:
            with trio.fail_after(WITHIN):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(peer.send, down)
                    nursery.start_soon(other.send, up)
                    nursery.start_soon(take, "up", peer, SIZE)
                    nursery.start_soon(take, "down", other, SIZE)
            assert found["down"] == down
            assert found["up"] == up
            stats = running.pump.stats
            assert stats.decrypt.bytes == stats.encrypt.bytes == SIZE
            assert stats.decrypt.packets == stats.encrypt.packets == 0
            assert stats.decrypt.drops == stats.encrypt.drops == 0
            assert (stats.decrypt.records > 0) == (kind == "tls")
            assert running.pump.ended is None
