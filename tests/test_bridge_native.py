"""wsockets.bridge.native and its C extension, where they differ from their twin.

What a bridge does to bytes is shown in tests/bridge/, on both engines. Here is what
comes with threads: who is told, who holds what, fork, and the end of the process.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest

from tests import loops
from tests.bridge.harness import (
    WITHIN,
    Far,
    Kind,
    Running,
    bridged,
    either,
    joined,
    lend,
    native_pump,
    packet,
    receive,
    send,
    sink_of,
    streams,
    until,
)
from tests.leaks import Snapshot, left_behind, tasks
from wsockets import SocketError
from wsockets.bridge import _native, native
from wsockets.bridge.sink import open_sink
from wsockets.bridge.work import BridgeEnd, End, Framing, Remains, Work
from wsockets.connection import PlainConnection
from wsockets.runtime import current
from wsockets.tls import openssl

pytestmark = pytest.mark.every_loop

CLOSED = BridgeEnd("connection", "decrypt", "closed")
TASK = "wsockets bridges"


def threads() -> int:
    """How many engines run."""
    count = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as name:
            count += name.read() == "wsockets-bridge\n"
    return count


def allocated() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[0]) * os.sysconf("SC_PAGESIZE")


@contextlib.contextmanager
def configured(monkeypatch: pytest.MonkeyPatch, threads: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("WSOCKETS_BRIDGE_THREADS", threads)
        native.configure()
        yield
    native.configure()


@contextlib.contextmanager
def work(**members: Any) -> Iterator[Work]:
    """What to do between two sockets, which nothing has taken over yet."""
    with streams() as (near, _), sink_of("unix") as (given, _):
        sink = open_sink(given, reading=True, writing=True)
        yield Work(lend(PlainConnection(near)), sink.end, **members)
        sink.restore()


async def test_a_socket_that_others_let_block_holds_up_no_engine() -> None:
    async with joined("plain") as (connection, peer):
        with sink_of("unix") as (sink, outside):
            async with bridged(native_pump, connection, sink) as running:
                await peer.send(b"x")
                assert await outside.receive() == b"x"
                # As any process may that has it, too.
                os.set_blocking(sink.fileno(), True)
                await outside.send(b"y")
                with loops.fail_after(WITHIN):
                    assert await peer.receive() == b"y"
                    running.pump.stop(0)
                    await running.end()


# -- engines


async def test_an_engine_lives_as_long_as_it_has_bridges() -> None:
    assert threads() == 0
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(native_pump, connection, sink) as running:
            assert threads() == 1
            await peer.send(b"x")
            assert await other.receive() == b"x"
            await peer.end()
            await other.end()
            await running.end()
            assert threads() == 0


@pytest.mark.parametrize(("given", "expected"), [("1", 1), ("3", 3), ("1000", 5)])
async def test_bridges_are_spread_over_as_many_threads_as_there_may_be(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: int
) -> None:
    with configured(monkeypatch, given):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                connection, peer = await stack.enter_async_context(joined("plain"))
                sink, other = await stack.enter_async_context(either("unix"))
                await stack.enter_async_context(bridged(native_pump, connection, sink))
                await peer.send(b"x")
                assert await other.receive() == b"x"
            assert threads() == expected
    assert threads() == 0


def test_a_number_of_threads_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WSOCKETS_BRIDGE_THREADS", "many")
    with pytest.raises(ValueError, match="many"):
        native.configure()


async def test_one_task_serves_all_bridges_of_a_loop() -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            connection, _ = await stack.enter_async_context(joined("plain"))
            sink, _ = await stack.enter_async_context(either("unix"))
            await stack.enter_async_context(bridged(native_pump, connection, sink))
        assert tasks()[TASK] == 1
    await until(lambda: TASK not in tasks())


async def test_a_bridge_that_starts_while_the_last_one_ends_is_told_as_well() -> None:
    for _ in range(20):
        async with joined("plain") as (connection, peer), either("unix") as (sink, far):
            async with bridged(native_pump, connection, sink) as running:
                await peer.end()
                await far.end()
                assert (await running.end()).reason == "eof"


# -- who holds what


async def test_a_running_bridge_needs_nobody_to_hold_it() -> None:
    async with joined("tls") as (connection, peer):
        with sink_of("unix") as (given, other):
            sink = open_sink(given, reading=True, writing=True)
            told = loops.Event()
            pump = native_pump(current(), Work(lend(connection), sink.end), told.set)
            pump.start()
            gone = weakref.ref(pump)
            del pump
            gc.collect()
            assert gone() is not None
            await peer.send(b"still here")
            assert await other.receive() == b"still here"
            await peer.end()
            await other.end()
            with loops.fail_after(WITHIN):
                while gone() is not None:
                    await told.wait()
                    await loops.checkpoint()
                    gc.collect()
            sink.restore()


async def test_what_is_dropped_before_it_started_closes_its_descriptors() -> None:
    with work() as given:
        fds = {given.connection.read_fd, given.connection.write_fd, given.sink.read_fd}
        pump = native_pump(current(), given, lambda: None)
        assert pump.ended is None
        del pump, given
        gc.collect()
        for fd in fds:
            with pytest.raises(OSError):
                os.fstat(fd)


@pytest.mark.parametrize("how", ["stop", "abandon"])
async def test_what_never_started_hands_back_what_it_was_given(how: str) -> None:
    with work(to_sink=b"for the sink") as given:
        told = loops.Event()
        pump = native_pump(current(), given, told.set)
        pump.stop(1.0) if how == "stop" else pump.abandon()
        stopped = BridgeEnd("connection", "decrypt", "stopped")
        ended = stopped if how == "stop" else CLOSED
        assert pump.ended == ended
        assert pump.remains() == Remains(unread=b"for the sink")
        with loops.fail_after(WITHIN):
            await told.wait()
        pump.stop(1.0)
        pump.abandon()
        assert pump.ended == ended


async def test_a_thread_that_cannot_be_had_is_an_error_and_closes_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Session:
        """One whose engine cannot be started."""

        def __init__(self, *arguments: Any) -> None:
            self.made = real(*arguments)

        def start(self, *_: object) -> None:
            raise OSError(11, "Resource temporarily unavailable")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.made, name)

    real = _native.Session
    monkeypatch.setattr(_native, "Session", Session)
    with work() as given:
        pump = native_pump(current(), given, lambda: None)
        with pytest.raises(OSError, match="unavailable"):
            pump.start()
        assert pump.ended == CLOSED
        with pytest.raises(OSError):
            os.fstat(given.connection.read_fd)
        await until(lambda: TASK not in tasks())


async def test_the_fd_of_the_end_is_readable_whenever_it_is_asked_for(
    kind: Kind,
) -> None:
    async with joined(kind) as (connection, _), either("unix") as (sink, _):
        async with bridged(native_pump, connection, sink) as running:
            poll = select.poll()
            poll.register(running.pump.fileno(), select.POLLIN)
            assert poll.poll(0) == []
            running.pump.abandon()
            assert poll.poll(0)
            assert running.pump.fileno() == running.pump.fileno()
    async with joined(kind) as (connection, _), either("unix") as (sink, _):
        async with bridged(native_pump, connection, sink) as running:
            running.pump.abandon()
            poll = select.poll()
            poll.register(running.pump.fileno(), select.POLLIN)
            assert poll.poll(0)


@pytest.fixture(params=["plain", "tls"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


# -- stop and go on


async def test_a_connection_comes_back_whole_at_any_moment(rng: random.Random) -> None:
    """Started and stopped while both sides send; every byte arrives once, in order."""
    cycles = 50  # twenty times as many in `make stress`
    sent = {"down": bytearray(), "up": bytearray()}
    found = {"down": bytearray(), "up": bytearray()}
    done = loops.Event()

    async def feed(name: str, far: Any) -> None:
        while not done.is_set():
            data = rng.randbytes(rng.choice((1, 100, 5000, 70000)))
            sent[name] += data
            await far.send(data)
            await loops.checkpoint()

    async def drink(name: str, far: Any) -> None:
        while not (done.is_set() and len(found[name]) == len(sent[name])):
            with loops.move_on_after(0.2):
                found[name] += await far.receive()

    async with joined("tls") as (connection, peer):
        with sink_of("unix") as (given, other), loops.fail_after(50):
            async with loops.open_nursery() as nursery:
                nursery.start_soon(feed, "down", peer)
                nursery.start_soon(feed, "up", other)
                nursery.start_soon(drink, "up", peer)
                nursery.start_soon(drink, "down", other)
                unread = b""
                for cycle in range(cycles):
                    async with bridged(
                        native_pump, connection, given, to_sink=unread
                    ) as running:
                        for _ in range(rng.randrange(20)):
                            await loops.checkpoint()
                        if cycle == cycles - 1:
                            done.set()
                            await until(
                                lambda: (
                                    found["up"] == sent["up"]
                                    and found["down"] == sent["down"]
                                )
                            )
                        running.pump.stop(rng.choice((0, 0, 0.01, 1.0)))
                        assert (await running.end()).reason == "stopped"
                        remains = running.pump.remains()
                    unread = remains.unread
                    connection.owe(remains.owed)  # type: ignore[union-attr]
                    await paid(connection)
                    unread += connection.rejoin()  # type: ignore[union-attr]
                assert unread == b""
    assert found == sent


async def paid(connection: Any) -> None:
    """Until what the connection owes has left."""
    while connection.flush():
        await anyio.wait_writable(connection.socket)


async def test_the_connection_works_on_after_a_stop() -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        for _ in range(3):
            async with bridged(native_pump, connection, sink) as running:
                await peer.send(b"bridged")
                assert await other.receive() == b"bridged"
                running.pump.stop(1.0)
                await running.end()
                assert running.pump.remains() == Remains()
            await peer.send(b"straight")
            assert await receive(connection, 8) == b"straight"
            await send(connection, b"answer")
            assert await peer.receive_exactly(6) == b"answer"


# -- many


def all_have(ends: list[tuple[Far, Far, Running]], count: int) -> bool:
    return all(one.pump.stats.decrypt.packets == count for _, _, one in ends)


async def test_half_packets_of_many_peers_hold_no_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has to wait for its other half; 80 buffers would be 45 MB."""
    whole = packet(1000, fill=7)
    with configured(monkeypatch, "1"):
        async with contextlib.AsyncExitStack() as stack:
            ends = []
            for _ in range(80):
                connection, peer = await stack.enter_async_context(joined("plain"))
                sink, other = await stack.enter_async_context(either("seqpacket"))
                running = await stack.enter_async_context(
                    bridged(native_pump, connection, sink, framing=Framing.IP)
                )
                ends.append((peer, other, running))
            before = allocated()
            for at in range(3):
                for peer, _, _ in ends:
                    await peer.send(
                        whole[:600] if at == 0 else whole[600:] + whole[:600]
                    )
                for _, other, _ in ends:
                    for _ in range(at > 0):
                        assert await other.receive() == whole
                await until(partial(all_have, ends, at))
                # A few are kept for the next turns.
                assert allocated() - before < 45 << 20
            *_, (_, _, last) = ends
            last.pump.stop(1.0)
            await last.end()
            assert last.pump.remains() == Remains(unread=whole[:600])


