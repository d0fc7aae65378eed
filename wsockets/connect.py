"""connect(), adopt(), and the binding object that both are methods of.

https://sockets-api.proposal.wintertc.org/#connect-section
https://sockets-api.proposal.wintertc.org/#binding-object-concept
"""

from __future__ import annotations

import contextlib
import socket as _socket
import ssl
from typing import Any, Final, TypedDict, Unpack, final

import attrs

from . import dial
from .address import AnySocketAddress, SocketAddress, parse_address
from .dial import Policy, Proxy, Resolver
from .errors import SocketError
from .handshake import Handshake, Security
from .mixed_options import AdoptMembers, read_adopt
from .opening import Opening
from .options import (
    SocketOptions,
    SocketOptionsMembers,
    check_nursery,
    given_members,
    read_members,
    spellings,
)
from .runtime import current
from .server import ListenMembers, ServerSocket, start_listening
from .socket import Socket
from .tls import TlsOptions

__all__ = ["Binding", "adopt", "connect"]

_LARGEST_FD: Final = 2**31 - 1

_TLS_ELSEWHERE: Final = {
    name: (
        f"connect() takes no {name!r}: TLS settings belong to a binding object, "
        f"Binding(tls=TlsOptions({name}=…)).connect(…), or to startTls()"
    )
    for name in spellings(TlsOptions)
}


def _a_tls_options(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, TlsOptions):
        raise SocketError(
            f"{field.name} is a TlsOptions, not {type(value).__name__}", code="option"
        )


def _a_proxy(value: object) -> Proxy | None:
    return None if value is None else dial.parse_proxy(value)


class BindingMembers(TypedDict, total=False):
    """The members of `Binding`, in either spelling."""

    tls: TlsOptions | None
    policy: Policy | None
    proxy: Proxy | str | None
    proxyResolve: bool | None
    proxy_resolve: bool | None
    resolver: Resolver | None


@final
@attrs.frozen(init=False)
class Binding:
    """The specification's binding object: a connect() with settings of its own.

    - `tls`: TlsOptions for "on", and for startTls() unless it is told otherwise.
    - `policy`: a function (host, address, port), called with each numeric address
      about to be dialled; False or an exception refuses it. `deny_private()`
      makes one.
    - `proxy`: "http://…" (CONNECT) or "socks5://…", with user:password@ or
      without.
    - `proxyResolve`: let the proxy resolve names; goes with no policy.
    - `resolver`: an async function (host, port) -> [(family, ip)].

    Made of a mapping or keywords, in either spelling. Raises SocketError (code
    "option") for anything else.
    """

    tls: TlsOptions = attrs.field(factory=TlsOptions, validator=_a_tls_options)
    policy: Policy | None = None
    proxy: Proxy | None = attrs.field(default=None, converter=_a_proxy)
    proxyResolve: bool = False
    resolver: Resolver | None = None

    def __init__(
        self, options: object = None, /, **members: Unpack[BindingMembers]
    ) -> None:
        self.__attrs_init__(
            **given_members(Binding, options, members, where="Binding()")
        )

    def __attrs_post_init__(self) -> None:
        dial.check_dial(
            policy=self.policy,
            proxy=self.proxy,
            proxy_resolve=self.proxyResolve,
            resolver=self.resolver,
        )

    @property
    def proxy_resolve(self) -> bool:
        """`proxyResolve`."""
        return self.proxyResolve

    def connect(
        self,
        address: AnySocketAddress,
        options: object = None,
        /,
        *,
        nursery: object = None,
        **members: Unpack[SocketOptionsMembers],
    ) -> Socket:
        """`connect()` with the settings of this object."""
        target = parse_address(address)
        wanted = read_members(
            SocketOptions, options, members, where="connect()", refuse=_TLS_ELSEWHERE
        )
        runtime = current()
        check_nursery(runtime, nursery)
        if isinstance(target, SocketAddress):
            security = Security(self.tls, target.hostname, target.port)
        else:
            security = Security(self.tls)

        handshake = _first_handshake(wanted, security)
        socket = Socket._make(runtime, wanted, security, nursery)
        dialling = dial.Dialling(
            runtime,
            target,
            self.policy,
            self.proxy,
            self.proxyResolve,
            self.resolver,
        )
        opening = Opening(
            runtime, dialling.finish, wanted, handshake, target, dialling.at_once
        )
        socket._start(opening)
        return socket

    def adopt(
        self,
        fd: int | _socket.socket,
        options: object = None,
        /,
        *,
        nursery: object = None,
        **members: Unpack[AdoptMembers],
    ) -> Socket:
        """`adopt()` with the settings of this object."""
        wanted, own, tls_options = read_adopt(self.tls, options, members)
        runtime = current()
        check_nursery(runtime, nursery)
        security = Security(tls_options, own.hostname, role=own.role)
        handshake = _first_handshake(wanted, security)
        sock = _take(fd)

        async def opener() -> _socket.socket:
            return sock

        try:
            socket = Socket._make(runtime, wanted, security, nursery)
            opening = Opening(runtime, opener, wanted, handshake)
            if not socket._start(opening):
                sock.close()
        except BaseException:
            sock.detach()
            raise
        if sock.fileno() >= 0:  # the signal was not aborted already
            _settle(sock)
        if isinstance(fd, _socket.socket):
            fd.detach()
        return socket

    def listen(
        self,
        address: AnySocketAddress | _socket.socket | int,
        options: object = None,
        /,
        *,
        nursery: object = None,
        **members: Unpack[ListenMembers],
    ) -> ServerSocket:
        """`listen()` with the TLS settings of this object, `ca` and `verify` apart.

        Those two are for the servers that it connects to.
        """
        return start_listening(self.tls, address, options, nursery, members)


