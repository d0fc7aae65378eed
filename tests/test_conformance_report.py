"""The conformance suite's reports: terminal, JSON, JUnit XML, and the page."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from conformance.cli import main
from conformance.drivers import ROOT
from conformance.report import page, show, write_junit
from conformance.results import Line, Report, Result
from conformance.scenarios import SPECIFICATION, Scenario, load
from tests.peers import PEERS

SCENARIOS = load()
LEVELS = {each.id: each for each in SCENARIOS}


def scenario(level: str) -> Scenario:
    return next(each for each in SCENARIOS if each.level == level)


GOOD = Line("client", "connect <x>", "returned", "returned Socket", True)
BAD = Line("peer", "recv", "data <b>", "data \0", False)


def report(name: str, **verdicts: str) -> Report:
    results = []
    for level, verdict in verdicts.items():
        lines = [GOOD, BAD] if verdict == "fail" else [GOOD]
        each = scenario(level)
        results.append(Result(each.id, each.level, verdict, lines))  # type: ignore[arg-type]
    return Report(name, f"The <{name}>", {name: "1.0"}, "a" * 40, "2026-01-02", results)


RIGHT = report("right", M="pass", W="pass", D="pass", O="reported")
WRONG = report("wrong", M="fail", W="not offered", D="fail", O="reported")
SHOWN = [scenario(level) for level in "MWDO"]


def test_it_conforms_where_nothing_of_the_text_or_of_web_idl_fails() -> None:
    assert RIGHT.conforms
    assert not WRONG.conforms
    assert report("d", M="pass", D="fail").conforms
    assert not report("w", W="fail").conforms


def test_results_survive_json(tmp_path: Path) -> None:
    WRONG.save(tmp_path / "x.json")
    assert Report.read(tmp_path / "x.json") == WRONG
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="not a result"):
        Report.read(tmp_path / "x.json")


def test_the_terminal_shows_what_failed_and_the_counts() -> None:
    console = Console(record=True, width=120, file=io.StringIO())
    show(console, [RIGHT, WRONG], SHOWN)
    brief = console.export_text()
    assert "The <wrong>: 2 failed" in brief
    assert scenario("M").id in brief
    assert "not data <b>" in brief
    assert "1 of 1" in brief
    assert "0 of 1" in brief
    assert "1 not offered" in brief


def test_junit_counts_only_the_specification_as_failures(tmp_path: Path) -> None:
    write_junit(WRONG, SHOWN, tmp_path / "x.xml")
    suites = {
        suite.attrib["name"][0]: suite
        for suite in ET.parse(tmp_path / "x.xml").getroot()
    }
    assert list(suites) == ["M", "W", "D", "O"]
    assert suites["M"].attrib["failures"] == "1"
    assert suites["D"].attrib["failures"] == "0"
    assert suites["D"].attrib["skipped"] == suites["W"].attrib["skipped"] == "1"
    failure = suites["M"].find("testcase/failure")
    assert failure is not None
    assert "recv" in failure.attrib["message"]
    assert "\N{REPLACEMENT CHARACTER}" in (failure.text or "")


def test_the_page_stands_alone_and_says_everything() -> None:
    html = page([RIGHT, WRONG], SHOWN)
    # Links lead out; nothing is loaded.
    assert not re.search(r"<link|src=|@import|url\(", html)
    assert "The &lt;wrong&gt;" in html
    assert "data &lt;b&gt;" in html
    for each in SHOWN:
        assert f'id="{each.id}"' in html
        assert f'href="{SPECIFICATION}#{each.anchor}"' in html
    assert html.count('class="run"') == 4  # two failures, two that are only reported
    assert page([], SHOWN[:1])


@pytest.fixture(scope="module")
def chromium() -> str:
    peer = PEERS["chromium"]
    found = peer.find()
    if found is None:
        pytest.skip(peer.absence)
    return found


def browse(chromium: str, tmp_path: Path, html: Path, query: str) -> str:
    """The document as the browser has it when its scripts have run."""
    return subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=2000", "--dump-dom", f"{html.as_uri()}?{query}",
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    ).stdout  # fmt: skip


def test_a_browser_shows_the_page_and_its_filters_filter(
    chromium: str, tmp_path: Path
) -> None:
    html = tmp_path / "index.html"
    html.write_text(page([RIGHT, WRONG], SHOWN))
    whole = browse(chromium, tmp_path, html, "")
    assert "4 of 4</output>" in whole
    failures = browse(chromium, tmp_path, html, "result=fail&level=MW&theme=dark")
    assert "1 of 4</output>" in failures
    assert 'data-theme="dark"' in failures
    hidden = re.findall(r'<details id="([^"]*)"[^>]*hidden=""', failures)
    assert hidden == [scenario(level).id for level in "WDO"]
    searched = browse(chromium, tmp_path, html, f"text={scenario('D').id}")
    assert "1 of 4</output>" in searched


# -- the command line


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


def test_the_command_runs_scenarios_and_writes_every_report(tmp_path: Path) -> None:
    status, said = invoke(
        "run", "--only", "data.echo", "--only", "data.a-string", "--jobs", "1",
        "--json", str(tmp_path), "--junit", str(tmp_path),
        "--html", str(tmp_path / "page" / "index.html"),
    )  # fmt: skip
    assert status == 0, said
    assert "1 of 1" in said
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"python.json", "python.xml", "page"}
    status, said = invoke(
        "page", str(tmp_path / "python.json"), "--output", str(tmp_path / "again.html")
    )
    assert status == 0, said
    again = (tmp_path / "again.html").read_text()
    assert (
        again == (tmp_path / "page" / "index.html").read_text() or "data.echo" in again
    )


@pytest.mark.parametrize(
    ("mutant", "scenario", "status"),
    [
        pytest.param("loses-bytes", "data.much-down", 1, id="of-the-text"),
        pytest.param("takes-bytes-only", "data.a-string", 0, id="of-a-decision"),
    ],
)
def test_the_exit_status_is_that_of_the_specification(
    mutant: str, scenario: str, status: int
) -> None:
    found, said = invoke(
        "run", "--only", scenario, "--mutant", mutant, "--limit", "1", "-v"
    )
    assert found == status, said
    assert "1 failed" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(["--only", "nothing"], "no such scenario", id="scenario"),
        pytest.param(["--driver", "nobody"], "no driver nobody", id="driver"),
    ],
)
def test_what_there_is_not_is_said(arguments: list[str], complaint: str) -> None:
    status, said = invoke("run", *arguments)
    assert status == 2
    assert complaint in said


def test_the_command_lists_the_scenarios() -> None:
    status, said = invoke("list", "data.echo")
    assert status == 0
    assert said == f"M data.echo: {LEVELS['data.echo'].title}\n"


def test_the_clauses_are_up_to_date() -> None:
    assert invoke("clauses") == (0, "0 clauses changed\n")


ISOLATED = """
import socket
from conformance.isolation import isolate
print(isolate(), *(name for _, name in socket.if_nameindex()))
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
"""


def python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
        cwd=ROOT.parent,
    ).stdout


def test_a_run_has_a_network_without_a_way_out_where_the_system_allows_it() -> None:
    isolated, *interfaces = python("-c", ISOLATED).split()
    # Containers often have no permission for it; the loopback works regardless.
    assert isolated == "False" or interfaces == ["lo"]


def test_the_suite_is_a_program() -> None:
    said = python("-m", "conformance", "run", "--only", "data.echo", "--jobs", "1")
    assert "1 of 1" in said
