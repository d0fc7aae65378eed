"""The bridges' part of the benchmarks: its packets, its ends, and a run of it."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from bench import bridges, results, session, tunnel, usage
from bench.bridges import Bridge
from bench.bridging import Ground, ground, running, trial
from bench.clients.pump import Cutter
from bench.plan import Measure
from bench.results import Figure, Section
from bench.run import BenchError
from bench.show import goal_line
from tests.bench_command import bench

HOST = str(ipaddress.IPv6Address(tunnel.TARGET))


def named(name: str) -> Bridge:
    return {each.name: each for each in bridges.BRIDGES}[name]


def small(name: str, factor: float = 0.02) -> Measure:
    (measure,) = bridges.chosen([name])
    return measure.shortened(factor)


def program(code: str, *, missing: str | None = None) -> Bridge:
    """A bridge that runs `code`."""
    return Bridge(
        name="fake",
        title="fake",
        command=lambda: [sys.executable, "-c", code],
        missing=lambda: missing,
        version=lambda: "1",
        rows=frozenset({"bulk-decrypt"}),
    )


@pytest.fixture(scope="module")
def where() -> Iterator[Ground]:
    with ground("free") as files:
        yield files


@pytest.mark.parametrize("name", ["wsockets-python", "asyncio", "trio", "threads"])
@pytest.mark.parametrize("way", ["bulk-decrypt", "bulk-encrypt"])
def test_python_bridges_carry_every_byte_both_ways(
    name: str, way: str, where: Ground
) -> None:
    found = trial(named(name), [small(way)], where)
    assert found.values[way] > 0
    assert found.checked > 0
    assert found.cipher == "TLSv1.3 TLS_AES_256_GCM_SHA384"


def test_the_floor_carries_them_without_TLS(where: Ground) -> None:
    found = trial(named("floor"), [small("bulk-decrypt")], where)
    assert found.checked > 0
    assert found.cipher is None


def test_many_connections_are_counted_from_when_a_few_are_open(where: Ground) -> None:
    row = [each.shortened(0.02) for each in bridges.chosen(["crowd"])]
    found = trial(named("wsockets-python"), row, where)
    assert set(found.values) == {each.name for each in row}
    assert 1 < found.values["idle-4500"] < 1000
    assert found.values["connections-10"] > 0


def test_a_bridge_that_stops_and_starts_again_loses_nothing(where: Ground) -> None:
    found = trial(named("wsockets-python"), [small("handback", 0.03)], where)
    assert found.checked > 0


def test_a_bridge_that_alters_a_byte_has_no_figure(where: Ground) -> None:
    code = """
import json, socket, sys
pump = json.loads(sys.argv[-1])
front, _ = socket.create_server(("127.0.0.1", pump["port"])).accept()
back = socket.create_connection(("127.0.0.1", pump["backend"]))
back.sendall(b"?" + front.recv(1 << 16)[1:])
while data := front.recv(1 << 16):
    back.sendall(data)
"""
    liar = attrs.evolve(program(code), unsecured=True)
    with pytest.raises(BenchError, match=r"fake on bulk-decrypt: sha256 .* instead of"):
        trial(liar, [small("bulk-decrypt")], where)


def test_a_bridge_that_fails_is_quoted(where: Ground) -> None:
    code = """
import json, socket, sys
pump = json.loads(sys.argv[-1])
socket.create_server(("127.0.0.1", pump["port"])).accept()
sys.exit("out of luck")
"""
    with pytest.raises(BenchError, match="out of luck"):
        trial(program(code), [small("bulk-decrypt")], where)


def test_a_failing_or_absent_bridge_costs_the_others_nothing(where: Ground) -> None:
    code = """
