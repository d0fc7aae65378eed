"""Where the fuzzers of the native engine begin: python tests/native/seeds.py FOLDER

Writes inputs of fuzz_framing.c into FOLDER/framing, of fuzz_segments.c into
FOLDER/segments, of fuzz_flow.c into FOLDER/flow and of fuzz_tls.c into FOLDER/tls:
streams that are right, for each framing and direction, and what once found a mistake.
The fuzzer makes the wrong ones of them.
"""

from __future__ import annotations

import itertools
import struct
import sys
from pathlib import Path
from typing import Final

_STREAM, _IP, _LENGTH16 = range(3)
_ENCRYPT, _OURS, _DATAGRAMS, _FRAGILE, _HALF_CLOSE = 4, 8, 16, 32, 64

_PACKETS: Final = (
    b"\x60\0\0\0" + struct.pack("!H", 5) + bytes(34) + b"hello",
    b"\x45\0" + struct.pack("!H", 20) + bytes(16),
    b"\x45\0" + struct.pack("!H", 23) + bytes(16) + b"abc",
)
_STREAMS: Final = {
    _STREAM: b"any bytes",
    _IP: b"".join(_PACKETS),
    _LENGTH16: b"".join(struct.pack("!H", len(p)) + p for p in (*_PACKETS, b"", b"x")),
}
# Nothing now, a little, no buffers, a refusal, a little.
_SCRIPT: Final = bytes((0, 46, 0, 42, 16, 50, 24, 45, 255, 0))


def framing_seeds() -> dict[str, bytes]:
    """See fuzz_framing.c."""
    return {
        f"{name}-{first}": struct.pack("!BHH", name, 1499, first) + _STREAMS[framing]
        for name, framing in ((0, _LENGTH16), (1, _IP))
        for first in (0, 1, 30)
    }


def segment_seeds() -> dict[str, bytes]:
    """See fuzz_segments.c."""
    seeds = {}
    for version, tcp in itertools.product((4, 6), (True, False)):
        start = 20 if version == 4 else 40
        kind = (1 if version == 4 else 4) if tcp else 5
        body = bytes(12) + b"\x50\x19" + bytes(6) if tcp else bytes(8)
        body += b"payload" * 20
        first = b"\x45" if version == 4 else b"\x60"
        packet = first + bytes(start - 1) + body
        sum_at = 16 if tcp else 6
        for name, how, piece in (("long", kind, 50), ("short", 0, 0)):
            header = struct.pack("=BBHHHH", 1, how, 0, piece, start, sum_at)
            seeds[f"{name}-{kind}-{version}"] = header + packet
    return seeds


def _flow(kind: int, stream: bytes, *, prefix: int = 0, stop: int = 0) -> bytes:
    # The remainder by three is the framing.
    setting = bytes((kind, 4, 0, 0, prefix, stop * 4, 0, 0, len(_SCRIPT)))
    return setting + _SCRIPT + stream


def flow_seeds() -> dict[str, bytes]:
    """See fuzz_flow.c."""
    seeds = {}
    bits = (_ENCRYPT, _OURS, _DATAGRAMS)
    for chosen in itertools.product((0, 1), repeat=len(bits)):
        flags = sum(bit for bit, on in zip(bits, chosen, strict=True) if on)
        for high in (0, _HALF_CLOSE, 128):
            kind = flags | high
            stream = _STREAMS[kind % 3]
            for prefix, stop in ((0, 0), (4, 0), (0, 3)):
                name = f"{kind:02x}-{prefix}-{stop}"
                seeds[name] = _flow(kind, stream, prefix=prefix, stop=stop)
    return seeds | _FOUND


# What the peer of fuzz_tls.c does, and how much of it.
_SAY, _SAY_MUCH, _KEY_UPDATE, _TICKET, _CLOSE, _JUNK = 0, 7, 4, 5, 6, 14
_DAMAGES: Final = range(8, 14)


def tls_seeds() -> dict[str, bytes]:
    """See fuzz_tls.c."""
    talk = bytes((_SAY, 9, _TICKET, 0, _KEY_UPDATE, 1, _SAY_MUCH, 200, _SAY, 3))
    talks = {"closed": talk + bytes((_CLOSE, 0)), "cut": talk}
    talks["junk"] = talk + bytes((_JUNK, 20, _SAY, 3))
    for how in _DAMAGES:
        talks[f"damaged-{how}"] = talk + bytes((how, 77, _SAY, 9, _CLOSE, 0))
    seeds = {}
    # Both directions and each, TLS 1.3 and 1.2, half-closing or not.
    for kind in (direction | high for direction in range(3) for high in (8, 24, 40)):
        for name, said in talks.items():
            for stop in (0, 2 * 4, 3 * 4 + 1):
                setting = bytes((kind, stop, 30, 0, 1, len(_SCRIPT)))
                seeds[f"{kind:02x}-{stop}-{name}"] = setting + _SCRIPT + said
    return seeds


# By what was wrong.
_FOUND: Final = {
    "reads-on-behind-what-is-no-packet": bytes.fromhex("3d0f005d00000000000a"),
    "prefix-over-the-length": bytes.fromhex(
        "41d6ff09ffffffff0900c1002a000b00000000000000"
    ),
    "good-packets-before-a-bad-one": bytes.fromhex("d7200200000004000120000e0000"),
}


def main(folder: Path) -> None:
    """Write them all."""
    targets = {
        "framing": framing_seeds,
        "segments": segment_seeds,
        "flow": flow_seeds,
        "tls": tls_seeds,
    }
    for target, make in targets.items():
        seeds = make()
        place = folder / target
        place.mkdir(parents=True)
        for name, seed in seeds.items():
            (place / name).write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
