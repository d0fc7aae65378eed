"""Connections: one file descriptor, and the bytes that go through it.

A connection tries, now, and says what came of it: the result, or the `Want` it
has to wait for. It never waits, starts nothing and tells nobody; failures are
SocketErrors and final. `PlainConnection` moves the bytes as they are,
`TlsConnection` through OpenSSL, which reads and writes the same fd itself.

TLS in detail:

- OpenSSL's calls are made on the SSL object of pyOpenSSL's connection. The
  wrapped `recv` allocates and copies once more and raises an exception for each
  "not yet"; on small messages that is a third of the cost.
- A receive takes several records at once, up to its limit. An error behind
  records that were good is kept for the next call.
- A write that had to stop must be repeated with the same bytes. Long data goes
  in slices so that little is held back; the slice in flight is kept here, and
  whatever the caller passes again begins with it.
- A FIN without close_notify is an attack or a careless peer: SocketError with
  the code "truncated", or the end, where the user says so.
"""

from __future__ import annotations

import contextlib
import socket as _socket
import struct
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib, no_zero_allocator

from . import tls
from .errors import SocketError, os_error
from .linger import unsent
from .runtime.gate import Want
from .streams.channel import Channel

if TYPE_CHECKING:
    from .tls import TlsDetails, TlsInfo

__all__ = ["Connection", "PlainConnection", "TlsConnection"]

# Bytes that one receive takes at most, and that go to OpenSSL in one piece.
_RECEIVE: Final = 65536
_SLICE: Final = 131072
# Bytes in the longest record (RFC 8446, section 5.1).
_RECORD: Final = 16384
# A record of at least so many bytes is taken for bulk.
_BULKY: Final = 8192
# How many reads look for tickets; servers send two as a rule.
_TICKETS: Final = 2
_INT_MAX: Final = 2**31 - 1
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Connection(Channel, Protocol):
    """A channel over a socket of the operating system, which it owns."""

    @property
    def socket(self) -> _socket.socket:
        """The operating system's socket; non-blocking."""

    def close(self) -> None:
        """Close the fd. TCP answers with RST if the peer sends, or has sent, more."""

    def reset(self) -> None:
        """Close the fd; on TCP with RST, and whatever is in flight is lost."""

    def release(self) -> _socket.socket:
        """Let go of the socket, unclosed; the connection is of no use any more."""


class _Fd:
    """What both connections do with their socket."""

    __slots__ = ("socket",)

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket

    def flush(self) -> int | Want:
        return 0

    def unsent(self) -> int:
        return unsent(self.socket)

    def _send_fin(self) -> None:
        try:
            self.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass  # ENOTCONN: the peer has reset the connection; nobody to tell

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        # A unix socket knows no RST: its peer reads the end, or ECONNRESET where
        # input was left unread (unix(7)).
        with contextlib.suppress(OSError):
            self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _NO_LINGER)
        self.socket.close()

    def release(self) -> _socket.socket:
        return self.socket


@final
class PlainConnection(_Fd):
    """Bytes as they are."""

    __slots__ = ()

    def receive(self, limit: int, /) -> bytes | Want:
        try:
            return self.socket.recv(limit)
        except BlockingIOError:
            return Want.READ
        except OSError as error:
            raise os_error("receive", error) from error

    def receive_into(self, view: memoryview, /) -> int | Want:
        try:
            return self.socket.recv_into(view)
        except BlockingIOError:
            return Want.READ
        except OSError as error:
            raise os_error("receive", error) from error

    def send(self, data: bytes | memoryview, /) -> int | Want:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return Want.WRITE
        except OSError as error:
            raise os_error("send", error) from error

    def finish(self) -> Want | None:
        self._send_fin()
        return None

    cut = finish


class _Scratch(threading.local):
    """One receive buffer a thread: a call fills it and copies out of it at once."""

    def __init__(self) -> None:
        self.buffer = no_zero_allocator("char[]", _RECEIVE)


_scratch: Final = _Scratch()