import json, socket, sys
pump = json.loads(sys.argv[-1])
socket.create_server(("127.0.0.1", pump["port"])).accept()
"""
    absent = attrs.evolve(program("", missing="no such thing"), name="absent")
    (section,) = session.perform_row(
        [small("bulk-decrypt")],
        [program(code), absent, named("asyncio"), named("deno")],
        where,
        2,
        {"absent": "no such thing"},
        lambda text: None,
    )
    assert set(section.failed) == {"fake"}
    assert section.skipped == {"absent": "no such thing"}
    assert {name: len(each.values) for name, each in section.figures.items()} == {
        "asyncio": 2
    }


def test_names_rows_and_beginnings_choose_measures() -> None:
    def names(*only: str) -> list[str]:
        return [each.name for each in bridges.chosen(only)]

    assert names() == [each.name for each in bridges.MEASURES]
    assert names("bulk") == ["bulk-decrypt", "bulk-encrypt", "bulk-plain"]
    assert names("p99-busy") == ["p99-busy"]
    assert names("latency") == ["p99-idle", "p99-loaded", "p99-busy"]
    with pytest.raises(KeyError, match="nothing"):
        names("nothing")


def test_every_row_has_somebody_to_compare_with_and_every_goal_is_of_one() -> None:
    measures = {each.name: each for each in bridges.MEASURES}
    for measure in measures.values():
        parties = {each.name for each in bridges.BRIDGES if measure.row in each.rows}
        assert {"wsockets", measure.reference} <= parties
        for goal in measure.goals:
            name, _, elsewhere = goal.partition("@")
            assert name == "absolute" or name in parties
            assert not elsewhere or elsewhere in measures


def test_packets_have_the_checksums_that_RFC_1071_asks_for() -> None:
    # Whoever sums data and checksum gets all ones.
    for protocol, packet in (
        (tunnel.UDP, tunnel.datagram(b"odd")),
        (tunnel.ICMP6, tunnel.echo_request(7, 65000, 1300)),
    ):
        body = packet[40:]
        length = len(body).to_bytes(4, "big") + protocol.to_bytes(4, "big")
        assert tunnel.checksum(packet[8:40] + length + body) == 0
        assert int.from_bytes(packet[4:6], "big") == len(body)


def test_echoes_of_other_series_are_none() -> None:
    request = tunnel.echo_request(7, 65000, 100)
    reply = bytearray(request)
    assert tunnel.echo_number(memoryview(request), 7) is None
    reply[40] = tunnel.ECHO_REPLY
    assert tunnel.echo_number(memoryview(reply), 7) == 65000
    assert tunnel.echo_number(memoryview(reply), 8) is None


def test_packets_are_cut_wherever_the_stream_was() -> None:
    packets = [tunnel.datagram(bytes(size)) for size in (0, 1, 700)]
    wire = b"".join(packets)
    for step in (1, 39, 41, len(wire)):
        cutter, found = Cutter(), []
        for at in range(0, len(wire), step):
            found += [bytes(each) for each in cutter.packets(wire[at : at + step])]
        assert found == packets
    with pytest.raises(ValueError, match="version 4"):
        Cutter().packets(b"\x45" + bytes(39))


def test_the_clock_of_a_process_counts_its_children() -> None:
    code = "import os; os.write(1, b'.'); os.read(0, 1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        each = [usage.cpu_of(pid) for pid in usage.tree(process.pid)]
        assert len(each) == 2
        assert min(each) > 0
        assert usage.cpu(process.pid) >= sum(each)
        assert usage.memory(process.pid) > 1 << 20
        process.communicate(b".")
    assert process.returncode == 0


def test_a_process_is_looked_at_and_killed_while_its_threads_end() -> None:
    code = """
import threading
while True:
    threads = [threading.Thread(target=str) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        for _ in range(300):
            assert usage.cpu(process.pid) >= 0
        usage.end(process.pid)
    assert process.returncode == -9


@pytest.mark.parametrize("name", ["wsockets-python", "asyncio", "trio", "uvloop"])
def test_bridges_end_with_their_standard_input(name: str, where: Ground) -> None:
    with running(named(name), small("bulk-decrypt"), where) as run:
        # It listens, so it has begun.
        run.connect(small("bulk-decrypt")).close()
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert run.process.wait(20) == 0


def test_goals_can_be_of_another_measure() -> None:
    def section(name: str, **figures: float) -> Section:
        empty = Section.empty(small("p99-idle"), 1)
        return attrs.evolve(
            empty,
            name=name,
            figures={
                each: Figure((value,), 0.0, 1.0, 1, None)
                for each, value in figures.items()
            },
        )

    idle = section("p99-idle", wsockets=100.0)
    busy = section("p99-busy", wsockets=120.0)
    line = goal_line(busy, "wsockets@p99-idle", 1.3, {"p99-idle": idle})
    assert str(line) == "  1.2 × wsockets@p99-idle, goal 1.3: met"
    assert goal_line(busy, "wsockets@p99-idle", 1.3, {}) is None


def test_nothing_is_met_below_the_floor() -> None:
    empty = Section.empty(small("bulk-decrypt"), 1)

    def told(ours: float) -> str:
        figures = {"wsockets": ours, "floor": 1.0}
        section = attrs.evolve(
            empty,
            figures={
                name: Figure((value,), 0.0, 1.0, 1, None)
                for name, value in figures.items()
            },
        )
        return str(goal_line(section, "floor", 1.05, {}))

    assert told(1.04).endswith("goal 1.05: met")
    assert told(1.06).endswith("goal 1.05: not met")
    assert told(0.54).endswith("below the floor, so no figure")


def test_the_command_measures_draws_and_has_a_device_of_its_own(
    tmp_path: Path,
) -> None:
    out = tmp_path / "found.json"
    only = ["--only", "bulk-decrypt", "--only", "tunnel-write"]
    only += ["--peer", "asyncio", "--repeats", "1"]
    said = bench("bridge", *only, "--quick", "--out", out)
    data = json.loads(out.read_text())
    assert set(data["measures"]) == {"bulk-decrypt", "tunnel-write"}
    assert set(data["clients"]) == {"asyncio"}
    for measure in data["measures"].values():
        assert measure["figures"]["asyncio"]["median"] > 0
    assert "TLS 1.2 to TUN" in said
    assert out.with_suffix(".svg").read_text().startswith("<?xml")
    assert results.load(out).sections[1].reference == "asyncio"
