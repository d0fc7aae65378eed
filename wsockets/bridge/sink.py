"""The sink of a bridge: what the user gave, and the descriptors made of it.

The bridge works on duplicates, so that the caller may close, or reuse the number
of, what was given. Two things need more than that:

- O_NONBLOCK is on the open file, which duplicates share, maybe with other
  processes. It is put back as it was found, through a duplicate that is kept for
  this (`fcntl(2)`, F_SETFL), once no sink of this process needs it any more. A
  forked child leaves it to its parent.
- The reader at the other end of a pipe sees its end when no writer is left. So
  where the sink is a pair, what is kept of its write side goes as soon as that
  direction has ended (`end_writing`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import threading
from typing import Any, Final, final

import attrs

from ..errors import SocketError
from .segments import device_header
from .work import End

__all__ = ["Sink", "open_sink"]

_log = logging.getLogger("wsockets")


@attrs.frozen
class _Given:
    """One side of what the user gave, and what its number led to at the time."""

    value: Any
    fd: int
    identity: tuple[int, int]

    @classmethod
    def make(cls, value: object, *, reading: bool, writing: bool) -> _Given:
        """Checked to be open, and usable in these directions."""
        fd = _number(value)
        try:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            identity = _identity(fd)
        except OSError as error:
            raise _refusal(f"descriptor {fd} is not open", error) from error
        if flags & os.O_PATH:
            raise _refusal(f"descriptor {fd} was opened with O_PATH")
        mode = flags & os.O_ACCMODE
        if reading and mode == os.O_WRONLY:
            raise _refusal(f"descriptor {fd} cannot be read from, only written to")
        if writing and mode == os.O_RDONLY:
            raise _refusal(f"descriptor {fd} cannot be written to, only read from")
        return cls(value, fd, identity)

    def close(self) -> None:
        """Close it, unless its number leads elsewhere by now."""
        try:
            if not isinstance(self.value, int):
                self.value.close()
            elif _identity(self.fd) == self.identity:
                os.close(self.fd)
        except OSError:
            pass  # it is closed
        except Exception:
            _log.exception("closing the sink %r failed", self.value)


@final
class _Mode:
    """An open file that is non-blocking for as long as it has users."""

    __slots__ = ("_blocked", "_fd", "_identity", "_pid", "_users")

    def __init__(self, fd: int, identity: tuple[int, int]) -> None:
        """Owns `fd`, from here on; OSError leaves it open."""
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        self._blocked = not flags & os.O_NONBLOCK
        self._fd = fd
        self._identity = identity
        self._pid = os.getpid()
        self._users = 1

    @classmethod
    def of(cls, given: _Given) -> _Mode:
        """That of an open file which may be in use already. OSError."""
        with _lock:
            for mode in list(_modes.get(given.identity, ())):
                if _is_same_file(mode._fd, given.fd) and mode._users:
                    mode._users += 1
                    return mode
            fd = fcntl.fcntl(given.fd, fcntl.F_DUPFD_CLOEXEC, 0)
            try:
                made = cls(fd, given.identity)
            except BaseException:
                os.close(fd)
                raise
            _modes.setdefault(given.identity, []).append(made)
            return made

    def leave(self) -> None:
        """One user less; the last one puts the file back as it was found."""
        with _lock:
            self._users -= 1
            if self._users:
                return
            known = _modes.get(self._identity, [])
            if self in known:
                known.remove(self)
                if not known:
                    del _modes[self._identity]
            try:
                if self._blocked and self._pid == os.getpid():
                    now = fcntl.fcntl(self._fd, fcntl.F_GETFL)
                    fcntl.fcntl(self._fd, fcntl.F_SETFL, now & ~os.O_NONBLOCK)
            finally:
                os.close(self._fd)


# Those in use, by what their files are; an inode may have been opened many times.
_modes: Final[dict[tuple[int, int], list[_Mode]]] = {}
# Reentrant: the garbage collector may let go of a sink anywhere.
_lock: Final = threading.RLock()


def _forget() -> None:
    _modes.clear()
    _lock.release()


os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget
)


@final
class Sink:
    """A sink in use: `end` is for the pump, which closes those descriptors.

    Made by `open_sink`; whoever made it calls `restore` when the pump has ended.
    """

    __slots__ = ("_given", "_modes", "_pair", "end")

    def __init__(
        self, end: End, given: dict[str, _Given], modes: dict[str, _Mode]
    ) -> None:
        self.end = end
        # By "read" and "write", or "both".
        self._given = given
        self._modes = modes
        self._pair = len(given) > 1

    @property
    def device_header(self) -> int:
        """The length of the headers of a TUN device that has them (segments.py)."""
        fds = {self.end.read_fd, self.end.write_fd} - {-1}
        found = {device_header(fd) for fd in fds}
        return found.pop() if len(found) == 1 else 0

    def end_writing(self, *, close: bool = False) -> None:
        """Nothing more will be written: let go of the write side, if it is apart.

        With `close` the caller's own descriptor is closed as well. No effect
        where reading goes on through the same open file.
        """
        if not self._pair:
            return
        self._put_back("write")
        if close and (given := self._given.pop("write", None)) is not None:
            given.close()

    def restore(self) -> None:
        """Put O_NONBLOCK back as it was, and keep nothing. Again: no effect."""
        for side in list(self._modes):
            self._put_back(side)

    def close_sink(self) -> None:
        """Close what the caller gave, as far as it is not closed. Restore first."""
        while self._given:
            _, given = self._given.popitem()
            given.close()

    def _put_back(self, side: str) -> None:
        mode = self._modes.pop(side, None)
        if mode is not None:
            mode.leave()


def open_sink(sink: object, *, reading: bool, writing: bool) -> Sink:
    """Take `sink` into use: an int fd, an object with fileno(), or a pair of these.

    A pair is (what is read from, what is written to). `reading` and `writing` say
    which directions are bridged; a side that is not used is not looked at.
    Raises SocketError (code "option") for anything else, and for a descriptor that
    is not open or not for the direction; (code "os") where none is left.
    """
    given: dict[str, _Given] = {}
    if isinstance(sink, (tuple, list)):
        if len(sink) != 2:
            raise _refusal(
                f"{len(sink)} of them, and a pair is (read from, written to)"
            )
        given["read"] = _Given.make(sink[0], reading=reading, writing=False)
        given["write"] = _Given.make(sink[1], reading=False, writing=writing)
    else:
        given["both"] = _Given.make(sink, reading=reading, writing=writing)
    with contextlib.ExitStack() as undo:
        try:
            return _take(given, undo, reading, writing)
        except OSError as error:
            raise SocketError(
                f"could not use the sink: {error.strerror}",
                code="os",
                errno=error.errno,
            ) from error


def _take(
    given: dict[str, _Given], undo: contextlib.ExitStack, reading: bool, writing: bool
) -> Sink:
    """Duplicate and prepare; what was done is undone if it fails half way."""
    used = {"read": reading, "write": writing, "both": True}
    modes: dict[str, _Mode] = {}
    for side, one in given.items():
        if used[side]:
            modes[side] = _Mode.of(one)
            undo.callback(modes[side].leave)
    if "both" in given:
        fd = _duplicate(given["both"].fd, undo)
        end = End(fd if reading else -1, fd if writing else -1)
    else:
        end = End(
            _duplicate(given["read"].fd, undo) if reading else -1,
            _duplicate(given["write"].fd, undo) if writing else -1,
        )
    undo.pop_all()
    return Sink(end, given, modes)


def _duplicate(fd: int, undo: contextlib.ExitStack) -> int:
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    undo.callback(os.close, copy)
    return copy


def _number(value: object) -> int:
    """The descriptor of an int or an object with fileno()."""
    if isinstance(value, bool):
        raise _refusal(f"{value!r} is no file descriptor")
    if not isinstance(value, int):
        fileno = getattr(value, "fileno", None)
        if fileno is None:
            raise _refusal(f"{type(value).__name__} has no fileno()")
        try:
            value = fileno()
        except Exception as error:
            raise _refusal(f"its fileno() failed: {error}", error) from error
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refusal(f"its fileno() is {value!r}")
    if not 0 <= value < 1 << 31:
        raise _refusal(f"{value} is no open descriptor")
    return value


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors are of one open file, and not only of one inode.

    kcmp(2) would tell, where it is allowed. But the signal of F_SETSIG belongs to
    the open file as well, and means nothing without O_ASYNC (fcntl(2)).
    """
    try:
        before = fcntl.fcntl(one, fcntl.F_GETSIG)
        if fcntl.fcntl(other, fcntl.F_GETSIG) != before:
            return False
        fcntl.fcntl(one, fcntl.F_SETSIG, 0 if before else signal.SIGIO)
        try:
            return fcntl.fcntl(other, fcntl.F_GETSIG) != before
        finally:
            fcntl.fcntl(one, fcntl.F_SETSIG, before)
    except OSError:
        return False


def _refusal(why: str, cause: BaseException | None = None) -> SocketError:
    return SocketError(
        f"sink: {why}; it must be an open file descriptor, an object with fileno(), "
        "or a pair of these (read from, written to)",
        code="option",
        errno=cause.errno if isinstance(cause, OSError) else None,
    )
