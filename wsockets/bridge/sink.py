"""The sink of a bridge: what the user gave, and the descriptors made of it.

The bridge works on duplicates, so that the caller may close, or reuse the number
of, what was given. Two things need more than that:

- O_NONBLOCK is on the open file, which duplicates share, maybe with other
  processes. It is put back as it was found, through a duplicate that is kept for
  this (`fcntl(2)`, F_SETFL).
- The reader at the other end of a pipe sees its end when no writer is left. So
  where the sink is a pair, what is kept of its write side goes as soon as that
  direction has ended (`end_writing`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from typing import Any, final

import attrs

from ..errors import SocketError
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
class Sink:
    """A sink in use: `end` is for the pump, which closes those descriptors.

    Made by `open_sink`; whoever made it calls `restore` when the pump has ended.
    """

    __slots__ = ("_given", "_kept", "_pair", "_shared", "end")

    def __init__(
        self,
        end: End,
        given: dict[str, _Given],
        kept: dict[str, tuple[int, int]],
        shared: bool,
    ) -> None:
        self.end = end
        # By "read" and "write": the caller's; our duplicate and its flags.
        self._given = given
        self._kept = kept
        # Whether both sides are the same open file.
        self._shared = shared
        self._pair = len(given) > 1

    def end_writing(self, *, close: bool = False) -> None:
        """Nothing more will be written: let go of the write side, if it is apart.

        With `close` the caller's own descriptor is closed as well. No effect
        where reading goes on through the same open file.
        """
        if not self._pair:
            return
        if not self._shared:
            self._put_back("write")
        if close and (given := self._given.pop("write", None)) is not None:
            given.close()

    def restore(self) -> None:
        """Put O_NONBLOCK back as it was, and keep nothing. Again: no effect."""
        for side in list(self._kept):
            self._put_back(side)

    def close_sink(self) -> None:
        """Close what the caller gave, as far as it is not closed. Restore first."""
        while self._given:
            _, given = self._given.popitem()
            given.close()

    def _put_back(self, side: str) -> None:
        kept = self._kept.pop(side, None)
        if kept is None:
            return
        fd, flags = kept
        try:
            if not flags & os.O_NONBLOCK:
                now = fcntl.fcntl(fd, fcntl.F_GETFL)
                fcntl.fcntl(fd, fcntl.F_SETFL, now & ~os.O_NONBLOCK)
        finally:
            os.close(fd)


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
    kept = {
        side: (_duplicate(one.fd, undo), 0) for side, one in given.items() if used[side]
    }
    # All are asked before the first is changed: two may be the same open file.
    for side, (fd, _) in kept.items():
        kept[side] = (fd, fcntl.fcntl(fd, fcntl.F_GETFL))
    if "both" in given:
        one = _duplicate(given["both"].fd, undo)
        end = End(one if reading else -1, one if writing else -1)
    else:
        end = End(
            _duplicate(given["read"].fd, undo) if reading else -1,
            _duplicate(given["write"].fd, undo) if writing else -1,
        )
    shared = False
    for fd, flags in kept.values():
        now = fcntl.fcntl(fd, fcntl.F_GETFL)
        # O_NONBLOCK that was not there before came with the other side's.
        shared |= bool(now & ~flags & os.O_NONBLOCK)
        fcntl.fcntl(fd, fcntl.F_SETFL, now | os.O_NONBLOCK)
        undo.callback(fcntl.fcntl, fd, fcntl.F_SETFL, flags)
    undo.pop_all()
    return Sink(end, given, kept, shared)


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


def _refusal(why: str, cause: BaseException | None = None) -> SocketError:
    return SocketError(
        f"sink: {why}; it must be an open file descriptor, an object with fileno(), "
        "or a pair of these (read from, written to)",
        code="option",
        errno=cause.errno if isinstance(cause, OSError) else None,
    )
