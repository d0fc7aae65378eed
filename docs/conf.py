"""How Sphinx builds this documentation; it needs no network."""

import inspect
import re
from importlib.metadata import version as version_of
from typing import Any

project = "wsockets"
author = "The wsockets authors"
project_copyright = author
version = release = version_of("wsockets")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples"]

html_theme = "furo"
html_title = "wsockets"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings are Markdown in all but name: `name` is code.
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}

nitpicky = True
# What signatures name and this documentation does not describe: other people's
# types, type variables, aliases and what is private here.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|typing|typing_extensions|types|_?socket|os|enum|re)\b.*"),
    ("py:.*", r"(OpenSSL|cryptography|trio|x509|SSL)\b.*"),
    ("py:.*", r"(.*\.)?(_\w+|[TU]|\w+Members|Stored|Runtime|Handler|Overheard|Buffer)"),
    ("py:.*", r"(.*\.)?(Certificates|KeySource|Password|Psk|Verify|TlsVersion)"),
    ("py:.*", r"(.*\.)?(EventHandler|EventListener|SignalLike|Protocol|PathLike)"),
]


def _plain(text: str) -> str:
    """Text without what reStructuredText would take for markup."""
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    return text.replace("*", r"\*").replace("|", r"\|")


def _as_written(*event: Any) -> None:
    """Docstrings are prose with `code` in it; nothing else in them is markup."""
    *_, lines = event
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    parts[::2] = [_plain(part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def _as_called(*event: Any) -> tuple[str, str] | None:
    """Show no parameters for a class that programs do not construct."""
    _app, what, _name, target, _options, signature, returns = event
    if what != "class":
        return None
    if not inspect.signature(target).parameters:
        try:
            target()
        except TypeError:
            return "", ""
    # What attrs makes at each call has no default that could be shown.
    return (signature or "").replace(" = NOTHING", " = ..."), returns


def _second_spelling(*event: Any) -> bool | None:
    """Leave out start_tls where there is startTls."""
    _app, _what, name, member, *_ = event
    first = re.sub("_([a-z])", lambda found: found[1].upper(), name)
    if "_" not in name.strip("_") or first == name:
        return None
    function = getattr(member, "fget", member)
    same = getattr(function, "__name__", name) == first
    return True if same or inspect.getdoc(member) == f"`{first}`." else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_written)
    app.connect("autodoc-process-signature", _as_called)
    app.connect("autodoc-skip-member", _second_spelling)
