"""Real devices: TUN, TAP and an interface without room.

Each test has a network namespace of its own, which needs root; see
`in_own_network`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Engine,
    Far,
    Kind,
    Running,
    bridged,
    joined,
    until,
)
from tests.network import in_own_network
from wsockets import SocketError, adopt
from wsockets.bridge.segments import device_header
from wsockets.bridge.work import BridgeEnd, Framing

# linux/if_tun.h
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x1000, 0x4000
# TUN_F_CSUM; that and TUN_F_USO4 and TUN_F_USO6, which Linux has since 6.2.
CHECKSUMS, UDP_OFFLOADS = 0x01, 0x61
# linux/udp.h, linux/virtio_net.h
UDP_SEGMENT, GSO_UDP = 103, 5
PI = bytes.fromhex("000086dd")

ETH_P_ALL = 3
OURS, THEIRS = bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")


def device(name: str, flags: int) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd


def run(*commands: str) -> None:
    for command in commands:
        subprocess.run(shlex.split(command), check=True, timeout=10)


def up(name: str) -> None:
    run(
        f"ip -6 addr add fd00::1/64 dev {name} nodad",
        f"ip link set {name} up",
    )
    # A worker of the kernel's makes the address a local one, a little later. Until
    # then what is sent to it is dropped.
    local, deadline = f"{1 | 0xFD << 120:032x} 80 ", time.monotonic() + WITHIN
    while local not in Path("/proc/thread-self/net/ipv6_route").read_text():
        assert time.monotonic() < deadline


def udp6(source: str, target: str, ports: tuple[int, int], data: bytes) -> bytes:
    """An IPv6 packet with a UDP datagram (RFC 8200, section 8.1; RFC 768)."""
    addresses = socket.inet_pton(socket.AF_INET6, source)
    addresses += socket.inet_pton(socket.AF_INET6, target)
    length = 8 + len(data)
    pseudo = addresses + struct.pack("!IBBBB", length, 0, 0, 0, 17)
    header = struct.pack("!HHHH", *ports, length, 0)
    whole = pseudo + header + data
    total = sum(
        int.from_bytes(whole[at : at + 2].ljust(2, b"\0"))
        for at in range(0, len(whole), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = struct.pack("!HHHH", *ports, length, ~total & 0xFFFF)
    return struct.pack("!IHBB", 6 << 28, length, 17, 64) + addresses + header + data


async def next_udp(peer: Far) -> bytes:
    """The next IPv6 packet with UDP in the stream; the kernel sends others too."""
    while True:
        head = await peer.receive_exactly(40)
        body = await peer.receive_exactly(int.from_bytes(head[4:6]))
        if head[6] == 17:
            return head + body


class Here(Protocol):
    """Runs a function in a network of its own, once that is set up."""

    def __call__(
        self, function: Callable[[], Awaitable[object]], *set_up: str
    ) -> None: ...


def a_record_each(running: Running) -> bool:
    """Whether each packet has become a record; the counters are read one by one."""
    flow = running.pump.stats.encrypt
    return flow.records == flow.packets > 0


@pytest.fixture(params=["native", "python"])
def engine_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of bridges that are made by sockets."""
    name: str = request.param
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", name)
    return name


@pytest.fixture(params=loops.LOOPS)
def here(request: pytest.FixtureRequest) -> Here:
    def run_here(function: Callable[[], Awaitable[object]], *set_up: str) -> None:
        in_own_network(set_up, function, loop=request.param)

    return run_here


@pytest.mark.parametrize("prefix", [b"", PI], ids=["bare", "information"])
def test_packets_go_through_a_TUN(
    engine: Engine, kind: Kind, prefix: bytes, here: Here
) -> None:
    async def main() -> None:
        fd = device("tun0", IFF_TUN | (0 if prefix else IFF_NO_PI))
        up("tun0")
        try:
            async with joined(kind) as (connection, peer):
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as host:
                    host.bind(("fd00::1", 7))
                    host.setblocking(False)
                    async with bridged(
                        engine, connection, fd, framing=Framing.IP, prefix=prefix
                    ) as running:
                        with loops.fail_after(WITHIN):
                            for number in range(20):
                                data = b"x" * number * 60
                                await peer.send(
                                    udp6("fd00::2", "fd00::1", (9, 7), data)
                                )
                                await loops.wait_readable(host)
                                assert host.recvfrom(2000)[0] == data
                                host.sendto(data[::-1], ("fd00::2", 9))
                                answer = await next_udp(peer)
                                assert answer[48:] == data[::-1]
                                assert answer[8:40] == b"".join(
                                    socket.inet_pton(socket.AF_INET6, one)
                                    for one in ("fd00::1", "fd00::2")
                                )
                        await running.counts("decrypt", packets=20, drops=0)
                        await running.counts("encrypt", drops=0)
                        if kind == "tls":
                            # The host may say more of its own accord.
                            await until(lambda: a_record_each(running))
        finally:
            os.close(fd)

    here(main)


