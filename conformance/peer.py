"""The scripted peer: listens, and does step by step what a scenario says.

It runs in a thread of its own. Every step has an outcome, whatever happens; a step
that runs out of time is `pending`, and the following ones are given a tenth.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

from conformance.certificates import Authority
from conformance.control import Signals
from conformance.outcomes import Outcome
from conformance.pattern import describe, pattern
from conformance.scenarios import Step, filled
from conformance.wire import Wire

__all__ = ["Peer"]

_PENDING: Final = {"how": "pending"}
_BACKLOG: Final = 16


@final
class Peer:
    """The listener of one scenario and the script that serves it.

    `addresses` holds what the scenario's `$names` stand for.
    """

    def __init__(
        self,
        script: Sequence[Step],
        *,
        authority: Authority,
        signals: Signals,
        folder: Path,
        listen: str = "127.0.0.1",
        receive_buffer: int | None = None,
        limit: float = 5.0,
        settle: float = 0.12,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._script = script
        self._authority = authority
        self._signals = signals
        self._limit = limit
        self._settle = settle
        self._wires: dict[str, Wire] = {}
        self._arrived: queue.Queue[tuple[socket.socket, Any]] = queue.Queue()
        self._count = 0
        self._with = contextlib.ExitStack()
        self._listener = self._listening(listen, folder)
        if receive_buffer is not None:
            self._listener.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer
            )
        self._listener.listen(_BACKLOG)
        self.addresses = self._addresses(listen)
        self._threads = [
            threading.Thread(target=self._accept, name="conformance acceptor"),
            threading.Thread(target=self._play, name="conformance peer"),
        ]

    def __enter__(self) -> Peer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the script to end, then close everything."""
        self._threads[1].join()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for wire in self._wires.values():
            wire.close()
        while not self._arrived.empty():
            self._arrived.get()[0].close()
        self._with.close()

    # -- listening

    def _listening(self, listen: str, folder: Path) -> socket.socket:
        if listen == "unix":
            sock = self._with.enter_context(socket.socket(socket.AF_UNIX))
            path = folder / f"{id(self):x}.sock"
            self._with.callback(path.unlink)
            sock.bind(str(path))
            return sock
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        sock = self._with.enter_context(socket.socket(family))
        sock.bind((listen, 0))
        return sock

    def _addresses(self, listen: str) -> dict[str, str]:
        authority = self._authority
        found = {
            "$client-certificate": authority.client.pem,
            "$client-key": authority.client.key_pem,
            "$authority": authority.root.read_text(),
            "$closed": str(self._closed_port()),
            "$silent": str(self._silent_port()),
        }
        name = self._listener.getsockname()
        if listen == "unix":
            found["$path"] = name
        else:
            found["$port"] = str(name[1])
        return found

    def _closed_port(self) -> int:
        # Bound and not listening: nobody else gets the port, and TCP refuses.
        sock = self._with.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])

    def _silent_port(self) -> int:
        # A listener whose queue is full drops what comes: connecting takes for ever.
        sock = self._with.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(2):
            filler = self._with.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(sock.getsockname())
        return int(sock.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                arrived = self._listener.accept()
            except OSError:
                return
            self._count += 1
            self._arrived.put(arrived)

    # -- the script

    def _play(self) -> None:
        limit = self._limit
        try:
            for step in self._script:
                verb: Callable[..., Outcome] = getattr(self, "_do_" + step["do"])
                until = time.monotonic() + step.get("within", limit)
                try:
                    outcome = verb(step, until)
                except (OSError, KeyError) as error:
                    outcome = {"how": "failed", "why": str(error)}
                self.outcomes.append(outcome)
                if outcome["how"] == "pending":
                    limit = self._limit / 10
        finally:
            self._signals.raise_("over")

    def _wire(self, step: Step) -> Wire:
        name = step.get("on", "peer")
        if name not in self._wires:
            raise KeyError(f"there is no connection {name!r}")
        return self._wires[name]

    def _do_accept(self, step: Step, until: float) -> Outcome:
        try:
            patience = max(0.001, until - time.monotonic())
            sock, name = self._arrived.get(timeout=patience)
        except queue.Empty:
            return _PENDING
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wires[step.get("as", "peer")] = Wire(sock)
        if sock.family == socket.AF_INET:
            # Read by the judge once the script is over, and by later steps.
            self.addresses["$remote"] = f"{name[0]}:{name[1]}"
        return _returned(None)

    def _do_tls(self, step: Step, until: float) -> Outcome:
        context = self._authority.context(
            step.get("certificate", "localhost"),
            alpn=step.get("alpn", ()),
            version=step.get("version"),
            client=step.get("client", False),
        )
        wire = self._wire(step)
        why = wire.shake_hands(context, until)
        if why == "no answer in time":
            return _PENDING
        if why is not None:
            return {**wire.asked(), "how": "failed", "why": why}
        return wire.facts()

    def _do_hello(self, step: Step, until: float) -> Outcome:
        """Look at the client's next bytes; they stay to be received."""
        wire = self._wire(step)
        data = wire.receive(until)
        if data is None:
            return _PENDING
        wire.push_back(data)
        kind = "tls" if data[:2] == b"\x16\x03" else "plain" if data else "the end"
        return _returned({"text": kind})

    def _do_send(self, step: Step, until: float) -> Outcome:
        wire, data = self._wire(step), _content(filled(step, self.addresses))
        if "cut" in step:
            sent = wire.send_raw(wire.sealed(data)[: step["cut"]], until)
        elif step.get("beneath"):
            sent = wire.send_raw(data, until)
        else:
            sent = wire.send(data, until)
        return _returned(None) if sent else _PENDING

    def _do_recv(self, step: Step, until: float) -> Outcome:
        wire = self._wire(step)
        received = bytearray()
        exactly = step.get("exactly")
        wanted = None if step.get("to") == "end" else exactly or step.get("bytes", 1)
        stop = step.get("until", "").encode()
        while wanted is None or len(received) < wanted or stop not in received:
            data = wire.receive(until)
            if data is None:
                return _read(received, "pending") if received else _PENDING
            if not data:
                if wanted is None:
                    wire.receive(until)  # What stands behind close_notify.
                return _read(received, ", ".join(wire.ended))
            received += data
            if exactly and len(received) > exactly:
                # The next step's, a handshake perhaps.
                wire.push_back(bytes(received[exactly:]))
                del received[exactly:]
        return _read(received, "open")

    def _do_quiet(self, step: Step, until: float) -> Outcome:
        """That nothing comes for a while."""
        wire = self._wire(step)
        data = wire.receive(time.monotonic() + self._settle)
        if data is None:
            return _returned({"text": "quiet"})
        return _read(data, ", ".join(wire.ended) or "open")

    def _do_close_notify(self, step: Step, until: float) -> Outcome:
        self._wire(step).close_notify(until)
        return _returned(None)

    def _do_fin(self, step: Step, until: float) -> Outcome:
        self._wire(step).fin()
        return _returned(None)

    def _do_rst(self, step: Step, until: float) -> Outcome:
        self._wire(step).rst()
        return _returned(None)

    def _do_connections(self, step: Step, until: float) -> Outcome:
        time.sleep(self._settle)
        return _returned(self._count)

    def _do_signal(self, step: Step, until: float) -> Outcome:
        self._signals.raise_(step["name"])
        return _returned(None)

    def _do_wait(self, step: Step, until: float) -> Outcome:
        waited = self._signals.wait(step["name"], until - time.monotonic())
        return _returned(None) if waited else _PENDING


def _content(step: Step) -> bytes:
    if "pattern" in step:
        return pattern(step["pattern"], step.get("from", 0))
    if "hex" in step:
        return bytes.fromhex(step["hex"])
    return str(step["data"]).encode()


def _returned(value: object) -> Outcome:
    return {"how": "returned", "value": value}


def _read(data: bytes | bytearray, end: str) -> Outcome:
    return {"how": "read", "data": describe(bytes(data)), "end": end}
