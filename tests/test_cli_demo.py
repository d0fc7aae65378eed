"""`wsockets demo`, with little to move."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from wsockets import SocketError, connect
from wsockets.address import format_address
from wsockets.bridge.engines import engine_name
from wsockets.cli import program
from wsockets.cli.demo import bulk, devices, servers, traffic
from wsockets.cli.demo.authority import Files, found_authority
from wsockets.cli.demo.chapters import nobody, reply, tunnel, untrusted
from wsockets.cli.demo.query import first_row
from wsockets.cli.demo.servers import Missing, Ports
from wsockets.cli.demo.signals import Obedience

TITLES = (
    "A connection is a pair of streams",
    "TLS, and a protocol agreed on in the handshake",
    "A letter, after STARTTLS",
    "PostgreSQL, after its SSLRequest",
    "Where nobody listens",
    "A certificate that nobody vouches for",
    "Packets between two devices, each in a TLS record of its own",
    "A bulk transfer, beside trio's own streams",
)


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["demo", "--size", "1", *arguments])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return found_authority(tmp_path)


def test_everything_is_shown(peer: Callable[[str], str]) -> None:
    peer("postgresql")
    result = demo()
    assert result.exit_code == 0, result.output
    for number, title in enumerate(TITLES, 1):
        assert f"{number}  {title}" in result.output
    for outcome in (
        "✓ hello world, over plaintext",
        "✓ hello world, over TLSv1.3 and demo/1",
        "agreed on demo/1",
        "✓ 250 thank you",
        "Subject: over STARTTLS",
        "✓ refused: SocketError: ",
        "✓ tls-verify: SocketError: ",
        "'wsockets demo authority'",
    ):
        assert outcome in result.output
    assert re.search(
        r"^  ✓ PostgreSQL \S+ sees TLSv1.3 with TLS_", result.output, re.MULTILINE
    )
    for engine in {engine_name(), "python"}:
        assert re.search(
            rf"✓ \d[\d,]* packets/s of 1,280 bytes, for \d+% of a core \({engine} ",
            result.output,
        )
    for name in ("wsockets", "trio SocketStream", "trio SSLStream"):
        assert f"  {name} " in result.output
    # The code of a chapter, and not its documentation.
    assert 'await writer.write("hello world\\n")' in result.output
    assert '"""' not in result.output
    assert "\x1b" not in result.output


def test_it_runs_as_a_program_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "wsockets", "demo", "--size", "9"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def processes_of(session: int) -> set[int]:
    """Those of a session (setsid(2)), which are not zombies."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        # It may have ended meanwhile.
        with suppress(OSError):
            state, *numbers = entry.read_text().rpartition(")")[2].split()
            if int(numbers[2]) == session and state != "Z":
                found.add(int(entry.parent.name))
    return found


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, TITLES[0]),
        (signal.SIGTERM, TITLES[-1]),
        (signal.SIGHUP, TITLES[-1]),
        (signal.SIGINT, TITLES[-1]),
    ],
    ids=["term-early", "term", "hup", "int"],
)
def test_a_signal_ends_its_servers_too(
    peer: Callable[[str], str], tmp_path: Path, number: int, moment: str
) -> None:
    peer("postgresql")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "wsockets", "demo", "--size", "100000"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if moment in line:
                    break
            assert len(processes_of(process.pid)) > 1
            process.send_signal(number)
            _, complaint = process.communicate(timeout=40)
        finally:
            process.kill()
    assert complaint.strip() == ""
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert processes_of(process.pid) == set()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def default_signals() -> Iterator[None]:
    """As a program has them; they are put back."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, *ENDING)}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


ENDING = (signal.SIGTERM, signal.SIGHUP)


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("loop", ["none", "trio"])
def test_the_signal_takes_effect_when_all_is_undone(loop: str) -> None:
    undone = []
    caught = []

    async def wait() -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    # What would end this process.
    signal.signal(signal.SIGTERM, lambda number, _: caught.append(number))
    with pytest.raises(KeyboardInterrupt):
        with Obedience() as obedience, ExitStack() as stack:
            stack.callback(lambda: undone.append(list(caught)))
            stack.callback(signal.raise_signal, signal.SIGINT)
            stack.callback(signal.raise_signal, signal.SIGTERM)
            stack.callback(obedience.end)
            if loop == "trio":
                trio.run(wait)
            else:
                signal.raise_signal(signal.SIGTERM)
    assert undone == [[]]
    assert caught == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_signals")
def test_one_signal_is_enough() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        with Obedience():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("default_signals")
def test_what_was_ignored_is_ignored_still() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    with Obedience():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Obedience():
        # A shell's background job can be ended by this alone.
        signal.raise_signal(signal.SIGTERM)


def test_what_is_missing_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiosmtpd.smtp", None)
    # There is no PostgreSQL on PATH, nor where Debian puts it.
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    result = demo("--no-code")
    assert result.exit_code == 0
    assert '– aiosmtpd is not installed; get it with: pip install "wsockets[demo]"' in (
        result.output
    )
    assert "– there is no PostgreSQL server on this machine" in result.output
    assert "✓ refused" in result.output
    assert "async def" not in result.output


