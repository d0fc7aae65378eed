"""The plaintext dialogues before TLS, one table each, and how answers are judged.

A dialogue is a tuple of steps: `Say` is sent, `Hear` is a message from the
server, cut by its frame and judged by its verdict. A verdict returns for
consent, raises `Refused` with the server's words where the server will not, and
`Unexpected` for what the protocol does not have there. After the last step both
sides begin the TLS handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import attrs

from .frames import (
    STREAM,
    Frame,
    Unexpected,
    ber,
    coded_reply,
    line,
    mysql_packet,
    one_byte,
    readable,
    tagged_reply,
    xmpp_element,
)

__all__ = ["DIALOGUES", "PROTOCOLS", "Dialogue", "Hear", "Protocol", "Refused", "Say"]

Protocol = Literal["smtp", "imap", "pop3", "ftp", "ldap", "xmpp", "postgres", "mysql"]


class Refused(Exception):
    """The server understood and will not start TLS."""


@attrs.frozen
class Say:
    """Sent to the server.

    `%(client)s` stands for the name by which an SMTP client introduces itself,
    `%(server)s` for the domain, escaped for an XML attribute.
    """

    words: bytes


@attrs.frozen
class Hear:
    """Awaited from the server."""

    frame: Frame[Any]
    verdict: Callable[[Any], None]


Dialogue: TypeAlias = tuple[Say | Hear, ...]


# -- SMTP and FTP: replies with a code -------------------------------------------


def _reply(code: str, offering: str | None = None) -> Callable[[list[str]], None]:
    """Consent is a reply of that code, one of its lines being the offer."""

    def verdict(lines: list[str]) -> None:
        if lines[0][:3] != code:
            raise Refused(readable(" / ".join(lines)))
        if offering and offering not in [_keyword(each) for each in lines[1:]]:
            raise Refused(f"it does not offer {offering}")

    return verdict


def _keyword(reply_line: str) -> str:
    return (reply_line[4:].split() or [""])[0].upper()


# -- IMAP and POP3: replies with a word ------------------------------------------


def _word(consent: str, *refusals: str) -> Callable[[str], None]:
    """Consent is a line that begins with the word, whatever its case."""

    def verdict(said: str) -> None:
        upper = said.upper() + " "
        if upper.startswith(consent + " "):
            return
        if upper.startswith(tuple(word + " " for word in refusals)):
            raise Refused(readable(said))
        raise Unexpected(f"{readable(said)!r}, not {consent}")

    return verdict


def _imap_greeting(said: str) -> None:
    # A client that is logged in already may not start TLS (RFC 9051 section
    # 6.2.1), so this greeting would strip it (CVE-2020-12398).
    if said.upper().startswith("* PREAUTH "):
        raise Refused("it greets with PREAUTH, which rules STARTTLS out")
    _word("* OK", "* BYE")(said)


# -- LDAP ------------------------------------------------------------------------

_NOTICE_OF_DISCONNECTION: Final = 0


def _extended_response(message: bytes) -> None:
    """RFC 4511 sections 4.12 and 4.14: an ExtendedResponse to message 1."""
    number, rest = _element(message, 0x02)
    response, _ = _element(rest, 0x78)
    code, rest = _element(response, 0x0A)
    _matched, rest = _element(rest, 0x04)
    text, _ = _element(rest, 0x04)
    if int.from_bytes(number, "big") not in (1, _NOTICE_OF_DISCONNECTION):
        raise Unexpected(f"an answer to message {number.hex()}, not to 1")
    if int.from_bytes(number, "big") == _NOTICE_OF_DISCONNECTION or code != b"\0":
        raise Refused(
            f"resultCode {int.from_bytes(code, 'big')} {readable(text)}".strip()
        )


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The contents of the element of that tag that `data` begins with, and the rest."""
    if len(data) < 2 or data[0] != tag:
        raise Unexpected(f"{data[:2].hex()}, not an element of tag 0x{tag:02x}")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise Unexpected("an LDAPMessage that ends inside an element")
    return data[start : start + length], data[start + length :]


# -- XMPP ------------------------------------------------------------------------

_TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"


def _features(names: list[str]) -> None:
    if f"{STREAM} features" not in names[:1]:
        raise Refused(f"it answers with {_local(names)}, not with its features")
    if f"{_TLS} starttls" not in names:
        raise Refused("it does not offer starttls")


