"""Send the same message for ever, or receive for ever and say so once.

`python -I traffic.py send|receive FD HEX`, with the socket FD inherited. It knows
nothing of the package, so that it starts at once.
"""

from __future__ import annotations

import socket
import sys

__all__: list[str] = []


def main(what: str, fd: int, data: bytes) -> None:
    """Until killed, or until nobody is at the other end."""
    with socket.socket(fileno=fd) as sock:
        sock.setblocking(True)
        try:
            while what == "send":
                sock.send(data)
            if sock.recv(1 << 16):
                print("something came", flush=True)
            while sock.recv(1 << 16):
                pass
        except OSError:
            # The tunnel is gone.
            return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
