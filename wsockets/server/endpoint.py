"""Where a server listens: from an address to a listening descriptor.

No name is looked up, for an answer could take long and could change: a host is
numeric, "localhost" (127.0.0.1, which every client of that name tries) or empty.

A unix socket leaves a file behind when its process dies, and bind(2) fails where
there is a file. What to do with it is decided as careful servers do: if somebody
answers there, the address is taken; if it is a socket and nobody does, it is
removed; anything else was not made by a server and is left alone. At the end the
file is removed if it is still the one that was made here.
"""

from __future__ import annotations

import errno
import os
import socket as _socket
import stat
from typing import Final, cast, final

from ..address import (
    AnySocketAddress,
    SocketAddress,
    UnixAddress,
    format_address,
    parse_address,
)
from ..errors import SocketError
from .options import ListenOptions

__all__ = ["Endpoint", "open_endpoint"]

_LARGEST_FD: Final = 2**31 - 1
_ONLY_NEW: Final = ("backlog", "reusePort", "ipv6Only")
# How the system says that it has no IPv6 at all.
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


@final
class Endpoint:
    """A listening socket, non-blocking, and the file that was made for it."""

    __slots__ = ("_file", "address", "socket")

    def __init__(self, socket: _socket.socket, path: str | None = None) -> None:
        self.socket = socket
        self.address = format_address(socket.getsockname())
        self._file: tuple[str, int, int] | None = None
        if path is not None:
            made = os.lstat(path)
            # Not where the process will be when it ends.
            self._file = os.path.abspath(path), made.st_dev, made.st_ino

    def close(self) -> None:
        """Listen no more."""
        if self._file is not None:
            path, *made = self._file
            self._file = None
            try:
                found = os.lstat(path)
                if [found.st_dev, found.st_ino] == made:
                    os.unlink(path)
            except OSError:
                pass  # It is not there any more, or not ours to remove.
        self.socket.close()


def open_endpoint(
    address: AnySocketAddress | _socket.socket | int, options: ListenOptions
) -> Endpoint:
    """Listen on `address`, or on a socket that listens already.

    Raises SocketError: "address" for what cannot be listened on, "option", and "os"
    (with `errno`) for what the system refuses.
    """
    if isinstance(address, _socket.socket):
        return _take(address.fileno(), options)
    if isinstance(address, int) and not isinstance(address, bool):
        return _take(address, options)
    target = parse_address(cast("AnySocketAddress", address), listening=True)
    if isinstance(target, UnixAddress):
        return _listen_unix(target, options)
    return _listen_tcp(target, options)


def _refused(where: object, error: OSError) -> SocketError:
    failure = SocketError(
        f"could not listen on {where}: {error.strerror or error}",
        code="os",
        errno=error.errno,
    )
    failure.__cause__ = error.with_traceback(None)
    return failure


# -- TCP


def _listen_tcp(target: SocketAddress, options: ListenOptions) -> Endpoint:
    family, address = _resolved(target)
    if options.ipv6Only and family is not _socket.AF_INET6:
        raise SocketError(
            f"ipv6Only is for IPv6 addresses and for all interfaces, not {target}",
            code="option",
        )
    try:
        return Endpoint(_open_tcp(family, address, target.port, options))
    except OSError as error:
        if target.hostname or options.ipv6Only or error.errno not in _NO_IPV6:
            raise _refused(target, error) from error
    try:
        return Endpoint(_open_tcp(_socket.AF_INET, "0.0.0.0", target.port, options))
    except OSError as error:
        raise _refused(target, error) from error


def _resolved(target: SocketAddress) -> tuple[_socket.AddressFamily, str]:
    if not target.hostname:
        return _socket.AF_INET6, "::"
    if target.hostname.removesuffix(".") == "localhost":
        return _socket.AF_INET, "127.0.0.1"
    if target.numeric is None:
        raise SocketError(
            f"listen() looks up no names: {target} has to be a numeric address, "
            f'localhost, or ":{target.port}" for all interfaces',
            code="address",
        )
    return target.numeric


def _open_tcp(
    family: _socket.AddressFamily, host: str, port: int, options: ListenOptions
) -> _socket.socket:
    host, _, zone = host.partition("%")
    scope = 0
    if zone:
        scope = int(zone) if zone.isdecimal() else _socket.if_nametoindex(zone)
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        # Connections of an earlier process that still end are in nobody's way.
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if options.reusePort:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        if family is _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, options.ipv6Only)
            sock.bind((host, port, 0, scope))
        else:
            sock.bind((host, port))
        _begin(sock, options)
    except BaseException:
        sock.close()
        raise
    return sock


def _begin(sock: _socket.socket, options: ListenOptions) -> None:
    sock.listen(options.backlog)
    _prepare(sock)


def _prepare(sock: _socket.socket) -> None:
    sock.setblocking(False)
    if sock.family != _socket.AF_UNIX:
        # Those that are accepted have it from here.
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)


# -- unix sockets


def _listen_unix(target: UnixAddress, options: ListenOptions) -> Endpoint:
    for member in ("reusePort", "ipv6Only"):
        if getattr(options, member):
            raise SocketError(f"{member} is not for {target}", code="option")
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        try:
            sock.bind(target.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _remove_stale(target):
                raise
            sock.bind(target.path)
        _begin(sock, options)
        return Endpoint(sock, target.path)
    except OSError as error:
        sock.close()
        raise _refused(target, error) from error
    except BaseException:
        sock.close()
        raise


def _remove_stale(target: UnixAddress) -> bool:
    """Remove the socket that a server has left behind; False where it lives."""
    if not stat.S_ISSOCK(os.lstat(target.path).st_mode):
        raise SocketError(
            f"could not listen on {target}: there is a file that is no socket",
            code="os",
            errno=errno.EADDRINUSE,
        )
    with _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM) as probe:
        # Where the backlog is full it would wait.
        probe.setblocking(False)
        if probe.connect_ex(target.path) != errno.ECONNREFUSED:
            return False
    os.unlink(target.path)
    return True


# -- sockets that listen already


def _take(number: int, options: ListenOptions) -> Endpoint:
    if not 0 <= number <= _LARGEST_FD:
        raise _not_listening(number, "is no descriptor")
    for member in _ONLY_NEW:
        if getattr(options, member) != getattr(ListenOptions(), member):
            raise SocketError(
                f"{member} cannot be changed for a socket that listens already",
                code="option",
            )
    try:
        sock = _socket.socket(fileno=number)
    except OSError as error:
        raise _not_listening(number, "is not a socket") from error
    try:
        if sock.type != _socket.SOCK_STREAM or not sock.getsockopt(
            _socket.SOL_SOCKET, _socket.SO_ACCEPTCONN
        ):
            raise _not_listening(number, "does not listen")
        endpoint = Endpoint(sock)
        _prepare(sock)
    except OSError as error:
        sock.detach()
        raise _not_listening(number, "cannot be used") from error
    except BaseException:
        sock.detach()
        raise
    return endpoint


def _not_listening(fd: int, why: str) -> SocketError:
    return SocketError(
        f"listen() takes an address or a stream socket that listens; fd {fd} {why}",
        code="option",
    )