# -- in words


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x50", r"at byte 40 .* begins with 0x50: IP version 5"),
        (b"\x45\0\0\x13", r"at byte 40 .* and 19 bytes long"),
        (b"\x45\0\x27\x10", r"at byte 40 .* is 10000 bytes long, more than .* 9000"),
        (b"\x60\0\0", r"end 3 bytes into the packet at byte 40"),
    ],
    ids=["version", "short", "long", "cut-off"],
)
async def test_bytes_that_are_no_packet_are_described(
    data: bytes, expected: str
) -> None:
    async with joined("plain") as (connection, peer), either("seqpacket") as (sink, _):
        async with bridged(
            native_pump, connection, sink, framing=Framing.IP, mtu=9000
        ) as running:
            await peer.send(packet(40) + data)
            await peer.end()
            end = await running.end()
            assert (end.side, end.direction) == ("connection", "decrypt")
            assert end.reason == "framing"
            with pytest.raises(SocketError, match=expected) as caught:
                raise end.error or AssertionError
            assert caught.value.code == "state"


async def test_a_packet_of_a_device_that_is_too_long_is_described() -> None:
    async with joined("tls") as (connection, _), either("seqpacket") as (sink, other):
        async with bridged(
            native_pump, connection, sink, framing=Framing.IP, mtu=100
        ) as running:
            await other.put(packet(100))
            await other.put(packet(102))
            end = await running.end()
            assert (end.side, end.direction, end.reason) == (
                *("sink", "encrypt"),
                "framing",
            )
            assert "at byte 100 of the stream is 101 or more" in str(end.error)


