"""The native engine on trial: it must do, in this process, what it is there for.

It is handed SSL objects of a library that it was not built with. So before anybody's
bytes are given to it, it bridges a TLS connection between the two ends of a
socketpair, both ways, is stopped, and the connection must work on. A few ms.
"""

from __future__ import annotations

import os
import select
import socket as _socket
from contextlib import ExitStack
from typing import Final

from ..connection import PlainConnection, TlsConnection
from ..runtime.gate import Want
from ..tls import TlsOptions, client_connection, server_connection, tls_names
from . import _native
from .native import session_of
from .work import End, Work

__all__ = ["TrialError", "try_native"]

# Seconds that each step may take; long, for a machine that is busy.
_PATIENCE: Final = 5.0
# The number of the reason "stopped", in session.h.
_STOPPED: Final = 6
# More than one record.
_DATA: Final = bytes(range(256)) * 100


class TrialError(Exception):
    """The native engine did something else than it was asked to."""


def try_native() -> None:
    """Raises TrialError, SocketError or OSError where the engine does not work."""
    with ExitStack() as stack:

        def pair() -> tuple[_socket.socket, _socket.socket]:
            near, far = _socket.socketpair()
            for sock in (near, far):
                stack.enter_context(sock).setblocking(False)
            return near, far

        near, far = pair()
        ours, theirs = _shake(near, far)
        sink, other = pair()
        outside = PlainConnection(other)
        queue = _native.Queue()
        stack.callback(queue.close)
        work = Work(_lend(near, ours), _lend(sink))
        session = session_of(work)
        stack.callback(session.abandon)
        session.start(queue, work)
        _send(theirs, _DATA)
        _expect(_DATA, outside)
        _send(outside, _DATA)
        _expect(_DATA, theirs)
        session.stop(_PATIENCE)
        _wait(session.fileno())
        report = session.report()
        if (
            report is None
            or report[2:4] != (_STOPPED, 0)
            or any(map(any, session.remains()))
        ):
            raise TrialError(f"it ended with {report}")
        queue.take()
        _send(theirs, b"again")
        _expect(b"again", ours)
        _send(ours, b"again")
        _expect(b"again", theirs)


def _shake(
    near: _socket.socket, far: _socket.socket
) -> tuple[TlsConnection, TlsConnection]:
    """A client and a server; a key is cheaper than a certificate."""
    options = TlsOptions(psk=(b"trial", os.urandom(32)))
    client = TlsConnection(client_connection(options, tls_names(None), (), near), near)
    server = TlsConnection(server_connection(options, (), far), far)
    for _ in range(10):
        wants = client.handshake(), server.handshake()
        if wants == (None, None):
            return client, server
    raise TrialError("the handshake makes no progress")


def _lend(sock: _socket.socket, connection: TlsConnection | None = None) -> End:
    fd = os.dup(sock.fileno())
    return End(fd, fd, connection)


def _send(to: PlainConnection | TlsConnection, data: bytes) -> None:
    if to.send(data) != len(data):
        raise TrialError("the kernel has no room")


def _expect(data: bytes, channel: PlainConnection | TlsConnection) -> None:
    """Receive exactly `data`."""
    got = b""
    while len(got) < len(data):
        chunk = channel.receive(65536)
        if chunk is Want.READ:
            _wait(channel.socket.fileno())
        elif isinstance(chunk, Want) or not chunk:
            break
        else:
            got += chunk
    if got != data:
        raise TrialError(f"{len(data)} bytes went in and others came out")


def _wait(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(_PATIENCE * 1000):
        raise TrialError("nothing happens")
