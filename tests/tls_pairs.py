"""Handshakes for the tests of wsockets.tls, which itself never waits.

`pair()` makes a client and a server over a socketpair and `complete()` drives both
to the end in one thread; `s_server()` and `s_client()` are OpenSSL's programs at the
other end of a loopback connection.
"""

from __future__ import annotations

import ctypes
import gc
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

import attrs
from OpenSSL import SSL

from tests.certificates import authority, server
from wsockets.errors import SocketError
from wsockets.tls import (
    ServerNames,
    TlsInfo,
    TlsNames,
    TlsOptions,
    client_connection,
    finish_handshake,
    server_connection,
    store_session,
    tls_error,
    tls_info,
    tls_names,
)

__all__ = [
    "LOCALHOST",
    "NO_NAMES",
    "Pair",
    "connect",
    "grown",
    "hand_shake",
    "pair",
    "receive",
    "refusal",
    "s_client",
    "s_server",
    "serving",
    "trusting",
]

LOCALHOST = tls_names("localhost")
NO_NAMES = TlsNames(None, None)
TIMEOUT = 20.0  # seconds


def serving(**members: object) -> TlsOptions:
    """A server's options, with a good certificate unless they say otherwise."""
    issued = server()
    if not members.keys() & {"cert", "psk"}:
        members = {"cert": issued.chain, "key": issued.key, **members}
    return TlsOptions(**members)  # type: ignore[arg-type]


def trusting(**members: object) -> TlsOptions:
    """A client's options that trust the tests' authority."""
    return TlsOptions(**{"ca": authority().certificate, **members})  # type: ignore[arg-type]


@attrs.frozen
class Pair:
    """A client and a server, connected with each other."""

    client: SSL.Connection
    server: SSL.Connection
    client_alpn: tuple[str, ...]
    server_alpn: tuple[str, ...]

    def shake(self) -> tuple[SocketError | None, SocketError | None]:
        """Both handshakes, and how each failed. A failure is followed by FIN."""
        ends: dict[SSL.Connection, SocketError | None] = {}
        for _ in range(30):
            for end in (self.client, self.server):
                if end in ends:
                    continue
                try:
                    end.do_handshake()
                except (SSL.WantReadError, SSL.WantWriteError):
                    continue
                except SSL.Error as error:
                    ends[end] = tls_error("complete the handshake", error, end)
                    end.sock_shutdown(socket.SHUT_WR)
                else:
                    ends[end] = None
            if len(ends) == 2:
                return ends[self.client], ends[self.server]
        raise AssertionError("the handshake makes no progress")

    def complete(self) -> tuple[TlsInfo, TlsInfo]:
        """Both handshakes, which must succeed, checked; what they came to."""
        assert self.shake() == (None, None)
        finish_handshake(self.client, offered=self.client_alpn)
        finish_handshake(self.server, offered=self.server_alpn)
        return tls_info(self.client), tls_info(self.server)

    def exchange(self) -> None:
        """A few bytes each way, which bring TLS 1.3's tickets along."""
        for sender, receiver in (
            (self.server, self.client),
            (self.client, self.server),
        ):
            sender.send(b"some bytes")
            assert receiver.recv(100) == b"some bytes"

    def end(self) -> None:
        """Both ends closed, sessions stored."""
        store_session(self.client)
        store_session(self.server)


