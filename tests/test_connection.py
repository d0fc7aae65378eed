"""Connections, with Python's ssl over memory at the other end.

So every byte on the wire is at hand: records can be counted, cut and damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import attrs
import pytest
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from tests import certificates
from tests.loopback import Secure, server_context
from tests.network import tcp_pair
from wsockets import SessionCache, SocketError, TlsOptions
from wsockets.connection import Connection, PlainConnection, TlsConnection
from wsockets.runtime.gate import Want
from wsockets.tls import client_connection, server_connection, tls_names

TIMEOUT = 20.0  # seconds
RECORD = 16384  # bytes in the largest record, RFC 8446 section 5.1
NO_LINGER = struct.pack("ii", 1, 0)
LOCALHOST = tls_names("localhost")

Family: TypeAlias = Literal["tcp", "unix"]


@attrs.define(eq=False)
class Far:
    """The other end; blocking, with a timeout."""

    sock: socket.socket
    tls: ssl.SSLObject | None
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @classmethod
    def make(
        cls, sock: socket.socket, context: ssl.SSLContext | None, **options: Any
    ) -> Far:
        sock.settimeout(TIMEOUT)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        options = {"server_side": True, **options}
        tls = None
        if context is not None:
            tls = context.wrap_bio(incoming, outgoing, **options)
        return cls(sock, tls, incoming, outgoing)

    def shake(self) -> bool:
        """Go on with the handshake; whether it is complete."""
        assert self.tls is not None
        if select.select([self.sock], [], [], 0)[0]:
            self.incoming.write(self.sock.recv(65536))
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def flush(self) -> None:
        self.sock.sendall(self.outgoing.read())

    def seal(self, data: bytes) -> bytes:
        """What `data` is on the wire."""
        if self.tls is None:
            return data
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        self.sock.sendall(self.seal(data))

    def wire(self) -> bytes:
        """What arrives, as it is, until the end."""
        found = bytearray()
        while chunk := self.sock.recv(65536):
            found += chunk
        return bytes(found)

    def receive(self) -> bytes:
        """What there is; b"" at the end in good order, else an ssl.SSLError."""
        if self.tls is None:
            return self.sock.recv(65536)
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                chunk = self.sock.recv(65536)
                if chunk:
                    self.incoming.write(chunk)
                else:
                    self.incoming.write_eof()

    def receive_to_end(self) -> bytes:
        found = bytearray()
        while chunk := self.receive():
            found += chunk
        return bytes(found)

    def end(self) -> None:
        """close_notify where there is TLS, and FIN."""
        if self.tls is not None:
            with pytest.raises(ssl.SSLWantReadError):
                self.tls.unwrap()
            self.flush()
        self.cut()

    def cut(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.sock.close()


@contextlib.contextmanager
def sockets(
    family: Family = "tcp", *, buffer: int | None = None
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, the near one non-blocking, closed at the end."""
    if family == "unix":
        near, far = socket.socketpair()
    else:
        near, far = tcp_pair(receive_buffer=buffer)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if buffer is not None:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    near.setblocking(False)
    with near, far:
        yield near, far


def wait_for(connection: Connection, want: Want) -> None:
    poll = select.poll()
    poll.register(
        connection.socket, select.POLLIN if want is Want.READ else select.POLLOUT
    )
    assert poll.poll(TIMEOUT * 1000), f"{want} did not come"


def client(near: socket.socket, **more: Any) -> TlsConnection:
    """A client's connection, its handshake still to be done."""
    options = more.pop("options", None) or TlsOptions(ca=certificates.authority().pem)
    engine = client_connection(options, LOCALHOST, ["echo"], near, port=443)
    return TlsConnection(engine, near, **more)


@contextlib.contextmanager
def joined(
    secure: Secure, family: Family = "tcp", *, buffer: int | None = None, **more: Any
) -> Iterator[tuple[Connection, Far]]:
    """A connection that is ready for data, and its other end."""
    with sockets(family, buffer=buffer) as (near, far_sock):
        if secure == "off":
            yield PlainConnection(near), Far.make(far_sock, None)
            return
        connection = client(near, **more)
        far = Far.make(far_sock, server_context())
        shake(connection, far)
        yield connection, far


