"""What stands between the consent to TLS and TLS itself goes to the TLS engine.

Whoever sits on the line can send his own words behind a server's "go ahead", in
the same segment. They must never become the first words of the secured session.
"""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from docs.examples.postgres import Postgres, PostgresError
from tests import certificates
from tests.loopback import binding
from wsockets import Socket, SocketError, adopt

from .peers import WITHIN, accepting, end, exactly, line, scripted, to_the_end, visiting
from .records import Forger

pytestmark = pytest.mark.every_loop

INJECTED = {
    "a line": b"250 everything is fine\r\n",
    "one byte": b"\0",
    "a record of data": b"\x17\x03\x03\x00\x05hello",
    "a fatal alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a record of TLS 1.0 that is too long": b"\x16\x03\x01\xff\xff",
    "more than a record": b"250 go on\r\n" * 5000,
}


async def read_line(socket: Socket) -> bytes:
    """A line and no more."""
    reader = socket.readable.getReader(mode="byob")
    found = b""
    while not found.endswith(b"\n"):
        value, done = await reader.read(bytearray(1))
        assert not done, found
        found += value
    reader.releaseLock()
    return found


async def assert_nothing_came_of(secure: Socket) -> SocketError:
    """The handshake has failed, once and for all."""
    with pytest.raises(SocketError) as caught:
        await secure.opened
    with pytest.raises(SocketError) as again:
        await secure.closed
    assert again.value is caught.value
    assert await secure.readable.getReader().read() == (None, True)
    with pytest.raises(SocketError) as third:
        await secure.writable.getWriter().write(b"too late")
    assert third.value is caught.value
    return caught.value


@pytest.mark.parametrize("injected", INJECTED.values(), ids=INJECTED)
async def test_what_is_injected_behind_the_consent_fails_the_handshake(
    injected: bytes,
) -> None:
    def script(sock: socket.socket) -> None:
        assert line(sock) == b"STARTTLS\r\n"
        sock.sendall(b"220 go ahead\r\n" + injected)
        # The server itself knows nothing of it and goes on.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Forger(sock).read()

    async with scripted(script) as address:
        plain = binding().connect(address, secureTransport="starttls")
        await plain.writable.getWriter().write(b"STARTTLS\r\n")
        assert await read_line(plain) == b"220 go ahead\r\n"
        secure = plain.startTls()
        error = await assert_nothing_came_of(secure)
        assert error.code in ("tls", "tls-alert")
        assert plain.upgraded
        await plain.closed
        assert await plain.readable.getReader().read() == (None, True)


async def test_what_comes_before_the_consent_is_read_is_not_lost_on_tls() -> None:
    # Nobody has read "go ahead" when TLS begins, so it is taken for TLS.
    def script(sock: socket.socket) -> None:
        sock.sendall(b"220 go ahead\r\n")
        to_the_end(sock)

    async with scripted(script) as address:
        plain = binding().connect(address, secureTransport="starttls")
        reader = plain.readable.getReader(mode="byob")
        assert (await reader.read(bytearray(1))).value == b"2"
        await assert_nothing_came_of(plain.startTls())


async def test_a_read_that_waits_is_done_and_takes_nothing_with_it() -> None:
    upgraded = threading.Event()

    def script(sock: socket.socket) -> None:
        assert upgraded.wait(WITHIN)
        sock.sendall(b"injected")
        to_the_end(sock)

    async with scripted(script) as address:
        plain = binding().connect(address, secureTransport="starttls")
        await plain.opened
        waiting = plain.readable.getReader().read()
        secure = plain.startTls()
        assert await waiting == (None, True)
        upgraded.set()
        await assert_nothing_came_of(secure)


async def test_what_was_written_goes_first_and_in_the_clear() -> None:
    plaintext = bytes(range(256)) * 32768  # more than the kernel takes at once
    answers: list[bytes] = []

    def script(sock: socket.socket) -> None:
        assert exactly(sock, len(plaintext)) == plaintext
        with accepting().wrap_socket(sock, server_side=True) as secure:
            answers.append(secure.recv(100))
            secure.sendall(b"hello from there")
            answers.append(secure.recv(100))

    async with scripted(script) as address:
        plain = binding().connect(address, secureTransport="starttls")
        written = plain.writable.getWriter().write(plaintext)
        # Legal before it has opened, and with a locked writable.
        secure = plain.startTls()
        assert plain.upgraded
        async with secure:
            await written
            await secure.writable.getWriter().write(b"hello from here")
            reader = secure.readable.getReader()
            assert (await reader.read()).value == b"hello from there"
    assert answers == [b"hello from here", b""]


async def test_the_five_ways_in_which_an_upgrade_is_refused() -> None:
    def script(sock: socket.socket) -> None:
        to_the_end(sock)

    async with scripted(script) as address:
        off = binding().connect(address)
        on = binding().connect(address, secureTransport="on")
        twice = binding().connect(address, secureTransport="starttls")
        secured = twice.startTls()
        closed = binding().connect(address, secureTransport="starttls")
        await closed.opened
        closing = closed.close()
        sentences = set()
        for socket_ in (off, on, twice, secured, closed):
            for _ in range(2):
                with pytest.raises(SocketError) as caught:
                    socket_.startTls()
                assert caught.value.code == "state"
                sentences.add(str(caught.value))
        assert len(sentences) == 4  # secured is as good as on
        assert (off.upgraded, on.upgraded, twice.upgraded) == (False, False, True)
        await closing
        for socket_ in (off, on, secured):
            socket_.close("enough")