async def test_what_openssl_has_to_say_is_passed_on() -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, _):
        async with bridged(native_pump, connection, sink) as running:
            await peer.put(b"\x17\x03\x03\x00\x20" + bytes(32))
            end = await running.end()
            assert (end.side, end.direction, end.reason) == (
                *("connection", "decrypt"),
                "tls",
            )
            assert isinstance(end.error, SocketError)
            assert end.error.code == "tls"
            assert "a record was damaged" in str(end.error)


async def test_an_end_without_close_notify_is_told_apart() -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, _):
        async with bridged(native_pump, connection, sink) as running:
            peer.cut()
            end = await running.end()
            assert (end.side, end.reason) == ("connection", "truncated")
            assert isinstance(end.error, SocketError)
            assert end.error.code == "truncated"


@pytest.mark.parametrize("side", ["connection", "sink"])
async def test_an_error_of_the_system_keeps_its_number(side: str) -> None:
    async with joined("plain") as (connection, peer), either("tcp") as (sink, other):
        async with bridged(native_pump, connection, sink) as running:
            (peer if side == "connection" else other).reset()
            end = await running.end()
            assert end.side == side
            assert end.reason == ("reset" if side == "connection" else "sink")
            assert isinstance(end.error, SocketError)
            assert end.error.code == ("reset" if side == "connection" else "os")
            assert end.error.errno == errno.ECONNRESET
            assert isinstance(end.error.__cause__, ConnectionResetError)


