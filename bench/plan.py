"""What is measured, and with which clients: two tables, nothing else.

A goal is the highest ratio to another client's figure that is wanted: "trio", or on
another measure, "trio@roundtrip-tls"; the goal named "absolute" is a figure in the
measure's own unit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
MODULES = HERE / "node_modules"
REFERENCE = "trio"


@attrs.frozen
class Measure:
    """One kind of work in one mode; a figure of it is `scale` × CPU seconds a unit.

    For `idle` the figure is KB of resident memory a connection instead; the kinds
    of the bridges say themselves what theirs is.

    Measures of one `row` are taken in one run. Those of one `series` are points of
    a line, at `at`.
    """

    name: str
    title: str
    kind: str
    role: str
    unit: str
    count: int
    size: int
    scale: float
    tls: bool = False
    resume: bool = False
    warm: int = 0
    goals: Mapping[str, float] = attrs.field(factory=dict)
    reference: str = REFERENCE
    row: str = attrs.field(
        default=attrs.Factory(lambda self: self.name, takes_self=True)
    )
    series: str | None = None
    at: int | None = None

    def shortened(self, factor: float) -> Measure:
        """The same measure with less work, for a quick look."""
        return attrs.evolve(
            self,
            count=max(8, int(self.count * factor)),
            warm=min(self.warm, max(1, int(self.warm * factor))),
        )


GIB = 1 << 30
CHUNK = 65536

MEASURES: tuple[Measure, ...] = (
    Measure(
        name="roundtrip-plain",
        title="64-byte round trip, plain",
        kind="roundtrip",
        role="echo",
        unit="µs CPU per round trip",
        count=30_000,
        size=64,
        scale=1e6,
        goals={"trio": 0.85, "arrowood": 0.85, "deno": 1.0},
    ),
    Measure(
        name="roundtrip-tls",
        title="64-byte round trip, TLS 1.3",
        kind="roundtrip",
        role="echo",
        unit="µs CPU per round trip",
        count=25_000,
        size=64,
        scale=1e6,
        tls=True,
        goals={"trio": 0.8, "arrowood": 0.85, "deno": 1.0},
    ),
    Measure(
        name="receive-plain",
        title="receive, plain",
        kind="receive",
        role="source",
        unit="s CPU per GiB",
        count=32_000,
        size=CHUNK,
        scale=GIB / CHUNK,
        goals={"trio": 0.9, "arrowood": 0.6},
    ),
    Measure(
        name="receive-tls",
        title="receive, TLS 1.3",
        kind="receive",
        role="source",
        unit="s CPU per GiB",
        count=12_000,
        size=CHUNK,
        scale=GIB / CHUNK,
        tls=True,
        goals={"trio": 0.6, "arrowood": 0.6},
    ),
    Measure(
        name="send-plain",
        title="send 64 KiB chunks, plain",
        kind="send",
        role="sink",
        unit="s CPU per GiB",
        count=32_000,
        size=CHUNK,
        scale=GIB / CHUNK,
        goals={"trio": 0.8, "node": 1.0, "deno": 1.0},
    ),
    Measure(
        name="send-tls",
        title="send 64 KiB chunks, TLS 1.3",
        kind="send",
        role="sink",
        unit="s CPU per GiB",
        count=12_000,
        size=CHUNK,
        scale=GIB / CHUNK,
        tls=True,
        goals={"trio": 0.65, "node": 1.0, "deno": 1.0},
    ),
    Measure(
        name="connect-plain",
        title="connect and close, plain",
        kind="connect",
        role="greet",
        unit="µs CPU per connection",
        count=3_000,
        size=1,
        scale=1e6,
        goals={"trio": 0.6, "arrowood": 0.5},
    ),
    Measure(
        name="connect-tls",
        title="connect and close, full TLS 1.3 handshake",
        kind="connect",
        role="greet",
        unit="µs CPU per connection",
        count=1_000,
        size=1,
        scale=1e6,
        tls=True,
        goals={"trio": 0.8, "arrowood": 0.5},
    ),
    Measure(
        name="connect-resumed",
        title="connect and close, resumed TLS 1.3 handshake",
        kind="connect",
        role="greet",
        unit="µs CPU per connection",
        count=1_000,
        size=1,
        scale=1e6,
        tls=True,
        resume=True,
        goals={"trio": 0.6},
    ),
    Measure(
        name="idle-plain",
        title="memory per idle connection, plain",
        kind="idle",
        role="echo",
        unit="KB per connection",
        count=1_200,
        size=64,
        scale=1.0,
        warm=200,
        goals={"absolute": 2.5},
    ),
    Measure(
        name="idle-tls",
        title="memory per idle connection, TLS 1.3",
        kind="idle",
        role="echo",
        unit="KB per connection",
        count=1_200,
        size=64,
        scale=1.0,
        tls=True,
        warm=200,
        goals={"absolute": 36.0},
    ),
)


@attrs.frozen
class Client:
    """A library to measure: the program, and what it needs and cannot do."""

    name: str
    title: str
    command: Callable[[], list[str]]
    missing: Callable[[], str | None]
    version: Callable[[], str]
    cannot: Mapping[str, str] = attrs.field(factory=dict)
    environment: Callable[[str], Mapping[str, str]] = lambda ca: {}


def first_line(command: list[str]) -> str:
    """What `command` prints first; its error's last line in a RuntimeError."""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout.partition("\n")[0].strip()


