"""wsockets.tls.alpn: agreeing on a protocol."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest
from OpenSSL import SSL

from tests import certificates
from tests.tls_pairs import (
    LOCALHOST,
    connect,
    pair,
    refusal,
    s_client,
    s_server,
    serving,
    trusting,
)
from wsockets.errors import SocketError
from wsockets.tls import (
    TlsInfo,
    alpn,
    client_connection,
    finish_handshake,
    tls_error,
)
from wsockets.tls.handshake import Handshake

Peer = Callable[[str], str]
VERSIONS = ["1.2", "1.3"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("offered", "spoken", "agreed"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"], "http/1.1"),
        (["a", "b", "c"], ["x", "c"], "c"),
        (["é€"], ["é€"], "é€"),
        (["n" * 255], ["n" * 255], "n" * 255),
        ([], ["h2"], None),
        (["h2"], [], None),
        ([], [], None),
        (["\x0a\x0a", "h2"], ["h2"], "h2"),
    ],
)
def test_the_servers_order_wins(
    version: str, offered: Sequence[str], spoken: Sequence[str], agreed: str | None
) -> None:
    with pair(
        trusting(maxVersion=version), client_alpn=offered, server_alpn=spoken
    ) as both:
        assert both.shake() == (None, None)
        assert finish_handshake(both.client, offered=offered) == agreed
        assert finish_handshake(both.server, offered=spoken) == agreed


@pytest.mark.parametrize("version", VERSIONS)
def test_an_offer_without_overlap_is_fatal(version: str) -> None:
    ours, theirs = refusal(
        trusting(maxVersion=version),
        client_alpn=["h2", "\x1b[31m"],
        server_alpn=["smtp", "imap"],
    )
    assert theirs.code == "alpn"
    assert str(theirs).endswith(
        r"no protocol in common: the peer offers 'h2', '\x1b[31m'; "
        "here it is 'smtp', 'imap'"
    )
    assert isinstance(theirs.__cause__, SSL.Error)
    assert ours.code == "tls-alert"
    assert "no_application_protocol" in str(ours)


def test_a_long_offer_is_not_shown_whole() -> None:
    _, theirs = refusal(
        client_alpn=[f"protocol-{number}" for number in range(20)], server_alpn=["x"]
    )
    assert "'protocol-7' …;" in str(theirs)


@pytest.mark.parametrize(
    ("offered", "spoken", "part"),
    [([], ["h2"], "none would do"), (["h2"], [], "'h2' would do")],
)
def test_a_required_protocol_must_be_agreed_on(
    offered: Sequence[str], spoken: Sequence[str], part: str
) -> None:
    with pair(client_alpn=offered, server_alpn=spoken) as both:
        assert both.shake() == (None, None)
        with pytest.raises(SocketError, match=part) as info:
            finish_handshake(both.client, offered=offered, alpn_required=True)
        assert info.value.code == "alpn"


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ([""], "0 bytes; it has from 1 to 255"),
        (["n" * 256], "256 bytes"),
        (["é" * 128], "256 bytes"),
        (["\ud800"], "no form in UTF-8"),
    ],
)
def test_names_that_cannot_travel_never_reach_openssl(
    names: Sequence[str], part: str
) -> None:
    with (
        pytest.raises(SocketError, match=part) as info,
        pair(client_alpn=names),
    ):
        pass
    assert info.value.code == "option"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_protocol_that_was_not_offered_is_refused(version: str) -> None:
    issued = certificates.server()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(issued.certificate)
    context.use_privatekey(issued.key)
    context.set_alpn_select_callback(lambda _, __: b"evil")
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        client = client_connection(
            trusting(maxVersion=version), LOCALHOST, ["h2"], near
        )
        server = SSL.Connection(context, far)
        server.set_accept_state()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        with pytest.raises(SSL.WantReadError):
            server.do_handshake()
        with pytest.raises(SSL.Error) as caught:
            client.do_handshake()
        error = tls_error("complete the handshake", caught.value, client)
        assert error.code == "alpn"
        assert "answered with a protocol that was not offered" in str(error)


def test_an_openssl_that_does_not_look_is_looked_after() -> None:
    handshake = Handshake("client", trusting(), LOCALHOST, (b"h2",))
    with pytest.raises(SocketError, match="'evil', which was not offered: 'h2'") as (
        info
    ):
        alpn.negotiated(handshake, b"evil", required=False)
    assert info.value.code == "alpn"
    handshake = Handshake("client", trusting(), LOCALHOST, ())
    with pytest.raises(SocketError, match=r"which was not offered: none was"):
        alpn.negotiated(handshake, b"evil", required=False)


def test_an_exception_while_choosing_is_a_fatal_alert(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(_: bytes) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(alpn, "_split", fails)
    ours, theirs = refusal(client_alpn=["h2"], server_alpn=["h2"])
    assert "no_application_protocol" in str(ours)
    assert theirs.code == "tls"
    assert capfd.readouterr() == ("", "")


def test_the_answer_outlives_the_callback() -> None:
    # Under GC pressure, a pointer that is not kept shows.
    name = "p" * 200
    with pair(client_alpn=[name], server_alpn=[name]) as both:
        junk = []
        for _ in range(30):
            for end in (both.client, both.server):
                try:
                    end.do_handshake()
                except SSL.WantReadError:
                    junk.append(bytes(201))
        assert finish_handshake(both.client, offered=[name]) == name


# -- against OpenSSL's programs


def test_s_server_and_we_agree(peer: Peer) -> None:
    with s_server(peer("openssl"), "-alpn", "http/1.1,h2") as port:
        with connect(port, trusting(), alpn=["h2", "http/1.1"]) as (connection, _):
            assert connection.get_alpn_proto_negotiated() == b"http/1.1"
        with (
            pytest.raises(SocketError, match="no_application_protocol") as info,
            connect(port, trusting(), alpn=["smtp"]),
        ):
            pass
        assert info.value.code == "tls-alert"


def test_s_client_gets_the_protocol_or_the_alert(peer: Peer) -> None:
    program = peer("openssl")
    output, came_to = s_client(
        program, serving(), "-alpn", "h2,http/1.1", alpn=["http/1.1", "h2"]
    )
    assert isinstance(came_to, TlsInfo)
    assert came_to.alpn == "http/1.1"
    assert "ALPN protocol: http/1.1" in output
    output, came_to = s_client(program, serving(), "-alpn", "h2", alpn=["smtp"])
    assert isinstance(came_to, SocketError)
    assert came_to.code == "alpn"
    assert "SSL alert number 120" in output
    output, came_to = s_client(program, serving(), alpn=["smtp"])
    assert isinstance(came_to, TlsInfo)
    assert came_to.alpn is None
    assert "No ALPN negotiated" in output
