"""A small PostgreSQL driver, written against the specification's API alone.

It asks for TLS on a plain connection, goes on with startTls(), logs in with
SCRAM-SHA-256 and runs simple queries, whose values are text.

    PGPASSWORD=… python postgres.py localhost:5432 alice "select version()"

https://www.postgresql.org/docs/current/protocol.html
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import struct
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from wsockets import Socket, connect

_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
_PROTOCOL: Final = struct.pack("!I", 3 << 16)
_MECHANISM: Final = b"SCRAM-SHA-256"
# RFC 7677 asks for 4096 at least; who wants millions wants our CPU.
_ITERATIONS: Final = range(4096, 1_000_001)


class PostgresError(Exception):
    """The server refused (`code` is its SQLSTATE) or broke the protocol."""

    def __init__(self, message: str, code: str = "", *, fatal: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.fatal = fatal  # the session is over


class Result(NamedTuple):
    """A statement's tag ("SELECT 2") and its rows, as text; None is NULL."""

    command: str
    columns: tuple[str, ...]
    rows: list[tuple[str | None, ...]]


class Postgres:
    """A session with a PostgreSQL server over TLS, for one query at a time."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._reader = socket.readable.getReader()
        self._writer = socket.writable.getWriter()
        self._received = bytearray()

    @classmethod
    async def open(
        cls,
        address: str,
        *,
        user: str,
        password: str,
        database: str | None = None,
        tls: Mapping[str, object] | None = None,
        connect: Callable[..., Socket] = connect,
    ) -> Postgres:
        """Connect to "host:port" and log in.

        `tls` is what startTls() is given; `connect` may be a binding object's.
        """
        socket = connect(address, secureTransport="starttls")
        try:
            socket = await _secured(socket, tls)
            self = cls(socket)
            await self._log_in(user, password, database or user)
        except BaseException:
            socket.close("the login failed")
            raise
        return self

    async def query(self, sql: str) -> list[Result]:
        """Run `sql`, which may hold several statements; one Result for each.

        An error that the server reports is raised, and the session goes on; a
        query that is interrupted, by a cancellation say, ends it.
        """
        statement = _string(sql)
        try:
            await self._send(b"Q", statement)
            return await self._results()
        except BaseException as error:
            if not isinstance(error, PostgresError) or error.fatal:
                self._socket.close("a query failed")
            raise

    async def close(self) -> None:
        """Say goodbye and close the connection."""
        await self._send(b"X", b"")
        await self._socket.close()

    # -- messages: a type, the length of itself and of what follows, and that

    async def _send(self, kind: bytes, body: bytes) -> None:
        await self._writer.write(kind + struct.pack("!I", 4 + len(body)) + body)

    async def _receive(self) -> tuple[bytes, bytes]:
        kind, length = struct.unpack("!cI", await self._take(5))
        return kind, await self._take(length - 4)

    async def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            chunk, done = await self._reader.read()
            if done:
                raise PostgresError("the server has hung up")
            self._received += chunk
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    async def _results(self) -> list[Result]:
        """What the server says until it is ready for a query."""
        results: list[Result] = []
        refusal = None
        current = Result("", (), [])
        while True:
            kind, body = await self._receive()
            if kind == b"T":
                current = Result("", _columns(body), [])
            elif kind == b"D":
                current.rows.append(_row(body))
            elif kind == b"C":
                results.append(current._replace(command=body[:-1].decode()))
                current = Result("", (), [])
            elif kind == b"E":
                refusal = _refusal(body)
                if refusal.fatal:
                    raise refusal
            elif kind == b"G":
                await self._send(b"f", _string("there is nothing to copy"))
            elif kind == b"Z":
                if refusal is not None:
                    raise refusal
                return results

    async def _log_in(self, user: str, password: str, database: str) -> None:
        settings = ("user", user, "database", database, "client_encoding", "UTF8")
        await self._send(b"", _PROTOCOL + b"".join(map(_string, settings)) + b"\0")
        if _MECHANISM not in (await self._authentication(10)).split(b"\0"):
            raise PostgresError("the server does not offer SCRAM-SHA-256")
        first = b"n,,n=,r=" + secrets.token_urlsafe(18).encode()
        await self._send(b"p", _MECHANISM + struct.pack("!xI", len(first)) + first)
        challenge = await self._authentication(11)
        proof, expected = _scram(password, first, challenge)
        await self._send(b"p", proof)
        if not hmac.compare_digest(await self._authentication(12), expected):
            raise PostgresError("the server could not prove that it knows the password")
        await self._authentication(0)
        await self._results()

    async def _authentication(self, step: int) -> bytes:
        """The data of the next step of the login, which has to be this one."""
        kind, body = await self._receive()
        if kind == b"E":
            raise _refusal(body)
        if kind != b"R" or body[:4] != struct.pack("!I", step):
            # A server that lets us in too easily need not know the password.
            raise PostgresError("the server does not keep to a SCRAM login")
        return body[4:]


async def _secured(plain: Socket, tls: Mapping[str, object] | None) -> Socket:
    """Ask for TLS and start it; there is no way on without."""
    reader = plain.readable.getReader(mode="byob")
    writer = plain.writable.getWriter()
    await writer.write(_SSL_REQUEST)
    # One byte and no more: whatever comes behind it is for TLS to judge.
    answer, _ = await reader.read(bytearray(1))
    reader.releaseLock()
    writer.releaseLock()
    if answer != b"S":
        raise PostgresError("the server does not offer TLS")
    return plain.startTls(tls)


def _scram(password: str, first: bytes, challenge: bytes) -> tuple[bytes, bytes]:
    """The answer to a challenge to our first message, and what must come back.

    SCRAM-SHA-256 without channel binding (RFC 5802 and 7677). The password is taken
    as it is, without SASLprep.
    """
    fields = dict(field.split(b"=", 1) for field in challenge.split(b","))
    nonce, salt, count = fields[b"r"], b64decode(fields[b"s"]), int(fields[b"i"])
    if not nonce.startswith(first[8:]) or count not in _ITERATIONS:
        raise PostgresError("the server's SCRAM challenge is not acceptable")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, count)
    key = hmac.digest(salted, b"Client Key", "sha256")
    final = b"c=biws,r=" + nonce
    exchange = b",".join([first[3:], challenge, final])
    mask = hmac.digest(hashlib.sha256(key).digest(), exchange, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, mask, strict=True))
    verifier = hmac.digest(salted, b"Server Key", "sha256")
    signature = hmac.digest(verifier, exchange, "sha256")
    return final + b",p=" + b64encode(proof), b"v=" + b64encode(signature)


def _string(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("PostgreSQL has no strings with a NUL in them")
    return text.encode() + b"\0"


def _columns(body: bytes) -> tuple[str, ...]:
    # Behind each name are 18 bytes about its type.
    names = re.findall(rb"([^\0]*)\0.{18}", body[2:], re.DOTALL)
    return tuple(name.decode() for name in names)


def _row(body: bytes) -> tuple[str | None, ...]:
    values: list[str | None] = []
    start = 2
    while start < len(body):
        (length,) = struct.unpack_from("!i", body, start)
        start += 4 + max(length, 0)
        values.append(None if length < 0 else body[start - length : start].decode())
    return tuple(values)


def _refusal(body: bytes) -> PostgresError:
    fields = {field[:1]: field[1:].decode() for field in body.split(b"\0") if field}
    return PostgresError(fields[b"M"], fields[b"C"], fatal=fields[b"V"] != "ERROR")


async def main(address: str, user: str, sql: str) -> None:
    """Run `sql` and print its rows."""
    session = await Postgres.open(
        address, user=user, password=os.environ["PGPASSWORD"], database="postgres"
    )
    for result in await session.query(sql):
        print(result.command, *result.columns, *result.rows, sep="\n")
    await session.close()


if __name__ == "__main__":
    import trio

    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
