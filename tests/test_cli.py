"""`wsockets connect` as a program, against real servers and scripted ones."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from tests import certificates
from tests.network import black_hole, closed_port
from tests.servers import Redis, Smtp
from tests.servers.program import accepts, on_a_free_port, running
from tests.servers.tls import TlsFiles
from wsockets.cli import program
from wsockets.cli.exits import EXITS

WSOCKETS = (sys.executable, "-m", "wsockets")
ESCAPE = "\x1b"


def run(
    *arguments: object, input: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The program to its end."""
    return subprocess.run(
        [*WSOCKETS, "connect", *map(str, arguments)],
        input=input,
        capture_output=True,
        timeout=40,
        check=False,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
    )


def start(
    *arguments: object, through: str = 'exec "$@"', **files: Any
) -> subprocess.Popen[bytes]:
    """The program, running; `through` is the shell's line that starts it."""
    files = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | files
    command = [*WSOCKETS, "connect", *map(str, arguments)]
    process: Any = subprocess.Popen(
        ["sh", "-c", through, "sh", *command], stderr=subprocess.PIPE, **files
    )
    return cast("subprocess.Popen[bytes]", process)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code and what it said on standard error."""
    _, complaint = process.communicate(timeout=40)
    return process.returncode, complaint.decode()


def parsed(*arguments: str) -> Result:
    """What the program makes of arguments that do not get it to a connection."""
    return CliRunner().invoke(program, ["connect", *arguments])


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server for one connection, in a thread; the block gets its address."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                serve(connection)
        except BaseException as error:
            failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"localhost:{listener.getsockname()[1]}"
        finally:
            thread.join()
    if failures:
        raise failures[0]


def to_the_end(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(1 << 20):
        data += more
    return data


def until_gone(connection: socket.socket) -> None:
    """Wait for the end, in whatever way the client ends it."""
    with suppress(ConnectionResetError):
        to_the_end(connection)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


@contextmanager
def s_server(openssl: str, folder: Path, *arguments: object) -> Iterator[str]:
    """openssl s_server; the block gets its address."""
    issued = certificates.server()
    files = issued.files()

    @contextmanager
    def at(port: int) -> Iterator[str]:
        with running(
            [
                *(openssl, "s_server", "-accept", f"127.0.0.1:{port}"),
                *("-cert", str(files.cert), "-key", str(files.key)),
                *map(str, arguments),
            ],
            lambda: accepts(("127.0.0.1", port)),
            log=folder / "log",
        ):
            yield f"localhost:{port}"

    with on_a_free_port(at) as address:
        yield address


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The tests' authority."""
    path = tmp_path / "root.pem"
    path.write_text(certificates.authority().pem)
    return path


@pytest.fixture
def openssl(peer: Callable[[str], str]) -> str:
    return peer("openssl")


# -- data ------------------------------------------------------------------------


def test_every_byte_goes_through_both_ways() -> None:
    content = bytes(range(256)) * 8192
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(to_the_end(connection))
        connection.sendall(heard[0][::-1])

    with server(serve) as address:
        done = run(address, input=content)
    assert done.returncode == 0
    assert hashlib.sha256(heard[0]).digest() == hashlib.sha256(content).digest()
    assert done.stdout == content[::-1]
    assert done.stderr == b""


def test_it_ends_with_the_server_though_the_input_goes_on() -> None:
    def serve(connection: socket.socket) -> None:
        assert connection.recv(5) == b"hello"
        connection.sendall(b"good bye")

    with server(serve) as address, start(address) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello")
        process.stdin.flush()
        assert (process.stdout.read(), *ended(process)) == (b"good bye", 0, "")


def test_the_sending_direction_can_be_kept_open() -> None:
    def serve(connection: socket.socket) -> None:
        assert connection.recv(5) == b"hello"
        connection.sendall(b"x" * 100)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)

    with server(serve) as address:
        done = run(address, "--no-shutdown", input=b"hello")
    assert done.returncode == 0
    assert done.stdout == b"x" * 100


def test_line_ends_can_be_sent_as_crlf() -> None:
    heard: list[bytes] = []
    with server(lambda connection: heard.append(to_the_end(connection))) as address:
        assert run(address, "--crlf", input=b"a\nb\r\n").returncode == 0
    assert heard == [b"a\r\nb\r\n"]


def test_redis_answers_at_a_unix_address(redis: Redis) -> None:
    done = run(redis.address, input=b"PING\r\nECHO hi\r\n")
    assert done.stdout == b"+PONG\r\n$2\r\nhi\r\n"
    assert done.returncode == 0


