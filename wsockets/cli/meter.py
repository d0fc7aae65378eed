"""How much went through, and how fast: a progress bar on standard error."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from .console import error_console

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Meter"]

_EVERY: Final = 0.1  # seconds; drawing for each chunk would cost more than sending it


class Meter:
    """Counts what was sent and received; a context manager.

    While `visible` it is drawn on standard error. The size of the file `source`
    is the goal of what is sent, where it has one.
    """

    def __init__(self, *, source: int | None = None, visible: bool) -> None:
        self.sent = 0
        self.received = 0
        self._visible = visible
        self._begun = self._drawn = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:>8}", style="bold"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[amount]}", justify="right"),
            TextColumn("{task.fields[rate]}", justify="right", style="cyan"),
            TimeElapsedColumn(),
            console=error_console(),
            disable=not visible,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._tasks: tuple[TaskID, TaskID] = (
            self._progress.add_task("sent", total=_size(source), amount="", rate=""),
            self._progress.add_task("received", total=None, amount="", rate=""),
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Draw for the last time."""
        self._draw(finished=kind is None)
        self._progress.stop()

    def count(self, sent: int, received: int) -> None:
        """So many bytes more."""
        self.sent += sent
        self.received += received
        now = time.monotonic()
        if self._visible and now - self._drawn >= _EVERY:
            self._drawn = now
            self._draw()

    def summary(self) -> Text:
        """What it came to, in a line."""
        seconds = time.monotonic() - self._begun
        return Text(
            f"sent {decimal(self.sent)}, received {decimal(self.received)} "
            f"in {seconds:,.1f} s",
            "dim",
        )

    def _draw(self, *, finished: bool = False) -> None:
        seconds = time.monotonic() - self._begun
        for task, done in zip(self._tasks, (self.sent, self.received), strict=True):
            total = done if finished else self._progress.tasks[task].total
            goal = "" if total in (None, done) else f" of {decimal(int(total))}"
            self._progress.update(
                task,
                completed=done,
                total=total,
                amount=decimal(done) + goal,
                rate=f"{decimal(int(done / seconds))}/s" if seconds else "",
            )


def _size(fd: int | None) -> int | None:
    """How many bytes are left to read from a disk file; None for anything else."""
    if fd is None or not stat.S_ISREG((found := os.fstat(fd)).st_mode):
        return None
    return max(0, found.st_size - os.lseek(fd, 0, os.SEEK_CUR))
