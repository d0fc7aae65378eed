"""The demonstration's plain and TLS server, a process of its own.

`python -m wsockets.cli.demo.peer CHAIN KEY` prints the ports of both as a JSON
object and serves until standard input ends. A client sends lines: `hello NAME`
is answered with a greeting, `send N` with N bytes. It is a process of its own so
that its work is not counted as the client's; it is blocking sockets and threads
of Python's own library.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading

_BLOCK = memoryview(os.urandom(1 << 20))
_ALPN = ["demo/1", "http/1.1"]


def serve(connection: socket.socket, context: ssl.SSLContext | None) -> None:
    """Answer one client, whatever becomes of it."""
    # How a client leaves is its own affair.
    with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = "plaintext"
        if context is not None:
            secured = context.wrap_socket(connection, server_side=True)
            stack.callback(secured.close)
            protocol = f"{secured.version()} and {secured.selected_alpn_protocol()}"
            connection = secured
        lines = stack.enter_context(connection.makefile("rb"))
        for line in lines:
            verb, _, argument = line.decode().strip().partition(" ")
            if verb == "hello":
                connection.sendall(f"hello {argument}, over {protocol}\n".encode())
            elif verb == "send":
                send(connection, int(argument))
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()


def send(connection: socket.socket, size: int) -> None:
    """`size` bytes that do not compress."""
    while size > 0:
        connection.sendall(_BLOCK[:size])
        size -= len(_BLOCK)


def listen(context: ssl.SSLContext | None) -> int:
    """Serve on a free port of 127.0.0.1, which is returned."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(
                target=serve, args=(connection, context), daemon=True
            ).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def main(chain: str, key: str) -> None:
    """Serve until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(_ALPN)
    ports = {"plain": listen(None), "tls": listen(context)}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
