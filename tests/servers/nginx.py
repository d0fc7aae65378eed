"""nginx with TLS, ALPN and HTTP/2."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs

from tests.peers import PEERS

from .program import accepts, folder, on_a_free_port, running
from .tls import TlsFiles

__all__ = ["Nginx", "run_nginx"]

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/log notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        server_name localhost;
        root {folder}/root;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
    }}
}}
"""


@attrs.frozen
class Nginx:
    """A running nginx: it offers h2 and http/1.1 and serves `files`."""

    port: int
    files: dict[str, bytes]

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"


@contextmanager
def run_nginx(tls: TlsFiles) -> Iterator[Nginx]:
    """nginx on a port of 127.0.0.1, with `/hello` and a `/large` of 1 MiB."""
    program = PEERS["nginx"].find()
    assert program is not None, PEERS["nginx"].absence
    files = {
        "/hello": b"hello over HTTP/2\n",
        "/large": Random("large").randbytes(1 << 20),
    }
    with folder("nginx") as home:
        root = home / "root"
        root.mkdir()
        for path, content in files.items():
            (root / path.removeprefix("/")).write_bytes(content)

        @contextmanager
        def start(port: int) -> Iterator[Nginx]:
            configuration = home / "nginx.conf"
            configuration.write_text(
                CONFIGURATION.format(
                    folder=home, port=port, chain=tls.chain, key=tls.key
                )
            )
            with running(
                [program, "-c", str(configuration), "-p", str(home), "-e", "log"],
                lambda: accepts(("127.0.0.1", port)),
                log=_emptied(home / "log"),
                stop=signal.SIGTERM,
            ):
                yield Nginx(port, files)

        with on_a_free_port(start) as server:
            yield server


def _emptied(log: Path) -> Path:
    log.write_bytes(b"")
    return log