def shake(connection: TlsConnection, far: Far) -> None:
    """Both handshakes, to the end."""
    done = False
    while (want := connection.handshake()) is not None:
        done = done or far.shake()
        if want is Want.READ:
            wait_for(connection, want)
    while not done:
        done = far.shake()
    assert connection.finish_handshake(["echo"], False) == "echo"


def receive(connection: Connection, limit: int = 65536) -> bytes:
    """Receive, having waited for it."""
    while isinstance(got := connection.receive(limit), Want):
        wait_for(connection, got)
    return got


def receive_into(connection: Connection, target: bytearray) -> int:
    """Receive into a buffer, having waited for it."""
    while isinstance(got := connection.receive_into(memoryview(target)), Want):
        wait_for(connection, got)
    return got


Receiver: TypeAlias = Callable[[Connection], bytes]


def by_value(connection: Connection) -> bytes:
    return receive(connection)


def into_a_buffer(connection: Connection) -> bytes:
    target = bytearray(65536)
    return bytes(target[: receive_into(connection, target)])


@pytest.fixture(params=[by_value, into_a_buffer])
def receiver(request: pytest.FixtureRequest) -> Receiver:
    """Either way to receive: what came."""
    found: Receiver = request.param
    return found


def send(connection: Connection, data: bytes) -> None:
    """Send everything, whoever has to read meanwhile."""
    view = memoryview(data)
    while view:
        sent = connection.send(view)
        if isinstance(sent, Want):
            wait_for(connection, sent)
        else:
            view = view[sent:]


def clog(connection: Connection) -> int:
    """Send until it would block; how many bytes were taken."""
    taken = 0
    while not isinstance(sent := connection.send(bytes(1 << 20)), Want):
        taken += sent
    assert sent is Want.WRITE
    return taken


def arrived(connection: Connection, count: int) -> None:
    """Wait until `count` bytes wait to be received, or more."""
    sock = connection.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    wait_for(connection, Want.READ)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def records(wire: bytes) -> list[int]:
    """The types of the records in `wire`, which has to end with a whole one."""
    found = []
    while wire:
        kind, _, length = struct.unpack(">BHH", wire[:5])
        assert len(wire) >= 5 + length, "the last record is not whole"
        found.append(kind)
        wire = wire[5 + length :]
    return found


# -- receiving


def test_bytes_go_both_ways(secure: Secure, receiver: Receiver) -> None:
    with joined(secure) as (connection, far):
        far.send(b"hello")
        assert receiver(connection) == b"hello"
        assert connection.send(b"and back") == 8
        assert far.receive() == b"and back"


