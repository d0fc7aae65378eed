from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests import loops
from tests.dialling import fds
from tests.network import black_hole, closed_port, in_own_network, listener, watched
from wsockets.dial import attempt
from wsockets.dial.attempt import connect_tcp, connect_unix, open_tcp, tcp_target
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop


@pytest.mark.parametrize(
    ("family", "ip"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
async def test_a_tcp_socket_is_connected_and_set_up(
    family: socket.AddressFamily, ip: str
) -> None:
    with listener(ip) as server:
        port = server.getsockname()[1]
        with await connect_tcp(current(), family, ip, port) as sock:
            assert sock.family == family
            assert sock.getpeername()[:2] == (ip, port)
            assert sock.gettimeout() == 0
            assert not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_connection_that_is_there_at_once_takes_no_wait() -> None:
    runtime, record = watched()
    with listener() as server:
        port = server.getsockname()[1]
        with await connect_tcp(runtime, socket.AF_INET, "127.0.0.1", port):
            assert record.waits == 0


async def test_a_socket_that_starts_blocking_is_made_non_blocking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempt, "_STREAM", socket.SOCK_STREAM)
    monkeypatch.setattr(attempt, "_STARTS_BLOCKING", True)
    with open_tcp(socket.AF_INET) as sock:
        assert not os.get_blocking(sock.fileno())


def test_a_socket_that_cannot_be_set_up_is_closed() -> None:
    before = fds()
    with pytest.raises(OSError):
        open_tcp(socket.AF_UNIX)
    assert fds() == before


async def test_a_refused_connection_raises_and_closes_its_fd() -> None:
    runtime, record = watched()
    with closed_port() as port:
        before = fds()
        with pytest.raises(ConnectionRefusedError):
            await connect_tcp(runtime, socket.AF_INET, "127.0.0.1", port)
        assert fds() == before
    assert len(record.closed) == 1


async def test_a_connection_that_takes_its_time_is_waited_for() -> None:
    runtime, record = watched()
    with black_hole() as server:
        address = server.getsockname()

        async def make_room() -> None:
            await loops.settle()
            server.accept()[0].close()

        async with loops.open_nursery() as nursery:
            nursery.start_soon(make_room)
            with await connect_tcp(runtime, socket.AF_INET, *address) as sock:
                assert sock.getpeername() == address
        assert record.waits == 1


async def test_a_connection_refused_after_a_wait_raises() -> None:
    runtime, record = watched()
    before = fds()
    with black_hole() as server:
        address = server.getsockname()

        async def stop_listening() -> None:
            await loops.settle()
            server.close()

        async with loops.open_nursery() as nursery:
            nursery.start_soon(stop_listening)
            with pytest.raises(ConnectionRefusedError):
                await connect_tcp(runtime, socket.AF_INET, *address)
        assert record.waits == 1
    assert fds() == before


async def test_a_wake_up_without_news_is_not_taken_for_a_connection() -> None:
    runtime, record = watched()
    record.false_alarms = 3
    with black_hole() as server, loops.CancelScope() as scope:
        async with loops.open_nursery() as nursery:

            async def give_up() -> None:
                await loops.settle()
                scope.cancel()

            nursery.start_soon(give_up)
            await connect_tcp(runtime, socket.AF_INET, *server.getsockname())
    assert scope.cancelled_caught
    assert record.waits == 4


async def test_a_cancelled_connection_closes_its_fd() -> None:
    runtime, record = watched()
    with black_hole() as server:
        before = fds()
        with loops.move_on_after(0) as scope:
            await connect_tcp(runtime, socket.AF_INET, *server.getsockname())
        assert scope.cancelled_caught
        assert fds() == before
        assert len(record.closed) == 1


async def test_a_socket_connected_to_itself_counts_as_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bound() -> tuple[socket.socket, int]:
        sock = open_tcp(socket.AF_INET)
        sock.bind(("127.0.0.1", 0))
        return sock, sock.getsockname()[1]

    # That TCP does this at all is what the defence is for.
    sock, port = bound()
    with sock:
        assert sock.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS)
        assert sock.getpeername() == sock.getsockname()

    sock, port = bound()
    monkeypatch.setattr(attempt, "open_tcp", lambda *_: sock)
    with pytest.raises(ConnectionRefusedError, match="met itself"):
        await connect_tcp(current(), socket.AF_INET, "127.0.0.1", port)
    assert sock.fileno() == -1


def test_the_kernels_own_choice_of_port_is_noticed_when_it_meets_itself() -> None:
    async def connect() -> None:
        with pytest.raises(ConnectionRefusedError, match="met itself"):
            await connect_tcp(current(), socket.AF_INET, "127.0.0.1", 40000)

    only_port = "sh -c 'echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range'"
    in_own_network([only_port], connect)


