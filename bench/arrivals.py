"""Runs one server program on one measure: connections that come, speak and go.

Some of them come at the same time, as many at any moment as there are threads here,
and each waits for the server to close before it is over. So when the last one has
ended, all the work is done, and the CPU time of the program is the price of it.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.bridges import Bridge
from bench.bridging import Ground, Running, Trial, running
from bench.ends import EndError, client_context
from bench.plan import Measure

AT_ONCE = 16
# Before the clock starts: programs compile, load and allocate.
WARM = 100
# The key exchange of all handshakes, whatever the newest OpenSSL would rather have.
GROUP = "X25519"


class Visitor:
    """Who comes; TLS through memory BIOs, without a session from before."""

    def __init__(self, run: Running, measure: Measure) -> None:
        self._run = run
        self._size = measure.size
        self._payload = run.ground.payload
        self._context: ssl.SSLContext | None = None
        if measure.tls:
            self._context = client_context(
                run.ground.folder / "ca.pem", ssl.TLSVersion.TLSv1_3
            )
            self._context.set_ecdh_curve(GROUP)

    def visit(self, number: int) -> str | None:
        """Connect, have a message sent back, end; the cipher. Raises EndError."""
        at = number * self._size % (len(self._payload) - self._size)
        message = self._payload[at : at + self._size]
        with self._run.meeting.dial() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                sock.sendall(message)
                answer, goodbye, cipher = b"", b"", None
                while len(answer) < self._size:
                    answer += received(sock)
            else:
                answer, goodbye, cipher = self._secretly(sock, self._context, message)
            if answer != message:
                raise EndError(f"{answer!r} came back instead of {message!r}")
            # Some answer the end by a reset; they have closed all the same.
            with contextlib.suppress(ConnectionError):
                sock.sendall(goodbye)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
        return cipher

    def _secretly(
        self, sock: socket.socket, context: ssl.SSLContext, message: bytes
    ) -> tuple[bytes, bytes, str]:
        """The answer, the close_notify that is due, and the cipher."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(received(sock))
        if tls.session_reused:
            raise EndError("the session of another connection was resumed")
        tls.write(message)
        sock.sendall(outgoing.read())
        answer = b""
        while len(answer) < self._size:
            try:
                answer += tls.read(self._size)
            except ssl.SSLWantReadError:
                incoming.write(received(sock))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        suite = tls.cipher()
        return answer, outgoing.read(), f"{tls.version()} {suite and suite[0]}"


def received(sock: socket.socket) -> bytes:
    """What there is. Raises EndError at the end."""
    data = sock.recv(65536)
    if not data:
        raise EndError("the server ended the connection")
    return data


@contextlib.contextmanager
def echoing(listener: socket.socket) -> Iterator[None]:
    """The backend of those that forward: it sends back what comes, and the end."""
    near, far = socket.socketpair()
    with near, far, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(far, selectors.EVENT_READ)
        thread = threading.Thread(target=echo, args=(selector, listener, far))
        thread.start()
        try:
            yield
        finally:
            near.sendall(b".")
            thread.join()


def echo(
    selector: selectors.DefaultSelector, listener: socket.socket, last: socket.socket
) -> None:
    """Serve until something comes from `last`."""
    with contextlib.ExitStack() as stack:
        while True:
            for key, _ in selector.select():
                if key.fileobj is last:
                    return
                if key.fileobj is listener:
                    sock = stack.enter_context(listener.accept()[0])
                    selector.register(sock, selectors.EVENT_READ)
                    continue
                assert isinstance(key.fileobj, socket.socket)
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = key.fileobj.recv(65536)
                    key.fileobj.sendall(data)
                if not data:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def arrive(run: Running, row: Sequence[Measure]) -> Trial:
    """All connections; CPU from when the program is warm to when the last is over."""
    (measure,) = row
    visitor = Visitor(run, measure)
    numbers = itertools.count()

    def visits(count: int) -> Iterator[str | None]:
        return pool.map(visitor.visit, itertools.islice(numbers, count))

    with contextlib.ExitStack() as stack:
        if measure.kind == "forward":
            stack.enter_context(echoing(run.meeting.listener))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        ciphers = {*visits(max(1, min(WARM, measure.count)))}
        run.settle()
        before, start = run.cpu(), time.perf_counter()
        ciphers |= {*visits(measure.count)}
        spent, wall = run.cpu() - before, time.perf_counter() - start
    if len(ciphers) != 1:
        raise EndError(f"more than one cipher: {ciphers}")
    return Trial(
        values={measure.name: spent / measure.count * measure.scale},
        wall=wall,
        checked=measure.count * measure.size,
        cipher=ciphers.pop(),
    )


def trial(server: Bridge, row: Sequence[Measure], where: Ground) -> Trial:
    """Start `server` and take the one measure of the row. Raises BenchError."""
    with running(server, row[0], where) as run:
        return arrive(run, row)
