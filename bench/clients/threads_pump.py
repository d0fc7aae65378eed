"""Threads: Python's ssl on sockets that block, a thread a connection.

One thread serves both directions, since an SSLSocket is for one thread at a time.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading

from bench.clients.pump import BUFFER, Pump, read_pump


def forward(front: socket.socket, back: socket.socket) -> None:
    """Until one side ends."""
    others = {front: back, back: front}
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    while True:
        ready, _, _ = select.select([front, back], [], [])
        for source in ready:
            while True:
                count = source.recv_into(buffer)
                if not count:
                    return
                others[source].sendall(view[:count])
                if not (isinstance(source, ssl.SSLSocket) and source.pending()):
                    break


def serve(pump: Pump) -> None:
    """Bridge without an end."""
    context = pump.context()

    def one(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            front = sock
            if context is not None:
                front = context.wrap_socket(sock, server_side=True)
            stack.enter_context(front)
            back = socket.create_connection(("127.0.0.1", pump.backend))
            stack.enter_context(back)
            back.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            forward(front, back)

    listener = socket.create_server(("127.0.0.1", pump.port), backlog=128)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    serve(read_pump())
