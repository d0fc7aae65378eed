"""`wsockets bridge` as a program, with descriptors that it inherits."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests import certificates
from tests.bridge.harness import packet
from tests.network import closed_port, in_own_network
from tests.test_cli import reset, server
from wsockets import BridgeEnd, BridgeStats, SocketError
from wsockets.cli import program
from wsockets.cli.ending import Ending
from wsockets.cli.exits import EXITS

WSOCKETS = (sys.executable, "-W", "error", "-m", "wsockets", "bridge")


on_each_engine = pytest.mark.usefixtures("engine")


def parsed(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["bridge", *arguments])


@contextmanager
def started(
    *arguments: object, fds: tuple[int, ...] = (), **files: Any
) -> Iterator[subprocess.Popen[bytes]]:
    files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **files}
    with subprocess.Popen(
        [*WSOCKETS, *map(str, arguments)],
        stderr=subprocess.PIPE,
        pass_fds=fds,
        **files,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ending_of(process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], str]:
    """Its line of JSON, and what it complained of."""
    out, complaint = process.communicate(timeout=40)
    (line,) = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["schema"] == 1
    assert found["ok"] is (found["exit_code"] == 0)
    return found, complaint.decode()


@contextmanager
def pairs(
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> Iterator[tuple[socket.socket, socket.socket, socket.socket, socket.socket]]:
    """A connection and its peer; a sink of this kind and its other side."""
    near, peer = socket.socketpair()
    sink, far = socket.socketpair(socket.AF_UNIX, kind)
    with near, peer, sink, far:
        for sock in (peer, far):
            sock.settimeout(30)
        yield near, peer, sink, far


def exactly(sock: socket.socket | ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, f"the end after {len(data)} bytes"
        data += more
    return data


@contextmanager
def helping(
    near: socket.socket, sink: socket.socket, *options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """The program between two sockets, of which it has the only descriptors."""
    fds = near.fileno(), sink.fileno()
    arguments = "--connection", fds[0], "--sink", fds[1], *options
    with started(*arguments, fds=fds) as process:
        near.close()
        sink.close()
        yield process


# -- what it moves


def test_it_forwards_until_both_sides_have_ended(engine: str) -> None:
    with pairs() as (near, peer, sink, far), helping(near, sink) as process:
        peer.sendall(b"down")
        assert exactly(far, 4) == b"down"
        far.sendall(b"up up")
        assert exactly(peer, 5) == b"up up"
        peer.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        far.sendall(b"still")
        far.shutdown(socket.SHUT_WR)
        assert exactly(peer, 5) == b"still"
        assert peer.recv(1) == b""
        found, complaint = ending_of(process)
    assert process.returncode == 0
    assert complaint == ""
    assert 0 < found.pop("seconds") < 60
    assert found == {
        "schema": 1,
        "ok": True,
        "exit_code": 0,
        "side": "sink",
        "direction": "encrypt",
        "reason": "eof",
        "error": None,
        "engine": engine,
        "stats": {
            "encrypt": {"bytes": 10, "packets": 0, "records": 0, "drops": 0},
            "decrypt": {"bytes": 4, "packets": 0, "records": 0, "drops": 0},
        },
    }


@on_each_engine
def test_two_of_them_are_a_tunnel_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One as client, one as server, a pre-shared key, and packets between them."""
    monkeypatch.setenv("WSOCKETS_PSK", "alice:" + "0f" * 32)
    tls = ("--tls", "--psk", "env:WSOCKETS_PSK", "--framing", "ip", "--mtu", 1280)
    with (
        pairs(socket.SOCK_SEQPACKET) as (here, there, left, left_far),
        pairs(socket.SOCK_SEQPACKET) as (_, _, right, right_far),
        helping(here, left, *tls, "--prefix", "000086dd") as client,
        helping(there, right, *tls, "--role", "server") as second,
    ):
        for length in (40, 1280, 41):
            left_far.send(b"\0\0\x86\xdd" + packet(length))
            assert right_far.recv(2000) == packet(length)
            right_far.send(packet(length))
            assert left_far.recv(2000) == b"\0\0\x86\xdd" + packet(length)
        left_far.close()
        found, complaint = ending_of(client)
        other, other_complaint = ending_of(second)
    assert complaint == other_complaint == ""
    assert (found["side"], found["reason"]) == ("sink", "eof")
    assert (other["side"], other["reason"]) == ("connection", "eof")
    flow = found["stats"]["encrypt"]
    assert flow == {"bytes": 1361, "packets": 3, "records": 3, "drops": 0}


