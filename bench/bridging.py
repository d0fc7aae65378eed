"""Runs one bridge on one row of measures, with both of its ends in our hands.

Each kind of measure is a function here, which drives the ends, has the payload
compared before the clock starts, and gives a value for every measure of the row.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice, repeat
from pathlib import Path

import attrs

from bench import namespace, tunnel, usage
from bench.bridges import Bridge
from bench.ends import (
    TIMEOUT,
    Buffers,
    EndError,
    Meeting,
    PlainEnd,
    TlsEnd,
    client_context,
    meeting,
    transfer,
)
from bench.namespace import Device
from bench.plan import ROOT, Measure
from bench.run import DROPPED, BenchError, Pin, equip, expected_digest, places
from bench.tunnel import Rates, Traffic

CHECKED_PART = 16
SECONDS = 1.5
LOADED = 20_000
# How long idle bridges are watched, and left alone before, in seconds.
QUIET = 1.5
CALM = 0.3
# Memory is counted from so many connections on, and before they are used again.
BASE = 100
IDLE_FIRST = ("memory", "cpu", "rounds")
SEND = 1 << 16
# Of a device that takes IPv6 (RFC 8200, 5).
SMALLEST_MTU = 1280


@attrs.frozen
class Ground:
    """The files that all bridges share, and the CPUs they and their ends run on.

    The contexts are those of the clients: TLS 1.3 for streams, 1.2 for tunnels.
    """

    folder: Path
    payload: bytes
    streams: ssl.SSLContext
    tunnels: ssl.SSLContext
    for_bridge: frozenset[int]
    for_ends: frozenset[int]
    everywhere: frozenset[int]


@contextlib.contextmanager
def ground(pin: Pin) -> Iterator[Ground]:
    """Certificates and payload; this process stays on its CPUs during the block."""
    everywhere = frozenset(os.sched_getaffinity(0))
    for_bridge, for_ends = places(pin)
    interval = sys.getswitchinterval()
    with tempfile.TemporaryDirectory(prefix="wsockets-bench-") as name:
        folder = Path(name)
        equip(folder)
        payload = (folder / "payload").read_bytes()
        os.sched_setaffinity(0, for_ends)
        sys.setswitchinterval(0.0005)
        try:
            yield Ground(
                folder,
                payload,
                client_context(folder / "ca.pem", ssl.TLSVersion.TLSv1_3),
                client_context(folder / "ca.pem", ssl.TLSVersion.TLSv1_2),
                for_bridge,
                for_ends,
                everywhere,
            )
        finally:
            os.sched_setaffinity(0, everywhere)
            sys.setswitchinterval(interval)


@attrs.frozen
class Trial:
    """What one run of a bridge gave: a value for each measure of the row."""

    values: Mapping[str, float]
    wall: float
    checked: int
    cipher: str | None


@attrs.frozen
class Running:
    """A bridge program under test, and what is known about it."""

    bridge: Bridge
    process: subprocess.Popen[str]
    meeting: Meeting
    ground: Ground
    device: Device | None

    def connect(self, measure: Measure, buffers: Buffers | None = None) -> PlainEnd:
        """An end on the side of TLS, where there is TLS."""
        if not measure.tls or self.bridge.unsecured:
            return self.meeting.connect(None, buffers)
        context = self.ground.tunnels if self.device else self.ground.streams
        return self.meeting.connect(context, buffers)

    def settle(self) -> None:
        """Put the whole program onto its CPUs, whatever it has chosen itself."""
        for pid in usage.tree(self.process.pid):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), self.ground.for_bridge)

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        return usage.cpu(self.process.pid)

    def memory(self) -> int:
        """Bytes of RAM."""
        return usage.memory(self.process.pid)

    def tell(self, line: str) -> None:
        """Write a line to the program's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


MODES = {
    "pipe": "pipe",
    "tunnel": "tunnel",
    "latency": "tunnel",
    "handback": "handback",
    "serve": "serve",
}