def test_where_nothing_has_come_it_wants_to_read(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        far.send(b"x")  # behind the tickets of TLS 1.3
        receive(connection)
        assert connection.receive(100) is Want.READ
        assert connection.receive_into(memoryview(bytearray(100))) is Want.READ


def test_no_more_is_received_than_was_asked_for(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        far.send(b"0123456789")
        assert receive(connection, 3) == b"012"
        target = bytearray(4)
        assert receive_into(connection, target) == 4
        assert target == b"3456"
        assert receive(connection) == b"789"


def test_one_receive_takes_64_KiB_at_most(secure: Secure) -> None:
    data = random.Random(1).randbytes(1 << 18)
    with joined(secure) as (connection, far):
        sender = threading.Thread(target=far.send, args=(data,))
        sender.start()
        found = bytearray()
        while len(found) < len(data):
            chunk = receive(connection, 1 << 16)
            assert len(chunk) <= 1 << 16
            found += chunk
        sender.join()
        assert found == data


def test_full_records_come_several_at_once() -> None:
    with joined("on") as (connection, far):
        wire = far.seal(bytes(4 * RECORD))
        assert records(wire) == [23] * 4
        far.sock.sendall(wire)
        arrived(connection, len(wire))
        assert len(receive(connection)) == 4 * RECORD


def test_records_are_received_as_many_as_there_is_room_for() -> None:
    with joined("on") as (connection, far):
        assert isinstance(connection, TlsConnection)
        data = random.Random(2).randbytes(4 * RECORD)
        wire = far.seal(b"small") + far.seal(data)
        far.sock.sendall(wire)
        arrived(connection, len(wire))
        target = memoryview(bytearray(4 * RECORD))
        while (got := connection.receive_records(target)) is Want.READ:
            pass  # a ticket
        assert got == (5 + 3 * RECORD, 4)
        assert target[: got[0]] == b"small" + data[: 3 * RECORD]
        assert connection.receive_records(target) == (RECORD, 1)
        assert connection.receive_records(target) is Want.READ


def test_records_before_the_end_come_first() -> None:
    target = memoryview(bytearray(4 * RECORD))
    with joined("on") as (connection, far):
        assert isinstance(connection, TlsConnection)
        far.send(b"last")
        far.end()
        arrived(connection, 5)
        while (got := connection.receive_records(target)) is Want.READ:
            wait_for(connection, Want.READ)
        assert got == (4, 1)
        assert connection.receive_records(target) == (0, 0)


def test_records_before_a_failure_come_first() -> None:
    target = memoryview(bytearray(4 * RECORD))
    with joined("on") as (connection, far):
        assert isinstance(connection, TlsConnection)
        far.sock.sendall(far.seal(b"good") + b"x" * 100)
        far.cut()
        while (got := connection.receive_records(target)) is Want.READ:
            wait_for(connection, Want.READ)
        assert got == (4, 1)
        for _ in range(2):
            with pytest.raises(SocketError) as caught:
                connection.receive_records(target)
            assert caught.value.code == "tls"


def test_a_record_that_is_not_all_there_does_not_hold_up_those_before() -> None:
    with joined("on") as (connection, far):
        wire = far.seal(b"a" * RECORD) + far.seal(b"b" * RECORD)
        far.sock.sendall(wire[:-1])
        arrived(connection, len(wire) - 1)
        assert receive(connection) == b"a" * RECORD
        assert connection.receive(65536) is Want.READ
        far.sock.sendall(wire[-1:])
        assert receive(connection) == b"b" * RECORD


def test_a_small_record_is_delivered_at_once() -> None:
    with joined("on") as (connection, far):
        wire = far.seal(b"one") + far.seal(b"two")
        far.sock.sendall(wire)
        arrived(connection, len(wire))
        assert receive(connection) == b"one"
        assert connection.receive(65536) == b"two"


def test_threads_do_not_share_what_they_receive() -> None:
    found: dict[int, bool] = {}

    def exchange(number: int) -> None:
        data = bytes([number]) * (1 << 16)
        with joined("on") as (connection, far):
            got = b""
            for _ in range(20):
                sender = threading.Thread(target=far.send, args=(data,))
                sender.start()
                got = b""
                while len(got) < len(data):
                    got += receive(connection)
                sender.join()
                if got != data:
                    break
            found[number] = got == data

    threads = [threading.Thread(target=exchange, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True, 2: True}


# -- the end


def test_the_end_is_empty_again_and_again(secure: Secure, receiver: Receiver) -> None:
    with joined(secure) as (connection, far):
        far.send(b"last")
        far.end()
        assert receiver(connection) == b"last"
        for _ in range(3):
            assert receiver(connection) == b""
            assert connection.receive(1) == b""


def test_the_end_may_stand_right_behind_full_records(receiver: Receiver) -> None:
    with joined("on") as (connection, far):
        far.sock.sendall(far.seal(bytes(RECORD)))
        far.end()
        arrived(connection, RECORD + 5)
        assert len(receiver(connection)) == RECORD
        assert receiver(connection) == b""


def test_a_FIN_without_close_notify_is_an_error(receiver: Receiver) -> None:
    with joined("on") as (connection, far):
        far.send(b"before")
        far.cut()
        assert receiver(connection) == b"before"
        with pytest.raises(SocketError, match="close_notify") as caught:
            receiver(connection)
        assert caught.value.code == "truncated"
        assert isinstance(caught.value.__cause__, SSL.Error)


def test_a_FIN_in_the_middle_of_a_record_is_too(receiver: Receiver) -> None:
    with joined("on") as (connection, far):
        far.sock.sendall(far.seal(b"before")[:-3])
        far.cut()
        with pytest.raises(SocketError) as caught:
            receiver(connection)
        assert caught.value.code == "truncated"


def test_where_it_is_tolerated_a_FIN_is_the_end(receiver: Receiver) -> None:
    with joined("on", tolerate_truncation=True) as (connection, far):
        far.send(b"before")
        far.cut()
        assert receiver(connection) == b"before"
        for _ in range(3):
            assert receiver(connection) == b""


def test_where_it_is_tolerated_a_FIN_may_stand_behind_full_records(
    receiver: Receiver,
) -> None:
    with joined("on", tolerate_truncation=True) as (connection, far):
        far.send(bytes(RECORD))
        far.cut()
        arrived(connection, RECORD + 5)
        wait_for_fin(connection)
        assert len(receiver(connection)) == RECORD
        # A call that would block leaves its errno behind.
        with pytest.raises(BlockingIOError), sockets() as (near, _):
            near.recv(1)
        for _ in range(3):
            assert receiver(connection) == b""


def test_tolerance_is_for_nothing_but_the_end(receiver: Receiver) -> None:
    with joined("on", tolerate_truncation=True) as (connection, far):
        far.sock.sendall(damaged(far.seal(b"x")))
        far.cut()
        with pytest.raises(SocketError, match="damaged") as caught:
            receiver(connection)
        assert caught.value.code == "tls"


def wait_for_fin(connection: Connection) -> None:
    """Wait until the peer's FIN is there."""
    poll = select.poll()
    poll.register(connection.socket, select.POLLRDHUP)
    assert poll.poll(TIMEOUT * 1000)


def damaged(wire: bytes) -> bytes:
    return wire[:-1] + bytes([wire[-1] ^ 1])


@pytest.mark.parametrize(
    ("wrong", "code"),
    [("cut", "truncated"), ("damaged", "tls"), ("alert", "tls-alert")],
)
def test_an_error_behind_good_records_is_kept_for_the_next_call(
    wrong: str, code: str
) -> None:
    with joined("on") as (connection, far):
        wire = far.seal(bytes(RECORD)) + far.seal(bytes(RECORD))
        if wrong == "damaged":
            wire += damaged(far.seal(b"x"))
        far.sock.sendall(wire)
        if wrong == "alert":
            # It answers a damaged record with an alert.
            send_damaged(connection, far)
        far.cut()
        arrived(connection, len(wire))
        wait_for_fin(connection)
        assert len(receive(connection)) == 2 * RECORD
        with pytest.raises(SocketError) as caught:
            connection.receive(1)
        assert caught.value.code == code
        for _ in range(2):
            with pytest.raises(SocketError) as again:
                connection.receive(1)
            assert again.value is caught.value
            with pytest.raises(SocketError) as again:
                connection.receive_into(memoryview(bytearray(1)))
            assert again.value is caught.value


def send_damaged(connection: Connection, far: Far) -> None:
    """Make the far end answer with the alert bad_record_mac."""
    assert far.tls is not None
    connection.send(b"x")
    far.incoming.write(damaged(far.sock.recv(65536)))
    with pytest.raises(ssl.SSLError):
        far.tls.read(1)
    far.flush()


def test_a_reset_is_an_error(secure: Secure, receiver: Receiver) -> None:
    with joined(secure) as (connection, far):
        far.reset()
        with pytest.raises(SocketError) as caught:
            receiver(connection)
        assert caught.value.code == "reset"
        assert caught.value.errno is not None
        assert caught.value.__cause__ is not None


# -- sending


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_byte_arrives_through_tiny_buffers(
    secure: Secure, kind: Callable[[bytes], bytes]
) -> None:
    data = random.Random(2).randbytes(1_000_003)
    digests: list[str] = []
    partial = 0
    with joined(secure, buffer=4096) as (connection, far):

        def read() -> None:
            digests.append(hashlib.sha256(far.receive_to_end()).hexdigest())

        reader = threading.Thread(target=read)
        reader.start()
        rest: Any = kind(data)
        while rest:
            sent = connection.send(rest)
            if isinstance(sent, Want):
                assert sent is Want.WRITE
                wait_for(connection, sent)
                continue
            assert 0 < sent <= len(rest)
            partial += sent < len(rest)
            # In other memory than before.
            rest = kind(bytes(rest[sent:]))
        assert partial
        while (want := connection.finish()) is not None:
            wait_for(connection, want)
        reader.join()
    assert digests == [hashlib.sha256(data).hexdigest()]


def test_what_stopped_in_a_write_need_not_be_all_that_is_passed_again() -> None:
    data = random.Random(3).randbytes(1 << 20)
    with joined("on", buffer=4096) as (connection, far):
        taken = 0
        while not isinstance(sent := connection.send(data[taken:]), Want):
            taken += sent
        assert connection.send(data[taken:]) is Want.WRITE
        received: list[bytes] = []
        reader = threading.Thread(
            target=lambda: received.append(far.receive_to_end()), daemon=True
        )
        reader.start()
        # More data stands behind than before, as if more had been written.
        send(connection, data[taken:] + b"more")
        connection.finish()
        reader.join()
        assert received == [data + b"more"]


def test_large_data_goes_in_slices_so_that_little_is_held_back() -> None:
    with joined("on", buffer=65536) as (connection, far):
        far.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sent = connection.send(bytes(8 << 20))
        assert isinstance(sent, int)
        assert sent % (1 << 17) == 0


def test_an_empty_send_does_nothing(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        assert connection.send(b"") == 0
        assert connection.send(memoryview(b"")) == 0
        connection.send(b"x")
        assert far.receive() == b"x"


def test_sending_to_one_who_has_reset_fails(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        far.reset()
        wait_for(connection, Want.READ)
        with pytest.raises(SocketError) as caught:
            send(connection, bytes(1 << 24))
        assert caught.value.code == "reset"


def test_sending_to_one_who_has_said_goodbye_and_gone_fails(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        far.end()
        assert receive(connection) == b""
        connection.send(b"not read")
        far.reset()
        with pytest.raises(SocketError) as caught:
            send(connection, bytes(1 << 24))
        assert caught.value.code in {"reset", "closed"}


def test_the_other_direction_goes_on_after_the_peers_end(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        far.end()
        assert receive(connection) == b""
        connection.send(b"still here")
        assert far.receive() == b"still here"


def test_it_knows_what_the_peer_has_not_taken(secure: Secure) -> None:
    with joined(secure, buffer=16384) as (connection, far):
        taken = clog(connection)
        before = connection.unsent()
        assert before > 0
        far.sock.recv(taken, socket.MSG_WAITALL)
        wait_for(connection, Want.WRITE)
        assert connection.unsent() < before


# -- ending


def test_finish_sends_the_end_in_good_order(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        connection.send(b"last")
        assert connection.finish() is None
        assert far.receive() == b"last"
        assert far.receive() == b""
        assert far.sock.recv(1) == b""
        far.send(b"the other direction")
        assert receive(connection) == b"the other direction"


def test_finish_waits_for_room() -> None:
    with joined("on", buffer=4096) as (connection, far):
        junk = fill(connection.socket)
        assert connection.finish() is Want.WRITE
        while junk:
            junk -= len(far.sock.recv(junk))
        wait_for(connection, Want.WRITE)
        assert connection.finish() is None
        assert far.receive() == b""


def fill(sock: socket.socket) -> int:
    """Fill the kernel's buffers from below TLS; how many bytes they take."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += sock.send(bytes(65536))
    return taken


def test_finish_and_cut_do_not_mind_a_peer_that_is_gone(secure: Secure) -> None:
    for ending in ("finish", "cut"):
        with joined(secure) as (connection, far):
            far.reset()
            wait_for(connection, Want.READ)
            end: Callable[[], Want | None] = getattr(connection, ending)
            assert end() is None
            assert end() is None


def test_cut_sends_FIN_and_no_more(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        connection.send(b"last")
        assert connection.cut() is None
        far.send(b"the other direction")
        assert far.receive() == b"last"
        if secure == "on":
            with pytest.raises(ssl.SSLError, match="EOF"):
                far.receive()
        assert far.sock.recv(1) == b""
        assert receive(connection) == b"the other direction"


@pytest.mark.parametrize("seed", range(5))
def test_cut_with_a_record_in_flight_leaves_whole_records(seed: int) -> None:
    # Buffers of many sizes, so that it stops at many places in a record.
    with joined("on", buffer=4096 + 1111 * seed) as (connection, far):
        taken = clog(connection)
        assert connection.cut() is Want.WRITE
        wire: list[bytes] = []
        reader = threading.Thread(target=lambda: wire.append(far.wire()))
        reader.start()
        while (want := connection.cut()) is not None:
            wait_for(connection, want)
        reader.join()
        assert set(records(wire[0])) == {23}
        # What was not begun is not sent: of a slice, most can be left.
        assert taken <= len(wire[0]) < taken + (1 << 20)


def test_cut_gives_up_when_the_peer_is_gone() -> None:
    with joined("on", buffer=4096) as (connection, far):
        clog(connection)
        far.reset()
        wait_for(connection, Want.READ)
        with pytest.raises(SocketError) as caught:
            connection.cut()
        assert caught.value.code == "reset"


def test_close_is_the_end_for_a_peer_that_has_nothing_more_to_say(
    secure: Secure,
) -> None:
    with joined(secure) as (connection, far):
        connection.send(b"last")
        connection.finish()
        connection.close()
        assert connection.socket.fileno() == -1
        assert far.receive_to_end() == b"last"


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_reset_is_noticed(secure: Secure, family: Family) -> None:
    with joined(secure, family) as (connection, far):
        connection.reset()
        assert connection.socket.fileno() == -1
        try:
            end = far.sock.recv(1)
        except ConnectionResetError:
            return
        assert (family, end) == ("unix", b"")


@pytest.mark.parametrize("ending", ["close", "reset", "release"])
def test_an_ending_keeps_the_session_for_another_connection(ending: str) -> None:
    cache = SessionCache()
    options = TlsOptions(ca=certificates.authority().pem, sessions=cache)
    resumed = []
    for _ in range(2):
        with joined("on", options=options) as (connection, far):
            assert isinstance(connection, TlsConnection)
            far.send(b"x")
            receive(connection)
            resumed.append(connection.info().resumed)
            getattr(connection, ending)()
    assert resumed == [False, True]


def test_release_lets_go_of_the_socket_unclosed(secure: Secure) -> None:
    with joined(secure) as (connection, far):
        connection.send(b"one ")
        sock = connection.release()
        del connection
        sock.send(b"two")
        sock.shutdown(socket.SHUT_WR)
        assert far.wire().endswith(b"two")
        sock.close()


# -- the handshake


def test_a_handshake_tells_what_it_waits_for() -> None:
    with sockets() as (near, far_sock):
        connection = client(near)
        assert connection.handshake() is Want.READ
        assert connection.handshake() is Want.READ
        shake(connection, Far.make(far_sock, server_context()))
        info = connection.info()
        assert info.protocol == "TLSv1.3"
        assert info.alpn == "echo"
        assert info.verified


def test_a_handshake_waits_for_room() -> None:
    with sockets(buffer=4096) as (near, far_sock):
        junk = fill(near)
        connection = client(near)
        assert connection.handshake() is Want.WRITE
        while junk:
            junk -= len(far_sock.recv(junk))
        wait_for(connection, Want.WRITE)
        shake(connection, Far.make(far_sock, server_context()))
        connection.send(b"well")


def test_the_servers_side_works_as_well() -> None:
    issued = certificates.server()
    with sockets("unix") as (near, far_sock):
        options = TlsOptions(cert=issued.chain, key=issued.key)
        connection = TlsConnection(server_connection(options, ["echo"], near), near)
        context = ssl.create_default_context(cadata=certificates.authority().pem)
        context.set_alpn_protocols(["echo"])
        far = Far.make(
            far_sock, context, server_side=False, server_hostname="localhost"
        )
        far.shake()
        shake(connection, far)
        far.send(b"hello")
        assert receive(connection) == b"hello"
        connection.send(b"and back")
        assert far.receive() == b"and back"


def test_a_peer_that_does_not_speak_TLS_fails_the_handshake() -> None:
    with sockets() as (near, far_sock):
        connection = client(near)
        assert connection.handshake() is Want.READ
        far_sock.sendall(b"220 mail.example.com ESMTP\r\n")
        wait_for(connection, Want.READ)
        with pytest.raises(SocketError, match="does not speak TLS") as caught:
            connection.handshake()
        assert caught.value.code == "tls"
        assert isinstance(caught.value.__cause__, SSL.Error)


def test_an_end_in_the_handshake_fails_it() -> None:
    with sockets() as (near, far_sock):
        connection = client(near)
        assert connection.handshake() is Want.READ
        far_sock.shutdown(socket.SHUT_WR)
        wait_for(connection, Want.READ)
        with pytest.raises(SocketError, match="before the handshake") as caught:
            connection.handshake()
        assert caught.value.code == "truncated"


def test_a_protocol_that_is_required_and_missing_fails_it() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server().files())
    with sockets() as (near, far_sock):
        connection = client(near)
        far = Far.make(far_sock, context)
        while (want := connection.handshake()) is not None:
            far.shake()
            wait_for(connection, want)
        with pytest.raises(SocketError) as caught:
            connection.finish_handshake(["echo"], True)
        assert caught.value.code == "alpn"


# -- records that have to leave first


def sealed(connection: TlsConnection, data: bytes) -> bytes:
    """`data` as the records that `connection` has to send next."""
    ssl_ = connection._ssl
    memory = lib.BIO_new(lib.BIO_s_mem())
    lib.SSL_set_bio(ssl_, lib.BIO_new(lib.BIO_s_mem()), memory)
    assert lib.SSL_write(ssl_, data, len(data)) == len(data)
    size = len(data) + 4096
    target = ffi.new("char[]", size)
    records = bytes(ffi.buffer(target, lib.BIO_read(memory, target, size)))
    lib.SSL_set_fd(ssl_, connection.socket.fileno())
    return records


@contextlib.contextmanager
def indebted(size: int = 1 << 20) -> Iterator[tuple[TlsConnection, Far, bytes]]:
    """A connection that owes its peer the records of `size` bytes, and those."""
    data = random.Random(5).randbytes(size)
    with joined("on", buffer=4096) as (connection, far):
        assert isinstance(connection, TlsConnection)
        connection.owe(sealed(connection, data))
        yield connection, far, data


def test_what_is_owed_leaves_before_anything_else() -> None:
    more = random.Random(6).randbytes(300_001)
    found: list[bytes] = []
    with indebted() as (connection, far, data):
        assert connection.flush() is Want.WRITE
        assert connection.send(b"too early") is Want.WRITE
        reader = threading.Thread(target=lambda: found.append(far.receive_to_end()))
        reader.start()
        send(connection, more)
        while (want := connection.finish()) is not None:
            wait_for(connection, want)
        reader.join()
    assert found == [data + more]


def test_one_who_owes_receives_all_the_same(receiver: Receiver) -> None:
    with indebted() as (connection, far, data):
        far.send(b"an answer")
        assert receiver(connection) == b"an answer"
        assert connection.receive(10) is Want.READ
        far.send(b"x" * 3 * RECORD)
        found = b""
        while len(found) < 3 * RECORD:
            found += receiver(connection)
        assert connection.flush() is Want.WRITE
        take(connection, far)
        assert connection.send(b"!") == 1
        found = b""
        while len(found) <= len(data):
            found += far.receive()
        assert found == data + b"!"


def test_the_debt_paid_it_goes_on_as_before() -> None:
    with indebted(100) as (connection, far, data):
        assert connection.flush() == 0
        assert far.receive() == data
        far.send(b"one")
        assert receive(connection) == b"one"
        assert connection._detour is None
        assert connection.send(b"two") == 3
        assert far.receive() == b"two"


def take(connection: TlsConnection, far: Far) -> None:
    """Let the peer take all that is owed."""
    while isinstance(connection.flush(), Want):
        far.incoming.write(far.sock.recv(65536))


def test_what_it_had_to_fetch_is_not_lost_when_it_rejoins_its_fd() -> None:
    with indebted() as (connection, far, _):
        far.send(b"first second")
        assert receive(connection, 6) == b"first "
        take(connection, far)
        assert connection.rejoin() == b""
        assert receive(connection) == b"second"


def test_records_that_it_had_to_fetch_are_delivered_first() -> None:
    with indebted() as (connection, far, _):
        far.sock.sendall(far.seal(b"first") + far.seal(b"second"))
        arrived(connection, 50)
        assert receive(connection, 5) == b"first"
        take(connection, far)
        assert connection.rejoin() == b"second"
        assert connection.rejoin() == b""
        far.send(b"third")
        assert receive(connection) == b"third"


def test_an_end_that_was_fetched_is_the_end_after_rejoining() -> None:
    with indebted() as (connection, far, _):
        far.send(b"last")
        far.end()
        arrived(connection, 40)
        assert receive(connection, 1) == b"l"
        take(connection, far)
        assert connection.rejoin() == b"ast"
        assert receive(connection) == b""


def test_an_end_that_was_fetched_leaves_nothing_to_go_round() -> None:
    with indebted() as (connection, far, _):
        far.sock.sendall(far.seal(b"last"))
        far.end()
        arrived(connection, 40)
        assert receive(connection, 4) == b"last"
        take(connection, far)
        assert connection.rejoin() == b""
        # Whoever borrows the SSL now frees what it went round by.
        assert connection._detour is None
        assert receive(connection) == b""


def test_one_who_owes_notices_a_FIN_without_close_notify(receiver: Receiver) -> None:
    with indebted() as (connection, far, _):
        far.cut()
        with pytest.raises(SocketError) as caught:
            receiver(connection)
        assert caught.value.code == "truncated"


def test_one_who_owes_finishes_and_cuts_when_all_is_paid() -> None:
    for end in (TlsConnection.finish, TlsConnection.cut):
        with indebted() as (connection, far, data):
            assert end(connection) is Want.WRITE
            found: list[bytes] = []
            reader = threading.Thread(target=lambda: found.append(far.wire()))  # noqa: B023
            reader.start()
            while (want := end(connection)) is not None:
                wait_for(connection, want)
            reader.join()
            assert len(found[0]) > len(data)


def test_a_debt_that_cannot_be_paid_is_for_a_write_to_say(receiver: Receiver) -> None:
    with indebted() as (connection, far, _):
        far.reset()
        wait_for(connection, Want.READ)
        with pytest.raises(SocketError) as caught:
            receiver(connection)
        assert caught.value.code == "reset"
        with pytest.raises(SocketError) as caught:
            connection.send(b"x")
        assert caught.value.code == "reset"


def test_a_plain_connection_holds_nothing_back() -> None:
    with joined("off") as (connection, _):
        assert connection.flush() == 0
