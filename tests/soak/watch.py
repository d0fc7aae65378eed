"""What the process holds on to while it works: memory, descriptors, threads."""

from __future__ import annotations

import gc
import os
import resource
import statistics
from pathlib import Path
from typing import Final

import attrs

__all__ = ["Reading", "Watch"]

_MIB: Final = 1 << 20


@attrs.frozen
class Reading:
    """One look. `memory` is what is resident, in bytes."""

    memory: int
    fds: int
    threads: int

    @classmethod
    def take(cls) -> Reading:
        """Garbage does not count."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            pages * resource.getpagesize(),
            len(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
        )

    def __str__(self) -> str:
        return (
            f"{self.memory / _MIB:7.1f} MiB  {self.fds:4} fds  {self.threads:2} threads"
        )


@attrs.define
class Watch:
    """Readings over time, and whether they stay level.

    A process grows while it begins: caches fill, the allocator finds its size. So
    the first third is not judged. What leaks goes on growing: the medians of
    the second and of the last third are compared.
    """

    readings: list[Reading] = attrs.field(factory=list)

    def look(self) -> Reading:
        """Another reading."""
        self.readings.append(Reading.take())
        return self.readings[-1]

    def complaints(self, *, memory: int = 16 * _MIB, others: int = 8) -> list[str]:
        """What has grown by more than that; too few readings tell nothing."""
        third = len(self.readings) // 3
        if third < 2:
            return []
        found = []
        for name, limit in (("memory", memory), ("fds", others), ("threads", others)):
            before, after = (
                statistics.median(getattr(each, name) for each in part)
                for part in (self.readings[third:-third], self.readings[-third:])
            )
            if after - before > limit:
                found.append(f"{name} has grown from {before:,.0f} to {after:,.0f}")
        return found