# -- fork


async def test_a_forked_child_does_not_pump() -> None:
    async with joined("tls") as (connection, peer), either("unix") as (sink, other):
        async with bridged(native_pump, connection, sink) as running:
            await peer.send(b"before")
            assert await other.receive() == b"before"
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    alone = threading.active_count() == 1 and threads() == 0
                    over = running.pump.ended == CLOSED
                    running.pump.stop(1.0)
                    running.pump.abandon()
                    status = 0 if alone and over else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            # The parent has not noticed.
            await peer.send(b"after")
            assert await other.receive() == b"after"
            await other.send(b"back")
            assert await peer.receive_exactly(4) == b"back"
            assert running.pump.ended is None


CHILD = """
import asyncio, os, socket, sys, threading, trio, uvloop
from wsockets.bridge import native
from wsockets.bridge.work import End, Work
from wsockets.connection import PlainConnection
from wsockets.runtime import current

native.configure()

def pump_of(near, sink):
    near.setblocking(False)
    sink.setblocking(False)
    fds = [os.dup(end.fileno()) for end in (near, sink)]
    work = Work(End(fds[0], fds[0], PlainConnection(near)), End(fds[1], fds[1]))
    pump = native.native_pump(current(), work, lambda: None)
    pump.start()
    return pump

def sockets():
    near, far = socket.socketpair()
    sink, out = socket.socketpair()
    out.settimeout(10)
    return near, far, sink, out

def run(main):
    runs = {"asyncio": asyncio.run, "uvloop": uvloop.run}
    if sys.argv[1] == "trio":
        trio.run(main)
    else:
        runs[sys.argv[1]](main())
"""

every_loop = pytest.mark.parametrize("loop", loops.LOOPS)


def run(program: str, loop: str = "trio", expected: int = 0) -> str:
    """What a process of its own prints; warnings are errors there, too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD + program, loop],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert done.returncode == expected, done.stderr
    return done.stdout


@every_loop
def test_a_child_can_bridge_by_itself(loop: str) -> None:
    program = """