def test_a_standard_input_that_is_closed_is_at_its_end() -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(to_the_end(connection))
        connection.sendall(b"answer")

    with server(serve) as address:
        with start(address, through='exec "$@" <&-') as process:
            assert process.stdout is not None
            assert (process.stdout.read(), *ended(process)) == (b"answer", 0, "")
    assert heard == [b""]


def test_a_standard_output_that_is_closed_is_an_error_and_no_socket() -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"for nobody")
        heard.append(to_the_end(connection))

    with server(serve) as address:
        with start(address, through='exec "$@" >&-') as process:
            status, complaint = ended(process)
    assert status == 1
    assert "Bad file descriptor" in complaint
    # The answer was not written to whatever had got the number 1.
    assert heard == [b""]


def test_the_exit_code_tells_where_standard_error_is_closed() -> None:
    with closed_port() as port:
        with start(f"127.0.0.1:{port}", through='exec "$@" 2>&-') as process:
            assert ended(process) == (4, "")


@pytest.mark.parametrize("mistake", [False, True])
def test_the_exit_code_tells_where_nobody_reads_standard_error(mistake: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with closed_port() as port:
        arguments = ["--nonsense"] if mistake else []
        done = subprocess.run(
            [*WSOCKETS, "connect", f"127.0.0.1:{port}", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=writing,
            timeout=40,
            check=False,
        )
    os.close(writing)
    assert done.returncode == (2 if mistake else 4)


def test_a_report_that_cannot_be_written_exits_with_1() -> None:
    with server(until_gone) as address:
        with start(address, "--info", through='exec "$@" >&-') as process:
            status, complaint = ended(process)
    assert status == 1
    assert "Bad file descriptor" in complaint


def test_an_output_that_nobody_reads_any_more_ends_it_quietly() -> None:
    def serve(connection: socket.socket) -> None:
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(b"more\n" * 1000)

    with server(serve) as address, start(address) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"more\n"
        process.stdout.close()
        process.stdout = None
        assert ended(process) == (141, "")


def test_an_output_that_is_full_is_an_error() -> None:
    with server(lambda connection: connection.sendall(b"x")) as address:
        with open("/dev/full", "wb") as full, start(address, stdout=full) as process:
            status, complaint = ended(process)
    assert status == 1
    assert "No space left" in complaint


def test_progress_is_shown_on_standard_error_only(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(bytes(3_000_000))

    def serve(connection: socket.socket) -> None:
        connection.sendall(to_the_end(connection)[:1_000_000])

    with server(serve) as address, content.open("rb") as file:
        with start(address, "--progress", stdin=file) as process:
            assert process.stdout is not None
            assert process.stdout.read() == bytes(1_000_000)
            status, shown = ended(process)
    assert status == 0
    assert re.search(r"sent .* 3\.0 MB +[\d.]+ .B/s", shown)
    assert re.search(r"received .* 1\.0 MB +[\d.]+ .B/s", shown)


def test_verbose_tells_how_it_went() -> None:
    with server(lambda connection: connection.sendall(b"12345")) as address:
        done = run(address, "-v")
    first, second = done.stderr.decode().splitlines()
    assert re.fullmatch(r"connected to 127\.0\.0\.1:\d+ · plaintext", first)
    assert re.fullmatch(r"sent 0 bytes, received 5 bytes in [\d.]+ s", second)
    assert done.stdout == b"12345"


# -- TLS -------------------------------------------------------------------------


def test_a_page_comes_over_tls(openssl: str, tmp_path: Path, root: Path) -> None:
    with s_server(openssl, tmp_path, "-www") as address:
        done = run(
            *(address, "--tls", "--ca", root, "--crlf", "-v"),
            input=b"GET / HTTP/1.0\n\n",
        )
    assert done.returncode == 0
    assert done.stdout.startswith(b"HTTP/1.0 200 ok\r\n")
    assert b"TLSv1.3" in done.stdout
    assert b" verified" in done.stderr


def test_what_is_asked_of_tls_is_what_openssl_sees(
    openssl: str, tmp_path: Path, root: Path
) -> None:
    client = certificates.client().files()
    keylog = tmp_path / "keylog"
    with s_server(
        openssl,
        tmp_path,
        *("-www", "-alpn", "h2,http/1.1"),
        *("-Verify", "2", "-CAfile", root),
    ) as address:
        done = run(
            *(address, "--tls", "--ca", root, "--json"),
            *("--alpn", "spdy,http/1.1", "--alpn", "h2", "--max-version", "1.2"),
            *("--min-version", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"),
            *("--cert", client.cert, "--key", client.key, "--keylog", keylog),
            *("--sni", "localhost"),
        )
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    tls = found["tls"]
    assert tls["protocol"] == "TLSv1.2"
    assert tls["cipher"] == "ECDHE-ECDSA-CHACHA20-POLY1305"
    assert tls["alpn"] == "h2"
    assert tls["server_name"] == "localhost"
    assert keylog.read_text().count("CLIENT_RANDOM") == 1


@pytest.mark.parametrize("source", ["file", "env"])
def test_a_pre_shared_key_comes_from_a_file_or_the_environment(
    openssl: str, tmp_path: Path, source: str
) -> None:
    (tmp_path / "psk").write_text("me:00112233445566778899aabbccddeeff\n")
    secret = f"file:{tmp_path / 'psk'}" if source == "file" else "env:MY_PSK"
    with s_server(
        openssl,
        tmp_path,
        *("-nocert", "-psk", "00112233445566778899aabbccddeeff"),
        *("-psk_identity", "me", "-www"),
    ) as address:
        done = run(
            *(address, "--tls", "--psk", secret, "--max-version", "1.2", "--json"),
            env={"MY_PSK": "me:00112233445566778899aabbccddeeff"},
        )
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert "PSK" in found["tls"]["cipher"]
    assert b"00112233" not in done.stdout + done.stderr


def test_an_encrypted_key_takes_its_password_from_a_file(
    openssl: str, tmp_path: Path, root: Path
) -> None:
    client = certificates.client()
    key = tmp_path / "key.pem"
    key.write_text(client.key_pem(b"open sesame"))
    (tmp_path / "password").write_text("open sesame\n")
    with s_server(
        openssl, tmp_path, "-www", "-Verify", "2", "-CAfile", root
    ) as address:
        done = run(
            *(address, "--tls", "--ca", root, "--cert", client.files().cert),
            *("--key", key, "--key-password", f"file:{tmp_path / 'password'}"),
            "--info",
        )
    assert done.returncode == 0, done.stdout.decode()
    assert b"sesame" not in done.stdout + done.stderr


def test_verification_can_be_left_out(openssl: str, tmp_path: Path) -> None:
    with s_server(openssl, tmp_path, "-www") as address:
        done = run(address, "--tls", "--verify", "none", "--info")
    assert done.returncode == 0
    assert "no: anybody could have answered" in done.stdout.decode()


def test_a_letter_can_be_sent_by_hand_after_starttls(
    smtp: Smtp, tls_files: TlsFiles
) -> None:
    letter = (
        b"EHLO localhost\nMAIL FROM:<a@localhost>\nRCPT TO:<b@localhost>\n"
        b"DATA\nSubject: by hand\n\nhello\n.\nQUIT\n"
    )
    done = run(
        *(smtp.address, "--starttls", "smtp", "--crlf", "--ca", tls_files.root),
        "--no-shutdown",
        input=letter,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"250 kept\r\n" in done.stdout
    assert smtp.messages[-1].content == b"Subject: by hand\r\n\r\nhello\r\n"


def test_the_dialogue_of_starttls_is_told(smtp: Smtp, tls_files: TlsFiles) -> None:
    arguments = (smtp.address, "--starttls", "smtp", "--ca", tls_files.root)
    found = json.loads(run(*arguments, "--json").stdout)
    assert found["secure_transport"] == "starttls"
    assert found["starttls"] == "smtp"
    assert [each["speaker"] for each in found["dialogue"]] == [
        *("server", "client", "server", "client", "server")
    ]
    assert found["dialogue"][3]["text"] == "STARTTLS"
    assert found["tls"]["verified"]
    text = run(*arguments, "--info").stdout.decode()
    assert "→ STARTTLS\n" in text


def test_xmpp_is_asked_for_the_domain() -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(connection.recv(1000))
        connection.sendall(b"</stream:stream>")
        until_gone(connection)

    for arguments, domain in (
        ((), b"localhost"),
        (("--sni", "a.example"), b"a.example"),
    ):
        with server(serve) as address:
            done = run(address, "--starttls", "xmpp", *arguments)
        assert done.returncode == 7
        assert b'to="' + domain + b'"' in heard.pop()


# -- what went wrong -------------------------------------------------------------


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on standard error."""
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.count("\n") == 1
    assert text.startswith("wsockets: ")
    assert "SocketError" not in text
    assert ESCAPE not in text
    return text


def test_a_refused_connection_exits_with_4() -> None:
    with closed_port() as port:
        done = run(f"127.0.0.1:{port}")
    assert done.returncode == 4
    assert "refused: could not connect" in complaint(done)


def test_a_name_that_does_not_exist_exits_with_3() -> None:
    done = run("nowhere.invalid:1")
    assert done.returncode == 3
    assert "'nowhere.invalid'" in complaint(done)


def test_silence_exits_with_5() -> None:
    with black_hole() as hole:
        done = run(f"127.0.0.1:{hole.getsockname()[1]}", "--timeout", "0.2")
    assert done.returncode == 5
    assert "within 0.2 s" in complaint(done)


def test_a_private_address_exits_with_6() -> None:
    done = run("localhost:1", "--deny-private")
    assert done.returncode == 6
    assert "loopback" in complaint(done)


def test_a_proxy_that_refuses_exits_with_6() -> None:
    def serve(connection: socket.socket) -> None:
        assert b"Basic dTpwdw==" in connection.recv(1000)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        until_gone(connection)

    with server(serve) as address:
        done = run(
            *("target.invalid:1", "--proxy-resolve"),
            env={"WSOCKETS_PROXY": f"http://u:pw@{address}"},
        )
    assert done.returncode == 6
    assert "403" in complaint(done)
    assert b"pw" not in done.stderr


def test_a_server_without_tls_exits_with_7() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        until_gone(connection)

    with server(serve) as address:
        done = run(address, "--tls", "--verify", "none")
    assert done.returncode == 7
    assert "does not speak TLS" in complaint(done)


def test_a_refused_starttls_exits_with_7() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"* BYE \x1b]0;hacked\x07\r\n")
        until_gone(connection)

    with server(serve) as address:
        done = run(address, "--starttls", "imap")
    assert done.returncode == 7
    assert r"BYE \x1b]0;hacked\x07" in complaint(done)


def test_a_certificate_that_is_not_trusted_exits_with_8(
    openssl: str, tmp_path: Path
) -> None:
    with s_server(openssl, tmp_path, "-www") as address:
        done = run(address, "--tls")
        assert done.returncode == 8
        assert "tls-verify: " in complaint(done)
        told = run(address, "--tls", "--info")
        found = json.loads(run(address, "--tls", "--json").stdout)
    assert told.returncode == 8
    text = told.stdout.decode()
    assert "✗ localhost" in text
    assert "wsockets test root" in text
    assert "--ca" in text
    assert ESCAPE not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert found["ok"] is False
    assert found["exit_code"] == 8
    assert found["error"]["code"] == "tls-verify"
    assert found["certificates"][0]["subject"] == "CN=a server"


def test_a_reset_exits_with_9() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"so far")
        connection.recv(1)
        reset(connection)

    with server(serve) as address, start(address) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(6) == b"so far"
        process.stdin.write(b"x")
        process.stdin.flush()
        status, said = ended(process)
    assert status == 9
    assert "reset" in said


@pytest.mark.parametrize("tolerant", [False, True])
def test_a_truncated_session_exits_with_9_unless_it_is_tolerated(
    tolerant: bool, root: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server().files())

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"all of it?")
            # Closing without unwrap() sends no close_notify.

    arguments = ["--tolerate-truncation"] if tolerant else []
    with server(serve) as address:
        done = run(address, "--tls", "--ca", root, "--no-shutdown", *arguments)
    assert done.stdout == b"all of it?"
    assert done.returncode == (0 if tolerant else 9)
    assert (b"truncated" in done.stderr) is not tolerant


@pytest.mark.parametrize("mode", [(), ("--info",), ("--starttls", "smtp")])
def test_ctrl_c_exits_with_130_and_nothing_else(mode: tuple[str, ...]) -> None:
    connected = threading.Event()
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connected.set()
        try:
            heard.append(to_the_end(connection))
        except ConnectionResetError:
            pass

    arguments = ("--tls",) if mode == ("--info",) else ()
    with server(serve) as address, start(address, *mode, *arguments) as process:
        assert connected.wait(30)
        if mode == ():
            # Its listening for signals comes before its connecting.
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "")


def test_a_background_job_of_a_shell_ignores_ctrl_c() -> None:
    connected, go = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connected.set()
        assert go.wait(30)
        connection.sendall(b"still here")

    with (
        server(serve) as address,
        start(address, through='trap "" INT; exec "$@"') as process,
    ):
        assert connected.wait(30)
        process.send_signal(signal.SIGINT)
        go.set()
        assert process.stdout is not None
        assert (process.stdout.read(), *ended(process)) == (b"still here", 0, "")


# -- the command line ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Missing argument"),
        (("localhost",), "localhost"),
        (("localhost:1", "--nonsense"), "No such option"),
        (("localhost:1", "--tls", "--starttls", "smtp"), "exclude each other"),
        (("localhost:1", "--starttls", "gopher"), "'gopher' is not one of"),
        (("localhost:1", "--ca", "/nowhere.pem"), "does not exist"),
        (("localhost:1", "--sni", "x"), "--sni needs --tls or --starttls"),
        (("localhost:1", "--alpn", "x"), "--alpn needs --tls or --starttls"),
        (("localhost:1", "--verify", "none"), "--verify needs --tls"),
        (("localhost:1", "--min-version", "1.3"), "--min-version needs --tls"),
        (("localhost:1", "--timeout", "0"), "0"),
        (("localhost:1", "--timeout", "soon"), "soon"),
        (("localhost:1", "--tls", "--psk", "me:00ff"), "not the secret itself"),
        (("localhost:1", "--tls", "--psk", "env:NOT_THERE"), "no NOT_THERE"),
        (("localhost:1", "--tls", "--psk", "file:/nowhere"), "No such file"),
        (("localhost:1", "--proxy", "ftp://x"), "ftp"),
        (
            ("localhost:1", "--tls", "--min-version", "1.3", "--max-version", "1.2"),
            "1.3",
        ),
        (("unix:/x", "--tls"), "name"),
        (("unix:/x", "--starttls", "xmpp"), "hostname"),
        (("unix:/x", "--tls", "--info"), "name"),
    ],
)
def test_a_mistake_on_the_command_line_exits_with_2(
    arguments: tuple[str, ...], text: str
) -> None:
    result = parsed(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stdout == ""
    assert "00ff" not in result.stderr


def test_a_secret_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "psk").write_bytes(b"\xff\xfe")
    result = parsed("localhost:1", "--tls", "--psk", f"file:{tmp_path / 'psk'}")
    assert result.exit_code == 2
    assert "not a UTF-8 text" in result.stderr


def test_a_key_that_does_not_fit_exits_with_2(tmp_path: Path) -> None:
    client, other = certificates.client().files(), certificates.server().files()
    result = parsed(
        *("localhost:1", "--tls", "--cert", str(client.cert), "--key", str(other.key))
    )
    assert result.exit_code == 2
    assert "option: " in result.stderr


def test_the_help_lists_every_option_and_exit_code() -> None:
    result = parsed("--help")
    assert result.exit_code == 0
    for each in EXITS:
        assert re.search(
            rf"^ +{each.code}  {re.escape(each.meaning)}$", result.stdout, re.MULTILINE
        )
    for protocol in (
        "smtp",
        "imap",
        "pop3",
        "ftp",
        "ldap",
        "xmpp",
        "postgres",
        "mysql",
    ):
        assert protocol in result.stdout


def test_the_documentation_lists_every_option_and_exit_code() -> None:
    text = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    for each in EXITS:
        assert f"| {each.code} | {each.meaning}" in text
    for option in program.commands["connect"].params:
        for spelling in option.opts:
            if spelling.startswith("--"):
                assert f"`{spelling}" in text, spelling


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(program, ["--version"])
    assert re.fullmatch(r"wsockets \d+\.\d+\.\S+\n", result.stdout)


def test_an_early_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsockets.cli.connect.trio.run", interrupted)
    assert parsed("localhost:1").exit_code == 130


@pytest.mark.parametrize("mode", ["--json", "--info"])
def test_a_report_that_nobody_reads_ends_quietly(mode: str) -> None:
    with server(until_gone) as address:
        reading, writing = os.pipe()
        os.close(reading)
        with start(address, mode, stdout=writing) as process:
            os.close(writing)
            assert ended(process) == (141, "")


def test_colours_are_for_terminals(openssl: str, tmp_path: Path, root: Path) -> None:
    with s_server(openssl, tmp_path, "-www") as address:
        told = on_a_terminal(address, "--tls", "--ca", root, "--info")
    assert f"{ESCAPE}[" in told
    assert "TLSv1.3" in told


def on_a_terminal(*arguments: object) -> str:
    """What the program prints when standard output is a terminal."""
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", buffering=0)) as screen:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
        environment.pop("NO_COLOR", None)
        with start(*arguments, stdout=theirs, env=environment) as process:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    more = screen.read(65536)
                except OSError:
                    # The terminal is gone with the last who had it open.
                    break
                if not more:
                    break
                shown += more
            assert ended(process)[0] == 0
    return shown.decode()
