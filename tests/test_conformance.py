"""The conformance suite: its scenarios, its judgement, and this library under it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from conformance.certificates import SERVERS
from conformance.coverage import read_clauses, shown_by
from conformance.drivers import ROOT, Driver, DriverError, drivers, read_drivers
from conformance.outcomes import meets, show
from conformance.pattern import describe, pattern
from conformance.results import Report, describe_step, transcript
from conformance.runner import Times, judge, run
from conformance.scenarios import (
    SPECIFICATION,
    Scenario,
    chosen,
    filled_in,
    load,
    read_chapter,
)
from tests.test_clauses import ANCHORS

SCENARIOS = load()
CLAUSES = {clause["id"]: clause for clause in read_clauses()}
FAMILIES = {each.family: each for each in SCENARIOS}

# Chosen so that each verb and each word of the vocabulary occurs.
SMOKE = [
    "data.echo",
    "opened.rejects-at-all",
    "close.closes-the-connection",
    "fin.is-answered",
    "starttls.upgrades",
    "shape.attributes",
    "tls.opens",
    "streams.iterate",
]

# The event loops that the library runs on.
RUNTIMES = ("python", "python-asyncio", "python-uvloop")


def named(id: str, *values: Any) -> Any:
    return pytest.param(*values, id=id)


def one(id: str) -> Scenario:
    return next(each for each in SCENARIOS if each.id == id)


# -- the scenarios


def test_there_are_many_and_each_has_its_own_id() -> None:
    assert len(FAMILIES) >= 250
    assert len({each.id for each in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_a_scenario_points_at_the_text_and_at_clauses(family: Scenario) -> None:
    assert family.anchor in ANCHORS
    assert family.link == f"{SPECIFICATION}#{family.anchor}"
    assert set(family.clauses) <= CLAUSES.keys()
    assert len(set(family.clauses)) == len(family.clauses)
    levels = {CLAUSES[each]["level"] for each in family.clauses}
    if family.level in "MW":
        # Something that the specification says, not only a decision of ours.
        assert levels & {"M", "W"}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.id for each in SCENARIOS])
def test_a_scenario_can_fail_and_does_not_guess_at_time(scenario: Scenario) -> None:
    steps = [*scenario.client, *scenario.peer]
    assert any("expect" in step for step in steps) or any(
        step["do"] in ("accept", "connect") for step in steps
    )
    for step in steps:
        if step["do"] == "peek":
            # What has to happen is awaited; looking is for what must not.
            assert step["expect"] == "pending"
        if step["do"] == "tls":
            assert step.get("certificate", "localhost") in SERVERS
    raised = {step["name"] for step in steps if step["do"] == "signal"}
    awaited = {step["name"] for step in steps if step["do"] == "wait"}
    assert raised == awaited


def test_variants_are_written_out() -> None:
    first, second = read_chapter(
        """
        chapter = "x"
        about = "y"
        [[scenario]]
        id = "a.b"
        title = "Something that varies"
        anchor = "connect-section"
        clauses = ["connect.may-throw"]
        level = "M"
        vary = { a-word = "$port", an-object = { port = 1 } }
        client = [{ do = "connect", to = "$value" }, { do = "get", on = "x" }]
        """
    )
    assert (first.id, first.title) == ("a.b.a-word", "Something that varies: a word")
    assert first.family == second.family == "a.b"
    assert first.client[0] == {"do": "connect", "to": "$port"}
    assert second.client[0] == {"do": "connect", "to": {"port": 1}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        named("level-missing", ('level = "M"', ""), "level"),
        named("level-unknown", ('level = "M"', 'level = "X"'), "X"),
        named("no-reason-for-a-decision", ('level = "M"', 'level = "D"'), "why"),
        named("verb-unknown", ('do = "get"', 'do = "fetch"'), "a.b.client.0"),
        named("member-unknown", ('on = "x"', 'on = "x", with = 1'), "a.b.client.0"),
        named("id-malformed", ('id = "a.b"', 'id = "A"'), "A"),
    ],
)
def test_the_schema_refuses(change: tuple[str, str], complaint: str) -> None:
    text = """
        chapter = "x"
        about = "y"
        [[scenario]]
        id = "a.b"
        title = "Something or other"
        anchor = "connect-section"
        clauses = ["connect.may-throw"]
        level = "M"
        client = [{ do = "get", on = "x" }]
        """
    assert len(read_chapter(text)) == 1
    with pytest.raises(ValueError, match=complaint):
        read_chapter(text.replace(*change))


def test_scenarios_are_chosen_by_level_chapter_id_and_pattern() -> None:
    def ids(**choice: Any) -> set[str]:
        return {each.id for each in chosen(SCENARIOS, **choice)}

    assert ids() == {each.id for each in SCENARIOS}
    assert ids(only=["data.echo"]) == {"data.echo"}
    assert {each.partition(".")[0] for each in ids(only=["close"])} == {"close"}
    assert ids(only=["*.echo"]) == {"data.echo"}
    assert {one(each).level for each in ids(levels=["W"])} == {"W"}


def test_names_are_filled_in_and_expectations_taken_out() -> None:
    step = {"do": "connect", "to": ["$port", "localhost:$port"], "expect": "threw"}
    [filled] = filled_in([step], {"$port": "80"})
    assert filled == {"do": "connect", "to": [80, "localhost:80"]}


# -- coverage of the specification


@pytest.mark.parametrize("clause", CLAUSES.values(), ids=list(CLAUSES))
def test_a_clause_names_its_scenarios_or_says_why_it_has_none(
    clause: dict[str, Any],
) -> None:
    found = shown_by(clause["id"], SCENARIOS)
    assert clause.get("scenarios", []) == found, "run: python -m conformance clauses"
    assert bool(found) != bool(clause.get("why-no-scenario"))


# -- judging


def returned(value: object) -> dict[str, Any]:
    return {"how": "returned", "value": value}


def rejected(**members: object) -> dict[str, Any]:
    error = {"name": "E", "message": "m", "reason": None, "typeError": False}
    return {"how": "rejected", "error": {**error, "error": True, **members}}


SOCKET_ERROR = rejected(typeError=True, message="SocketError: m")
READ = {"how": "read", "data": describe(b"abc"), "end": "done"}
TLS = {
    "how": "tls", "version": "TLSv1.3", "sni": None, "offered": ["a", "b"],
    "alpn": "a", "client": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "fitting", "others"),
    [
        named("nothing", returned(None), ["nothing", "returned"], ["true", "settled"]),
        named("true", returned(True), [True, "returned true"], [False, 1]),
        named("a-number", returned(3), [3, "positive"], [4, "nothing"]),
        named("a-text", returned({"text": "x"}), ["text x"], ["x", "text y"]),
        named(
            "fulfilled",
            {"how": "fulfilled", "value": {"done": True, "value": None}},
            ["fulfilled done", "settled", "done"],
            ["rejected", "failed"],
        ),
        named(
            "an-error",
            rejected(),
            ["rejected", "failed Error", "settled"],
            ["rejected TypeError", "threw", "fulfilled"],
        ),
        named(
            "a-type-error",
            rejected(typeError=True),
            ["rejected TypeError"],
            ["rejected SocketError"],
        ),
        named(
            "a-socket-error",
            SOCKET_ERROR,
            ["rejected SocketError", "failed SocketError", "rejected TypeError"],
            ["threw SocketError"],
        ),
        named(
            "a-reason",
            rejected(reason="enough"),
            ["rejected reason enough"],
            ["rejected reason other"],
        ),
        named(
            "read",
            READ,
            ["data abc, done", "data abc", "data", "ends done", "data, done"],
            ["no data", "done", "data abc, pending"],
        ),
        named(
            "the-end",
            {"how": "read", "data": describe(b""), "end": "close_notify, fin"},
            ["no data", "close_notify, fin", "close_notify", "ends close_notify"],
            ["fin", "data"],
        ),
        named(
            "binary",
            {"how": "read", "data": describe(b"\0\xff"), "end": "open"},
            ["data x00ff"],
            ["no data"],
        ),
        named(
            "much",
            {"how": "read", "data": describe(pattern(100)), "end": "open"},
            ["data 100 pattern"],
            ["data 99 pattern"],
        ),
        named(
            "much-and-wrong",
            {"how": "read", "data": describe(pattern(100)[::-1]), "end": "open"},
            ["data 100 other bytes"],
            ["data 100 pattern"],
        ),
        named(
            "tls",
            TLS,
            ["tls", "sni none", {"all": ["offered a b", "alpn a"]}],
            ["sni a", "failed", {"all": ["tls", "alpn b"]}],
        ),
        named(
            "failed-tls",
            {"how": "failed", "why": "x", "sni": "n", "offered": []},
            ["failed", "sni n"],
            ["tls", "sni none"],
        ),
        named("crashed", {"how": "crashed", "why": "x"}, ["crashed"], ["failed"]),
        named("a-choice", returned(1), [["pending", 1]], [["pending", 2]]),
    ],
)
def test_an_outcome_meets_what_describes_it_and_nothing_else(
    outcome: dict[str, Any], fitting: list[Any], others: list[Any]
) -> None:
    assert [each for each in fitting if not meets(outcome, each)] == []
    assert [each for each in others if meets(outcome, each)] == []
    assert show(outcome)


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        named("as-expected", [returned({"kind": "Socket"}), READ], "pass"),
        named("another-outcome", [returned(None), {"how": "pending"}], "fail"),
        named("too-few", [returned(None)], "fail"),
        named("preparation-failed", [SOCKET_ERROR, READ], "fail"),
        named("driver-died", [{"how": "crashed", "why": "it died"}], "fail"),
    ],
)
def test_a_scenario_passes_where_every_step_is_as_expected(
    steps: list[Any], verdict: str
) -> None:
    scenario = Scenario(
        chapter="x",
        id="a.b",
        title="t",
        anchor="connect-section",
        clauses=["connect.may-throw"],
        level="M",
        client=[
            {"do": "connect", "to": "$port"},
            {"do": "read", "expect": "data $word, done"},
        ],
    )
    result = judge(scenario, {"steps": steps}, [], values={"$word": "abc"})
    assert result.verdict == verdict
    assert bool(result.fault) == (verdict == "fail")
    assert ("BAD" in transcript(result)) == (verdict == "fail")


def test_a_step_is_described_on_one_line() -> None:
    step = {
        "do": "call", "on": "w.write", "as": "p", "expect": "threw",
        "args": [{"bytes": "x"}, {"ref": "y"}, {"a": [1]}],
    }  # fmt: skip
    assert describe_step(step) == "call w.write (bytes x, y, {a: [1]}) as p"


def test_patterns_tell_where_they_stand() -> None:
    length = 300_000
    whole = pattern(length)
    assert whole[70_000:140_000] == pattern(70_000, 70_000)
    assert len({whole[at : at + 4] for at in range(0, length, 65_536)}) > 1
    by_hand = bytes(
        (31 * i + 7 * (i >> 8) + 3 * (i >> 16)) & 255 for i in range(300_000)
    )
    assert whole == by_hand


# -- implementations


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", RUNTIMES)
def test_this_library_conforms(name: str, tmp_path: Path) -> None:
    report = run(drivers()[name], SCENARIOS, jobs=4)
    failed = [transcript(each) for each in report.results if each.verdict == "fail"]
    assert failed == []
    assert len(report.results) == len(SCENARIOS)
    assert report.conforms
    assert report.counted("M")["not offered"] == 0
    report.save(tmp_path / "python.json")
    saved = Report.read(tmp_path / "python.json")
    assert saved.counted("M") == report.counted("M")


def test_a_binding_objects_connect_conforms() -> None:
    scenarios = chosen(SCENARIOS, only=[*SMOKE, "name", "alpn", "corners"])
    report = run(drivers()["python-binding"], scenarios, jobs=3)
    assert [transcript(each) for each in report.results if each.verdict == "fail"] == []


@pytest.mark.parametrize("name", ["node", "workerd"])
def test_another_implementation_can_be_held_against_it(name: str) -> None:
    driver = drivers()[name]
    if missing := driver.lacks():
        pytest.skip(f"lacks {', '.join(missing)}: make implementations")
    report = run(driver, chosen(SCENARIOS, only=SMOKE), jobs=2, times=Times(2.0))
    results = {each.id: each for each in report.results}
    assert results["data.echo"].verdict == "pass"
    assert results["tls.opens"].verdict == "pass"
    # It speaks for itself: nothing crashed, and everything was tried.
    lines = [line for each in report.results for line in each.lines]
    assert [line.got for line in lines if line.got.startswith("crashed")] == []
    assert "unknown" not in report.versions.values()


def test_the_committed_results_are_of_these_scenarios() -> None:
    ids = {each.id for each in SCENARIOS}
    files = sorted((ROOT / "results").glob("*.json"))
    assert {file.stem for file in files} >= {"python", "node", "workerd"}
    for file in files:
        report = Report.read(file)
        assert report.driver == file.stem
        assert {each.id for each in report.results} == ids, f"run {file.stem} again"
        assert report.conforms == file.stem.startswith("python")


DYING = """
import sys
sys.stdin.readline()
print('{"steps": []}', flush=True)
sys.stdin.readline()
sys.exit("it had enough")
"""


def test_a_driver_that_dies_fails_its_scenario_and_is_started_again() -> None:
    driver = Driver("x", "x", "lines", ["{python}", "-c", DYING])
    [first, second] = run(
        driver,
        [one("opened.rejects"), one("closed.rejects")],
        jobs=1,
        times=Times(0.5),
    ).results
    assert "it had enough" in first.fault
    assert first.verdict == "fail"
    assert second.verdict == "fail"


def test_what_a_driver_lacks_is_said() -> None:
    driver = Driver("x", "x", "lines", ["x"], needs=["no-such-program", "no/file"])
    assert driver.lacks() == ["no-such-program", "no/file"]
    with pytest.raises(DriverError, match="no-such-program"):
        run(driver, [one("data.echo")])


def test_a_table_of_ones_own_adds_an_implementation(tmp_path: Path) -> None:
    table = tmp_path / "mine.toml"
    table.write_text('[mine]\ntitle = "m"\nspeaks = "lines"\ncommand = ["x"]\n')
    assert read_drivers(table)["mine"].command == ["x"]


def test_the_example_of_a_driver_is_short_and_whole() -> None:
    text = (ROOT / "README.md").read_text()
    example = text.partition("```js\n")[2].partition("```")[0]
    assert len(example.splitlines()) < 60
    assert "interpreter.mjs" in example
    assert len((ROOT / "drivers" / "node.mjs").read_text().splitlines()) < 60


def test_every_word_of_the_vocabulary_is_explained() -> None:
    schema = json.loads((ROOT / "schema.json").read_text())
    text = (ROOT / "README.md").read_text()

    def verbs(side: str) -> set[str]:
        found = set()
        for form in schema["$defs"][side]["oneOf"]:
            do = form["properties"]["do"]
            found |= set(do.get("enum", [do.get("const")]))
        return found

    for verb in verbs("client-step") | verbs("peer-step"):
        assert f"`{verb}`" in text, verb
    for need in schema["$defs"]["scenario"]["properties"]["needs"]["items"]["enum"]:
        assert f"`{need}`" in text, need


def test_the_package_of_the_implementations_pins_them() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    for version in package["dependencies"].values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert tomllib.loads((ROOT / "drivers" / "drivers.toml").read_text()).keys() >= {
        "python",
        "node",
        "workerd",
    }
