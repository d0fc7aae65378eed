from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator

import pytest

from tests import loops
from wsockets.address import SocketAddress
from wsockets.dial.proxy import Credentials, Proxy
from wsockets.dial.socks import socks5
from wsockets.errors import SocketError
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop

PROXY = Proxy("socks5", SocketAddress("proxy.example", 1080))
SECRET = Credentials(b"alice", b"s3cret")
WITH_SECRET = Proxy("socks5", SocketAddress("proxy.example", 1080), SECRET)

CHOICE = b"\x05\x00"
LOGIN = b"\x05\x02"
WELCOME = b"\x01\x00"
BOUND = b"\x01\x7f\x00\x00\x01\x04\x38"
DONE = b"\x05\x00\x00" + BOUND

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def ask(
    pair: Pair,
    answer: bytes,
    proxy: Proxy = PROXY,
    host: str = "192.0.2.1",
    *,
    hang_up: bool = False,
) -> str | None:
    """What socks5 makes of `answer`, all of which is there from the start."""
    ours, theirs = pair
    theirs.send(answer)
    if hang_up:
        theirs.shutdown(socket.SHUT_WR)
    return await socks5(current(), ours, proxy, host, 443)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ("a.example", b"\x03\x09a.example"),
        (4 * (60 * "x" + ".") + "example.", b"\x03\xfc" + 4 * (60 * b"x" + b".")),
    ],
)
async def test_the_request_carries_the_address_in_its_own_form(
    host: str, address: bytes, pair: Pair
) -> None:
    assert await ask(pair, CHOICE + DONE, host=host) is None
    sent = pair[1].recv(1000)
    assert sent.startswith(b"\x05\x01\x00" + b"\x05\x01\x00" + address)
    assert sent.endswith(b"\x01\xbb")


async def test_credentials_are_offered_and_sent_when_asked_for(pair: Pair) -> None:
    assert await ask(pair, LOGIN + WELCOME + DONE, WITH_SECRET) is None
    sent = pair[1].recv(1000)
    assert sent.startswith(b"\x05\x02\x00\x02" + b"\x01\x05alice\x06s3cret" + b"\x05")


async def test_credentials_are_kept_when_not_asked_for(pair: Pair) -> None:
    assert await ask(pair, CHOICE + DONE, WITH_SECRET) is None
    assert b"s3cret" not in pair[1].recv(1000)


@pytest.mark.parametrize(
    "bound",
    [
        BOUND,
        b"\x04" + bytes(16) + b"\x04\x38",
        b"\x03\x09a.example\x04\x38",
        b"\x03\x00\x04\x38",
        b"\x03\xff" + 255 * b"x" + b"\x04\x38",
        b"\x03\x02\xff\xfe\x04\x38",
    ],
)
async def test_what_follows_the_reply_stays_in_the_kernel(
    bound: bytes, pair: Pair
) -> None:
    answer = CHOICE + b"\x05\x00\x00" + bound
    assert await ask(pair, answer + b"220 hello") is None
    assert pair[0].recv(1000) == b"220 hello"


async def test_answers_may_come_byte_by_byte(pair: Pair) -> None:
    ours, theirs = pair

    async def drip() -> None:
        for byte in LOGIN + WELCOME + DONE:
            await loops.settle()
            theirs.send(bytes([byte]))

    async with loops.open_nursery() as nursery:
        nursery.start_soon(drip)
        assert await socks5(current(), ours, WITH_SECRET, "192.0.2.1", 443) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "general failure"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (8, "address type not supported"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\x00" + BOUND])
async def test_a_target_out_of_reach_is_told_in_words(
    code: int, words: str, rest: bytes, pair: Pair
) -> None:
    answer = CHOICE + bytes((5, code)) + rest
    assert await ask(pair, answer, hang_up=True) == f"the proxy answered: {words}"


@pytest.mark.parametrize(("code", "words"), [(2, "not allowed"), (7, "command not")])
async def test_a_refusal_is_an_error_in_words(
    code: int, words: str, pair: Pair
) -> None:
    with pytest.raises(SocketError, match=words) as caught:
        await ask(pair, CHOICE + bytes((5, code, 0)) + BOUND)
    assert caught.value.code == "proxy"
    assert "192.0.2.1" in str(caught.value)
    assert "socks5://proxy.example:1080" in str(caught.value)


@pytest.mark.parametrize("proxy", [PROXY, WITH_SECRET])
async def test_a_proxy_that_wants_another_login_is_an_error(
    proxy: Proxy, pair: Pair
) -> None:
    with pytest.raises(SocketError) as caught:
        await ask(pair, b"\x05\xff", proxy)
    assert caught.value.code == "proxy"
    offered = "with no credentials" if proxy is PROXY else "with a user name"
    assert offered in str(caught.value)


@pytest.mark.parametrize("method", [1, 2])
async def test_a_method_that_was_not_offered_is_not_followed(
    method: int, pair: Pair
) -> None:
    with pytest.raises(SocketError, match="with no credentials") as caught:
        await ask(pair, bytes((5, method)) + WELCOME + DONE)
    assert caught.value.code == "proxy"
    assert pair[1].recv(1000) == b"\x05\x01\x00"


async def test_a_wrong_password_is_an_error_that_does_not_show_it(pair: Pair) -> None:
    with pytest.raises(SocketError, match="user name or the password") as caught:
        await ask(pair, LOGIN + b"\x01\x01", WITH_SECRET)
    assert caught.value.code == "proxy"
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert "alice" not in shown


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x04\x5a" + bytes(6),
        b"\x05\x7f",
        CHOICE + b"\x04\x00\x00" + BOUND,
        CHOICE + b"\x05\x09\x00" + BOUND,
        CHOICE + b"\x05\xff\x00" + BOUND,
        CHOICE + b"\x05\x00\x00\x02" + bytes(6),
        CHOICE + b"\x05\x00\x00\x00" + bytes(6),
    ],
)
async def test_rubbish_is_no_connection(answer: bytes, pair: Pair) -> None:
    with pytest.raises(SocketError, match="does not answer in SOCKS5") as caught:
        await ask(pair, answer)
    assert caught.value.code == "proxy"
    assert caught.value.__cause__ is not None


async def test_a_login_answered_in_another_version_is_rubbish(pair: Pair) -> None:
    with pytest.raises(SocketError, match="does not answer in SOCKS5"):
        await ask(pair, LOGIN + b"\x05\x00" + DONE, WITH_SECRET)


@pytest.mark.parametrize("length", range(len(LOGIN + WELCOME + DONE)))
async def test_an_answer_cut_short_is_an_eoferror(length: int, pair: Pair) -> None:
    answer = (LOGIN + WELCOME + DONE)[:length]
    with pytest.raises(EOFError):
        await ask(pair, answer, WITH_SECRET, hang_up=True)


async def test_a_silent_proxy_keeps_it_waiting_until_it_is_cancelled(
    pair: Pair,
) -> None:
    with loops.move_on_after(0.01) as scope:
        await socks5(current(), pair[0], PROXY, "192.0.2.1", 443)
    assert scope.cancelled_caught