@final
class TlsConnection(_Fd):
    """Bytes through OpenSSL."""

    __slots__ = (
        "_detour",
        "_fresh",
        "_in_flight",
        "_over",
        "_ssl",
        "_stash",
        "_tls",
        "_tolerant",
    )

    def __init__(
        self,
        connection: SSL.Connection,
        socket: _socket.socket,
        *,
        tolerate_truncation: bool = False,
    ) -> None:
        super().__init__(socket)
        self._tls = connection
        self._ssl: Any = connection._ssl
        self._tolerant = tolerate_truncation
        # pyOpenSSL sets it: one call would go on for as long as the peer sends
        # tickets and key updates. Without it each costs the peer a turn of the
        # event loop, which other tasks share.
        lib.SSL_clear_mode(self._ssl, lib.SSL_MODE_AUTO_RETRY)
        # What OpenSSL was given and could not send all of.
        self._in_flight: bytes | None = None
        # Round the fd, while records from elsewhere must be sent first.
        self._detour: tls.Detour | None = None
        # The failure that stood behind data which was delivered first.
        self._stash: SocketError | None = None
        self._over = False
        # Reads that are tried once more, for what comes first may be a ticket.
        self._fresh = _TICKETS

    def handshake(self) -> Want | None:
        """Go on with the handshake; None when it is complete."""
        lib.ERR_clear_error()
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except Exception as error:
            failure = tls.tls_error("complete the TLS handshake", error, self._tls)
            raise failure from failure.__cause__
        return None

    def finish_handshake(self, offered: Sequence[str], required: bool) -> str | None:
        """Check what was negotiated: the protocol, or None. SocketError "alpn"."""
        return tls.finish_handshake(self._tls, offered=offered, alpn_required=required)

    def info(self) -> TlsInfo:
        """What was negotiated, and with whom."""
        return tls.tls_info(self._tls)

    def details(self) -> TlsDetails:
        """The same in the early draft's words, certificates and session included."""
        return tls.tls_details(self._tls)

    def owe(self, records: bytes) -> None:
        """Send `records`, made by this connection's SSL, before anything else."""
        if records:
            self._detour = tls.Detour(self._ssl, self.socket, records)

    def rejoin(self) -> bytes:
        """Let the SSL use its fd again: what it had to deliver first.

        Nothing may be owed. SocketError for what a receive would raise next.
        """
        if self._stash is not None:
            raise self._stash
        parts = []
        while self._detour is not None:
            lib.ERR_clear_error()
            count = lib.SSL_read(self._ssl, _scratch.buffer, _RECEIVE)
            if count > 0:
                parts.append(ffi.buffer(_scratch.buffer, count)[:])
            elif self._why(count) is None:
                # close_notify: what was fetched behind it is nobody's.
                self._detour.leave()
                self._detour = None
            elif self._detour.end():
                self._detour = None
        return b"".join(parts)

    def flush(self) -> int | Want:
        if self._detour is not None:
            if not self._detour.pay():
                return Want.WRITE
            if self._detour.end():
                self._detour = None
        return 0

    def receive(self, limit: int, /) -> bytes | Want:
        if self._over:
            return b""
        if self._stash is not None:
            raise self._stash
        if self._detour is not None:
            self.flush()
        buffer = _scratch.buffer
        limit = min(limit, _RECEIVE)
        lib.ERR_clear_error()
        total = count = lib.SSL_read(self._ssl, buffer, limit)
        while count <= 0:
            want = self._why(count)
            if want is None:
                return b""
            if not self._worth_another(want):
                return want
            total = count = lib.SSL_read(self._ssl, buffer, limit)
        # Only a sender of bulk fills its records; others wait for an answer.
        while count >= _BULKY and total < limit:
            count = lib.SSL_read(self._ssl, buffer + total, limit - total)
            if count <= 0:
                self._keep(count)
                break
            total += count
        data: bytes = ffi.buffer(buffer, total)[:]
        return data

    def receive_into(self, view: memoryview, /) -> int | Want:
        if self._over:
            return 0
        if self._stash is not None:
            raise self._stash
        if self._detour is not None:
            self.flush()
        lib.ERR_clear_error()
        with ffi.from_buffer(view, require_writable=True) as target:
            size = min(len(view), _INT_MAX)
            count: int = lib.SSL_read(self._ssl, target, size)
            while count <= 0:
                want = self._why(count)
                if want is None:
                    return 0
                if self._detour is None or not self._detour.fetch():
                    return want
                count = lib.SSL_read(self._ssl, target, size)
        return count

    def receive_records(self, view: memoryview, /) -> tuple[int, int] | Want:
        """Fill `view` with whole records: how many bytes, and how many records.

        `view` must have room for one. (0, 0) at the end.
        """
        got = self.receive_into(view)
        if isinstance(got, Want):
            return got
        total, records = got, int(got > 0)
        while got and len(view) - total >= _RECORD:
            try:
                got = self.receive_into(view[total:])
            except SocketError as error:
                self._stash = error
                break
            if isinstance(got, Want):
                break
            total += got
            records += got > 0
        return total, records

    def send(self, data: bytes | memoryview, /) -> int | Want:
        if self._detour is not None:
            if self.flush():
                return Want.WRITE
            # Into memory goes no more than a slice: what is owed is to stay small.
            data = memoryview(data)[:_SLICE]
        length = len(data)
        sent = 0
        lib.ERR_clear_error()
        while sent < length:
            piece: Any = self._in_flight
            if piece is None:
                piece = data
                if length > _SLICE:
                    piece = memoryview(data)[sent : sent + _SLICE]
            count = self._write(piece)
            if count <= 0:
                want = self._why(count)
                if want is None:
                    raise SocketError(
                        "could not send: the peer has closed the connection",
                        code="closed",
                    )
                if self._in_flight is None:
                    self._in_flight = bytes(piece)
                return sent or want
            self._in_flight = None
            sent += count
        if self._detour is not None:
            self.flush()
        return sent

    def _write(self, piece: Any) -> int:
        if piece.__class__ is bytes:
            return int(lib.SSL_write(self._ssl, piece, len(piece)))
        with ffi.from_buffer(piece) as source:
            return int(lib.SSL_write(self._ssl, source, len(piece)))

    def finish(self) -> Want | None:
        lib.ERR_clear_error()
        result = lib.SSL_shutdown(self._ssl)
        if result < 0:
            if lib.SSL_get_error(self._ssl, result) == lib.SSL_ERROR_WANT_WRITE:
                return Want.WRITE
            # The connection is broken, which is for a read or write to say.
            lib.ERR_clear_error()
        if self.flush():
            return Want.WRITE
        self._send_fin()
        return None

    def cut(self) -> Want | None:
        if self._in_flight is not None:
            # From here on a write returns when one record is out.
            lib.SSL_set_mode(self._ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
            lib.ERR_clear_error()
            count = self._write(self._in_flight)
            if count <= 0 and self._why(count) is Want.WRITE:
                return Want.WRITE
            self._in_flight = None
        if self.flush():
            return Want.WRITE
        self._send_fin()
        return None

    def close(self) -> None:
        try:
            self._end_session()
        finally:
            super().close()

    def reset(self) -> None:
        try:
            self._end_session()
        finally:
            super().reset()

    def release(self) -> _socket.socket:
        self._end_session()
        return super().release()

    def _end_session(self) -> None:
        if tls.keeps_sessions(self._tls):
            # TLS 1.3 sends its tickets after the handshake, each read takes one.
            for _ in range(_TICKETS):
                lib.ERR_clear_error()
                lib.SSL_read(self._ssl, _scratch.buffer, _RECEIVE)
        tls.store_session(self._tls)

    def _worth_another(self, want: Want) -> bool:
        """Whether a read that got nothing should be tried once more."""
        if self._detour is not None:
            return want is Want.READ and self._detour.fetch()
        if not self._fresh:
            return False
        self._fresh -= 1
        return True

    def _keep(self, count: int) -> None:
        """Remember why there is no more behind what was just read."""
        try:
            self._why(count)
        except SocketError as error:
            self._stash = error

    def _why(self, count: int) -> Want | None:
        """Why a call did nothing: what it wants, or None at the end."""
        reason = lib.SSL_get_error(self._ssl, count)
        if reason == lib.SSL_ERROR_WANT_READ:
            return Want.READ
        if reason == lib.SSL_ERROR_WANT_WRITE:
            return Want.WRITE
        if reason == lib.SSL_ERROR_ZERO_RETURN:
            return None
        # OpenSSL 4 speaks of an error where close_notify follows user_canceled
        # (RFC 8446, section 6.1).
        ended = lib.SSL_get_shutdown(self._ssl) & lib.SSL_RECEIVED_SHUTDOWN
        if ended and count == 0 and reason == lib.SSL_ERROR_SYSCALL:
            return None
        try:
            self._tls._raise_ssl_error(self._ssl, count)
        except Exception as error:
            failure = tls.tls_error("use the TLS connection", error, self._tls)
            if failure.code == "truncated" and self._tolerant:
                # OpenSSL takes it for an error; it would not say "end" again.
                self._over = True
                return None
            raise failure from failure.__cause__
        return None
