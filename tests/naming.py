"""Names of parametrized tests that are the same in every process."""

from __future__ import annotations

import re

__all__ = ["named"]


def named(value: object) -> str:
    """The repr of a parameter, without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