def python_client(
    name: str,
    title: str,
    module: str,
    package: str,
    cannot: Mapping[str, str] = MappingProxyType({}),
) -> Client:
    """A program of `bench/clients` that needs the Python package `package`."""
    program = f"bench.clients.{module}"

    def missing() -> str | None:
        try:
            first_line([sys.executable, "-c", f"import {program}"])
        except RuntimeError as error:
            return str(error)
        return None

    def version() -> str:
        if package == "python":
            return sys.version.partition(" ")[0]
        code = f"from importlib.metadata import version; print(version({package!r}))"
        try:
            return first_line([sys.executable, "-c", code])
        except RuntimeError:
            return "this checkout"

    return Client(
        name=name,
        title=title,
        command=lambda: [sys.executable, "-m", program],
        missing=missing,
        version=version,
        cannot=cannot,
    )


def deno() -> str | None:
    """The binary that the npm package brought."""
    found = sorted(MODULES.glob("@deno/*/deno"))
    return str(found[0]) if found else None


def node_missing() -> str | None:
    """Why no node program can run."""
    return None if shutil.which("node") else "node is not installed"


def npm_version(package: str) -> str:
    """The version that `python -m bench setup` installed."""
    text = (MODULES / package / "package.json").read_text()
    return str(json.loads(text)["version"])


def arrowood_missing() -> str | None:
    """Why @arrowood.dev/socket cannot run."""
    if not (MODULES / "@arrowood.dev" / "socket").exists():
        return "not installed: python -m bench setup"
    return node_missing()


NO_SESSIONS = "has no way to offer a session"
FULL = {"connect-resumed": NO_SESSIONS}

CLIENTS: tuple[Client, ...] = (
    python_client("wsockets", "wsockets", "wsockets_streams", "wsockets"),
    python_client(
        "wsockets-asyncio", "wsockets (asyncio)", "wsockets_asyncio", "wsockets"
    ),
    python_client(
        "wsockets-uvloop", "wsockets (uvloop)", "wsockets_uvloop", "wsockets"
    ),
    python_client("trio", "trio", "trio_streams", "trio"),
    python_client("anyio", "anyio (asyncio)", "anyio_streams", "anyio", cannot=FULL),
    python_client("anyio-trio", "anyio (trio)", "anyio_on_trio", "anyio", cannot=FULL),
    python_client(
        "asyncio", "asyncio streams", "asyncio_streams", "python", cannot=FULL
    ),
    python_client(
        "asyncio-protocol",
        "asyncio Protocol",
        "asyncio_protocol",
        "python",
        cannot=FULL,
    ),
    python_client("uvloop", "uvloop streams", "uvloop_streams", "uvloop", cannot=FULL),
    python_client(
        "uvloop-protocol", "uvloop Protocol", "uvloop_protocol", "uvloop", cannot=FULL
    ),
    Client(
        name="node",
        title="node net/tls",
        command=lambda: ["node", "--expose-gc", str(HERE / "clients/node_net.mjs")],
        missing=node_missing,
        version=lambda: first_line(["node", "--version"]),
    ),
    Client(
        name="arrowood",
        title="@arrowood.dev/socket",
        command=lambda: ["node", "--expose-gc", str(HERE / "clients/arrowood.mjs")],
        missing=arrowood_missing,
        version=lambda: npm_version("@arrowood.dev/socket"),
        cannot=FULL,
        environment=lambda ca: {"NODE_EXTRA_CA_CERTS": ca},
    ),
    Client(
        name="deno",
        title="deno streams",
        command=lambda: [
            deno() or "deno",
            "run",
            "--allow-all",
            "--no-config",
            "--no-lock",
            "--quiet",
            "--v8-flags=--expose-gc",
            str(HERE / "clients/deno_conn.mjs"),
        ],
        missing=lambda: None if deno() else "not installed: python -m bench setup",
        version=lambda: npm_version("deno"),
        cannot=FULL,
        environment=lambda ca: {"DENO_NO_UPDATE_CHECK": "1"},
    ),
)


def measure_named(name: str) -> Measure:
    """The measure of that name; KeyError."""
    return {each.name: each for each in MEASURES}[name]


def client_named(name: str) -> Client:
    """The client of that name; KeyError."""
    return {each.name: each for each in CLIENTS}[name]
