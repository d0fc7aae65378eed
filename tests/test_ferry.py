"""Pipes that the engine carries: what is particular to them.

That they obey the standard like any other pipe is shown by test_streams_pipe.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import loops
from tests.leaks import few_descriptors
from tests.loopback import Peer, Secure, connected
from tests.loops import settle
from tests.network import tcp_pair
from tests.wires import SocketStream
from wsockets import AbortSignal, Promise, Socket, adopt, from_fd, to_fd
from wsockets.ferry import Link, ferry_between

pytestmark = [pytest.mark.every_loop, pytest.mark.usefixtures("engine")]


def links(*sockets: Socket) -> set[Link]:
    return {
        loan.borrower
        for each in sockets
        for loan in each._loans
        if isinstance(loan.borrower, Link)
    }


def is_carried(*sockets: Socket) -> bool:
    return any(link._pump is not None for link in links(*sockets))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await loops.checkpoint()


# A pipe in one direction lives on when the other one has ended.
open_half = partial(connected, allowHalfOpen=True)


# -- one direction


async def test_a_pipe_between_sockets_is_carried_by_the_engine(
    secure: Secure, engine: str
) -> None:
    data = random.Random(1).randbytes(4 << 20)
    async with connected(secure) as (near, a), connected() as (far, b):
        done = near.readable.pipeTo(far.writable)
        if engine == "native":
            await until(lambda: is_carried(near, far))
        async with loops.open_nursery() as nursery:
            nursery.start_soon(a.send, data)
            assert await b.receive_exactly(len(data)) == data
        await a.end()
        assert await b.receive_to_end() == b""
        await done
        assert links(near, far) == set()


async def test_a_download_goes_into_a_file(secure: Secure, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(4 << 20)
    async with connected(secure) as (near, a):
        with (tmp_path / "file").open("wb") as file:
            done = near.readable.pipeTo(to_fd(file))
            await a.send(data)
            await a.end()
            await done
        assert (tmp_path / "file").read_bytes() == data


async def test_an_upload_comes_from_a_file(secure: Secure, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(4 << 20)
    (tmp_path / "file").write_bytes(data)
    async with connected(secure) as (near, a):
        with (tmp_path / "file").open("rb") as file:
            done = from_fd(file).pipeTo(near.writable, preventClose=True)
            assert await a.receive_exactly(len(data)) == data
            await done
        await near.writable.getWriter().write(b"and more")
        assert await a.receive_exactly(8) == b"and more"


async def test_the_other_direction_can_be_written_to_meanwhile(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    sink, far = pair
    async with connected(secure) as (near, a):
        done = near.readable.pipeTo(to_fd(sink))
        writer = near.writable.getWriter()
        for number in range(40):
            word = b"%03d" % number
            await writer.write(word)
            assert await a.receive_exactly(3) == word
            await a.send(word)
            assert await far.receive_exactly(3) == word
        await a.end()
        await done


async def test_the_other_direction_can_be_read_from_meanwhile(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    source, far = pair
    async with connected(secure) as (near, a):
        done = from_fd(source).pipeTo(near.writable)
        reader = near.readable.getReader()
        for number in range(40):
            word = b"%03d" % number
            await a.send(word)
            assert (await reader.read()).value == word
            await far.send_all(word)
            assert await a.receive_exactly(3) == word
        await far.send_eof()
        await done


async def test_a_read_that_waits_is_served_while_the_other_direction_is_piped(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    source, far = pair
    async with connected(secure) as (near, a):
        got: list[bytes] = []

        async def read() -> None:
            got.append((await near.readable.getReader().read()).value)

        async with loops.open_nursery() as nursery:
            nursery.start_soon(read)
            await settle()
            done = from_fd(source).pipeTo(near.writable)
            await far.send_all(b"up")
            assert await a.receive_exactly(2) == b"up"
            assert not got
            await a.send(b"down")
        assert got == [b"down"]
        await far.send_eof()
        await done


async def test_what_is_unread_stays_so_while_the_other_direction_is_piped(
    secure: Secure, pair: tuple[socket.socket, SocketStream]
) -> None:
    source, far = pair
    async with connected(secure) as (near, a):
        # As a bridge leaves it whose sink took nothing.
        near._readable.resume(near._connection, b"unread")  # type: ignore[arg-type]
        done = from_fd(source).pipeTo(near.writable)
        await far.send_all(b"up")
        assert await a.receive_exactly(2) == b"up"
        await far.send_eof()
        await done
        assert (await near.readable.getReader().read()).value == b"unread"


async def test_closing_the_writable_meanwhile_ends_that_direction_only(
    secure: Secure, pair: tuple[socket.socket, SocketStream], engine: str
) -> None:
    sink, far = pair
    async with connected(secure, allowHalfOpen=True) as (near, a):
        done = near.readable.pipeTo(to_fd(sink))
        if engine == "native":
            await until(lambda: is_carried(near))
        await near.writable.close()
        assert await a.receive_to_end() == b""
        await a.send(b"still")
        assert await far.receive_exactly(5) == b"still"
        await a.end()
        await done


# -- both directions


async def test_two_pipes_between_two_sockets_are_one_link(
    secure: Secure, engine: str
) -> None:
    rng = random.Random(4)
    down, up = rng.randbytes(2 << 20), rng.randbytes(2 << 20)
    async with open_half(secure) as (near, a), open_half() as (far, b):
        there = near.readable.pipeTo(far.writable)
        back = far.readable.pipeTo(near.writable)
        if engine == "native":
            await until(lambda: is_carried(near, far))
            (link,) = links(near, far)
            assert link._under_way == {"decrypt", "encrypt"}
        async with loops.open_nursery() as nursery:
            nursery.start_soon(a.send, down)
            nursery.start_soon(b.send, up)
            assert await b.receive_exactly(len(down)) == down
            assert await a.receive_exactly(len(up)) == up
        await a.end()
        assert await b.receive_to_end() == b""
        await there
        assert back._is_pending()
        await b.end()
        await back
        assert links(near, far) == set()


async def test_the_second_pipe_joins_the_first_when_that_is_under_way(
    secure: Secure, engine: str
) -> None:
    async with open_half(secure) as (near, a), open_half(secure) as (far, b):
        there = near.readable.pipeTo(far.writable)
        await a.send(b"first")
        assert await b.receive_exactly(5) == b"first"
        back = far.readable.pipeTo(near.writable)
        if engine == "native":
            await until(lambda: any(len(x._under_way) == 2 for x in links(near, far)))
        await b.send(b"second")
        assert await a.receive_exactly(6) == b"second"
        await a.send(b"third")
        assert await b.receive_exactly(5) == b"third"
        for peer in (a, b):
            await peer.end()
        await there
        await back


async def test_a_late_answer_comes_through_after_the_first_direction_has_ended(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    async with open_half() as (near, a), open_half() as (far, b):
        there = near.readable.pipeTo(far.writable)
        back = far.readable.pipeTo(near.writable)
        await a.send(b"question")
        await a.end()
        assert await b.receive_to_end() == b"question"
        await there
        await b.send(b"answer")
        await b.end()
        assert await a.receive_to_end() == b"answer"
        await back


async def test_a_device_is_piped_in_both_directions(
    secure: Secure, pair: tuple[socket.socket, SocketStream], engine: str
) -> None:
    device, far = pair
    async with connected(secure) as (near, a):
        down = near.readable.pipeTo(to_fd(device))
        up = from_fd(device).pipeTo(near.writable)
        if engine == "native":
            await until(lambda: is_carried(near))
            assert len(links(near)) == 1
        await a.send(b"down")
        assert await far.receive_exactly(4) == b"down"
        await far.send_all(b"up")
        assert await a.receive_exactly(2) == b"up"
        await far.send_eof()
        await up
        await a.end()
        await down


# -- who ends it


@pytest.mark.parametrize("who", ["source", "destination"])
async def test_a_socket_that_is_reset_by_its_peer_ends_the_pipe(
    secure: Secure, who: str
) -> None:
    async with connected(secure) as (near, a), connected(secure) as (far, b):
        done = near.readable.pipeTo(far.writable)
        back = far.readable.pipeTo(near.writable)
        await a.send(b"x")
        assert await b.receive_exactly(1) == b"x"
        (a if who == "source" else b).reset()
        for promise in (done, back):
            with pytest.raises((TypeError, OSError)):
                await promise
        assert links(near, far) == set()


@pytest.mark.parametrize("who", ["source", "destination"])
async def test_a_socket_that_is_closed_here_ends_the_pipe(
    secure: Secure, who: str, engine: str
) -> None:
    async with connected(secure) as (near, a), connected(secure) as (far, b):
        done = near.readable.pipeTo(far.writable)
        await a.send(b"x")
        assert await b.receive_exactly(1) == b"x"
        if engine == "native":
            await until(lambda: is_carried(near, far))
        closed = (near if who == "source" else far).close()
        if who == "source":
            await done
            assert await b.receive_to_end() == b""
        else:
            with pytest.raises(TypeError):
                await done
        await closed


@pytest.mark.parametrize("left", range(7))
async def test_where_no_descriptor_is_left_a_pipe_goes_the_long_way(
    secure: Secure, left: int
) -> None:
    async with connected(secure) as (near, a), connected() as (far, b):
        before = near.readable.pipeTo(far.writable, signal=AbortSignal.timeout(0))
        with contextlib.suppress(Exception):
            await before  # what is opened once has been
    async with connected(secure) as (near, a), connected() as (far, b):
        with few_descriptors(left):
            done = near.readable.pipeTo(far.writable)
            await settle()
        await a.send(b"all the same")
        assert await b.receive_exactly(12) == b"all the same"
        await a.end()
        await done


@pytest.mark.parametrize("left", range(7))
async def test_where_no_descriptor_is_left_devices_keep_none(
    pair: tuple[socket.socket, SocketStream], left: int
) -> None:
    sink, far = pair
    async with connected(allowHalfOpen=True) as (near, a):
        source, target = from_fd(sink), to_fd(sink)
        with few_descriptors(left):
            up, down = source.pipeTo(near.writable), near.readable.pipeTo(target)
            await settle()
        await far.send_all(b"up")
        assert await a.receive_exactly(2) == b"up"
        await a.send(b"down")
        assert await far.receive_exactly(4) == b"down"
        await far.send_eof()
        await a.end()
        await up
        await down


@pytest.fixture
def crowd() -> Iterator[None]:
    """More open files than select(2) can count."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    taken: list[int] = []
    try:
        while not taken or taken[-1] < 1024:
            taken.append(os.dup(0))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_socket_can_be_aborted_whatever_the_numbers_of_its_descriptors(
    crowd: None,
) -> None:
    async with connected() as (near, a), connected() as (far, b):
        done = near.readable.pipeTo(far.writable, preventAbort=True)
        await a.send(b"x")
        assert await b.receive_exactly(1) == b"x"
        near.close(ValueError("mine"))
        await done
        await near.closed


