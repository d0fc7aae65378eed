"""What is measured of bridges, and which ones: two tables, nothing else.

A bridge program accepts one TLS connection after the other and connects each to a
backend, or to a packet device; `bridging` holds both ends.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from bench import daemons
from bench.plan import (
    GIB,
    HERE,
    Client,
    Measure,
    deno,
    first_line,
    node_missing,
    npm_version,
    python_client,
)

RECORD = 16384
PACKET = 1300
OPEN = (1_000, 4_500)
CONNECTIONS = (10, 100, 1_000, 4_500)
PACKETS = (64, 512, 1_300, 4_096, 16_384, 65_535)


def bulk(
    name: str, title: str, role: str, goals: Mapping[str, float], **more: Any
) -> Measure:
    """Half a GiB through one bridge, one way."""
    return attrs.evolve(
        Measure(
            name=name,
            title=title,
            kind="bulk",
            role=role,
            unit="s CPU per GiB",
            count=GIB // 2 // RECORD,
            size=RECORD,
            scale=GIB / RECORD,
            goals=goals,
            reference="haproxy",
        ),
        **more,
    )


def tunnel(name: str, title: str, role: str, unit: str, **more: Any) -> Measure:
    """A measure of packets through a tunnel."""
    return attrs.evolve(
        Measure(
            name=name,
            title=title,
            kind="tunnel",
            role=role,
            unit=unit,
            count=100_000,
            size=PACKET,
            scale=1e6,
            tls=True,
            reference="asyncio",
        ),
        **more,
    )


def crowd(
    name: str, title: str, role: str, unit: str, opened: int, **more: Any
) -> Measure:
    """A measure of many connections; `warm` is how many are open."""
    return attrs.evolve(
        Measure(
            name=name,
            title=title,
            kind="crowd",
            role=role,
            unit=unit,
            count=opened,
            size=64,
            scale=1.0,
            tls=True,
            warm=opened,
            row="crowd",
            reference="haproxy",
        ),
        **more,
    )


PUMPS = {"node": 0.35, "stunnel4": 0.4, "asyncio": 0.5, "trio": 0.25}
TUNNEL = {"node": 1 / 8, "asyncio": 1 / 4, "trio": 1 / 10}
PERCENTILE = "µs, 99th percentile of round trips"

MEASURES: tuple[Measure, ...] = (
    bulk(
        "bulk-decrypt",
        "bulk, TLS 1.3 to clear, 16 KiB records",
        "decrypt",
        {"floor": 1.05, "haproxy": 0.5, **PUMPS},
        tls=True,
    ),
    bulk(
        "bulk-encrypt",
        "bulk, clear to TLS 1.3",
        "encrypt",
        {"floor": 1.2, "haproxy": 0.55, **PUMPS},
        tls=True,
    ),
    bulk(
        "bulk-plain",
        "bulk, TCP to TCP",
        "decrypt",
        {"haproxy": 1.0, "node": 0.25},
    ),
    bulk(
        "pipe-plain",
        "pipeTo() between two sockets, plain",
        "decrypt",
        {},
        kind="pipe",
        reference="node",
    ),
    bulk(
        "pipe-tls",
        "pipeTo() from a TLS socket to a plain one",
        "decrypt",
        {},
        kind="pipe",
        tls=True,
        reference="node",
    ),
    tunnel(
        "tunnel-cpu",
        "tunnel, 1300-byte packets both ways: CPU",
        "cpu",
        "µs CPU per packet",
        row="tunnel",
        goals=TUNNEL,
    ),
    tunnel(
        "tunnel-rate",
        "tunnel, 1300-byte packets both ways: time",
        "rate",
        "µs per packet",
        row="tunnel",
        goals=TUNNEL,
    ),
    tunnel(
        "tunnel-write",
        "tunnel, 1300-byte packets, TLS 1.2 to TUN",
        "write",
        "µs CPU per packet",
        goals={"floor": 1.5},
    ),
    tunnel(
        "p99-idle",
        "tunnel, round trip, nothing else going on",
        "idle",
        PERCENTILE,
        kind="latency",
        row="latency",
        count=1,
    ),
    tunnel(
        "p99-loaded",
        "tunnel, round trip beside 20,000 packets a second",
        "loaded",
        PERCENTILE,
        kind="latency",
        row="latency",
        count=1,
        goals={"node": 0.1, "asyncio@p99-idle": 1.0},
    ),
    tunnel(
        "p99-busy",
        "tunnel, round trip while the program has tasks of 2 ms",
        "busy",
        PERCENTILE,
        kind="latency",
        row="latency",
        count=1,
        goals={"wsockets@p99-idle": 1.3},
    ),
    *(
        crowd(
            f"idle-{count}",
            f"memory per idle TLS bridge, {count:,} open",
            "memory",
            "KiB per bridge",
            count,
            goals={"absolute": 18.0},
        )
        for count in OPEN
    ),
    *(
        crowd(
            f"idle-cpu-{count}",
            f"CPU of {count:,} idle TLS bridges",
            "cpu",
            "ms CPU per s",
            count,
            scale=1e3,
            goals={"absolute": 0.05},
        )
        for count in OPEN
    ),
    Measure(
        name="handback",
        title="stop and bridge again at random moments, both ways busy",
        kind="handback",
        role="cycles",
        unit="ms per cycle",
        count=1_000,
        size=RECORD,
        scale=1e3,
        tls=True,
        reference="wsockets-python",
    ),
    *(
        crowd(
            f"connections-{count}",
            f"64-byte round trip, {count:,} TLS bridges in turn",
            "rounds",
            "µs CPU per round trip",
            count,
            count=3_000,
            scale=1e6,
            series="TLS bridges open",
            at=count,
        )
        for count in CONNECTIONS
    ),
    *(
        tunnel(
            f"packets-{size}",
            f"tunnel, {size:,}-byte packets, TLS 1.2 to TUN",
            "write",
            "µs CPU per packet",
            size=size,
            count=min(50_000, 400_000_000 // size),
            series="bytes per packet, TLS 1.2 to TUN",
            at=size,
        )
        for size in PACKETS
    ),
)

BULK = frozenset({"bulk-decrypt", "bulk-encrypt"})
PLAIN = frozenset({"bulk-plain"})
PIPES = frozenset({"pipe-plain", "pipe-tls"})
TUNNELS = frozenset(
    {"tunnel", "tunnel-write", "latency", *(f"packets-{size}" for size in PACKETS)}
)
# Where packets come from a device, too.
OFFLOADS = frozenset({"tunnel"})
CROWD = frozenset({"crowd"})
EVERYTHING = BULK | PLAIN | PIPES | TUNNELS | CROWD | {"handback"}


@attrs.frozen
class Bridge(Client):
    """A program to measure; it takes part in `rows` and in no others.

    One that is `unsecured` speaks no TLS where all others do: it is the floor. With
    `offload` its device gives many packets at a time, which others' do not.
    """

    rows: frozenset[str] = frozenset()
    unsecured: bool = False
    offload: bool = False


def python_bridge(
    name: str,
    title: str,
    module: str,
    package: str,
    rows: frozenset[str],
    *,
    unsecured: bool = False,
    offload: bool = False,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Bridge:
    """A program of `bench/clients`."""
    client = python_client(name, title, module, package)
    return Bridge(
        name=client.name,
        title=client.title,
        command=client.command,
        missing=client.missing,
        version=client.version,
        environment=lambda ca: environment,
        rows=rows,
        unsecured=unsecured,
        offload=offload,
    )


def daemon(program: str, rows: frozenset[str]) -> Bridge:
    """A program from the Debian package of its name; `daemons` configures it."""
    query = ["dpkg-query", "--show", "--showformat", "${Version}", program]

    def missing() -> str | None:
        if daemons.found(program):
            return None
        return "not installed: python -m bench setup"

    return Bridge(
        name=program,
        title=program,
        command=lambda: [sys.executable, "-m", "bench.daemons", program],
        missing=missing,
        version=lambda: first_line(query),
        rows=rows,
    )


BRIDGES: tuple[Bridge, ...] = (
    python_bridge(
        "wsockets",
        "wsockets, native engine",
        "wsockets_bridge",
        "wsockets",
        rows=EVERYTHING,
        environment={"WSOCKETS_BRIDGE_ENGINE": "native"},
    ),
    python_bridge(
        "wsockets-offload",
        "wsockets, native engine, from a device that gives many packets at a time",
        "wsockets_bridge",
        "wsockets",
        rows=OFFLOADS,
        offload=True,
        environment={"WSOCKETS_BRIDGE_ENGINE": "native"},
    ),
    python_bridge(
        "wsockets-python",
        "wsockets, Python engine",
        "wsockets_bridge",
        "wsockets",
        rows=EVERYTHING,
        environment={"WSOCKETS_BRIDGE_ENGINE": "python"},
    ),
    python_bridge(
        "floor",
        "floor: AES-256-GCM, and a relay without TLS",
        "floor",
        "cryptography",
        rows=BULK | {"tunnel-write"},
        unsecured=True,
    ),
    daemon("haproxy", BULK | PLAIN | CROWD),
    daemon("nginx", BULK | PLAIN | CROWD),
    daemon("stunnel4", BULK | CROWD),
    daemon("hitch", BULK),
    daemon("socat", BULK | PLAIN),
    Bridge(
        name="node",
        title="node",
        command=lambda: ["node", str(HERE / "clients/node_pump.mjs")],
        missing=node_missing,
        version=lambda: first_line(["node", "--version"]),
        rows=BULK | PLAIN | PIPES | TUNNELS | CROWD,
    ),
    Bridge(
        name="deno",
        title="deno",
        command=lambda: [
            deno() or "deno",
            "run",
            "--allow-all",
            "--no-config",
            "--no-lock",
            "--quiet",
            str(HERE / "clients/deno_pipe.mjs"),
        ],
        missing=lambda: None if deno() else "not installed: python -m bench setup",
        version=lambda: npm_version("deno"),
        environment=lambda ca: {"DENO_NO_UPDATE_CHECK": "1"},
        rows=PIPES,
    ),
    python_bridge(
        "asyncio",
        "asyncio Protocol",
        "asyncio_pump",
        "python",
        rows=BULK | PLAIN | TUNNELS | CROWD,
    ),
    python_bridge(
        "uvloop",
        "uvloop Protocol",
        "uvloop_pump",
        "uvloop",
        rows=BULK | PLAIN | TUNNELS,
    ),
    python_bridge(
        "trio", "trio streams", "trio_pump", "trio", rows=BULK | PLAIN | TUNNELS
    ),
    python_bridge(
        "threads", "threads (ssl)", "threads_pump", "python", rows=BULK | PLAIN
    ),
)


def chosen(only: Sequence[str]) -> tuple[Measure, ...]:
    """The measures with these names or of these rows, or whose names begin so.

    "bulk" stands for all that begin with "bulk-". KeyError for what stands for none.
    """
    found = set()
    for word in only:
        some = {
            each.name
            for each in MEASURES
            if word in (each.name, each.row) or each.name.startswith(f"{word}-")
        }
        if not some:
            raise KeyError(word)
        found |= some
    return tuple(each for each in MEASURES if not only or each.name in found)
