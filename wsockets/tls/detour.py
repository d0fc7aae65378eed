"""TLS through memory, while older records still have to be sent.

A connection that comes back from a bridge may owe its peer records which the
kernel did not take. They must leave before anything that OpenSSL writes from now
on, and OpenSSL may write whenever it reads: the answer to a KeyUpdate, an alert.
On its fd it would write past them. So until the debt is paid both of its
directions go through memory: what it reads is fetched for it, what it writes
joins the debt. Then it gets its fd back.
"""

from __future__ import annotations

import socket as _socket
from typing import Any, Final, final

from ..errors import os_error
from .openssl import ffi, lib

__all__ = ["Detour"]

# Bytes fetched at once: a record and a little, so that little is left in memory.
_FETCH: Final = 16384 + 256 + 5


@final
class Detour:
    """The way round the fd of one SSL; begins with records to send."""

    __slots__ = ("_owed", "_reads", "_socket", "_ssl", "_writes")

    def __init__(self, ssl: Any, socket: _socket.socket, owed: bytes) -> None:
        self._ssl = ssl
        self._socket = socket
        self._owed = bytearray(owed)
        # They belong to the SSL, which frees them when it gets its fd back.
        self._reads = lib.BIO_new(lib.BIO_s_mem())
        self._writes = lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(ssl, self._reads, self._writes)

    def fetch(self) -> bool:
        """See that OpenSSL has something to read; False if nothing has arrived.

        To be called when it has asked for more.
        """
        if self._unread():
            # It wanted to come back after a ticket or a key update.
            return True
        try:
            data = self._socket.recv(_FETCH)
        except BlockingIOError:
            return False
        except OSError as error:
            raise os_error("receive", error) from error
        if data:
            lib.BIO_write(self._reads, data, len(data))
        else:
            lib.BIO_set_mem_eof_return(self._reads, 0)
        return True

    def pay(self) -> bool:
        """Send what is owed; whether all of it has left."""
        self._collect()
        try:
            while self._owed:
                with memoryview(self._owed) as rest:
                    sent = self._socket.send(rest)
                del self._owed[:sent]
        except BlockingIOError:
            return False
        except OSError as error:
            raise os_error("send", error) from error
        return True

    def end(self) -> bool:
        """Once all is paid: give OpenSSL its fd back, unless it has yet to read."""
        if self._unread():
            return False
        self.leave()
        return True

    def leave(self) -> None:
        """Give OpenSSL its fd back, whatever it has not read. All is paid."""
        lib.SSL_set_fd(self._ssl, self._socket.fileno())

    def _unread(self) -> int:
        """How many bytes were fetched that OpenSSL has not taken."""
        return int(lib.BIO_get_mem_data(self._reads, ffi.new("char **")))

    def _collect(self) -> None:
        length = lib.BIO_get_mem_data(self._writes, ffi.new("char **"))
        if length > 0:
            taken = ffi.new("char[]", length)
            lib.BIO_read(self._writes, taken, length)
            self._owed += ffi.buffer(taken, length)
