"""The options by which the commands connect, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..options import SecureTransportKind
from ..starttls import PROTOCOLS
from .secrets import SECRET, parse_psk
from .settings import Settings

__all__ = ["connecting_options", "settings_of"]

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_VERSIONS: Final = click.Choice(["1.0", "1.1", "1.2", "1.3"])
_OPTIONS: Final = (
    click.option(
        "--tls", "tls_on", is_flag=True, help="Secure the connection with TLS."
    ),
    click.option(
        "--starttls",
        type=click.Choice(PROTOCOLS),
        help=(
            "Begin in plaintext, ask the server for TLS in its protocol, then "
            "secure it."
        ),
    ),
    click.option(
        "--alpn",
        multiple=True,
        metavar="NAME[,NAME…]",
        help="Application protocols to offer, the preferred one first.",
    ),
    click.option("--sni", metavar="NAME", help="Server name to ask for and to verify."),
    click.option("--ca", type=_FILE, help="Trust these certificates (PEM), no others."),
    click.option("--cert", type=_FILE, help="Client certificate with its chain (PEM)."),
    click.option(
        "--key", type=_FILE, help="Private key of the client certificate (PEM)."
    ),
    click.option("--key-password", type=SECRET, help="Password of the private key."),
    click.option("--psk", type=SECRET, help="Pre-shared key, as identity:hexkey."),
    click.option(
        "--verify",
        type=click.Choice(["full", "ca", "none"]),
        help="What to verify: issuer and name, the issuer, nothing.  [default: full]",
    ),
    click.option("--min-version", type=_VERSIONS, help="Lowest TLS version accepted."),
    click.option("--max-version", type=_VERSIONS, help="Highest TLS version accepted."),
    click.option(
        "--ciphers", metavar="LIST", help="Cipher list, in OpenSSL's notation."
    ),
    click.option(
        "--keylog",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append the session's secrets to this file, for Wireshark.",
    ),
    click.option(
        "--proxy",
        metavar="URL",
        envvar="WSOCKETS_PROXY",
        show_envvar=True,
        help="Connect through http://[user:password@]host:port or socks5://….",
    ),
    click.option(
        "--proxy-resolve", is_flag=True, help="Let the proxy resolve the name."
    ),
    click.option(
        "--deny-private",
        is_flag=True,
        help="Refuse addresses that are private, local or reserved.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="To connect; again for the STARTTLS dialogue, and for the handshake.",
    ),
    click.option(
        "--tolerate-truncation",
        is_flag=True,
        help="Accept an end without close_notify, as some servers have it.",
    ),
)
# What means something under TLS only.
_TLS_OPTIONS: Final = (
    "alpn", "sni", "ca", "cert", "key", "key_password", "psk", "verify",
    "min_version", "max_version", "ciphers", "keylog",
)  # fmt: skip


# What is about the way there.
_ROUTE_OPTIONS: Final = ("proxy", "proxy_resolve", "deny_private")


def connecting_options(command: Command) -> Command:
    """Give a command the options, in the order in which its help lists them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_of(given: dict[str, Any], fd: int | None = None) -> Settings:
    """What was asked for; with `fd` that is the connection, and not an address.

    Raises UsageError where the options do not fit together.
    """
    secure_transport = _secure_transport(given)
    if fd is not None:
        for name in _ROUTE_OPTIONS:
            if given[name]:
                raise _needless(name, "an address: the descriptor is connected already")
    members = {
        "alpn": [name for each in given["alpn"] for name in each.split(",")] or None,
        "sni": given["sni"],
        "connectTimeout": given["timeout"],
        "handshakeTimeout": given["timeout"],
        "tolerateTruncation": given["tolerate_truncation"],
    }
    tls = {
        "ca": given["ca"],
        "cert": given["cert"],
        "key": given["key"],
        "password": given["key_password"],
        "psk": parse_psk(given["psk"]) if given["psk"] else None,
        "verify": given["verify"],
        "minVersion": given["min_version"],
        "maxVersion": given["max_version"],
        "ciphers": given["ciphers"],
        "keylog": given["keylog"],
    }
    return Settings(
        address=given["address"],
        fd=fd,
        secure_transport=secure_transport,
        starttls=given["starttls"],
        tls={name: value for name, value in tls.items() if value is not None},
        members=members,
        proxy=given["proxy"],
        proxy_resolve=given["proxy_resolve"],
        deny_private=given["deny_private"],
    )


def _secure_transport(given: dict[str, Any]) -> SecureTransportKind:
    if given["tls_on"] and given["starttls"]:
        raise click.UsageError("--tls and --starttls exclude each other")
    if given["tls_on"]:
        return "on"
    if given["starttls"]:
        return "starttls"
    for name in _TLS_OPTIONS:
        if given[name]:
            raise _needless(name, "--tls or --starttls")
    return "off"


def _needless(name: str, what: str) -> click.UsageError:
    return click.UsageError(f"--{name.replace('_', '-')} needs {what}")
