"""Imports go down the layers only, and few modules know the event loop.

The layers are the contracts of [tool.importlinter] in pyproject.toml; here they
are held, and so is what import-linter does not look at.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wsockets"
EVENT_LOOPS = {"trio", "asyncio", "sniffio", "uvloop", "anyio"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """What imports what; building it starts the threads of a pool, for good."""
    return grimp.build_graph(
        "wsockets",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def lint(config: Path) -> subprocess.CompletedProcess[str]:
    code = "import importlinter.cli as c; c.lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-logo", "--no-cache", "--config", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_contracts_of_the_layers_are_kept() -> None:
    done = lint(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken." in done.stdout


def test_an_upside_down_contract_is_broken(tmp_path: Path) -> None:
    config = tmp_path / "upside_down.ini"
    config.write_text(
        "[importlinter]\nroot_package = wsockets\n"
        "[importlinter:contract:layers]\nname = upside down\ntype = layers\n"
        "containers = wsockets\nlayers =\n    errors\n    promise\n    socket\n"
    )
    done = lint(config)
    assert done.returncode != 0
    assert "upside down BROKEN" in done.stdout


def names_in(file: Path) -> set[str]:
    """The event loops that a module names, other than for the type checker."""
    tree = ast.parse(file.read_text(), str(file))
    found: set[str] = set()

    class Names(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                for other in node.orelse:
                    self.visit(other)
            else:
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name.partition(".")[0] for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            if node.level == 0 and node.module is not None:
                found.add(node.module.partition(".")[0])

        def visit_Name(self, node: ast.Name) -> None:
            found.add(node.id)

        def visit_Constant(self, node: ast.Constant) -> None:
            # A name given to import_module() or looked up in sys.modules.
            if isinstance(node.value, str):
                found.add(node.value.partition(".")[0])

    Names().visit(tree)
    return found & EVENT_LOOPS


def modules() -> list[str]:
    return sorted(str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py"))


def may_name_the_loop(module: str) -> bool:
    # The command line is where a run of trio starts.
    return module.startswith(("runtime/", "cli/")) or module == "trio_stream.py"


@pytest.mark.parametrize("module", modules())
def test_the_event_loop_is_named_at_the_seam_only(module: str) -> None:
    named = names_in(PACKAGE / module)
    assert may_name_the_loop(module) or not named


def test_the_check_sees_every_way_to_name_the_loop(tmp_path: Path) -> None:
    for code, expected in {
        "import trio": {"trio"},
        "import trio.lowlevel as low": {"trio"},
        "from trio.lowlevel import checkpoint": {"trio"},
        "def f():\n    import asyncio": {"asyncio"},
        "import sys; sys.modules['trio']": {"trio"},
        "__import__('trio.lowlevel')": {"trio"},
        "from .trio import x": set(),
        "if TYPE_CHECKING:\n    import trio": set(),
        "if TYPE_CHECKING:\n    import trio\nelse:\n    import asyncio": {"asyncio"},
    }.items():
        file = tmp_path / "module.py"
        file.write_text(code)
        assert names_in(file) == expected, code


def test_the_seam_is_where_the_loop_is() -> None:
    assert {"trio", "asyncio", "sniffio"} <= {
        name
        for module in modules()
        if may_name_the_loop(module)
        for name in names_in(PACKAGE / module)
    }


def test_no_module_imports_the_package_that_exports_it(
    graph: grimp.ImportGraph,
) -> None:
    # The demo is what a user would write.
    demo = {"wsockets.cli.demo", *graph.find_descendants("wsockets.cli.demo")}
    assert graph.find_modules_that_directly_import("wsockets") <= demo


def test_the_streams_know_nothing_of_sockets(graph: grimp.ImportGraph) -> None:
    streams = {"wsockets.streams", *graph.find_descendants("wsockets.streams")}
    imported = {
        name
        for module in streams
        for name in graph.find_modules_directly_imported_by(module)
    }
    above = {"wsockets.socket", "wsockets.connection", "wsockets.tls", "wsockets.dial"}
    assert not imported & above
