"""The loop that speaks a dialogue over a socket and then starts TLS."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Unpack
from xml.sax.saxutils import quoteattr

from ..errors import AbortError, SocketError
from ..runtime import current
from .dialogues import DIALOGUES, Protocol, Refused, Say
from .frames import MESSAGE_LIMIT, Reading, Unexpected

if TYPE_CHECKING:
    from ..mixed_options import UpgradeMembers
    from ..socket import Socket
    from ..streams import ReadableStreamBYOBReader, WritableStreamDefaultWriter

__all__ = ["Overheard", "upgrade"]

Overheard: TypeAlias = Callable[[Literal["client", "server"], bytes], object]

_EXPECTED: Final = ("expectedServerHostname", "expected_server_hostname")
_CLIENT: Final = re.compile(r"[!-~]{1,255}")
_IPV4: Final = re.compile(r"([\d.]+):\d+")
_IPV6: Final = re.compile(r"\[([0-9a-fA-F:.]+)(?:%\w+)?\]:\d+")


async def upgrade(
    socket: Socket,
    protocol: Protocol,
    options: object = None,
    /,
    *,
    hostname: str | None = None,
    client: str | None = None,
    timeout: float = 30.0,
    overheard: Overheard | None = None,
    **members: Unpack[UpgradeMembers],
) -> Socket:
    """Ask the server for TLS in its `protocol`, and return the secured socket.

    `socket` comes from `connect(…, secureTransport="starttls")`, and nothing has
    been read from it or written to it. The returned socket's handshake is done
    (its `opened` has resolved), and both sides are where the protocol begins
    anew: after EHLO's turn for SMTP, after the greeting for IMAP, POP3 and FTP,
    before the startup message for PostgreSQL, before the stream header for XMPP,
    before the handshake response (sequence number 2) for MySQL.

    `hostname` is the service's domain where it is not the host that was
    connected to: the certificate has to be for it, unless `startTls()` is told
    otherwise. XMPP asks for that domain, and needs it. `client` is the name to give
    in SMTP's EHLO; by default it is the local address ("[192.0.2.1]"). `timeout` is
    in seconds, for the dialogue; the handshake has the socket's own.
    `overheard(speaker, message)` is called with every plaintext message; MySQL's
    greeting is heard only there. `options` and further keywords are those of
    `startTls()`.

    Raises SocketError and aborts the connection: "tls" when the server refuses,
    does not offer TLS or does not speak the protocol, "closed" when it hangs up,
    "timeout", and what connecting and the handshake raise. A call that cannot
    work raises "option" or "state" and leaves the socket alone.
    """
    dialogue = DIALOGUES.get(protocol)
    if dialogue is None:
        raise SocketError(
            f"protocol must be one of {', '.join(DIALOGUES)}, not {protocol!r}",
            code="option",
        )
    if socket.secureTransport != "starttls":
        raise SocketError(
            "upgrade() needs a socket connected with secureTransport='starttls', "
            f"not {socket.secureTransport!r}",
            code="state",
        )
    _check_names(protocol, hostname, client)
    if hostname is not None and members.keys().isdisjoint(_EXPECTED):
        members["expectedServerHostname"] = hostname
    reader = socket.readable.getReader(mode="byob")
    try:
        writer = socket.writable.getWriter()
    except BaseException:
        reader.releaseLock()
        raise
    try:
        local = (await socket.opened).localAddress
        names = {
            b"client": (client or _own_name(local)).encode("ascii"),
            b"server": quoteattr(hostname or "").encode(),
        }
        with current().scope(timeout) as scope:
            wire = _Wire(reader, writer, overheard)
            for step in dialogue:
                if isinstance(step, Say):
                    await wire.say(step.words % names)
                else:
                    step.verdict(await wire.hear(step.frame()))
        if scope.cancelled_caught:
            raise SocketError(
                f"the {protocol} server did not get to TLS within {timeout:g} seconds",
                code="timeout",
            )
        reader.releaseLock()
        writer.releaseLock()
        secured = socket.startTls(options, **members)
    except BaseException as error:
        failure = _explained(protocol, error)
        reader.releaseLock()
        writer.releaseLock()
        socket.close(_reason(failure))
        if failure is error:
            raise
        raise failure from error
    try:
        await secured.opened
    except BaseException as error:
        secured.close(_reason(error))
        raise
    return secured


class _Wire:
    """Both directions of the plaintext, with nothing read ahead."""

    def __init__(
        self,
        reader: ReadableStreamBYOBReader,
        writer: WritableStreamDefaultWriter,
        overheard: Overheard | None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._overheard = overheard

    async def say(self, words: bytes) -> None:
        """Send a message."""
        if self._overheard is not None:
            self._overheard("client", words)
        await self._writer.write(words)

    async def hear(self, frame: Reading[Any]) -> Any:
        """Receive one message, to its last byte and not beyond."""
        message = bytearray()
        try:
            wanted = next(frame)
            while True:
                part = await self._read(wanted)
                message += part
                if len(message) > MESSAGE_LIMIT:
                    raise Unexpected(f"a message of over {MESSAGE_LIMIT} bytes")
                wanted = frame.send(part)
        except StopIteration as end:
            return end.value
        finally:
            frame.close()
            if self._overheard is not None and message:
                self._overheard("server", bytes(message))

    async def _read(self, size: int) -> bytes:
        if size == 0:
            return b""
        value, done = await self._reader.read(bytearray(size), min=size)
        if done:
            raise SocketError(
                "the server closed the connection before TLS", code="closed"
            )
        return bytes(value)


def _explained(protocol: str, error: BaseException) -> BaseException:
    if isinstance(error, Refused):
        text = f"the {protocol} server refuses to start TLS: {error}"
    elif isinstance(error, Unexpected):
        text = f"this is no {protocol} server, or one in distress: it sent {error}"
    else:
        return error
    return SocketError(text, code="tls")


def _reason(error: BaseException) -> Exception:
    # A cancellation belongs to whoever caused it and is shown to nobody else.
    if isinstance(error, Exception):
        return error
    return AbortError("upgrade() was given up")


def _check_names(protocol: str, hostname: str | None, client: str | None) -> None:
    if hostname is None and protocol == "xmpp":
        raise SocketError(
            "xmpp needs hostname, the domain whose server this is", code="option"
        )
    if hostname is not None and not (
        isinstance(hostname, str) and hostname and hostname.isprintable()
    ):
        raise SocketError(
            f"hostname must be a printable, non-empty str, not {hostname!r}",
            code="option",
        )
    if client is not None and not (
        isinstance(client, str) and _CLIENT.fullmatch(client)
    ):
        raise SocketError(
            "client must be a domain or an address in brackets, in ASCII and without "
            f"spaces, not {client!r}",
            code="option",
        )


def _own_name(local: str | None) -> str:
    """The address literal of RFC 5321 section 4.1.3 for "127.0.0.1:54321"."""
    if local and (found := _IPV4.fullmatch(local)):
        return f"[{found[1]}]"
    if local and (found := _IPV6.fullmatch(local)):
        return f"[IPv6:{found[1]}]"
    return "localhost"
