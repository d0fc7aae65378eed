"""What is measured of servers, and which ones: two tables, nothing else.

A server program accepts connections and sends back what comes (`accept`, `handshake`),
or passes them on to a backend that does (`tunnel`); `arrivals` is who comes. The
programs are started as those of the bridges are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from bench import bridges
from bench.bridges import Bridge, python_bridge
from bench.plan import HERE, Measure, first_line, node_missing

MESSAGE = 64


def arriving(
    name: str,
    title: str,
    count: int,
    *,
    kind: str = "serve",
    tls: bool = True,
    reference: str = "trio",
    goals: Mapping[str, float] | None = None,
) -> Measure:
    """So many connections, each with one message there and back."""
    return Measure(
        name=name,
        title=title,
        kind=kind,
        role="arrive",
        unit="µs CPU per connection",
        count=count,
        size=MESSAGE,
        scale=1e6,
        tls=tls,
        reference=reference,
        goals=goals or {},
    )


MEASURES: tuple[Measure, ...] = (
    arriving("accept", "accept, echo 64 bytes, close: plain", 3_000, tls=False),
    arriving(
        "handshake", "accept, full TLS 1.3 handshake, echo 64 bytes, close", 1_000
    ),
    arriving(
        "tunnel-handshake",
        "a TLS 1.3 connection through a tunnel to a backend, 64 bytes, close",
        1_000,
        kind="forward",
        reference="haproxy",
        # At least as many a second as stunnel, and 0.6 times as many as haproxy.
        goals={"stunnel4": 1.0, "haproxy": 1 / 0.6},
    ),
)

ECHO = frozenset({"accept", "handshake"})
TUNNEL = frozenset({"tunnel-handshake"})
FORWARDERS = ("haproxy", "nginx", "stunnel4", "hitch")


def forwarders() -> tuple[Bridge, ...]:
    """Debian's, which only forward; see `daemons`."""
    known = {each.name: each for each in bridges.BRIDGES}
    return tuple(attrs.evolve(known[name], rows=TUNNEL) for name in FORWARDERS)


SERVERS: tuple[Bridge, ...] = (
    python_bridge(
        "wsockets",
        "wsockets",
        "wsockets_server",
        "wsockets",
        rows=ECHO | TUNNEL,
        environment={"WSOCKETS_BRIDGE_ENGINE": "native"},
    ),
    python_bridge(
        "wsockets-asyncio",
        "wsockets (asyncio)",
        "wsockets_server_asyncio",
        "wsockets",
        rows=ECHO,
    ),
    python_bridge(
        "wsockets-uvloop",
        "wsockets (uvloop)",
        "wsockets_server_uvloop",
        "wsockets",
        rows=ECHO,
    ),
    python_bridge("trio", "trio", "trio_server", "trio", rows=ECHO),
    python_bridge("asyncio", "asyncio streams", "asyncio_server", "python", rows=ECHO),
    python_bridge(
        "asyncio-protocol",
        "asyncio Protocol",
        "asyncio_protocol_server",
        "python",
        rows=ECHO,
    ),
    python_bridge(
        "uvloop-protocol",
        "uvloop Protocol",
        "uvloop_protocol_server",
        "uvloop",
        rows=ECHO,
    ),
    Bridge(
        name="node",
        title="node net/tls",
        command=lambda: ["node", str(HERE / "clients/node_server.mjs")],
        missing=node_missing,
        version=lambda: first_line(["node", "--version"]),
        rows=ECHO | TUNNEL,
    ),
    *forwarders(),
)


def chosen(only: Sequence[str]) -> tuple[Measure, ...]:
    """The measures with these names, or all."""
    return tuple(each for each in MEASURES if not only or each.name in only)
