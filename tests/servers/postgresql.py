"""PostgreSQL that insists on TLS and SCRAM."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.peers import PEERS

from .program import folder, on_a_free_port, running, unprivileged
from .tls import TlsFiles

__all__ = ["PostgreSQL", "run_postgresql"]

USER = "wsockets"
PASSWORD = "correct horse, battery staple"

CONFIGURATION = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
password_encryption = 'scram-sha-256'
max_connections = 50
shared_buffers = 16MB
fsync = off
"""

ACCESS = """
hostssl all all 127.0.0.1/32 scram-sha-256
local   all all              scram-sha-256
"""


@attrs.frozen
class PostgreSQL:
    """A running PostgreSQL: over TCP only with TLS, everywhere with SCRAM."""

    port: int
    folder: Path
    user: str = USER
    password: str = attrs.field(default=PASSWORD, repr=False)
    database: str = "postgres"

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @property
    def unix_address(self) -> str:
        return f"unix:{self.folder}/.s.PGSQL.{self.port}"


@contextmanager
def run_postgresql(tls: TlsFiles) -> Iterator[PostgreSQL]:
    """A new cluster on a port of 127.0.0.1 and a unix socket.

    PostgreSQL refuses to be root; there it runs as Debian's user postgres.
    """
    peer = PEERS["postgresql"]
    user = unprivileged("postgres")
    with folder("postgresql", user) as home:
        data = home / "data"
        _provide(home / "server.crt", tls.chain.read_bytes(), user)
        _provide(home / "server.key", tls.key.read_bytes(), user)
        _provide(home / "password", PASSWORD.encode(), user)
        made = subprocess.run(
            [
                peer.tool("initdb"),
                f"--pgdata={data}",
                f"--username={USER}",
                f"--pwfile={home / 'password'}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd=home,
            timeout=60,
            check=False,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{made.stdout}")
        _provide(data / "pg_hba.conf", ACCESS.encode(), user)
        # What initdb found out of the machine is kept; the last word counts.
        found = (data / "postgresql.conf").read_text()

        @contextmanager
        def start(port: int) -> Iterator[PostgreSQL]:
            ours = CONFIGURATION.format(folder=home, port=port)
            _provide(data / "postgresql.conf", (found + ours).encode(), user)
            log = home / "log"
            _provide(log, b"", user)
            with running(
                [peer.tool("postgres"), "-D", str(data)],
                lambda: b"ready to accept connections" in log.read_bytes(),
                log=log,
                user=user,
                stop=signal.SIGQUIT,  # at once, whoever is connected
            ):
                yield PostgreSQL(port, home)

        with on_a_free_port(start) as server:
            yield server


def _provide(file: Path, content: bytes, owner: str | None) -> None:
    file.write_bytes(content)
    file.chmod(0o600)
    if owner is not None:
        shutil.chown(file, owner)
