"""Runs one client program on one piece of work and says what it cost.

The cost is the CPU time, user and system, of the whole client process with its
threads and reaped children, as the kernel gives it to whoever waits for the
process. What it cost to start is measured the same way, by the same program with
nothing to do, and taken off by the caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import trustme

from bench.plan import ROOT, Client, Measure

PAYLOAD_SIZE = 1 << 20
# What the environment must not decide: trust, and whether compiled code is kept.
DROPPED = ("NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "PYTHONDONTWRITEBYTECODE")


Pin = Literal["same", "apart", "free"]


class BenchError(Exception):
    """A client program failed, or did not do what it was asked."""


@attrs.frozen
class Cost:
    """What one run of a client took: seconds of CPU and of wall clock.

    `memory` is the bytes by which the resident memory grew between the two pauses
    of an idle run, else None. `peer` is what the peer counted meanwhile.
    """

    cpu: float
    wall: float
    memory: int | None
    peer: dict[str, Any]


@attrs.frozen
class Site:
    """A running peer, and the files that it and the clients share."""

    folder: Path
    process: subprocess.Popen[str]
    ports: dict[str, dict[str, int]]
    cpus: frozenset[int]

    @property
    def ca(self) -> Path:
        """The certificate that signed the peer's (PEM)."""
        return self.folder / "ca.pem"

    @property
    def payload(self) -> Path:
        """1 MiB of random bytes that all transfers repeat."""
        return self.folder / "payload"

    def report(self) -> dict[str, Any]:
        """The peer's counters since the last report."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def places(pin: Pin) -> tuple[frozenset[int], frozenset[int]]:
    """The CPUs for the clients and those for the peer."""
    allowed = sorted(os.sched_getaffinity(0))
    match pin:
        case "free":
            return frozenset(allowed), frozenset(allowed)
        case "same":
            return frozenset(allowed[-1:]), frozenset(allowed[-1:])
        case "apart":
            return frozenset(allowed[-1:]), frozenset(allowed[:-1] or allowed)


def equip(folder: Path) -> None:
    """Put a fresh certificate (ECDSA P-256) and the payload into `folder`."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = authority.issue_cert(
        "127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA
    )
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    (folder / "payload").write_bytes(random.Random(1).randbytes(PAYLOAD_SIZE))


@contextlib.contextmanager
def site(pin: Pin = "free") -> Iterator[Site]:
    """A peer with a fresh certificate (ECDSA P-256) that runs during the block.

    `pin` "same" keeps clients and peer on one CPU, where they take turns: the peer
    is a batch process (sched(7)), which does not interrupt the client when its
    bytes arrive but waits until the client does. "apart" gives the clients a CPU
    that the peer does not use, "free" leaves both to the scheduler.
    """
    for_clients, for_peer = places(pin)
    with tempfile.TemporaryDirectory(prefix="wsockets-bench-") as name:
        folder = Path(name)
        equip(folder)
        files = [str(folder / each) for each in ("cert.pem", "key.pem", "payload")]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.peer", *files],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                os.sched_setaffinity(process.pid, for_peer)
                if pin == "same":
                    yielding = os.sched_param(0)
                    os.sched_setscheduler(process.pid, os.SCHED_BATCH, yielding)
                ports = json.loads(process.stdout.readline())
                yield Site(folder, process, ports, for_clients)
            finally:
                process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()


