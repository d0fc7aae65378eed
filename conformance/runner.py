"""Runs scenarios on an implementation, several at a time.

Each of a few threads has a process of the driver to itself and takes one scenario
after the other: it starts the scripted peer, gives the driver the client's steps
without their expectations, waits for both, and compares.
"""

from __future__ import annotations

import contextlib
import datetime
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import attrs

from conformance.certificates import Authority
from conformance.control import Control
from conformance.drivers import Driver, DriverError, Process
from conformance.outcomes import Outcome, meets, show
from conformance.peer import Peer
from conformance.results import (
    Line,
    Report,
    Result,
    Side,
    describe_step,
    in_order,
    specification,
)
from conformance.scenarios import Scenario, Step, filled, filled_in

__all__ = ["Job", "Times", "judge", "perform", "run"]

# A driver that has not answered by then has hung.
_HUNG: Final = 90.0
_NOTHING: Final = {"how": "did not happen"}


@attrs.frozen
class Times:
    """How long the two sides wait, in seconds.

    `limit`: for what is to happen; `settle`: to see that something does not.
    """

    limit: float = 5.0
    settle: float = 0.12


@attrs.frozen
class Job:
    """A scenario to be run, perhaps on a mutant of the implementation."""

    scenario: Scenario
    mutant: str | None = None


def run(
    driver: Driver,
    scenarios: Sequence[Scenario],
    *,
    jobs: int = 6,
    times: Times = Times(),
    mutant: str | None = None,
    progress: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run the scenarios; DriverError where the driver cannot be started."""
    work = [Job(each, mutant) for each in scenarios]
    done = perform(driver, work, jobs=jobs, times=times, progress=progress)
    return Report(
        driver=driver.name,
        title=driver.title,
        versions=driver.found_versions(),
        specification=specification(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        results=in_order(done.values(), scenarios),
    )


def perform(
    driver: Driver,
    work: Sequence[Job],
    *,
    jobs: int = 6,
    times: Times = Times(),
    progress: Callable[[Result], None] = lambda _: None,
) -> dict[Job, Result]:
    """Do the work with some processes of the driver at once."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conf-")))
        authority = Authority(folder)
        control = stack.enter_context(Control())
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for each in work:
            waiting.put(each)
        workers = []
        for _ in range(max(1, min(jobs, len(work)))):
            process = driver.start(authority.root)
            stack.callback(process.close)
            workers.append(
                _Worker(driver, process, waiting, authority, control, times, progress)
            )
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for worker in workers:
        if worker.fault is not None:
            raise worker.fault
    return {job: result for worker in workers for job, result in worker.results}


@final
class _Worker(threading.Thread):
    def __init__(
        self,
        driver: Driver,
        process: Process,
        waiting: queue.SimpleQueue[Job],
        authority: Authority,
        control: Control,
        times: Times,
        progress: Callable[[Result], None],
    ) -> None:
        super().__init__(name="conformance worker")
        self.results: list[tuple[Job, Result]] = []
        self.fault: BaseException | None = None
        self._driver = driver
        self._process = process
        self._waiting = waiting
        self._authority = authority
        self._control = control
        self._times = times
        self._progress = progress

    def run(self) -> None:
        try:
            self._warm_up()
            with contextlib.suppress(queue.Empty):
                while True:
                    job = self._waiting.get_nowait()
                    result = self._perform(job)
                    self.results.append((job, result))
                    self._progress(result)
        except BaseException as error:
            self.fault = error

    def _warm_up(self) -> None:
        """Have the process started before the first peer's clock is."""
        with self._control.run() as (address, signals):
            signals.raise_("over")
            self._process.ask(self._request(address), _HUNG)

    def _perform(self, job: Job) -> Result:
        scenario = job.scenario
        if set(scenario.needs) - set(self._driver.offers):
            return Result(scenario.id, scenario.level, "not offered")
        start = time.monotonic()
        with self._control.run() as (address, signals):
            peer = Peer(
                scenario.peer,
                authority=self._authority,
                signals=signals,
                folder=self._authority.root.parent,
                listen=scenario.listen,
                receive_buffer=scenario.receive_buffer,
                limit=self._times.limit,
                settle=self._times.settle,
            )
            with peer:
                answer = self._ask(job, address, peer.addresses)
        return judge(
            scenario,
            answer,
            peer.outcomes,
            values=peer.addresses,
            seconds=time.monotonic() - start,
        )

    def _ask(self, job: Job, control: str, addresses: dict[str, str]) -> dict[str, Any]:
        steps = filled_in(job.scenario.client, addresses)
        request = self._request(control, job.scenario.id, steps, job.mutant)
        try:
            return self._process.ask(request, _HUNG)
        except DriverError as error:
            return {"steps": [{"how": "crashed", "why": str(error)}]}

    def _request(
        self,
        control: str,
        id: str = "",
        steps: Sequence[Step] = (),
        mutant: str | None = None,
    ) -> dict[str, Any]:
        return {
            "id": id,
            "steps": steps,
            "mutant": mutant,
            "control": control,
            "limit": self._times.limit,
            "settle": self._times.settle,
        }


def judge(
    scenario: Scenario,
    answer: dict[str, Any],
    seen: Sequence[Outcome],
    *,
    values: Mapping[str, str] | None = None,
    seconds: float = 0.0,
) -> Result:
    """Compare what both sides have seen with what they were to see.

    `values` are what the scenario's $names stood for.
    """
    lines = [
        *_compared("client", scenario.client, answer["steps"], values or {}),
        *_compared("peer", scenario.peer, seen, values or {}),
    ]
    verdict: Any = "pass" if all(line.good for line in lines) else "fail"
    if scenario.level == "O":
        verdict = "reported"
    return Result(
        scenario.id, scenario.level, verdict, lines, seconds, answer.get("stray", 0)
    )


def _compared(
    side: Side,
    steps: Sequence[Step],
    outcomes: Sequence[Outcome],
    values: Mapping[str, str],
) -> list[Line]:
    lines = []
    for at, step in enumerate(steps):
        outcome = outcomes[at] if at < len(outcomes) else _NOTHING
        expected = filled(step.get("expect"), values)
        good = expected is None or meets(outcome, expected)
        # A step that only prepares must be possible all the same.
        if expected is None and outcome["how"] in _BROKEN:
            good = False
            expected = "something else"
        told = None if expected is None else _told(expected)
        lines.append(Line(side, describe_step(step), told, show(outcome), good))
    return lines


_BROKEN: Final = frozenset(
    {
        "crashed", "did not happen", "failed", "missing", "pending", "rejected",
        "threw",
    }
)  # fmt: skip


def _told(expected: Any) -> str:
    if isinstance(expected, list):
        return " or ".join(map(_told, expected))
    if isinstance(expected, dict):
        return " and ".join(map(_told, expected["all"]))
    if isinstance(expected, bool):
        return str(expected).lower()
    return str(expected)