near, far, sink, out = sockets()
async def parent():
    pump = pump_of(near, sink)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        far.send(b"parent")
        print(out.recv(100), os.waitstatus_to_exitcode(status))
        return
    async def bridge():
        new = sockets()
        other = pump_of(new[0], new[2])
        new[1].send(b"child")
        assert new[3].recv(100) == b"child"
        assert pump.ended.reason == "closed"
        other.abandon()
        os._exit(7)
    try:
        if sys.argv[1] == "trio":
            await bridge()
        else:
            run(bridge)  # asyncio's loops do not run in the child
    finally:
        os._exit(1)
run(parent)
"""
    assert run(program, loop) == "b'parent' 7\n"


@every_loop
def test_the_process_ends_while_it_pumps(loop: str) -> None:
    program = """
near, far, sink, out = sockets()
async def main():
    pump_of(near, sink)
    far.send(b"x")
    assert out.recv(1) == b"x"
    sys.exit(5)
run(main)
"""
    run(program, loop, expected=5)


def test_the_process_ends_though_the_loop_never_did() -> None:
    program = """
near, far, sink, out = sockets()
async def main():
    pump_of(near, sink)
    far.send(b"x")
    assert out.recv(1) == b"x"
    await trio.sleep_forever()
import queue
calls = queue.Queue()
trio.lowlevel.start_guest_run(
    main,
    run_sync_soon_threadsafe=calls.put,
    done_callback=lambda outcome: None,
    strict_exception_groups=True,
)
while not [t for t in os.listdir("/proc/self/task") if open(
    f"/proc/self/task/{t}/comm").read() == "wsockets-bridge\\n"]:
    calls.get(timeout=10)()
sys.stdout.write("pumping")
sys.stdout.flush()
"""
    assert run(program) == "pumping"


@every_loop
def test_the_process_ends_while_a_thread_of_its_own_runs_the_loop(loop: str) -> None:
    program = """
near, far, sink, out = sockets()
pumping = threading.Event()
async def main():
    pump_of(near, sink)
    far.send(b"x")
    assert out.recv(1) == b"x"
    pumping.set()
    await (trio.sleep_forever() if sys.argv[1] == "trio" else asyncio.Event().wait())
threading.Thread(target=run, args=(main,), daemon=True).start()
assert pumping.wait(10)
sys.stdout.write("pumping")
sys.stdout.flush()
"""
    assert run(program, loop) == "pumping"


@every_loop
def test_signals_are_for_other_threads(loop: str) -> None:
    program = """
import signal
near, far, sink, out = sockets()
async def main():
    pump_of(near, sink)
    far.send(b"x")
    assert out.recv(1) == b"x"
    (engine,) = [t for t in os.listdir("/proc/self/task") if open(
        f"/proc/self/task/{t}/comm").read() == "wsockets-bridge\\n"]
    for line in open(f"/proc/self/task/{engine}/status"):
        if line.startswith("SigBlk"):
            blocked = int(line.split()[1], 16)
    # All but SIGKILL, SIGSTOP and the two that pthreads keeps.
    missing = [n for n in range(1, 65) if not blocked >> (n - 1) & 1]
    print(sorted(set(missing) - {signal.SIGKILL, signal.SIGSTOP, 32, 33}))
run(main)
"""
    assert run(program, loop) == "[]\n"


def test_a_subinterpreter_is_refused() -> None:
    program = """
