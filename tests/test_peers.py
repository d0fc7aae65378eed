from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests import peers
from tests.peers import PEERS, Peer, load


def executable(file: Path, says: str = "tool 1.2.3") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{says}'\n")
    file.chmod(0o755)
    return file


def test_every_peer_of_the_list_says_what_it_is_for() -> None:
    assert {"nginx", "openssl", "postgresql", "redis", "aiosmtpd"} <= set(PEERS)
    for peer in PEERS.values():
        assert peer.why
        assert peer.install


def test_a_list_is_read(tmp_path: Path) -> None:
    file = tmp_path / "peers.toml"
    file.write_text(
        '[tool]\nrequired = false\ncommand = "tool"\npaths = ["/opt/*/bin"]\n'
        'version = ["-v"]\nnpm = "tool"\nwhy = "fun"\n'
    )
    assert load(file) == {
        "tool": Peer(
            "tool",
            required=False,
            why="fun",
            command="tool",
            paths=("/opt/*/bin",),
            version=("-v",),
            npm="tool",
        )
    }


def test_a_misspelt_key_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "peers.toml"
    file.write_text('[tool]\nrequierd = true\ncommand = "tool"\nwhy = "fun"\n')
    with pytest.raises(TypeError, match="requierd"):
        load(file)


def test_a_peer_has_a_command_or_a_module() -> None:
    with pytest.raises(ValueError, match=r"\[tool\] needs either"):
        Peer("tool", required=True, why="fun", debian="tool")


def test_a_peer_names_its_package() -> None:
    with pytest.raises(ValueError, match=r"\[tool\] names no package"):
        Peer("tool", required=True, why="fun", command="tool")


def test_the_highest_version_of_a_folder_wins(tmp_path: Path) -> None:
    for version in "9", "15", "16":
        executable(tmp_path / version / "bin" / "some-server")
    peer = Peer(
        "some",
        required=True,
        why="fun",
        command="some-server",
        paths=(f"{tmp_path}/*/bin",),
        debian="some",
    )
    assert peer.find() == f"{tmp_path}/16/bin/some-server"


def test_a_second_tool_is_found_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "lib" / "server")
    executable(tmp_path / "lib" / "init")
    links = tmp_path / "bin"
    links.mkdir()
    (links / "server").symlink_to(tmp_path / "lib" / "server")
    monkeypatch.setenv("PATH", str(links))
    peer = Peer("x", required=True, why="fun", command="server", debian="x-server")
    assert peer.tool("init") == str(tmp_path / "lib" / "init")
    with pytest.raises(FileNotFoundError, match="apt-get install x-server"):
        peer.tool("dump")


def test_a_tool_of_a_missing_peer_is_missing() -> None:
    peer = Peer("x", required=True, why="fun", command="no-such-thing", npm="x")
    with pytest.raises(FileNotFoundError, match="npm install x"):
        peer.tool("init")


def test_a_program_tells_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "tool", "tool (Debian) 7.0.15 and more 1.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    peer = Peer("tool", required=True, why="fun", command="tool", debian="tool")
    assert peer.describe() == "7.0.15"
    executable(tmp_path / "tool", "the newest")
    assert peer.describe() == "the newest"


def test_a_module_is_found_and_tells_its_version() -> None:
    assert PEERS["aiosmtpd"].find() == "aiosmtpd"
    assert (PEERS["aiosmtpd"].describe() or "").startswith("1.")


def test_a_missing_peer_has_no_version() -> None:
    peer = Peer("x", required=True, why="fun", module="no_such_module", pypi="x")
    assert peer.describe() is None


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, *, required: bool) -> Peer:
        return Peer(
            name, required=required, why="fun", command=f"no-{name}", debian=name
        )

    listed = {
        "must": make("must", required=True),
        "may": make("may", required=False),
    }
    monkeypatch.setattr(peers, "PEERS", listed)


@pytest.mark.usefixtures("strange")
def test_a_missing_required_peer_fails_the_test(peer: Callable[[str], str]) -> None:
    with pytest.raises(Failed, match=r"a required peer.*sudo apt-get install must"):
        peer("must")


@pytest.mark.usefixtures("strange")
def test_a_missing_optional_peer_skips_the_test(peer: Callable[[str], str]) -> None:
    with pytest.raises(Skipped, match=r"an optional peer.*\(fun\)"):
        peer("may")


def test_a_peer_that_is_there_is_a_path(peer: Callable[[str], str]) -> None:
    done = subprocess.run(
        [peer("openssl"), "version"], capture_output=True, timeout=20, check=True
    )
    assert done.stdout.startswith(b"OpenSSL")


@pytest.mark.usefixtures("strange")
def test_the_packages_that_are_missing_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert peers.main(["missing"]) == 0
    assert capsys.readouterr().out == "must\n"


@pytest.mark.usefixtures("strange")
def test_what_there_is_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main([]) == 0
    must, may = capsys.readouterr().out.splitlines()
    assert must.startswith("must: must is not on this machine: a required peer")
    assert may.startswith("may: may is not on this machine: an optional peer")


def test_other_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["install"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_list_needs_no_package() -> None:
    done = subprocess.run(
        [sys.executable, "-I", peers.__file__, "missing"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert not done.stderr
