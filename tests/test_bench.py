"""The harness of the benchmarks: what it accepts, what it refuses, what it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from bench import plan, results, session
from bench.plan import Client, Measure
from bench.results import Figure, Results, Section
from bench.run import BenchError, Site, run, site
from tests.bench_command import bench

CLIENTS = ("wsockets", "trio")
MEASURES = ("roundtrip-tls", "receive-plain", "send-tls", "connect-resumed")
IDLE = "idle-plain"


def program(code: str, *, missing: str | None = None) -> Client:
    """A client that runs `code`."""
    return Client(
        name="fake",
        title="fake",
        command=lambda: [sys.executable, "-c", code],
        missing=lambda: missing,
        version=lambda: "1",
    )


def answer(**said: object) -> Client:
    """A client that does nothing but answer."""
    return program(f"print({json.dumps(said)!r})")


def small(name: str) -> Measure:
    """A measure with as little work as still is some."""
    return plan.measure_named(name).shortened(0.005)


@pytest.fixture(scope="module")
def where() -> Iterator[Site]:
    with site() as running:
        yield running


@pytest.fixture(scope="module")
def found() -> Results:
    return session.perform(
        [small(name) for name in (*MEASURES, IDLE)],
        [plan.client_named(name) for name in CLIENTS],
        repeats=1,
        quick=True,
        pin="free",
    )


@pytest.fixture(scope="module")
def written(found: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "deeper" / "found.json"
    results.save(found, path)
    return path


def test_every_python_client_does_its_work_and_every_byte_is_right(
    found: Results,
) -> None:
    for section in found.sections:
        assert section.failed == {}
        assert set(section.figures) == set(CLIENTS)
        for figure in section.figures.values():
            assert len(figure.values) == 1
            greetings_only = section.name.startswith("connect")
            assert (figure.checked == 0) is greetings_only


def test_a_client_that_cannot_do_a_measure_is_skipped_with_the_reason(
    where: Site,
) -> None:
    section = session.perform_one(
        small("connect-resumed"),
        [plan.client_named("asyncio-protocol")],
        where,
        1,
        {},
        lambda text: None,
    )
    assert section.skipped == {"asyncio-protocol": plan.NO_SESSIONS}


def test_tls_figures_name_the_cipher_and_plain_ones_none(found: Results) -> None:
    ciphers = {
        section.name: {figure.cipher for figure in section.figures.values()}
        for section in found.sections
    }
    assert ciphers["roundtrip-tls"] == {"TLSv1.3 TLS_AES_256_GCM_SHA384"}
    assert ciphers["receive-plain"] == {None}


def test_the_file_has_the_documented_keys(written: Path) -> None:
    data = json.loads(written.read_text())
    assert set(data) == {
        "schema",
        "quick",
        "pin",
        "machine",
        "clients",
        "measures",
    }
    assert data["schema"] == results.SCHEMA
    assert data["quick"] is True
    assert set(data["clients"]) == set(CLIENTS)
    assert set(data["measures"]) == {*MEASURES, IDLE}
    for measure in data["measures"].values():
        assert set(measure) == {
            "title",
            "unit",
            "count",
            "size",
            "reference",
            "series",
            "at",
            "goals",
            "started",
            "load",
            "repeats",
            "figures",
            "skipped",
            "failed",
        }
        for figure in measure["figures"].values():
            assert set(figure) == {
                "median",
                "best",
                "spread",
                "values",
                "ratio",
                "baseline",
                "wall",
                "checked",
                "cipher",
            }


def test_the_file_reads_back_as_it_was_written(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    results.save(results.load(written), again)
    first, second = (json.loads(path.read_text()) for path in (written, again))
    for data in (first, second):
        for measure in data["measures"].values():
            for figure in measure["figures"].values():
                # Ratios of rounded values differ in the last place.
                del figure["ratio"]
    assert first == second


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema 0"):
        results.load(path)


def test_new_sections_take_the_place_of_old_ones(found: Results) -> None:
    old = attrs.evolve(found, sections=found.sections[:2])
    again = attrs.evolve(found.sections[1], repeats=7)
    new = attrs.evolve(found, sections=(again, found.sections[2]))
    merged = results.merge(old, new)
    assert merged.sections == (found.sections[0], again, found.sections[2])


def test_sections_that_were_run_otherwise_do_not_mix(found: Results) -> None:
    with pytest.raises(ValueError, match="pin=same do not go into a file"):
        results.merge(found, attrs.evolve(found, pin="same"))


def test_the_command_prints_a_file_and_draws_it(written: Path) -> None:
    assert "64-byte round trip, TLS 1.3" in bench("show", written)
    assert written.with_suffix(".svg").read_text().startswith("<?xml")


def test_the_committed_results_cover_every_measure_without_a_failure() -> None:
    committed = results.load(plan.HERE / "results" / "sockets.json")
    assert not committed.quick
    assert [each.name for each in committed.sections] == [
        each.name for each in plan.MEASURES
    ]
    for section in committed.sections:
        assert section.failed == {}
        assert {"wsockets", "trio"} <= set(section.figures)


def test_too_few_bytes_are_a_failure(where: Site) -> None:
    client = answer(bytes=1, digest=None)
    with pytest.raises(BenchError, match=r"'bytes': 1.* arrived instead of"):
        run(client, small("roundtrip-plain"), where)


def test_a_wrong_digest_is_a_failure(where: Site) -> None:
    measure = small("receive-plain")
    client = answer(bytes=measure.count * measure.size, digest="00")
    with pytest.raises(BenchError, match=r"'digest': '00'.* arrived instead of"):
        run(client, measure, where, check=True)


def test_an_answer_without_a_connection_is_a_failure(where: Site) -> None:
    measure = small("receive-plain")
    client = answer(bytes=measure.count * measure.size, digest=None)
    with pytest.raises(BenchError, match=r"\(0, 0, 0\) instead of \(1, 0, 0\)"):
        run(client, measure, where)


def test_a_program_that_fails_is_quoted(where: Site) -> None:
    client = program("import sys; sys.exit('out of luck')")
    with pytest.raises(BenchError, match=r"exit code 1 after .*\nout of luck"):
        run(client, small("roundtrip-plain"), where)


def test_a_program_that_hangs_is_stopped(where: Site) -> None:
    client = program("import threading; threading.Event().wait()")
    with pytest.raises(BenchError, match="exit code -9"):
        run(client, small("roundtrip-plain"), where, timeout=0.2)


def test_a_failing_client_costs_the_others_nothing(where: Site) -> None:
    section = session.perform_one(
        small("roundtrip-plain"),
        [program("raise SystemExit(3)"), plan.client_named("asyncio-protocol")],
        where,
        1,
        {},
        lambda text: None,
    )
    assert set(section.failed) == {"fake"}
    assert set(section.figures) == {"asyncio-protocol"}


def test_an_absent_client_is_skipped_with_the_reason(where: Site) -> None:
    section = session.perform_one(
        small("roundtrip-plain"),
        [program("", missing="no such thing")],
        where,
        1,
        {"fake": "no such thing"},
        lambda text: None,
    )
    assert section.skipped == {"fake": "no such thing"}


def test_a_program_whose_package_is_missing_says_which() -> None:
    client = plan.python_client("none", "none", "nothing_like_it", "none")
    assert "nothing_like_it" in str(client.missing())


def figure(*values: float) -> Figure:
    return Figure(values=values, baseline=0.0, wall=1.0, checked=1, cipher=None)


def section_of(**figures: Figure) -> Section:
    return Section(
        name="x",
        title="x",
        unit="s",
        count=1,
        size=1,
        goals={},
        started="2026-01-01T00:00:00+00:00",
        load=(1.0, 1.0),
        repeats=1,
        figures=figures,
        skipped={},
        failed={},
    )


def test_ratios_are_formed_within_a_repeat() -> None:
    ratio = section_of(wsockets=figure(1, 4, 9), trio=figure(2, 4, 6)).ratio("wsockets")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high, ratio.best) == (1.0, 0.5, 1.5, 0.5)


def test_there_is_no_ratio_to_what_was_not_measured() -> None:
    section = section_of(wsockets=figure(1.0), trio=figure(-0.1))
    assert section.ratio("wsockets") is None
    assert section.ratio("wsockets", "node") is None


def test_the_spread_is_half_the_distance_between_the_quartiles() -> None:
    assert figure(1, 2, 3, 4, 5).spread == pytest.approx(1 / 3)
    assert figure(7).spread == 0.0
