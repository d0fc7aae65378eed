"""SocketInfo: one class for two specifications."""

from __future__ import annotations

import socket as _socket

import pytest

from wsockets import CipherInfo, EphemeralKeyInfo, SocketAddress, SocketInfo
from wsockets.socket_info import Particulars, info_of
from wsockets.tls import TlsDetails

DETAILS = TlsDetails(
    servername="localhost",
    certificate=b"ours",
    peerCertificate=b"theirs",
    verificationStatus="verified",
    cipher=CipherInfo("a", "b", "c"),
    ephemeralKey=EphemeralKeyInfo("ECDH", "x25519", 253),
    session=b"a session",
    ticket=b"a ticket",
    alpn="echo",
)
EARLY = (
    *("servername", "certificate", "peerCertificate", "verificationStatus"),
    *("cipher", "ephemeralKey", "session", "ticket"),
)


def test_of_a_tcp_connection_both_ends_are_known_in_whole_and_in_parts() -> None:
    with _socket.create_server(("127.0.0.1", 0)) as server:
        with _socket.create_connection(server.getsockname()) as sock:
            port, own = server.getsockname()[1], sock.getsockname()[1]
            info = info_of(sock, None)
            assert info == SocketInfo(f"127.0.0.1:{port}", f"127.0.0.1:{own}", None)
            assert info.remote_address == info.remoteAddress
            assert info.local_address == info.localAddress
            assert info.remote == SocketAddress("127.0.0.1", port)
            assert info.local == SocketAddress("127.0.0.1", own)
            assert info.type == "tcp"
            assert info_of(sock, None, secure=True).type == "tls"
            assert info_of(sock, "h2", secure=True).type == "h2"
            announced = info_of(sock, None, "[2001:db8::1]:7")
            assert announced.remote == SocketAddress("2001:db8::1", 7)


def test_of_a_unix_socket_there_are_no_parts() -> None:
    one, other = _socket.socketpair()
    with one, other:
        info = info_of(one, None)
        assert info.remoteAddress == info.localAddress == "unix:"
        assert info.remote is info.local is None
        assert info.type is None
        assert info_of(one, None, secure=True).type == "tls"


def test_what_was_reset_has_no_ends() -> None:
    with _socket.socket() as sock:
        assert info_of(sock, None) == SocketInfo()
        assert info_of(sock, None, "127.0.0.1:1").remoteAddress == "127.0.0.1:1"


@pytest.mark.parametrize("member", EARLY)
def test_what_tls_came_to_is_there_if_somebody_has_asked(member: str) -> None:
    asked = SocketInfo(particulars=Particulars("tls", DETAILS))
    assert getattr(asked, member) == getattr(DETAILS, member)
    assert getattr(SocketInfo(), member) is None
    assert asked == SocketInfo()
    assert "a session" not in repr(asked)


def test_members_of_several_words_have_both_spellings() -> None:
    info = SocketInfo(particulars=Particulars("tls", DETAILS))
    assert info.peer_certificate == info.peerCertificate
    assert info.verification_status == info.verificationStatus
    assert info.ephemeral_key == info.ephemeralKey
    assert info.signature_algorithms is info.signatureAlgorithms is None
