"""What a step came to, and the words by which a scenario expects it.

An outcome is a mapping as the drivers and the peer give it; README.md lists its
members. `show()` makes a line of it for people, `words()` all the words that
describe it; an expectation is met where it is among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Outcome", "meets", "show", "words"]

Outcome = Mapping[str, Any]


def meets(outcome: Outcome, expected: Any) -> bool:
    """Whether an outcome is what was expected.

    A list is a choice; a table {all = […]} wants each of its words.
    """
    if isinstance(expected, list):
        return any(meets(outcome, each) for each in expected)
    if isinstance(expected, Mapping):
        return all(meets(outcome, each) for each in expected["all"])
    return _word(expected) in set(words(outcome))


def _word(expected: Any) -> str:
    if isinstance(expected, bool):
        return "true" if expected else "false"
    return str(expected)


def show(outcome: Outcome) -> str:
    """An outcome on one line."""
    how = outcome["how"]
    if how in ("returned", "fulfilled"):
        return f"{how} {value(outcome.get('value'))}"
    if how in ("threw", "rejected"):
        return f"{how} {fault(outcome['error'])}"
    if how == "read":
        return _read(outcome)
    if how == "tls":
        return "tls, " + ", ".join(_facts(outcome))
    if how == "missing":
        return f"missing {outcome['value']}"
    if how in ("failed", "crashed"):
        asked = (
            "".join(f", {each}" for each in _asked(outcome)) if "sni" in outcome else ""
        )
        return f"{how} ({outcome['why']}{asked})"
    return str(how)


def words(outcome: Outcome) -> Iterator[str]:
    """Every word by which an outcome can be expected."""
    how = outcome["how"]
    yield how
    if how in ("returned", "fulfilled"):
        told = value(outcome.get("value"))
        yield told
        yield f"{how} {told}"
        if told.startswith("data "):
            yield "data"
        if isinstance(outcome.get("value"), (int, float)) and outcome["value"] > 0:
            yield "positive"
        if told.startswith("text SocketError: "):
            yield "text SocketError: …"
        if how == "fulfilled":
            yield "settled"
    elif how in ("threw", "rejected"):
        yield from ("settled", "failed")
        for kind in _kinds(outcome["error"]):
            yield from (f"{how} {kind}", f"failed {kind}")
    elif how == "read":
        yield from _read_words(outcome)
    elif how == "tls":
        yield from _facts(outcome)
    elif how == "failed" and "sni" in outcome:
        yield from _asked(outcome)


def value(told: Any) -> str:
    """A value as it is written in an expectation."""
    if told is None:
        return "nothing"
    if isinstance(told, bool):
        return "true" if told else "false"
    if not isinstance(told, Mapping):
        return f"{told:g}" if isinstance(told, float) else str(told)
    if "text" in told:
        return f"text {told['text']}"
    if "data" in told:
        return _data(told["data"])
    if "done" in told:
        if told["done"]:
            return "done"
        return value(told.get("value"))
    return str(told.get("kind", told))


def fault(error: Mapping[str, Any]) -> str:
    """An error, with what it says of itself."""
    return f"{_kinds(error)[-1]} ({error['name']}: {error['message']})"


def _kinds(error: Mapping[str, Any]) -> list[str]:
    kinds = ["Error"] if error["error"] else ["something"]
    if error["typeError"]:
        kinds.append("TypeError")
        if error["message"].startswith("SocketError: "):
            kinds.append("SocketError")
    if error["reason"] is not None:
        kinds.append(f"reason {error['reason']}")
    return kinds


def _data(told: Mapping[str, Any]) -> str:
    if "text" in told:
        text: str = told["text"]
        readable = text.replace("\r", "\\r").replace("\n", "\\n")
        if not readable.isascii() or not readable.isprintable():
            return "data x" + text.encode("latin-1").hex()
        return f"data {readable}".rstrip(" ") if text else "data of 0 bytes"
    kind = "pattern" if told["pattern"] else "other bytes"
    return f"data {told['length']} {kind}"


def _read(outcome: Outcome) -> str:
    parts = [_data(outcome["data"])] if outcome["data"]["length"] else []
    end = outcome["end"]
    if "error" in outcome:
        end = f"{end} {fault(outcome['error'])}"
    if end != "open":
        parts.append(end)
    return ", ".join(parts) or "nothing"


def _read_words(outcome: Outcome) -> Iterator[str]:
    data, end = outcome["data"], outcome["end"]
    ends = [end]
    if "error" in outcome:
        ends = [end, *(f"{end} {kind}" for kind in _kinds(outcome["error"]))]
    parts = end.split(", ")
    ends += [", ".join(parts[:n]) for n in range(1, len(parts))]
    if data["length"]:
        yield "data"
        told = _data(data)
        yield told
        for each in ends:
            yield f"{told}, {each}"
            yield f"data, {each}"
    else:
        yield "no data"
        yield from ends
    for each in ends:
        yield f"ends {each}"


def _asked(outcome: Outcome) -> list[str]:
    return [
        f"sni {outcome['sni'] or 'none'}",
        f"offered {' '.join(outcome['offered']) or 'none'}",
    ]


def _facts(outcome: Outcome) -> list[str]:
    return [
        f"version {outcome['version']}",
        *_asked(outcome),
        f"alpn {outcome['alpn'] or 'none'}",
        f"client {outcome['client'] or 'none'}",
    ]
