"""The floor: AES-256-GCM of the library's OpenSSL, and a relay without TLS.

As many bytes as recv() and send() relay go through the cipher. It speaks no TLS, so
there is no record to frame, no key schedule and no second copy.

A floor has to be the least there is, so the sizes are those that were cheapest, and
not those of a bridge: with buffers of 512 KiB, and the cipher called from Python for
every 16 KiB, this program cost more than a bridge that does real TLS.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.clients.pump import Pump, read_pump

BUFFER = 1 << 20
PIECE = 1 << 16
TAG = 16


def relay(source: socket.socket, target: socket.socket, *, decrypt: bool) -> None:
    """Until one side ends."""
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    key, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    clear, sealed = bytearray(PIECE), bytearray(PIECE + TAG)
    key.encrypt_into(nonce, clear, None, sealed)
    cipher, given, taken = key.encrypt_into, clear, sealed
    if decrypt:
        cipher, given, taken = key.decrypt_into, sealed, clear
    due = 0
    with contextlib.suppress(OSError):
        while count := source.recv_into(buffer):
            due += count
            while due >= PIECE:
                cipher(nonce, given, None, taken)
                due -= PIECE
            target.sendall(view[:count])


def serve(pump: Pump) -> None:
    """Relay without an end."""
    listener = socket.create_server(("127.0.0.1", pump.port))
    while True:
        front, _ = listener.accept()
        back = socket.create_connection(("127.0.0.1", pump.backend))
        for source, target, decrypt in ((front, back, True), (back, front, False)):
            threading.Thread(
                target=relay,
                args=(source, target),
                kwargs={"decrypt": decrypt},
                daemon=True,
            ).start()


if __name__ == "__main__":
    serve(read_pump())