_default: Final = Binding()


def connect(
    address: AnySocketAddress,
    options: object = None,
    /,
    *,
    nursery: object = None,
    **members: Unpack[SocketOptionsMembers],
) -> Socket:
    """Make a socket that connects to `address`; returns at once.

    `address` is "host:port", "[v6]:port", "unix:/path", a SocketAddress or a
    mapping with hostname and port. `options`, a mapping or a SocketOptions, and
    the keywords have the members of SocketOptions. With a `nursery` the socket
    ends when that is cancelled, and the nursery waits for the socket.

    SocketError (code "address" or "option") for what cannot be right;
    RuntimeError outside of an event loop. All other failures arrive through
    `opened` and `closed`.
    https://sockets-api.proposal.wintertc.org/#connect-section
    """
    return _default.connect(address, options, nursery=nursery, **members)


def adopt(
    fd: int | _socket.socket,
    options: object = None,
    /,
    *,
    nursery: object = None,
    **members: Unpack[AdoptMembers],
) -> Socket:
    """Make a socket of a stream, TCP or unix, that is connected already.

    The socket owns the fd from then on (a `socket.socket` is detached) and makes
    it non-blocking and, if it is TCP, TCP_NODELAY. The members are those of
    SocketOptions and TlsOptions, and `hostname`, the name that TLS verifies, and
    `role`: "client" or "server", which is the side that the TLS handshake takes.

    SocketError (code "option") for an fd that is not a connected stream, and
    for what connect() refuses; the fd is then still the caller's.
    """
    return _default.adopt(fd, options, nursery=nursery, **members)


def _first_handshake(options: SocketOptions, security: Security) -> Handshake | None:
    """The handshake to start with; names and options are checked now."""
    if options.secureTransport == "off":
        return None
    handshake = Handshake.make(options, security)
    if options.secureTransport == "starttls":
        return None
    handshake.check()
    return handshake


def _take(fd: int | _socket.socket) -> _socket.socket:
    """A second object for a connected stream, which is still the caller's as well."""
    if isinstance(fd, ssl.SSLSocket):
        raise SocketError(
            "adopt() cannot take a connection from under Python's ssl; adopt the "
            'plain socket with secureTransport="on"',
            code="option",
        )
    if isinstance(fd, _socket.socket):
        number = fd.fileno()
    elif isinstance(fd, int) and not isinstance(fd, bool):
        number = fd
    else:
        raise SocketError(
            f"adopt() takes an fd or a socket.socket, not {type(fd).__name__}",
            code="option",
        )
    if not 0 <= number <= _LARGEST_FD:
        raise _not_adoptable(number, "is no descriptor")
    try:
        sock = _socket.socket(fileno=number)
    except OSError as error:
        raise _not_adoptable(number, "is not a socket") from error
    try:
        if sock.type != _socket.SOCK_STREAM:
            raise _not_adoptable(number, "is not a stream")
        sock.getpeername()
    except OSError as error:
        sock.detach()
        raise _not_adoptable(number, "is not connected") from error
    except BaseException:
        sock.detach()
        raise
    return sock


def _settle(sock: _socket.socket) -> None:
    """Make an adopted stream what one that was dialled is.

    Without TCP_NODELAY an answer waits behind unacknowledged session tickets, for
    as long as the peer delays its acknowledgement: 40 ms (RFC 9293, 3.7.4).
    """
    sock.setblocking(False)
    if sock.family in (_socket.AF_INET, _socket.AF_INET6):
        # Some systems refuse it on a connection that was reset: no matter then.
        with contextlib.suppress(OSError):
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)


def _not_adoptable(fd: int, why: str) -> SocketError:
    return SocketError(
        f"adopt() takes a connected stream socket; fd {fd} {why}", code="option"
    )
