"""`wsockets connect`: the options, and what they do."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
import trio

from ..errors import SocketError
from ..options import SecureTransportKind
from ..starttls import PROTOCOLS
from .console import error_console, output_console, print_trimmed
from .exits import CTRL_C, EXITS, OK
from .meter import Meter
from .relay import Crlf, relay
from .report import Message, Report, failed, succeeded
from .secrets import SECRET, parse_psk
from .settings import Settings
from .show import one_line, show

__all__ = ["connect_command"]

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_TLS_OPTIONS: Final = (
    "alpn", "sni", "ca", "cert", "key", "key_password", "psk", "verify",
    "min_version", "max_version", "ciphers", "keylog",
)  # fmt: skip
_VERSIONS: Final = click.Choice(["1.0", "1.1", "1.2", "1.3"])

_EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {each.code:>3}  {each.meaning}" for each in EXITS
)


@click.command("connect", epilog=_EPILOG)
@click.argument("address", metavar="HOST:PORT|unix:PATH")
@click.option("--tls", "tls_on", is_flag=True, help="Secure the connection with TLS.")
@click.option(
    "--starttls",
    type=click.Choice(PROTOCOLS),
    help="Begin in plaintext, ask the server for TLS in its protocol, then secure it.",
)
@click.option(
    "--alpn",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="Application protocols to offer, the preferred one first.",
)
@click.option("--sni", metavar="NAME", help="Server name to ask for and to verify.")
@click.option("--ca", type=_FILE, help="Trust these certificates (PEM), no others.")
@click.option("--cert", type=_FILE, help="Client certificate with its chain (PEM).")
@click.option("--key", type=_FILE, help="Private key of the client certificate (PEM).")
@click.option("--key-password", type=SECRET, help="Password of the private key.")
@click.option("--psk", type=SECRET, help="Pre-shared key, as identity:hexkey.")
@click.option(
    "--verify",
    type=click.Choice(["full", "ca", "none"]),
    help="What to verify: issuer and name, the issuer, nothing.  [default: full]",
)
@click.option("--min-version", type=_VERSIONS, help="Lowest TLS version accepted.")
@click.option("--max-version", type=_VERSIONS, help="Highest TLS version accepted.")
@click.option("--ciphers", metavar="LIST", help="Cipher list, in OpenSSL's notation.")
@click.option(
    "--keylog",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append the session's secrets to this file, for Wireshark.",
)
@click.option(
    "--proxy",
    metavar="URL",
    envvar="WSOCKETS_PROXY",
    show_envvar=True,
    help="Connect through http://[user:password@]host:port or socks5://….",
)
@click.option("--proxy-resolve", is_flag=True, help="Let the proxy resolve the name.")
@click.option(
    "--deny-private",
    is_flag=True,
    help="Refuse addresses that are private, local or reserved.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="To connect; again for the STARTTLS dialogue, and for the handshake.",
)
@click.option(
    "--tolerate-truncation",
    is_flag=True,
    help="Accept an end without close_notify, as some servers have it.",
)
@click.option("--info", is_flag=True, help="Tell about the connection, and leave it.")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
@click.option("--crlf", is_flag=True, help="Send CRLF for every LF of the input.")
@click.option(
    "--no-shutdown",
    is_flag=True,
    help="At the end of the input keep the sending direction open.",
)
@click.option("--progress", is_flag=True, help="Show a progress bar on standard error.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Tell on standard error how it went."
)
def connect_command(**given: Any) -> int:
    """Connect standard input and output to a server.

    Data go through unchanged. The end of the input ends the sending direction
    (--no-shutdown keeps it open); the command ends when the server has ended the
    connection.

    \b
      wsockets connect example.org:443 --tls --info
      wsockets connect mail.example.org:587 --starttls smtp --crlf
      wsockets connect unix:/run/redis.sock < commands > replies
    """
    settings = _settings(given)
    if given["info"] or given["as_json"]:
        return trio.run(_interruptible, _look, settings, given["as_json"])
    return trio.run(_interruptible, _talk, settings, given)


def _settings(given: dict[str, Any]) -> Settings:
    if given["tls_on"] and given["starttls"]:
        raise click.UsageError("--tls and --starttls exclude each other")
    secure: SecureTransportKind = "on" if given["tls_on"] else "off"
    if given["starttls"]:
        secure = "starttls"
    for name in _TLS_OPTIONS if secure == "off" else ():
        if given[name]:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} needs --tls or --starttls")
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
        secure_transport=secure,
        starttls=given["starttls"],
        tls={name: value for name, value in tls.items() if value is not None},
        members=members,
        proxy=given["proxy"],
        proxy_resolve=given["proxy_resolve"],
        deny_private=given["deny_private"],
    )


async def _report(settings: Settings) -> Report:
    """Connect, look, and close again."""
    begun = time.monotonic()
    dialogue: list[Message] = []

    def so_far() -> Report:
        return Report(
            address=settings.address,
            secure_transport=settings.secure_transport,
            starttls=settings.starttls,
            seconds=round(time.monotonic() - begun, 6),
            dialogue=tuple(dialogue),
        )

    try:
        socket = await settings.connect(
            lambda speaker, raw: dialogue.append(Message.of(speaker, raw))
        )
        async with socket:
            return await succeeded(so_far(), socket, settings.verify)
    except SocketError as error:
        if error.code in ("address", "option", "state"):
            raise
        return failed(so_far(), error)


async def _look(settings: Settings, as_json: bool) -> int:
    report = await _report(settings)
    if as_json:
        click.echo(report.to_json())
    else:
        print_trimmed(output_console(), show(report))
    return report.exit_code


async def _talk(settings: Settings, given: dict[str, Any]) -> int:
    begun = time.monotonic()
    async with await settings.connect() as socket:
        if given["verbose"]:
            report = Report(
                settings.address,
                settings.secure_transport,
                settings.starttls,
                seconds=time.monotonic() - begun,
            )
            report = await succeeded(report, socket, settings.verify)
            error_console().print(one_line(report))
        with Meter(source=0, visible=given["progress"]) as meter:
            await relay(
                socket,
                0,
                1,
                translate=Crlf() if given["crlf"] else bytes,
                shutdown=not given["no_shutdown"],
                count=meter.count,
            )
        if given["verbose"]:
            error_console().print(meter.summary())
    return OK


async def _interruptible(function: Callable[..., Awaitable[int]], *args: object) -> int:
    """What `function(*args)` returns, or Ctrl-C's exit code once that has come.

    A shell's background jobs ignore SIGINT, and go on doing so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return await function(*args)
    scope = trio.CancelScope()

    async def listen() -> None:
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                scope.cancel()

    trio.lowlevel.spawn_system_task(listen)
    with scope:
        return await function(*args)
    return CTRL_C
