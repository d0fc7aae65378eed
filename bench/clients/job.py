"""What a client program is asked to do, and how it answers.

The job comes as a JSON object in the first argument. The answer is the last line
on standard output: `{"bytes": …, "digest": …}`, the payload bytes that arrived
(at the client, or for `send` at the peer) and the sha256 of them, null unless
the job asked for a check. For `idle` two lines "ready" come first; after each the
program waits for a line on standard input, so that its memory can be read.

`timed` runs and `check` runs take the same path; a check only adds the digest.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

CHUNK = 65536
REPLY = struct.Struct("!Q32s")


class Digest:
    """sha256 over what `add` is given."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Count `data` in."""
        self._sha.update(data)

    def hex(self) -> str:
        """The digest so far."""
        return self._sha.hexdigest()


@attrs.frozen
class Outcome:
    """What a client saw: payload bytes, and their sha256 where it was asked for."""

    bytes: int
    digest: str | None = None


@attrs.frozen
class Job:
    """One piece of work; sizes in bytes, `count` in units of the measure."""

    kind: str
    host: str
    port: int
    tls: bool
    resume: bool
    count: int
    size: int
    warm: int
    check: bool
    ca: str
    payload: str

    @property
    def total(self) -> int:
        """Bytes to transfer in all."""
        return self.count * self.size

    def digest(self) -> Digest | None:
        """A digest to fill, or None in a timed run."""
        return Digest() if self.check else None

    def context(self) -> ssl.SSLContext | None:
        """The standard library's TLS client context, or None for plain TCP."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    def messages(self) -> Iterator[bytes]:
        """`count` messages of `size` bytes, cut from the payload, round and round."""
        window = Path(self.payload).read_bytes()[: 1024 * self.size]
        cut = [
            window[at : at + self.size]
            for at in range(0, len(window) - self.size + 1, self.size)
        ]
        return itertools.islice(itertools.cycle(cut), self.count)

    def header(self) -> bytes:
        """What the `source` and `sink` peers want to hear first."""
        return struct.pack("!?Q", self.check, self.total)


def outcome(count: int, digest: Digest | None) -> Outcome:
    """`count` bytes that arrived here."""
    return Outcome(count, None if digest is None else digest.hex())


def reply(data: bytes, job: Job) -> Outcome:
    """What the `sink` peer says it received."""
    count, digest = REPLY.unpack(data)
    return Outcome(count, digest.hex() if job.check else None)


def pause() -> None:
    """Tell the harness that memory may be read now, and wait until it has been."""
    gc.collect()
    print("ready", flush=True)
    sys.stdin.readline()


def main(run: Callable[[Job], Outcome]) -> None:
    """Do the job in `sys.argv[1]` with `run` and print the answer."""
    print(json.dumps(attrs.asdict(run(Job(**json.loads(sys.argv[1]))))))