import _xxsubinterpreters as interpreters
one = interpreters.create()
interpreters.run_string(one, '''
import importlib.util, sys
try:
    spec = importlib.util.spec_from_file_location("wsockets.bridge._native", %r)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
except ImportError as error:
    print(error)
''' % native._native.__file__)
interpreters.destroy(one)
"""
    if sys.version_info >= (3, 13):
        program = program.replace("_xxsubinterpreters", "_interpreters")
        program = program.replace("create()", 'create("legacy")')
    # From 3.12 on it is Python itself that refuses.
    refusals = "main interpreter only", "does not support loading in subinterpreters"
    assert any(refusal in run(program) for refusal in refusals)


# -- the extension by itself


@pytest.mark.parametrize(
    "members",
    [
        {"prefix": bytes(257), "framing": Framing.IP},
        {"mtu": 65536},
        {"mtu": 0},
        {"idle_timeout": 0.0},
        {"encrypt": False, "decrypt": False},
        {"framing": Framing.IP, "to_connection": b"x"},
    ],
    ids=["prefix", "mtu-over", "mtu-none", "idle", "no-direction", "head"],
)
async def test_what_it_has_no_room_for_is_refused_and_stays_the_callers(
    members: dict[str, Any],
) -> None:
    with streams() as (near, _), streams() as (other, _):
        fds = [os.dup(sock.fileno()) for sock in (near, other)]
        given = Work(
            End(fds[0], fds[0], PlainConnection(near)), End(fds[1], fds[1]), **members
        )
        with pytest.raises(ValueError, match=r"prefix|packet"):
            native.session_of(given)
        for fd in fds:
            os.close(fd)


def test_it_says_what_it_has_room_for() -> None:
    end = End(-1, -1)
    assert native.suits(Work(end, end, prefix=bytes(256), mtu=65535))
    assert not native.suits(Work(end, end, prefix=bytes(257)))
    assert not native.suits(Work(end, end, mtu=65536))


def test_a_function_that_is_missing_is_named() -> None:
    found = openssl.functions(_native.FUNCTIONS)
    for bad in ({**found, "SSL_read": 0}, {**found, "SSL_read": -1}):
        with pytest.raises((ValueError, OverflowError)):
            _native.configure(bad, 1)
    del found["SSL_write"]
    with pytest.raises(ValueError, match="SSL_write"):
        _native.configure(found, 1)
    with pytest.raises(AttributeError, match="SSL_no_such"):
        openssl.functions(["SSL_no_such"])


async def test_a_session_starts_once_and_tells_its_remains_after_the_end() -> None:
    with work() as given:
        session, queue = native.session_of(given), _native.Queue()
        with pytest.raises(RuntimeError, match="not ended"):
            session.remains()
        session.start(queue, session)
        with pytest.raises(RuntimeError, match="before"):
            session.start(queue, session)
        with pytest.raises(TypeError):
            session.stop("soon")  # type: ignore[arg-type]
        session.abandon()
        assert queue.take() == []
        assert session.remains() == ((b"", b"", b""), (b"", b"", b""))
        queue.close()


async def test_news_may_be_taken_late_or_never() -> None:
    before = Snapshot.take()
    with work() as given:
        session, queue = native.session_of(given), _native.Queue()
        poll = select.poll()
        poll.register(queue.fileno(), select.POLLIN)
        session.start(queue, "owner")
        session.stop(0.0)
        assert poll.poll(WITHIN * 1000)
        report = session.report()
        assert report is not None
        assert report[2] == 6
        assert queue.take() == ["owner"]
        assert queue.take() == []
        assert poll.poll(0) == []
        queue.close()
        del session, queue, given
    gc.collect()
    assert left_behind(before) == []


async def test_a_pump_lives_while_the_loop_is_busy() -> None:
    """Python holds the thread of the loop, and the bytes go on."""
    with streams() as (near, far), sink_of("unix") as (given, other):
        sink = open_sink(given, reading=True, writing=True)
        pump = native_pump(
            current(), Work(lend(PlainConnection(near)), sink.end), lambda: None
        )
        pump.start()
        data = os.urandom(1 << 20)

        def write() -> None:
            view = memoryview(data)
            with socket.socket(fileno=os.dup(far.write_fd)) as sock:
                sock.setblocking(True)
                sock.sendall(view)

        writer = threading.Thread(target=write)
        writer.start()
        found = bytearray()
        with socket.socket(fileno=os.dup(other.read_fd)) as sock:
            sock.settimeout(WITHIN)
            while len(found) < len(data):
                found += sock.recv(65536)  # the loop does nothing meanwhile
        writer.join()
        assert found == data
        pump.abandon()
        sink.restore()


async def test_a_broken_pipe_kills_nobody() -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        async with joined("plain") as (connection, peer):
            async with either("pipes") as (sink, other):
                os.close(other.read_fd)
                other.read_fd = other.write_fd
                async with bridged(native_pump, connection, sink) as running:
                    await peer.send(b"x")
                    end = await running.end()
                    assert (end.side, end.reason) == ("sink", "sink")
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
