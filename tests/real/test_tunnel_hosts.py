"""Two kernels talk through a tunnel: ping, iperf3 and curl, on each engine."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from docs.examples.tunnel_hosts import Host, tunnel
from tests import loops
from tests.bridge.harness import WITHIN
from wsockets import Bridge

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.every_loop,
    pytest.mark.usefixtures("engine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root"),
]


@pytest.fixture(params=[False, True], ids=["one-each", "offload"])
def offload(request: pytest.FixtureRequest) -> bool:
    """Whether the devices give many packets at a time."""
    found: bool = request.param
    return found


def mebibytes() -> int:
    """How much is carried. Much takes its time, so elsewhere it is less."""
    return 64 if loops.on_trio() else 16


async def output_of(host: Host, *command: object) -> str:
    """What a command on a host prints; it must go well."""
    done = await loops.run_process(host.command(*map(str, command)), timeout=2 * WITHIN)
    return done.stdout.decode()


@asynccontextmanager
async def serving(host: Host, ready: str, *command: object) -> AsyncIterator[None]:
    """A server on a host, once it has printed `ready`."""
    with subprocess.Popen(
        host.command(*map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            while ready not in said:
                line = await loops.in_thread(process.stdout.readline)
                assert line, said
                said += line
            yield
        finally:
            process.kill()


async def nothing_is_lost_between(first: Bridge, second: Bridge) -> None:
    """What one end took from its TUN the other's TUN was given, a record each."""
    for sender, receiver in ((first, second), (second, first)):

        def tallies(sender: Bridge, receiver: Bridge) -> tuple[object, object]:
            sent, received = sender.stats.encrypt, receiver.stats.decrypt
            return (
                (sent.packets, sent.records, sent.bytes, sent.drops),
                (received.packets, sent.packets, received.bytes, received.drops),
            )

        # The counters may lag a little, and hosts may say more of their own accord.
        sent, received = tallies(sender, receiver)
        with suppress(TimeoutError), loops.fail_after(WITHIN):
            while sent != received:
                await loops.checkpoint()
                sent, received = tallies(sender, receiver)
        assert sent == received
        assert sender.stats.encrypt.drops == receiver.stats.decrypt.drops == 0


@pytest.mark.parametrize("mtu", [1500, 16000])
async def test_hosts_ping_each_other(
    mtu: int, offload: bool, engine: str, peer: Callable[[str], str]
) -> None:
    ping = peer("ping")
    async with tunnel(mtu, offload=offload) as (near, far, first, second):
        assert first.engine == second.engine == engine
        for here, there in ((near, far), (far, near)):
            for address in there.addresses:
                # The longest that goes into a packet, and none is cut.
                size = mtu - (48 if ":" in address else 28)
                # With a deadline it waits for all answers, however late, and asks
                # on meanwhile.
                deadline = f"-w{WITHIN:.0f}"
                said = await output_of(
                    *(here, ping, "-c50", "-i0.005", deadline, "-Mdo", f"-s{size}"),
                    address,
                )
                count = re.search(r"(\d+) received", said)
                assert count is not None, said
                assert int(count[1]) >= 50, said
        await nothing_is_lost_between(first, second)
        assert first.stats.encrypt.packets >= 200


@pytest.mark.parametrize("reverse", [False, True], ids=["there", "back"])
async def test_iperf3_fills_the_tunnel(
    reverse: bool, offload: bool, peer: Callable[[str], str]
) -> None:
    iperf3 = peer("iperf3")
    options = ["-R"] if reverse else []
    async with tunnel(offload=offload) as (near, far, first, second):
        async with serving(far, "Server listening", iperf3, "-s", "-1", "--forceflush"):
            said = await output_of(
                *(near, iperf3, "-c", far.addresses[0], "-P2", "-J"),
                *(f"-n{mebibytes()}M", *options),
            )
        found: dict[str, Any] = json.loads(said)
        assert "error" not in found
        # What is under way when one side has counted to the end is not counted: what
        # is in the buffers of two connections.
        assert found["end"]["sum_received"]["bytes"] >= (mebibytes() - 12) << 20
        # Of long packets the kernel counts each as one.
        sender, bridge = (far, second) if reverse else (near, first)
        counted = json.loads(await output_of(sender, "ip", "-j", "-s", "link"))
        given = {each["ifname"]: each["stats64"]["tx"] for each in counted}["tun0"]
        many = bridge.stats.encrypt.packets >= 2 * given["packets"]
        assert many == offload
        await nothing_is_lost_between(first, second)


@pytest.mark.parametrize("length", [16, 1400, 8900])
async def test_datagrams_of_all_lengths_come_through(
    length: int, offload: bool, peer: Callable[[str], str]
) -> None:
    iperf3 = peer("iperf3")
    async with tunnel(9000, offload=offload) as (near, far, first, second):
        async with serving(far, "Server listening", iperf3, "-s", "-1", "--forceflush"):
            said = await output_of(
                *(near, iperf3, "-u", "-c", far.addresses[1], "-J"),
                *(f"-b{4000 * 8 * length}", f"-l{length}", "-k2000"),
            )
        total = json.loads(said)["end"]["sum"]
        assert total["packets"] >= 2000
        # The kernels have queues of their own, in front of the tunnel and behind it,
        # which overflow on a loaded machine.
        assert total["lost_packets"] < total["packets"]
        await nothing_is_lost_between(first, second)


async def test_curl_downloads_every_byte(
    tmp_path: Path, rng: random.Random, offload: bool, peer: Callable[[str], str]
) -> None:
    curl = peer("curl")
    data = rng.randbytes(mebibytes() << 20)
    (tmp_path / "file").write_bytes(data)
    async with tunnel(offload=offload) as (near, far, *_):
        async with serving(
            *(far, "Serving HTTP", sys.executable, "-u", "-m", "http.server"),
            *("--bind", far.addresses[1], "-d", tmp_path, 8080),
        ):
            url = f"http://[{far.addresses[1]}]:8080/file"
            await output_of(near, curl, "-sSf", "-o", tmp_path / "copy", url)
    copy = (tmp_path / "copy").read_bytes()
    assert hashlib.sha256(copy).digest() == hashlib.sha256(data).digest()


def test_the_program_runs_a_command_on_the_first_host(
    engine: str, peer: Callable[[str], str]
) -> None:
    peer("ping")
    done = subprocess.run(
        [sys.executable, "-W", "error", "docs/examples/tunnel_hosts.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "5 received, 0% packet loss" in done.stdout
    assert f"{engine} engine: " in done.stdout
