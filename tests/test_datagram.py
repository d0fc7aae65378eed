"""Datagrams through one descriptor: tries, never waits."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.naming import named
from tests.network import in_own_network
from wsockets import SocketError
from wsockets.datagram import Datagrams
from wsockets.runtime.gate import Want

LARGEST = {"127.0.0.1": 65507, "::1": 65527}


def open_udp(ip: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


@pytest.fixture(params=LARGEST)
def ip(request: pytest.FixtureRequest) -> str:
    address: str = request.param
    return address


@pytest.fixture
def pair(ip: str) -> Iterator[tuple[Datagrams, Datagrams]]:
    """A socket that is bound, and one that is connected to it."""
    with open_udp(ip) as server, open_udp(ip) as client:
        server.bind((ip, 0))
        client.connect(server.getsockname())
        yield Datagrams(server, connected=False), Datagrams(client, connected=True)


def test_a_datagram_arrives_with_its_sender(
    ip: str, pair: tuple[Datagrams, Datagrams]
) -> None:
    server, client = pair
    assert client.send(b"question", None) is None
    data, sender, truncated = received(server)
    assert (data, truncated) == (b"question", False)
    assert sender == client.socket.getsockname()
    assert server.send(b"answer", sender) is None
    answer = received(client)
    assert answer.data == b"answer"
    assert answer.sender[:2] == server.socket.getsockname()[:2]


def received(datagrams: Datagrams, limit: int = 65536) -> Any:
    found = datagrams.receive(limit)
    assert not isinstance(found, Want)
    return found


def test_without_a_datagram_it_wants_to_read(pair: tuple[Datagrams, Datagrams]) -> None:
    for each in pair:
        assert each.receive(65536) is Want.READ


def test_datagrams_keep_their_bounds(pair: tuple[Datagrams, Datagrams]) -> None:
    server, client = pair
    sizes = [1, 0, 1472, 9000, 0]
    for size in sizes:
        assert client.send(bytes(size), None) is None
    assert [len(received(server).data) for _ in sizes] == sizes
    assert server.receive(65536) is Want.READ


def test_the_largest_datagram_arrives_whole_and_a_larger_one_is_its_own_failure(
    ip: str, pair: tuple[Datagrams, Datagrams]
) -> None:
    server, client = pair
    size = LARGEST[ip]
    assert client.send(bytes(size), None) is None
    assert received(server) == (bytes(size), client.socket.getsockname(), False)
    failure = client.send(bytes(size + 1), None)
    assert isinstance(failure, SocketError)
    assert (failure.code, failure.errno) == ("os", errno.EMSGSIZE)
    assert f"could not send a datagram of {size + 1} bytes" in str(failure)
    assert isinstance(failure.__cause__, OSError)
    assert client.send(b"x", None) is None


def test_what_does_not_fit_is_told_of(pair: tuple[Datagrams, Datagrams]) -> None:
    server, client = pair
    for size in (99, 100, 101):
        assert client.send(bytes(size), None) is None
    got = [received(server, 100) for _ in range(3)]
    assert [(len(data), truncated) for data, _, truncated in got] == [
        (99, False),
        (100, False),
        (100, True),
    ]


def test_a_unix_datagram_can_be_longer_than_any_of_udp() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(bytes(70_000))
        found = received(Datagrams(ours, connected=True))
    assert (len(found.data), found.truncated) == (65536, True)


def test_when_the_kernel_is_full_it_wants_to_write() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        datagrams = Datagrams(ours, connected=True)
        count = 0
        while (outcome := datagrams.send(b"x", None)) is None:
            count += 1
        assert outcome is Want.WRITE
        for _ in range(count):
            assert theirs.recv(10) == b"x"
        assert datagrams.send(b"x", None) is None


@pytest.mark.parametrize("call", ["receive", "send"])
def test_a_port_that_nobody_listens_at_fails_the_next_call(ip: str, call: str) -> None:
    with open_udp(ip) as sock:
        with open_udp(ip) as gone:
            gone.bind((ip, 0))
            address = gone.getsockname()
        sock.connect(address)
        datagrams = Datagrams(sock, connected=True)
        assert datagrams.send(b"is anybody there?", None) is None
        with pytest.raises(SocketError) as caught:
            if call == "send":
                datagrams.send(b"hello?", None)
            else:
                datagrams.receive(65536)
        assert caught.value.code == "refused"
        assert caught.value.errno == errno.ECONNREFUSED
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        # The kernel tells it once.
        assert datagrams.receive(65536) is Want.READ


def test_a_bound_socket_is_not_told_of_it(ip: str) -> None:
    with open_udp(ip) as sock:
        with open_udp(ip) as gone:
            gone.bind((ip, 0))
            address = gone.getsockname()
        sock.bind((ip, 0))
        datagrams = Datagrams(sock, connected=False)
        for _ in range(2):
            assert datagrams.send(b"is anybody there?", address) is None
        assert datagrams.receive(65536) is Want.READ


class Scripted:
    """A socket whose calls raise, one error after the other."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def _next(self) -> None:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, errno.errorcode[number])

    def send(self, data: bytes) -> None:
        self._next()

    def sendto(self, data: bytes, target: object) -> None:
        self._next()

    def recvmsg(self, limit: int) -> Any:
        self._next()
        return b"data", [], 0, ("127.0.0.1", 1)


