"""Which engine serves: the native one where it works, else the one in Python.

It works if it was built, if cryptography has what it needs, and if it passes a test
at its first use in a process: a TLS connection, bridged, stopped and used again.
Where it does not, the log ("wsockets") says why. WSOCKETS_BRIDGE_ENGINE=python or
native takes the choice away.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from ..errors import SocketError
from ..runtime import Runtime
from .python import python_pump
from .work import Pump, Work

__all__ = ["EngineName", "engine_name", "make_pump"]

EngineName: TypeAlias = Literal["native", "python"]

_VARIABLE: Final = "WSOCKETS_BRIDGE_ENGINE"
_BUILD: Final = (
    "build it with a C compiler and Python's headers: pip install --force-reinstall "
    "--no-binary wsockets wsockets, or, in its source tree, make native"
)

_log = logging.getLogger("wsockets")


def engine_name() -> EngineName:
    """The engine that serves now.

    Raises SocketError (code "option") for a WSOCKETS_BRIDGE_ENGINE that is neither
    "native" nor "python", or (code "state") if that is "native" and it does not work;
    the fds of `work` stay the caller's then.
    """
    wanted = os.environ.get(_VARIABLE)
    if wanted not in (None, "", "native", "python"):
        raise SocketError(
            f"{_VARIABLE} is {wanted!r}; it must be 'native' or 'python'", code="option"
        )
    if wanted == "python":
        return "python"
    problem = _problem()
    if problem is None:
        return "native"
    if wanted:
        raise SocketError(
            f"{_VARIABLE} is 'native', and the native engine cannot serve: "
            f"{problem}; {_BUILD}",
            code="state",
        ) from problem
    return "python"


def make_pump(
    runtime: Runtime, work: Work, notify: Callable[[], None]
) -> tuple[Pump, EngineName]:
    """A pump for `work`, and the name of the engine it is of.

    Raises what `engine_name` does.
    """
    if engine_name() == "native":
        from .native import native_pump, suits

        if os.environ.get(_VARIABLE) or suits(work):
            return native_pump(runtime, work, notify), "native"
    return python_pump(runtime, work, notify), "python"


def _problem() -> Exception | None:
    """What keeps the native engine from serving now; None: nothing."""
    try:
        return _lasting_problem()
    except OSError as error:
        # No descriptor or thread is left, for now.
        _log.info("a bridge is served by Python, not by native code: %s", error)
        return error.with_traceback(None)


@functools.cache
def _lasting_problem() -> Exception | None:
    """What keeps the native engine from serving in this process; None: nothing.

    OSError where that may be different the next time.
    """
    try:
        from . import native, trial

        native.configure()
        trial.try_native()
    except OSError:
        raise
    except Exception as error:
        # Whatever it is, there is an engine that works.
        _log.info("bridges are served by Python, not by native code: %s", error)
        return error.with_traceback(None)
    return None
