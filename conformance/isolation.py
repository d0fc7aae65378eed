"""A network of the suite's own: a loopback, and no way out of it.

An implementation that takes a malformed address for a name would look it up. Where
the system allows it the whole run therefore happens in a network namespace of its
own (unshare(2), network_namespaces(7)); elsewhere the scenarios that could ask a name
server are left out for implementations that look names up before they check them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

__all__ = ["isolate"]

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1


def isolate() -> bool:
    """Move this process into a network of its own; whether that was possible.

    For a process with one thread. Everything that it starts is there too.
    """
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNET if user == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
            return False
    except AttributeError:
        return False
    if user != 0:
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    return True
