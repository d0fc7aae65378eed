"""Failed attempts, and the one error that tells of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ..errors import ErrorCode, SocketError, os_error

__all__ = ["Failure", "at", "combined", "connect_failure"]

# What tells most about the whole comes first: a host that answered, then one that
# did not, then trouble of our own, then no way there at all.
_TELLING: Final[tuple[ErrorCode, ...]] = (
    "proxy",
    "refused",
    "reset",
    "timeout",
    "os",
    "unreachable",
    "policy",
)
# More attempts than this are counted in a message, not listed.
_LISTED: Final = 8


def at(ip: str, port: int) -> str:
    """`ip` and `port` as they are written in an address."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


@attrs.frozen
class Failure:
    """One attempt that failed.

    `where` is the address it was for and `why` the reason without the address;
    `error` says both, and is what is raised where this was the only attempt.
    """

    where: str
    why: str
    error: SocketError


def connect_failure(where: str, cause: OSError) -> Failure:
    """The failure of a connect(2) to `where`."""
    why = cause.strerror or str(cause) or type(cause).__name__
    return Failure(where, why, os_error(f"connect to {where}", cause))


def combined(target: str, failures: Sequence[Failure]) -> SocketError:
    """One error for all `failures` (at least one) of reaching `target`.

    It has the code and the errno of the most telling one and lists the first
    few. Its `__cause__` is that of the only failure, or an ExceptionGroup of
    the SocketErrors of all.
    """
    if len(failures) == 1 and failures[0].where == target:
        return failures[0].error
    errors = [failure.error for failure in failures]
    chosen = min(errors, key=lambda error: _TELLING.index(error.code))
    listed = [f"{failure.where}: {failure.why}" for failure in failures[:_LISTED]]
    if len(failures) > _LISTED:
        listed.append(f"and {len(failures) - _LISTED} more")
    error = SocketError(
        f"could not connect to {target}: {'; '.join(listed)}",
        code=chosen.code,
        errno=chosen.errno,
    )
    if len(errors) == 1:
        error.__cause__ = errors[0].__cause__
    else:
        error.__cause__ = ExceptionGroup(f"every way to {target} failed", errors)
    return error