async def test_the_same_port_at_another_host_is_no_meeting_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listener("127.0.0.2") as server, open_tcp(socket.AF_INET) as bound:
        port = server.getsockname()[1]
        bound.bind(("127.0.0.3", port))
        monkeypatch.setattr(attempt, "open_tcp", lambda *_: bound)
        sock = await connect_tcp(current(), socket.AF_INET, "127.0.0.2", port)
        assert sock.getsockname() == ("127.0.0.3", port)


@pytest.mark.parametrize(
    ("commands", "ip", "number"),
    [
        ([], "198.51.100.1", errno.ENETUNREACH),
        (
            ["ip route add unreachable 198.51.100.0/24"],
            "198.51.100.1",
            errno.EHOSTUNREACH,
        ),
        (["ip route add prohibit 198.51.100.0/24"], "198.51.100.1", errno.EACCES),
        ([], "2001:db8::1", errno.ENETUNREACH),
    ],
)
def test_an_address_without_a_way_to_it_is_unreachable(
    commands: list[str], ip: str, number: int
) -> None:
    async def connect() -> None:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        before = fds()
        with pytest.raises(OSError) as caught:
            await connect_tcp(current(), family, ip, 80)
        assert caught.value.errno == number
        assert fds() == before

    in_own_network(commands, connect)


def test_packets_that_vanish_keep_it_waiting_until_it_is_cancelled() -> None:
    async def connect() -> None:
        before = fds()
        with loops.move_on_after(0.05) as scope:
            await connect_tcp(current(), socket.AF_INET, "10.99.0.2", 80)
        assert scope.cancelled_caught
        assert fds() == before

    in_own_network(
        [
            "ip link add here type veth peer name there",
            "ip address add 10.99.0.1/24 dev here",
            "ip link set here up",
            "ip link set there up",
            "ip neighbour add 10.99.0.2 lladdr 02:00:00:00:00:02 dev here",
        ],
        connect,
    )


def test_a_zone_id_becomes_the_scope_of_the_address() -> None:
    loopback = socket.if_nametoindex("lo")
    assert tcp_target("fe80::1", 80) == ("fe80::1", 80)
    assert tcp_target("fe80::1%lo", 80) == ("fe80::1", 80, 0, loopback)
    assert tcp_target("fe80::1%7", 80) == ("fe80::1", 80, 0, 7)


@pytest.mark.parametrize("zone", ["nosuch0", "4294967296", "²"])
def test_a_zone_id_without_an_interface_is_an_oserror(zone: str) -> None:
    with pytest.raises(OSError):
        tcp_target(f"fe80::1%{zone}", 80)


async def test_a_unix_socket_is_connected(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with await connect_unix(current(), path) as sock:
            assert sock.getpeername() == path
            assert not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())


async def test_a_unix_socket_that_is_not_there_raises(tmp_path: Path) -> None:
    runtime, record = watched()
    before = fds()
    with pytest.raises(FileNotFoundError):
        await connect_unix(runtime, str(tmp_path / "s"))
    with pytest.raises(OSError, match="too long"):
        await connect_unix(runtime, "/" + 200 * "x")
    assert fds() == before
    assert len(record.closed) == 2


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A unix listener whose backlog is full, and its path."""
    path = str(tmp_path / "crowded")
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen(0)
        code = 0
        while code != errno.EAGAIN:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            code = sock.connect_ex(path)
        yield path, server


async def test_a_full_backlog_of_a_unix_socket_is_waited_for(
    crowded: tuple[str, socket.socket],
) -> None:
    path, server = crowded

    async def make_room() -> None:
        await loops.settle()
        server.accept()[0].close()

    async with loops.open_nursery() as nursery:
        nursery.start_soon(make_room)
        with await connect_unix(current(), path) as sock:
            assert sock.getpeername() == path


async def test_a_full_backlog_is_tried_again_at_growing_intervals(
    crowded: tuple[str, socket.socket],
    autojump_clock: trio.testing.MockClock,
) -> None:
    path, _ = crowded
    runtime, record = watched()
    before = fds()
    with loops.move_on_after(60) as scope:
        await connect_unix(runtime, path)
    assert scope.cancelled_caught
    assert fds() == before
    pauses = [pause for pause in record.pauses if pause is not None]
    assert pauses == sorted(pauses)
    assert pauses[:3] == [0.001, 0.002, 0.004]
    assert pauses[-1] == 0.1
    assert 500 < len(pauses) < 700


async def test_a_thousand_connections_leave_no_fd() -> None:
    runtime = current()
    with listener() as server:
        port = server.getsockname()[1]
        before = fds()
        for _ in range(1000):
            with await connect_tcp(runtime, socket.AF_INET, "127.0.0.1", port):
                server.accept()[0].close()
        assert fds() == before
