"""The servers of the tests answer clients that are not ours."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from tests.peers import PEERS
from tests.servers import Nginx, PostgreSQL, Redis, Smtp
from tests.servers.program import AddressTakenError, folder, on_a_free_port, running
from tests.servers.tls import TlsFiles

Running = AbstractContextManager["subprocess.Popen[bytes]"]

LISTEN = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
signal.pause()
"""


def test_nginx_speaks_http2_under_tls(
    nginx: Nginx, tls_files: TlsFiles, peer: Callable[[str], str], tmp_path: Path
) -> None:
    for path, content in nginx.files.items():
        body = tmp_path / "body"
        done = subprocess.run(
            [
                *(peer("curl"), "--silent", "--show-error", "--http2"),
                *("--cacert", tls_files.root, "--output", body),
                *("--write-out", "%{http_version} %{http_code}"),
                f"https://{nginx.address}{path}",
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("2 200", "")
        assert body.read_bytes() == content


def psql(server: PostgreSQL, tls: TlsFiles, password: str, mode: str) -> str:
    """What psql prints of its session: whether it is encrypted, or an error."""
    where = f"host=localhost port={server.port} dbname={server.database}"
    done = subprocess.run(
        [
            PEERS["postgresql"].tool("psql"),
            f"{where} sslmode={mode} sslrootcert={tls.root}",
            *("--no-psqlrc", "--tuples-only", "--no-align", "--command"),
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
        ],
        env={**os.environ, "PGUSER": server.user, "PGPASSWORD": password},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout


def test_postgresql_wants_tls_and_its_password(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    right = postgresql.password
    assert psql(postgresql, tls_files, right, "verify-full") == "t\n"
    assert "no encryption" in psql(postgresql, tls_files, right, "disable")
    assert "authentication failed" in psql(
        postgresql, tls_files, "wrong", "verify-full"
    )


def test_redis_answers_on_its_unix_socket(redis: Redis) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(redis.path))
        sock.sendall(b"PING\r\n")
        assert sock.recv(100) == b"+PONG\r\n"


def test_postgresql_is_on_a_unix_socket_too(postgresql: PostgreSQL) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(postgresql.unix_address.removeprefix("unix:"))
        sock.sendall(struct.pack("!II", 8, 80877103))  # SSLRequest
        assert sock.recv(1) == b"N"  # no TLS on unix sockets


def test_mail_is_taken_under_tls_only(smtp: Smtp, tls_files: TlsFiles) -> None:
    before = len(smtp.messages)
    context = ssl.create_default_context(cafile=str(tls_files.root))
    with smtplib.SMTP("localhost", smtp.port, timeout=10) as client:
        client.ehlo()
        assert client.docmd("MAIL FROM:<a@example.com>")[0] == 530
        client.starttls(context=context)
        client.sendmail(
            "a@example.com", ["b@example.com"], b"Subject: hi\r\n\r\nho\r\n"
        )
    (message,) = smtp.messages[before:]
    assert message.mail_from == "a@example.com"
    assert message.rcpt_tos == ["b@example.com"]
    assert message.content == b"Subject: hi\r\n\r\nho\r\n"


def test_a_program_that_ends_early_says_why() -> None:
    with folder("early") as home:
        program = [sys.executable, "-c", "raise SystemExit('no such luck')"]
        with (
            pytest.raises(RuntimeError, match=r"(?s)status 1; it said:.no such luck"),
            running(program, lambda: False, log=home / "log"),
        ):
            raise AssertionError("it was not ready")


def test_a_program_that_is_never_ready_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.servers.program.READY_WITHIN", 0.1)
    with folder("never") as home:
        program = [sys.executable, "-c", "import signal; signal.pause()"]
        with (
            pytest.raises(RuntimeError, match=r"not ready within 0\.1 s"),
            running(program, lambda: False, log=home / "log"),
        ):
            raise AssertionError("it was not ready")


def test_a_taken_port_is_left_for_another_one() -> None:
    tried: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as taken, folder("taken") as home:
        log = home / "log"

        def start(port: int) -> Running:
            tried.append(port)
            chosen = taken.getsockname()[1] if len(tried) < 3 else port
            log.write_bytes(b"")
            return running(
                [sys.executable, "-c", LISTEN, str(chosen)],
                lambda: b"listening" in log.read_bytes(),
                log=log,
            )

        with on_a_free_port(start):
            assert len(tried) == 3

        tried.clear()

        def never(port: int) -> Running:
            tried.append(port)
            log.write_bytes(b"")
            return running(
                [sys.executable, "-c", LISTEN, str(taken.getsockname()[1])],
                lambda: False,
                log=log,
            )

        with pytest.raises(AddressTakenError), on_a_free_port(never):
            raise AssertionError("it has no port")
        assert len(tried) == 5


def test_a_server_goes_when_its_tests_are_killed() -> None:
    code = """
import os, signal
from tests.servers import run_redis
with run_redis() as redis:
    print(redis.path, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    path = Path(done.stdout.strip())
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            # The kernel has told it to go; its going ends the connection.
            with suppress(ConnectionError, FileNotFoundError):
                sock.connect(str(path))
                assert sock.recv(1) == b""
    finally:
        shutil.rmtree(path.parent)
