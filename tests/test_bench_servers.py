"""The servers' part of the benchmarks: who comes, and a run of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import arrivals, results, servers, session
from bench.bridges import Bridge
from bench.bridging import Ground, ground, running
from bench.plan import Measure
from bench.run import BenchError
from tests.bench_command import bench

PYTHON = [each.name for each in servers.SERVERS if "_server" in "".join(each.command())]


def named(name: str) -> Bridge:
    return {each.name: each for each in servers.SERVERS}[name]


def small(name: str, factor: float = 0.01) -> Measure:
    (measure,) = servers.chosen([name])
    return measure.shortened(factor)


def program(code: str) -> Bridge:
    """A server that runs `code`, which is told the port."""
    start = "import json, socket, sys; port = json.loads(sys.argv[-1])['port']\n"
    return Bridge(
        name="fake",
        title="fake",
        command=lambda: [sys.executable, "-c", start + code],
        missing=lambda: None,
        version=lambda: "1",
        rows=servers.ECHO,
    )


@pytest.fixture(scope="module")
def where() -> Iterator[Ground]:
    with ground("free") as files:
        yield files


@pytest.mark.parametrize("measure", ["accept", "handshake"])
@pytest.mark.parametrize("name", PYTHON)
def test_servers_send_back_what_everybody_said(
    name: str, measure: str, where: Ground
) -> None:
    if name == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed: an optional peer")
    work = small(measure)
    found = arrivals.trial(named(name), [work], where)
    assert found.values[measure] > 0
    assert found.checked == work.count * 64
    secret = "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert found.cipher == (secret if measure == "handshake" else None)


def test_a_tunnel_is_measured_with_a_backend_behind_it(where: Ground) -> None:
    measure = small("tunnel-handshake")
    found = arrivals.trial(named("wsockets"), [measure], where)
    assert found.values["tunnel-handshake"] > 0
    assert found.checked == measure.count * 64


def test_a_server_that_alters_a_byte_has_no_figure(where: Ground) -> None:
    liar = program("""
with socket.create_server(("127.0.0.1", port)) as server:
    while True:
        with server.accept()[0] as sock:
            sock.sendall(b"?" + sock.recv(64)[1:])
""")
    with pytest.raises(BenchError, match=r"fake on accept: .* came back instead of"):
        arrivals.trial(liar, [small("accept")], where)


RUDE = program("""
with socket.create_server(("127.0.0.1", port)) as server:
    print("no time", file=sys.stderr, flush=True)
    while True:
        with server.accept()[0] as sock:
            sock.recv(64)
""")


def test_a_server_that_hangs_up_is_quoted(where: Ground) -> None:
    with pytest.raises(BenchError, match=r"the server ended the connection\nno time"):
        arrivals.trial(RUDE, [small("accept")], where)


def test_a_failing_server_costs_the_others_nothing(where: Ground) -> None:
    (section,) = session.perform_row(
        [small("accept")],
        [RUDE, named("asyncio"), named("haproxy")],
        where,
        2,
        {},
        lambda text: None,
        attempt=arrivals.trial,
    )
    assert set(section.failed) == {"fake"}
    # haproxy does not take part.
    assert {name: len(each.values) for name, each in section.figures.items()} == {
        "asyncio": 2
    }


def test_every_measure_has_somebody_to_compare_with_and_every_goal_is_of_one() -> None:
    for measure in servers.MEASURES:
        parties = {each.name for each in servers.SERVERS if measure.row in each.rows}
        assert {"wsockets", measure.reference, *measure.goals} <= parties
    assert servers.chosen([]) == servers.MEASURES


@pytest.mark.parametrize("name", [each for each in PYTHON if each != "node"])
def test_servers_end_with_their_standard_input(name: str, where: Ground) -> None:
    with running(named(name), small("accept"), where) as run:
        # It listens, so it has begun.
        run.meeting.dial().close()
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert run.process.wait(20) == 0


def test_the_command_measures_and_draws(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    peers = ["--peer", "wsockets", "--peer", "trio", "--peer", "asyncio"]
    only = ["--only", "accept", "--only", "handshake"]
    said = bench("server", "--quick", *peers, *only, "--out", out)
    data = json.loads(out.read_text())
    assert set(data["measures"]) == {"accept", "handshake"}
    for measure in data["measures"].values():
        assert set(measure["figures"]) == {"wsockets", "trio", "asyncio"}
        assert all(each["median"] > 0 for each in measure["figures"].values())
    assert "TLS 1.3 handshake" in said
    assert out.with_suffix(".svg").read_text().startswith("<?xml")
    # What was measured before can be measured anew.
    found = results.load(out)
    assert results.merge(found, found).sections == found.sections
