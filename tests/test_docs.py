"""The documentation: its examples run, its language tags are right, it builds."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from doctest import NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import get_args

import attrs
import pytest
import trustme

from tests.pages import servers
from tests.pages.blocks import Command, commands, examples, languages
from tests.pages.run import FLAGS
from tests.pages.world import World
from tests.servers import Redis, run_smtp
from tests.servers.tls import TlsFiles
from wsockets import ErrorCode

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

PAGES = [
    *ROOT.glob("README.md"),
    *sorted(file for file in DOCS.rglob("*.md") if "_build" not in file.parts),
]
RUNNABLE = [page for page in PAGES if any(examples(page))]
COMMANDS = [
    pytest.param(page, command, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, command in enumerate(commands(page))
]
# Only what is tagged "python" is run, so nothing else may be Python.
LANGUAGES = {"python", "text", "js", "console", "toml"}


# One worker has the servers, not each of them.
in_one_worker = pytest.mark.xdist_group("documentation")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@attrs.frozen
class Place:
    """Where an example runs: the servers around it, the files beside it."""

    world: World
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.world.environment(self.folder / "ca.pem"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.folder}:{os.environ['PATH']}",
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, redis: Redis) -> Iterator[Place]:
    """The documentation's internet, and its certificates as files.

    ca.pem is the authority that everybody trusts, server.pem the certificate and
    key of example.com; client.pem and client-key.pem are Ada's, a member.
    """
    folder = tmp_path_factory.mktemp("docs")
    authority = trustme.CA()
    site = authority.issue_cert("example.com")
    mail = authority.issue_cert("smtp.example.com")
    member = authority.issue_cert("ada@example.com", common_name="Ada Lovelace")
    stranger = trustme.CA().issue_cert("untrusted.example.com")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    member.cert_chain_pems[0].write_to_path(folder / "client.pem")
    member.private_key_pem.write_to_path(folder / "client-key.pem")
    site.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")

    command = folder / "wsockets"
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m tests.pages.command "$@"\n'
    )
    command.chmod(0o755)

    mail.private_key_and_cert_chain_pem.write_to_path(folder / "mail.pem")

    def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(made)
        made.set_alpn_protocols(["http/1.1"])
        return made

    members = context(authority.issue_cert("members.example.com"))
    members.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(members)

    world = World(paths={"/run/redis/redis.sock": str(redis.path)})
    files = TlsFiles(folder / "mail.pem", folder / "mail.pem", folder / "ca.pem")
    with ExitStack() as stack:
        for where, handle, secured in (
            ("example.com:80", servers.http, None),
            ("example.com:443", servers.http, context(site)),
            ("echo.example.com:7", servers.echo, None),
            (
                "echo.example.com:443",
                servers.echo,
                context(authority.issue_cert("echo.example.com")),
            ),
            ("silent.example.com:443", servers.silent, None),
            ("stripped.example.com:587", servers.strip, None),
            ("untrusted.example.com:443", servers.http, context(stranger)),
            ("members.example.com:443", servers.http, members),
            ("intranet.example.com:80", servers.http, None),
            ("proxy.example.com:3128", servers.connect_proxy(world), None),
            ("proxy.example.com:1080", servers.socks_proxy(world), None),
        ):
            world.serve(where, stack.enter_context(servers.running(handle, secured)))
        world.serve("smtp.example.com:587", stack.enter_context(run_smtp(files)).port)
        yield Place(world, folder)


@in_one_worker
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
@pytest.mark.timeout(120)
def test_the_examples_of_a_page_run(page: Path, place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.pages.run", str(page)],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@in_one_worker
@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_a_page_says_what_it_should(
    page: Path, command: Command, place: Place
) -> None:
    done = subprocess.run(
        ["sh", "-c", command.line],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    # Tables are padded to the width of a terminal.
    flags = FLAGS | NORMALIZE_WHITESPACE
    matches = OutputChecker().check_output(command.output, done.stdout, flags)
    assert matches, f"{page.name}: $ {command.line}\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_code_says_a_known_language(page: Path) -> None:
    assert {tag for tag in languages(page) if not tag.startswith("{")} <= LANGUAGES


def test_every_code_of_a_socket_error_is_in_the_reference() -> None:
    table = (DOCS / "reference" / "errors.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(
        get_args(ErrorCode)
    )


def layers_of_the_page() -> list[list[str]]:
    """The modules in the table of layers, a row each, the highest first."""
    text = (DOCS / "topics" / "architecture.md").read_text()
    return [
        re.findall(r"`(\w+)`", line.split("|")[1])
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def test_every_module_is_in_the_table_of_layers() -> None:
    named = [name for row in layers_of_the_page() for name in row]
    package = ROOT / "wsockets"
    modules = {file.stem for file in package.glob("*.py")} - {"__init__"}
    modules |= {file.parent.name for file in package.glob("*/__init__.py")}
    assert sorted(named) == sorted(modules)


def test_the_table_of_layers_is_what_holds_for_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (
        each
        for each in project["tool"]["importlinter"]["contracts"]
        if each["id"] == "layers"
    )
    page = [set(row) for row in layers_of_the_page()]
    # What stands in brackets there may be missing.
    held = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    known = set().union(*page)
    assert page == [names & known for names in held if names & known]


@in_one_worker
def test_an_example_that_prints_something_else_is_noticed(
    tmp_path: Path, place: Place
) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.pages.run", str(page)],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "page.md:2: the example prints something else" in done.stderr


@pytest.mark.timeout(180)
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going"),
            *("--nitpicky", "--quiet", "-b", "html", "-d", str(tmp_path / "doctrees")),
            *(str(DOCS), str(tmp_path / "html")),
        ],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").is_file()
