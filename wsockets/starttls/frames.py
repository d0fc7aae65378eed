"""Where a message ends, one frame for each way in which protocols say it.

A frame is a generator that does no I/O: it yields how many bytes it wants next,
is sent exactly so many, and returns the message. It never wants a byte that
could lie behind the message's end. Frames raise `Unexpected` for bytes that
cannot be a message of theirs.

A frame keeps its own lines short; that a whole message stays below
`MESSAGE_LIMIT` is held by whoever drives it (`upgrade.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Final, TypeAlias, TypeVar
from xml.parsers import expat

__all__ = [
    "LINE_LIMIT",
    "MESSAGE_LIMIT",
    "STREAM",
    "Frame",
    "Reading",
    "Unexpected",
    "ber",
    "coded_reply",
    "line",
    "mysql_packet",
    "one_byte",
    "readable",
    "tagged_reply",
    "xmpp_element",
]

T = TypeVar("T")

Reading: TypeAlias = Generator[int, bytes, T]
Frame: TypeAlias = Callable[[], Reading[T]]

LINE_LIMIT: Final = 4096
"""Bytes in a line, its end included; RFC 5321 section 4.5.3.1.5 has 512."""

MESSAGE_LIMIT: Final = 65536
"""Bytes in a message of any protocol."""

STREAM: Final = "http://etherx.jabber.org/streams"
"""The XML namespace of XMPP's streams (RFC 6120 section 4.8.1)."""

_LITERAL: Final = re.compile(r"\{\d+\+?\}$")


class Unexpected(Exception):
    """These bytes are not what the protocol has at this point."""


def readable(text: str | bytes, limit: int = 200) -> str:
    """What a peer said, fit for a message: one line, no control characters."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in cut
    )


def one_byte() -> Reading[bytes]:
    """A single byte."""
    return (yield 1)


def line() -> Reading[str]:
    """A line, without its CRLF or LF."""
    got = bytearray()
    while not got.endswith(b"\n"):
        if len(got) == LINE_LIMIT:
            raise Unexpected(f"a line of over {LINE_LIMIT} bytes")
        got += yield 1
    return got.decode("utf-8", "backslashreplace").rstrip("\r\n")


def coded_reply() -> Reading[list[str]]:
    """The lines of a reply of SMTP or FTP; the first begins with its code.

    `123-text` begins a reply of several lines, `123 text` (or `123` alone) ends
    it: RFC 959 section 4.2, of which RFC 5321 section 4.2.1 is the stricter form.
    """
    lines = [(yield from line())]
    code, mark = lines[0][:3], lines[0][3:4]
    if not (code.isascii() and code.isdigit() and len(code) == 3 and mark in " -"):
        raise Unexpected(f"{readable(lines[0])!r}, not a reply with a three-digit code")
    while mark == "-":
        lines.append((yield from line()))
        if lines[-1][:3] == code and lines[-1][3:4] in ("", " "):
            break
    return lines


def tagged_reply(tag: str) -> Frame[str]:
    """The reply of IMAP to the command `tag`, its untagged responses left out.

    A literal cannot occur in what a server says before STARTTLS, and would hide
    the end of the response: RFC 9051 section 4.3.
    """

    def frame() -> Reading[str]:
        while True:
            said = yield from line()
            if said.startswith(tag + " "):
                return said[len(tag) + 1 :]
            if not said.startswith("* ") or _LITERAL.search(said):
                raise Unexpected(f"{readable(said)!r}, not a response to {tag}")

    return frame


def ber() -> Reading[bytes]:
    """The contents of an LDAPMessage, a SEQUENCE in BER (RFC 4511 section 5.1)."""
    tag, length = yield 2
    if tag != 0x30:
        raise Unexpected(f"a byte 0x{tag:02x}, not the 0x30 of an LDAPMessage")
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
            raise Unexpected(f"a length in {size} bytes, where 1 to 4 are accepted")
        length = int.from_bytes((yield size), "big")
    return (yield _bounded(length))


def mysql_packet() -> Reading[bytes]:
    """The payload of the first packet of a MySQL connection.

    https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
    """
    header = yield 4
    length, sequence = int.from_bytes(header[:3], "little"), header[3]
    if sequence != 0 or length == 0:
        raise Unexpected(f"{readable(header)!r}, not the header of a first packet")
    return (yield _bounded(length))


def _bounded(length: int) -> int:
    if length > MESSAGE_LIMIT:
        raise Unexpected(
            f"a message of {length} bytes, where {MESSAGE_LIMIT} are accepted"
        )
    return length


def xmpp_element(*, in_stream: bool) -> Frame[list[str]]:
    """The next child of an XMPP stream: its name and those inside it, in order.

    Names are written "namespace name". With `in_stream` false the stream's own
    header is still to come, and is read too. What RFC 6120 section 11.1 forbids
    (document types, comments, processing instructions) is not accepted, so no
    entity can be declared.
    """

    def frame() -> Reading[list[str]]:
        parser = expat.ParserCreate("utf-8", " ")
        # Newer expats put off an unfinished token until much more has come,
        # which here would never come.
        if hasattr(parser, "SetReparseDeferralEnabled"):  # pragma: no cover
            parser.SetReparseDeferralEnabled(False)
        names: list[str] = []
        open_elements = 0
        finished = False

        def started(name: str, _attributes: object) -> None:
            nonlocal open_elements
            if open_elements:
                names.append(name)
            elif name != f"{STREAM} stream":
                raise Unexpected(f"<{readable(name)}>, not an XMPP stream")
            open_elements += 1

        def ended(_name: str) -> None:
            nonlocal open_elements, finished
            open_elements -= 1
            finished = finished or open_elements < 2

        def forbidden(*_: object) -> None:
            raise Unexpected("XML that RFC 6120 section 11.1 forbids")

        parser.StartElementHandler = started
        parser.EndElementHandler = ended
        parser.StartDoctypeDeclHandler = forbidden
        parser.CommentHandler = forbidden
        parser.ProcessingInstructionHandler = forbidden
        try:
            if in_stream:
                parser.Parse(f"<s:stream xmlns:s='{STREAM}'>", False)
            tag = bytearray()
            while not finished:
                tag += yield 1
                if tag.endswith(b">"):
                    parser.Parse(bytes(tag), False)
                    tag.clear()
        except expat.ExpatError as error:
            raise Unexpected(f"XML that cannot be read: {error}") from error
        return names

    return frame
