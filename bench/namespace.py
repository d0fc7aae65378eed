"""A network namespace of the bench's own, with a loopback and packet devices.

Nothing in it is seen from outside or can reach outside, and all of it vanishes with
the processes in it: network_namespaces(7). Devices: Linux's
Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUNSETOFFLOAD = 0x400454D0
# Checksums, TCP and UDP; the latter since Linux 6.2.
OFFLOADS = 0x67
NAME = "bench0"
# Those of the device and of whom the packets are said to come from (RFC 4193).
HERE = "fd77:7300:6b65::1"
THERE = "fd77:7300:6b65::2"
QUEUE = 4096


class NamespaceError(Exception):
    """This machine does not let us have a namespace or a device."""


def _unshare(flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise NamespaceError(f"unshare(2): {os.strerror(number)}")


def enter() -> None:
    """Move this process, which must have one thread, into a namespace of its own.

    Without root it gets a user namespace too, where the system allows that. Raises
    NamespaceError.
    """
    user, group = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWNET if user == 0 else CLONE_NEWUSER | CLONE_NEWNET)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    ip("link", "set", "lo", "up")


def own() -> bool:
    """Whether this process is in a network namespace other than its parent's."""
    try:
        mine = os.readlink("/proc/self/ns/net")
        return mine != os.readlink(f"/proc/{os.getppid()}/ns/net")
    except OSError:
        return False


def ip(*arguments: str) -> None:
    """Run ip(8). Raises NamespaceError."""
    command = ["ip", *arguments]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NamespaceError(f"{' '.join(command)}: {said.strip()}") from error


@attrs.frozen
class Device:
    """A TUN device without packet information; `fd` is its program's side."""

    fd: int
    name: str = NAME

    def received(self, size: int, headers: int) -> int:
        """How many packets of `size` bytes the kernel has taken from the device.

        Of what came joined, behind one of the packets' `headers`, each.
        """
        for line in Path("/proc/net/dev").read_text().splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == self.name:
                taken, packets = map(int, counters.split()[:2])
                return (taken - headers * packets) // (size - headers)
        raise NamespaceError(f"there is no {self.name}")


@contextlib.contextmanager
def device(mtu: int, *, offload: bool = False) -> Iterator[Device]:
    """A TUN device that is up and routes `THERE`, and that nothing else uses.

    With `offload` it gives many packets at a time, behind a virtio header.
    Neither discovery nor solicitations: what comes out of it was sent on purpose.
    Raises NamespaceError.
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceError(f"/dev/net/tun: {error.strerror}") from error
    try:
        flags = IFF_TUN | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
        request = struct.pack("16sH22x", NAME.encode(), flags)
        try:
            fcntl.ioctl(fd, TUNSETIFF, request)
            if offload:
                fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOADS)
        except OSError as error:
            raise NamespaceError(f"TUNSETIFF: {error.strerror}") from error
        settings = Path(f"/proc/sys/net/ipv6/conf/{NAME}")
        for key, value in (("addr_gen_mode", 1), ("router_solicitations", 0)):
            (settings / key).write_text(str(value))
        ip("link", "set", NAME, "multicast", "off", "mtu", str(mtu))
        ip("link", "set", NAME, "txqueuelen", str(QUEUE), "up")
        ip("addr", "add", f"{HERE}/64", "dev", NAME, "nodad")
        yield Device(fd)
    finally:
        os.close(fd)
