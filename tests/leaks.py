"""What this process holds on to: file descriptors, threads, trio's tasks.

Two snapshots tell what a piece of code has left behind. A descriptor counts by
its number and by what it leads to (`/proc/self/fd` names sockets and pipes by
inode), so that one closed and another opened is seen. Idle threads of trio's
cache, which trio keeps for ten seconds for the next job, are nobody's leak;
asyncio and AnyIO keep theirs as long as the loop runs, and libuv and the kernel
(for libuv's io_uring) for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator

import attrs
import sniffio
import trio

__all__ = ["Snapshot", "few_descriptors", "left_behind", "tasks"]

KEPT_THREAD = re.compile(
    r"Trio thread \d+|AnyIO worker thread|asyncio_\d+|libuv-worker|iou-(wrk|sqp)-\d+"
)


@attrs.frozen
class Snapshot:
    """What there was at one moment."""

    fds: frozenset[tuple[int, str]]
    threads: frozenset[int]

    @classmethod
    def take(cls) -> Snapshot:
        return cls(_descriptors(), frozenset(map(int, os.listdir("/proc/self/task"))))

    def news(self, earlier: Snapshot) -> list[str]:
        """One line for each thing here that was not there `earlier`."""
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        found = [
            f"descriptor {fd}: {target}"
            for fd, target in sorted(self.fds - earlier.fds)
        ]
        for thread in sorted(self.threads - earlier.threads):
            name = names.get(thread) or _comm(thread)
            if name is not None and not KEPT_THREAD.fullmatch(name):
                found.append(f"thread {thread}: {name}")
        return found


def left_behind(before: Snapshot, *, within: float = 2.0) -> list[str]:
    """What is here now and was not there `before`, a line for each.

    On suspicion only: garbage is collected, and what is just ending (a thread
    that nobody joins, say) has `within` seconds to do so.
    """
    found = Snapshot.take().news(before)
    if found:
        gc.collect()
        deadline = time.monotonic() + within
        # Nothing announces the end of a thread that is not ours to join.
        while (found := Snapshot.take().news(before)) and time.monotonic() < deadline:
            time.sleep(0.01)
    return found


@contextlib.contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """Let this process open only so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.dup(0)
    top = max(int(name) for name in os.listdir("/proc/self/fd"))
    taken = [first]
    # Free numbers below the limit would serve.
    while taken[-1] < top:
        taken.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


def tasks() -> Counter[str]:
    """The names of all tasks of this event loop, and how many have each."""
    if sniffio.current_async_library() == "asyncio":
        return Counter(task.get_name() for task in asyncio.all_tasks())
    found: Counter[str] = Counter()
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            found[task.name] += 1
            waiting += [child for n in task.child_nurseries for child in n.child_tasks]
    return found


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            pass  # the one that listed the folder
    return frozenset(found)


def _comm(thread: int) -> str | None:
    try:
        with open(f"/proc/self/task/{thread}/comm") as stream:
            return stream.read().strip()
    except OSError:
        return None  # it has ended
