"""The one server that every client talks to, a process of its own.

`python -m bench.peer CERT KEY PAYLOAD` listens on eight loopback ports, four roles
plain and four under TLS 1.3, and prints them as one JSON line. For each line
"report" on standard input it prints the counters since the last one; it ends when
standard input does.

| role   | does |
|---|---|
| echo   | sends back what comes |
| source | hears 9 bytes (flag, length), sends that many bytes of the payload |
| sink   | hears 9 bytes (check, length), takes that many bytes, answers with their number and, where check is set, their sha256 (else zeros) |
| greet  | sends one byte |

and then waits for the end of the connection. One plain thread a connection,
blocking calls on large buffers: system calls and OpenSSL run without the GIL, and
one connection is busy at a time.
"""  # noqa: E501  (the table)

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ROLES = ("echo", "source", "sink", "greet")
HEADER = struct.Struct("!?Q")
REPLY = struct.Struct("!Q32s")
BUFFER = 1 << 20


class Counters:
    """What happened since the last report."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.connections = 0
        self.handshakes = 0
        self.resumed = 0
        self.ciphers: set[str] = set()

    def connected(self, connection: socket.socket) -> None:
        """Count a connection whose handshake, if it has one, is done."""
        with self._lock:
            self.connections += 1
            if isinstance(connection, ssl.SSLSocket):
                self.handshakes += 1
                self.resumed += bool(connection.session_reused)
                cipher = connection.cipher()
                self.ciphers.add(f"{connection.version()} {cipher and cipher[0]}")

    def report(self) -> dict[str, object]:
        """The counters, which start anew."""
        with self._lock:
            result: dict[str, object] = {
                "connections": self.connections,
                "handshakes": self.handshakes,
                "resumed": self.resumed,
                "ciphers": sorted(self.ciphers),
            }
            self._clear()
            return result


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """`size` bytes; EOFError where fewer come."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError("the client ended early")
        data += more
    return data


def echo(connection: socket.socket, payload: memoryview) -> None:
    """Send back what comes."""
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    while count := connection.recv_into(buffer):
        connection.sendall(view[:count])


def source(connection: socket.socket, payload: memoryview) -> None:
    """Send as many bytes of the payload, round and round, as the client asks for."""
    _, left = HEADER.unpack(receive_exactly(connection, HEADER.size))
    while left > 0:
        connection.sendall(payload[: min(left, len(payload))])
        left -= len(payload)


def sink(connection: socket.socket, payload: memoryview) -> None:
    """Take as many bytes as announced and answer with number and digest."""
    check, left = HEADER.unpack(receive_exactly(connection, HEADER.size))
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    total, digest = 0, hashlib.sha256()
    while left > 0:
        count = connection.recv_into(buffer, min(left, BUFFER))
        if not count:
            raise EOFError("the client ended early")
        if check:
            digest.update(view[:count])
        total += count
        left -= count
    connection.sendall(REPLY.pack(total, digest.digest() if check else bytes(32)))


def greet(connection: socket.socket, payload: memoryview) -> None:
    """Send one byte."""
    connection.sendall(b"!")


SERVE: dict[str, Callable[[socket.socket, memoryview], None]] = {
    "echo": echo,
    "source": source,
    "sink": sink,
    "greet": greet,
}


def serve(
    role: str,
    connection: socket.socket,
    context: ssl.SSLContext | None,
    payload: memoryview,
    counters: Counters,
) -> None:
    """One connection from its handshake to its end.

    How clients end is theirs to choose (close_notify, FIN, RST), and none of it
    is an error here: whether all bytes came is what their answers are checked for.
    """
    with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
            stack.callback(connection.close)
        counters.connected(connection)
        SERVE[role](connection, payload)
        while connection.recv(65536):
            pass
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()


def listen(
    role: str,
    context: ssl.SSLContext | None,
    payload: memoryview,
    counters: Counters,
) -> int:
    """Serve `role` on a port of its own, which is returned."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            arguments = (role, connection, context, payload, counters)
            threading.Thread(target=serve, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def main(certificate: str, key: str, payload: str) -> None:
    """Serve until standard input ends."""
    threading.stack_size(256 * 1024)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    view = memoryview(Path(payload).read_bytes())
    counters = Counters()
    ports = {
        mode: {role: listen(role, each, view, counters) for role in ROLES}
        for mode, each in (("plain", None), ("tls", context))
    }
    print(json.dumps(ports), flush=True)
    for _ in sys.stdin:
        print(json.dumps(counters.report()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
