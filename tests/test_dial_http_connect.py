from __future__ import annotations

import base64
import socket
import traceback
from collections.abc import Iterator

import pytest

from tests import loops
from wsockets.address import SocketAddress
from wsockets.dial.exchange import MAX_HEAD, send_all
from wsockets.dial.http_connect import http_connect
from wsockets.dial.proxy import Credentials, Proxy
from wsockets.errors import SocketError
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

PROXY = Proxy("http", SocketAddress("proxy.example", 3128))
SECRET = Credentials(b"alice", b"s3cret word")
TOKEN = base64.b64encode(b"alice:s3cret word")
WITH_SECRET = Proxy("http", SocketAddress("proxy.example", 3128), SECRET)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def ask(
    pair: Pair, answer: bytes, proxy: Proxy = PROXY, *, hang_up: bool = False
) -> str | None:
    """What http_connect makes of `answer`."""
    ours, theirs = pair
    await send_all(current(), theirs, answer)
    if hang_up:
        theirs.shutdown(socket.SHUT_WR)
    return await http_connect(current(), ours, proxy, "192.0.2.1:443")


async def test_the_request_names_the_target_twice_and_nothing_else(pair: Pair) -> None:
    await ask(pair, b"HTTP/1.1 200 OK\r\n\r\n")
    assert pair[1].recv(1000) == (
        b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"
    )


async def test_credentials_are_sent_as_basic_authorization(pair: Pair) -> None:
    await ask(pair, b"HTTP/1.1 200 OK\r\n\r\n", WITH_SECRET)
    assert b"\r\nProxy-Authorization: Basic " + TOKEN + b"\r\n" in pair[1].recv(1000)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 204 No Content\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 299 \r\n\r\n",
        # RFC 9110 section 9.3.6: to be ignored in the answer to CONNECT.
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * 9 + b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_any_2xx_is_a_tunnel_and_what_follows_stays_in_the_kernel(
    answer: bytes, pair: Pair
) -> None:
    assert await ask(pair, answer + b"220 hello\r\n\r\n") is None
    assert pair[0].recv(1000) == b"220 hello\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 502 secret words\r\n\r\n", "502 Bad Gateway"),
        (b"HTTP/1.1 503 \r\nContent-Length: 9\r\n\r\n", "503 Service Unavailable"),
        (b"HTTP/1.1 504\r\n\r\n", "504 Gateway Timeout"),
        (b"HTTP/1.1 599 \r\n\r\n", "599"),
    ],
)
async def test_a_target_out_of_reach_is_told_with_the_status(
    answer: bytes, text: str, pair: Pair
) -> None:
    assert await ask(pair, answer) == f"the proxy answered {text}"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (302, "302 Found"),
        (400, "400 Bad Request"),
        (403, "403 Forbidden"),
        (405, "405 Method Not Allowed"),
        (407, "407 Proxy Authentication Required"),
        (499, "499"),
    ],
)
async def test_a_refusal_is_an_error_with_the_status_in_the_standards_words(
    status: int, text: str, pair: Pair
) -> None:
    answer = f"HTTP/1.1 {status} secret words\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(SocketError) as caught:
        await ask(pair, answer.encode(), WITH_SECRET)
    assert caught.value.code == "proxy"
    assert str(caught.value) == (
        "SocketError: could not connect to 192.0.2.1:443 through "
        f"http://proxy.example:3128: the proxy answered {text}"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x05\xff",
        b"\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
        b"HTTP/1.1 502 \r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nrubbish",
    ],
)
async def test_rubbish_is_no_tunnel(answer: bytes, pair: Pair) -> None:
    with pytest.raises(SocketError, match="does not answer in HTTP") as caught:
        await ask(pair, answer)
    assert caught.value.code == "proxy"


async def test_an_answer_that_repeats_the_credentials_does_not_get_them_shown(
    pair: Pair,
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nBasic " + TOKEN + b" alice s3cret word\r\n\r\n"
    with pytest.raises(SocketError) as caught:
        await ask(pair, answer, WITH_SECRET)
    shown = "".join(traceback.format_exception(caught.value))
    for secret in ("alice", "s3cret", TOKEN.decode()):
        assert secret not in shown


async def test_headers_without_end_are_given_up(pair: Pair) -> None:
    ours, theirs = pair
    flood = b"HTTP/1.1 200 OK\r\nX: " + 10 * MAX_HEAD * b"x"
    async with loops.open_nursery() as nursery:
        nursery.start_soon(send_all, current(), theirs, flood)
        with pytest.raises(SocketError, match="more than 65536 bytes") as caught:
            await http_connect(current(), ours, PROXY, "192.0.2.1:443")
        nursery.cancel_scope.cancel()
    assert caught.value.code == "proxy"


async def test_interim_answers_without_end_are_given_up(pair: Pair) -> None:
    ours, theirs = pair
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    async with loops.open_nursery() as nursery:
        nursery.start_soon(send_all, current(), theirs, MAX_HEAD * interim)
        with pytest.raises(SocketError, match="more than 65536 bytes"):
            await http_connect(current(), ours, PROXY, "192.0.2.1:443")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("spare", [0, 30])
async def test_interim_answers_and_the_last_one_share_the_room(
    spare: int, pair: Pair
) -> None:
    ours, theirs = pair
    answer = b"HTTP/1.1 100 Continue\r\nX: "
    answer += b"x" * (MAX_HEAD - spare - len(answer) - 4) + b"\r\n\r\n"
    answer += b"HTTP/1.1 200 OK\r\nX: " + 30 * b"x" + b"\r\n\r\n"
    async with loops.open_nursery() as nursery:
        nursery.start_soon(send_all, current(), theirs, answer)
        with pytest.raises(SocketError, match="more than 65536 bytes"):
            await http_connect(current(), ours, PROXY, "192.0.2.1:443")


async def test_a_long_but_legal_answer_is_a_tunnel(pair: Pair) -> None:
    ours, theirs = pair
    answer = b"HTTP/1.1 200 OK\r\nX: "
    answer += b"x" * (MAX_HEAD - len(answer) - 4) + b"\r\n\r\n"
    assert len(answer) == MAX_HEAD
    async with loops.open_nursery() as nursery:
        nursery.start_soon(send_all, current(), theirs, answer)
        assert await http_connect(current(), ours, PROXY, "192.0.2.1:443") is None


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HT"])
async def test_an_answer_cut_short_is_an_eoferror(answer: bytes, pair: Pair) -> None:
    with pytest.raises(EOFError):
        await ask(pair, answer, hang_up=True)


async def test_a_slow_answer_is_waited_for(pair: Pair) -> None:
    ours, theirs = pair
    answer = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"

    async def drip() -> None:
        for byte in answer:
            await loops.settle()
            theirs.send(bytes([byte]))

    async with loops.open_nursery() as nursery:
        nursery.start_soon(drip)
        assert await http_connect(current(), ours, PROXY, "192.0.2.1:443") is None


async def test_a_silent_proxy_keeps_it_waiting_until_it_is_cancelled(
    pair: Pair,
) -> None:
    with loops.move_on_after(0.01) as scope:
        await http_connect(current(), pair[0], PROXY, "192.0.2.1:443")
    assert scope.cancelled_caught
