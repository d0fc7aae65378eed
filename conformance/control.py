"""Signals between the two sides of a scenario, over HTTP on the loopback.

    GET /<run>/signal/<name>             raises a signal
    GET /<run>/wait/<name>?within=5      "yes" once it is raised, "no" after so long

Both sides may raise and await any name; "over" is the peer's, at the end of its
script.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import final
from urllib.parse import parse_qs, urlsplit

__all__ = ["Control", "Signals"]


@final
class Signals:
    """The signals of one run of a scenario."""

    def __init__(self) -> None:
        self._events: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._lock = threading.Lock()

    def _event(self, name: str) -> threading.Event:
        with self._lock:
            return self._events[name]

    def raise_(self, name: str) -> None:
        """Raise a signal; for good."""
        self._event(name).set()

    def wait(self, name: str, within: float) -> bool:
        """Wait for a signal; whether it was raised in time (seconds)."""
        return self._event(name).wait(within)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        run, verb, name = parts.path.strip("/").split("/")
        signals = self.server.runs.get(run)
        answer = "no"
        if signals is None:
            pass
        elif verb == "signal":
            signals.raise_(name)
            answer = "yes"
        elif signals.wait(name, float(parse_qs(parts.query)["within"][0])):
            answer = "yes"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Signals] = {}


@final
class Control:
    """The server of the signals, for all runs of this process."""

    def __init__(self) -> None:
        self._server = _Server()
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @contextlib.contextmanager
    def run(self) -> Iterator[tuple[str, Signals]]:
        """The address and the signals of a new run."""
        name = str(next(self._numbers))
        signals = self._server.runs[name] = Signals()
        host, port = self._server.server_address[:2]
        try:
            yield f"http://{host!s}:{port}/{name}", signals
        finally:
            del self._server.runs[name]
