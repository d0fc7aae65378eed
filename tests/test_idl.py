"""The classes against the interfaces in `spec/*.webidl`, member by member.

Both directions: what the files define exists here, in both spellings and with
the arguments and defaults that they give it; and what the classes offer is
either defined there or one of our own additions, which are listed below.
"""

from __future__ import annotations

import inspect
import keyword
import re
import socket
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import wsockets
from wsockets import SocketError
from wsockets.early import SocketInitMembers
from wsockets.mixed_options import AdoptMembers, UpgradeMembers
from wsockets.options import SocketOptionsMembers
from wsockets.server import ListenMembers, ReloadMembers
from wsockets.socket_listener import SocketListenerMembers
from wsockets.socket_options import SystemOptionsMembers
from wsockets.tls import TlsOptionsMembers
from wsockets.udp.options import UDPSocketOptionsMembers

from . import webidl
from .webidl import MISSING

IDL = webidl.read()

# Dictionaries that are classes here; the others exist as keywords only.
DICTIONARY_CLASSES: dict[str, Any] = {
    "CipherInfo": wsockets.CipherInfo,
    "EphemeralKeyInfo": wsockets.EphemeralKeyInfo,
    "ReadableStreamReadResult": wsockets.ReadResult,
    "SocketAddress": wsockets.SocketAddress,
    "SocketInfo": wsockets.SocketInfo,
    "SocketOptions": wsockets.SocketOptions,
    "SocketStats": wsockets.SocketStats,
    "SystemOptions": wsockets.SystemOptions,
    "TlsOptions": wsockets.TlsOptions,
    "UDPMessage": wsockets.UDPMessage,
    "UDPSocketOpenInfo": wsockets.UDPSocketOpenInfo,
    "UDPSocketOptions": wsockets.UDPSocketOptions,
}

# An interface in the text, a function and a method here.
FUNCTIONS: dict[str, Any] = {"Connect": wsockets}

INTERFACE_CLASSES: dict[str, Any] = {
    name: getattr(wsockets, name) for name in IDL.interfaces if name not in FUNCTIONS
}

# What the classes offer beyond the files: Python's own ways of doing things,
# and functions and methods that are ours alone.
ADDITIONS: dict[str, set[str]] = {
    "ReadableStreamReadResult": {"count", "index"},  # it is a tuple
    "ServerSocket": {"stats"},
    "Socket": {"bridge", "system_options", "tls_info"},
    "SocketAddress": {"numeric"},
}
# Names that the files define, and that are no classes here.
EXPORTED_TYPES = {"AnySocketAddress", "SecureTransportKind", "SocketDnsQueryType"}
EXPORTED_ADDITIONS = {
    "AbortError",
    "Bridge",
    "BridgeEnd",
    "BridgeFlow",
    "BridgeOptions",
    "BridgeStats",
    "ErrorCode",
    "Policy",
    "Promise",
    "ReadableStreamAsyncIterator",
    "Resolver",
    "ServerStats",
    "SessionCache",
    "SocketError",
    "TlsInfo",
    "UnixAddress",
    "activated",
    "adopt",
    "connect",
    "createBridge",
    "create_bridge",
    "deny_private",
    "from_fd",
    "listen",
    "to_fd",
}


def snake(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: "_" + capital[0].lower(), name)


