"""Sockets passed by a service manager: which, once, and in what state."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from wsockets import SocketError, activated, activation

ROOT = Path(__file__).parents[1]

# What systemd does between fork and exec: descriptors from 3 on, and variables.
MANAGER = """
import os, socket, sys
kinds, names, code = sys.argv[1], sys.argv[2], sys.argv[3]
opened = []
for kind in kinds.split():
    if kind == "tcp":
        opened.append(socket.create_server(("127.0.0.1", 0)).detach())
    elif kind == "pair":
        near, far = socket.socketpair()
        far.sendall(b"hello")
        opened.append(near.detach())
        far.detach()
    else:
        opened.append(os.open("/dev/null", os.O_RDONLY))
high = [os.dup(os.dup2(fd, 100 + index)) for index, fd in enumerate(opened)]
for index, fd in enumerate(high):
    os.dup2(fd, 3 + index)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(opened))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(sys.executable, [sys.executable, "-W", "error", "-c", code])
"""


def started(kinds: str, names: str, code: str) -> str:
    """What a service prints that a manager has started with such descriptors."""
    # The measuring of coverage has descriptors of its own, where these belong.
    usual = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COVERAGE_")
    }
    done = subprocess.run(
        [sys.executable, "-c", MANAGER, kinds, names, textwrap.dedent(code)],
        env={**usual, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_what_was_passed_is_given_out_once_and_by_name() -> None:
    said = started(
        "tcp tcp tcp",
        "http:https:http",
        """
        import os
        from wsockets import activated
        https, others = activated("https"), activated()
        print([sock.fileno() for sock in https], [sock.fileno() for sock in others])
        print(activated("http"), activated())
        print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
        print([os.get_inheritable(fd) for fd in (3, 4, 5)])
        for sock in https + others:
            sock.close()
        """,
    )
    assert said.splitlines() == [
        "[4] [3, 5]",
        "[] []",
        "[]",
        "[False, False, False]",
    ]


def test_those_without_a_name_are_unknown_and_others_than_sockets_left_out() -> None:
    said = started(
        "file tcp",
        "",
        """
        import os
        from wsockets import activated
        found = activated("unknown")
        print([sock.fileno() for sock in found], os.get_inheritable(3))
        for sock in found:
            sock.close()
        """,
    )
    assert said == "[4] False\n"


def test_listen_and_adopt_take_what_was_passed() -> None:
    said = started(
        "tcp pair",
        "web:connection",
        """
        import trio
        from wsockets import activated, adopt, connect, listen

        async def main():
            (web,) = activated("web")
            (connection,) = activated("connection")
            async with adopt(connection) as adopted:
                print((await adopted.readable.getReader().read()).value)
            async with listen(web) as server:
                async with connect(server.localAddress) as client:
                    await client.writable.getWriter().write("to a server")
                    async for found in server:
                        print((await found.readable.getReader().read()).value)
                        await found.close()
                        break

        trio.run(main)
        """,
    )
    assert said == "b'hello'\nb'to a server'\n"


def test_what_was_for_somebody_else_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert activated() == []
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert activated() == []
    assert "LISTEN_FDS" not in os.environ
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert activated() == []
    assert "LISTEN_PID" not in os.environ


@pytest.mark.parametrize(
    ("pid", "count", "match"),
    [
        ("me", "1", "LISTEN_PID is no number"),
        (None, "many", "LISTEN_FDS is no number"),
        (None, "-1", "LISTEN_FDS is no number"),
        (None, "9999", "no descriptor"),
    ],
)
def test_variables_that_make_no_sense_are_an_error(
    pid: str | None, count: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {fd: os.get_inheritable(fd) for fd in range(3, 10) if is_open(fd)}
    monkeypatch.setenv("LISTEN_PID", pid or str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(SocketError, match=match) as caught:
        activated()
    assert caught.value.code == "os"
    assert activated() == []
    for fd, inheritable in before.items():
        os.set_inheritable(fd, inheritable)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_name_is_a_str() -> None:
    with pytest.raises(SocketError, match="a str or None"):
        activated(3)  # type: ignore[arg-type]


def test_each_has_the_name_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if descriptors began at 200, which here nobody else has.
    monkeypatch.setattr(activation, "_FIRST", 200)
    with socket.create_server(("127.0.0.1", 0)) as made, open(os.devnull) as file:
        for place, fd in enumerate((made.fileno(), file.fileno(), made.fileno())):
            os.dup2(fd, 200 + place)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.setenv("LISTEN_FDNAMES", "first:file")
    (first,), (third,) = activated("first"), activated("unknown")
    assert (first.fileno(), third.fileno()) == (200, 202)
    assert activated("file") == []
    assert not os.get_inheritable(201)
    first.close()
    third.close()
    os.close(201)
