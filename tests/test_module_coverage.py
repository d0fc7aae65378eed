from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tools import module_coverage
from tools.module_coverage import Coverage, Group, groups, own_tests, table


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    for name in "errors", "tls", "tls_names", "tls_names_idn", "tlsx", "streams_pipe":
        (tmp_path / f"test_{name}.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("errors.py", ["errors"]),
        ("tls/names.py", ["tls_names", "tls_names_idn"]),
        ("tls/__init__.py", ["tls", "tls_names", "tls_names_idn"]),
        ("tls/psk.py", ["tls", "tls_names", "tls_names_idn"]),
        ("streams/_pipe.py", ["streams_pipe"]),
        ("socket.py", []),
        ("__init__.py", []),
    ],
)
def test_a_module_is_matched_with_its_tests_by_name(
    tests: Path, module: str, expected: list[str]
) -> None:
    assert own_tests(Path(module), tests) == tuple(
        tests / f"test_{name}.py" for name in expected
    )


def test_modules_with_the_same_tests_are_one_run(tests: Path) -> None:
    modules = [Path("tls/psk.py"), Path("errors.py"), Path("tls/__init__.py")]
    assert [group.modules for group in groups(modules, tests)] == [
        (Path("tls/psk.py"), Path("tls/__init__.py")),
        (Path("errors.py"),),
    ]


def test_a_module_without_tests_has_no_figure() -> None:
    (row,) = module_coverage.measure(Group((), (Path("socket.py"),)))
    assert row.percent is None


def test_the_lowest_is_shown_first() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    tests = (Path("test_x.py"),)
    console.print(
        table(
            [
                Coverage(Path("good.py"), tests, 99.44, "7", True),
                Coverage(Path("bad.py"), tests, 12.0, "8, 9→10", True),
                Coverage(Path("broken.py"), tests, 100.0, "", False),
                Coverage(Path("none.py"), (), None, "", True),
            ]
        )
    )
    lines = [line.split() for line in console.export_text().splitlines()[1:]]
    assert lines == [
        ["none.py", "—", "none"],
        ["bad.py", "12.0", "test_x.py", "8,", "9→10"],
        ["good.py", "99.4", "test_x.py", "7"],
        ["broken.py", "100.0", "test_x.py", "tests", "fail;"],
    ]


def test_many_test_files_are_counted() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    tests = tuple(Path(f"test_x_{name}.py") for name in "abcd")
    console.print(table([Coverage(Path("x.py"), tests, 99.0, "", True)]))
    assert "test_x_a.py and 3 more" in console.export_text()
