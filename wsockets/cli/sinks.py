"""What `wsockets bridge` bridges with: its `--sink`.

A descriptor that the process has inherited is used as it is. The others are opened
here: a connection to a unix socket, or a TUN device (linux/if_tun.h,
https://docs.kernel.org/networking/tuntap.html).
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
import click

__all__ = ["SINK", "SinkPlace"]

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
# With packet information there are four bytes before each packet.
_INFORMATION: Final = 4
_NAME_MAX: Final = 15
_FORMS: Final = "FD, FD,FD (read from, written to), unix:PATH, tun:NAME or -"


@attrs.frozen
class SinkPlace:
    """What `--sink` says; "fd", "unix" or "tun"."""

    kind: str
    fds: tuple[int, ...] = ()
    name: str = ""

    @property
    def standard(self) -> bool:
        """Whether it is standard input and output."""
        return self.fds == (0, 1)

    @contextmanager
    def opened(self, *, packets: bool, prefix: bytes) -> Iterator[Any]:
        """The sink as `Socket.bridge()` takes it; what was opened here is closed.

        A unix socket is SOCK_SEQPACKET where there are packets, a stream
        elsewhere. Raises UsageError for a prefix that a TUN does not have, and
        OSError.
        """
        if self.kind == "fd":
            yield self.fds if len(self.fds) > 1 else self.fds[0]
        elif self.kind == "unix":
            kind = socket.SOCK_SEQPACKET if packets else socket.SOCK_STREAM
            with socket.socket(socket.AF_UNIX, kind) as sock:
                try:
                    sock.connect(self.name)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, self.name) from error
                yield sock
        else:
            fd = _open_tun(self.name, prefix)
            try:
                yield fd
            finally:
                os.close(fd)


def _open_tun(name: str, prefix: bytes) -> int:
    if len(prefix) not in (0, _INFORMATION):
        raise click.UsageError(
            f"--prefix of a tun: sink is {_INFORMATION} bytes, the packet information"
        )
    flags = _IFF_TUN if prefix else _IFF_TUN | _IFF_NO_PI
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, error.strerror, f"tun:{name}") from error
    return fd


class Sink(click.ParamType[SinkPlace]):
    """A sink, in one of the forms that the help lists."""

    name = "sink"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> SinkPlace:
        """What it says, checked for form."""
        text = str(value)
        if text == "-":
            return SinkPlace("fd", (0, 1))
        if re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})?", text):
            return SinkPlace("fd", tuple(map(int, text.split(","))))
        kind, colon, name = text.partition(":")
        if colon and kind == "unix" and name:
            return SinkPlace("unix", name=name)
        if colon and kind == "tun":
            if not re.fullmatch(r"[^\s/:%]+", name) or len(name) > _NAME_MAX:
                self.fail(
                    f"{name!r} is no name of a device: 1 to {_NAME_MAX} characters",
                    param,
                    ctx,
                )
            return SinkPlace("tun", name=name)
        return self.fail(f"{text!r} is none of {_FORMS}", param, ctx)

    def get_metavar(
        self, param: click.Parameter, ctx: click.Context | None = None
    ) -> str:
        """How the help names the value."""
        return "FD|FD,FD|unix:PATH|tun:NAME|-"


SINK: Final = Sink()
