from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.certificates import authority, server
from tests.tls_pairs import serving, trusting
from wsockets import SocketError, SocketOptions, TlsOptions
from wsockets.connection import TlsConnection
from wsockets.handshake import Handshake, Security
from wsockets.mixed_options import UpgradeOptions
from wsockets.runtime.gate import Want


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def on(**members: object) -> SocketOptions:
    return SocketOptions(secureTransport="on", **members)  # type: ignore[arg-type]


def shake(one: TlsConnection, other: TlsConnection) -> None:
    """Both handshakes, by turns."""
    for _ in range(10):
        if one.handshake() is None and other.handshake() is None:
            return
        other.handshake()
    raise AssertionError("the handshake makes no progress")


def receive(connection: TlsConnection) -> bytes:
    """What has arrived; TLS 1.3's tickets are passed over one by one."""
    for _ in range(10):
        if not isinstance(got := connection.receive(100), Want):
            return got
    raise AssertionError("there is nothing to receive")


@pytest.mark.parametrize(
    ("hostname", "sni", "expected", "sent", "verified"),
    [
        ("a.example", None, None, "a.example", "a.example"),
        ("a.example", "b.example", None, "b.example", "b.example"),
        ("a.example", None, "c.example", "c.example", "c.example"),
        ("a.example", "b.example", "c.example", "b.example", "c.example"),
        ("192.0.2.1", None, None, None, "192.0.2.1"),
        ("192.0.2.1", "b.example", None, "b.example", "b.example"),
        (None, "b.example", None, "b.example", "b.example"),
        (None, None, None, None, None),
    ],
)
def test_who_is_asked_for_and_who_is_verified(
    hostname: str | None,
    sni: str | None,
    expected: str | None,
    sent: str | None,
    verified: str | None,
) -> None:
    security = Security(trusting(), hostname, 443)
    made = Handshake.make(
        on(sni=sni), security, UpgradeOptions(expectedServerHostname=expected)
    )
    assert (made.names.server_name, made.names.verify_name) == (sent, verified)
    assert made.port == 443
    assert made.role == "client"
    assert made.options is security.options


def test_an_upgrade_comes_before_the_options_of_the_socket() -> None:
    options = on(sni="a.example", alpn=["a"])
    security = Security(trusting())
    as_before = Handshake.make(options, security)
    assert as_before == Handshake.make(options, security, UpgradeOptions())
    assert as_before.names.server_name == "a.example"
    assert as_before.alpn == ("a",)
    changed = Handshake.make(
        options, security, UpgradeOptions(sni="b.example", alpn=["b"])
    )
    assert changed.names.server_name == "b.example"
    assert changed.alpn == ("b",)
    none = Handshake.make(options, security, UpgradeOptions(alpn=[]))
    assert none.alpn == ()


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(SocketError) as caught:
        Handshake.make(on(), Security(trusting(), "a" * 64 + ".example"))
    assert caught.value.code == "option"


@pytest.mark.parametrize(
    ("security", "why"),
    [
        (Security(TlsOptions()), "needs a name to verify"),
        (Security(TlsOptions(ca="no PEM"), "a.example"), "ca"),
        (Security(TlsOptions(), role="server"), "cert"),
        (
            Security(
                TlsOptions(cert=server().pem, key=authority().key_pem()), role="server"
            ),
            "key",
        ),
    ],
    ids=["no name", "no certificate", "a server without one", "another's key"],
)
def test_what_can_be_known_before_there_is_a_connection_is_checked(
    security: Security, why: str
) -> None:
    made = Handshake.make(on(), security)
    with pytest.raises(SocketError, match=why) as caught:
        made.check()
    assert caught.value.code == "option"


def test_good_material_passes() -> None:
    Handshake.make(on(), Security(trusting(), "a.example")).check()
    Handshake.make(on(), Security(trusting(verify="none"))).check()
    Handshake.make(on(), Security(serving(), role="server")).check()


def test_connections_take_their_roles(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    options = on(alpn=["echo"])
    client = Handshake.make(options, Security(trusting(), "localhost", 443))
    of_server = Handshake.make(options, Security(serving(), role="server"))
    one = client.connection(near, False)
    other = of_server.connection(far, False)
    assert one.socket is near
    shake(one, other)
    assert one.finish_handshake(["echo"], True) == "echo"
    assert other.finish_handshake(["echo"], True) == "echo"
    other.send(b"hello")
    assert receive(one) == b"hello"
    assert one.receive(100) is Want.READ


@pytest.mark.parametrize("tolerate", [True, False])
def test_they_know_whether_a_truncated_end_is_tolerated(
    pair: tuple[socket.socket, socket.socket], tolerate: bool
) -> None:
    near, far = pair
    client = Handshake.make(on(), Security(trusting(), "localhost"))
    of_server = Handshake.make(on(), Security(serving(), role="server"))
    one = client.connection(near, tolerate)
    shake(one, of_server.connection(far, False))
    one.finish_handshake([], False)
    far.shutdown(socket.SHUT_WR)
    if tolerate:
        assert receive(one) == b""
        return
    with pytest.raises(SocketError) as caught:
        receive(one)
    assert caught.value.code == "truncated"
