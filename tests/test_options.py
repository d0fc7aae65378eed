"""The options of connect(), and the reader that serves every options class."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from types import MappingProxyType
from typing import Any, get_type_hints

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsockets.errors import SocketError
from wsockets.options import (
    SignalLike,
    SocketOptions,
    SocketOptionsMembers,
    read_members,
)


class Signal:
    aborted = False

    def addEventListener(self, type: str, listener: object) -> None:
        raise NotImplementedError


SIGNAL = Signal()

# Every member with its default and a few values it takes.
MEMBERS: dict[str, tuple[object, list[object]]] = {
    "secureTransport": ("off", ["off", "on", "starttls"]),
    "allowHalfOpen": (False, [True, False]),
    "sni": (None, ["example.com", "my_host", "bücher.example", "a.", "1.example"]),
    "alpn": ((), [("h2", "http/1.1"), ("é",), ("x" * 255,), ("h2", "h2")]),
    "highWaterMark": (65536, [1, 65535, 10**12]),
    "signal": (None, [SIGNAL]),
    "connectTimeout": (30.0, [0.001, 1, 30, math.inf, 10**300]),
    "handshakeTimeout": (30.0, [0.001, 1, math.inf]),
    "closeTimeout": (5.0, [0.001, 1, math.inf]),
    "alpnRequired": (False, [True, False]),
    "tolerateTruncation": (False, [True, False]),
}


def snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


CASES = [(name, value) for name, (_, values) in MEMBERS.items() for value in values]
SPELLINGS = [
    (name, spelling, value)
    for name, value in CASES
    for spelling in dict.fromkeys([name, snake(name)])
]


def around(name: str) -> dict[str, Any]:
    """What has to be said beside the member `name` for its values to be legal."""
    result: dict[str, Any] = {"secureTransport": "on"}
    if name == "alpnRequired":
        result["alpn"] = ["h2"]
    result.pop(name, None)
    return result


def read(options: object = None, /, **members: object) -> SocketOptions:
    return read_members(SocketOptions, options, members, where="connect()")


def values_of(options: SocketOptions) -> dict[str, object]:
    return {
        field.name: getattr(options, field.name)
        for field in attrs.fields(SocketOptions)
    }


def refused(options: object = None, /, **members: object) -> str:
    with pytest.raises(SocketError) as caught:
        read(options, **members)
    assert caught.value.code == "option"
    return str(caught.value)


# -- members


def test_the_members_and_their_defaults_are_these() -> None:
    expected = {name: default for name, (default, _) in MEMBERS.items()}
    assert values_of(SocketOptions()) == expected
    assert read() == read({}) == read(None) == SocketOptions()


@pytest.mark.parametrize(("name", "spelling", "value"), SPELLINGS)
def test_a_member_is_taken_in_either_spelling_and_form(
    name: str, spelling: str, value: object
) -> None:
    members = around(name) | {spelling: value}
    made = SocketOptions(**members)
    assert getattr(made, name) == getattr(made, snake(name)) == value
    assert read(members) == read(MappingProxyType(members)) == made
    assert read(**members) == made


@pytest.mark.parametrize("name", MEMBERS)
def test_none_means_the_default(name: str) -> None:
    for spelling in (name, snake(name)):
        members: Any = {spelling: None}
        assert SocketOptions(**members) == SocketOptions()
        assert read(members) == read(**members) == SocketOptions()


@pytest.mark.parametrize("name", MEMBERS)
def test_members_are_read_only_in_both_spellings(name: str) -> None:
    options = SocketOptions()
    for spelling in (name, snake(name), "other"):
        with pytest.raises(AttributeError):
            setattr(options, spelling, MEMBERS[name][0])
    assert not hasattr(options, "__dict__")


def test_the_typed_dict_has_both_spellings_of_every_member() -> None:
    expected = {*MEMBERS, *map(snake, MEMBERS)}
    assert set(get_type_hints(SocketOptionsMembers)) == expected


def test_every_spelling_is_written_in_the_class() -> None:
    for name in {*MEMBERS, *map(snake, MEMBERS)}:
        assert name in vars(SocketOptions)


def test_a_changed_copy_is_checked_as_well() -> None:
    options = SocketOptions(secureTransport="on", alpn=["h2"])
    changed = attrs.evolve(options, alpn=["x"])  # type: ignore[call-arg]
    assert changed == SocketOptions(secureTransport="on", alpn=["x"])
    with pytest.raises(SocketError):
        attrs.evolve(options, secureTransport="off")  # type: ignore[call-arg]


def test_an_iterator_of_protocols_is_read_once() -> None:
    def protocols() -> Iterator[str]:
        yield "h2"
        yield "http/1.1"

    assert read(secureTransport="on", alpn=protocols()).alpn == ("h2", "http/1.1")


# -- values that are refused

BAD: dict[str, list[object]] = {
    "secureTransport": ["", "ON", "tls", True, b"on", 1, ["on"], {}],
    "allowHalfOpen": [0, 1, "true", []],
    "sni": [
        "",
        b"a",
        1,
        "a b",
        " a",
        "a\n",
        "a\0",
        "a/b",
        "a:1",
        "a@b",
        "a\xa0b",
        "127.0.0.1",
        "::1",
        "[::1]",
        "fe80::1%eth0",
    ],
    "alpn": [
        "h2",
        b"h2",
        bytearray(b"h2"),
        memoryview(b"h2"),
        5,
        [""],
        ["h2", ""],
        [b"h2"],
        [None],
        ["x" * 256],
        ["é" * 128],
        ["\ud800"],
        ["x" * 255] * 256,
    ],
    "highWaterMark": [0, -1, 1.0, "1", True, math.inf, -(10**5000)],
    "signal": [
        5,
        object(),
        {"aborted": False},
        type("NoListener", (), {"aborted": False})(),
        type("NoState", (), {"addEventListener": print})(),
        type("OddState", (), {"aborted": "no", "addEventListener": print})(),
    ],
    "alpnRequired": [0, 1, "true"],
    "tolerateTruncation": [0, 1, "true"],
} | {
    timeout: [
        0,
        0.0,
        -1,
        -math.inf,
        math.nan,
        "1",
        True,
        Fraction(1),
        10**400,
        10**5000,
    ]
    for timeout in ("connectTimeout", "handshakeTimeout", "closeTimeout")
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{number}")
        for name, values in BAD.items()
        for number, value in enumerate(values)
    ],
)
def test_a_wrong_type_or_range_is_refused_by_name(name: str, value: object) -> None:
    for spelling in (name, snake(name)):
        members = around(name) | {spelling: value}
        assert name in refused(members)
        assert name in refused(**members)
        with pytest.raises(SocketError) as caught:
            SocketOptions(**members)
        assert caught.value.code == "option"
        assert len(str(caught.value)) < 300


def test_an_error_says_the_value_and_what_is_accepted() -> None:
    message = refused(closeTimeout=-3)
    assert message == (
        "SocketError: closeTimeout is a number of seconds above 0 "
        "(math.inf: no limit), not -3"
    )


@pytest.mark.parametrize("sni", ["127.0.0.1", "::1"])
def test_a_numeric_address_is_never_asked_for_by_name(sni: str) -> None:
    assert "never a numeric address" in refused(secureTransport="on", sni=sni)


def test_an_endless_list_of_protocols_is_refused() -> None:
    message = refused(secureTransport="on", alpn=itertools.repeat("h2"))
    assert "65533 bytes" in message


def test_the_largest_list_of_protocols_fits() -> None:
    names = ["x" * 255] * 255 + ["x" * 252]
    assert sum(1 + len(name) for name in names) == 65533
    assert len(read(secureTransport="on", alpn=names).alpn) == 256
    names[-1] += "x"
    refused(secureTransport="on", alpn=names)


@pytest.mark.parametrize(
    "members", [{"sni": "a.example"}, {"alpn": ["h2"]}, {"sni": "a", "alpn": ["h2"]}]
)
def test_names_for_tls_are_refused_without_it(members: dict[str, Any]) -> None:
    assert "secureTransport" in refused(members)
    assert "secureTransport" in refused(members, secureTransport="off")
    for kind in ("on", "starttls"):
        assert read(members, secureTransport=kind).secureTransport == kind


@pytest.mark.parametrize("members", [{"alpn": []}, {"alpn": None}, {"sni": None}])
def test_no_names_for_tls_are_no_matter(members: dict[str, Any]) -> None:
    assert read(members) == SocketOptions()


def test_a_required_protocol_needs_protocols_to_offer() -> None:
    assert "alpnRequired" in refused(secureTransport="on", alpnRequired=True)
    assert "alpnRequired" in refused(alpn_required=True, alpn=())


def test_any_object_with_the_shape_of_a_signal_is_taken() -> None:
    signal: SignalLike = SIGNAL
    assert read(signal=signal).signal is signal


# -- reading


def test_unknown_members_of_a_mapping_are_ignored() -> None:
    options = {"host": "a", "port": 5432, 5: 6, None: 7, "alpn": [], "Sni": "a"}
    assert read(options) == SocketOptions()


@pytest.mark.parametrize("name", ["host", "secure_Transport", "Sni", "highwatermark"])
def test_an_unknown_keyword_is_a_type_error(name: str) -> None:
    for value in ("x", None):
        with pytest.raises(TypeError) as caught:
            read(**{name: value})
        assert not isinstance(caught.value, SocketError)
        assert str(caught.value) == (
            f"connect() got an unexpected keyword argument {name!r}"
        )


def test_an_unknown_keyword_of_the_class_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^SocketOptions.* keyword argument 'nope'$"):
        SocketOptions(nope=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "members"),
    [
        ({"closeTimeout": 1, "close_timeout": 1}, {}),
        ({}, {"closeTimeout": 1, "close_timeout": 1}),
        ({"closeTimeout": 1}, {"closeTimeout": 1}),
        ({"closeTimeout": 1}, {"close_timeout": 1}),
        ({"close_timeout": 1}, {"closeTimeout": 1}),
        (SocketOptions(closeTimeout=1), {"close_timeout": 1}),
    ],
)
def test_a_member_given_twice_is_refused(
    options: object, members: dict[str, object]
) -> None:
    message = refused(options, **members)
    assert "closeTimeout is given twice" in message


@pytest.mark.parametrize(
    ("options", "members"),
    [
        ({"closeTimeout": 1, "close_timeout": None}, {}),
        ({"closeTimeout": None}, {"close_timeout": 1}),
        ({"closeTimeout": 1}, {"closeTimeout": None}),
    ],
)
def test_a_member_that_is_none_is_not_given(
    options: object, members: dict[str, object]
) -> None:
    assert read(options, **members) == SocketOptions(closeTimeout=1)


def test_an_instance_is_taken_as_it_is() -> None:
    options = SocketOptions(closeTimeout=1)
    assert read(options) is options
    assert read(options, sni=None) is options


def test_keywords_complete_an_instance() -> None:
    options = SocketOptions(secureTransport="on", alpn=["h2"])
    made = read(options, close_timeout=1)
    assert made == SocketOptions(secureTransport="on", alpn=["h2"], closeTimeout=1)
    assert options.closeTimeout == 5.0


@pytest.mark.parametrize("options", ["on", 5, ["on"], object(), b"secret", Signal])
def test_options_of_another_type_are_refused(options: object) -> None:
    message = refused(options)
    assert "SocketOptions" in message
    assert "secret" not in message


REFUSED = {"minVersion": "that is Binding's", "cert": "so is that"}


@pytest.mark.parametrize("table", [REFUSED, {"min_version": REFUSED["minVersion"]}])
@pytest.mark.parametrize("name", ["minVersion", "min_version"])
def test_a_refused_name_is_refused_in_either_spelling_and_form(
    name: str, table: dict[str, str]
) -> None:
    for options, members in (({name: "s3cret"}, {}), (None, {name: "s3cret"})):
        with pytest.raises(SocketError, match="that is Binding's") as caught:
            read_members(SocketOptions, options, members, where="f()", refuse=table)
        assert caught.value.code == "option"
        assert "s3cret" not in str(caught.value)


def test_a_refused_name_without_a_value_is_not_given() -> None:
    for options, members in (({"cert": None}, {}), (None, {"cert": None})):
        made = read_members(
            SocketOptions, options, members, where="f()", refuse=REFUSED
        )
        assert made == SocketOptions()


def test_a_refused_member_of_the_class_may_have_its_default_in_an_instance() -> None:
    refuse = {"closeTimeout": "not here"}
    options = SocketOptions(connectTimeout=1)
    assert (
        read_members(SocketOptions, options, {}, where="f()", refuse=refuse) is options
    )
    with pytest.raises(SocketError, match="not here"):
        read_members(
            SocketOptions, SocketOptions(closeTimeout=1), {}, where="f", refuse=refuse
        )


@attrs.frozen
class Other:
    plain: int = 1
    clientAuth: str = "required"
    ipv6Only: bool = False
    computed: int = attrs.field(init=False, default=3)


def test_the_reader_serves_any_attrs_class() -> None:
    made = read_members(
        Other, {"client_auth": "optional", "plain": 2}, {"ipv6_only": True}, where="f()"
    )
    assert made == Other(2, "optional", True)
    assert read_members(Other, made, {}, where="f()") is made
    with pytest.raises(TypeError, match=r"^f\(\) got .* 'computed'$"):
        read_members(Other, None, {"computed": 1}, where="f()")


# -- properties

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.text()),
    st.just(SIGNAL),
    st.sampled_from(["off", "on", "starttls"]),
)
spellings = st.sampled_from(sorted({*MEMBERS, *map(snake, MEMBERS)}))


@given(st.dictionaries(spellings, anything), st.dictionaries(spellings, anything))
def test_any_values_are_options_or_an_error(
    options: dict[str, object], members: dict[str, object]
) -> None:
    made: SocketOptions | SocketError
    try:
        made = read(options, **members)
    except SocketError as error:
        made = error
    if isinstance(made, SocketError):
        assert made.code == "option"
        return
    for name, value in itertools.chain(options.items(), members.items()):
        if value is not None:
            stored = getattr(made, name)
            assert stored == (tuple(value) if isinstance(value, list) else value)
    assert read(values_of(made)) == made
