from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests import loops
from tests.naming import named
from wsockets.dial.resolve import MAX_ADDRESSES, Resolver, resolve
from wsockets.errors import SocketError
from wsockets.runtime import Runtime, current

pytestmark = pytest.mark.every_loop

V4, V6 = socket.AF_INET, socket.AF_INET6


def answering(answer: Any) -> Resolver:
    """A resolver that gives `answer`, or raises it."""

    async def resolver(host: str, port: int) -> Any:
        await loops.checkpoint()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return resolver


class Failing:
    """A runtime whose look-up of names fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def getaddrinfo(self, host: str, port: int) -> list[tuple[int, str]]:
        raise self._error


async def resolved(answer: Any) -> list[tuple[socket.AddressFamily, str]]:
    return await resolve(current(), "a.example", 80, answering(answer))


async def test_localhost_is_found_by_the_systems_resolver() -> None:
    found = await resolve(current(), "localhost", 80)
    assert found
    assert all(ipaddress.ip_address(ip).is_loopback for _, ip in found)


async def test_a_name_that_does_not_exist_is_a_dns_error_with_its_cause() -> None:
    cause = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(SocketError) as caught:
        await resolve(cast("Runtime", Failing(cause)), "a.example", 80)
    assert caught.value.code == "dns"
    assert caught.value.errno is None
    assert caught.value.__cause__ is cause
    assert str(caught.value) == (
        "SocketError: could not resolve 'a.example': Name or service not known"
    )


async def test_a_name_that_dns_cannot_hold_is_a_dns_error() -> None:
    with pytest.raises(SocketError) as caught:
        await resolve(current(), "a..example", 80)
    assert caught.value.code == "dns"
    assert isinstance(caught.value.__cause__, UnicodeError)


async def test_the_users_resolver_is_asked_with_host_and_port() -> None:
    asked: list[tuple[str, int]] = []

    async def resolver(host: str, port: int) -> list[tuple[int, str]]:
        await loops.checkpoint()
        asked.append((host, port))
        return [(V4, "192.0.2.1")]

    assert await resolve(current(), "a.example.", 80, resolver) == [(V4, "192.0.2.1")]
    assert asked == [("a.example.", 80)]


async def test_families_take_turns_beginning_with_the_first() -> None:
    v4 = [(int(V4), f"192.0.2.{last}") for last in range(4)]
    v6 = [(int(V6), "2001:db8::1"), (int(V6), "2001:db8::2")]
    assert [ip for _, ip in await resolved(v4 + v6)] == [
        "192.0.2.0",
        "2001:db8::1",
        "192.0.2.1",
        "2001:db8::2",
        "192.0.2.2",
        "192.0.2.3",
    ]
    assert [family for family, _ in await resolved(v6 + v4)][:5] == [V6, V4, V6, V4, V4]


ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: (V4, str(ip))),
    st.ip_addresses(v=6).map(
        lambda ip: (V6, socket.inet_ntop(V6, ip.packed)),
    ),
)


@given(st.lists(ADDRESSES, min_size=1, max_size=MAX_ADDRESSES))
def test_no_address_is_lost_or_added_and_each_family_keeps_its_order(
    answer: list[tuple[socket.AddressFamily, str]],
) -> None:
    found = trio.run(resolved, answer)
    for family in (V4, V6):
        wanted = list(dict.fromkeys(each for each in answer if each[0] == family))
        assert [each for each in found if each[0] == family] == wanted
    both = min(
        len({each for each in answer if each[0] == family}) for family in (V4, V6)
    )
    turns = found[: 2 * both]
    assert all(one[0] != other[0] for one, other in pairwise(turns))


async def test_an_address_given_twice_is_tried_once() -> None:
    answer = [(V6, "2001:DB8:0::1"), (V6, "2001:db8::1"), (V6, "2001:db8::2")]
    assert await resolved(answer) == [(V6, "2001:db8::1"), (V6, "2001:db8::2")]


async def test_an_endless_answer_is_cut_off() -> None:
    def endless() -> Iterator[tuple[int, str]]:
        while True:
            for last in range(256):
                yield V4, f"192.0.2.{last}"

    assert len(await resolved(endless())) == MAX_ADDRESSES


async def test_a_link_local_address_keeps_its_zone() -> None:
    assert await resolved([(V6, "FE80::1%eth0")]) == [(V6, "fe80::1%eth0")]
    assert await resolved([(V6, "febf::1%2")]) == [(V6, "febf::1%2")]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        None,
        7,
        "192.0.2.1",
        ["192.0.2.1"],
        [("192.0.2.1", V4)],
        [(V4,)],
        [(V4, "192.0.2.1", 80)],
        [(4, "192.0.2.1")],
        [(socket.AF_UNIX, "/tmp/x")],
        [("AF_INET", "192.0.2.1")],
        [(V4, b"192.0.2.1")],
        [(V4, "2001:db8::1")],
        [(V6, "192.0.2.1")],
        [(V4, "b.example")],
        [(V4, "3221225985")],
        [(V4, "0xc0.0.2.1")],
        [(V4, "192.0.513")],
        [(V4, "192.0.2.01")],
        [(V4, "192.0.2.1 ")],
        [(V4, "192.0.2.1\0")],
        [(V4, "192.0.2.1%eth0")],
        [(V4, "")],
        [(V6, "[2001:db8::1]")],
        [(V6, "2001:db8::1%eth0")],
        [(V6, "ff02::1%eth0")],
        [(V6, "fec0::1%eth0")],
        [(V6, "fe80::1%")],
        [(V4, "192.0.2.1"), (V4, "b.example")],
        OSError(),
        ValueError("no"),
        SocketError("no", code="timeout"),
    ],
    ids=named,
)
async def test_any_other_answer_is_a_dns_error(answer: object) -> None:
    with pytest.raises(SocketError) as caught:
        await resolved(answer)
    assert caught.value.code == "dns"
    assert "a.example" in str(caught.value)
    assert (caught.value.__cause__ is None) == (answer == [])


async def test_a_resolver_that_is_not_async_is_a_dns_error() -> None:
    def resolver(host: str, port: int) -> list[tuple[int, str]]:
        return [(V4, "192.0.2.1")]

    with pytest.raises(SocketError) as caught:
        await resolve(current(), "a.example", 80, cast("Resolver", resolver))
    assert caught.value.code == "dns"
    assert isinstance(caught.value.__cause__, TypeError)


async def test_a_cancelled_resolver_stays_cancelled() -> None:
    async def resolver(host: str, port: int) -> list[tuple[int, str]]:
        await loops.sleep_forever()
        raise AssertionError

    with loops.move_on_after(0) as scope:
        await resolve(current(), "a.example", 80, resolver)
    assert scope.cancelled_caught
