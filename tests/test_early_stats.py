"""What the kernel has counted, read at every stage of a connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.network import tcp_pair
from wsockets.early import stats
from wsockets.early.stats import SocketStats, idle_seconds, read_stats

NO_LINGER = b"\1\0\0\0\0\0\0\0"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection, with three bytes under way each way."""
    one, other = tcp_pair()
    with one, other:
        one.sendall(b"abc")
        other.sendall(b"def")
        assert one.recv(3, socket.MSG_WAITALL) == b"def"
        assert other.recv(3, socket.MSG_WAITALL) == b"abc"
        yield one, other


Ends = tuple[socket.socket, socket.socket]


def bytes_of(sock: socket.socket, *, broken: bool = False) -> tuple[object, object]:
    found = read_stats(sock, broken=broken)
    return found.bytesSent, found.bytesReceived


def test_an_open_connection(ends: Ends) -> None:
    assert bytes_of(ends[0]) == bytes_of(ends[1]) == (3, 3)


def test_the_fin_of_either_end_is_no_byte(ends: Ends) -> None:
    one, other = ends
    one.shutdown(socket.SHUT_WR)
    assert other.recv(1) == b""
    assert bytes_of(one) == bytes_of(other) == (3, 3)
    other.shutdown(socket.SHUT_WR)
    assert one.recv(1) == b""
    assert bytes_of(one) == bytes_of(other) == (3, 3)


def test_an_rst_is_no_byte_either(ends: Ends) -> None:
    one, other = ends
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    other.close()
    assert bytes_of(one) == (3, 3)
    with pytest.raises(ConnectionResetError):
        one.recv(1)
    assert bytes_of(one, broken=True) == (3, 3)


def test_what_waits_behind_a_full_window_was_sent_and_the_fin_was_not(
    ends: Ends,
) -> None:
    one, other = ends
    one.setblocking(False)
    sent = 3
    with pytest.raises(BlockingIOError):
        while True:
            sent += one.send(bytes(65536))
    assert bytes_of(one) == (sent, 3)
    one.shutdown(socket.SHUT_WR)
    assert bytes_of(one) == (sent, 3)
    while other.recv(1 << 20):
        pass
    assert bytes_of(other) == (3, sent)


def test_it_has_been_idle_since_the_last_byte(ends: Ends) -> None:
    idle = idle_seconds(ends[0])
    assert idle is not None
    assert 0 <= idle < 5


def test_members_have_both_spellings(ends: Ends) -> None:
    found = read_stats(ends[0])
    assert found.bytes_sent == found.bytesSent == 3
    assert found.bytes_received == found.bytesReceived == 3
    assert found.packets_sent == found.packetsSent
    assert found.packets_received == found.packetsReceived


def test_where_nobody_counts_nothing_is_known(ends: Ends) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert read_stats(one) == SocketStats()
        assert idle_seconds(one) is None
    ends[0].close()
    assert read_stats(ends[0]) == SocketStats()


def test_a_system_that_tells_too_little_tells_nothing(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "_SIZE", 4096)
    assert read_stats(ends[0]) == SocketStats()
