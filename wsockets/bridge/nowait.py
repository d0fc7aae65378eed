"""Reads and writes that do not wait, whoever else has the same open file.

O_NONBLOCK is on the open file, which other processes may share, and clear: a child
does when it tidies up its standard files, and the event loop would stand still in the
next read. So each call says itself that it must not wait (RWF_NOWAIT, preadv2(2)).
Where the kernel does not know that (terminals, FIFOs; before Linux 6.5 pipes and
sockets), O_NONBLOCK is looked at, and set again, before each call.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final, final

__all__ = ["NoWait"]

# 0 where the C library does not know it.
_FLAG: Final[int] = getattr(os, "RWF_NOWAIT", 0)
_UNKNOWN: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})


@final
class NoWait:
    """The reads and writes of one descriptor, which stays the caller's.

    Both raise BlockingIOError (EAGAIN) where they would have to wait, and OSError.
    Regular files are as they are: a disk keeps nobody waiting for ever.
    """

    __slots__ = ("_reads", "_writes", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # Whether the kernel may be asked not to wait, as far as is known.
        self._reads = self._writes = bool(_FLAG) and not _is_stored(fd)

    def read_into(self, view: memoryview) -> int:
        """readv(2); 0 at the end, a pseudoterminal's too (pty(7): EIO)."""
        try:
            if self._reads:
                try:
                    return os.preadv(self.fd, [view], -1, _FLAG)
                except OSError as error:
                    if error.errno not in _UNKNOWN:
                        raise
                    self._reads = False
            _unblock(self.fd)
            return os.readv(self.fd, [view])
        except OSError as error:
            if error.errno == errno.EIO and os.isatty(self.fd):
                return 0
            raise

    def write(self, *parts: bytes | memoryview) -> int:
        """writev(2); of nothing too, which to datagrams is one."""
        if not any(map(len, parts)):
            # Vectors of nothing are not looked at.
            _unblock(self.fd)
            return os.write(self.fd, b"")
        if self._writes:
            try:
                return os.pwritev(self.fd, parts, -1, _FLAG)
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
                self._writes = False
        _unblock(self.fd)
        return os.writev(self.fd, parts)


def _is_stored(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _unblock(fd: int) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if not flags & os.O_NONBLOCK:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
