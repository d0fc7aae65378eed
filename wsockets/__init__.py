"""The WinterTC Sockets API for Python: connect(), WHATWG streams, startTls().

    async with connect("example.com:443", secureTransport="on") as socket:
        writer = socket.writable.getWriter()
        await writer.write("GET / HTTP/1.0\\r\\nHost: example.com\\r\\n\\r\\n")
        async for chunk in socket.readable:
            print(chunk)

https://sockets-api.proposal.wintertc.org/
"""

from .abort import AbortController, AbortSignal
from .activation import activated
from .address import AnySocketAddress, SocketAddress, UnixAddress
from .bridge import Bridge, BridgeEnd, BridgeFlow, BridgeOptions, BridgeStats
from .connect import Binding, adopt, connect
from .create_bridge import create_bridge, createBridge
from .descriptors import from_fd, to_fd
from .dial import Policy, Resolver, deny_private
from .early import SocketDataEvent, SocketStats
from .errors import AbortError, ErrorCode, SocketError
from .events import Event, EventTarget
from .options import SecureTransportKind, SocketOptions
from .promise import Promise
from .server import ServerSocket, ServerStats, listen
from .socket import Socket
from .socket_info import SocketInfo
from .socket_listener import SocketEvent, SocketListener
from .socket_options import SystemOptions
from .streams import (
    ReadableStream,
    ReadableStreamAsyncIterator,
    ReadableStreamBYOBReader,
    ReadableStreamDefaultReader,
    ReadResult,
    WritableStream,
    WritableStreamDefaultWriter,
)
from .tls import CipherInfo, EphemeralKeyInfo, SessionCache, TlsInfo, TlsOptions
from .udp import (
    MulticastController,
    SocketDnsQueryType,
    UDPMessage,
    UDPSocket,
    UDPSocketOpenInfo,
    UDPSocketOptions,
)

__all__ = [
    "AbortController",
    "AbortError",
    "AbortSignal",
    "AnySocketAddress",
    "Binding",
    "Bridge",
    "BridgeEnd",
    "BridgeFlow",
    "BridgeOptions",
    "BridgeStats",
    "CipherInfo",
    "EphemeralKeyInfo",
    "ErrorCode",
    "Event",
    "EventTarget",
    "MulticastController",
    "Policy",
    "Promise",
    "ReadResult",
    "ReadableStream",
    "ReadableStreamAsyncIterator",
    "ReadableStreamBYOBReader",
    "ReadableStreamDefaultReader",
    "Resolver",
    "SecureTransportKind",
    "ServerSocket",
    "ServerStats",
    "SessionCache",
    "Socket",
    "SocketAddress",
    "SocketDataEvent",
    "SocketDnsQueryType",
    "SocketError",
    "SocketEvent",
    "SocketInfo",
    "SocketListener",
    "SocketOptions",
    "SocketStats",
    "SystemOptions",
    "TlsInfo",
    "TlsOptions",
    "UDPMessage",
    "UDPSocket",
    "UDPSocketOpenInfo",
    "UDPSocketOptions",
    "UnixAddress",
    "WritableStream",
    "WritableStreamDefaultWriter",
    "activated",
    "adopt",
    "connect",
    "createBridge",
    "create_bridge",
    "deny_private",
    "from_fd",
    "listen",
    "to_fd",
]
