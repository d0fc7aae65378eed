"""From an address to a connected socket.

`dial` resolves the name, asks the policy, races the addresses (happy eyeballs)
and goes through a proxy where there is one. What it returns is a plain
non-blocking socket; it knows neither TLS nor streams.
"""

from __future__ import annotations

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
    "check_dial",
    "deny_private",
    "dial",
    "parse_proxy",
]