@on_each_engine
def test_it_terminates_tls_for_a_server_that_has_none() -> None:
    files, root = certificates.server().files(), certificates.authority()
    context = ssl.create_default_context(cadata=root.pem)
    options = ("--tls", "--role", "server", "--cert", files.cert, "--key", files.key)
    with pairs() as (near, peer, sink, far), helping(near, sink, *options) as process:
        with context.wrap_socket(peer, server_hostname="localhost") as secure:
            secure.sendall(b"question")
            assert exactly(far, 8) == b"question"
            far.sendall(b"answer")
            assert exactly(secure, 6) == b"answer"
            far.shutdown(socket.SHUT_WR)
            assert secure.recv(1) == b""
            secure.unwrap()
        found, _ = ending_of(process)
    assert found["reason"] == "eof"
    assert found["stats"]["encrypt"]["records"] == 1


def test_a_unix_socket_and_an_address_are_connected_to(tmp_path: Path) -> None:
    path = tmp_path / "sink.sock"

    def echo(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)

    with socket.socket(socket.AF_UNIX) as listener, server(echo) as address:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)
        arguments = ("--connection", address, "--sink", f"unix:{path}", "-v")
        with started(*arguments) as process:
            far, _ = listener.accept()
            with far:
                far.settimeout(30)
                far.sendall(b"there and back")
                assert exactly(far, 14) == b"there and back"
                far.shutdown(socket.SHUT_WR)
                assert far.recv(1) == b""
            found, complaint = ending_of(process)
    assert found["reason"] == "eof"
    assert re.fullmatch(r"connected to 127\.0\.0\.1:\d+ · plaintext\n", complaint)


