"""The body: what a socket sends first, and then no more.

It takes the place of the writable, so it holds the lock of it, and the end of the
body is the end of what is sent. What is at hand is written by the constructor
itself; for anything else there is a task, which waits for each piece to be sent, and
ends with the socket. A body that fails aborts the socket: a FIN would tell the peer
that it has got all of it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..errors import SocketError
from ..streams import ReadableStream, WritableStreamDefaultWriter
from .extras import abort

if TYPE_CHECKING:
    from ..socket import Socket

__all__ = ["SocketBody", "check_body", "send_body"]

SocketBody: TypeAlias = (
    "str | bytes | bytearray | memoryview | ReadableStream | Iterable[Any] "
    "| AsyncIterable[Any] | Awaitable[Any] | Callable[[], Any] | None"
)

# Bytes that are read from a file at once.
_CHUNK: Final = 65536
# How often a function or an awaitable may give another one.
_DEPTH: Final = 8
_ACCEPTED: Final = (
    "a str, a bytes-like object, a ReadableStream, a file, an iterable or async "
    "iterable of chunks, an awaitable or a function that gives one of these"
)


def check_body(body: object) -> None:
    """SocketError (code "option") for what cannot be a body."""
    if body is None or _is_chunk(body) or callable(body) or inspect.isawaitable(body):
        return
    if isinstance(body, Mapping) or not (
        _is_file(body) or isinstance(body, (ReadableStream, Iterable, AsyncIterable))
    ):
        # Not the value: it may be a secret.
        raise SocketError(
            f"body is {_ACCEPTED}, not {type(body).__name__}", code="option"
        )


def _is_chunk(body: object) -> bool:
    if isinstance(body, (str, bytes)):
        return True
    try:
        memoryview(body).release()  # type: ignore[arg-type]
    except (TypeError, BufferError):
        return False
    return True


def _is_file(body: object) -> bool:
    return callable(getattr(body, "read", None))


def send_body(socket: Socket, body: Any) -> None:
    """Begin to send `body`; returns at once."""
    writer = socket.writable.getWriter()
    if _is_chunk(body):
        writer.write(body)
        writer.close()
        return
    scope = socket._runtime.scope()
    socket._when_ended(scope.cancel)

    async def send() -> None:
        with scope:
            try:
                await _send(socket, writer, body)
            except Exception as error:
                abort(socket, error)

    socket._runtime.spawn(send, name="wsockets body")


async def _send(socket: Socket, writer: WritableStreamDefaultWriter, body: Any) -> None:
    body = await _resolved(body)
    if isinstance(body, ReadableStream):
        writer.releaseLock()
        await body.pipeTo(socket.writable, preventAbort=True)
        return
    if _is_chunk(body):
        await writer.write(body)
    elif _is_file(body):
        while chunk := await _now_or_later(body.read(_CHUNK)):
            await writer.write(chunk)
    elif isinstance(body, AsyncIterable):
        async with _ended_late(body):
            async for chunk in body:
                await writer.write(chunk)
    else:
        with _ended(body):
            for chunk in body:
                await writer.write(chunk)
    await writer.close()


async def _resolved(body: Any) -> Any:
    """The body itself, behind functions and awaitables."""
    for _ in range(_DEPTH):
        if callable(body) and not isinstance(body, ReadableStream):
            body = body()
        elif inspect.isawaitable(body):
            body = await body
        else:
            if body is None:
                raise SocketError(f"body gave None; it is {_ACCEPTED}", code="option")
            check_body(body)
            return body
    raise SocketError(
        f"body is a function or awaitable of another one, {_DEPTH} times over",
        code="option",
    )


async def _now_or_later(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@contextlib.contextmanager
def _ended(body: Any) -> Iterator[None]:
    # A generator that is left behind runs its finally at a random time.
    try:
        yield
    finally:
        if inspect.isgenerator(body):
            body.close()


@contextlib.asynccontextmanager
async def _ended_late(body: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if inspect.isasyncgen(body):
            await body.aclose()
