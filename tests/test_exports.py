"""Every exported name is there at run time, for mypy, and in `__all__`."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import types
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import wsockets

ROOT = Path(__file__).parents[1]
SOURCE = Path(wsockets.__file__)

CLASSES = sorted(
    name for name in wsockets.__all__ if inspect.isclass(getattr(wsockets, name))
)


def public_members(kind: type) -> list[str]:
    """The public names that the library itself gives to a class."""
    ours = [
        base for base in kind.__mro__ if base.__module__.partition(".")[0] == "wsockets"
    ]
    return sorted(
        {name for base in ours for name in vars(base) if not name.startswith("_")}
        | {
            name
            for base in ours
            for name in inspect.get_annotations(base)
            if not name.startswith("_")
        }
    )


def mypy(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            "--follow-imports=silent",
            *("--config-file", ROOT / "pyproject.toml", file),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_all_is_sorted_and_without_repetition() -> None:
    assert list(wsockets.__all__) == sorted(set(wsockets.__all__))


def test_all_names_exactly_what_is_public_at_run_time() -> None:
    public = {
        name
        for name, value in vars(wsockets).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    # `from __future__ import annotations` leaves a name behind.
    assert public - {"annotations"} == {
        name for name in wsockets.__all__ if not name.startswith("_")
    }


def test_the_package_itself_defines_nothing() -> None:
    for node in ast.parse(SOURCE.read_text()).body:
        allowed = isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr))
        assert allowed, f"line {node.lineno} of {SOURCE}"


@pytest.mark.parametrize("name", wsockets.__all__)
def test_an_exported_name_is_documented(name: str) -> None:
    value = getattr(wsockets, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_of_an_exported_class_is_documented(name: str) -> None:
    kind = getattr(wsockets, name)
    for member in public_members(kind):
        value = inspect.getattr_static(kind, member, None)
        if inspect.isroutine(value) or isinstance(value, property):
            assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize("name", wsockets.__all__)
def test_an_exported_name_is_exported_by_its_module_too(name: str) -> None:
    value = getattr(wsockets, name)
    module = getattr(value, "__module__", None)
    if module is None or not module.startswith("wsockets"):
        return  # a constant or an alias of types knows not where it was made
    homes = [
        home
        for home in sys.modules.values()
        if home is not wsockets
        and home.__name__.startswith("wsockets.")
        and getattr(home, name, None) is value
        and name in getattr(home, "__all__", ())
    ]
    assert homes, f"no module's __all__ has {name}"


@pytest.mark.timeout(180)
def test_mypy_sees_every_name_and_every_public_member(tmp_path: Path) -> None:
    lines = ["import wsockets"]
    lines += [f"from wsockets import {name} as _{name}" for name in wsockets.__all__]
    for name in CLASSES:
        members = public_members(getattr(wsockets, name))
        lines.append(f"def see_{name}(value: type[_{name}]) -> None:")
        lines += [f"    value.{member}" for member in members] or ["    ..."]
    file = tmp_path / "see.py"
    file.write_text("\n".join(lines) + "\n")
    done = mypy(file)
    found = [
        line
        for line in done.stdout.splitlines()
        # A generic class without its parameter is well known all the same.
        if "type-arg" not in line
    ]
    assert not found, "\n".join(found)
    assert not done.stderr


@pytest.mark.timeout(180)
def test_mypy_would_have_told(tmp_path: Path) -> None:
    file = tmp_path / "see.py"
    file.write_text("import wsockets\nwsockets.not_there\n")
    done = mypy(file)
    assert done.returncode == 1
    assert 'no attribute "not_there"' in done.stdout


def test_the_command_is_where_its_entry_point_says() -> None:
    (command,) = entry_points(group="console_scripts", name="wsockets")
    assert callable(command.load())
