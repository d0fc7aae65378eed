"""One attempt: a non-blocking socket, and connect(2) until it is decided.

connect(2) is called a second time at once, because over loopback and between
containers the handshake is over when the first call returns: that spares the
turn round the event loop which a wait costs. After a wait only connect(2) tells
of success, so that a wake-up without news cannot pass a socket off as connected;
of a failure it tells too, or SO_ERROR does.

Where the target is a free ephemeral port of this very host, the kernel may pick
it as the source port too, and TCP then connects the socket to itself
(simultaneous open, RFC 9293 section 3.5). Whoever asked for a service there did
not find one, so that counts as refused.

Whoever opens a socket here owns it; the coroutines below close it themselves
unless they return it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable
from typing import Final, TypeAlias

from ..runtime import Runtime

__all__ = [
    "Prepare",
    "TcpTarget",
    "close",
    "connect_tcp",
    "connect_unix",
    "decided",
    "finish_tcp",
    "open_tcp",
    "start_tcp",
    "tcp_target",
]

TcpTarget: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"
# What is done to each socket before it connects: options, a local address.
Prepare: TypeAlias = Callable[[socket.socket], object]

_STREAM: Final = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
_STARTS_BLOCKING: Final = _STREAM == socket.SOCK_STREAM
_CONNECTED: Final = frozenset((0, errno.EISCONN))
_UNDER_WAY: Final = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))
_NUMBER: Final = re.compile(r"[0-9]+")
_LARGEST_SCOPE: Final = 2**32 - 1
# Seconds between attempts on a unix socket whose backlog is full.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1


def tcp_target(ip: str, port: int) -> TcpTarget:
    """The argument of connect() for a numeric address; OSError for a bad zone id."""
    bare, percent, zone = ip.partition("%")
    if not percent:
        return (ip, port)
    scope = socket.if_nametoindex(zone) if not _NUMBER.fullmatch(zone) else int(zone)
    if scope > _LARGEST_SCOPE:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return (bare, port, 0, scope)


def _stream_socket(family: int) -> socket.socket:
    sock = socket.socket(family, _STREAM)
    if _STARTS_BLOCKING:
        sock.setblocking(False)
    return sock


def open_tcp(family: int, prepare: Prepare | None = None) -> socket.socket:
    """A socket for one attempt: non-blocking, close-on-exec, TCP_NODELAY.

    `prepare` has it before anybody else, and what it raises is raised.
    """
    sock = _stream_socket(family)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if prepare is not None:
            prepare(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def decided(sock: socket.socket, target: TcpTarget) -> bool:
    """Start or look after the connecting of `sock`: whether it is connected now.

    False while it is under way; raises the OSError of a failure.
    """
    code = sock.connect_ex(target)
    if code in _UNDER_WAY:
        code = sock.connect_ex(target)
        if code not in _CONNECTED:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or code
    if code in _CONNECTED:
        if sock.getsockname()[1] == target[1] and _is_own_peer(sock):
            raise ConnectionRefusedError(
                errno.ECONNREFUSED,
                "nothing listens there (the connection met itself)",
            )
        return True
    if code in _UNDER_WAY:
        return False
    raise OSError(code, os.strerror(code))


def _is_own_peer(sock: socket.socket) -> bool:
    return bool(sock.getsockname() == sock.getpeername())


def close(runtime: Runtime, sock: socket.socket) -> None:
    """Give up `sock`, whoever may wait for it."""
    runtime.notify_closing(sock.fileno())
    sock.close()


def start_tcp(
    runtime: Runtime,
    family: int,
    ip: str,
    port: int,
    prepare: Prepare | None = None,
) -> tuple[socket.socket, TcpTarget | None]:
    """Begin to connect to one numeric address; OSError if that fails at once.

    The target comes with a socket that is not connected yet: for `finish_tcp`.
    """
    target = tcp_target(ip, port)
    sock = open_tcp(family, prepare)
    try:
        return sock, None if decided(sock, target) else target
    except BaseException:
        close(runtime, sock)
        raise


async def finish_tcp(runtime: Runtime, sock: socket.socket, target: TcpTarget) -> None:
    """Wait until `sock` is connected; OSError if that fails, and `sock` is closed."""
    try:
        await runtime.wait_writable(sock.fileno())
        while not decided(sock, target):
            await runtime.wait_writable(sock.fileno())
    except BaseException:
        close(runtime, sock)
        raise


async def connect_tcp(
    runtime: Runtime,
    family: int,
    ip: str,
    port: int,
    prepare: Prepare | None = None,
) -> socket.socket:
    """Connect to one numeric address; OSError if that fails.

    Does not suspend where the connection is there at once.
    """
    sock, target = start_tcp(runtime, family, ip, port, prepare)
    if target is not None:
        await finish_tcp(runtime, sock, target)
    return sock


async def connect_unix(runtime: Runtime, path: str) -> socket.socket:
    """Connect to the unix socket at `path`; OSError if that fails.

    While the listener's backlog is full (EAGAIN, unix(7)) nothing can be waited
    for: it is tried again, at growing intervals, until the caller gives up.
    """
    sock = _stream_socket(socket.AF_UNIX)
    pause = _FIRST_PAUSE
    try:
        while code := sock.connect_ex(path):
            if code != errno.EAGAIN:
                raise OSError(code, os.strerror(code))
            with runtime.scope(pause):
                await runtime.park({})
            pause = min(2 * pause, _LONGEST_PAUSE)
    except BaseException:
        close(runtime, sock)
        raise
    return sock
