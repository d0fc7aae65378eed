"""One end of a connection in the hands of a script: plain bytes, or TLS.

Blocking, with a deadline for each call. TLS is Python's own, over memory, so that
the script may send half a record, close_notify without FIN, FIN without
close_notify, and bytes beneath TLS.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from typing import Any, Final, final

from conformance.hello import Hello, read_hello

__all__ = ["Wire"]

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_RECEIVE: Final = 65536


@final
class Wire:
    """A connection that was accepted; owns its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.hello = Hello()
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._held = b""
        # How the peer's sending ended, in order: close_notify, fin, rst.
        self.ended: list[str] = []

    # -- receiving

    def receive(self, until: float) -> bytes | None:
        """Some bytes; b"" where no more will come, None where time was up."""
        if self._held:
            held, self._held = self._held, b""
            return held
        if self._tls is None or self.ended:
            return self._receive_raw(until)
        while True:
            try:
                data = self._tls.read(_RECEIVE)
            except ssl.SSLWantReadError:
                self._flush(until)
                raw = self._receive_raw(until)
                if raw is None:
                    return None
                if not raw:
                    return b""
                self._incoming.write(raw)
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self.ended.append(f"broken ({error.reason or error})")
                return b""
            if not data:
                self.ended.append("close_notify")
            return data

    def _receive_raw(self, until: float) -> bytes | None:
        if self.ended and self.ended[-1] in ("fin", "rst"):
            return b""
        self._patience(until)
        try:
            data = self.sock.recv(_RECEIVE)
        except TimeoutError:
            return None
        except OSError:
            self.ended.append("rst")
            return b""
        if not data:
            self.ended.append("fin")
        return data

    def push_back(self, data: bytes) -> None:
        """Have `data` received again."""
        self._held = data + self._held

    # -- sending

    def send(self, data: bytes, until: float) -> bool:
        """Send all of `data`; False where time was up."""
        if self._tls is None:
            return self.send_raw(data, until)
        self._tls.write(data)
        return self._flush(until)

    def sealed(self, data: bytes) -> bytes:
        """The records that carry `data`, not sent."""
        assert self._tls is not None
        self._tls.write(data)
        return self._outgoing.read()

    def send_raw(self, data: bytes, until: float) -> bool:
        """Send bytes beneath TLS."""
        self._patience(until)
        try:
            self.sock.sendall(data)
        except TimeoutError:
            return False
        return True

    def _flush(self, until: float) -> bool:
        data = self._outgoing.read()
        return not data or self.send_raw(data, until)

    # -- TLS

    def shake_hands(self, context: ssl.SSLContext, until: float) -> str | None:
        """Be the server of a handshake; why it failed, or None."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        raw, self._held = self._held, b""
        self._incoming.write(raw)
        first = bytearray(raw)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                with contextlib.suppress(OSError):
                    self._flush(until)
                return error.reason or str(error)
            else:
                self._flush(until)
                return None
            with contextlib.suppress(OSError):
                self._flush(until)
            data = self._receive_raw(until)
            if data is None:
                return "no answer in time"
            if not data:
                return f"the connection ended: {', '.join(self.ended)}"
            if not self.hello.complete:
                first += data
                self.hello = read_hello(bytes(first))
            self._incoming.write(data)

    def asked(self) -> dict[str, Any]:
        """What the client has asked for in its ClientHello."""
        return {
            "sni": self.hello.server_name,
            "offered": list(self.hello.protocols),
        }

    def facts(self) -> dict[str, Any]:
        """What was negotiated, and what the client had asked for."""
        assert self._tls is not None
        certificate: Any = self._tls.getpeercert() or {}
        subject = dict(pair[0] for pair in certificate.get("subject", ()))
        return {
            "how": "tls",
            "version": self._tls.version(),
            **self.asked(),
            "alpn": self._tls.selected_alpn_protocol(),
            "client": subject.get("commonName"),
        }

    def close_notify(self, until: float) -> None:
        """Send close_notify, and nothing else."""
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush(until)

    # -- ending

    def fin(self) -> None:
        """Half-close: FIN."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def rst(self) -> None:
        """Reset the connection."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.sock.close()

    def close(self) -> None:
        """Close the socket, if that was not done."""
        self.sock.close()

    def _patience(self, until: float) -> None:
        self.sock.settimeout(max(0.001, until - time.monotonic()))