def offloading(size: int, offloads: int = CHECKSUMS) -> int:
    """A TUN device with headers of `size` bytes before what it gives."""
    fd = device("tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", size))
    fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)
    up("tun0")
    return fd


def test_what_a_device_has_before_its_packets(here: Here) -> None:
    async def main() -> None:
        for flags, expected in (
            (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, 10),
            (IFF_TUN | IFF_NO_PI, 0),
            (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, 0),
        ):
            fd = device("some0", flags)
            assert device_header(fd) == expected
            os.close(fd)
        fd = offloading(12)
        assert device_header(fd) == 12
        os.close(fd)
        fd = os.open("/dev/net/tun", os.O_RDWR)
        assert device_header(fd) == 0
        os.close(fd)

    here(main)


@pytest.mark.parametrize("size", [10, 12])
def test_many_datagrams_at_a_time_come_one_by_one(
    engine_name: str, size: int, here: Here
) -> None:
    async def main() -> None:
        try:
            fd = offloading(size, UDP_OFFLOADS)
        except OSError:
            pytest.skip("this kernel cannot leave the cutting of UDP to others")
        ours, theirs = socket.socketpair()
        peer = Far.of(theirs)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as host:
            host.bind(("fd00::1", 7))
            host.setblocking(False)
            host.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            data = random.Random(size).randbytes(20_300)
            parts = [data[at : at + 1000] for at in range(0, len(data), 1000)]
            # The kernel does give them at once.
            host.sendto(data, ("fd00::2", 9))
            given = b""
            while len(given) < len(data):
                await loops.wait_readable(fd)
                given = os.read(fd, 1 << 16)
            assert given[1] == GSO_UDP
            async with adopt(ours) as near:
                bridge = near.bridge(fd, framing="ip", closeSink=True)
                bridge.start()
                assert bridge.engine == engine_name
                with loops.fail_after(WITHIN):
                    host.sendto(data, ("fd00::2", 9))
                    for part in parts:
                        found = udp6("fd00::1", "fd00::2", (7, 9), part)
                        # Apart from the hop limit and the flow label.
                        assert (await next_udp(peer))[8:] == found[8:]
                    await peer.send(udp6("fd00::2", "fd00::1", (9, 7), b"back"))
                    await loops.wait_readable(host)
                    assert host.recvfrom(2000)[0] == b"back"
                    await bridge.stop()
        peer.close()

    here(main)


def test_what_is_joined_for_a_TUN_that_is_down_is_dropped_and_counted(
    engine: Engine, kind: Kind, here: Here
) -> None:
    async def main() -> None:
        fd = device("tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
        try:
            async with joined(kind) as (connection, peer):
                async with bridged(
                    engine,
                    connection,
                    fd,
                    framing=Framing.IP,
                    prefix=bytes(10),
                    segmented=True,
                ) as running:
                    lost = udp6("fd00::2", "fd00::1", (9, 7), bytes(100))
                    with loops.fail_after(WITHIN):
                        await peer.send(lost * 5)
                        await running.counts("decrypt", packets=0, drops=5)
                        up("tun0")
                        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as host:
                            host.bind(("fd00::1", 7))
                            host.setblocking(False)
                            await peer.send(lost * 5)
                            for _ in range(5):
                                await loops.wait_readable(host)
                                assert host.recv(2000) == bytes(100)
                        await running.counts("decrypt", packets=5, drops=5)
        finally:
            os.close(fd)

    here(main)


def test_a_TUN_that_is_down_drops_packets_until_it_is_up(
    engine: Engine, kind: Kind, here: Here
) -> None:
    async def main() -> None:
        fd = device("tun0", IFF_TUN | IFF_NO_PI)
        try:
            async with joined(kind) as (connection, peer):
                async with bridged(
                    engine, connection, fd, framing=Framing.IP
                ) as running:
                    with loops.fail_after(WITHIN):
                        for _ in range(3):
                            await peer.send(udp6("fd00::2", "fd00::1", (9, 7), b"lost"))
                        await running.counts("decrypt", drops=3)
                        up("tun0")
                        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as host:
                            host.bind(("fd00::1", 7))
                            host.setblocking(False)
                            await peer.send(udp6("fd00::2", "fd00::1", (9, 7), b"here"))
                            await loops.wait_readable(host)
                            assert host.recv(100) == b"here"
                    await running.counts("decrypt", packets=1, drops=3)
                    assert running.pump.ended is None
        finally:
            os.close(fd)

    here(main)


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "quiet"])
def test_a_device_that_is_removed_ends_it(
    engine: Engine, kind: Kind, busy: bool, here: Here
) -> None:
    async def main() -> None:
        fd = device("tun0", IFF_TUN | IFF_NO_PI)
        up("tun0")
        try:
            async with joined(kind) as (connection, peer):
                async with bridged(
                    engine, connection, fd, framing=Framing.IP
                ) as running:
                    run("ip link del tun0")
                    if busy:
                        await peer.send(udp6("fd00::2", "fd00::1", (9, 7), b"late"))
                    end = await running.end()
                    assert end.side == "sink"
                    assert end.reason == "sink"
                    assert isinstance(end.error, SocketError)
                    assert end.error.errno in (errno.EBADFD, errno.ENODEV)
        finally:
            os.close(fd)

    here(main)