def test_packets_of_a_unix_sink_are_messages(tmp_path: Path) -> None:
    path = str(tmp_path / "packets.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        near, peer = socket.socketpair()
        with near, peer:
            arguments = ("--connection", near.fileno(), "--framing", "length16")
            with started(
                *(*arguments, "--sink", f"unix:{path}"), fds=(near.fileno(),)
            ) as process:
                near.close()
                far, _ = listener.accept()
                with far:
                    far.send(b"one")
                    far.send(b"three")
                    peer.settimeout(30)
                    assert exactly(peer, 12) == b"\0\3one\0\5three"
                found, _ = ending_of(process)
    assert (found["side"], found["reason"]) == ("sink", "eof")


@on_each_engine
def test_standard_input_and_output_are_a_sink() -> None:
    near, peer = socket.socketpair()
    with near, peer:
        fd = near.fileno()
        with started(
            *("--connection", fd, "--sink", "-"), fds=(fd,), stdin=subprocess.PIPE
        ) as process:
            near.close()
            peer.settimeout(30)
            peer.sendall(b"the answer")
            peer.shutdown(socket.SHUT_WR)
            out, said = process.communicate(b"the question", timeout=40)
            assert exactly(peer, 12) == b"the question"
            assert peer.recv(1) == b""
    assert out == b"the answer"
    # The line is where the bytes are not.
    assert json.loads(said)["reason"] == "eof"


@on_each_engine
def test_a_pair_of_pipes_is_a_sink() -> None:
    near, peer = socket.socketpair()
    (in_r, in_w), (out_r, out_w) = os.pipe(), os.pipe()
    with near, peer, open(in_w, "wb", 0) as write, open(out_r, "rb") as read:
        fds = near.fileno(), in_r, out_w
        arguments = ("--connection", fds[0], "--sink", f"{in_r},{out_w}")
        with started(*arguments, fds=fds) as process:
            for fd in (in_r, out_w):
                os.close(fd)
            near.close()
            peer.sendall(b"down")
            write.write(b"up")
            peer.settimeout(30)
            assert exactly(peer, 2) == b"up"
            peer.shutdown(socket.SHUT_WR)
            assert read.read() == b"down"
            write.close()
            found, _ = ending_of(process)
    assert found["reason"] == "eof"


@pytest.mark.parametrize(
    ("options", "information"),
    [((), b""), (("--prefix", "00 00 86 dd"), b"\0\0\x86\xdd")],
    ids=["bare", "information"],
)
def test_a_TUN_is_opened_by_its_name(
    options: tuple[str, ...], information: bytes
) -> None:
    near, peer = socket.socketpair()

    def run(command: str) -> None:
        subprocess.run(shlex.split(command), check=True, timeout=10)

    async def main() -> None:
        fd = near.fileno()
        with started(
            *("--connection", fd, "--sink", "tun:tun7", "-v", *options), fds=(fd,)
        ) as process:
            assert process.stderr is not None
            # It is connected, and the device is there.
            assert b"connected" in process.stderr.readline()
            run("ip -6 address add fd00::1/64 dev tun7 nodad")
            run("ip link set tun7 up")
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.bind(("fd00::1", 7))
                sock.sendto(b"through the TUN", ("fd00::2", 9))
                while True:
                    head = exactly(peer, 40)
                    rest = exactly(peer, int.from_bytes(head[4:6]))
                    if head[6] == 17:
                        break
                assert rest[8:] == b"through the TUN"
            peer.close()
            found, _ = ending_of(process)
            assert found["reason"] == "eof"

    with near, peer:
        peer.settimeout(30)
        in_own_network([], main)


# -- how it ends


@on_each_engine
@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_stops_it_when_all_is_delivered(
    number: signal.Signals, exit_code: int
) -> None:
    with pairs() as (near, peer, sink, far):
        with helping(near, sink, "--drain", 30) as process:
            # More than the far side's buffers hold.
            far.sendall(b"x")
            assert exactly(peer, 1) == b"x"
            peer.setblocking(False)
            sent = 0
            while sent < 200_000:
                sent += peer.send(bytes(50_000))
            peer.setblocking(True)
            process.send_signal(number)
            count = 0
            while chunk := far.recv(65536):
                count += len(chunk)
            found, complaint = ending_of(process)
    assert process.returncode == exit_code
    assert (found["reason"], found["exit_code"], complaint) == ("stopped", 0, "")
    assert count == found["stats"]["decrypt"]["bytes"]


def test_a_signal_stops_it_while_it_connects() -> None:
    near, peer = socket.socketpair()
    with near, peer:
        fd = near.fileno()
        with started(
            *("--connection", fd, "--sink", "-"),
            *("--tls", "--verify", "none"),
            fds=(fd,),
        ) as process:
            near.close()
            peer.settimeout(30)
            # It has said hello and waits for an answer.
            assert exactly(peer, 1) == b"\x16"
            process.terminate()
            _, said = process.communicate(timeout=40)
    assert process.returncode == 0
    assert json.loads(said)["reason"] == "stopped"


def test_a_second_signal_does_not_wait() -> None:
    with pairs() as (near, peer, sink, far):
        with helping(near, sink, "--drain", 1000) as process:
            far.sendall(b"x")
            assert exactly(peer, 1) == b"x"
            # Until nobody takes any more: the bridge holds what the sink does not.
            peer.settimeout(0.5)
            with pytest.raises(TimeoutError):
                while True:
                    peer.send(bytes(50_000))
            process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.terminate()
            found, _ = ending_of(process)
    assert found["reason"] == "stopped"


def test_a_reset_exits_with_9() -> None:
    with server(reset) as address, pairs() as (_, _, sink, _):
        fd = sink.fileno()
        with started("--connection", address, "--sink", fd, fds=(fd,)) as process:
            found, complaint = ending_of(process)
    assert process.returncode == 9
    assert (found["side"], found["error"]["code"]) == ("connection", "reset")
    assert complaint.startswith("wsockets: reset: ")


def test_a_refused_connection_exits_with_4(engine: str) -> None:
    with closed_port() as port:
        with started("--connection", f"127.0.0.1:{port}", "--sink", "0") as process:
            found, complaint = ending_of(process)
    assert process.returncode == 4
    assert (found["reason"], found["error"]["code"]) == ("closed", "refused")
    assert found["engine"] == engine
    assert complaint.startswith("wsockets: refused: ")


def test_a_certificate_that_is_not_trusted_exits_with_8() -> None:
    files = certificates.server(issuer="other").files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    options = ("--tls", "--sni", "localhost")
    with pairs() as (near, peer, sink, _), helping(near, sink, *options) as process:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(peer, server_side=True)
        found, complaint = ending_of(process)
    assert process.returncode == 8
    assert found["error"]["code"] == "tls-verify"
    assert "wsockets: tls-verify: " in complaint


@on_each_engine
def test_no_packet_exits_with_11() -> None:
    with pairs(socket.SOCK_SEQPACKET) as (near, peer, sink, _):
        with helping(near, sink, "--framing", "ip") as process:
            peer.sendall(packet(100) + b"SSH-2.0-OpenSSH_9\r\n\r\n")
            found, complaint = ending_of(process)
    assert process.returncode == 11
    assert (found["side"], found["reason"]) == ("connection", "framing")
    assert "byte 100 " in found["error"]["message"]
    assert found["error"]["message"] in complaint


@on_each_engine
def test_a_sink_that_fails_exits_with_10() -> None:
    near, peer = socket.socketpair()
    with near, peer, open("/dev/full", "wb") as full:
        fds = near.fileno(), full.fileno()
        arguments = ("--connection", fds[0], "--direction", "decrypt-only")
        with started(*arguments, "--sink", fds[1], fds=fds) as process:
            near.close()
            peer.sendall(b"too much")
            found, complaint = ending_of(process)
    assert process.returncode == 10
    assert found["error"]["errno"] == 28
    assert "No space left" in complaint


def test_standard_output_that_nobody_reads_exits_with_141() -> None:
    near, peer = socket.socketpair()
    reading, writing = os.pipe()
    with near, peer:
        fd = near.fileno()
        with started(
            *("--connection", fd, "--sink", "-"),
            fds=(fd,),
            stdin=subprocess.PIPE,
            stdout=writing,
        ) as process:
            near.close()
            os.close(writing)
            os.close(reading)
            peer.sendall(b"for nobody")
            _, said = process.communicate(timeout=40)
    assert process.returncode == 141
    assert json.loads(said)["error"]["errno"] == 32


def test_an_idle_bridge_exits_with_5() -> None:
    with pairs() as (near, _, sink, _):
        with helping(near, sink, "--idle-timeout", 0.1) as process:
            found, _ = ending_of(process)
    assert (process.returncode, found["reason"]) == (5, "idle")


def test_the_counters_are_told_every_so_often() -> None:
    with pairs() as (near, peer, sink, far):
        with helping(near, sink, "--stats", 0.01) as process:
            peer.sendall(b"down")
            assert exactly(far, 4) == b"down"
            assert process.stderr is not None
            while True:
                told = json.loads(process.stderr.readline())["stats"]
                if told["decrypt"]["bytes"] == 4:
                    break
            peer.close()
            far.close()
            process.communicate(timeout=40)


# -- the command line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--sink", "0"), "--connection"),
        (("--connection", "0"), "--sink"),
        (("--connection", "x:1", "--sink", "x"), "'x' is none of"),
        (("--connection", "x:1", "--sink", "unix:"), "is none of"),
        (("--connection", "x:1", "--sink", "tun:"), "no name of a device"),
        (("--connection", "x:1", "--sink", "tun:a b"), "no name of a device"),
        (("--connection", "x:1", "--sink", "tun:" + "x" * 16), "1 to 15 characters"),
        (("--connection", "x:1", "--sink", "tun:x", "--framing", "stream"), "ip"),
        (("--connection", "x:1", "--sink", "tun:x", "--prefix", "00"), "4 bytes"),
        (("--connection", "x:1", "--sink", "0", "--prefix", "0g"), "hexadecimal"),
        (("--connection", "x:1", "--sink", "0", "--prefix", "00"), "framing"),
        (("--connection", "x:1", "--sink", "0", "--mtu", "0"), "mtu"),
        (("--connection", "x:1", "--sink", "0", "--role", "server"), "descriptor"),
        (("--connection", "x:1", "--sink", "0", "--cert", __file__), "--tls"),
        (("--connection", "9", "--sink", "0", "--deny-private"), "an address"),
        (("--connection", "999999999", "--sink", "0"), "fd 999999999"),
        (("--connection", "x", "--sink", "0"), "address"),
    ],
)
def test_a_mistake_on_the_command_line_exits_with_2(
    arguments: tuple[str, ...], text: str
) -> None:
    result = parsed(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stdout == ""


def test_a_sink_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = parsed("--connection", "x:1", "--sink", f"unix:{tmp_path}/none")
    assert result.exit_code == 1
    assert "/none" in result.stderr


def test_a_TUN_that_may_not_be_opened_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("wsockets.cli.sinks.fcntl.ioctl", refuse)
    monkeypatch.setattr(
        "wsockets.cli.sinks.os.open", lambda *_: os.dup(2), raising=True
    )
    result = parsed("--connection", "x:1", "--sink", "tun:mine")
    assert result.exit_code == 1
    assert "Operation not permitted: 'tun:mine'" in result.stderr


def test_a_connection_that_was_adopted_has_no_domain_for_xmpp() -> None:
    near, peer = socket.socketpair()
    with near, peer:
        result = parsed(
            *("--connection", str(os.dup(near.fileno())), "--sink", "0"),
            *("--starttls", "xmpp", "--verify", "none"),
        )
    assert result.exit_code == 2
    assert "hostname" in result.stderr


def test_the_help_lists_the_forms_and_every_exit_code() -> None:
    result = parsed("--help")
    assert result.exit_code == 0
    assert "FD|FD,FD|unix:PATH|tun:NAME|-" in result.stdout
    for each in EXITS:
        assert re.search(
            rf"^ +{each.code}  {re.escape(each.meaning)}$", result.stdout, re.MULTILINE
        )


def test_the_documentation_lists_every_option() -> None:
    text = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    for option in program.commands["bridge"].params:
        for spelling in option.opts:
            if spelling.startswith("--"):
                assert f"`{spelling}" in text, spelling


def test_an_end_that_no_error_explains_exits_with_9() -> None:
    for error in (None, OSError("what?")):
        end = BridgeEnd("connection", "decrypt", "closed", error)
        ending = Ending(end, BridgeStats(), "python", 1.0)
        assert ending.exit_code == 9
        found = json.loads(ending.to_json())["error"]
        assert (found and found["code"]) == (error and "os")
    broken = SocketError("broken", code="tls")
    end = BridgeEnd("connection", "decrypt", "tls", broken)
    assert Ending(end, BridgeStats(), "python", 1.0).exit_code == 7
