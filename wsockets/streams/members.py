"""Reading the small option dictionaries of stream methods."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

__all__ = ["read_flags"]


def read_flags(
    where: str,
    names: tuple[str, ...],
    options: Mapping[str, object] | None,
    members: Mapping[str, object],
) -> dict[str, bool]:
    """The flags `names` out of a mapping and keywords, in either spelling.

    TypeError for an unknown keyword, a member given twice, or a value that is
    not a bool; a value of None counts as not given.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options are a mapping or None, not {options!r}")
    spellings = _spellings(names)
    for keyword in members:
        if keyword not in spellings:
            raise TypeError(f"{where}() got an unexpected keyword argument {keyword!r}")
    flags = dict.fromkeys(names, False)
    seen = set()
    for source in (options or {}, members):
        for spelling, value in source.items():
            name = spellings.get(spelling)
            if name is None or value is None:
                continue
            if name in seen:
                raise TypeError(f"{where}() got the member {name!r} twice")
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, not {value!r}")
            seen.add(name)
            flags[name] = value
    return flags


@functools.cache
def _spellings(names: tuple[str, ...]) -> Mapping[str, str]:
    return {each: name for name in names for each in (name, _snake(name))}


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)