def python_name(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name


def spellings(name: str) -> set[str]:
    return {python_name(name), python_name(snake(name))}


def public(cls: Any) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def of_kind(*kinds: str) -> list[Any]:
    return [
        pytest.param(interface, member, id=f"{interface}.{member.name}")
        for interface in INTERFACE_CLASSES
        for member in IDL.interfaces[interface].members.values()
        if member.kind in kinds
    ]


def fields() -> list[Any]:
    return [
        pytest.param(cls, field, id=f"{name}.{field.name}")
        for name, cls in DICTIONARY_CLASSES.items()
        for field in IDL.fields(name).values()
    ]


def test_a_name_has_both_spellings_and_a_keyword_an_underscore() -> None:
    assert spellings("startTls") == {"startTls", "start_tls"}
    assert spellings("closed") == {"closed"}
    assert spellings("from") == {"from_"}


# -- the files themselves


BUILT_IN = {
    "any", "object", "boolean", "double", "undefined", "unsigned", "short", "long",
    "unrestricted", "DOMString", "ArrayBufferView", "Promise", "sequence", "or",
    "BufferSource", "FrozenArray", "octet",
}  # fmt: skip


def test_every_type_that_the_files_use_is_defined_in_them() -> None:
    known = BUILT_IN.union(
        *(IDL.interfaces, IDL.dictionaries, IDL.enums, IDL.typedefs, IDL.callbacks),
        EXPORTED_ADDITIONS,
    )
    used = [
        *(
            field.type
            for name in IDL.dictionaries
            for field in IDL.fields(name).values()
        ),
        *IDL.typedefs.values(),
        *(
            argument.type
            for name in IDL.interfaces
            for member in IDL.members(name).values()
            for argument in member.arguments
        ),
    ]
    words = {word for text in used for word in re.findall(r"\w+", text)}
    assert words - known == set()
    assert [text for text in used if "[]" in text] == []


def test_a_default_is_a_value_of_its_type() -> None:
    wrong = [
        f"{name}.{field.name}"
        for name in IDL.dictionaries
        for field in IDL.fields(name).values()
        if field.default is None and not field.type.endswith("?")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "interface Broken { readonly boolean locked; };",
        "dictionary Broken { boolean once = false; }",
        "interface Broken { undefined close() };",
        "partial dictionary Nowhere { boolean once = false; };",
        "dictionary Twice { boolean a; }; partial dictionary Twice { boolean a; };",
        "namespace Strange { };",
    ],
)
def test_the_reader_of_the_files_refuses_what_it_cannot_hold(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "broken.webidl"
    file.write_text(text)
    with pytest.raises(ValueError):
        webidl.read([file])


# -- interfaces


@pytest.mark.parametrize(("interface", "member"), of_kind("attribute"))
def test_an_attribute_exists_in_both_spellings_and_cannot_be_set(
    interface: str, member: webidl.Member
) -> None:
    cls = INTERFACE_CLASSES[interface]
    for name in spellings(member.name):
        attribute = inspect.getattr_static(cls, name)
        if attrs.has(cls) and name in attrs.fields_dict(cls):
            continue  # a frozen value; see below for what happens to those
        assert isinstance(attribute, property), f"{interface}.{name}"
        assert (attribute.fset is None) is member.readonly
        assert attribute.fdel is None
        assert inspect.getdoc(attribute), f"{interface}.{name} has no docstring"


@pytest.mark.parametrize(("interface", "member"), of_kind("method", "async-iterable"))
def test_a_method_exists_in_both_spellings_and_takes_what_it_should(
    interface: str, member: webidl.Member
) -> None:
    cls = INTERFACE_CLASSES[interface]
    for name in spellings(member.name):
        declared = inspect.getattr_static(cls, name)
        assert isinstance(declared, (staticmethod, classmethod)) is member.static
        function = getattr(cls, name)
        check_arguments(function, member, bound=member.static)
        assert inspect.getdoc(function), f"{interface}.{name} has no docstring"


@pytest.mark.parametrize(("interface", "member"), of_kind("constructor"))
def test_a_constructor_takes_what_it_should(
    interface: str, member: webidl.Member
) -> None:
    check_arguments(INTERFACE_CLASSES[interface], member, bound=True)


@pytest.mark.parametrize(
    "interface",
    [
        name
        for name, found in IDL.interfaces.items()
        if name in INTERFACE_CLASSES and "constructor" not in found.members
    ],
)
def test_an_interface_without_a_constructor_is_not_constructed(interface: str) -> None:
    with pytest.raises(TypeError, match=interface):
        INTERFACE_CLASSES[interface]()


@pytest.mark.parametrize(("interface", "_member"), of_kind("async-iterable"))
def test_an_async_iterable_works_with_async_for(
    interface: str, _member: webidl.Member
) -> None:
    assert callable(inspect.getattr_static(INTERFACE_CLASSES[interface], "__aiter__"))


def test_a_socket_is_a_target_of_events_in_addition_to_its_interface() -> None:
    # The Sockets API's interface has no base, and the early draft's has this one.
    assert issubclass(wsockets.Socket, wsockets.EventTarget)
    inherited = IDL.members("EventTarget")
    del inherited["constructor"]
    assert {
        name: member
        for name, member in IDL.members("Socket").items()
        if name in inherited
    } == inherited


def test_connect_is_a_function_and_a_method_of_a_binding() -> None:
    member = IDL.interfaces["Connect"].members["connect"]
    check_arguments(wsockets.connect, member, bound=True)
    check_arguments(wsockets.Binding.connect, member, bound=False)


@pytest.mark.parametrize("interface", INTERFACE_CLASSES)
def test_a_class_inherits_what_its_interface_does(interface: str) -> None:
    base = IDL.interfaces[interface].base
    if base is not None:
        assert issubclass(INTERFACE_CLASSES[interface], INTERFACE_CLASSES[base])


@pytest.mark.parametrize("interface", INTERFACE_CLASSES)
def test_a_class_offers_nothing_that_is_neither_standard_nor_listed(
    interface: str,
) -> None:
    standard = {
        name
        for member in IDL.members(interface).values()
        if member.kind != "constructor"
        for name in spellings(member.name)
    }
    offered = public(INTERFACE_CLASSES[interface])
    assert offered - standard == ADDITIONS.get(interface, set())


def check_arguments(function: Any, member: webidl.Member, *, bound: bool) -> None:
    """Hold a signature against a member's arguments."""
    signature = inspect.signature(function)
    this = [] if bound else [object()]
    every = [object()] * len(member.arguments)
    required = [object()] * sum(not each.optional for each in member.arguments)
    signature.bind(*this, *required)
    signature.bind(*this, *every)
    if required:
        with pytest.raises(TypeError):
            signature.bind(*this, *required[1:])
    for argument in member.arguments:
        if not (argument.optional and argument.type in IDL.dictionaries):
            continue
        keywords = {
            name
            for field in IDL.fields(argument.type)
            for name in {field, snake(field)}
        }
        for name in keywords:
            signature.bind(*this, *required, **{name: object()})


# -- dictionaries


@pytest.mark.parametrize(("cls", "field"), fields())
def test_a_dictionary_member_exists_in_both_spellings_with_its_default(
    cls: Any, field: webidl.Field
) -> None:
    for name in spellings(field.name):
        assert hasattr(cls, name)
    if cls is wsockets.ReadResult:
        assert field.name in cls._fields
        return
    attribute = attrs.fields_dict(cls).get(field.name)
    if attribute is None:
        # One specification's name for what is another's, or derived from it.
        assert isinstance(inspect.getattr_static(cls, field.name), property)
        if field.default is not MISSING:
            assert getattr(cls(), field.name) == field.default
        return
    default = attribute.default
    if field.required:
        assert default is attrs.NOTHING
    elif field.default is not MISSING:
        assert default == field.default
        assert isinstance(default, bool) is isinstance(field.default, bool)


@pytest.mark.parametrize(
    "name", ["SocketOptions", "TlsOptions", "UDPSocketOptions", "BindingOptions"]
)
def test_options_are_made_by_keywords_in_either_spelling(name: str) -> None:
    cls: Any = DICTIONARY_CLASSES.get(name, wsockets.Binding)
    signature = inspect.signature(cls)
    for field in IDL.fields(name):
        for spelling in {field, snake(field)}:
            signature.bind(**{spelling: object()})
    with pytest.raises(TypeError):
        cls(no_such_member=1)


@pytest.mark.parametrize("name", DICTIONARY_CLASSES)
def test_a_dictionary_has_no_members_that_are_neither_standard_nor_listed(
    name: str,
) -> None:
    standard = {each for field in IDL.fields(name) for each in spellings(field)}
    offered = public(DICTIONARY_CLASSES[name])
    assert offered - standard == ADDITIONS.get(name, set())


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("SocketOptions", SocketOptionsMembers),
        ("TlsOptions", TlsOptionsMembers),
        ("StartTlsOptions", UpgradeMembers),
        ("AdoptOptions", AdoptMembers),
        ("ReloadOptions", ReloadMembers),
        ("ListenOptions", ListenMembers),
        ("UDPSocketOptions", UDPSocketOptionsMembers),
        ("SocketInit", SocketInitMembers),
        ("SystemOptions", SystemOptionsMembers),
        ("SocketListenerInit", SocketListenerMembers),
    ],
)
def test_type_checkers_know_every_member_in_both_spellings(
    name: str, members: Any
) -> None:
    known = [*IDL.fields(name)]
    if name in ("AdoptOptions", "ListenOptions"):  # as their comments say
        known += IDL.fields("SocketOptions")
    if name == "SocketListenerInit":
        known += {*IDL.fields("ListenOptions"), *IDL.fields("SocketOptions")}
    expected = {each for field in known for each in {field, snake(field)}}
    assert set(members.__annotations__) == expected
    assert members.__total__ is False