def scripted(*errors: int, connected: bool = True) -> Datagrams:
    sock: Any = Scripted(*errors)
    return Datagrams(sock, connected=connected)


def test_an_earlier_datagram_that_was_too_long_for_the_way_fails_no_call() -> None:
    assert scripted(errno.EMSGSIZE).send(b"short", None) is None
    assert scripted(errno.EMSGSIZE, errno.EMSGSIZE).receive(65536) == (
        b"data",
        ("127.0.0.1", 1),
        False,
    )
    failure = scripted(errno.EMSGSIZE, errno.EMSGSIZE).send(b"long", None)
    assert isinstance(failure, SocketError)
    assert failure.errno == errno.EMSGSIZE


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EACCES, "os"),
    ],
    ids=named,
)
def test_what_icmp_tells_is_final_on_a_connected_socket_only(
    number: int, code: str
) -> None:
    with pytest.raises(SocketError) as caught:
        scripted(number).send(b"x", None)
    assert caught.value.code == code
    failure = scripted(number, connected=False).send(b"x", ("192.0.2.1", 9))
    assert isinstance(failure, SocketError)
    assert failure.code == code


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOBUFS], ids=named)
def test_other_refusals_concern_one_datagram(number: int) -> None:
    failure = scripted(number).send(b"x", None)
    assert isinstance(failure, SocketError)
    assert (failure.code, failure.errno) == ("os", number)


def test_a_failure_to_receive_is_final() -> None:
    with pytest.raises(SocketError, match="could not receive") as caught:
        scripted(errno.ENOMEM).receive(65536)
    assert caught.value.code == "os"


def test_closing_closes_the_descriptor() -> None:
    sock = open_udp("127.0.0.1")
    Datagrams(sock, connected=False).close()
    assert sock.fileno() == -1


def test_a_router_that_wants_shorter_packets_fails_no_read() -> None:
    """What the kernel remembers of it is EMSGSIZE, at the next call of any kind."""

    async def check() -> None:
        with open_udp("127.0.0.1") as sock, open_udp("127.0.0.1") as server:
            server.bind(("127.0.0.1", 0))
            sock.connect(server.getsockname())
            port, peer = sock.getsockname()[1], server.getsockname()[1]
            datagrams = Datagrams(sock, connected=True)
            assert datagrams.send(bytes(1000), None) is None
            with socket.socket(
                socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP
            ) as raw:
                raw.sendto(fragmentation_needed(port, peer, 600), ("127.0.0.1", 0))
                pending = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                assert pending == errno.EMSGSIZE
                raw.sendto(fragmentation_needed(port, peer, 600), ("127.0.0.1", 0))
            assert datagrams.receive(65536) is Want.READ

    in_own_network([], check)


def fragmentation_needed(port: int, peer: int, mtu: int) -> bytes:
    """ICMP type 3, code 4 (RFC 1191, section 4) about a datagram to `peer`."""
    local = socket.inet_aton("127.0.0.1")
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 1028, 1, 0x4000, 64, 17, 0, local, local
    )
    quoted = header + struct.pack("!HHHH", port, peer, 1008, 0)
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return message[:2] + struct.pack("!H", checksum) + message[4:]
