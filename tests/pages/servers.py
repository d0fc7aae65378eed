"""The small servers of the documentation's internet, one thread a connection."""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from .world import World

__all__ = ["connect_proxy", "echo", "http", "running", "silent", "socks_proxy", "strip"]

Handler = Callable[[socket.socket], None]

USER: Final = "ada"
PASSWORD: Final = "lovelace"


@contextmanager
def running(handle: Handler, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """`handle` for each connection to the port of 127.0.0.1 that this gives.

    With a `context` it is given the connection once it has shaken hands.
    """

    class Conversation(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                if context is None:
                    handle(self.request)
                    return
                with context.wrap_socket(self.request, server_side=True) as secure:
                    handle(secure)
                    secure.unwrap()

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            raise AssertionError("a server of the documentation failed")

    with Server(("127.0.0.1", 0), Conversation) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


# -- conversations


def echo(sock: socket.socket) -> None:
    """Send everything back, and the end after the end."""
    while data := sock.recv(65536):
        sock.sendall(data)


def silent(sock: socket.socket) -> None:
    """Say nothing until the peer has gone."""
    while sock.recv(65536):
        pass


def http(sock: socket.socket) -> None:
    """Answer one request in HTTP/1.1, with the name in its Host header."""
    head = _head(sock)
    if not head:
        return
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    body = b"Hello from %s!\n" % fields[b"Host"]
    if isinstance(sock, ssl.SSLSocket) and (peer := sock.getpeercert()):
        subject: Any = peer["subject"]
        names = dict(name for names in subject for name in names)
        body = b"Hello, %s!\n" % names["commonName"].encode()
    sock.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    )


def strip(sock: socket.socket) -> None:
    """A mail server of which somebody has cut off STARTTLS."""
    sock.sendall(b"220 stripped.example.com ESMTP\r\n")
    if _line(sock):
        sock.sendall(b"250-stripped.example.com\r\n250 8BITMIME\r\n")
    silent(sock)


# -- proxies


def connect_proxy(world: World) -> Handler:
    """An HTTP proxy (RFC 9110 section 9.3.6) that asks for a password."""
    authorization = b64encode(f"{USER}:{PASSWORD}".encode())

    def handle(sock: socket.socket) -> None:
        head = _head(sock)
        target = head.split(b" ")[1].decode()
        if b"Basic " + authorization not in head:
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        try:
            onward = socket.create_connection(world.lookup(host, int(port)))
        except OSError:
            sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _join(sock, onward)

    return handle


def socks_proxy(world: World) -> Handler:
    """A SOCKS5 proxy (RFC 1928) without authentication."""

    def handle(sock: socket.socket) -> None:
        _, count = _exactly(sock, 2)
        _exactly(sock, count)
        sock.sendall(b"\x05\x00")
        kind = _exactly(sock, 4)[3]
        if kind == 1:
            host = socket.inet_ntoa(_exactly(sock, 4))
        else:
            host = _exactly(sock, _exactly(sock, 1)[0]).decode()
        (port,) = struct.unpack("!H", _exactly(sock, 2))
        onward = socket.create_connection(world.lookup(host, port))
        sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
        _join(sock, onward)

    return handle


def _join(one: socket.socket, other: socket.socket) -> None:
    with other:
        back = threading.Thread(target=_pour, args=(other, one))
        back.start()
        _pour(one, other)
        back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


# -- reading


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("the client hung up")
        data += more
    return data


def _until(sock: socket.socket, end: bytes) -> bytes:
    """What comes before `end`; b"" if the client hangs up first."""
    data = b""
    while not data.endswith(end):
        more = sock.recv(1)
        if not more:
            return b""
        data += more
    return data.removesuffix(end)


def _head(sock: socket.socket) -> bytes:
    return _until(sock, b"\r\n\r\n")


def _line(sock: socket.socket) -> bytes:
    return _until(sock, b"\r\n")