@pytest.mark.parametrize("ending", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_data_and_the_end_before_the_handshake_is_no_data(ending: bytes) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(ending)
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        secure = binding().connect(address, secureTransport="on")
        secure.writable.getWriter().write(b"a secret")
        waiting = secure.readable.getReader()
        read = waiting.read()
        with pytest.raises(SocketError):
            await secure.opened
        assert await read == (None, True)


# -- the same from the server's side


def client_hello() -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """A client of Python's in memory that has said hello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = visiting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return client, incoming, outgoing


def connected_to(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


async def serve(address: str) -> Socket:
    """A server's end that consents to TLS and starts it."""
    issued = certificates.server()
    plain = adopt(
        connected_to(address),
        secureTransport="starttls",
        role="server",
        cert=issued.chain,
        key=issued.key,
    )
    assert await read_line(plain) == b"STARTTLS\r\n"
    await plain.writable.getWriter().write(b"220 go ahead\r\n")
    return plain.startTls()


async def test_a_client_hello_that_comes_early_is_not_lost() -> None:
    answered = threading.Event()

    def script(sock: socket.socket) -> None:
        client, incoming, outgoing = client_hello()
        sock.sendall(b"STARTTLS\r\n" + outgoing.read())
        assert line(sock) == b"220 go ahead\r\n"
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))
        client.write(b"hello")
        sock.sendall(outgoing.read())
        assert answered.wait(WITHIN)

    async with scripted(script) as address:
        secure = await serve(address)
        await secure.opened
        assert (await secure.readable.getReader().read()).value == b"hello"
        answered.set()
        secure.close("enough")


@pytest.mark.parametrize("injected", INJECTED.values(), ids=INJECTED)
async def test_a_server_takes_no_commands_that_came_before_tls(
    injected: bytes,
) -> None:
    def script(sock: socket.socket) -> None:
        _, _, outgoing = client_hello()
        sock.sendall(b"STARTTLS\r\n" + injected + outgoing.read())
        to_the_end(sock)

    async with scripted(script) as address:
        await assert_nothing_came_of(await serve(address))


async def test_a_server_reads_nothing_that_came_before_the_handshake() -> None:
    issued = certificates.server()

    def script(sock: socket.socket) -> None:
        sock.sendall(b"DELETE /everything HTTP/1.1\r\n\r\n")
        end(sock)
        to_the_end(sock)

    async with scripted(script) as address:
        secure = adopt(
            connected_to(address),
            secureTransport="on",
            role="server",
            cert=issued.chain,
            key=issued.key,
        )
        await assert_nothing_came_of(secure)


# -- a driver that does not fall for it


@pytest.mark.parametrize(
    "answer", [b"N", b"E", b"", b"s", b"NS"], ids=["N", "E", "end", "s", "NS"]
)
async def test_the_postgres_driver_does_not_go_on_without_tls(answer: bytes) -> None:
    said: list[bytes] = []

    def script(sock: socket.socket) -> None:
        said.append(exactly(sock, 8))
        sock.sendall(answer)
        end(sock)
        said.append(to_the_end(sock))

    async with scripted(script) as address:
        with pytest.raises(PostgresError, match="does not offer TLS"):
            await Postgres.open(address, user="ada", password="lovelace")
    assert said[1] == b""


async def test_the_postgres_driver_takes_no_injected_login() -> None:
    def script(sock: socket.socket) -> None:
        exactly(sock, 8)
        # "S", and behind it AuthenticationOk and ReadyForQuery in the clear.
        sock.sendall(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
        to_the_end(sock)

    async with scripted(script) as address:
        with pytest.raises(SocketError):
            await Postgres.open(
                address,
                user="ada",
                password="lovelace",
                connect=binding().connect,
            )


@pytest.mark.parametrize(
    "login",
    [
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",  # come in
        b"R\0\0\0\x08\0\0\0\x03",  # the password, in the clear
        b"R\0\0\0\x0c\0\0\0\x05salt",  # its MD5
        b"R\0\0\0\x11\0\0\0\x0aSCRAM-1\0\0",  # another mechanism
    ],
)
async def test_the_postgres_driver_wants_a_proof_of_the_password(login: bytes) -> None:
    said: list[bytes] = []

    def script(sock: socket.socket) -> None:
        exactly(sock, 8)
        sock.sendall(b"S")
        forger = Forger(sock)
        assert b"ada" in forger.read()
        forger.send(login)
        said.append(to_the_end(sock))

    async with scripted(script) as address:
        with pytest.raises(PostgresError, match="SCRAM"):
            await Postgres.open(
                address,
                user="ada",
                password="lovelace",
                connect=binding().connect,
            )
    assert said == [b""]  # it was reset


async def test_the_servers_word_is_kept_until_the_handshake_has_ended() -> None:
    heard = threading.Event()

    def script(sock: socket.socket) -> None:
        assert line(sock) == b"STARTTLS\r\n"
        sock.sendall(b"220 go ahead\r\n")
        Forger(sock).send(b"first words")
        assert heard.wait(WITHIN)

    async with scripted(script) as address:
        plain = binding().connect(address, secureTransport="starttls")
        await plain.writable.getWriter().write(b"STARTTLS\r\n")
        await read_line(plain)
        secure = plain.startTls()
        reader = secure.readable.getReader()
        assert (await reader.read()).value == b"first words"
        heard.set()
        secure.close("enough")
