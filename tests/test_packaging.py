"""What is built from the project holds everything, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, as setuptools writes beside what it builds.
    source = folder / "source"
    source.mkdir()
    for name in "pyproject.toml", "setup.py", "README.md", "LICENSE", "wsockets":
        subprocess.run(["cp", "-r", ROOT / name, source], timeout=20, check=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--no-index", f"--wheel-dir={folder}", source),
        ],
        stdout=subprocess.DEVNULL,
        timeout=50,
        check=True,
    )
    (built,) = folder.glob("wsockets-*.whl")
    return zipfile.Path(built)


def files(wheel: zipfile.Path) -> set[str]:
    return {
        name
        for name in wheel.root.namelist()
        if not name.endswith("/") and ".dist-info/" not in name
    }


def test_the_wheel_holds_the_package_whole_and_alone(wheel: zipfile.Path) -> None:
    expected = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "wsockets").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files(wheel) == expected | {"wsockets/bridge/_native.abi3.so"}


def test_the_wheel_says_that_it_is_typed(wheel: zipfile.Path) -> None:
    assert "wsockets/py.typed" in files(wheel)


def test_the_wheel_carries_its_licence_and_its_command(wheel: zipfile.Path) -> None:
    names = wheel.root.namelist()
    (licence,) = (name for name in names if name.endswith("/licenses/LICENSE"))
    assert wheel.root.read(licence) == (ROOT / "LICENSE").read_bytes()
    (commands,) = (name for name in names if name.endswith("/entry_points.txt"))
    assert b"wsockets = wsockets.cli:main" in wheel.root.read(commands)


def test_the_wheel_describes_itself(wheel: zipfile.Path) -> None:
    (name,) = (n for n in wheel.root.namelist() if n.endswith("/METADATA"))
    metadata = HeaderParser().parsestr(wheel.root.read(name).decode())
    assert metadata["Name"] == "wsockets"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


def test_every_dependency_is_imported_somewhere() -> None:
    modules = {
        "attrs": "attrs",
        "certifi": "certifi",
        "click": "click",
        "cryptography": "cryptography",
        "h11": "h11",
        "idna": "idna",
        "pyOpenSSL": "OpenSSL",
        "rich": "rich",
        "service-identity": "service_identity",
        "sniffio": "sniffio",
        "socksio": "socksio",
        "trio": "trio",
    }
    wanted = {requirement.partition(">")[0] for requirement in PROJECT["dependencies"]}
    assert wanted == set(modules)
    source = "\n".join(file.read_text() for file in (ROOT / "wsockets").rglob("*.py"))
    for name, module in modules.items():
        imported = f"import {module}" in source or f"from {module}" in source
        assert imported, f"{name} is a dependency that nothing imports"


def test_the_wheel_serves_every_python_from_the_first_on(
    wheel: zipfile.Path,
) -> None:
    assert "-cp311-abi3-" in Path(str(wheel.root.filename)).name