# -- enums


def test_secure_transport_kind_has_the_values_of_the_enum() -> None:
    values = set(typing.get_args(wsockets.SecureTransportKind))
    assert values == IDL.enums["SecureTransportKind"]


def test_socket_dns_query_type_has_the_values_of_the_enum() -> None:
    values = set(typing.get_args(wsockets.SocketDnsQueryType))
    assert values == IDL.enums["SocketDnsQueryType"]


def enum_fields() -> Iterator[Any]:
    for name in ("SocketOptions", "TlsOptions", "UDPSocketOptions"):
        for field in IDL.fields(name).values():
            values = IDL.enums.get(field.type.removesuffix("?"))
            if values is not None:
                yield pytest.param(
                    DICTIONARY_CLASSES[name], field.name, values, id=field.name
                )


@pytest.mark.parametrize(("cls", "member", "values"), [*enum_fields()])
def test_an_enum_member_takes_its_values_and_no_other(
    cls: Any, member: str, values: frozenset[str]
) -> None:
    # Without it the highest version could be below the lowest.
    others = {"minVersion": "1.0"} if member == "maxVersion" else {}
    for value in values:
        assert getattr(cls(**others, **{member: value}), member) == value
    for wrong in ("", "other", min(values).upper() + "x", 1, True):
        with pytest.raises(SocketError) as caught:
            cls(**others, **{member: wrong})
        assert caught.value.code == "option"


