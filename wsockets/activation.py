"""Sockets that a service manager has opened for this process: systemd's protocol.

https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html

The manager passes descriptors from 3 on and says so in three variables of the
environment. They are read once and removed, so that no child takes them for its
own; what they named is given out here, each descriptor to whoever asks first.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from typing import Final

from .errors import SocketError

__all__ = ["activated"]

_FIRST: Final = 3
_PID: Final = "LISTEN_PID"
_COUNT: Final = "LISTEN_FDS"
_NAMES: Final = "LISTEN_FDNAMES"
# What the manager calls those that have no name.
_UNNAMED: Final = "unknown"

_lock: Final = threading.Lock()
# Those that nobody has asked for yet, with their names.
_waiting: Final[list[tuple[str, int]]] = []


def activated(name: str | None = None) -> list[socket.socket]:
    """The sockets that systemd (or another manager) has passed, in its order.

    With a `name` only those of that FileDescriptorName=; each is given out once, and
    is the caller's to close, or to pass to `listen()`, or to `adopt()` where the
    manager accepts (Accept=yes). They are close-on-exec. Descriptors that are no
    sockets stay what they are. An empty list where the process was started by hand.

    Raises SocketError (code "os") for variables that make no sense.
    """
    if name is not None and not isinstance(name, str):
        raise SocketError(
            f"name is a str or None, not {type(name).__name__}", code="option"
        )
    with _lock:
        _waiting.extend(_passed())
        mine = [each for each in _waiting if name is None or each[0] == name]
        for each in mine:
            _waiting.remove(each)
    return [socket.socket(fileno=fd) for _, fd in mine]


def _passed() -> list[tuple[str, int]]:
    """What the environment says, once; all of it close-on-exec."""
    pid, count, names = (
        os.environ.pop(variable, None) for variable in (_PID, _COUNT, _NAMES)
    )
    if pid is None or count is None:
        return []
    if _number(_PID, pid) != os.getpid():
        return []  # They were for our parent.
    found: list[tuple[str, int]] = []
    named = [] if names is None else names.split(":")
    for index in range(_number(_COUNT, count)):
        fd = _FIRST + index
        try:
            os.set_inheritable(fd, False)
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError as error:
            raise SocketError(
                f"{_COUNT} is {count}, but there is no descriptor {fd}",
                code="os",
                errno=error.errno,
            ) from error
        if is_socket:
            found.append((named[index] if index < len(named) else _UNNAMED, fd))
    return found


def _number(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise SocketError(f"{variable} is no number: {text!r:.80}", code="os")
    return int(text)
