"""Results as JUnit XML, which every CI system reads."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conformance.results import Report, Result, transcript
from conformance.scenarios import LEVELS, Scenario

__all__ = ["write_junit"]

# What XML 1.0 has no way to hold.
_UNSPEAKABLE: Final = re.compile(
    r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


def write_junit(report: Report, scenarios: Sequence[Scenario], path: Path) -> None:
    """Write a file with a test suite per level.

    A failure of a decision (level D) or of an observation (O) is a skipped test, as
    the exit status takes none of them for a failure.
    """
    root = ET.Element("testsuites", name=report.title)
    titles = {each.id: each.title for each in scenarios}
    for level, name in LEVELS.items():
        results = [each for each in report.results if each.level == level]
        if not results:
            continue
        failing = level in ("M", "W")
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"{level}: {name}",
            tests=str(len(results)),
            failures=str(sum(failing and each.verdict == "fail" for each in results)),
            skipped=str(sum(_skipped(each, failing) for each in results)),
            time=f"{sum(each.seconds for each in results):.2f}",
        )
        for each in results:
            _write(suite, each, titles[each.id], failing)
    tree = ET.ElementTree(root)
    ET.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _skipped(result: Result, failing: bool) -> bool:
    return result.verdict == "not offered" or (result.verdict == "fail" and not failing)


def _write(suite: ET.Element, result: Result, title: str, failing: bool) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"conformance.{result.id.partition('.')[0]}",
        name=f"{result.id}: {title}",
        time=f"{result.seconds:.2f}",
    )
    if result.verdict == "fail" and failing:
        fault = ET.SubElement(case, "failure", message=_clean(result.fault))
        fault.text = _clean(transcript(result))
    elif _skipped(result, failing):
        ET.SubElement(case, "skipped", message=_clean(result.fault or "not offered"))


def _clean(text: str) -> str:
    return _UNSPEAKABLE.sub("\N{REPLACEMENT CHARACTER}", text)
