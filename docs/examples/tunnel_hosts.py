"""Two hosts, and a tunnel between them: all packets go through one TLS connection.

Each host is a network namespace with nothing in it but a TUN device. What the
kernel of one sends there is encrypted, a packet a record, decrypted at the other
end and given to the kernel of the other. Run it as root; nothing is left behind:

    sudo python tunnel_hosts.py ping -c 5 10.99.0.2

The command runs on the first host, 10.99.0.1 and fd99::1.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import socket as sockets
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import trio

from wsockets import Bridge, adopt

_CLONE_NEWNET = 0x40000000  # sched.h
# linux/if_tun.h
_TUNSETIFF, _IFF_TUN_NO_PI, _IFF_VNET_HDR = 0x400454CA, 0x1001, 0x4000
_TUNSETOFFLOAD, _CSUM_TSO_USO = 0x400454D0, (0x07, 0x67)


class Host:
    """A network of its own, and the TUN device that is its only way out.

    With `offload` the kernel gives many packets at a time, and the bridge cuts them.
    """

    def __init__(self, number: int, mtu: int, *, offload: bool = True) -> None:
        self.addresses = f"10.99.0.{number}", f"fd99::{number}"
        self.mtu = mtu
        self.offload = offload
        # Only this thread moves into the new network.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._set_up).result()

    def _set_up(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "a network of one's own needs root")
        self.network = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = _IFF_TUN_NO_PI | (_IFF_VNET_HDR if self.offload else 0)
        fcntl.ioctl(self.tun, _TUNSETIFF, struct.pack("16sH22x", b"", flags))
        # TCP since long ago, UDP since Linux 6.2.
        for wanted in _CSUM_TSO_USO if self.offload else ():
            with suppress(OSError):
                fcntl.ioctl(self.tun, _TUNSETOFFLOAD, wanted)
        for command in (
            "link set lo up",
            f"address add {self.addresses[0]}/24 dev tun0",
            f"address add {self.addresses[1]}/64 dev tun0 nodad",
            f"link set tun0 mtu {self.mtu} up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        # The kernel takes a moment to believe that an IPv6 address is its own.
        routes = ["ip", "-6", "route", "show", "table", "local"]
        while self.addresses[1] not in subprocess.check_output(routes, text=True):
            pass

    def command(self, *arguments: str) -> list[str]:
        """The command that runs `arguments` on this host."""
        network = f"/proc/{os.getpid()}/fd/{self.network}"
        return ["nsenter", f"--net={network}", "--", *arguments]

    def close(self) -> None:
        """Give the network back; it ends with its last process."""
        os.close(self.tun)
        os.close(self.network)


@asynccontextmanager
async def tunnel(
    mtu: int = 1500, *, offload: bool = True
) -> AsyncIterator[tuple[Host, Host, Bridge, Bridge]]:
    """Two hosts, and the two ends of the tunnel that joins them."""
    here, there = sockets.socketpair()
    key = b"tunnel", secrets.token_bytes(32)
    async with AsyncExitStack() as stack:
        found: list[tuple[Host, Bridge]] = []
        client = adopt(here, secureTransport="on", psk=key)
        server = adopt(there, secureTransport="on", psk=key, role="server")
        for number, socket in enumerate((client, server), 1):
            host = Host(number, mtu, offload=offload)
            stack.callback(host.close)
            bridge = socket.bridge(host.tun, framing="ip", mtu=mtu)
            stack.push_async_exit(socket.__aexit__)
            # Both must begin before one of them can have shaken hands.
            bridge.start()
            stack.push_async_exit(bridge.__aexit__)
            found.append((host, bridge))
        (near, first), (far, second) = found
        await first.handshake()
        yield near, far, first, second


async def main(arguments: list[str]) -> int:
    """Run a command on the first host."""
    async with tunnel() as (near, far, bridge, _):
        ping = ["ping", "-c", "5", "-i", "0.2", far.addresses[1]]
        command = near.command(*(arguments or ping))
        done = await trio.run_process(command, check=False)
        out, back = bridge.stats
    print(f"{bridge.engine} engine: {out.packets} packets there, {back.packets} back")
    return done.returncode


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1:]))
