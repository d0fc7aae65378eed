"""Which engine serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from ..runtime import Runtime
from .python import python_pump
from .work import Pump, Work

__all__ = ["EngineName", "engine_name", "make_pump"]

EngineName: TypeAlias = Literal["native", "python"]


def engine_name() -> EngineName:
    """The engine that serves."""
    return "python"


def make_pump(
    runtime: Runtime, work: Work, notify: Callable[[], None]
) -> tuple[Pump, EngineName]:
    """A pump that does `work`, and the engine it belongs to."""
    return python_pump(runtime, work, notify), "python"
