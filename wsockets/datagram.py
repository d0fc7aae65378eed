"""Datagrams: whole messages through one file descriptor.

Like a connection this tries, now, and says what came of it: the result, or the
`Want` it has to wait for. What goes wrong is of two kinds. A failure of one
datagram (too long, no way to where it should go) is returned, and concerns nobody
else. A failure of the socket is raised: on a connected socket an ICMP message
told that nobody is there, and since UDP cannot say which datagram it was for,
whatever was sent may be lost.

The kernel reports such an error once, to whichever call comes next. EMSGSIZE can
be of that kind as well: a router wanted something shorter that was sent before,
and from then on the kernel knows (ip(7), IP_MTU_DISCOVER). That one is no
failure of the call that meets it, which is tried again.

A datagram that is longer than the buffer loses what does not fit; the kernel says
so (MSG_TRUNC), and so does `Datagram.truncated`. With a buffer of 65,535 bytes it
cannot happen to UDP, whose length field has 16 bits: at most 65,507 bytes of
payload over IPv4, 65,527 over IPv6. To unix datagrams it can.

One call moves one datagram. recvmmsg(2) and sendmmsg(2) move several, but Python's
socket module has neither, and by way of ctypes they save nothing: taking 32
datagrams apart (header, address, bytes) in Python costs 1.6 us each where recvmsg()
costs 1.5.
"""

from __future__ import annotations

import errno
import socket as _socket
from typing import Any, Final, NamedTuple, final

from .errors import SocketError, os_error
from .runtime.gate import Want

__all__ = ["Datagram", "Datagrams"]

_TRUNCATED: Final = _socket.MSG_TRUNC
# What ICMP and ICMPv6 may tell a connected socket (RFC 1122, section 4.1.3.3).
_ICMP: Final = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EPROTO,
        errno.EACCES,
    )
)


class Datagram(NamedTuple):
    """A datagram that was received.

    `sender` is the address as the operating system gives it; on a connected
    socket it is the peer's.
    """

    data: bytes
    sender: Any
    truncated: bool


@final
class Datagrams:
    """The datagrams of a socket, which is non-blocking and owned from here on."""

    __slots__ = ("_connected", "socket")

    def __init__(self, socket: _socket.socket, *, connected: bool) -> None:
        self.socket = socket
        self._connected = connected

    def receive(self, limit: int, /) -> Datagram | Want:
        """The next datagram, of which at most `limit` bytes are kept."""
        while True:
            try:
                data, _, flags, sender = self.socket.recvmsg(limit)
            except BlockingIOError:
                return Want.READ
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    continue  # An earlier one of ours was too long for the way.
                raise os_error("receive", error) from error
            return Datagram(data, sender, bool(flags & _TRUNCATED))

    def send(self, data: bytes, target: Any, /) -> Want | SocketError | None:
        """Send one datagram to `target`; None where the socket is connected.

        Gives None when it is out, and a SocketError that is its own. It is out
        when the kernel has taken it: nothing tells whether it arrives.
        """
        again = True
        while True:
            try:
                if target is None:
                    self.socket.send(data)
                else:
                    self.socket.sendto(data, target)
            except BlockingIOError:
                return Want.WRITE
            except OSError as error:
                if again and error.errno == errno.EMSGSIZE:
                    again = False
                    continue
                failure = os_error(f"send a datagram of {len(data)} bytes", error)
                if self._connected and error.errno in _ICMP:
                    raise failure from error
                return failure
            return None

    def close(self) -> None:
        """Close the fd. What was sent is sent, what was not read is lost."""
        self.socket.close()
