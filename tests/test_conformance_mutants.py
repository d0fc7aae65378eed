"""Does the conformance suite notice? Implementations that are wrong on purpose."""

from __future__ import annotations

import pytest

from conformance.drivers import drivers
from conformance.drivers.mutants import MUTANTS, Mutant, mutated
from conformance.results import transcript
from conformance.runner import Job, Times, perform
from conformance.scenarios import load
from wsockets import Binding, Socket

SCENARIOS = {each.id: each for each in load()}

# What no mutant gets wrong; it tells a misbehaviour from a driver that crashes.
HARMLESS = SCENARIOS["data.echo"]


def test_there_are_enough_of_them_and_each_is_described() -> None:
    assert len(MUTANTS) >= 25
    assert [each for each in MUTANTS.values() if not each.about.endswith(".")] == []
    assert {each.noticed_by for each in MUTANTS.values()} <= SCENARIOS.keys()


@pytest.mark.timeout(120)
def test_every_misbehaviour_is_noticed_and_none_is_a_crash() -> None:
    # One test, as it is one run: starting a driver takes longer than a mutant.
    work = [
        Job(scenario, mutant.name)
        for mutant in MUTANTS.values()
        for scenario in (SCENARIOS[mutant.noticed_by], HARMLESS)
    ]
    done = perform(drivers()["python"], work, jobs=4, times=Times(1.0))
    broken = [
        (job.mutant, transcript(result))
        for job, result in done.items()
        if job.scenario is HARMLESS and result.verdict != "pass"
    ]
    assert broken == []
    unnoticed = [
        (job.mutant, job.scenario.id)
        for job, result in done.items()
        if job.scenario is not HARMLESS and result.verdict != "fail"
    ]
    assert unnoticed == []
    assert len(done) == 2 * len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_mutant_leaves_nothing_behind(mutant: Mutant) -> None:
    before = {**vars(Socket)}, {**vars(Binding)}
    with mutated(mutant.name):
        pass
    assert before == ({**vars(Socket)}, {**vars(Binding)})