def pump_of(
    measure: Measure, bridge: Bridge, where: Meeting, folder: Path, tun: int | None
) -> str:
    """The task as the bridge programs read it."""
    return json.dumps(
        {
            "mode": MODES.get(measure.kind, "forward"),
            "tls": measure.tls,
            "bulk": measure.kind in ("bulk", "pipe"),
            "port": where.port,
            "backend": where.backend,
            "folder": str(folder),
            "tun": tun,
            "mtu": measure.size,
            "cycles": measure.count if measure.kind == "handback" else 0,
        }
    )


@contextlib.contextmanager
def running(bridge: Bridge, measure: Measure, where: Ground) -> Iterator[Running]:
    """Start the program; kill it at the end.

    Raises BenchError, with what the program complained of, for whatever goes wrong.
    """
    with contextlib.ExitStack() as stack:
        complaints = stack.enter_context(tempfile.TemporaryFile("w+"))
        place = stack.enter_context(meeting())
        device = None
        try:
            if MODES.get(measure.kind) == "tunnel":
                device = stack.enter_context(
                    namespace.device(
                        max(SMALLEST_MTU, measure.size), offload=bridge.offload
                    )
                )
            tun = None if device is None else device.fd
            process = subprocess.Popen(
                [
                    *bridge.command(),
                    pump_of(measure, bridge, place, where.folder, tun),
                ],
                cwd=ROOT,
                env={k: v for k, v in os.environ.items() if k not in DROPPED}
                | dict(bridge.environment(str(where.folder / "ca.pem"))),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                pass_fds=[] if tun is None else [tun],
                text=True,
            )
            free = measure.kind == "latency"
            cpus = where.everywhere if free else where.for_bridge
            os.sched_setaffinity(process.pid, cpus)
            os.sched_setaffinity(0, where.everywhere if free else where.for_ends)
        except (OSError, namespace.NamespaceError) as error:
            raise BenchError(f"{bridge.name} on {measure.row}: {error}") from error
        try:
            yield Running(bridge, process, place, where, device)
        except (EndError, OSError, ssl.SSLError, BenchError) as error:
            # A program that fails cuts its connections before it says why.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            state = process.poll()
            ended = "" if state is None else f", exit code {state}"
            complaints.seek(0)
            tail = "\n".join(complaints.read().strip().splitlines()[-12:])
            text = f"{bridge.name} on {measure.row}: {error}{ended}\n{tail}".rstrip()
            raise BenchError(text) from error
        finally:
            usage.end(process.pid)
            with contextlib.suppress(BrokenPipeError), process:
                pass


