"""What has gone over a connection, as the kernel has counted it (TCP_INFO, tcp(7)).

Counting here would cost every read and write something, and miss what a bridge
moves natively. The kernel counts anyhow. What it counts is the connection: with TLS
the records, not what is in them; and after startTls() what went before as well.

`bytesSent` is what the kernel has taken for sending, each byte once: bytes_sent has
retransmissions in it, and lacks what still waits for its turn. bytes_received counts
a FIN as a byte, which is taken off again. So is notsent_bytes's. In the state CLOSE
there were two FINs, or an RST.
"""

from __future__ import annotations

import select
import socket as _socket
import struct
from typing import Final

import attrs

__all__ = ["SocketStats", "idle_seconds", "read_stats"]

# struct tcp_info of linux/tcp.h; bytes_sent is there since Linux 4.19.
_SIZE: Final = 216
_IDLE: Final = struct.Struct("=44xI4xI")
_COUNTS: Final = struct.Struct("=B127xQIII52xQQ")
# enum of net/tcp_states.h
_FIN_WAIT1, _TIME_WAIT, _CLOSE, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 4, 6, 7, 8, 9, 11
_RECEIVED_FIN: Final = (_TIME_WAIT, _CLOSE_WAIT, _LAST_ACK, _CLOSING)
_QUEUED_FIN: Final = (_FIN_WAIT1, _LAST_ACK, _CLOSING)


@attrs.frozen
class SocketStats:
    """What has gone over a connection, in bytes and in TCP segments.

    Bytes are those of the connection, so with TLS those of its records; each byte
    counts once, however often it was sent. Segments are all there were, those
    without data too. None where nobody counts: without a connection, and on unix
    sockets.
    """

    bytesSent: int | None = None
    bytesReceived: int | None = None
    packetsSent: int | None = None
    packetsReceived: int | None = None

    @property
    def bytes_sent(self) -> int | None:
        """`bytesSent`."""
        return self.bytesSent

    @property
    def bytes_received(self) -> int | None:
        """`bytesReceived`."""
        return self.bytesReceived

    @property
    def packets_sent(self) -> int | None:
        """`packetsSent`."""
        return self.packetsSent

    @property
    def packets_received(self) -> int | None:
        """`packetsReceived`."""
        return self.packetsReceived


def read_stats(sock: _socket.socket, *, broken: bool = False) -> SocketStats:
    """The statistics of `sock`; `broken`: a call has just failed on it."""
    raw = _tcp_info(sock)
    if raw is None:
        return SocketStats()
    state, received, out, in_, waiting, sent, again = _COUNTS.unpack_from(raw)
    if state in _RECEIVED_FIN or (state == _CLOSE and not (broken or _has_error(sock))):
        received -= 1
    if waiting and state in _QUEUED_FIN:
        waiting -= 1
    return SocketStats(sent - again + waiting, received, out, in_)


def idle_seconds(sock: _socket.socket) -> float | None:
    """For how long no data has gone either way; None where nobody knows."""
    raw = _tcp_info(sock)
    return None if raw is None else min(_IDLE.unpack_from(raw)) / 1000


def _has_error(sock: _socket.socket) -> bool:
    """Whether an RST or the like has ended it, which no call has told of yet."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _tcp_info(sock: _socket.socket) -> bytes | None:
    if sock.family not in (_socket.AF_INET, _socket.AF_INET6):
        return None
    try:
        raw = sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _SIZE)
    except OSError:
        return None
    return raw if len(raw) == _SIZE else None
