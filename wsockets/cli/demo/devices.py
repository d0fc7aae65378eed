"""Two packet devices, somebody who sends into the one, and somebody at the other.

Where this process may open TUN devices each gets a network of its own, and what
goes through is what two kernels have to say to each other. Elsewhere a pair of
sockets that keep the boundaries of messages stands in for each: to a bridge they
are the same.

Who sends and who receives are processes of their own, so that the CPU seconds of
this one are those of the tunnel.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

import attrs
import trio

from ...bridge import Bridge

__all__ = ["Devices", "open_devices", "packet_pairs", "tun_devices"]

_CLONE_NEWNET: Final = 0x40000000  # sched.h
_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_IFF_TUN_NO_PI: Final = 0x1001
_SIZE: Final = 1280
_TRAFFIC: Final = Path(__file__).with_name("traffic.py")
_IP6_UDP: Final = 48  # RFC 8200, section 3, and RFC 768


@attrs.frozen
class Devices:
    """What a tunnel joins, and the sockets of those who use it.

    `data` sent into `sender` is a packet of `SIZE` bytes in `left`.
    """

    what: str
    left: int
    right: int
    sender: socket.socket
    receiver: socket.socket
    data: bytes

    async def flood(self, bridge: Bridge, seconds: float) -> str:
        """Send as fast as it goes; what `bridge`, at `left`, and this process did."""
        with ExitStack() as stack:
            come = stack.enter_context(_running("receive", self.receiver, self.data))
            stack.enter_context(_running("send", self.sender, self.data))
            # Something has arrived: all four of them run.
            await trio.lowlevel.wait_readable(come)
            packets, cpu = bridge.stats.encrypt.packets, time.process_time()
            begun = time.perf_counter()
            await trio.sleep(seconds)
            lasted = time.perf_counter() - begun
            packets = bridge.stats.encrypt.packets - packets
            cpu = time.process_time() - cpu
        return (
            f"{packets / lasted:,.0f} packets/s of {_SIZE:,} bytes, for "
            f"{cpu / lasted:.0%} of a core ({bridge.engine} engine, both ends)"
        )


@contextmanager
def _running(what: str, sock: socket.socket, data: bytes) -> Iterator[IO[bytes]]:
    """The process; what it prints."""
    with subprocess.Popen(
        [sys.executable, "-I", _TRAFFIC, what, str(sock.fileno()), data.hex()],
        pass_fds=[sock.fileno()],
        stdout=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


@contextmanager
def open_devices() -> Iterator[Devices]:
    """TUN devices where they may be opened, else what stands in for them."""
    with ExitStack() as stack:
        try:
            devices = stack.enter_context(tun_devices())
        except (OSError, subprocess.CalledProcessError):
            devices = stack.enter_context(packet_pairs())
        yield devices


@contextmanager
def packet_pairs() -> Iterator[Devices]:
    """Sockets for packets; no root."""
    kind = socket.AF_UNIX, socket.SOCK_SEQPACKET
    with ExitStack() as stack:
        left, sender = map(stack.enter_context, socket.socketpair(*kind))
        right, receiver = map(stack.enter_context, socket.socketpair(*kind))
        yield Devices(
            "pairs of sockets, as a TUN needs root",
            left.fileno(),
            right.fileno(),
            sender,
            receiver,
            b"\x60\0\0\0" + struct.pack("!H", _SIZE - 40) + bytes(_SIZE - 6),
        )


@contextmanager
def tun_devices() -> Iterator[Devices]:
    """A TUN device in each of two networks; OSError where that is not allowed."""
    with ExitStack() as stack:
        found = []
        for number in (1, 2):
            # Only this thread moves into the new network, and ends.
            with ThreadPoolExecutor(1) as pool:
                fd, sock = pool.submit(_host, number).result()
            stack.callback(os.close, fd)
            found.append((fd, stack.enter_context(sock)))
        (left, sender), (right, receiver) = found
        sender.connect(("fd99::2", 9))
        yield Devices(
            "TUN devices, each in a network of its own",
            left,
            right,
            sender,
            receiver,
            bytes(_SIZE - _IP6_UDP),
        )


def _host(number: int) -> tuple[int, socket.socket]:
    """In the calling thread's new network: a TUN, and a socket for datagrams."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with ExitStack() as undo:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        undo.callback(os.close, fd)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN_NO_PI))
        for command in (
            f"address add fd99::{number}/64 dev tun0 nodad",
            f"link set tun0 mtu {_SIZE} up",
        ):
            subprocess.run(
                ["ip", "-6", *command.split()], check=True, capture_output=True
            )
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        undo.callback(sock.close)
        sock.bind((f"fd99::{number}", 9))
        undo.pop_all()
    return fd, sock
