"""The CDTunnel client of the examples, and a strict device, on each engine."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio

from docs.examples.cdtunnel import Tunnel, open_tunnel
from tests import certificates, loops
from tests.bridge.harness import WITHIN, packet
from tests.devices.device import (
    ANSWERS,
    SECURITIES,
    Answer,
    Device,
    Security,
    credentials,
)
from tests.network import in_own_network, tcp_pair
from wsockets import Socket, SocketError

pytestmark = [pytest.mark.every_loop, pytest.mark.usefixtures("engine")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=SECURITIES)
def security(request: pytest.FixtureRequest) -> Security:
    found: Security = request.param
    return found


@contextlib.contextmanager
def pair(family: str = "unix") -> Iterator[tuple[socket.socket, Device]]:
    """A stream, as usbmuxd gives it, and the device at its other end."""
    near, far = socket.socketpair() if family == "unix" else tcp_pair()
    with near, far:
        yield near, Device(far)


@contextlib.asynccontextmanager
async def tunnelled(
    security: Security,
    how: Answer = "whole",
    packets: tuple[bytes, ...] = (),
    family: str = "unix",
) -> AsyncIterator[tuple[Socket, Tunnel, Device]]:
    """A tunnel whose handshake is done."""
    with pair(family) as (stream, device), loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(device.greet, security, how, packets)
            opened, tunnel = await open_tunnel(
                stream, mtu=1280, **credentials(security)
            )
        async with opened:
            yield opened, tunnel, device


@contextlib.contextmanager
def stand_in(
    kind: str = "seqpacket",
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """What a TUN is to a bridge, without root; and who writes packets to it."""
    kinds = {"seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}
    near, far = socket.socketpair(socket.AF_UNIX, kinds[kind])
    far.setblocking(False)
    with near, far:
        yield near, far


async def take(sock: socket.socket) -> bytes:
    await loops.wait_readable(sock)
    return sock.recv(1 << 16)


async def put(sock: socket.socket, data: bytes) -> None:
    while True:
        try:
            sock.send(data)
        except BlockingIOError:
            await loops.wait_writable(sock)
        else:
            return


FIRST = (packet(100, fill=1), packet(40), packet(1280, fill=2))


@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize("how", ANSWERS)
async def test_no_packet_is_lost_however_the_answer_comes(
    security: Security, how: Answer, family: str, engine: str
) -> None:
    with stand_in() as (tun, host):
        async with tunnelled(security, how, FIRST, family) as (socket_, tunnel, device):
            assert device.asked == {"type": "clientHandshakeRequest", "mtu": 1280}
            assert str(tunnel.address) == "fd00:cd::2/64"
            assert str(tunnel.server) == "fd00:cd::1"
            assert (tunnel.mtu, tunnel.port) == (1280, 58783)
            session = socket_.tls_info()
            assert session is not None and session.protocol == "TLSv1.2"
            async with socket_.bridge(tun, framing="ip", mtu=tunnel.mtu) as bridge:
                assert bridge.engine == engine
                assert [await take(host) for _ in FIRST] == list(FIRST)
                await put(host, packet(200))
                assert await device.receive() == packet(200)


@pytest.mark.parametrize("kind", ["seqpacket", "dgram"])
async def test_each_packet_is_alone_in_its_record(
    security: Security, kind: str, rng: random.Random
) -> None:
    sent = [
        packet(rng.randrange(40, 1281), fill=number % 256) for number in range(2000)
    ]
    information = bytes.fromhex("0000001e")

    async def send() -> None:
        for one in sent:
            await put(host, information + one)

    with stand_in(kind) as (tun, host):
        async with tunnelled(security) as (socket_, tunnel, device):
            async with socket_.bridge(
                tun, framing="ip", mtu=tunnel.mtu, prefix=information
            ) as bridge:
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(send)
                    assert [await device.receive() for _ in sent] == sent
            flow = bridge.stats.encrypt
            assert (flow.packets, flow.records, flow.drops) == (2000, 2000, 0)


async def test_packets_come_from_the_device_in_any_records(
    security: Security, rng: random.Random
) -> None:
    sent = [packet(rng.randrange(40, 1281), fill=number % 256) for number in range(500)]
    stream = b"".join(sent)

    async def send() -> None:
        at = 0
        while at < len(stream):
            step = rng.choice([1, 39, 41, 1280, 16000])
            await device.end.send(stream[at : at + step])
            at += step

    with stand_in() as (tun, host):
        async with tunnelled(security) as (socket_, tunnel, device):
            async with socket_.bridge(tun, framing="ip", mtu=tunnel.mtu):
                async with loops.open_nursery() as nursery:
                    nursery.start_soon(send)
                    assert [await take(host) for _ in sent] == sent


async def test_a_device_that_goes_ends_it_after_its_last_packet(
    security: Security,
) -> None:
    with stand_in() as (tun, host):
        async with tunnelled(security) as (socket_, tunnel, device):
            async with socket_.bridge(tun, framing="ip", mtu=tunnel.mtu) as bridge:
                await device.end.send(packet(1000))
                await device.end.end()
                device.sock.close()
                assert await take(host) == packet(1000)
                end = await bridge.closed
                assert (end.side, end.reason) == ("connection", "eof")
            await socket_.closed


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (b"SSH-2.0-OpenSSH_9", "no CDTunnel"),
        (b"CDTunnel\0\x02{]", "Expecting property name"),
        (b"CDTunnel\0\x02{}", "lacks something"),
        (b"CDTunnel\0\x02[]", "lacks something"),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    security: Security, wrong: bytes, text: str
) -> None:
    async def serve() -> None:
        await device.secure(security)
        await device.receive_question()
        await device.end.send(wrong)

    with pair() as (stream, device), loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ValueError, match=text):
                await open_tunnel(stream, **credentials(security))
    assert stream.fileno() < 0


async def test_a_device_that_hangs_up_during_the_handshake_is_an_error(
    security: Security,
) -> None:
    async def serve() -> None:
        await device.secure(security)
        await device.receive_question()
        await device.end.send(device.answer()[:30])
        await device.end.end()

    with pair() as (stream, device), loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(EOFError, match="hung up after 20 of"):
                await open_tunnel(stream, **credentials(security))


@pytest.mark.parametrize("when", ["hello", "answer"])
async def test_a_silent_device_is_waited_for_only_so_long(
    security: Security, when: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve() -> None:
        if when == "answer":
            await device.secure(security)
            await device.receive_question()
            await device.end.send(device.answer()[:-1])

    with pair() as (stream, device):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(serve)
            begun = loops.current_time()
            with pytest.raises(TimeoutError, match="15 seconds"):
                await open_tunnel(stream, **credentials(security))
            assert loops.current_time() - begun == pytest.approx(15)


async def test_a_device_that_refuses_our_certificate_is_an_error() -> None:
    stranger = certificates.client("other")

    async def serve() -> None:
        with pytest.raises(OSError, match="certificate"):
            await device.greet("certificate")
        device.sock.close()

    with pair() as (stream, device), loops.fail_after(WITHIN):
        async with loops.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(SocketError):
                await open_tunnel(stream, cert=stranger.chain, key=stranger.key)


async def test_the_device_is_strict() -> None:
    for record, text in (
        (packet(100) * 2, "a record of 200 bytes, and a packet in it of 100"),
        (packet(100)[:90], "a record of 90 bytes, and a packet in it of 100"),
        (packet(100)[:30], "no packet"),
        (packet(100, version=4), "begins with 45"),
    ):
        near, far = socket.socketpair()
        with near, far:
            device = Device(far)
            async with loops.open_nursery() as nursery:
                nursery.start_soon(device.greet, "certificate")
                opened, _ = await open_tunnel(near, **credentials("certificate"))
            async with opened:
                await opened.writable.getWriter().write(record)
                with pytest.raises(AssertionError, match=text):
                    await device.receive()


async def printed(process: subprocess.Popen[bytes], end: bytes = b"") -> str:
    """What it prints until `end`, or its end. No thread: those may be elsewhere."""
    assert process.stdout is not None
    text = b""
    while not end or not text.endswith(end):
        await loops.wait_readable(process.stdout)
        more = os.read(process.stdout.fileno(), 1 << 16)
        if not more:
            break
        text += more
    return text.decode()


def test_the_program_lets_the_host_ping_the_device(
    engine: str, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    """A TUN, the kernel's IPv6 and the program itself."""
    files = certificates.client().files()
    path = str(tmp_path / "device.sock")
    program = [
        *(sys.executable, "-W", "error", "docs/examples/cdtunnel.py"),
        *(f"unix:{path}", "tun0", "--cert", files.cert, "--key", files.key),
    ]
    # With a deadline it waits for all answers, however late, and asks on meanwhile.
    deadline = f"-w{WITHIN:.0f}"
    ping = [peer("ping"), "-6", "-c20", "-i0.01", deadline, "-s1200", "fd00:cd::1"]

    def start(command: Sequence[object]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [*map(str, command)], cwd=ROOT, env=environment, stdout=subprocess.PIPE
        )

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as server, loops.fail_after(WITHIN):
            server.bind(path)
            server.listen()
            server.setblocking(False)
            with start(program) as client:
                await loops.wait_readable(server)
                device = Device(server.accept()[0])
                with device.sock:
                    await device.greet("certificate")
                    line = await printed(client, b"\n")
                    assert line == "fd00:cd::2/64 to [fd00:cd::1]:58783\n"
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(device.answer_pings)
                        with start(ping) as pinging:
                            assert " 20 received, " in await printed(pinging)
                        nursery.cancel_scope.cancel()
                    await device.end.end()
                assert await printed(client) == "connection eof \n"
                assert client.wait() == 0

    in_own_network([], main)
