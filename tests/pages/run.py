"""Run the examples of one page: `python -W error -m tests.pages.run PAGE`.

The blocks of a page share their names, in order. One that awaits at its top
level is the inside of an async function and runs in a `trio.run` of its own. A
block of `text` right after it is what it prints; "..." there stands for
anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import sys
from pathlib import Path
from typing import Any

import trio

from .blocks import Example, examples
from .world import enter

LIMIT = 20.0  # seconds for one block
FLAGS = doctest.ELLIPSIS | doctest.REPORT_NDIFF


def run(example: Example, names: dict[str, Any]) -> str:
    """What the example prints."""
    code = example.compile()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if example.awaits:
            trio.run(_inside, code, names)
        else:
            exec(code, names)
    return printed.getvalue()


async def _inside(code: Any, names: dict[str, Any]) -> None:
    with trio.fail_after(LIMIT):
        await eval(code, names)


def main(page: str) -> int:
    """Run the page; 1 if it does not do what it says."""
    enter()
    names: dict[str, Any] = {"__name__": "__main__"}
    checker = doctest.OutputChecker()
    for example in examples(Path(page)):
        printed = run(example, names)
        if example.output is None:
            continue
        expected = doctest.Example(example.source, example.output)
        if not checker.check_output(expected.want, printed, FLAGS):
            sys.stderr.write(
                f"{page}:{example.line}: the example prints something else\n"
                + checker.output_difference(expected, printed, FLAGS)
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
