"""A tunnel to a device that speaks CDTunnel: a TUN's packets in TLS records.

Inside of TLS the host sends "CDTunnel", a length and a question in JSON; the device
answers in the same form with addresses and an MTU. From then on both send bare
IPv6 packets. The answer may come in pieces, or together with the first packet:
so not a byte too many is read here, and what was not read goes to the bridge.

    python cdtunnel.py unix:/run/device.sock tun0 --cert host.pem --key host.key
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket as sockets
import struct
import subprocess
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any, NamedTuple

import trio

from wsockets import AbortSignal, ReadableStreamBYOBReader, Socket, adopt

_MAGIC = b"CDTunnel"


class Tunnel(NamedTuple):
    """What the device has decided: our address, the MTU, and where it listens."""

    address: IPv6Interface
    mtu: int
    server: IPv6Address
    port: int


async def open_tunnel(
    stream: sockets.socket | int, *, mtu: int = 16000, deadline: float = 15, **tls: Any
) -> tuple[Socket, Tunnel]:
    """Secure a stream that leads to a device, and ask it for a tunnel.

    `tls` are TlsOptions' members: cert and key, or psk. The device is known by
    the way that led to it: its certificate is not verified. Raises SocketError,
    EOFError, TimeoutError after `deadline` seconds, or ValueError for an answer
    that is none; the stream is closed then. If not, `socket.bridge(…)` is next.
    """
    socket = adopt(stream, secureTransport="on", **{"verify": "none", **tls})
    overdue = AbortSignal.timeout(deadline * 1000)
    overdue.onabort = lambda _: socket.close(overdue.reason)
    try:
        await socket.opened
        return socket, await _ask(socket, mtu)
    except BaseException as error:
        socket.close(error)
        overdue.throwIfAborted()
        raise
    finally:
        overdue.onabort = None


async def _ask(socket: Socket, mtu: int) -> Tunnel:
    question = json.dumps({"type": "clientHandshakeRequest", "mtu": mtu}).encode()
    writer = socket.writable.getWriter()
    reader = socket.readable.getReader(mode="byob")
    await writer.write(_MAGIC + struct.pack("!H", len(question)) + question)
    magic, length = struct.unpack("!8sH", await _take(reader, 10))
    if magic != _MAGIC:
        raise ValueError(f"this is no CDTunnel: it began with {magic!r}")
    answer = json.loads(await _take(reader, length))
    # The bridge needs both streams.
    reader.releaseLock()
    writer.releaseLock()
    try:
        ours = answer["clientParameters"]
        bits = int(IPv6Address(ours["netmask"])).bit_count()
        address = IPv6Interface(f"{ours['address']}/{bits}")
        server = IPv6Address(answer["serverAddress"])
        return Tunnel(address, int(ours["mtu"]), server, int(answer["serverRSDPort"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the device's answer lacks something: {answer!r}") from error


async def _take(reader: ReadableStreamBYOBReader, count: int) -> bytes:
    """Exactly `count` bytes: a read gives at most what its buffer has room for."""
    taken = b""
    while len(taken) < count:
        value, done = await reader.read(bytearray(count - len(taken)))
        if done:
            raise EOFError(f"the device hung up after {len(taken)} of {count} bytes")
        taken += value
    return taken


def open_tun(name: str, tunnel: Tunnel) -> int:
    """A TUN device (without packet information) that is up; needs CAP_NET_ADMIN."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    # TUNSETIFF with IFF_TUN | IFF_NO_PI, from linux/if_tun.h
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))
    address = f"ip address add {tunnel.address} dev {name} nodad"
    for command in (address, f"ip link set {name} mtu {tunnel.mtu} up"):
        subprocess.run(command.split(), check=True)
    return fd


async def main() -> None:
    """Connect, and forward until one side ends it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT or unix:PATH")
    parser.add_argument("tun", help="name of the TUN device to make")
    for name in ("--cert", "--key"):
        parser.add_argument(name, type=Path, required=True, help="PEM file")
    given = parser.parse_args()

    if given.address.startswith("unix:"):
        stream = sockets.socket(sockets.AF_UNIX)
        stream.connect(given.address.removeprefix("unix:"))
    else:
        host, _, port = given.address.rpartition(":")
        stream = sockets.create_connection((host, int(port)))
    socket, tunnel = await open_tunnel(stream, cert=given.cert, key=given.key)
    tun = open_tun(given.tun, tunnel)
    print(f"{tunnel.address} to [{tunnel.server}]:{tunnel.port}", flush=True)
    async with socket, socket.bridge(tun, framing="ip", mtu=tunnel.mtu) as bridge:
        end = await bridge.closed
    print(end.side, end.reason, end.error or "")


if __name__ == "__main__":
    trio.run(main)
