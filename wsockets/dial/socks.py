"""A tunnel through a SOCKS5 proxy (RFC 1928, RFC 1929)."""

from __future__ import annotations

import socket
from typing import Final

from socksio import ProtocolError
from socksio.socks5 import (
    SOCKS5AType,
    SOCKS5AuthMethod,
    SOCKS5AuthMethodsRequest,
    SOCKS5AuthReply,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5Connection,
    SOCKS5ReplyCode,
    SOCKS5UsernamePasswordReply,
    SOCKS5UsernamePasswordRequest,
)

from ..errors import SocketError
from ..runtime import Runtime
from .exchange import receive_exactly, send_all
from .proxy import Proxy

__all__ = ["socks5"]

# RFC 1928 section 6. Whether another address of the target may fare better.
_REPLIES: Final[dict[SOCKS5ReplyCode, tuple[str, bool]]] = {
    SOCKS5ReplyCode.GENERAL_SERVER_FAILURE: ("general failure", True),
    SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET: ("not allowed", False),
    SOCKS5ReplyCode.NETWORK_UNREACHABLE: ("network unreachable", True),
    SOCKS5ReplyCode.HOST_UNREACHABLE: ("host unreachable", True),
    SOCKS5ReplyCode.CONNECTION_REFUSED: ("connection refused", True),
    SOCKS5ReplyCode.TTL_EXPIRED: ("TTL expired", True),
    SOCKS5ReplyCode.COMMAND_NOT_SUPPORTED: ("command not supported", False),
    SOCKS5ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED: ("address type not supported", True),
}
# RFC 1928 section 4: how long an address of each type is. A name tells itself.
_ADDRESS_SIZES: Final = {SOCKS5AType.IPV4_ADDRESS: 4, SOCKS5AType.IPV6_ADDRESS: 16}
_VERSION: Final = b"\x05"
_LOGIN_VERSION: Final = b"\x01"


async def socks5(
    runtime: Runtime, sock: socket.socket, proxy: Proxy, host: str, port: int
) -> str | None:
    """Ask the proxy at the other end of `sock` for a connection to `host`.

    `host` is a numeric address or a name of at most 255 bytes, which the proxy
    resolves. None if the connection is there. A text if the proxy could not
    reach the target: another address of it may fare better. All else that is no
    connection is a SocketError "proxy"; OSError and EOFError if the connection
    to the proxy fails.
    """
    connection = SOCKS5Connection()
    try:
        await _log_in(runtime, sock, proxy, connection)
        request = SOCKS5CommandRequest.from_address(SOCKS5Command.CONNECT, (host, port))
        connection.send(request)
        await send_all(runtime, sock, connection.data_to_send())
        code = await _reply(runtime, sock)
    except ProtocolError as error:
        raise SocketError(
            f"the proxy {proxy} does not answer in SOCKS5: {error}", code="proxy"
        ) from error.with_traceback(None)
    if code == SOCKS5ReplyCode.SUCCEEDED:
        return None
    words, another = _REPLIES[code]
    answer = f"the proxy answered: {words}"
    if another:
        return answer
    raise SocketError(
        f"could not connect to {host} port {port} through {proxy}: {answer}",
        code="proxy",
    )


async def _log_in(
    runtime: Runtime, sock: socket.socket, proxy: Proxy, connection: SOCKS5Connection
) -> None:
    methods = [SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    if proxy.credentials is not None:
        methods.append(SOCKS5AuthMethod.USERNAME_PASSWORD)
    connection.send(SOCKS5AuthMethodsRequest(methods))
    await send_all(runtime, sock, connection.data_to_send())
    data = await _versioned(runtime, sock, _VERSION)
    reply = connection.receive_data(data)
    assert isinstance(reply, SOCKS5AuthReply)
    if reply.method not in methods:
        offered = "a user name and password" if proxy.credentials else "no credentials"
        raise SocketError(
            f"the proxy {proxy} does not take the connection with {offered}",
            code="proxy",
        )
    if reply.method != SOCKS5AuthMethod.USERNAME_PASSWORD:
        return
    assert proxy.credentials is not None
    login = proxy.credentials.username, proxy.credentials.password
    connection.send(SOCKS5UsernamePasswordRequest(*login))
    await send_all(runtime, sock, connection.data_to_send())
    data = await _versioned(runtime, sock, _LOGIN_VERSION)
    verdict = connection.receive_data(data)
    assert isinstance(verdict, SOCKS5UsernamePasswordReply)
    if not verdict.success:
        raise SocketError(
            f"the proxy {proxy} refused the user name or the password", code="proxy"
        )


async def _reply(runtime: Runtime, sock: socket.socket) -> SOCKS5ReplyCode:
    """The code of the reply, of which not a byte is left and none more is taken."""
    data = await _versioned(runtime, sock, _VERSION)
    try:
        code = SOCKS5ReplyCode(data[1:2])
    except ValueError:
        raise ProtocolError(f"reply {data[1]} is not known") from None
    if code != SOCKS5ReplyCode.SUCCEEDED:
        # Some proxies leave the rest out.
        return code
    data = await receive_exactly(runtime, sock, 2)
    try:
        kind = SOCKS5AType(data[1:2])
    except ValueError:
        raise ProtocolError(f"address type {data[1]} is not known") from None
    if kind in _ADDRESS_SIZES:
        size = _ADDRESS_SIZES[kind]
    else:
        length = await receive_exactly(runtime, sock, 1)
        size = length[0]
    # What the proxy is bound to is of no use to anybody.
    await receive_exactly(runtime, sock, size + 2)
    return code


async def _versioned(runtime: Runtime, sock: socket.socket, version: bytes) -> bytes:
    """The first two bytes of an answer, the version among them."""
    data = await receive_exactly(runtime, sock, 2)
    if data[:1] != version:
        raise ProtocolError(f"it begins with the byte {data[0]}")
    return data
