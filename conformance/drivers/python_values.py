"""Values on their way between a scenario and Python, in JavaScript's terms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import wsockets
from conformance.pattern import describe, pattern
from wsockets import Promise

__all__ = ["MAKERS", "MISSING", "kind_of", "property_of", "told"]

MISSING: Final = object()

# What makes a value of a table of one member, see README.md.
MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "bytes": lambda text: text.encode(),
    "pattern": pattern,
    "view": bytearray,
    "text": str,
    "octets": bytes,
    "buffer": lambda text: bytearray(text.encode()),
    "words": lambda numbers: memoryview(
        b"".join(number.to_bytes(2, sys.byteorder) for number in numbers)
    ).cast("H"),
    "nothing": lambda _: None,
    "function": lambda _: lambda: None,
}


def property_of(value: object, name: str) -> Any:
    """A property, by the name that it has in JavaScript."""
    if name == "constructor":
        return type(value)
    if isinstance(value, BaseException) and name in ("name", "message"):
        return type(value).__name__ if name == "name" else str(value)
    return getattr(value, name, MISSING)


def kind_of(value: object) -> str:
    """The name of a value's kind, as it is called in JavaScript."""
    if isinstance(value, Promise):
        return "Promise"
    if isinstance(value, wsockets.SocketInfo):
        return "Object"
    if callable(value):
        return "function"
    return type(value).__name__


def told(value: Any) -> Any:
    """A value as the transcript tells it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, wsockets.ReadResult):
        return {"done": value.done, "value": told(value.value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"data": describe(bytes(value))}
    return {"kind": kind_of(value)}
