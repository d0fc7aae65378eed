"""What is done to a socket between its making and its connecting."""

from __future__ import annotations

import socket

import pytest

from tests.dialling import Names, failure, fds
from tests.network import listener
from tests.proxies import HttpProxy, echo_server, served
from wsockets.address import SocketAddress
from wsockets.dial import Dialling, dial, parse_proxy
from wsockets.errors import SocketError
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def bound(sock: socket.socket) -> None:
    """Only a socket that is not connected yet lets itself be bound."""
    sock.bind(("127.0.0.3", 0))


async def test_a_socket_is_prepared_before_it_connects() -> None:
    with listener() as server:
        address = SocketAddress("127.0.0.1", server.getsockname()[1])
        with await dial(current(), address, prepare=bound) as sock:
            assert sock.getsockname()[0] == "127.0.0.3"
        dialling = Dialling(
            *(current(), address, None, None, False, None), prepare=bound
        )
        with dialling.at_once() or await dialling.finish() as sock:
            assert sock.getsockname()[0] == "127.0.0.3"


async def test_each_of_several_addresses_is_prepared_and_may_be_unfit() -> None:
    names = Names([(V6, "::1"), (V4, "127.0.0.1")])
    with listener() as server:
        address = SocketAddress("a.example", server.getsockname()[1])
        with await dial(current(), address, resolver=names, prepare=bound) as sock:
            assert sock.getsockname()[0] == "127.0.0.3"


async def test_the_socket_that_leads_to_a_proxy_is_prepared() -> None:
    async with served(echo_server()) as port, served(HttpProxy()) as proxy_port:
        proxy = parse_proxy(f"http://127.0.0.1:{proxy_port}")
        address = SocketAddress("127.0.0.1", port)
        with await dial(current(), address, proxy=proxy, prepare=bound) as sock:
            assert sock.getsockname()[0] == "127.0.0.3"


@pytest.mark.parametrize(
    "answer", [[(V4, "127.0.0.1")], [(V6, "::1"), (V4, "127.0.0.1")]]
)
async def test_what_refuses_to_be_prepared_is_closed(
    answer: list[tuple[int, str]],
) -> None:
    def refuse(_: socket.socket) -> None:
        raise SocketError("no such option", code="option")

    before = fds()
    address = SocketAddress("a.example", 9)
    with pytest.raises(SocketError, match="no such option"):
        await dial(current(), address, resolver=Names(answer), prepare=refuse)
    assert fds() == before


async def test_an_address_that_cannot_be_bound_is_an_error_of_the_connection() -> None:
    error = await failure(address=SocketAddress("::1", 9), prepare=bound)
    assert error.code in ("unreachable", "os")
