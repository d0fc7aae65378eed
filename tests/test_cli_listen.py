"""`wsockets listen` as a program, with clients of all kinds."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests import certificates
from tests.loopback import NO_LINGER
from wsockets.cli import program

WITHIN = 40.0


class Server:
    """The program, running, and where it listens."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        found = re.fullmatch(r"listening on (\S+):(\d+)\n", first)
        assert found, first + process.stderr.read().decode()
        self.host, self.port = found[1], int(found[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), WITHIN)

    def says(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode()

    def ends(self, *signals: signal.Signals) -> tuple[int, bytes, str]:
        """Its exit code, and the rest of what it wrote to both outputs."""
        for each in signals:
            self.process.send_signal(each)
        output, complaint = self.process.communicate(timeout=WITHIN)
        return self.process.returncode, output, complaint.decode()


@contextmanager
def listening(*arguments: object, **files: Any) -> Iterator[Server]:
    command = [sys.executable, "-m", "wsockets", "listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **files},
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def parsed(*arguments: str) -> Result:
    """What the program makes of arguments that do not get it to listen."""
    return CliRunner().invoke(program, ["listen", *arguments])


def identity() -> list[object]:
    files = certificates.server().files()
    return ["--tls", "--cert", files.cert, "--key", files.key]


def over_tls(sock: socket.socket, **members: Any) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=certificates.authority().pem)
    if "alpn" in members:
        context.set_alpn_protocols(members["alpn"])
    if "cert" in members:
        files = members["cert"].files()
        context.load_cert_chain(files.cert, files.key)
    return context.wrap_socket(sock, server_hostname="localhost")


def to_the_end(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def test_what_clients_send_goes_to_standard_output(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    received = tmp_path / "received"
    with received.open("wb") as file, listening(stdout=file) as server:
        for _ in range(3):
            with server.connect() as sock:
                sock.sendall(content)
                sock.shutdown(socket.SHUT_WR)
                assert to_the_end(sock) == b""
        status, _, complaint = server.ends(signal.SIGINT)
    assert (status, complaint) == (0, "")
    assert received.read_bytes() == content * 3


def test_an_output_that_is_slow_holds_clients_back() -> None:
    with listening() as server, server.connect() as sock:
        sock.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                sock.sendall(bytes(1 << 20))
        assert server.process.stdout is not None
        assert server.process.stdout.read(1 << 16) == bytes(1 << 16)


def test_echo_sends_it_back_to_several_at_a_time() -> None:
    content = bytes(range(256)) * 4096
    with listening("--echo") as server, server.connect() as silent:
        for _ in range(2):
            with server.connect() as sock:
                sock.sendall(b"hello")
                assert sock.recv(100) == b"hello"
                sock.settimeout(WITHIN)
                received = bytearray()
                for start in range(0, len(content), 65536):
                    sock.sendall(content[start : start + 65536])
                    while len(received) < start + 65536:
                        received += sock.recv(65536)
                assert received == content
                sock.shutdown(socket.SHUT_WR)
                assert to_the_end(sock) == b""
        assert server.process.poll() is None
        status, output, complaint = server.ends(signal.SIGTERM)
        assert to_the_end(silent) == b""
    assert (status, output, complaint) == (0, b"", "")


def test_tls_with_a_protocol() -> None:
    with listening(*identity(), "--alpn", "echo,other", "--echo", "-v") as server:
        with over_tls(server.connect(), alpn=["other", "echo"]) as sock:
            assert sock.selected_alpn_protocol() == "echo"
            assert re.fullmatch(
                r"127\.0\.0\.1:\d+ · TLSv1\.3 · \S+ · echo · localhost\n", server.says()
            )
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
            sock.unwrap()
        assert re.fullmatch(r"127\.0\.0\.1:\d+ · 5 bytes\n", server.says())
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            over_tls(server.connect(), alpn=["third"])
        assert "no protocol in common" in server.says()
        with server.connect() as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert "does not speak TLS" in server.says()
        assert server.ends(signal.SIGINT)[0] == 0


def test_clients_need_a_certificate_where_there_is_an_authority() -> None:
    root = certificates.authority().files().cert
    known = certificates.client()
    with listening(*identity(), "--client-ca", root, "--echo") as server:
        with over_tls(server.connect(), cert=known) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        with over_tls(server.connect()) as sock:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                sock.sendall(b"hello")
                sock.recv(100)
    with listening(
        *identity(), "--client-ca", root, "--client-optional", "--echo"
    ) as server:
        with over_tls(server.connect()) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"


def test_a_pre_shared_key_does(
    peer: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSK", "sensor:0123456789abcdef")
    with listening("--tls", "--psk", "env:PSK", "--echo") as server:
        done = subprocess.run(
            [
                *(peer("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}"),
                *("-psk_identity", "sensor", "-psk", "0123456789abcdef"),
            ],
            input=b"Q\n",
            capture_output=True,
            timeout=WITHIN,
            check=False,
        )
        assert b"Cipher is TLS_" in done.stdout
        assert (
            b"0123456789abcdef"
            not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        )


def test_a_proxy_may_say_who_is_there() -> None:
    with listening("--trusted-proxy", "127.0.0.0/8", "-v") as server:
        with server.connect() as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\nhello")
            assert server.says() == "192.0.2.1:5 · plaintext\n"
            sock.shutdown(socket.SHUT_WR)
            assert server.says() == "192.0.2.1:5 · 5 bytes\n"
        assert server.ends(signal.SIGINT)[:2] == (0, b"hello")


def test_verbose_tells_how_a_connection_broke() -> None:
    with listening("-v") as server:
        with server.connect() as sock:
            assert "plaintext" in server.says()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        assert "0 bytes: could not receive: Connection reset" in server.says()


def test_a_second_signal_ends_it_at_once() -> None:
    with listening("--echo") as server, server.connect() as sock:
        # More than anybody takes: what is on its way out cannot be sent.
        sock.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                sock.sendall(bytes(1 << 20))
        server.process.send_signal(signal.SIGINT)
        # It listens no more, and has time to send what it has.
        while True:
            try:
                server.connect().close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
        status, _, _ = server.ends(signal.SIGINT)
    assert status == 130


def test_an_output_that_nobody_reads_any_more_ends_it_quietly() -> None:
    with listening() as server, server.connect() as sock:
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.process.stdout = None
        sock.sendall(b"hello")
        assert server.ends()[0] == 141


def test_an_output_that_is_full_is_an_error() -> None:
    with open("/dev/full", "wb") as full, listening(stdout=full) as server:
        with server.connect() as sock:
            sock.sendall(b"hello")
            status, _, complaint = server.ends()
    assert status == 1
    assert "No space left" in complaint


def test_background_jobs_ignore_ctrl_c_and_obey_sigterm() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with listening("--echo", preexec_fn=ignore) as server:
        server.process.send_signal(signal.SIGINT)
        with server.connect() as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        assert server.ends(signal.SIGTERM)[0] == 0


def test_an_address_that_is_taken_exits_with_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = parsed(f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.exit_code == 1
    assert "Address already in use" in done.output


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nonsense"], "address"),
        (["example.com:80"], "looks up no names"),
        ([":0", "--alpn", "h2"], "--alpn needs --tls"),
        ([":0", "--client-optional"], "--client-optional needs --tls"),
        ([":0", "--tls"], "cert and key"),
        ([":0", "--tls", "--cert", "/not/there"], "does not exist"),
        ([":0", "--trusted-proxy", "nobody"], "trustedProxies"),
        ([":0", "--timeout", "0"], "timeout"),
        (["127.0.0.1:0", "--ipv6-only"], "ipv6Only"),
    ],
)
def test_mistakes_exit_with_2(arguments: list[str], match: str) -> None:
    done = parsed(*arguments)
    assert done.exit_code == 2
    assert match in done.output


def test_the_help_has_every_exit_code_it_uses() -> None:
    done = parsed("--help")
    assert done.exit_code == 0
    for code in (0, 1, 2, 130, 141):
        assert re.search(rf"^ +{code}  ", done.output, re.MULTILINE)
    page = Path(__file__).parents[1].joinpath("docs", "cli.md").read_text()
    for option in set(re.findall(r"--[a-z][a-z0-9-]+", done.output)) - {"--help"}:
        assert f"`{option}" in page, option
    assert os.linesep in done.output
