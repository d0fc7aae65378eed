"""The `.webidl` files of `spec/` as plain values.

widlparser does the parsing; this module keeps of its syntax trees what a check
of Python classes can use, merges partial definitions over all the files, and
refuses a file with a part that the parser could not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import widlparser
from widlparser import constructs

__all__ = ["MISSING", "Argument", "Dictionary", "Field", "Idl", "Interface", "Member"]

MISSING: Final = object()
"""The default of what has none."""

SPEC: Final = Path(__file__).parent.parent / "spec"

Kind = Literal["attribute", "method", "constructor", "async-iterable"]


@attrs.frozen
class Argument:
    """One argument of a method."""

    name: str
    type: str
    optional: bool


@attrs.frozen
class Member:
    """One member of an interface."""

    name: str
    kind: Kind
    static: bool = False
    readonly: bool = True
    arguments: tuple[Argument, ...] = ()


@attrs.frozen
class Interface:
    """An interface and its own members, by name."""

    name: str
    base: str | None
    members: Mapping[str, Member]


@attrs.frozen
class Field:
    """One member of a dictionary; `default` is a Python value or MISSING."""

    name: str
    type: str
    required: bool
    default: Any


@attrs.frozen
class Dictionary:
    """A dictionary and its own members, by name."""

    name: str
    base: str | None
    members: Mapping[str, Field]


@attrs.frozen
class Idl:
    """Everything that a set of files defines, by name."""

    interfaces: Mapping[str, Interface]
    dictionaries: Mapping[str, Dictionary]
    enums: Mapping[str, frozenset[str]]
    typedefs: Mapping[str, str]
    callbacks: frozenset[str]

    def fields(self, dictionary: str) -> dict[str, Field]:
        """The members of a dictionary, those that it inherits first."""
        found = self.dictionaries[dictionary]
        inherited = self.fields(found.base) if found.base else {}
        return inherited | dict(found.members)

    def members(self, interface: str) -> dict[str, Member]:
        """The members of an interface, those that it inherits first."""
        found = self.interfaces[interface]
        inherited = self.members(found.base) if found.base else {}
        inherited.pop("constructor", None)
        return inherited | dict(found.members)


class _Complaints:
    """Collects what widlparser says, by its UserInterface protocol."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message.strip())

    def note(self, message: str) -> None:
        self.said.append(message.strip())


def read(files: Iterable[Path] | None = None) -> Idl:
    """Read `files` (by default all of spec/) as one; ValueError for bad syntax."""
    interfaces: dict[str, Interface] = {}
    dictionaries: dict[str, Dictionary] = {}
    enums: dict[str, frozenset[str]] = {}
    typedefs: dict[str, str] = {}
    callbacks: set[str] = set()
    partials: list[Any] = []
    for file in sorted(SPEC.glob("*.webidl")) if files is None else files:
        for construct in _parse(file):
            match construct:
                case constructs.Interface() | constructs.Dictionary() if (
                    construct.partial
                ):
                    partials.append(construct)
                case constructs.Interface():
                    interfaces[_name(construct)] = _interface(construct)
                case constructs.Dictionary():
                    dictionaries[_name(construct)] = _dictionary(construct)
                case constructs.Enum():
                    enums[_name(construct)] = frozenset(
                        str(value.value).strip('"') for value in construct.enum_values
                    )
                case constructs.Typedef():
                    typedefs[_name(construct)] = str(construct.type).strip()
                case constructs.Callback():
                    callbacks.add(_name(construct))
                case _:
                    raise ValueError(
                        f"{file.name}: {construct.idl_type} is not expected"
                    )
    for partial in partials:
        name = _name(partial)
        where: dict[str, Any] = (
            interfaces if isinstance(partial, constructs.Interface) else dictionaries
        )
        if name not in where:
            raise ValueError(f"a partial {name} completes nothing")
        more = (_interface if where is interfaces else _dictionary)(partial).members
        if twice := where[name].members.keys() & more.keys():
            raise ValueError(f"{name} has {sorted(twice)} twice")
        where[name] = attrs.evolve(where[name], members={**where[name].members, **more})
    return Idl(interfaces, dictionaries, enums, typedefs, frozenset(callbacks))


def _parse(file: Path) -> list[Any]:
    complaints = _Complaints()
    parser = widlparser.Parser(file.read_text(), complaints)
    if complaints.said:
        raise ValueError(f"{file.name}: {' '.join(complaints.said)}")
    return list(parser.constructs)


def _name(construct: Any) -> str:
    assert construct.name
    return str(construct.name)


def _base(construct: Any) -> str | None:
    return str(construct.inheritance.base).strip() if construct.inheritance else None


def _interface(construct: Any) -> Interface:
    members = [_member(member) for member in construct.members]
    return Interface(
        _name(construct), _base(construct), {member.name: member for member in members}
    )


def _member(member: Any) -> Member:
    inner = member.member
    kind = type(inner).__name__
    static = kind == "StaticMember"
    if kind == "Attribute":
        readonly = inner.attribute.readonly is not None
        return Member(_name(member), "attribute", readonly=readonly)
    arguments = tuple(
        Argument(
            _name(argument), str(argument.type).strip(), argument.optional is not None
        )
        for argument in inner.arguments or ()
    )
    if kind == "Constructor":
        return Member("constructor", "constructor", arguments=arguments)
    if kind == "AsyncIterable":
        return Member("values", "async-iterable", arguments=arguments)
    if kind in ("Operation", "StaticMember"):
        return Member(_name(member), "method", static, arguments=arguments)
    raise ValueError(f"{kind} {member.name!r} is not expected in an interface")


def _dictionary(construct: Any) -> Dictionary:
    fields = [
        Field(
            _name(member),
            str(member.type).strip(),
            member.required is not None,
            MISSING if member.default is None else _value(str(member.default)),
        )
        for member in construct.members
    ]
    return Dictionary(
        _name(construct), _base(construct), {field.name: field for field in fields}
    )


_WORDS: Final[Mapping[str, Any]] = {
    "null": None,
    "true": True,
    "false": False,
    "[]": (),
    "{}": {},
    "Infinity": math.inf,
}


def _value(default: str) -> Any:
    text = default.strip().removeprefix("=").strip()
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith('"'):
        return text.strip('"')
    return float(text) if "." in text else int(text)
