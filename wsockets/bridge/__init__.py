"""Bridges: bytes between a connection and a file descriptor, without Python.

options.py            what is wanted
bridge.py             the public object, and how a connection comes back
sink.py               what the user gave, and the descriptors made of it
nowait.py             reads and writes of those that do not wait
segments.py           devices that give many packets at a time
work.py               the words between a bridge and its engine
engines.py            which engine serves
native.py native/     the engine in C
python.py framing.py  the engine in Python
"""

from __future__ import annotations

from .bridge import Bridge
from .options import BridgeMembers, BridgeOptions
from .work import BridgeEnd, BridgeFlow, BridgeStats

__all__ = [
    "Bridge",
    "BridgeEnd",
    "BridgeFlow",
    "BridgeMembers",
    "BridgeOptions",
    "BridgeStats",
]
