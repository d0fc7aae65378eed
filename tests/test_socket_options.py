"""Options of the operating system's sockets: set, and read back from the kernel."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from tests.naming import named
from wsockets.errors import SocketError
from wsockets.socket_options import SystemOptions, apply, read

EVERYTHING = [field.name for field in attrs.fields(SystemOptions)]
BUFFERS = ["sendBufferSize", "receiveBufferSize"]
NUMERIC = {
    "keepAliveDelay": (1, 32767),
    "keepAliveInterval": (1, 32767),
    "keepAliveCount": (1, 127),
    "linger": (0, 65535),
    "ttl": (1, 255),
    "sendBufferSize": (1, 2**31 - 1),
    "receiveBufferSize": (1, 2**31 - 1),
}


def only(values: dict[str, Any]) -> SystemOptions:
    return SystemOptions(**values)


def opened(family: int, kind: int) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as sock:
        yield sock


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def stream(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    yield from opened(request.param, socket.SOCK_STREAM)


@pytest.mark.parametrize(
    ("name", "value", "level", "option", "stored"),
    [
        ("noDelay", True, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ("noDelay", False, socket.IPPROTO_TCP, socket.TCP_NODELAY, 0),
        ("keepAlive", True, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ("keepAliveDelay", 17, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 17),
        ("keepAliveInterval", 5, socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
        ("keepAliveCount", 3, socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ],
    ids=named,
)
def test_an_option_is_what_the_kernel_has_afterwards(
    stream: socket.socket, name: str, value: Any, level: int, option: int, stored: int
) -> None:
    apply(stream, only({name: value}))
    assert stream.getsockopt(level, option) == stored
    assert getattr(read(stream), name) == value
    assert getattr(read(stream), name).__class__ is value.__class__


@pytest.mark.parametrize("value", ["off", 0, 9], ids=named)
def test_linger_is_off_or_a_time(stream: socket.socket, value: Any) -> None:
    apply(stream, SystemOptions(linger=4))
    apply(stream, SystemOptions(linger=value))
    raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    on, seconds = struct.unpack("ii", raw)
    assert (seconds if on else "off") == value
    assert read(stream).linger == value


def test_the_ttl_of_ipv4_and_the_hops_of_ipv6() -> None:
    with socket.socket(socket.AF_INET) as sock:
        apply(sock, SystemOptions(ttl=7))
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 7
        assert read(sock).ttl == 7
    with socket.socket(socket.AF_INET6) as sock:
        apply(sock, SystemOptions(ttl=7))
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == 7
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 7
        assert read(sock).ttl == 7
    with socket.socket(socket.AF_INET6) as sock:
        before = sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        apply(sock, SystemOptions(ttl=7))
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == before


@pytest.mark.parametrize(
    ("name", "option"),
    [("sendBufferSize", socket.SO_SNDBUF), ("receiveBufferSize", socket.SO_RCVBUF)],
    ids=named,
)
def test_a_buffer_is_at_least_as_large_as_asked_for(
    stream: socket.socket, name: str, option: int
) -> None:
    apply(stream, only({name: 50_000}))
    stored = stream.getsockopt(socket.SOL_SOCKET, option)
    assert stored >= 50_000
    assert getattr(read(stream), name) == stored


def test_what_is_not_given_stays_as_it_is(stream: socket.socket) -> None:
    apply(stream, SystemOptions(noDelay=True, ttl=9))
    apply(stream, SystemOptions(keepAlive=True))
    found = read(stream)
    assert (found.noDelay, found.ttl, found.keepAlive) == (True, 9, True)


@pytest.mark.parametrize(
    ("family", "kind", "has"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, [*EVERYTHING]),
        (socket.AF_INET6, socket.SOCK_STREAM, [*EVERYTHING]),
        (socket.AF_INET, socket.SOCK_DGRAM, ["ttl", *BUFFERS]),
        (socket.AF_UNIX, socket.SOCK_STREAM, ["linger", *BUFFERS]),
        (socket.AF_UNIX, socket.SOCK_DGRAM, [*BUFFERS]),
    ],
    ids=named,
)
def test_a_socket_has_the_options_of_its_kind(
    family: int, kind: int, has: list[str]
) -> None:
    values: dict[str, Any] = {
        "noDelay": True,
        "keepAlive": True,
        "linger": "off",
        **{name: low or 1 for name, (low, _) in NUMERIC.items() if name != "linger"},
    }
    with socket.socket(family, kind) as sock:
        found = read(sock)
        there = {name for name in EVERYTHING if getattr(found, name) is not None}
        assert there == set(has)
        for name in EVERYTHING:
            options = only({"sendBufferSize": 60_000, name: values[name]})
            before = read(sock)
            if name in has:
                apply(sock, options)
                continue
            with pytest.raises(SocketError, match=f"{name} is no option of a") as told:
                apply(sock, options)
            assert told.value.code == "option"
            assert read(sock) == before


@pytest.mark.parametrize("name", NUMERIC)
def test_a_number_has_its_range(name: str) -> None:
    low, high = NUMERIC[name]
    for right in (low, high):
        assert getattr(only({name: right}), name) == right
    for wrong in (low - 1, high + 1, True, False, 2.0, "2", "on", b"off", [2]):
        with pytest.raises(SocketError, match=f"{name} is an int from {low}") as told:
            only({name: wrong})
        assert told.value.code == "option"


@pytest.mark.parametrize("name", ["noDelay", "keepAlive"])
def test_a_switch_is_a_bool(name: str) -> None:
    for wrong in (0, 1, "off", 2.5):
        with pytest.raises(SocketError, match=f"{name} is True or False"):
            only({name: wrong})


def test_nothing_given_is_nothing() -> None:
    assert set(attrs.asdict(SystemOptions()).values()) == {None}


def test_a_refusal_of_the_operating_system_names_the_option() -> None:
    class Refusing(socket.socket):
        def setsockopt(self, *_: Any) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

    with Refusing() as sock:
        with pytest.raises(SocketError, match="could not set ttl to 3: Oper") as told:
            apply(sock, SystemOptions(ttl=3))
    assert told.value.code == "option"
    assert told.value.errno == errno.EPERM
    assert isinstance(told.value.__cause__, OSError)


def test_the_options_of_a_closed_socket_cannot_be_read() -> None:
    sock = socket.socket()
    sock.close()
    with pytest.raises(SocketError, match="could not read the socket's") as told:
        read(sock)
    assert told.value.code == "state"
    assert told.value.errno == errno.EBADF
