"""A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
import socket
from http import HTTPStatus

import h11

from ..errors import SocketError
from ..runtime import Runtime
from .exchange import MAX_HEAD, HeadTooLong, receive_head, send_all
from .proxy import Credentials, Proxy

__all__ = ["http_connect"]


async def http_connect(
    runtime: Runtime, sock: socket.socket, proxy: Proxy, target: str
) -> str | None:
    """Ask the proxy at the other end of `sock` for a tunnel to "host:port".

    None if the tunnel is there. A text if the proxy could not reach the target
    (5xx): another address of it may fare better. All else that is not a tunnel
    is a SocketError "proxy"; OSError and EOFError if the connection fails.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    await send_all(runtime, sock, _request(connection, proxy.credentials, target))
    status = await _status(runtime, sock, connection, proxy)
    if 200 <= status < 300:
        return None
    answer = f"the proxy answered {_described(status)}"
    if status >= 500:
        return answer
    raise SocketError(
        f"could not connect to {target} through {proxy}: {answer}", code="proxy"
    )


def _request(
    connection: h11.Connection, credentials: Credentials | None, target: str
) -> bytes:
    headers = [("Host", target)]
    if credentials is not None:
        pair = credentials.username + b":" + credentials.password
        token = base64.b64encode(pair).decode("ascii")
        headers.append(("Proxy-Authorization", f"Basic {token}"))
    request = h11.Request(method="CONNECT", target=target, headers=headers)
    data = connection.send(request)
    connection.send(h11.EndOfMessage())
    assert data is not None
    return data


async def _status(
    runtime: Runtime, sock: socket.socket, connection: h11.Connection, proxy: Proxy
) -> int:
    left = MAX_HEAD
    while left > 0:
        try:
            head = await receive_head(runtime, sock, begins=b"HTTP/", limit=left)
            left -= len(head)
            connection.receive_data(head)
            event = connection.next_event()
        except HeadTooLong:
            break
        except (ValueError, h11.RemoteProtocolError):
            # Without a cause: h11 quotes the line, and a proxy may quote the
            # request, password included.
            raise SocketError(
                f"the proxy {proxy} does not answer in HTTP", code="proxy"
            ) from None
        if isinstance(event, h11.Response):
            return event.status_code
    raise SocketError(
        f"the proxy {proxy} answered with more than {MAX_HEAD} bytes of headers",
        code="proxy",
    )


def _described(status: int) -> str:
    # The standard's words: those of the proxy may be anything.
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
