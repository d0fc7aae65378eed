"""Peers that follow a script: one function in a thread for each connection.

A script is given the connection as a blocking socket. It is plain sequential
code, and what it asserts is part of the test: the first failure of a script is
raised when the block that serves it ends.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import attrs
import trio

from tests import certificates

__all__ = [
    "WITHIN",
    "Script",
    "exactly",
    "happens",
    "reset",
    "scripted",
    "secured",
    "to_the_end",
]

# Seconds in which anything that must happen has happened, on a loaded machine.
WITHIN = 20.0

Script = Callable[[socket.socket], None]


@attrs.define(eq=False)
class _Server:
    script: Script
    listener: socket.socket
    threads: list[threading.Thread] = attrs.field(factory=list)
    connections: list[socket.socket] = attrs.field(factory=list)
    failures: list[BaseException] = attrs.field(factory=list)
    ending: bool = False

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return  # it was shut down
            sock.settimeout(WITHIN)
            thread = threading.Thread(target=self.follow, args=(sock,), name="script")
            self.connections.append(sock)
            self.threads.append(thread)
            thread.start()

    def follow(self, sock: socket.socket) -> None:
        with sock:
            try:
                self.script(sock)
            except BaseException as error:
                if not self.ending:
                    self.failures.append(error)


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """`script` for each connection to the "127.0.0.1:port" that this gives.

    At the end what is still open is shut down, so that no script waits on.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(script, listener)
        acceptor = threading.Thread(target=server.accept, name="acceptor")
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            # The scripts have their say before they are cut off.
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in server.threads:
                thread.join(WITHIN)
            server.ending = True
            for sock in server.connections:
                if sock.fileno() >= 0:
                    sock.shutdown(socket.SHUT_RDWR)
            for thread in server.threads:
                thread.join()
    if server.failures:
        raise server.failures[0]
