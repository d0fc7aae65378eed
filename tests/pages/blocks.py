"""The examples of a page of documentation."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import attrs
from markdown_it import MarkdownIt

__all__ = ["Command", "Example", "commands", "examples", "languages"]

OUTPUT = "text"


@attrs.frozen
class Example:
    """A block of Python, and what it prints by the block right after it."""

    source: str
    file: Path
    line: int
    output: str | None

    def compile(self) -> CodeType:
        """The code, its line numbers those of the page; it may await."""
        code: CodeType = compile(
            "\n" * (self.line - 1) + self.source,
            str(self.file),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        return code

    @property
    def awaits(self) -> bool:
        """Whether it is the inside of an async function."""
        return bool(self.compile().co_flags & inspect.CO_COROUTINE)


def examples(file: Path) -> Iterator[Example]:
    """The Python blocks of a Markdown file, in order."""
    tokens = MarkdownIt("commonmark").parse(file.read_text())
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type != "fence" or token.info.strip() != "python":
            continue
        assert token.map is not None
        printed = (
            following is not None
            and following.type == "fence"
            and following.info.strip() == OUTPUT
        )
        output = following.content if printed and following is not None else None
        # The line of the fence is the first of the map, counted from 0.
        yield Example(token.content, file, token.map[0] + 2, output)


@attrs.frozen
class Command:
    """A line for the shell, and what it says."""

    line: str
    output: str


def commands(file: Path) -> Iterator[Command]:
    """The lines of `console` blocks that call the command line of this library."""
    for token in MarkdownIt("commonmark").parse(file.read_text()):
        if token.type != "fence" or token.info.strip() != "console":
            continue
        for part in ("\n" + token.content).split("\n$ ")[1:]:
            line, _, output = part.partition("\n")
            if "wsockets connect" in line:
                yield Command(line, output.rstrip("\n") + "\n")


def languages(file: Path) -> set[str]:
    """What the blocks of a Markdown file say they are written in."""
    tokens = MarkdownIt("commonmark").parse(file.read_text())
    return {
        token.info.strip() for token in tokens if token.type in ("fence", "code_block")
    }
