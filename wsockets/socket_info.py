"""SocketInfo: what is known of a socket that is open."""

from __future__ import annotations

import socket as _socket

import attrs

from .address import format_address

__all__ = ["SocketInfo", "info_of"]


@attrs.frozen
class SocketInfo:
    """What `opened` resolves to: the two ends, and the protocol agreed on.

    Addresses are numeric, "127.0.0.1:443", "[::1]:443" or "unix:/path"; the
    remote one is the proxy's where one was connected through, and what a trusted
    proxy announced where one has connected here.
    https://sockets-api.proposal.wintertc.org/#socketinfo-dictionary
    """

    remoteAddress: str | None = None
    localAddress: str | None = None
    alpn: str | None = None

    @property
    def remote_address(self) -> str | None:
        """`remoteAddress`."""
        return self.remoteAddress

    @property
    def local_address(self) -> str | None:
        """`localAddress`."""
        return self.localAddress


def info_of(
    sock: _socket.socket, alpn: str | None, announced: str | None = None
) -> SocketInfo:
    """What is known of a connected `sock`; not its ends if the peer has reset it.

    `announced` is the peer's address, where a proxy has told it.
    """
    try:
        peer, own = sock.getpeername(), sock.getsockname()
    except OSError:
        return SocketInfo(remoteAddress=announced, alpn=alpn)
    return SocketInfo(announced or format_address(peer), format_address(own), alpn)