def bulk(run: Running, row: Sequence[Measure]) -> Trial:
    """Bytes through one bridge, one way; CPU until the last has arrived."""
    (measure,) = row
    front = run.connect(measure)
    back = run.meeting.accept()
    run.settle()
    with contextlib.closing(front), contextlib.closing(back):
        ends = (front, back) if measure.role == "decrypt" else (back, front)
        payload = memoryview(run.ground.payload)
        part = max(1, measure.count // CHECKED_PART)
        found = transfer(*ends, payload, part * measure.size, digest=True)
        # The kind decides what is expected: all of the payload, round and round.
        due = expected_digest(
            attrs.evolve(measure, kind="receive"), part, run.ground.payload
        )
        if found != due:
            raise EndError(f"sha256 {found} arrived instead of {due}")
        before, start = run.cpu(), time.perf_counter()
        transfer(*ends, payload, measure.count * measure.size, digest=False)
        spent, wall = run.cpu() - before, time.perf_counter() - start
        return Trial(
            values={measure.name: spent / measure.count * measure.scale},
            wall=wall,
            checked=part * measure.size,
            cipher=front.cipher,
        )


def tunneled(run: Running, row: Sequence[Measure]) -> Trial:
    """Packets at full speed: CPU and time of each."""
    first = row[0]
    assert run.device is not None
    if run.bridge.unsecured:
        return written(run, first)
    front = run.connect(first)
    assert isinstance(front, TlsEnd)
    with contextlib.closing(front), tunnel.host() as host:
        payload, size = run.ground.payload, first.size
        checked = tunnel.verify(front, host, payload, size)
        traffic = Traffic(front, host, run.device, size)
        duplex = first.role != "write"
        traffic.prepare(payload, first.count // (2 if duplex else 1))
        before, start = run.cpu(), time.perf_counter()
        moved = traffic.run(first.count, duplex=duplex)
        spent, wall = run.cpu() - before, time.perf_counter() - start
        traffic.finish()
        if moved < first.count:
            raise EndError(f"{moved} of {first.count} packets moved, and then none")
        values = {
            each.name: (wall if each.role == "rate" else spent) / moved * each.scale
            for each in row
        }
        return Trial(values, wall, checked, front.cipher)


def written(run: Running, measure: Measure) -> Trial:
    """The floor of a tunnel: one write(2) per packet, and nothing else.

    The loop runs in C, inside of `deque`; the program itself only stands by.
    """
    assert run.device is not None
    carried = tunnel.payloads(run.ground.payload, measure.size, 64)
    packets = islice(cycle(map(tunnel.datagram, carried)), measure.count)
    os.sched_setaffinity(0, run.ground.for_bridge)
    with tunnel.host():
        before, start = time.thread_time(), time.perf_counter()
        deque(map(os.write, repeat(run.device.fd), packets), maxlen=0)
        spent, wall = time.thread_time() - before, time.perf_counter() - start
    os.sched_setaffinity(0, run.ground.for_ends)
    return Trial({measure.name: spent / measure.count * measure.scale}, wall, 0, None)


def latency(run: Running, row: Sequence[Measure]) -> Trial:
    """Round trips: alone, beside other packets, and while the program is busy."""
    front = run.connect(row[0])
    assert isinstance(front, TlsEnd)
    start = time.perf_counter()
    values: dict[str, float] = {}
    with contextlib.closing(front), tunnel.host() as host:
        size = row[0].size
        checked = tunnel.verify(front, host, run.ground.payload, size)
        for measure in row:
            rates = Rates(LOADED if measure.role == "loaded" else 0)
            if measure.role == "busy":
                run.tell("busy")
            tunnel.round_trips(front, host, size, rates, 0.1)
            taken = tunnel.round_trips(front, host, size, rates, SECONDS)
            at = statistics.quantiles(taken, n=100, method="inclusive")[98]
            values[measure.name] = at * measure.scale
    return Trial(values, time.perf_counter() - start, checked, front.cipher)


class Crowd:
    """Many connections through one bridge, used one after the other."""

    def __init__(self, run: Running, measure: Measure) -> None:
        self._run = run
        self._measure = measure
        self._buffers = Buffers()
        self._stack = contextlib.ExitStack()
        self.pairs: list[tuple[PlainEnd, PlainEnd]] = []
        self.message = run.ground.payload[: measure.size]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grow(self, count: int) -> None:
        """Open until there are `count`; each is used once, there and back."""
        while len(self.pairs) < count:
            front = self._run.connect(self._measure, self._buffers)
            self._stack.callback(front.close)
            back = self._run.meeting.accept(self._buffers)
            self._stack.callback(back.close)
            self.pairs.append((front, back))
            self.round_trip(front, back)

    def round_trip(self, front: PlainEnd, back: PlainEnd) -> None:
        """The message, to the backend and back. EndError where it is another."""
        view = memoryview(self.message)
        for source, target in ((front, back), (back, front)):
            source.send(view)
            found = b""
            while len(found) < len(view):
                found += b"".join(bytes(each) for each in target.receive())
            if found != self.message:
                raise EndError(f"{found!r} arrived instead of {self.message!r}")


def crowded(run: Running, row: Sequence[Measure]) -> Trial:
    """More and more connections: what they hold and use idle, and when used.

    Memory is counted from the moment that a few are open.
    """
    start = time.perf_counter()
    values: dict[str, float] = {}
    few = min([BASE, *(each.warm // 2 for each in row if each.role == "memory")])
    base: tuple[int, int] | None = None
    checked = 0
    with Crowd(run, row[0]) as crowd:
        for opened in sorted({each.warm for each in row} | {few}):
            here = [each for each in row if each.warm == opened]
            crowd.grow(opened)
            if base is None and opened >= few:
                time.sleep(CALM)
                base = opened, run.memory()
            for each in sorted(here, key=lambda each: IDLE_FIRST.index(each.role)):
                if each.role == "memory":
                    assert base is not None
                    time.sleep(CALM)
                    grown = (run.memory() - base[1]) / (opened - base[0])
                    values[each.name] = grown / 1024 * each.scale
                elif each.role == "cpu":
                    before = run.cpu()
                    time.sleep(QUIET)
                    values[each.name] = (run.cpu() - before) / QUIET * each.scale
                else:
                    before = run.cpu()
                    for front, back in islice(cycle(crowd.pairs), each.count):
                        crowd.round_trip(front, back)
                    spent = run.cpu() - before
                    values[each.name] = spent / each.count * each.scale
                    checked += 2 * each.count * each.size
        checked += 2 * len(crowd.pairs) * row[0].size
        cipher = crowd.pairs[0][0].cipher
    return Trial(values, time.perf_counter() - start, checked, cipher)


class Stream:
    """An endless stream from end to end, whose bytes are compared when it stops."""

    def __init__(self, source: PlainEnd, target: PlainEnd, payload: bytes) -> None:
        self._ends = source, target
        self._payload = memoryview(payload)
        self._over = threading.Event()
        self._sent: int | None = None
        self._received = 0
        self._digests = hashlib.sha256(), hashlib.sha256()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True)
            for work in (self._send, self._receive)
        ]
        for each in self._threads:
            each.start()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (EndError, OSError, ssl.SSLError) as error:
            self._failure = error

    def _send(self) -> None:
        sent, size = 0, len(self._payload)
        while not self._over.is_set():
            at = sent % size
            piece = self._payload[at : at + SEND]
            self._ends[0].send(piece)
            self._digests[0].update(piece)
            sent += len(piece)
        # The last byte says that there are no more.
        self._ends[0].send(self._payload[:1])
        self._digests[0].update(self._payload[:1])
        self._sent = sent + 1

    def _receive(self) -> None:
        while self._sent is None or self._received < self._sent:
            for piece in self._ends[1].receive():
                self._digests[1].update(piece)
                self._received += len(piece)
                if self._over.is_set():
                    # Let the sender say how much it was.
                    self._threads[0].join(0.05)

    def finish(self) -> int:
        """Stop and compare; how many bytes it was. EndError where they differ."""
        self._over.set()
        for each in self._threads:
            each.join(TIMEOUT)
        sent, received = (each.hexdigest() for each in self._digests)
        if self._failure is not None:
            raise EndError(f"while streaming: {self._failure!r}")
        if self._sent != self._received or sent != received:
            raise EndError(
                f"{self._received} bytes with sha256 {received} arrived instead of"
                f" {self._sent} with {sent}"
            )
        return self._received


def handback(run: Running, row: Sequence[Measure]) -> Trial:
    """The program stops its bridge and makes it anew, while both ends stream."""
    (measure,) = row
    front = run.connect(measure)
    back = run.meeting.accept()
    with contextlib.closing(front), contextlib.closing(back):
        start = time.perf_counter()
        ways = (front, back), (back, front)
        streams = [Stream(*ends, run.ground.payload) for ends in ways]
        assert run.process.stdout is not None
        said = run.process.stdout.readline()
        wall = time.perf_counter() - start
        checked = sum(each.finish() for each in streams)
        if said != "done\n":
            raise EndError(f"the program said {said!r}")
    values = {measure.name: wall / measure.count * measure.scale}
    return Trial(values, wall, checked, front.cipher)


KINDS: Mapping[str, Callable[[Running, Sequence[Measure]], Trial]] = {
    "bulk": bulk,
    "pipe": bulk,
    "tunnel": tunneled,
    "latency": latency,
    "crowd": crowded,
    "handback": handback,
}


def trial(bridge: Bridge, row: Sequence[Measure], where: Ground) -> Trial:
    """Start `bridge` and take all measures of one row. Raises BenchError."""
    with running(bridge, row[0], where) as run:
        return KINDS[row[0].kind](run, row)
