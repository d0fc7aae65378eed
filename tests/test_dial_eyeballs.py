from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest
from trio.testing import MockClock

from tests import loops
from tests.dialling import fds
from tests.network import black_hole, connections, in_own_network, listener, watched
from wsockets.dial import eyeballs
from wsockets.dial.attempt import TcpTarget, decided
from wsockets.dial.eyeballs import STAGGER, race
from wsockets.errors import SocketError
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


class Street:
    """Hosts of loopback that share a port: some answer, some never do."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        hole = stack.enter_context(black_hole("127.0.0.1"))
        self.port: int = hole.getsockname()[1]
        self.holes = [hole]

    def answering(self, last: int) -> tuple[int, str]:
        """A host with a listener."""
        self.server = self._stack.enter_context(listener(f"127.0.0.{last}", self.port))
        return V4, f"127.0.0.{last}"

    def silent(self, last: int) -> tuple[int, str]:
        """A host that drops what it is sent."""
        if last > 1:
            address = f"127.0.0.{last}", self.port
            server = socket.create_server(address, backlog=0)
            self._stack.enter_context(server)
            self._stack.enter_context(socket.create_connection(address))
            server.setblocking(False)
            self.holes.append(server)
        return V4, f"127.0.0.{last}"

    def closed(self, last: int) -> tuple[int, str]:
        """A host that refuses."""
        return V4, f"127.0.0.{last}"


@pytest.fixture
def street() -> Iterator[Street]:
    with ExitStack() as stack:
        yield Street(stack)


async def test_the_first_address_wins_where_it_answers(street: Street) -> None:
    addresses = [street.answering(2), street.silent(1)]
    before = fds()
    with await race(current(), "a.example", street.port, addresses) as sock:
        assert sock.getpeername() == ("127.0.0.2", street.port)
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert len(fds()) == len(before) + 1
    assert fds() == before


async def test_the_next_address_is_tried_at_once_when_one_is_refused(
    street: Street, autojump_clock: MockClock
) -> None:
    addresses = [street.closed(2), street.closed(3), street.answering(4)]
    start = loops.current_time()
    with await race(current(), "a.example", street.port, addresses) as sock:
        assert sock.getpeername() == ("127.0.0.4", street.port)
    assert loops.current_time() == start


async def test_the_next_address_is_tried_after_a_quarter_of_a_second(
    street: Street, autojump_clock: MockClock
) -> None:
    addresses = [street.silent(1), street.silent(2), street.answering(3)]
    start = loops.current_time()
    before = fds()
    with await race(current(), "a.example", street.port, addresses) as sock:
        assert sock.getpeername() == ("127.0.0.3", street.port)
    assert loops.current_time() == pytest.approx(start + 2 * STAGGER)
    assert STAGGER == 0.25
    assert fds() == before


async def test_a_refusal_does_not_wait_for_an_earlier_address(
    street: Street, autojump_clock: MockClock
) -> None:
    addresses = [street.silent(1), street.closed(2), street.answering(3)]
    start = loops.current_time()
    with await race(current(), "a.example", street.port, addresses) as sock:
        assert sock.getpeername() == ("127.0.0.3", street.port)
    assert loops.current_time() == pytest.approx(start + STAGGER)


async def test_a_late_failure_starts_the_next_address_at_once(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eyeballs, "STAGGER", 3600)
    addresses = [street.silent(1), street.answering(2)]

    async def stop_listening() -> None:
        await loops.settle()
        street.holes[0].close()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(stop_listening)
        with await race(current(), "a.example", street.port, addresses) as sock:
            assert sock.getpeername() == ("127.0.0.2", street.port)


async def test_an_early_address_may_win_late_and_the_losers_are_closed(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eyeballs, "STAGGER", 0.001)
    runtime, record = watched()
    addresses = [street.silent(1), street.silent(2), street.silent(3)]
    before = fds()

    async def make_room() -> None:
        await loops.settle(0.05)
        street.holes[0].accept()[0].close()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(make_room)
        with await race(runtime, "a.example", street.port, addresses) as sock:
            assert sock.getpeername() == ("127.0.0.1", street.port)
            assert sock.fileno() not in record.closed
            # Two losers and the selector.
            assert len(record.closed) == 3
    assert fds() == before


async def test_a_wake_up_without_news_is_not_taken_for_a_connection(
    street: Street, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    calls: list[TcpTarget] = []

    def hesitant(sock: socket.socket, target: TcpTarget) -> bool:
        # A socket that is not connecting wakes whoever polls it.
        calls.append(target)
        return len(calls) > 2 and decided(sock, target)

    monkeypatch.setattr(eyeballs, "decided", hesitant)
    addresses = [street.answering(2), street.silent(1)]
    with await race(current(), "a.example", street.port, addresses) as sock:
        assert sock.getpeername() == ("127.0.0.2", street.port)
    assert calls == 3 * [("127.0.0.2", street.port)]


async def test_all_failures_are_told_in_one_error(
    street: Street, autojump_clock: MockClock
) -> None:
    addresses = [(V6, "fe80::1%nosuch0"), street.closed(2), street.closed(3)]
    before = fds()
    with pytest.raises(SocketError) as caught:
        await race(current(), "a.example", street.port, addresses)
    error = caught.value
    assert error.code == "refused"
    assert error.errno == errno.ECONNREFUSED
    assert f"could not connect to a.example:{street.port}: " in str(error)
    assert f"[fe80::1%nosuch0]:{street.port}: " in str(error)
    assert f"127.0.0.2:{street.port}: Connection refused" in str(error)
    assert f"127.0.0.3:{street.port}: Connection refused" in str(error)
    assert isinstance(error.__cause__, ExceptionGroup)
    assert len(error.__cause__.exceptions) == 3
    assert fds() == before


async def test_it_fails_when_the_last_pending_address_has_failed(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eyeballs, "STAGGER", 0.001)
    addresses = [street.silent(1), street.closed(2)]
    before = fds()

    async def stop_listening() -> None:
        await loops.settle(0.05)
        street.holes[0].close()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(stop_listening)
        with pytest.raises(SocketError) as caught:
            await race(current(), "a.example", street.port, addresses)
    assert caught.value.code == "refused"
    # The listener is closed by now.
    assert len(fds()) == len(before) - 1


async def test_the_policy_is_asked_about_each_address_when_its_turn_has_come(
    street: Street, autojump_clock: MockClock
) -> None:
    asked: list[tuple[str, float]] = []
    start = loops.current_time()

    def policy(host: str, address: str, port: int) -> object:
        assert (host, port) == ("a.example", street.port)
        asked.append((address, loops.current_time() - start))
        return address != "127.0.0.2"

    addresses = [
        street.silent(1),
        street.answering(2),
        street.answering(3),
        street.closed(4),
    ]
    with await race(current(), "a.example", street.port, addresses, policy) as sock:
        assert sock.getpeername() == ("127.0.0.3", street.port)
    assert asked == [
        ("127.0.0.1", 0),
        ("127.0.0.2", pytest.approx(STAGGER)),
        ("127.0.0.3", pytest.approx(STAGGER)),
    ]


async def test_no_packet_is_sent_to_a_refused_address(street: Street) -> None:
    refused = street.answering(2)
    witness = street.server
    addresses = [refused, street.answering(3)]

    def policy(host: str, address: str, port: int) -> object:
        return address != "127.0.0.2"

    (await race(current(), "a.example", street.port, addresses, policy)).close()
    assert connections(witness) == 0
    assert connections(street.server) == 1
    # The witness does see what is not refused.
    (await race(current(), "a.example", street.port, addresses)).close()
    assert connections(witness) == 1


async def test_the_code_is_policy_where_all_addresses_are_refused_by_it(
    street: Street,
) -> None:
    cause = PermissionError("not here")

    def policy(host: str, address: str, port: int) -> object:
        raise cause

    addresses = [street.answering(2), street.answering(3)]
    with pytest.raises(SocketError) as caught:
        await race(current(), "a.example", street.port, addresses, policy)
    assert caught.value.code == "policy"
    assert str(caught.value).count("refused by the policy: not here") == 2
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [error.__cause__ for error in group.exceptions] == [cause, cause]


async def test_a_policy_that_is_interrupted_closes_what_is_under_way(
    street: Street, autojump_clock: MockClock
) -> None:
    def policy(host: str, address: str, port: int) -> object:
        if address == "127.0.0.2":
            raise KeyboardInterrupt
        return True

    addresses = [street.silent(1), street.silent(2)]
    before = fds()
    with pytest.raises(KeyboardInterrupt):
        await race(current(), "a.example", street.port, addresses, policy)
    assert fds() == before


@pytest.mark.parametrize("after", [0, 0.3, 0.6, 10])
async def test_a_cancelled_race_closes_every_fd(
    street: Street, after: float, autojump_clock: MockClock
) -> None:
    runtime, record = watched()
    addresses = [street.silent(last) for last in (1, 2, 3)]
    before = fds()
    with loops.move_on_after(after) as scope:
        await race(runtime, "a.example", street.port, addresses)
    assert scope.cancelled_caught
    assert fds() == before
    started = 1 + min(int(after / STAGGER), 2)
    assert len(record.closed) == started + 1


async def test_many_silent_addresses_are_all_tried(
    street: Street, autojump_clock: MockClock
) -> None:
    addresses = [street.silent(last) for last in range(1, 64)]
    addresses.append(street.answering(64))
    start = loops.current_time()
    before = fds()
    with await race(current(), "a.example", street.port, addresses) as sock:
        assert sock.getpeername() == ("127.0.0.64", street.port)
    assert loops.current_time() == pytest.approx(start + 63 * STAGGER)
    assert fds() == before


@pytest.mark.parametrize("free", [0, 1])
async def test_without_enough_fds_the_error_says_so(street: Street, free: int) -> None:
    addresses = [street.answering(2), street.answering(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # They take the lowest numbers, so that none is left below the last of them.
    highest = max(int(fd) for fd in fds())
    fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + free, hard))
    try:
        with pytest.raises(SocketError) as caught:
            await race(current(), "a.example", street.port, addresses)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)
    assert caught.value.code == "os"
    assert caught.value.errno == errno.EMFILE


async def test_a_selector_that_takes_no_more_sockets_is_an_error(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(selectors.DefaultSelector):
        def register(self, *_: object) -> NoReturn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(selectors, "DefaultSelector", Full)
    before = fds()
    with pytest.raises(SocketError) as caught:
        await race(current(), "a.example", street.port, 2 * [street.silent(1)])
    assert (caught.value.code, caught.value.errno) == ("os", errno.ENOSPC)
    assert fds() == before


def test_an_unreachable_family_costs_no_time() -> None:
    async def connect() -> None:
        runtime, record = watched()
        with listener() as server:
            port = server.getsockname()[1]
            addresses = [(V6, "2001:db8::1"), (V4, "198.51.100.1"), (V4, "127.0.0.1")]
            with await race(runtime, "a.example", port, addresses) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)
            with pytest.raises(SocketError) as caught:
                await race(runtime, "a.example", port, addresses[:2])
        assert caught.value.code == "unreachable"
        assert caught.value.errno == errno.ENETUNREACH
        assert not record.pauses

    in_own_network([], connect)
