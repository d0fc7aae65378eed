"""What happens on a TLS connection that is open, with `openssl` at the other end."""

from __future__ import annotations

import random
from functools import partial

import pytest

from tests import loops
from tests.loopback import binding
from wsockets import SessionCache, SocketError

from .openssl import Program, s_server

pytestmark = pytest.mark.every_loop

# s_server prints the data among its own lines, in which these do not occur.
UPDATE = b"TLS 1.3, Handshake [length 0005], KeyUpdate"
ALPHABET = b"jqz"
OTHERS = bytes(set(range(256)) - set(ALPHABET))


def _more_than(updates: int, said: bytearray) -> bool:
    return said.count(b">>> " + UPDATE) > updates


def _data(server: Program, start: int) -> bytearray:
    return server.said[start:].translate(None, OTHERS)


@pytest.mark.parametrize("command", ["k", "K"])
async def test_keys_are_updated_in_the_middle_of_a_transfer(
    command: str, rng: random.Random
) -> None:
    data = bytes(rng.choices(ALPHABET, k=1 << 20))
    async with (
        s_server("-tls1_3", "-msg") as (server, address),
        loops.open_nursery() as nursery,
        binding().connect(address, secureTransport="on") as socket,
    ):
        reader = socket.readable.getReader()
        writer = socket.writable.getWriter()
        await writer.write(b"begin\n")
        await server.says("begin\n")
        start = len(server.said)

        async def send() -> None:
            for offset in range(0, len(data), 10_000):
                await writer.write(data[offset : offset + 10_000])

        nursery.start_soon(send)
        for update in range(5):
            await server.type(f"{command}\n")
            await server.until(partial(_more_than, update))
            # Under the new keys of the server.
            await server.type("news\n")
            assert (await reader.read()).value == b"news\n"
        await server.until(lambda _: len(_data(server, start)) >= len(data))
        assert _data(server, start) == data
        answers = server.said.count(b"<<< " + UPDATE)
        # One answer may do for several requests (RFC 8446, section 4.6.3).
        assert (0 < answers <= 5) if command == "K" else answers == 0


@pytest.mark.parametrize("command", ["r", "R"])
async def test_a_renegotiation_is_refused_and_ends_the_socket(command: str) -> None:
    async with s_server("-tls1_2", "-msg") as (server, address):
        async with binding().connect(address, secureTransport="on") as socket:
            reader = socket.readable.getReader()
            await socket.writable.getWriter().write(b"hello\n")
            await server.says("hello\n")
            await server.type(f"{command}\n")
            with pytest.raises(SocketError) as caught:
                await reader.read()
            # It insists: our no_renegotiation is answered with a fatal alert.
            assert caught.value.code == "tls-alert"
            await socket.closed
        await server.says("<<< TLS 1.2, Alert .*, warning no_renegotiation")


async def test_the_end_after_close_notify_is_the_end() -> None:
    async with (
        s_server("-rev") as (_, address),
        binding().connect(address, secureTransport="on") as socket,
    ):
        reader = socket.readable.getReader()
        writer = socket.writable.getWriter()
        await writer.write(b"stressed\n")
        assert (await reader.read()).value == b"desserts\n"
        await writer.write(b"CLOSE\n")
        assert await reader.read() == (None, True)
        await socket.closed


async def test_the_end_without_close_notify_is_an_error() -> None:
    async with (
        s_server() as (server, address),
        binding().connect(address, secureTransport="on") as socket,
    ):
        reader = socket.readable.getReader()
        await server.says("CIPHER is")
        await server.type("Q\n")
        with pytest.raises(SocketError) as caught:
            await reader.read()
        assert caught.value.code == "truncated"
        await socket.closed


async def test_the_end_without_close_notify_is_the_end_for_those_who_say_so() -> None:
    async with (
        s_server() as (server, address),
        binding().connect(
            address, secureTransport="on", tolerateTruncation=True
        ) as socket,
    ):
        await server.says("CIPHER is")
        await server.type("last words\n")
        reader = socket.readable.getReader()
        assert (await reader.read()).value == b"last words\n"
        await server.type("Q\n")
        assert await reader.read() == (None, True)
        await socket.closed


async def test_the_server_sees_our_close_notify() -> None:
    async with s_server("-msg", "-naccept", "1") as (server, address):
        async with binding().connect(address, secureTransport="on") as socket:
            socket.writable.getWriter().write(b"last words\n")
        await server.says(r"<<< TLS 1\.3, Alert .*warning close_notify")
        assert b"last words\n" in server.said
        assert b"error" not in (await server.ends()).lower().encode()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_session_is_resumed(version: str) -> None:
    remembering = binding(sessions=SessionCache())
    async with s_server(version) as (server, address):
        for resumed in (False, True, True):
            async with remembering.connect(address, secureTransport="on") as socket:
                # The tickets of TLS 1.3 are in front of this.
                await server.type("hello\n")
                await socket.readable.getReader().read()
                info = socket.tls_info()
                assert info is not None
                assert info.resumed is resumed
                assert info.verified
            await server.says("Secure Renegotiation IS")
            assert (b"Reused session-id" in server.said) is resumed
            server.said.clear()


async def test_a_session_is_not_resumed_by_another_binding_object() -> None:
    async with s_server() as (server, address):
        for remembering in (
            binding(sessions=SessionCache()),
            binding(sessions=SessionCache()),
        ):
            async with remembering.connect(address, secureTransport="on") as socket:
                await server.type("hello\n")
                await socket.readable.getReader().read()
            await server.says("Secure Renegotiation IS")
            assert b"Reused session-id" not in server.said
            server.said.clear()