@contextmanager
def pair(
    client: TlsOptions | None = None,
    server: TlsOptions | None = None,
    *,
    names: TlsNames = LOCALHOST,
    client_alpn: Sequence[str] = (),
    server_alpn: Sequence[str] = (),
    client_auth: Literal["required", "optional"] = "required",
    port: int | None = 443,
    server_names: ServerNames | None = None,
) -> Iterator[Pair]:
    """A client and a server of ours, before their handshake."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield Pair(
            client_connection(
                client or trusting(), names, client_alpn, near, port=port
            ),
            server_connection(
                server or serving(),
                server_alpn,
                far,
                client_auth=client_auth,
                server_names=server_names,
            ),
            tuple(client_alpn),
            tuple(server_alpn),
        )


def refusal(
    client: TlsOptions | None = None,
    server: TlsOptions | None = None,
    **more: object,
) -> tuple[SocketError, SocketError]:
    """How the client and the server put it that the client refused."""
    with pair(client, server, **more) as both:  # type: ignore[arg-type]
        ours, theirs = both.shake()
        # A server of TLS 1.3 may learn of it with what it reads next.
        if theirs is None:
            theirs = read_failure(both.server)
        assert ours is not None
        return ours, theirs


def read_failure(connection: SSL.Connection) -> SocketError:
    """How the next read fails."""
    try:
        connection.recv(1)
    except SSL.Error as error:
        return tls_error("receive", error, connection)
    raise AssertionError("the read succeeds")


def grown(step: Callable[[], object], count: int, *, warm: int, rounds: int = 3) -> int:
    """How many bytes more are allocated by each of `count` steps.

    What C's malloc() has given out, which is where OpenSSL keeps its objects;
    Python has its own place for small ones. The best of `rounds`: a leak shows
    in every one, whatever else goes on.
    """
    for _ in range(warm):
        step()
    found = []
    for _ in range(rounds):
        before = _allocated()
        for _ in range(count):
            step()
        found.append((_allocated() - before) // count)
    return min(found)


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2, see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _allocated() -> int:
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.uordblks) + int(info.hblkhd)


# -- over loopback, with real waiting


def _ready(sock: socket.socket, *, writing: bool) -> None:
    event = select.POLLOUT if writing else select.POLLIN
    poll = select.poll()
    poll.register(sock, event)
    if not poll.poll(TIMEOUT * 1000):
        raise TimeoutError("the peer is silent")


def hand_shake(connection: SSL.Connection, sock: socket.socket) -> None:
    """Complete a handshake. Raises what `tls_error` makes of a failure."""
    _retried(connection, sock, connection.do_handshake)


def receive(connection: SSL.Connection, sock: socket.socket) -> bytes:
    """The next bytes. Raises what `tls_error` makes of a failure."""
    found: list[bytes] = []
    _retried(connection, sock, lambda: found.append(connection.recv(65536)))
    return found[0]


def _retried(
    connection: SSL.Connection, sock: socket.socket, call: Callable[[], object]
) -> None:
    while True:
        try:
            call()
        except SSL.WantReadError:
            _ready(sock, writing=False)
        except SSL.WantWriteError:
            _ready(sock, writing=True)
        except SSL.Error as error:
            raise tls_error("talk to the peer", error, connection) from error
        else:
            return


@contextmanager
def connect(
    port: int,
    options: TlsOptions,
    names: TlsNames = LOCALHOST,
    alpn: Sequence[str] = (),
) -> Iterator[tuple[SSL.Connection, socket.socket]]:
    """A client of ours to a loopback port, its handshake complete and checked.

    For its sessions every port is 443, so that two servers can pass for one.
    """
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.setblocking(False)
        connection = client_connection(options, names, alpn, sock, port=443)
        hand_shake(connection, sock)
        finish_handshake(connection, offered=alpn)
        yield connection, sock


@contextmanager
def s_server(program: str, *arguments: str) -> Iterator[int]:
    """`openssl s_server` on a port of its own choice, which the block is given.

    It answers what it gets in reverse (-rev), unless `arguments` have -www.
    """
    files = server().files()
    command = [program, "s_server", "-accept", "127.0.0.1:0"]
    if "-nocert" not in arguments:
        command += ["-cert", str(files.cert), "-key", str(files.key)]
    if "-www" not in arguments:
        command.append("-rev")
    with subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(b"ACCEPT "):
                    port = int(line.rpartition(b":")[2])
                    break
            else:
                raise AssertionError(f"{command} does not start")
            yield port
        finally:
            process.kill()


def s_client(
    program: str, options: TlsOptions, *arguments: str, alpn: Sequence[str] = ()
) -> tuple[str, TlsInfo | SocketError]:
    """What `openssl s_client` prints about a server of ours, and what that says."""
    came_to: list[TlsInfo | SocketError] = []

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.setblocking(False)
            connection = server_connection(options, alpn, sock)
            try:
                hand_shake(connection, sock)
                finish_handshake(connection, offered=alpn)
                connection.send(b"hello\n")
                came_to.append(tls_info(connection))
                while receive(connection, sock):
                    pass
            except SocketError as error:
                if not came_to:
                    came_to.append(error)
            store_session(connection)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(TIMEOUT)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        command = [program, "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
        done = subprocess.run(
            command, input=b"Q\n", capture_output=True, timeout=TIMEOUT, check=False
        )
        thread.join(TIMEOUT)
    return (done.stdout + done.stderr).decode(errors="replace"), came_to[0]