async def test_a_broken_descriptor_is_the_destinations_error(secure: Secure) -> None:
    near_end, far_end = os.pipe()
    async with connected(secure) as (near, a):
        done = near.readable.pipeTo(to_fd(far_end))
        os.close(far_end)
        await settle()
        os.close(near_end)
        await a.send(b"into the void")
        with pytest.raises(TypeError) as caught:
            await done
        assert getattr(caught.value, "errno", None) == 32


async def test_cancelling_a_pipe_leaves_both_sockets_usable(
    secure: Secure, engine: str
) -> None:
    from wsockets import AbortController

    controller = AbortController()
    async with connected(secure) as (near, a), connected() as (far, b):
        done: Promise[None] = near.readable.pipeTo(
            far.writable,
            signal=controller.signal,
            preventCancel=True,
            preventAbort=True,
        )
        await a.send(b"x")
        assert await b.receive_exactly(1) == b"x"
        if engine == "native":
            await until(lambda: is_carried(near, far))
        controller.abort(ValueError("enough"))
        with pytest.raises(ValueError, match="enough"):
            await done
        await a.send(b"by hand")
        assert (await near.readable.getReader().read()).value == b"by hand"
        await far.writable.getWriter().write(b"too")
        assert await b.receive_exactly(3) == b"too"


