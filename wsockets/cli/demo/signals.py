"""Signals that end the demonstration, which has to stop its servers first."""

from __future__ import annotations

import contextlib
import signal
import sys
from types import FrameType
from typing import Any, Final, final

__all__ = ["Obedience"]

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@final
class Obedience:
    """While it is entered SIGTERM and SIGHUP do what Ctrl-C does: KeyboardInterrupt.

    One is enough: after the first signal, and after `end()`, they change nothing. When
    it is left the process ends by the signal, as it would have without. What was
    ignored before (nohup, a shell's background jobs) is ignored still. For the main
    thread.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._caught: int | None = None

    def __enter__(self) -> Obedience:
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._obey)
        return self

    def _obey(self, number: int, frame: FrameType | None) -> None:
        if self._caught is not None:
            return
        self._caught = number
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            # An event loop's may wait for a better moment.
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    def end(self) -> None:
        """From here on no signal interrupts, until it is left."""
        for number in (signal.SIGINT, *_ENDING):
            before = signal.signal(number, signal.SIG_IGN)
            self._before.setdefault(number, before)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._caught is not None:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            signal.raise_signal(self._caught)
