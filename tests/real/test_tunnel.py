"""The tunnel of the documentation: TLS in, clear text out, a backend per protocol."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import docs.examples.tunnel as example
from tests import certificates
from tests.conftest import find_peer
from tests.loops import BrokenResourceError
from tests.network import closed_port, in_own_network
from tests.servers.program import accepts, folder, on_a_free_port, running
from tests.serving import WITHIN
from tests.wires import SocketStream, SSLStream, listen_tcp, open_tcp_stream

from .openssl import s_client

pytestmark = pytest.mark.only_trio("the example is a program of trio's")

ROOT = Path(__file__).parents[2]
NO_LINGER = struct.pack("ii", 1, 0)
# What tells which of the backends has answered, and what the browser spoke.
PAGE = """<!doctype html><title>{protocol}</title><body>
<script>
const [page] = performance.getEntriesByType("navigation");
fetch("large").then(answer => answer.arrayBuffer())
  .then(data => crypto.subtle.digest("SHA-256", data))
  .then(digest => document.body.textContent = JSON.stringify([page.nextHopProtocol,
    Array.from(new Uint8Array(digest), byte => byte.toString(16).padStart(2, "0"))
      .join("")]));
</script>"""


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native one or none."""
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", "native")


@attrs.frozen
class Site:
    """A server program that speaks one protocol in the clear, and what it serves."""

    protocol: str
    port: int
    page: bytes
    large: bytes

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(protocol: str) -> Iterator[Site]:
    """nghttpd, which speaks HTTP/2 without TLS, or Python's server for HTTP/1."""
    page = PAGE.format(protocol=protocol).encode()
    large = random.Random(protocol).randbytes(1 << 20)
    with folder("tunnel") as home:
        (home / "index.html").write_bytes(page)
        (home / "large").write_bytes(large)

        @contextlib.contextmanager
        def start(port: int) -> Iterator[Site]:
            program = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
            if protocol == "h2":
                program = [find_peer("nghttpd"), "--no-tls", "-a", "127.0.0.1"]
            with running(
                [*program, "-d", str(home), str(port)],
                lambda: accepts(("127.0.0.1", port)),
                log=home / "log",
            ):
                yield Site(protocol, port, page, large)

        with on_a_free_port(start) as site:
            yield site


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[str, Site]]:
    """A server program for each protocol."""
    with serving("h2") as second, serving("http/1.1") as first:
        yield {"h2": second, "http/1.1": first}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate and the key of the tunnel."""
    path: Path = tmp_path_factory.mktemp("tunnel") / "server.pem"
    issued = certificates.server()
    path.write_text(issued.pem + issued.key_pem())
    return path


@attrs.define
class Tunnel:
    """The tunnel in this process, and what it has said."""

    said: list[str] = attrs.field(factory=list)
    port: int = 0
    stopped: bool = False
    news: trio.Event = attrs.field(factory=trio.Event)

    def stop(self, number: signal.Signals) -> None:
        self.stopped = True
        os.kill(os.getpid(), number)

    def hear(self, line: str) -> None:
        self.said.append(line)
        if match := re.fullmatch(r"listening at 127\.0\.0\.1:(\d+)", line):
            self.port = int(match[1])
        self.news.set()
        self.news = trio.Event()

    async def says(self, pattern: str) -> None:
        while not any(re.search(pattern, line) for line in self.said):
            await self.news.wait()


@contextlib.asynccontextmanager
async def tunnel(pem: Path, backends: Mapping[str, str]) -> AsyncIterator[Tunnel]:
    """Run the example; it ends by a signal, in good order."""
    running = Tunnel()
    with trio.fail_after(2 * WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(example.main, "127.0.0.1:0", pem, backends, running.hear)
            await running.says("listening")
            yield running
            if not running.stopped:
                running.stop(signal.SIGINT)


def addresses(sites: Mapping[str, Site]) -> dict[str, str]:
    return {protocol: site.address for protocol, site in sites.items()}


# -- programs that are not ours


async def curl(port: int, path: str, *arguments: str) -> tuple[str, bytes]:
    """The version of HTTP and the status, and the content."""
    done = await trio.run_process(
        [
            *(find_peer("curl"), "-sS", "--max-time", "20", "--noproxy", "*"),
            *("--cacert", str(certificates.authority().files().cert)),
            *("--write-out", "%{stderr}%{http_version} %{http_code}", *arguments),
            f"https://localhost:{port}/{path}",
        ],
        capture_stdout=True,
        capture_stderr=True,
    )
    return done.stderr.decode(), done.stdout


@pytest.mark.parametrize(
    ("offer", "protocol", "version"),
    [
        ("--http2", "h2", "2"),
        ("--http1.1", "http/1.1", "1"),
        # Who offers nothing is taken for one who speaks the last of them.
        ("--no-alpn", "http/1.1", "1"),
    ],
)
async def test_curl_reaches_the_backend_of_its_protocol(
    offer: str, protocol: str, version: str, pem: Path, sites: dict[str, Site]
) -> None:
    site = sites[protocol]
    async with tunnel(pem, addresses(sites)) as found:
        for path, content in ("", site.page), ("large", site.large):
            told, got = await curl(found.port, path, offer)
            assert told == f"{version} 200"
            assert got == content
        await found.says(rf"^127\.0\.0\.1:\d+ {site.protocol}: ")


async def test_the_order_is_the_servers(pem: Path, sites: dict[str, Site]) -> None:
    backends = addresses(sites)
    for order in (["h2", "http/1.1"], ["http/1.1", "h2"]):
        async with tunnel(pem, {name: backends[name] for name in order}) as found:
            for offer in ("h2,http/1.1", "http/1.1,h2", "spdy/3,http/1.1,h2"):
                async with s_client(found.port, "-alpn", offer) as program:
                    await program.says(f"ALPN protocol: {order[0]}\n")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_an_offer_of_other_protocols_only_is_refused_by_an_alert(
    version: str, pem: Path, sites: dict[str, Site]
) -> None:
    async with tunnel(pem, addresses(sites)) as found:
        for offer in ("spdy/3", "h2c,http/1.0", "H2"):
            async with s_client(found.port, version, "-alpn", offer) as program:
                said = await program.ends()
                assert "no application protocol" in said
                assert "SSL alert number 120" in said
        # Nobody came as far as a backend.
        assert len(found.said) == 1


def pin() -> str:
    """The only key that the browser takes from whoever it does not know."""
    key = certificates.server().key.public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@contextlib.contextmanager
def program(pem: Path, backends: Mapping[str, str]) -> Iterator[int]:
    """The tunnel as a program of its own, and its port."""

    @contextlib.contextmanager
    def start(port: int) -> Iterator[int]:
        pairs = [f"{protocol}={address}" for protocol, address in backends.items()]
        with running(
            [
                *("env", f"PYTHONPATH={ROOT}", sys.executable, "-W", "error"),
                *(str(ROOT / "docs/examples/tunnel.py"), f"127.0.0.1:{port}"),
                *(str(pem), *pairs),
            ],
            lambda: accepts(("127.0.0.1", port)),
            log=pem.with_suffix(".log"),
        ):
            yield port

    with on_a_free_port(start) as port:
        yield port


@pytest.mark.parametrize("protocols", [["h2", "http/1.1"], ["http/1.1"]], ids=str)
def test_chromium_shows_what_the_backend_has(protocols: list[str], pem: Path) -> None:
    """In a network of its own: it would call home."""
    browser = find_peer("chromium")

    async def visit() -> None:
        with contextlib.ExitStack() as stack:
            sites = [stack.enter_context(serving(each)) for each in protocols]
            backends = {site.protocol: site.address for site in sites}
            port = stack.enter_context(program(pem, backends))
            home = str(stack.enter_context(folder("browser")))
            done = subprocess.run(
                [
                    *(browser, "--headless=new", "--no-sandbox", "--disable-gpu"),
                    *("--disable-dev-shm-usage", f"--user-data-dir={home}/user"),
                    f"--ignore-certificate-errors-spki-list={pin()}",
                    # It waits until the script has no more to do.
                    *("--virtual-time-budget=20000", "--dump-dom"),
                    f"https://localhost:{port}/",
                ],
                env={**os.environ, "HOME": home, "TMPDIR": home},
                capture_output=True,
                text=True,
                timeout=2 * WITHIN,
                check=False,
            )
        site = sites[0]
        digest = hashlib.sha256(site.large).hexdigest()
        assert f"<title>{site.protocol}</title>" in done.stdout, done.stderr
        assert f'["{site.protocol}","{digest}"]' in done.stdout

    in_own_network([], visit)


# -- many, and those that fail


async def echo(stream: SocketStream) -> None:
    """Send everything back, and the end."""
    with contextlib.suppress(BrokenResourceError):
        async for chunk in stream:
            await stream.send_all(chunk)
        await stream.send_eof()


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    listener, port = listen_tcp()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, echo)
        yield f"127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def visitor(port: int, *protocols: str) -> SSLStream:
    """A client with Python's own TLS."""
    context = ssl.create_default_context(cadata=certificates.authority().pem)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    stream = await open_tcp_stream("127.0.0.1", port)
    secure = SSLStream(stream, context, server_hostname="localhost")
    try:
        await secure.do_handshake()
    except BaseException:
        secure.close()
        raise
    return secure


