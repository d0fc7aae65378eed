"""The options of `bridge()`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

import attrs

from ..errors import SocketError
from ..options import a_bool, a_duration, option_error
from .work import Framing

__all__ = ["BridgeDirection", "BridgeMembers", "BridgeOptions", "FramingName"]

BridgeDirection: TypeAlias = Literal["duplex", "encrypt-only", "decrypt-only"]
FramingName: TypeAlias = Literal["stream", "ip", "length16"]

_DIRECTIONS = ("duplex", "encrypt-only", "decrypt-only")
_FRAMINGS = tuple(framing.value for framing in Framing)
# Longer than any header that a packet device puts before a packet.
_LONGEST_PREFIX = 64
_LARGEST_PACKET = 65535


class BridgeMembers(TypedDict, total=False):
    """The members of `BridgeOptions`, in either spelling."""

    direction: BridgeDirection | None
    framing: FramingName | None
    prefix: bytes | None
    mtu: int | None
    closeSink: bool | None
    close_sink: bool | None
    idleTimeout: float | None
    idle_timeout: float | None
    onError: Callable[[BaseException], object] | None
    on_error: Callable[[BaseException], object] | None
    onClose: Callable[[], object] | None
    on_close: Callable[[], object] | None


def _one_of(accepted: tuple[str, ...]) -> Any:
    listed = " or ".join(f'"{word}"' for word in accepted)

    def check(_: object, field: attrs.Attribute[str], value: object) -> None:
        if not isinstance(value, str) or value not in accepted:
            raise option_error(field.name, value, listed)

    return check


def _a_prefix(_: object, field: attrs.Attribute[bytes], value: object) -> None:
    if not isinstance(value, bytes) or len(value) > _LONGEST_PREFIX:
        raise option_error(field.name, value, f"up to {_LONGEST_PREFIX} bytes")


def _an_mtu(_: object, field: attrs.Attribute[int | None], value: object) -> None:
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 1 <= value <= _LARGEST_PACKET:  # type: ignore[operator]
        raise option_error(field.name, value, f"1 to {_LARGEST_PACKET} bytes")


def _a_callback(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise option_error(field.name, value, "a function")


@attrs.frozen
class BridgeOptions:
    """What a bridge may be told.

    - `direction`: "duplex", "encrypt-only" (sink to connection) or
      "decrypt-only" (connection to sink).
    - `framing`: "stream"; "ip" (one sink read is one packet and one TLS record,
      and the connection's bytes are cut by the packets' length fields); or
      "length16" (each datagram behind its length, two bytes big-endian).
    - `prefix`: stripped from each packet read from the sink and put before each
      written to it, such as 00 00 86 dd for a TUN with packet information. A TUN
      with IFF_VNET_HDR, and "ip" without a prefix: its headers are understood.
    - `mtu`: the longest packet in bytes; a longer one ends the bridge. 65,535.
    - `closeSink`: close the caller's sink at the end as well.
    - `idleTimeout`: seconds without a byte after which the bridge ends.
    - `onError(error)`, `onClose()`: called when it ends, before `closed`
      settles; the former only where something failed.

    Raises SocketError (code "option") for anything else.
    """

    direction: BridgeDirection = attrs.field(
        default="duplex", validator=_one_of(_DIRECTIONS)
    )
    framing: FramingName = attrs.field(default="stream", validator=_one_of(_FRAMINGS))
    prefix: bytes = attrs.field(default=b"", validator=_a_prefix)
    mtu: int | None = attrs.field(default=None, validator=_an_mtu)
    closeSink: bool = attrs.field(default=False, validator=a_bool)
    idleTimeout: float = attrs.field(default=math.inf, validator=a_duration)
    onError: Callable[[BaseException], object] | None = attrs.field(
        default=None, validator=_a_callback
    )
    onClose: Callable[[], object] | None = attrs.field(
        default=None, validator=_a_callback
    )

    def __attrs_post_init__(self) -> None:
        if self.framing != "stream":
            return
        for name, given in (("prefix", self.prefix), ("mtu", self.mtu)):
            if given:
                raise SocketError(
                    f'{name} is for packets: it needs framing="ip" or "length16"',
                    code="option",
                )

    @property
    def encrypt(self) -> bool:
        """Whether bytes go from the sink to the connection."""
        return self.direction != "decrypt-only"

    @property
    def decrypt(self) -> bool:
        """Whether bytes go from the connection to the sink."""
        return self.direction != "encrypt-only"

    @property
    def close_sink(self) -> bool:
        """`closeSink`."""
        return self.closeSink

    @property
    def idle_timeout(self) -> float:
        """`idleTimeout`."""
        return self.idleTimeout

    @property
    def on_error(self) -> Callable[[BaseException], object] | None:
        """`onError`."""
        return self.onError

    @property
    def on_close(self) -> Callable[[], object] | None:
        """`onClose`."""
        return self.onClose
