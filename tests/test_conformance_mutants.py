"""Does the conformance suite notice? Implementations that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from conformance.drivers import drivers
from conformance.drivers.mutants import MUTANTS, Mutant, mutated
from conformance.results import Result, transcript
from conformance.runner import Job, Times, perform
from conformance.scenarios import load
from wsockets import Binding, Socket

SCENARIOS = {each.id: each for each in load()}

# One process has the results; make's pytest keeps a group together.
pytestmark = pytest.mark.xdist_group("conformance-mutants")

# What no mutant gets wrong; it tells a misbehaviour from a driver that crashes.
HARMLESS = "data.echo"


@pytest.fixture(scope="module")
def results() -> Mapping[tuple[str, str], Result]:
    """What became of each mutant in its scenario, and in the harmless one."""
    work = [
        Job(SCENARIOS[scenario], mutant.name)
        for mutant in MUTANTS.values()
        for scenario in (mutant.noticed_by, HARMLESS)
    ]
    done = perform(drivers()["python"], work, jobs=4, times=Times(1.0))
    return {(str(job.mutant), job.scenario.id): each for job, each in done.items()}


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 25


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_misbehaviour_is_noticed(
    mutant: Mutant, results: Mapping[tuple[str, str], Result]
) -> None:
    assert mutant.about.endswith(".")
    harmless = results[mutant.name, HARMLESS]
    assert harmless.verdict == "pass", transcript(harmless)
    noticed = results[mutant.name, mutant.noticed_by]
    assert noticed.verdict == "fail", mutant.about


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_mutant_leaves_nothing_behind(mutant: Mutant) -> None:
    before = {**vars(Socket)}, {**vars(Binding)}
    with mutated(mutant.name):
        pass
    assert before == ({**vars(Socket)}, {**vars(Binding)})
