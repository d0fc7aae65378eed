"""Options in which TlsOptions' members stand beside others.

`startTls()` and `adopt()` take both kinds in one mapping or as keywords. Each
kind is read by its own class; here they are told apart, and what is given over
the options of the binding object is laid over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import attrs

from .errors import SocketError
from .options import (
    SocketOptions,
    SocketOptionsMembers,
    a_host_name,
    given_members,
    protocol_names,
    spellings,
)
from .tls import TlsOptions, TlsOptionsMembers

__all__ = [
    "AdoptMembers",
    "UpgradeMembers",
    "UpgradeOptions",
    "read_adopt",
    "read_mixed",
    "read_upgrade",
]

T = TypeVar("T", bound=attrs.AttrsInstance)


class UpgradeMembers(TlsOptionsMembers, total=False):
    """The members of `startTls()`, in either spelling."""

    sni: str | None
    alpn: Iterable[str] | None
    expectedServerHostname: str | None
    expected_server_hostname: str | None


class AdoptMembers(SocketOptionsMembers, TlsOptionsMembers, total=False):
    """The members of `adopt()`, in either spelling."""

    hostname: str | None
    role: Literal["client", "server"] | None


def _a_name_or_address(
    _: object, field: attrs.Attribute[str | None], value: object
) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise SocketError(
            f"{field.name} is a name or a numeric address, not {value!r}",
            code="option",
        )


@attrs.frozen
class UpgradeOptions:
    """What `startTls()` is told beside TlsOptions' members; None: as before."""

    sni: str | None = attrs.field(default=None, validator=a_host_name)
    alpn: tuple[str, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(protocol_names)
    )
    expectedServerHostname: str | None = attrs.field(
        default=None, validator=_a_name_or_address
    )


def _a_role(_: object, field: attrs.Attribute[str], value: object) -> None:
    if value not in ("client", "server"):
        raise SocketError(f'role is "client" or "server", not {value!r}', code="option")


@attrs.frozen
class AdoptOptions:
    """What `adopt()` is told beside the members of SocketOptions and TlsOptions."""

    hostname: str | None = attrs.field(default=None, validator=_a_name_or_address)
    role: Literal["client", "server"] = attrs.field(default="client", validator=_a_role)


def read_upgrade(
    base: TlsOptions, options: object, members: Mapping[str, object]
) -> tuple[UpgradeOptions, TlsOptions]:
    """The options of `startTls()`: its own, and TlsOptions over those of `base`."""
    own, over = read_mixed("startTls()", (UpgradeOptions, TlsOptions), options, members)
    return UpgradeOptions(**own), attrs.evolve(base, **over) if over else base


def read_adopt(
    base: TlsOptions, options: object, members: Mapping[str, object]
) -> tuple[SocketOptions, AdoptOptions, TlsOptions]:
    """The options of `adopt()`, of each kind."""
    first, own, over = read_mixed(
        "adopt()", (SocketOptions, AdoptOptions, TlsOptions), options, members
    )
    return (
        SocketOptions(**first),
        AdoptOptions(**own),
        attrs.evolve(base, **over) if over else base,
    )


def read_mixed(
    where: str,
    classes: tuple[type[attrs.AttrsInstance], ...],
    options: object,
    members: Mapping[str, object],
) -> list[dict[str, Any]]:
    """What was given of each class, by the names of its attributes.

    SocketError (code "option") and TypeError like `given_members`.
    """
    keywords = [
        {name: value for name, value in members.items() if name in spellings(cls)}
        for cls in classes
    ]
    known = set().union(*keywords)
    for name in members:
        if name not in known:
            raise TypeError(f"{where} got an unexpected keyword argument {name!r}")
    of_a_class = isinstance(options, classes)
    return [
        given_members(
            cls,
            options if isinstance(options, cls) or not of_a_class else None,
            mine,
            where=where,
        )
        for cls, mine in zip(classes, keywords, strict=True)
    ]
