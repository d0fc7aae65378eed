"""What can be told about a connection, as data: `--json` prints it as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from ..errors import SocketError
from ..starttls.frames import readable
from .certificates import Certificate, describe
from .exits import OK, exit_for

if TYPE_CHECKING:
    from ..socket import Socket

__all__ = [
    "SCHEMA",
    "Failure",
    "Message",
    "Report",
    "Tls",
    "failed",
    "message_of",
    "succeeded",
]

SCHEMA: Final = 1
"""Goes up when a member of the JSON object changes its meaning or goes away."""


@attrs.frozen
class Message:
    """A plaintext message of the STARTTLS dialogue, what is not text escaped."""

    speaker: str
    text: str

    @classmethod
    def of(cls, speaker: str, raw: bytes) -> Message:
        """From the bytes on the wire."""
        lines = raw.removesuffix(b"\r\n").split(b"\r\n")
        return cls(speaker, "\n".join(readable(line, 500) for line in lines))


@attrs.frozen
class Tls:
    """The secured session. `verify` is what was asked for, `verified` what is so."""

    protocol: str
    cipher: str
    cipher_bits: int
    alpn: str | None
    server_name: str | None
    verify: str
    verified: bool
    resumed: bool


@attrs.frozen
class Failure:
    """Why it did not work: a SocketError's code, its message and its errno."""

    code: str
    message: str
    errno: int | None


@attrs.frozen
class Report:
    """One attempt to connect. The attributes are the members of the JSON object."""

    address: str
    secure_transport: str
    starttls: str | None
    seconds: float
    exit_code: int = OK
    remote_address: str | None = None
    local_address: str | None = None
    tls: Tls | None = None
    certificates: tuple[Certificate, ...] = ()
    dialogue: tuple[Message, ...] = ()
    error: Failure | None = None

    def to_json(self) -> str:
        """One JSON object, indented, in ASCII."""
        members: dict[str, Any] = {"schema": SCHEMA, "ok": self.error is None}
        return json.dumps(members | attrs.asdict(self), indent=2)


async def succeeded(begun: Report, socket: Socket, verify: str) -> Report:
    """`begun`, completed by what an opened socket tells."""
    info = await socket.opened
    session = socket.tls_info()
    return attrs.evolve(
        begun,
        remote_address=info.remoteAddress,
        local_address=info.localAddress,
        tls=None
        if session is None
        else Tls(
            protocol=session.protocol,
            cipher=session.cipher,
            cipher_bits=session.cipher_bits,
            alpn=session.alpn,
            server_name=session.server_name,
            verify=verify,
            verified=session.verified,
            resumed=session.resumed,
        ),
        certificates=tuple(map(describe, session.certificates if session else ())),
    )


def failed(begun: Report, error: SocketError) -> Report:
    """`begun`, completed by why it failed."""
    return attrs.evolve(
        begun,
        exit_code=exit_for(error.code),
        error=Failure(error.code, message_of(error), error.errno),
        certificates=tuple(map(describe, error.certificates)),
    )


def message_of(error: BaseException) -> str:
    """An error's message, safe to print on a terminal."""
    return readable(str(error).removeprefix("SocketError: "), 1000)
