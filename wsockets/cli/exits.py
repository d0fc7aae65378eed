"""Exit codes: one for each family of things that go wrong."""

from __future__ import annotations

from typing import Final

import attrs

from ..errors import ErrorCode

__all__ = [
    "BROKE_OFF",
    "CTRL_C",
    "EPILOG",
    "EXITS",
    "INTERNAL",
    "NO_PACKET",
    "OK",
    "OUTPUT_CLOSED",
    "SINK_FAILED",
    "TOO_LONG",
    "USAGE",
    "Exit",
    "OutputClosed",
    "exit_for",
]

OK: Final = 0
INTERNAL: Final = 1
USAGE: Final = 2
TOO_LONG: Final = 5
BROKE_OFF: Final = 9
SINK_FAILED: Final = 10
NO_PACKET: Final = 11
CTRL_C: Final = 130
OUTPUT_CLOSED: Final = 141


class OutputClosed(Exception):
    """Whoever read the output has gone."""


@attrs.frozen
class Exit:
    """An exit code, what it means, and the error codes that lead to it."""

    code: int
    meaning: str
    errors: tuple[ErrorCode, ...] = ()


EXITS: Final = (
    Exit(OK, "all went well"),
    Exit(INTERNAL, "an error of the operating system, or of wsockets", ("os",)),
    Exit(
        USAGE,
        "a mistake on the command line: an option, an address, a file",
        ("address", "option", "state"),
    ),
    Exit(3, "the name could not be resolved", ("dns",)),
    Exit(4, "nobody there: refused or unreachable", ("refused", "unreachable")),
    Exit(TOO_LONG, "it took too long", ("timeout",)),
    Exit(6, "a policy (--deny-private) or the proxy said no", ("policy", "proxy")),
    Exit(7, "no TLS: refused, no common protocol", ("tls", "tls-alert", "alpn")),
    Exit(8, "the certificate was not accepted", ("tls-verify",)),
    Exit(BROKE_OFF, "the connection broke off", ("reset", "truncated", "closed")),
    Exit(SINK_FAILED, "the sink of a bridge failed"),
    Exit(NO_PACKET, "bytes that are no packet came to a bridge"),
    Exit(CTRL_C, "interrupted with Ctrl-C"),
    Exit(OUTPUT_CLOSED, "standard output was closed by whoever read it"),
)
"""Every exit code of the commands; scripts may rely on them."""

EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {each.code:>3}  {each.meaning}" for each in EXITS
)
"""The end of a command's help."""

_BY_ERROR: Final = {error: each.code for each in EXITS for error in each.errors}


def exit_for(error: ErrorCode) -> int:
    """The exit code for a SocketError's code."""
    return _BY_ERROR[error]