async def exchange(stream: SSLStream, data: bytes) -> None:
    """Send it and get it back."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        assert await stream.receive_exactly(len(data)) == data


async def test_two_hundred_connections_at_once(pem: Path, rng: random.Random) -> None:
    payloads = [rng.randbytes(20_000) for _ in range(200)]
    async with echoing() as backend, tunnel(pem, {"echo": backend}) as found:
        streams: list[SSLStream] = []

        async def come() -> None:
            streams.append(await visitor(found.port, "echo"))

        async def talk(stream: SSLStream, payload: bytes) -> None:
            await exchange(stream, payload)
            await stream.end()
            await stream.transport_stream.send_eof()
            assert await stream.receive_some() == b""
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for _ in payloads:
                nursery.start_soon(come)
        # All of them are there, and each has been heard, before one ends.
        for stream, payload in zip(streams, payloads, strict=True):
            await exchange(stream, payload[:1])
        async with trio.open_nursery() as nursery:
            for stream, payload in zip(streams, payloads, strict=True):
                nursery.start_soon(talk, stream, payload)
    assert len(found.said) == 201
    assert all(line.endswith(" echo: eof") for line in found.said[1:])


async def test_where_there_is_no_room_clients_wait(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "_CONNECTIONS", 2)
    async with echoing() as backend, tunnel(pem, {"echo": backend}) as found:
        first, second, third = [await visitor(found.port, "echo") for _ in range(3)]
        await exchange(first, b"there is room")
        await exchange(second, b"and here")
        await third.send_all(b"here is none")
        got: list[bytes] = []

        async def listen() -> None:
            got.append(await third.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not got
            second.close()
        assert got == [b"here is none"]
        first.close()
        third.close()


async def garbage(port: int) -> None:
    async with await open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(BrokenResourceError):
            while await stream.receive_some():
                pass


async def no_protocol_in_common(port: int) -> None:
    with pytest.raises(BrokenResourceError) as caught:
        await visitor(port, "spdy/3")
    assert "no application protocol" in str(caught.value.__cause__)


async def a_reset(port: int) -> None:
    stream = await visitor(port, "echo")
    await exchange(stream, b"before")
    sock = stream.transport_stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    stream.close()


async def a_damaged_record(port: int) -> None:
    stream = await visitor(port, "echo")
    await exchange(stream, b"before")
    async with stream.transport_stream as below:
        await below.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(BrokenResourceError):
            while await below.receive_some():
                pass


async def a_cut(port: int) -> None:
    stream = await visitor(port, "echo")
    await exchange(stream, b"before")
    await stream.transport_stream.send_eof()
    with contextlib.suppress(BrokenResourceError):
        while await stream.transport_stream.receive_some():
            pass
    stream.close()


async def a_backend_that_refuses(port: int) -> None:
    async with await visitor(port, "refused") as stream:
        assert await stream.receive_some() == b""


async def a_backend_that_resets(port: int) -> None:
    async with await visitor(port, "reset") as stream:
        with pytest.raises(BrokenResourceError):
            await stream.receive_some()


@contextlib.asynccontextmanager
async def resetting() -> AsyncIterator[str]:
    listener, port = listen_tcp()

    async def reset(stream: SocketStream) -> None:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, reset)
        yield f"127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (garbage, None),
        (no_protocol_in_common, None),
        (a_reset, " echo: SocketError: .*reset"),
        (a_damaged_record, " echo: SocketError: .*(decrypt|bad record)"),
        (a_cut, " echo: SocketError: .*without close_notify"),
        (a_backend_that_refuses, " refused: SocketError: .*refused"),
        (a_backend_that_resets, " reset: SocketError: .*reset"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_fault_in_one_connection_is_none_of_the_others(
    fault: Callable[..., object], told: str | None, pem: Path
) -> None:
    async with echoing() as echoed, resetting() as reset:
        with closed_port() as closed:
            backends = {
                "echo": echoed,
                "refused": f"127.0.0.1:{closed}",
                "reset": reset,
            }
            async with tunnel(pem, backends) as found:
                async with await visitor(found.port, "echo") as other:
                    await exchange(other, b"before")
                    for _ in range(3):
                        await fault(found.port)  # type: ignore[misc]
                        await exchange(other, bytes(100_000))
                    if told is not None:
                        await found.says(told)
                async with await visitor(found.port, "echo") as later:
                    await exchange(later, b"after")


# -- the end


async def test_a_signal_lets_connections_end(pem: Path) -> None:
    async with echoing() as backend, tunnel(pem, {"echo": backend}) as found:
        stream = await visitor(found.port, "echo")
        await exchange(stream, b"before")
        found.stop(signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            while True:
                # One that it still has in its backlog is reset.
                with contextlib.suppress(ConnectionResetError):
                    await (await open_tcp_stream("127.0.0.1", found.port)).aclose()
        await exchange(stream, bytes(100_000))
        await stream.end()
        await stream.transport_stream.send_eof()
        assert await stream.receive_some() == b""
        await stream.aclose()
        await found.says(" echo: eof")


@pytest.mark.parametrize("grace", [60.0, 0.05])
async def test_the_second_signal_and_the_end_of_patience_end_them(
    grace: float, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "_GRACE", grace)
    async with echoing() as backend, tunnel(pem, {"echo": backend}) as found:
        stream = await visitor(found.port, "echo")
        await exchange(stream, b"before")
        found.stop(signal.SIGINT)
        if grace > WITHIN:
            # Two of a kind may be heard as one.
            found.stop(signal.SIGTERM)
        with pytest.raises(BrokenResourceError):
            await stream.receive_some()
        stream.close()


def test_the_program_ends_by_ctrl_c(pem: Path) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-u", "-W", "error", "docs/examples/tunnel.py"),
            *("127.0.0.1:0", str(pem), "h2=127.0.0.1:1"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening at 127.0.0.1:")
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=WITHIN)
        assert (process.returncode, said, complaints) == (0, "", "")
