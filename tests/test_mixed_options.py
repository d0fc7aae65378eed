from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import pytest

from tests.naming import named
from wsockets import SocketError, SocketOptions, TlsOptions
from wsockets.mixed_options import (
    AdoptMembers,
    UpgradeMembers,
    UpgradeOptions,
    read_adopt,
    read_upgrade,
)
from wsockets.options import spellings

Read: TypeAlias = Callable[[TlsOptions, object, dict[str, object]], Any]

BASE = TlsOptions(minVersion="1.3", verify="ca")


@pytest.fixture(params=[read_upgrade, read_adopt])
def read(request: pytest.FixtureRequest) -> Read:
    found: Read = request.param
    return found


def code(call: Callable[[], object]) -> str:
    with pytest.raises(SocketError) as caught:
        call()
    assert caught.value.code == "option"
    return str(caught.value)


def test_where_nothing_is_given_it_is_as_before() -> None:
    for nothing in (None, {}, {"unknown": 1}, {"ca": None, "sni": None}):
        own, over = read_upgrade(BASE, nothing, {"cert": None, "alpn": None})
        assert own == UpgradeOptions()
        assert (own.sni, own.alpn, own.expectedServerHostname) == (None, None, None)
        assert over is BASE
        first, adopted, over = read_adopt(BASE, nothing, {"role": None})
        assert first == SocketOptions()
        assert (adopted.hostname, adopted.role) == (None, "client")
        assert over is BASE


def test_each_kind_finds_its_own() -> None:
    own, over = read_upgrade(
        BASE,
        {"sni": "a.example", "verify": "full", "servername": "unknown"},
        {"alpn": ["h2"], "expected_server_hostname": "b.example", "ciphers": "HIGH"},
    )
    assert own == UpgradeOptions(
        sni="a.example", alpn=("h2",), expectedServerHostname="b.example"
    )
    assert over == TlsOptions(minVersion="1.3", verify="full", ciphers="HIGH")
    first, adopted, over = read_adopt(
        BASE,
        {"hostname": "a.example", "secureTransport": "on", "maxVersion": "1.3"},
        {"role": "server", "alpn": ["h2"], "min_version": "1.2"},
    )
    assert first == SocketOptions(secureTransport="on", alpn=["h2"])
    assert (adopted.hostname, adopted.role) == ("a.example", "server")
    assert over == TlsOptions(minVersion="1.2", maxVersion="1.3", verify="ca")


def test_what_is_given_is_laid_over_the_base_and_leaves_it_alone() -> None:
    before = attrs.asdict(BASE)
    _, over = read_upgrade(BASE, None, {"verify": "none"})
    assert (over.minVersion, over.verify) == ("1.3", "none")
    assert attrs.asdict(BASE) == before


def test_what_does_not_go_with_the_base_is_refused(read: Read) -> None:
    assert "below minVersion" in code(lambda: read(BASE, {"maxVersion": "1.2"}, {}))


def test_an_empty_alpn_is_none_at_all_and_not_as_before() -> None:
    own, _ = read_upgrade(BASE, {"alpn": []}, {})
    assert own.alpn == ()


def test_SocketOptions_will_do_for_adopt() -> None:
    options = SocketOptions(highWaterMark=7)
    first, adopted, over = read_adopt(BASE, options, {"role": "server", "verify": "ca"})
    assert first == options
    assert adopted.role == "server"
    assert over == BASE


@pytest.mark.parametrize(
    "wrong", [5, "on", ["sni"], object()], ids=lambda wrong: type(wrong).__name__
)
def test_options_of_another_type_are_refused(read: Read, wrong: object) -> None:
    assert type(wrong).__name__ in code(lambda: read(BASE, wrong, {}))


@pytest.mark.parametrize(
    "members",
    [
        {"sni": ""},
        {"sni": "127.0.0.1"},
        {"sni": b"a.example"},
        {"alpn": "h2"},
        {"alpn": [""]},
        {"alpn": [1]},
        {"expectedServerHostname": ""},
        {"expected_server_hostname": b"a.example"},
        {"verify": "no"},
        {"ca": 5},
    ],
    ids=named,
)
def test_wrong_values_are_refused_in_startTls(members: dict[str, object]) -> None:
    code(lambda: read_upgrade(BASE, members, {}))
    code(lambda: read_upgrade(BASE, None, members))


@pytest.mark.parametrize(
    "members",
    [
        {"hostname": ""},
        {"hostname": 5},
        {"role": "peer"},
        {"role": True},
        {"sni": "a.example"},
        {"secure_transport": "maybe"},
        {"key": 5},
    ],
    ids=named,
)
def test_wrong_values_are_refused_in_adopt(members: dict[str, object]) -> None:
    code(lambda: read_adopt(BASE, members, {}))
    code(lambda: read_adopt(BASE, None, members))


def test_an_address_may_be_expected_and_be_the_hostname() -> None:
    own, _ = read_upgrade(BASE, None, {"expectedServerHostname": "::1"})
    assert own.expectedServerHostname == "::1"
    _, adopted, _ = read_adopt(BASE, {"hostname": "127.0.0.1"}, {})
    assert adopted.hostname == "127.0.0.1"


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        ({"verify": "ca"}, {"verify": "ca"}),
        ({"min_version": "1.2", "minVersion": "1.2"}, {}),
        ({"alpn": ["h2"]}, {"alpn": ["h2"]}),
    ],
)
def test_a_member_given_twice_is_refused(
    read: Read, options: dict[str, object], keywords: dict[str, object]
) -> None:
    assert "given twice" in code(lambda: read(BASE, options, keywords))


@pytest.mark.parametrize(
    ("read", "name", "where"),
    [
        (read_upgrade, "hostname", "startTls"),
        (read_upgrade, "secureTransport", "startTls"),
        (read_adopt, "expectedServerHostname", "adopt"),
        (read_adopt, "policy", "adopt"),
    ],
)
def test_an_unknown_keyword_is_a_TypeError(read: Read, name: str, where: str) -> None:
    with pytest.raises(TypeError, match=rf"{where}\(\).*'{name}'") as caught:
        read(BASE, None, {name: None})
    assert not isinstance(caught.value, SocketError)


def test_type_checkers_know_the_same_members() -> None:
    tls = set(spellings(TlsOptions))
    assert set(UpgradeMembers.__annotations__) == tls | set(spellings(UpgradeOptions))
    assert set(AdoptMembers.__annotations__) == (
        tls | set(spellings(SocketOptions)) | {"hostname", "role"}
    )
