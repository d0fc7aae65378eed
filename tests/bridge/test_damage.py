"""Damaged TLS: what comes out is a beginning of what went in, and an end with a reason.

The engine hands OpenSSL whatever a peer sends; the sanitizers watch it do so.
"""

from __future__ import annotations

import contextlib
import random

import pytest

from tests import loops
from tests.bridge.harness import WITHIN, Engine, bridged, joined, sink_of
from tests.faults.records import records_of
from tests.loopback import server_context

pytestmark = pytest.mark.every_loop

ROUNDS = 25


def damaged(records: list[bytes], rng: random.Random) -> bytes:
    """The records, with something wrong."""
    records = list(records)
    index = rng.randrange(len(records))
    record = bytearray(records[index])
    how = rng.choice(("flip", "header", "drop", "twice", "swap", "cut", "add"))
    if how == "flip":
        record[rng.randrange(5, len(record))] ^= 1 << rng.randrange(8)
        records[index] = bytes(record)
    elif how == "header":
        record[rng.randrange(5)] = rng.randrange(256)
        records[index] = bytes(record)
    elif how == "drop":
        del records[index]
    elif how == "twice":
        records.insert(index, records[index])
    elif how == "swap":
        other = rng.randrange(len(records))
        records[index], records[other] = records[other], records[index]
    elif how == "cut":
        del record[rng.randrange(len(record)) :]
        records[index:] = [bytes(record)]
    else:
        records.insert(index, rng.randbytes(rng.randrange(1, 600)))
    return b"".join(records)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_damage_ends_it_and_lets_nothing_false_through(
    engine: Engine, version: str, rng: random.Random
) -> None:
    context = server_context()
    for _ in range(ROUNDS):
        data = rng.randbytes(rng.choice((1, 1000, 40000)))
        async with joined("tls", context=context, maxVersion=version) as (
            connection,
            peer,
        ):
            with sink_of("unix") as (sink, other):
                pieces = [data[at : at + 7000] for at in range(0, len(data), 7000)]
                records = records_of(b"".join(map(peer.seal, pieces)))
                async with bridged(engine, connection, sink) as running:
                    with loops.fail_after(WITHIN):
                        with contextlib.suppress(ConnectionError):
                            await peer.put(damaged(records, rng))
                            peer.cut()
                        end = await running.end()
                        count = running.pump.stats.decrypt.bytes
                        assert data.startswith(await other.receive_exactly(count))
                    assert end.side == "connection"
                    assert end.reason in ("tls", "truncated", "reset")
