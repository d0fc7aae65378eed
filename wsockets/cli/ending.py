"""How a bridge ended: a line of JSON, and an exit code."""

from __future__ import annotations

import errno
import json
from typing import Any, Final

import attrs

from ..bridge import BridgeEnd, BridgeStats
from ..errors import SocketError
from .exits import BROKE_OFF, NO_PACKET, OK, SINK_FAILED, TOO_LONG, exit_for
from .report import Failure, message_of

__all__ = ["Ending", "counters"]

SCHEMA: Final = 1
"""Goes up when a member of the JSON object changes its meaning or goes away."""

_EXITS: Final = {
    "eof": OK,
    "stopped": OK,
    "idle": TOO_LONG,
    "sink": SINK_FAILED,
    "framing": NO_PACKET,
}


def counters(stats: BridgeStats) -> dict[str, Any]:
    """The counters of both directions as JSON objects."""
    return {name: flow._asdict() for name, flow in stats._asdict().items()}


@attrs.frozen
class Ending:
    """What there is to say of a bridge that has ended, or that never began."""

    end: BridgeEnd
    stats: BridgeStats
    engine: str
    seconds: float

    @property
    def failure(self) -> Failure | None:
        """What failed, if anything did."""
        error = self.end.error
        if error is None:
            return None
        found = error if isinstance(error, SocketError) else None
        return Failure(
            found.code if found else "os",
            message_of(error),
            found.errno if found else None,
        )

    @property
    def exit_code(self) -> int:
        """0 where both sides have ended, or it was stopped."""
        known = _EXITS.get(self.end.reason)
        if known is not None:
            return known
        error = self.end.error
        return exit_for(error.code) if isinstance(error, SocketError) else BROKE_OFF

    @property
    def unread(self) -> bool:
        """Whether nobody reads what is written to the sink any more."""
        failure = self.failure
        return (
            self.end.reason == "sink"
            and failure is not None
            and failure.errno == errno.EPIPE
        )

    def to_json(self) -> str:
        """One JSON object in one line of ASCII."""
        failure = self.failure
        return json.dumps(
            {
                "schema": SCHEMA,
                "ok": self.exit_code == OK,
                "exit_code": self.exit_code,
                "side": self.end.side,
                "direction": self.end.direction,
                "reason": self.end.reason,
                "error": None if failure is None else attrs.asdict(failure),
                "engine": self.engine,
                "seconds": round(self.seconds, 6),
                "stats": counters(self.stats),
            }
        )