def test_root_needs_somebody_to_run_postgresql_as(
    monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/initdb")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    with pytest.raises(Missing, match="refuses to run as root"):
        servers.run_postgresql(files).__enter__()


def fake_postgresql(folder: Path, initdb: str, postgres: str) -> None:
    for name, script in (("initdb", initdb), ("postgres", postgres)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("initdb", "postgres", "text"),
    [
        ("echo no space >&2; exit 1", "", "initdb failed: no space"),
        ("exit 0", "echo port taken >&2; exit 1", "did not start: port taken"),
    ],
)
def test_a_postgresql_that_does_not_start_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: Files,
    initdb: str,
    postgres: str,
    text: str,
) -> None:
    fake_postgresql(tmp_path, initdb, postgres)
    monkeypatch.setattr("shutil.which", lambda _: str(tmp_path / "initdb"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Missing, match=text):
        servers.run_postgresql(files).__enter__()


def test_without_root_postgresql_runs_as_whoever_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Files
) -> None:
    ready = "echo database system is ready to accept connections >&2; exec sleep 60"
    fake_postgresql(tmp_path, 'mkdir "$2"', ready)
    monkeypatch.setattr("shutil.which", lambda _: str(tmp_path / "initdb"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with servers.run_postgresql(files) as port:
        assert 0 < port < 65536


async def test_a_server_that_ends_early_is_noticed(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.run_peer(files) as ports:
        for contender in bulk.CONTENDERS:
            # Asked for less than is waited for.
            found = await bulk.measure(contender, ports, files, 1000, lambda _: None)
            assert found.size == 1000
            assert found.rate > 0
            assert found.cpu_per_gib > 0


async def test_a_transfer_that_is_cut_short_is_an_error(files: Files) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"x")

    for contender in bulk.CONTENDERS:
        if contender.transport != "plain":
            continue
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(serve_one, listener, hang_up)
            ports = Ports(plain=listener.socket.getsockname()[1], tls=0)
            with pytest.raises(RuntimeError, match="1 of 5 bytes came"):
                await bulk.measure(contender, ports, files, 5, lambda _: None)


async def serve_one(listener: trio.SocketListener, handler: Any) -> None:
    async with listener, await listener.accept() as stream:
        await handler(stream)


async def test_what_should_fail_and_does_not_is_not_hidden(files: Files) -> None:
    with servers.run_peer(files) as ports:
        assert await nobody(f"localhost:{ports.plain}") == "connected?"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(files.root))
            assert await untrusted(f"localhost:{ports.tls}") == "connected?"


async def test_rows_are_put_together_from_any_pieces() -> None:
    row = b"D\0\0\0\x18\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x04cdef"
    wire = b"R\0\0\0\x08\0\0\0\0" + row + row + b"Z\0\0\0\x05I"

    async def bytewise() -> AsyncIterator[bytes]:
        for byte in wire:
            yield bytes([byte])

    async def whole() -> AsyncIterator[bytes]:
        yield wire

    assert await first_row(bytewise()) == ["ab", "", "cdef"]
    assert await first_row(whole()) == ["ab", "", "cdef"]


async def test_an_error_of_postgresql_is_raised() -> None:
    async def answer() -> AsyncGenerator[bytes, None]:
        yield b"E\0\0\0\x10SFATAL\0Mno\0\0"

    async with aclosing(answer()) as chunks:
        with pytest.raises(RuntimeError, match="SFATAL Mno"):
            await first_row(chunks)


def rate(text: str) -> int:
    found = re.match(r"([\d,]+) packets/s", text)
    assert found is not None
    return int(found[1].replace(",", ""))


async def test_packets_go_through_pairs_of_sockets_where_there_is_no_TUN(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def refuse() -> Iterator[devices.Devices]:
        raise PermissionError(1, "Operation not permitted")
        yield

    monkeypatch.setattr(devices, "tun_devices", refuse)
    with devices.open_devices() as found:
        assert "needs root" in found.what
        assert rate(await tunnel(found, 0.2)) > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
async def test_packets_go_through_TUN_devices() -> None:
    with devices.open_devices() as found:
        assert "TUN devices" in found.what
        assert rate(await tunnel(found, 0.2)) > 0


def test_the_traffic_ends_with_the_tunnel(capsys: pytest.CaptureFixture[str]) -> None:
    for what, printed in (("receive", "something came\n"), ("send", "")):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near, far:
            if what == "receive":
                near.send(b"one")
                near.send(b"two")
            near.close()
            traffic.main(what, far.detach(), b"three")
        assert capsys.readouterr().out == printed


def test_a_network_that_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        def unshare(self, flags: int) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Libc())
    with pytest.raises(OSError), devices.tun_devices():
        pass


def test_the_chosen_engine_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", "python")
    result = demo("--no-code")
    assert "(python engine" in result.output
    assert "(native engine" not in result.output
    assert os.environ["WSOCKETS_BRIDGE_ENGINE"] == "python"


async def test_a_mail_server_that_hangs_up_is_an_error() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = format_address(listener.socket.getsockname())

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.send_all(b"250-half\r\n250")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, listener, hang_up)
        async with connect(address) as socket:
            with pytest.raises(SocketError, match="hung up"):
                await reply(socket.readable.getReader())
