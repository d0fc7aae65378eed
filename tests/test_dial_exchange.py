from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import loops
from wsockets.dial.exchange import (
    MAX_HEAD,
    HeadTooLong,
    receive_exactly,
    receive_head,
    send_all,
)
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

Pair = tuple[socket.socket, socket.socket]

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"
AFTER = b"\n\r\nand what follows\r\n\r\n"


def make_pair() -> Pair:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = make_pair()
    with ours, theirs:
        yield ours, theirs


async def drip(theirs: socket.socket, pieces: list[bytes]) -> None:
    """Send each piece when the one before it has been taken in."""
    for piece in pieces:
        await loops.settle()
        theirs.send(piece)


async def head_of(ours: socket.socket, limit: int = MAX_HEAD) -> bytes:
    return await receive_head(current(), ours, begins=b"HTTP/", limit=limit)


async def test_what_does_not_fit_into_the_kernel_is_sent_in_parts(pair: Pair) -> None:
    ours, theirs = pair
    data = bytes(range(256)) * 8192
    received = b""

    async def receive() -> None:
        nonlocal received
        received = await receive_exactly(current(), theirs, len(data))

    async with loops.open_nursery() as nursery:
        nursery.start_soon(send_all, current(), ours, data)
        await loops.settle()
        nursery.start_soon(receive)
    assert received == data


async def test_exactly_so_many_bytes_are_taken(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"abcdef")
    assert await receive_exactly(current(), ours, 4) == b"abcd"
    assert await receive_exactly(current(), ours, 0) == b""
    assert ours.recv(100) == b"ef"


async def test_bytes_that_come_one_by_one_are_put_together(pair: Pair) -> None:
    ours, theirs = pair
    async with loops.open_nursery() as nursery:
        nursery.start_soon(drip, theirs, [b"a", b"b", b"cd"])
        assert await receive_exactly(current(), ours, 3) == b"abc"
    assert ours.recv(100) == b"d"


async def test_an_end_too_early_is_an_eoferror(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"abc")
    theirs.close()
    with pytest.raises(EOFError):
        await receive_exactly(current(), ours, 4)


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        b"HTTP/1.1 200\n\n",
        b"HTTP/1.1 200\r\n\n",
        b"HTTP/1.1 200\n\r\n",
        b"HTTP/1.1 200 \r\r\n\r\n",
    ],
)
async def test_a_head_is_taken_whole_and_nothing_after_it(
    head: bytes, pair: Pair
) -> None:
    ours, theirs = pair
    theirs.send(head + AFTER)
    assert await head_of(ours) == head
    assert ours.recv(100) == AFTER


@pytest.mark.parametrize("split", range(1, len(HEAD + AFTER)))
async def test_a_head_may_be_split_anywhere(split: int, pair: Pair) -> None:
    ours, theirs = pair
    data = HEAD + AFTER
    async with loops.open_nursery() as nursery:
        nursery.start_soon(drip, theirs, [data[:split], data[split:]])
        assert await head_of(ours) == HEAD
    assert await receive_exactly(current(), ours, len(AFTER)) == AFTER


@pytest.mark.parametrize("loop", loops.LOOPS)
@given(
    pieces=st.lists(st.sampled_from([b"\r", b"\n", b"x", b"\r\n", HEAD]), max_size=12)
)
def test_in_any_pieces_the_head_ends_at_the_first_blank_line(
    loop: str, pieces: list[bytes]
) -> None:
    pieces = [b"HTTP/", *pieces, b"\n\n"]
    data = b"".join(pieces)
    ends = (data.find(end) + len(end) for end in (b"\n\n", b"\n\r\n") if end in data)
    wanted = data[: min(ends)]

    async def run() -> None:
        ours, theirs = make_pair()
        with ours, theirs:
            async with loops.open_nursery() as nursery:
                nursery.start_soon(drip, theirs, pieces)
                assert await head_of(ours) == wanted
            rest = len(data) - len(wanted)
            assert await receive_exactly(current(), ours, rest) == data[len(wanted) :]

    loops.run(loop, run)


async def test_waiting_for_the_rest_of_a_head_is_no_busy_loop(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(HEAD[:-1])
    async with loops.open_nursery() as nursery:
        nursery.start_soon(head_of, ours)
        # Would never return while the task keeps running.
        with loops.fail_after(5):
            await loops.settle()
        theirs.send(HEAD[-1:])


@pytest.mark.parametrize("data", [b"", HEAD[:-1], b"HTT"])
async def test_a_head_without_an_end_is_an_eoferror(data: bytes, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(data)
    theirs.close()
    with pytest.raises(EOFError):
        await head_of(ours)


@pytest.mark.parametrize("data", [b"S", b"SSH-2.0-x\r\n", b"\r\n\r\n", b"HTTQ/1.1"])
async def test_a_wrong_beginning_is_noticed_at_once(data: bytes, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(data)
    with pytest.raises(ValueError):
        await head_of(ours)


async def test_a_head_over_the_limit_is_given_up(pair: Pair) -> None:
    ours, theirs = pair

    async def talk() -> None:
        await send_all(current(), theirs, b"HTTP/1.1 200 OK\r\nX: " + MAX_HEAD * b"x")

    async with loops.open_nursery() as nursery:
        nursery.start_soon(talk)
        with pytest.raises(HeadTooLong):
            await head_of(ours)


async def test_a_head_of_just_the_limit_is_taken(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(HEAD + AFTER)
    assert await head_of(ours, len(HEAD)) == HEAD
    theirs.send(HEAD)
    ours.recv(len(AFTER))
    with pytest.raises(HeadTooLong):
        await head_of(ours, len(HEAD) - 1)


@pytest.mark.parametrize(
    "operation",
    [
        lambda ours: receive_exactly(current(), ours, 1),
        lambda ours: head_of(ours),
        lambda ours: send_all(current(), ours, 10_000_000 * b"x"),
    ],
)
async def test_each_can_be_cancelled(
    operation: Callable[[socket.socket], Awaitable[object]], pair: Pair
) -> None:
    with loops.move_on_after(0.01) as scope:
        await operation(pair[0])
    assert scope.cancelled_caught