# -- what is exported


def test_the_library_exports_what_the_files_define_and_what_is_listed() -> None:
    named = set(INTERFACE_CLASSES) | {
        cls.__name__ for cls in DICTIONARY_CLASSES.values()
    }
    assert set(wsockets.__all__) == named | EXPORTED_TYPES | EXPORTED_ADDITIONS


# -- live objects


@pytest.mark.every_loop
async def test_attributes_of_live_objects_cannot_be_set_or_deleted() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        async with (
            wsockets.adopt(ours) as made,
            wsockets.UDPSocket(localAddress="127.0.0.1") as datagrams,
            wsockets.SocketListener(local="127.0.0.1:0") as listener,
        ):
            opened = await datagrams.opened
            controller = wsockets.AbortController()
            event = wsockets.Event("abort")
            controller.signal.dispatchEvent(event)
            reader = made.readable.getReader()
            writer = made.writable.getWriter()
            live = {
                "AbortController": controller,
                "AbortSignal": controller.signal,
                "Event": event,
                "MulticastController": opened.multicastController,
                "ReadableStream": made.readable,
                "ReadableStreamDefaultReader": reader,
                "Socket": made,
                "SocketInfo": await made.opened,
                "UDPSocket": datagrams,
                "SocketDataEvent": wsockets.SocketDataEvent("data"),
                "SocketEvent": wsockets.SocketEvent("socket", socket=made),
                "SocketListener": listener,
                "UDPSocketOpenInfo": opened,
                "WritableStream": made.writable,
                "WritableStreamDefaultWriter": writer,
            }
            for name, target in live.items():
                check_read_only(name, target)
            reader.releaseLock()
            check_read_only(
                "ReadableStreamBYOBReader", made.readable.getReader(mode="byob")
            )
    for name, value in (
        ("SocketAddress", wsockets.SocketAddress("localhost", 1)),
        ("SocketOptions", wsockets.SocketOptions()),
        ("SocketStats", wsockets.SocketStats()),
        ("SystemOptions", wsockets.SystemOptions()),
        ("CipherInfo", wsockets.CipherInfo("a", "b", "c")),
        ("EphemeralKeyInfo", wsockets.EphemeralKeyInfo("a", "b", 1)),
        ("TlsOptions", wsockets.TlsOptions()),
        ("Binding", wsockets.Binding()),
        ("UDPMessage", wsockets.UDPMessage(b"")),
        ("UDPSocketOptions", wsockets.UDPSocketOptions()),
        ("ReadableStreamReadResult", wsockets.ReadResult(b"", False)),
    ):
        check_read_only(name, value)


def check_read_only(name: str, target: Any) -> None:
    if name in IDL.interfaces:
        attributes = [
            member.name
            for member in IDL.members(name).values()
            if member.kind == "attribute" and member.readonly
        ]
    else:
        attributes = list(IDL.fields(name))
    for attribute in attributes:
        for spelling in spellings(attribute):
            before = getattr(target, spelling)
            with pytest.raises(AttributeError):
                setattr(target, spelling, None)
            with pytest.raises(AttributeError):
                delattr(target, spelling)
            after = getattr(target, spelling)
            assert before == after, f"{name}.{spelling}"
