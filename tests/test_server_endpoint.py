"""Where a server listens: addresses, unix files, sockets that listen already."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import loops
from tests.naming import named
from tests.servers.program import folder
from tests.serving import plain, served, take
from wsockets import SocketAddress, SocketError, UnixAddress, connect, listen

pytestmark = pytest.mark.every_loop


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("listen") as found:
        yield found / "socket"


def dialled(family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family)
    sock.settimeout(10)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


# -- TCP


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("127.0.0.1:0", "127.0.0.1:"),
        ("127.1.2.3:0", "127.1.2.3:"),
        ("localhost:0", "127.0.0.1:"),
        ("LOCALHOST.:0", "127.0.0.1:"),
        ("[::1]:0", "[::1]:"),
        ("0.0.0.0:0", "0.0.0.0:"),
        ("[::]:0", "[::]:"),
        (":0", "[::]:"),
        ({"hostname": "", "port": 0}, "[::]:"),
        (SocketAddress("127.0.0.1", 0), "127.0.0.1:"),
    ],
    ids=named,
)
async def test_an_address_is_listened_on(address: Any, shown: str) -> None:
    async with served(address=address) as server:
        host, _, port = server.localAddress.rpartition(":")
        assert host + ":" == shown
        assert int(port) > 0
        assert (await server.opened).local_address == server.localAddress


async def test_a_port_that_was_free_can_be_had_by_its_number() -> None:
    async with served() as first:
        address = first.localAddress
        with plain(first):
            found = await take(first)
            # Our end goes first: its connection is still in TIME_WAIT.
            await found.close()
    async with served(address=address) as again:
        assert again.localAddress == address


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("example.com:0", "address"),
        ("127.0.0.1", "address"),
        ("127.0.0.1:65536", "address"),
        ("", "address"),
        (True, "address"),
        (None, "address"),
        (1.5, "address"),
        ("unix:@abstract", "address"),
        (-1, "option"),
        (2**31, "option"),
    ],
    ids=named,
)
async def test_what_cannot_be_listened_on_is_refused_at_the_call(
    address: Any, code: str
) -> None:
    with pytest.raises(SocketError) as caught:
        listen(address)
    assert caught.value.code == code


async def test_an_address_that_is_taken_is_refused_at_the_call() -> None:
    async with served() as server:
        with pytest.raises(SocketError, match="in use") as caught:
            listen(server.localAddress)
        assert caught.value.code == "os"
        assert caught.value.errno == errno.EADDRINUSE
        assert isinstance(caught.value.__cause__, OSError)


async def test_an_address_of_nobodys_is_refused_at_the_call() -> None:
    for address in ("192.0.2.1:0", "[2001:db8::1]:0", "[fe80::1%none]:0"):
        with pytest.raises(SocketError) as caught:
            listen(address)
        assert caught.value.code == "os"


async def test_a_link_local_address_has_its_zone() -> None:
    with pytest.raises(SocketError, match=r"fe80::1%1") as caught:
        listen("[fe80::1%1]:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL


async def test_all_interfaces_are_those_of_both_kinds() -> None:
    async with served(address=":0") as server:
        port = int(server.localAddress.rpartition(":")[2])
        for family, host in (
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET6, "::1"),
        ):
            with dialled(family, (host, port)):
                found = await take(server)
                assert (await found.opened).localAddress is not None
                await found.close()


@pytest.mark.parametrize("address", [":0", "[::]:0"])
async def test_ipv6_only_leaves_ipv4_out(address: str) -> None:
    async with served(address=address, ipv6Only=True) as server:
        port = int(server.localAddress.rpartition(":")[2])
        with dialled(socket.AF_INET6, ("::1", port)):
            pass
        with pytest.raises(ConnectionRefusedError):
            dialled(socket.AF_INET, ("127.0.0.1", port))
    with pytest.raises(SocketError, match="ipv6Only"):
        listen("127.0.0.1:0", ipv6Only=True)


async def test_without_ipv6_all_interfaces_are_those_of_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = socket.socket

    class WithoutIPv6(really):  # type: ignore[misc, valid-type]
        def __init__(self, family: int = -1, *args: Any, **members: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *args, **members)

    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    async with served(address=":0") as server:
        assert server.localAddress.startswith("0.0.0.0:")
        with pytest.raises(SocketError, match="in use"):
            listen(":" + server.localAddress.rpartition(":")[2])
    for address in (":0", "[::]:0"):
        with pytest.raises(SocketError) as caught:
            listen(address, ipv6Only=True)
        assert caught.value.errno == errno.EAFNOSUPPORT


async def test_a_port_may_be_shared_where_all_agree() -> None:
    async with served(reusePort=True) as first:
        async with served(address=first.localAddress, reusePort=True) as second:
            assert second.localAddress == first.localAddress
        with pytest.raises(SocketError, match="in use"):
            listen(first.localAddress)


async def test_connections_have_no_delay() -> None:
    async with served() as server:
        with plain(server):
            found = await take(server)
            assert found._connection is not None
            sock = found._connection.socket
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.getblocking()
            assert not os.get_inheritable(sock.fileno())
            await found.close()


async def test_a_full_backlog_keeps_others_waiting() -> None:
    async with served(backlog=1) as server:
        waiting = []
        for count in range(1, 17):
            waiting.append(plain(server))
            while server.stats.waiting < count:
                await loops.checkpoint()
        waiting += [plain(server) for _ in range(2)]
        with socket.socket() as refused:
            refused.settimeout(0.1)
            port = int(server.localAddress.rpartition(":")[2])
            with pytest.raises(TimeoutError):
                refused.connect(("127.0.0.1", port))
        for _ in range(18):
            await (await take(server)).close()
        for sock in waiting:
            sock.close()


# -- unix sockets


@pytest.mark.parametrize("make", [lambda path: f"unix:{path}", UnixAddress, None])
async def test_a_unix_socket_is_made_and_removed(path: Path, make: Any) -> None:
    address = make(str(path)) if make else f"unix:{path}"
    async with served(address=address) as server:
        assert server.localAddress == f"unix:{path}"
        assert stat.S_ISSOCK(path.stat().st_mode)
        async with connect(f"unix:{path}") as client:
            found = await take(server)
            assert (await found.opened).remoteAddress == "unix:"
            await client.writable.getWriter().write("hello")
            assert (await found.readable.getReader().read()).value == b"hello"
            await found.close()
    assert not path.exists()


async def test_a_unix_socket_is_removed_wherever_the_process_has_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with served(address="unix:./socket") as server:
        assert server.localAddress == "unix:./socket"
        monkeypatch.chdir("/")
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    assert path.exists()
    async with served(address=f"unix:{path}"):
        with dialled(socket.AF_UNIX, str(path)):
            pass


async def test_a_unix_socket_that_somebody_serves_is_taken(path: Path) -> None:
    async with served(address=f"unix:{path}"):
        with pytest.raises(SocketError, match="in use") as caught:
            listen(f"unix:{path}")
        assert caught.value.errno == errno.EADDRINUSE
        assert path.exists()
        # Even where it is busy.
        with socket.socket(socket.AF_UNIX) as busy:
            other = path.with_name("busy")
            busy.bind(str(other))
            busy.listen(0)
            with dialled(socket.AF_UNIX, str(other)):
                with pytest.raises(SocketError, match="in use"):
                    listen(f"unix:{other}")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
async def test_what_is_no_socket_is_left_alone(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(SocketError, match="no socket") as caught:
        listen(f"unix:{path}")
    assert caught.value.errno == errno.EADDRINUSE
    assert os.path.lexists(path)


async def test_a_file_that_was_replaced_meanwhile_is_left_alone(path: Path) -> None:
    async with served(address=f"unix:{path}") as server:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            await server.close()
            assert path.exists()
    async with served(address=f"unix:{path}") as server:
        path.unlink()
    assert not path.exists()


async def test_a_path_that_cannot_be_had_is_refused_at_the_call(path: Path) -> None:
    with pytest.raises(SocketError) as caught:
        listen(f"unix:{path}/below")
    assert caught.value.code == "os"
    assert caught.value.errno == errno.ENOENT
    for member in ("reusePort", "ipv6Only"):
        with pytest.raises(SocketError, match=member):
            listen(f"unix:{path}", {member: True})
    assert not path.exists()


async def test_a_server_that_cannot_be_made_leaves_no_file(path: Path) -> None:
    async with loops.native_nursery() as (nursery, _):
        pass
    with pytest.raises(RuntimeError):
        listen(f"unix:{path}", nursery=nursery)
    assert not path.exists()


# -- sockets that listen already


@pytest.mark.parametrize("as_fd", [False, True])
async def test_a_socket_that_listens_already_is_taken_over(as_fd: bool) -> None:
    made = socket.create_server(("127.0.0.1", 0))
    port = made.getsockname()[1]
    async with served(address=made.detach() if as_fd else made) as server:
        assert made.fileno() == -1
        assert server.localAddress == f"127.0.0.1:{port}"
        with plain(server):
            found = await take(server)
            await found.close()


async def test_a_unix_socket_of_others_is_theirs_to_remove(path: Path) -> None:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    async with served(address=made):
        pass
    assert path.exists()


@pytest.mark.parametrize("kind", ["connected", "bound", "datagram", "closed"])
async def test_a_socket_that_does_not_listen_is_refused_and_stays_the_callers(
    kind: str,
) -> None:
    near, far = socket.socketpair()
    made = {
        "connected": near,
        "bound": socket.socket(),
        "datagram": socket.socket(type=socket.SOCK_DGRAM),
        "closed": socket.socket(),
    }
    if kind == "closed":
        made[kind].close()
    with pytest.raises(SocketError, match="listens") as caught:
        listen(made[kind])
    assert caught.value.code == "option"
    if kind != "closed":
        made[kind].getsockname()
    for each in (*made.values(), far):
        each.close()


async def test_a_descriptor_that_is_no_socket_is_refused(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        with pytest.raises(SocketError, match="is not a socket"):
            listen(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "members", [{"backlog": 5}, {"reusePort": True}, {"ipv6Only": True}], ids=named
)
async def test_what_is_decided_already_cannot_be_asked_for(members: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        with pytest.raises(SocketError, match=next(iter(members))):
            listen(made, members)
