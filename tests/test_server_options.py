"""What listen() is told, in which words, and what it refuses at the call."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from tests import certificates
from tests.naming import named
from tests.serving import identity
from wsockets import Binding, SocketError, SocketOptions, TlsOptions, listen
from wsockets.server.options import ListenOptions, read_listen, read_reload

pytestmark = pytest.mark.every_loop

AUTHORITY = certificates.authority().pem
ON: dict[str, Any] = {"secureTransport": "on", **identity()}


def read(options: object = None, **members: Any) -> Any:
    return read_listen(TlsOptions(), options, members)


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"secureTransport": "yes"}, "secureTransport"),
        ({"secureTransport": "on"}, "cert and key"),
        ({"secureTransport": "on", "cert": b"x"}, "no valid certificate"),
        ({"secureTransport": "starttls", "cert": b"x"}, "no valid certificate"),
        ({"secureTransport": "on", "psk": 5}, "psk"),
        (identity(), 'cert is for secureTransport "on"'),
        ({"clientCa": AUTHORITY}, 'clientCa is for secureTransport "on"'),
        ({"alpn": ["h2"]}, "alpn"),
        (ON | {"alpn": ["h2"], "alpnRequired": 1}, "alpnRequired"),
        (ON | {"ca": AUTHORITY}, "clientCa"),
        (ON | {"verify": "none"}, "clientAuth"),
        (ON | {"sni": "x.example"}, "sniContexts"),
        (ON | {"connectTimeout": 5}, "handshakeTimeout"),
        (ON | {"connect_timeout": 5}, "handshakeTimeout"),
        (ON | {"clientCa": 5}, "clientCa is PEM"),
        (ON | {"clientCa": b"x"}, "no valid certificate"),
        (ON | {"clientAuth": "maybe", "clientCa": AUTHORITY}, "required"),
        (ON | {"clientAuth": "optional"}, "clientAuth needs clientCa"),
        (ON | {"sniContexts": []}, "sniContexts maps names"),
        (ON | {"sniContexts": {"x.example": {}}}, "a TlsOptions, not dict"),
        ({"backlog": 0}, "backlog"),
        ({"backlog": True}, "backlog"),
        ({"backlog": 2**31}, "backlog"),
        ({"maxHandshakes": "5"}, "maxHandshakes"),
        ({"reusePort": 1}, "reusePort"),
        ({"ipv6Only": "no"}, "ipv6Only"),
        ({"proxyProtocol": "v1"}, "proxyProtocol"),
        ({"proxyProtocol": True}, "trustedProxies"),
        ({"trustedProxies": ["::1"]}, "proxyProtocol=True"),
        ({"proxyProtocol": True, "trustedProxies": "10.0.0.0/8"}, "a list"),
        ({"proxyProtocol": True, "trustedProxies": 5}, "a list"),
        ({"proxyProtocol": True, "trustedProxies": [5]}, "number"),
        ({"proxyProtocol": True, "trustedProxies": ["10.0.0.1/8"]}, "host bits"),
        ({"proxyProtocol": True, "trustedProxies": ["proxy"]}, "proxy"),
        ({"handshakeTimeout": 0}, "handshakeTimeout"),
        ({"signal": 5}, "signal"),
    ],
    ids=lambda value: named(sorted(value)) if isinstance(value, dict) else named(value),
)
def test_what_cannot_be_right_is_refused_at_the_call(
    members: dict[str, Any], match: str
) -> None:
    for call in (lambda: read(members), lambda: read(**members)):
        with pytest.raises(SocketError, match=match) as caught:
            call()  # type: ignore[no-untyped-call]
        assert caught.value.code == "option"
        assert "PRIVATE" not in str(caught.value)


async def test_a_mistake_is_found_before_anything_is_opened() -> None:
    with pytest.raises(SocketError):
        listen("127.0.0.1:0", secureTransport="on")
    with pytest.raises(TypeError, match="unexpected keyword argument 'port'"):
        listen("127.0.0.1:0", port=5)  # type: ignore[call-arg]
    with pytest.raises(SocketError, match="twice"):
        listen("127.0.0.1:0", {"reusePort": True}, reuse_port=True)


def test_members_come_in_either_spelling_and_strangers_are_ignored() -> None:
    settings = read(
        {"max_handshakes": 7, "something": "else"},
        high_water_mark=9,
        trusted_proxies=["10.0.0.0/8", "unix:"],
        proxy_protocol=True,
    )
    assert settings.own.maxHandshakes == 7
    assert settings.options.highWaterMark == 9
    assert settings.own.trustedProxies == (
        ipaddress.ip_network("10.0.0.0/8"),
        "unix:",
    )
    assert read(SocketOptions(highWaterMark=5)).options.highWaterMark == 5
    assert read(TlsOptions(**identity()), secureTransport="on").handshake is not None


def test_a_binding_objects_settings_are_under_those_of_the_call() -> None:
    base = TlsOptions(**identity(), ca=AUTHORITY, verify="none", minVersion="1.3")
    settings = read_listen(base, None, {"secureTransport": "on"})
    options = settings.security.options
    assert (options.ca, options.verify, options.minVersion) == (None, "full", "1.3")
    assert options.cert == base.cert
    # "off" has no use for it, and that is no mistake.
    assert read_listen(base, None, {}).handshake is None
    with pytest.raises(SocketError, match="not the key"):
        read_listen(base, None, {**identity(), "key": certificates.client().key} | {
            "secureTransport": "on"
        })  # fmt: skip
    other = certificates.server("other.example")
    # The key of another certificate is not this one's.
    pem = other.pem + other.key_pem()
    found = read_listen(base, None, {"secureTransport": "on", "cert": pem})
    assert found.security.options.key is None


def test_starttls_may_get_its_certificate_later() -> None:
    settings = read(secureTransport="starttls")
    assert settings.handshake is None
    assert settings.security.role == "server"


def test_reload_changes_what_it_is_told_and_nothing_else(tmp_path: Path) -> None:
    first = read(**ON, clientCa=AUTHORITY, handshakeTimeout=5)
    other = certificates.server("other.example")
    second = read_reload(first, None, {"cert": other.chain, "key": other.key})
    assert second.security.options.ca == AUTHORITY
    assert second.options == first.options
    third = read_reload(second, {"client_auth": "optional"}, {})
    assert third.security.client_auth == "optional"
    assert third.security.options.cert == second.security.options.cert
    for members, match in (
        ({"cert": other.chain}, "without its key"),
        ({"cert": tmp_path / "none"}, "cannot read"),
        ({"ca": AUTHORITY}, "clientCa"),
        ({"sniContexts": {"a": TlsOptions()}}, "no cert"),
    ):
        with pytest.raises(SocketError, match=match):
            read_reload(third, members, {})
    with pytest.raises(TypeError, match="reusePort"):
        read_reload(third, None, {"reusePort": True})


def test_nothing_shows_a_secret() -> None:
    key = bytes(range(32))
    settings = read(secureTransport="on", psk=(b"identity", key), **identity())
    for shown in (repr(settings), str(settings)):
        assert "PRIVATE" not in shown
        assert repr(key) not in shown


# -- whose headers to believe


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("10.1.2.3", 5), True),
        (("11.1.2.3", 5), False),
        (("::ffff:10.1.2.3", 5, 0, 0), True),
        (("::ffff:11.1.2.3", 5, 0, 0), False),
        (("2001:db8::5", 5, 0, 0), True),
        (("fe80::1%eth0", 5, 0, 2), True),
        (("fe80::2", 5, 0, 2), False),
        ("", False),
        (b"\0name", False),
    ],
    ids=named,
)
def test_a_peer_is_trusted_by_its_address(peer: Any, trusted: bool) -> None:
    networks = ["10.0.0.0/8", "2001:db8::/32", "fe80::1"]
    options = ListenOptions(proxyProtocol=True, trustedProxies=networks)
    assert options.trusts(peer) is trusted
    everybody = ListenOptions(proxyProtocol=True, trustedProxies=["unix:"])
    assert everybody.trusts("")
    assert not everybody.trusts(("127.0.0.1", 5))
    assert not ListenOptions().trusts(("127.0.0.1", 5))
    assert not ListenOptions().trusts("")


def test_a_binding_object_listens_too() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        Binding().listen("127.0.0.1:0")
