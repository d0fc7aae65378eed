"""UDPSocket: datagrams as two streams of messages, after WICG Direct Sockets.

https://wicg.github.io/direct-sockets/

`options` reads what the constructor is told, `messages` has what is read and
written, `outgoing` the way from a message to its destination, `multicast` the
groups, and `socket` the object that owns the descriptor.
"""

from __future__ import annotations

from .messages import UDPMessage
from .multicast import MulticastController
from .options import SocketDnsQueryType, UDPSocketOptions
from .socket import UDPSocket, UDPSocketOpenInfo

__all__ = [
    "MulticastController",
    "SocketDnsQueryType",
    "UDPMessage",
    "UDPSocket",
    "UDPSocketOpenInfo",
    "UDPSocketOptions",
]