def test_frames_go_through_a_TAP(engine: Engine, kind: Kind, here: Here) -> None:
    async def main() -> None:
        fd = device("tap0", IFF_TAP | IFF_NO_PI)
        run(
            "ip link set tap0 address 02:00:00:00:00:bb",
            "ip addr add 10.9.0.1/24 dev tap0",
            "ip link set tap0 up",
        )
        request = struct.pack(
            "!6s6sHHHBBH", b"\xff" * 6, OURS, 0x806, 1, 0x800, 6, 4, 1
        )
        request += OURS + bytes([10, 9, 0, 2]) + bytes(6) + bytes([10, 9, 0, 1])
        try:
            async with joined(kind) as (connection, peer):
                async with bridged(
                    engine, connection, fd, framing=Framing.LENGTH16
                ) as running:
                    with loops.fail_after(WITHIN):
                        # One that is too short for Ethernet is dropped: EINVAL.
                        await peer.send(b"\0\x05short")
                        await peer.send(struct.pack("!H", len(request)) + request)
                        while True:
                            length = int.from_bytes(await peer.receive_exactly(2))
                            frame = await peer.receive_exactly(length)
                            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
                                break
                    assert frame[:12] == OURS + THEIRS
                    assert frame[22:32] == THEIRS + bytes([10, 9, 0, 1])
                    await running.counts("decrypt", packets=1, drops=1)
        finally:
            os.close(fd)

    here(main)


def test_an_interface_without_buffers_is_waited_for(
    engine: Engine, kind: Kind, here: Here
) -> None:
    count = 200
    frames = [
        THEIRS + OURS + b"\x88\xb5" + number.to_bytes(2) + bytes(984)
        for number in range(count)
    ]

    async def main() -> None:
        packets = socket.AF_PACKET, socket.SOCK_RAW
        with socket.socket(*packets) as sink, socket.socket(*packets) as other:
            sink.bind(("v0", 0))
            other.bind(("v1", 0x88B5))
            other.setblocking(False)
            # It is full before it has begun.
            sink.setblocking(False)
            with pytest.raises(OSError, match="buffer") as caught:
                while True:
                    sink.send(THEIRS + OURS + b"\x88\xb5\xff\xff" + bytes(984))
            assert caught.value.errno == errno.ENOBUFS
            async with joined(kind) as (connection, peer):
                async with bridged(
                    engine, connection, sink, framing=Framing.LENGTH16, encrypt=False
                ) as running:
                    found: list[bytes] = []
                    with loops.fail_after(WITHIN):
                        async with loops.open_nursery() as nursery:
                            nursery.start_soon(
                                peer.send,
                                b"".join(len(one).to_bytes(2) + one for one in frames),
                            )
                            while len(found) < count:
                                await loops.wait_readable(other)
                                frame = other.recv(2000)
                                if frame[14:16] != b"\xff\xff":
                                    found.append(frame)
                    assert found == frames
                    await running.counts("decrypt", packets=count, drops=0)

    here(
        main,
        "ip link add v0 type veth peer name v1",
        "ip link set v0 up",
        "ip link set v1 up",
        "tc qdisc add dev v0 root tbf rate 8mbit burst 3000 limit 3000",
    )


def test_an_interface_that_goes_down_ends_it(
    engine: Engine, kind: Kind, here: Here
) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sink:
            sink.bind(("v0", ETH_P_ALL))
            async with joined(kind) as (connection, _):
                async with bridged(
                    engine, connection, sink, framing=Framing.LENGTH16
                ) as running:
                    run("ip link set v0 down")
                    end = await running.end()
                    assert end == BridgeEnd("sink", "encrypt", "sink")
                    assert isinstance(end.error, SocketError)
                    assert end.error.errno == errno.ENETDOWN

    here(
        main,
        "ip link add v0 type veth peer name v1",
        "ip link set v0 up",
        "ip link set v1 up",
    )