def expected_digest(measure: Measure, count: int, payload: bytes) -> str | None:
    """The sha256 of what has to arrive; None where nothing but a greeting does."""
    if measure.kind == "connect":
        return None
    window = payload
    if measure.kind != "receive":
        window = payload[: 1024 * measure.size]
    total = count * measure.size
    digest = hashlib.sha256()
    for _ in range(total // len(window)):
        digest.update(window)
    digest.update(window[: total % len(window)])
    return digest.hexdigest()


def job_of(measure: Measure, where: Site, count: int, check: bool) -> str:
    """The job as the client programs read it."""
    return json.dumps(
        {
            "kind": measure.kind,
            "host": "127.0.0.1",
            "port": where.ports["tls" if measure.tls else "plain"][measure.role],
            "tls": measure.tls,
            "resume": measure.resume,
            "count": count,
            "size": measure.size,
            "warm": min(measure.warm, count),
            "check": check,
            "ca": str(where.ca),
            "payload": str(where.payload),
        }
    )


def environment_of(client: Client, where: Site) -> dict[str, str]:
    """The environment of a client program."""
    kept = {key: value for key, value in os.environ.items() if key not in DROPPED}
    return kept | dict(client.environment(str(where.ca)))


def resident(pid: int) -> int:
    """Bytes of memory that process `pid` has in RAM (proc_pid_smaps(5), Rss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"no Rss of process {pid}")


def converse(process: subprocess.Popen[str], idle: bool) -> tuple[str, int | None]:
    """The client's last line, and by how much its memory grew between two pauses."""
    assert process.stdin is not None
    assert process.stdout is not None
    grown: list[int] = []
    while idle and len(grown) < 2:
        if process.stdout.readline() != "ready\n":
            break
        grown.append(resident(process.pid))
        process.stdin.write("go\n")
        process.stdin.flush()
    answer = process.stdout.read()
    return answer, grown[1] - grown[0] if len(grown) == 2 else None


def run(
    client: Client,
    measure: Measure,
    where: Site,
    *,
    count: int | None = None,
    check: bool = False,
    timeout: float = 120.0,
) -> Cost:
    """Run `client` on `count` units of `measure` (by default as many as it says).

    Raises BenchError where the program fails, takes over `timeout` seconds, or
    answers with another number of bytes or another sha256 than has to arrive.
    """
    count = measure.count if count is None else count
    where.report()
    with tempfile.TemporaryFile("w+") as complaints:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*client.command(), job_of(measure, where, count, check)],
            cwd=ROOT,
            env=environment_of(client, where),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        os.sched_setaffinity(process.pid, where.cpus)
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        try:
            answer, memory = converse(process, measure.kind == "idle")
        except BrokenPipeError:
            answer, memory = "", None
        finally:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            watchdog.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(BrokenPipeError), process:
                pass
        if process.returncode != 0:
            complaints.seek(0)
            tail = "\n".join(complaints.read().strip().splitlines()[-12:])
            raise BenchError(
                f"{client.name} on {measure.name}: exit code {process.returncode}"
                f" after {wall:.1f} s\n{tail}"
            )
    examine(client, measure, where, count, check, answer)
    peer = where.report()
    examine_peer(client, measure, count, peer)
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(cpu=cpu, wall=wall, memory=memory, peer=peer)


def examine(
    client: Client,
    measure: Measure,
    where: Site,
    count: int,
    check: bool,
    answer: str,
) -> None:
    """Raise BenchError unless `answer` says that just the right bytes arrived."""
    # A profiler round the program may have something to say after it.
    answers = [line for line in answer.splitlines() if line.startswith("{")]
    said = json.loads(answers[-1]) if answers else answer
    due: dict[str, object] = {"bytes": count * measure.size, "digest": None}
    if check:
        payload = where.payload.read_bytes()
        due["digest"] = expected_digest(measure, count, payload)
    if said != due:
        raise BenchError(
            f"{client.name} on {measure.name}: {said} arrived instead of {due}"
        )


def examine_peer(
    client: Client, measure: Measure, count: int, peer: dict[str, Any]
) -> None:
    """Raise BenchError unless the peer saw the connections that were asked for.

    A client with nothing to do may be gone before the peer has shaken hands.
    """
    if count == 0:
        return
    connections = count if measure.kind in ("connect", "idle") else 1
    seen = peer["connections"], peer["handshakes"], peer["resumed"]
    due = (
        connections,
        connections if measure.tls else 0,
        max(0, connections - 1) if measure.resume else 0,
    )
    if seen != due:
        raise BenchError(
            f"{client.name} on {measure.name}: the peer saw (connections, handshakes,"
            f" resumed) {seen} instead of {due}"
        )