def _proceed(names: list[str]) -> None:
    if f"{_TLS} proceed" not in names[:1]:
        raise Refused(f"it answers with {_local(names)}")


def _local(names: list[str]) -> str:
    inside = " ".join(readable(name.split(" ")[-1], 40) for name in names[:3])
    return f"<{inside}>" if inside else "the end of its stream"


# -- PostgreSQL and MySQL --------------------------------------------------------


def _postgres(answer: bytes) -> None:
    # The text that follows an E is not read: nobody has vouched for it
    # (CVE-2024-10977).
    if answer == b"N":
        raise Refused("it answers N: it is not set up for TLS")
    if answer == b"E":
        raise Refused("it answers E: it does not know SSLRequest")
    if answer != b"S":
        raise Unexpected(f"{readable(answer)!r}, not S or N")


_CLIENT_SSL: Final = 0x0800
_PROTOCOL_41: Final = 0x0200
_SECURE_CONNECTION: Final = 0x8000
_PLUGIN_AUTH: Final = 0x80000


def _mysql_greeting(payload: bytes) -> None:
    """Protocol::HandshakeV10 with CLIENT_SSL among its capabilities.

    https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
    """
    if payload[:1] == b"\xff":
        raise Refused(
            f"error {int.from_bytes(payload[1:3], 'little')}: {readable(payload[3:])}"
        )
    version, _, rest = payload[1:].partition(b"\0")
    if payload[:1] != b"\x0a" or len(rest) < 15:
        raise Unexpected(f"{readable(payload, 40)!r}, not a handshake of version 10")
    # thread id 4, authentication data 8, filler 1, capabilities 2
    if not int.from_bytes(rest[13:15], "little") & _CLIENT_SSL:
        raise Refused(f"MySQL {readable(version, 40)} is not set up for TLS")


_MYSQL_SSL_REQUEST: Final = b"".join(
    (
        (32).to_bytes(3, "little"),
        b"\x01",  # the second packet of the connection
        (_PROTOCOL_41 | _CLIENT_SSL | _SECURE_CONNECTION | _PLUGIN_AUTH).to_bytes(
            4, "little"
        ),
        (1 << 24).to_bytes(4, "little"),  # largest packet that is accepted
        b"\x2d",  # utf8mb4
        bytes(23),
    )
)

# -- the table -------------------------------------------------------------------

DIALOGUES: Final[Mapping[str, Dialogue]] = MappingProxyType(
    {
        "smtp": (  # RFC 3207
            Hear(coded_reply, _reply("220")),
            Say(b"EHLO %(client)s\r\n"),
            Hear(coded_reply, _reply("250", offering="STARTTLS")),
            Say(b"STARTTLS\r\n"),
            Hear(coded_reply, _reply("220")),
        ),
        "imap": (  # RFC 9051 section 6.2.1
            Hear(line, _imap_greeting),
            Say(b"a1 STARTTLS\r\n"),
            Hear(tagged_reply("a1"), _word("OK", "NO", "BAD")),
        ),
        "pop3": (  # RFC 2595 section 4
            Hear(line, _word("+OK", "-ERR")),
            Say(b"STLS\r\n"),
            Hear(line, _word("+OK", "-ERR")),
        ),
        "ftp": (  # RFC 4217 section 4
            Hear(coded_reply, _reply("220")),
            Say(b"AUTH TLS\r\n"),
            Hear(coded_reply, _reply("234")),
        ),
        "ldap": (  # RFC 4511 section 4.14
            Say(b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"),
            Hear(ber, _extended_response),
        ),
        "xmpp": (  # RFC 6120 section 5.4
            Say(
                b"<?xml version='1.0'?><stream:stream to=%(server)s version='1.0' "
                b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
            ),
            Hear(xmpp_element(in_stream=False), _features),
            Say(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            Hear(xmpp_element(in_stream=True), _proceed),
        ),
        "postgres": (  # https://www.postgresql.org/docs/current/protocol-flow.html
            Say(b"\0\0\0\x08\x04\xd2\x16\x2f"),
            Hear(one_byte, _postgres),
        ),
        "mysql": (
            Hear(mysql_packet, _mysql_greeting),
            Say(_MYSQL_SSL_REQUEST),
        ),
    }
)

PROTOCOLS: Final[tuple[str, ...]] = tuple(DIALOGUES)
"""The names that `upgrade` and the command line take."""
