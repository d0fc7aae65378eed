"""`wsockets listen`: the options, and what they do."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any, Final, final

import click
import trio
from rich.text import Text

from ..errors import SocketError
from ..server import ServerSocket, listen
from ..socket import Socket
from ..starttls.frames import readable
from .console import error_console
from .exits import CTRL_C, EXITS, OK, OutputClosed
from .relay import write_all
from .report import message_of
from .secrets import SECRET, parse_psk

__all__ = ["listen_command"]

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_VERSIONS: Final = click.Choice(["1.0", "1.1", "1.2", "1.3"])
_TLS_OPTIONS: Final = (
    "alpn", "alpn_required", "cert", "key", "key_password", "psk", "client_ca",
    "client_optional", "min_version", "max_version", "ciphers", "keylog",
)  # fmt: skip
# Chunks that wait for a slow output; then clients wait.
_AHEAD: Final = 16

_EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {each.code:>3}  {each.meaning}"
    for each in EXITS
    if each.code in (0, 1, 2, CTRL_C, 141)
)


@click.command("listen", epilog=_EPILOG)
@click.argument("address", metavar="[HOST]:PORT|unix:PATH")
@click.option("--echo", is_flag=True, help="Send back what comes; print nothing.")
@click.option("--tls", "tls_on", is_flag=True, help="Expect TLS from the start.")
@click.option("--cert", type=_FILE, help="Certificate with its chain (PEM).")
@click.option("--key", type=_FILE, help="Private key of the certificate (PEM).")
@click.option("--key-password", type=SECRET, help="Password of the private key.")
@click.option("--psk", type=SECRET, help="Pre-shared key, as identity:hexkey.")
@click.option(
    "--client-ca", type=_FILE, help="Require clients' certificates, issued by these."
)
@click.option(
    "--client-optional", is_flag=True, help="Let clients do without a certificate."
)
@click.option(
    "--alpn",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="Application protocols spoken here, the preferred one first.",
)
@click.option(
    "--alpn-required", is_flag=True, help="Refuse clients that name no protocol."
)
@click.option("--min-version", type=_VERSIONS, help="Lowest TLS version accepted.")
@click.option("--max-version", type=_VERSIONS, help="Highest TLS version accepted.")
@click.option("--ciphers", metavar="LIST", help="Cipher list, in OpenSSL's notation.")
@click.option(
    "--keylog",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append the sessions' secrets to this file, for Wireshark.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For a handshake, and for a PROXY header.",
)
@click.option(
    "--tolerate-truncation",
    is_flag=True,
    help="Accept an end without close_notify, as some clients have it.",
)
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="NETWORK",
    help="Expect a PROXY header from peers in this network, or 'unix:'.",
)
@click.option("--reuse-port", is_flag=True, help="Share the port with others.")
@click.option("--ipv6-only", is_flag=True, help="No IPv4 on all interfaces.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Tell on standard error who comes and goes."
)
def listen_command(**given: Any) -> int:
    """Accept connections, and write what comes to standard output, or back.

    Where it listens is told on standard error: port 0 is a free one. Several clients
    are served at a time. Ctrl-C, or SIGTERM, ends it: what is on its way out is still
    sent; a second one ends it at once.

    \b
      wsockets listen :7 --echo
      wsockets listen 127.0.0.1:0 --tls --cert server.pem --key server.key > received
    """
    members = _members(given)
    if given["verbose"]:
        _tell_of_failures()
    serving = _Serving(given["echo"], given["verbose"])
    return trio.run(serving.until_interrupted, given["address"], members)


def _members(given: dict[str, Any]) -> dict[str, Any]:
    for name in () if given["tls_on"] else _TLS_OPTIONS:
        if given[name]:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} needs --tls")
    psk = given["psk"] and parse_psk(given["psk"])
    return {
        "secureTransport": "on" if given["tls_on"] else "off",
        "cert": given["cert"],
        "key": given["key"],
        "password": given["key_password"],
        "psk": psk,
        "clientCa": given["client_ca"],
        "clientAuth": "optional" if given["client_optional"] else None,
        "alpn": [name for each in given["alpn"] for name in each.split(",")] or None,
        "alpnRequired": given["alpn_required"] or None,
        "minVersion": given["min_version"],
        "maxVersion": given["max_version"],
        "ciphers": given["ciphers"],
        "keylog": given["keylog"],
        "handshakeTimeout": given["timeout"],
        "tolerateTruncation": given["tolerate_truncation"],
        "proxyProtocol": bool(given["trusted_proxy"]),
        "trustedProxies": given["trusted_proxy"] or None,
        "reusePort": given["reuse_port"],
        "ipv6Only": given["ipv6_only"],
    }


def _tell_of_failures() -> None:
    """What the library logs of connections that came to nothing, on standard error."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _say(message_of(Exception(record.getMessage())))

    logger = logging.getLogger("wsockets")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Handler())


