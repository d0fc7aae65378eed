"""From an address to a connected socket, or to where a datagram goes.

`dial` resolves the name, asks the policy, races the addresses (happy eyeballs)
and goes through a proxy where there is one. What it returns is a plain
non-blocking socket; it knows neither TLS nor streams. `connect_udp` and
`find_destination` do the first two for datagrams.
"""

from __future__ import annotations

from .attempt import TcpTarget, tcp_target
from .datagrams import connect_udp, destination, find_destination, open_udp
from .policy import Policy
from .private import deny_private
from .proxy import Proxy, parse_proxy
from .resolve import Resolver
from .route import Dialling, check_dial, dial

__all__ = [
    "Dialling",
    "Policy",
    "Proxy",
    "Resolver",
    "TcpTarget",
    "check_dial",
    "connect_udp",
    "deny_private",
    "destination",
    "dial",
    "find_destination",
    "open_udp",
    "parse_proxy",
    "tcp_target",
]
