"""Who may be dialled: the user's policy, asked at each attempt.

A name that was judged before it was resolved, or an address that was judged
before another one is dialled, protects from nothing: names are rebound between
two look-ups, and a name has several addresses. So the policy is asked about the
numeric address, at the moment when it is about to be dialled, and the very
string that it saw is what the kernel gets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final, TypeAlias

from ..errors import SocketError
from .failures import Failure

__all__ = ["Policy", "judge"]

Policy: TypeAlias = "Callable[[str, str, int], object]"
"""policy(host, address, port): False or an exception refuses, all else allows."""

_LONGEST_REASON: Final = 200


def judge(
    policy: Policy | None, host: str, address: str, port: int, where: str
) -> Failure | None:
    """Ask `policy` about `address`, found for `host`: None if it may be dialled.

    `where` is the address in messages. A policy that gives an awaitable has not
    answered: that refuses. The exception of a policy is the error's `__cause__`.
    """
    if policy is None:
        return None
    cause: Exception | None = None
    try:
        verdict = policy(host, address, port)
        if inspect.isawaitable(verdict):
            _drop(verdict)
            raise TypeError("a policy answers at once: it cannot be async")
    except Exception as error:
        cause = error.with_traceback(None)
        reason = (str(error) or type(error).__name__)[:_LONGEST_REASON]
    else:
        if verdict is not False:
            return None
        reason = "it is not allowed"
    whose = "" if host == address else f" for {host!r}"
    failure = SocketError(f"the policy refused {where}{whose}: {reason}", code="policy")
    failure.__cause__ = cause
    return Failure(where, f"refused by the policy: {reason}", failure)


def _drop(awaitable: object) -> None:
    """Keep Python from warning that a coroutine was never awaited."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