def _say(text: str) -> None:
    error_console().print(Text(text, "dim"))


@final
class _Serving:
    """The sockets that are served, and how it ends."""

    def __init__(self, echo: bool, verbose: bool) -> None:
        self._echo = echo
        self._verbose = verbose
        self._failure: Exception | None = None
        self._stopping, self._at_once = trio.CancelScope(), trio.CancelScope()
        self._farewells: set[trio.CancelScope] = set()
        self._put, self._take = trio.open_memory_channel[bytes](_AHEAD)

    async def until_interrupted(self, address: str, members: dict[str, Any]) -> int:
        """Serve; 0 after one signal, Ctrl-C's exit code after a second."""
        with self._at_once:
            async with (
                listen(address, members) as server,
                trio.open_nursery() as obeying,
            ):
                obeying.start_soon(self._obey, server)
                _say(f"listening on {server.localAddress}")
                async with trio.open_nursery() as writing:
                    writing.start_soon(self._write)
                    await self._serve_all(server)
                    self._put.close()
                obeying.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        return CTRL_C if self._at_once.cancelled_caught else OK

    async def _serve_all(self, server: ServerSocket) -> None:
        with self._stopping:
            async with trio.open_nursery() as clients:
                async for socket in server:
                    clients.start_soon(self._serve, socket)

    async def _obey(self, server: ServerSocket) -> None:
        # A shell's background jobs ignore SIGINT, and go on doing so.
        heeded = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            heeded.append(signal.SIGINT)
        with trio.open_signal_receiver(*heeded) as signals:
            async for _ in signals:
                if self._stopping.cancel_called:
                    self._at_once.cancel()
                    for farewell in self._farewells:
                        farewell.cancel()
                server.close("interrupted")
                self._stopping.cancel()

    async def _serve(self, socket: Socket) -> None:
        """One client, to his end."""
        peer, count, said = "", 0, ""
        try:
            peer = (await socket.opened).remoteAddress or "somebody"
            if self._verbose:
                _say(f"{peer} · {_security(socket)}")
            writer = socket.writable.getWriter()
            async for chunk in socket.readable:
                count += len(chunk)
                if self._echo:
                    await writer.write(chunk)
                else:
                    await self._put.send(chunk)
        except TypeError as error:
            # A SocketError, or the client's end has closed the stream.
            said = f": {message_of(error)}" if isinstance(error, SocketError) else ""
        finally:
            await self._part(socket)
            if self._verbose:
                _say(f"{peer} · {count:,} bytes{said}")

    async def _part(self, socket: Socket) -> None:
        """Let what is on its way out be sent, for as long as closeTimeout."""
        shield = not self._at_once.cancel_called
        with trio.CancelScope(shield=shield) as farewell:
            self._farewells.add(farewell)
            try:
                await socket.close()
            finally:
                self._farewells.discard(farewell)

    async def _write(self) -> None:
        """Write to standard output what comes from all of them."""
        try:
            async for chunk in self._take:
                await write_all(1, chunk)
        except (OSError, OutputClosed) as error:
            self._failure = error
            self._stopping.cancel()


def _security(socket: Socket) -> str:
    tls = socket.tls_info()
    if tls is None:
        return "plaintext"
    parts = [tls.protocol, tls.cipher, tls.alpn, tls.server_name]
    return " · ".join(readable(part.encode(), 300) for part in parts if part)
