"""tlsfuzzer against a listener: what TLS libraries are attacked with.

Optional: it needs tlslite-ng, and in WSOCKETS_TLSFUZZER the path of a checkout of
https://github.com/tlsfuzzer/tlsfuzzer, whose scripts are no package.

    git clone https://github.com/tlsfuzzer/tlsfuzzer ~/tlsfuzzer
    python -m pip install tlslite-ng
    WSOCKETS_TLSFUZZER=~/tlsfuzzer python -m pytest tests/real/test_tlsfuzzer.py
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.serving import port_of
from wsockets import ServerSocket, Socket, listen

pytestmark = pytest.mark.only_trio("it takes minutes, most of them of tlsfuzzer's")

VARIABLE = "WSOCKETS_TLSFUZZER"
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n"

_PADDED = "padding, cipher "
SIZES = (
    "max size of Finished msg, with 16587 bytes of record layer padding ",
    f"max size payload (2**14) of Finished msg, with 16348 bytes of left {_PADDED}",
    f"too big plaintext, size: 2**14 - 8, with an additional 9 bytes of {_PADDED}",
)

# By script: its options (-d: with (EC)DHE), and the conversations to be left out,
# since renegotiation is refused and sessions are kept in tickets only; with some
# sizes OpenSSL chooses another alert than the one that is asked for.
SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "alpn-negotiation": (
        ["-d"],
        [
            "renegotiation 2nd handshake alpn",
            "renegotiation with protocol change",
            "renegotiation without protocol change",
            "resumption with alpn",
            "resumption with alpn change",
            "resumption without alpn change",
        ],
    ),
    "client-hello-max-size": (["-d"], []),
    "connection-abort": (["-d"], []),
    "conversation": (["-d"], []),
    "early-application-data": (["-d"], []),
    "interleaved-application-data-in-renegotiation": (
        ["-d"],
        [
            "Application data before Change Cipher Spec",
            "Application data before Client Key Exchange",
            "Application data before Finished",
        ],
    ),
    "large-number-of-extensions": (["-d"], []),
    "record-layer-fragmentation": (["-d"], []),
    "ssl-death-alert": (["-d"], []),
    "tls13-ccs": ([], []),
    "tls13-connection-abort": ([], []),
    "tls13-conversation": ([], []),
    "tls13-empty-alert": ([], []),
    "tls13-keyupdate": ([], []),
    "tls13-record-layer-limits": (
        [],
        [
            f"{size}{cipher}"
            for size in SIZES
            for cipher in ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
        ],
    ),
    "tls13-version-negotiation": ([], []),
    "tls13-zero-length-data": ([], []),
    "truncating-of-client-hello": (["-d"], []),
    "zero-length-data": (["-d"], []),
}


def scripts() -> Path:
    where = os.environ.get(VARIABLE)
    if where is None:
        pytest.skip(f"{VARIABLE} names no checkout of tlsfuzzer")
    folder = Path(where).expanduser() / "scripts"
    assert folder.is_dir(), f"{VARIABLE}={where}: there is no folder scripts"
    return folder


def identity() -> dict[str, object]:
    """An RSA certificate, which the scripts for TLS 1.2 want."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return {"cert": certificate, "key": key}


async def answer(socket: Socket) -> None:
    """Whatever comes, until the client ends it well or badly."""
    try:
        writer = socket.writable.getWriter()
        head = b""
        async for chunk in socket.readable:
            head = (head + chunk)[-4:]
            if head == b"\r\n\r\n" or head.endswith(b"\n\n"):
                await writer.write(ANSWER)
    except TypeError:
        pass  # a SocketError, or the client has left
    finally:
        with trio.CancelScope(shield=True):
            await socket.close()


async def serve(server: ServerSocket) -> None:
    async with trio.open_nursery() as nursery:
        async for socket in server:
            nursery.start_soon(answer, socket)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_listener_stands_up_to(name: str, peer: Callable[[str], str]) -> None:
    peer("tlsfuzzer")
    folder = scripts()
    options, left_out = SCRIPTS[name]
    async with (
        listen(
            "127.0.0.1:0",
            {"secureTransport": "on", "alpn": ["http/1.1", "h2"], **identity()},
        ) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(serve, server)
        done = await trio.run_process(
            [
                *(sys.executable, str(folder / f"test-{name}.py")),
                *("-h", "localhost", "-p", str(port_of(server)), "-n", "20"),
                *options,
                *(word for each in left_out for word in ("-e", each)),
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(folder.parent), os.environ.get("PYTHONPATH", "")]
                ),
            },
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]
        with trio.fail_after(20):
            while server.stats.handshaking:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