# -- what is not carried


async def test_what_the_engine_cannot_do_goes_the_long_way(
    pair: tuple[socket.socket, SocketStream],
) -> None:
    device, _ = pair
    async with connected() as (near, _), connected(highWaterMark=1 << 30) as (far, _):
        assert near._readable.ferry(far._writable) is None
        descriptor = to_fd(device)._controller
        source = from_fd(device)
        assert source._controller.ferry(descriptor) is None
        assert ferry_between(near, near._writable) is None
        assert ferry_between(near, object()) is None  # type: ignore[arg-type]
        await source.cancel()
        descriptor.owner._end()  # type: ignore[attr-defined]
    async with connected(secureTransport="starttls") as (near, _):
        async with connected() as (far, _):
            assert near._readable.ferry(far._writable) is None


async def test_an_engine_that_is_none_carries_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", "steam")
    async with connected() as (near, a), connected() as (far, b):
        done = near.readable.pipeTo(far.writable)
        await a.send(b"x")
        assert await b.receive_exactly(1) == b"x"
        await a.end()
        await done


async def send_all(peer: Peer, data: bytes) -> None:
    await peer.send(data)
    await peer.end()


async def test_many_pipes_at_once(secure: Secure) -> None:
    data = random.Random(5).randbytes(200_000)

    async def one() -> None:
        async with connected(secure) as (near, a), connected() as (far, b):
            done = near.readable.pipeTo(far.writable)
            async with loops.open_nursery() as nursery:
                nursery.start_soon(send_all, a, data)
                assert await b.receive_to_end() == data
            await done

    async with loops.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)


@pytest.mark.parametrize("loop", loops.LOOPS)
def test_the_end_of_the_event_loop_is_no_end_in_good_order_for_the_peer(
    loop: str, engine: str, pair: tuple[socket.socket, SocketStream]
) -> None:
    if engine == "python":
        return  # nothing is under way but in the streams
    source, _ = pair
    held: list[object] = []

    async def main() -> None:
        near = adopt(ours)
        held.extend((near, from_fd(source).pipeTo(near.writable)))
        await until(lambda: is_carried(near))

    ours, theirs = tcp_pair()
    with theirs:
        loops.run(loop, main)
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
    held.clear()
