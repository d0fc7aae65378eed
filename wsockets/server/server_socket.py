"""ServerSocket: accepting, and giving away what was accepted.

One task accepts (`_accept`). It takes a connection from the kernel only if there is
somebody to take it, or room: while the queue of `readable` has room, counting those
whose handshake is still under way, or while a read is waiting, and while there are
fewer than maxHandshakes of them. Otherwise it sleeps, and the kernel's backlog
fills. A connection that needs no word from its peer becomes a Socket at once; any
other has a task of its own (see arrival), which can be slow without holding up
anybody, and only a complete Socket is ever delivered.

    LISTENING --> STOPPING --> CLOSED
        |                         ^
        +-------------------------+

In STOPPING nothing is accepted any more and the last handshakes end. What ends a
server is one of three: `close()`, `_abort` (a reason, a signal, a cancelled
nursery, a cancelled `readable`) and `_failed` (the listening socket is broken).
Whatever was not delivered by then is reset; sockets that were delivered belong to
those who have them.
"""

from __future__ import annotations

import enum
import errno
import logging
import socket as _socket
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast, final

import attrs

from ..abort import when_aborted
from ..address import AnySocketAddress, format_address
from ..connection import PlainConnection
from ..errors import SocketError, as_exception, os_error
from ..handshake import Handshake
from ..options import SecureTransportKind, check_nursery
from ..promise import Promise, fulfilled
from ..runtime import Line, Runtime, current, protect
from ..runtime.gate import Gate, Want
from ..socket import Socket
from ..socket_info import SocketInfo
from ..streams import ReadableStream
from ..streams.default_controller import ReadableStreamDefaultController
from ..tls import TlsOptions
from .arrival import Arrival, opened
from .endpoint import Endpoint, open_endpoint
from .options import ListenMembers, ReloadMembers, Settings, read_listen, read_reload

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

__all__ = ["ServerSocket", "ServerStats", "listen", "start_listening"]

_log = logging.getLogger("wsockets")

# How many sockets wait for somebody to take them.
_AHEAD: Final = 16
# How many connections are accepted before other tasks have their turn.
_TURN: Final = 64
# Seconds between tries where the system has no descriptor or memory left.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# What went wrong with one connection, before it was accepted (accept(2)).
_OF_THE_PEER: Final = (
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
)


class _State(enum.Enum):
    LISTENING = "listening"
    STOPPING = "stopping"
    CLOSED = "closed"


@attrs.frozen
class ServerStats:
    """What a server has done and is doing.

    - `accepted`: connections taken from the system so far.
    - `failed`: those that came to no socket: a handshake or header that failed, was
      too slow or was given up.
    - `handshaking`: those whose handshake or header is under way now.
    - `waiting`: sockets that nobody has taken yet.
    """

    accepted: int
    failed: int
    handshaking: int
    waiting: int


@final
class ServerSocket:
    """A socket that others connect to. Made by `listen()`.

    `async for socket in server` gives each connection as an open Socket. Leaving
    the loop leaves the server as it is; closing it ends the loop.
    """

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_arrivals",
        "_closed",
        "_complained",
        "_controller",
        "_endpoint",
        "_failed_arrivals",
        "_forget_signal",
        "_gate",
        "_handshake",
        "_idle",
        "_nursery",
        "_opened",
        "_runtime",
        "_settings",
        "_state",
    )

    _accepted: int
    _arrivals: dict[Arrival, None]
    _closed: Promise[None]
    _complained: bool
    _controller: ReadableStreamDefaultController
    _endpoint: Endpoint
    _failed_arrivals: int
    _forget_signal: Callable[[], object] | None
    _gate: Gate
    _handshake: Handshake | None
    _idle: Line
    _nursery: object
    _opened: Promise[SocketInfo]
    _runtime: Runtime
    _settings: Settings
    _state: _State

    def __init__(self) -> None:
        raise TypeError("a ServerSocket is made by listen()")

    @classmethod
    def _make(
        cls, runtime: Runtime, settings: Settings, endpoint: Endpoint, nursery: object
    ) -> ServerSocket:
        self = cls.__new__(cls)
        self._runtime = runtime
        self._settings = settings
        self._handshake = settings.handshake
        self._endpoint = endpoint
        self._nursery = nursery
        self._state = _State.LISTENING
        self._accepted = self._failed_arrivals = 0
        self._arrivals = {}
        self._complained = False
        self._forget_signal = None
        self._gate = Gate(runtime)
        self._gate.open(endpoint.socket.fileno())
        # Where the accepting task sleeps while it has nothing to wait for.
        self._idle = {}
        self._opened = fulfilled(runtime, SocketInfo(localAddress=endpoint.address))
        self._closed = Promise(runtime)
        self._controller = ReadableStreamDefaultController._set_up(
            runtime,
            pull=self._pull,
            cancel=self._cancelled,
            high_water_mark=_AHEAD,
            discard=_discard,
        )
        return self

    # -- what users have

    @property
    def readable(self) -> ReadableStream:
        """The connections: a stream of Sockets. Cancelling it closes the server."""
        return self._controller.stream

    @property
    def opened(self) -> Promise[SocketInfo]:
        """Resolves at once, with the `localAddress`."""
        return self._opened

    @property
    def closed(self) -> Promise[None]:
        """Resolves when the server listens no more and the last handshake is over."""
        return self._closed

    @property
    def localAddress(self) -> str:
        """Where it listens: "127.0.0.1:443", "[::1]:443" or "unix:/path"."""
        return self._endpoint.address

    @property
    def secureTransport(self) -> SecureTransportKind:
        """ "off", "on" or "starttls": what its sockets begin with."""
        return self._settings.options.secureTransport

    @property
    def stats(self) -> ServerStats:
        """What it has done so far, and is doing."""
        return ServerStats(
            accepted=self._accepted,
            failed=self._failed_arrivals,
            handshaking=len(self._arrivals),
            waiting=self._controller._queued(),
        )

    @protect
    def close(self, reason: object = None) -> Promise[None]:
        """Stop listening; returns `closed`.

        Sockets that were delivered stay open. Without a reason handshakes that are
        under way go on, and what comes of them is still delivered before `readable`
        ends. With a reason they are given up, and connections that nobody has
        taken are reset.
        """
        if reason is not None:
            self._abort(as_exception(reason))
        else:
            self._stop()
        return self._closed

    def reload(
        self, options: object = None, /, **members: Unpack[ReloadMembers]
    ) -> None:
        """Use other certificates from the next connection on.

        Takes TlsOptions' members, `clientCa`, `clientAuth` and `sniContexts`, over
        those there are; without any, files are read again (a file that has changed
        is also noticed by itself). With `cert` comes its key. Connections that
        exist, and handshakes that have begun, keep what they have.

        SocketError (code "option") for what cannot be used, "state" for a server
        without TLS; everything is then as before.
        """
        if self._settings.options.secureTransport == "off":
            raise SocketError(
                'reload() needs secureTransport "on" or "starttls"; the server\'s is '
                '"off"',
                code="state",
            )
        settings = read_reload(self._settings, options, members)
        self._settings, self._handshake = settings, settings.handshake

    def __aiter__(self) -> AsyncIterator[Socket]:
        """The connections, each as an open Socket."""
        sockets: object = self.readable.values(preventCancel=True)
        return cast("AsyncIterator[Socket]", sockets)

    async def __aenter__(self) -> Self:
        """The server, which listens already."""
        await self._opened
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the server; connections that nobody has taken are reset."""
        await self.close(SocketError("the server was closed", code="closed"))

    def __repr__(self) -> str:
        return (
            f"<ServerSocket {self._state.value} {self.localAddress} "
            f"secureTransport={self.secureTransport!r}>"
        )

    local_address = localAddress
    secure_transport = secureTransport

    # -- accepting

    def _start(self) -> None:
        if self._settings.signal is not None:
            self._forget_signal = when_aborted(self._settings.signal, self._abort)
        if self._state is _State.LISTENING:
            self._runtime.spawn(
                self._accept, nursery=self._nursery, name="wsockets listen"
            )
            self._controller._start()

    @protect
    async def _accept(self) -> None:
        """The task that accepts, until the server stops listening."""
        pause = 0.0
        try:
            while self._state is _State.LISTENING:
                if not self._has_room():
                    await self._runtime.park(self._idle)
                    continue
                failure = self._accept_some()
                if failure is None:
                    await self._runtime.checkpoint()
                elif isinstance(failure, BlockingIOError):
                    await self._gate.wait(Want.READ)
                else:
                    pause = min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)
                    await self._wait_for_descriptors(failure, pause)
                    continue
                pause = 0.0
        except OSError as error:
            self._failed(os_error(f"accept on {self.localAddress}", error))
        except self._runtime.Cancelled:
            self._abort(SocketError("the server's task was cancelled", code="closed"))
            raise

    def _has_room(self) -> bool:
        coming = len(self._arrivals)
        return (
            coming < self._settings.own.maxHandshakes
            and self._controller._should_call_pull(coming)
        )

    def _accept_some(self) -> OSError | None:
        """Accept while there is room, for a turn; what kept it from going on.

        Raises the OSError that there is no going on from.
        """
        for _ in range(_TURN):
            if not self._has_room():
                return None
            try:
                sock, peer = self._endpoint.socket.accept()
            except BlockingIOError as error:
                return error
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    return error
                if error.errno not in _OF_THE_PEER:
                    raise
            else:
                self._complained = False
                self._accepted += 1
                self._welcome(sock, peer)
        return None

    async def _wait_for_descriptors(self, failure: OSError, seconds: float) -> None:
        if not self._complained:
            # Once, until it has worked again.
            self._complained = True
            _log.warning(
                "cannot accept connections on %s: %s; trying until it works",
                self.localAddress,
                failure.strerror,
            )
        with self._runtime.scope(seconds):
            # Only the end wakes it: room is no reason.
            while self._state is _State.LISTENING:
                await self._runtime.park(self._idle)

    def _welcome(self, sock: _socket.socket, peer: object) -> None:
        settings, handshake = self._settings, self._handshake
        sock.setblocking(False)
        try:
            if handshake is None and not settings.own.trusts(peer):
                self._deliver(opened(self._runtime, settings, PlainConnection(sock)))
                return
            arrival = Arrival(self._runtime, settings, handshake, sock, peer)
            self._runtime.spawn(
                self._attend, arrival, nursery=self._nursery, name="wsockets handshake"
            )
        except BaseException:
            sock.close()
            raise
        self._arrivals[arrival] = None

    @protect
    async def _attend(self, arrival: Arrival) -> None:
        """The task of one arrival."""
        socket = None
        try:
            socket = await arrival.run()
        except SocketError as error:
            _log.debug(
                "%s: a connection from %s came to nothing: %s",
                self.localAddress,
                _shown(arrival.peer),
                error,
            )
        finally:
            self._attended(arrival, socket)

    @protect
    def _attended(self, arrival: Arrival, socket: Socket | None) -> None:
        del self._arrivals[arrival]
        if socket is None:
            self._failed_arrivals += 1
        else:
            self._deliver(socket)
        if self._state is _State.STOPPING and not self._arrivals:
            self._finish()
        self._runtime.wake(self._idle)

    def _deliver(self, socket: Socket) -> None:
        if self._controller._can_close_or_enqueue():
            self._controller.enqueue(socket)
        else:
            _discard(socket)

    # -- what the stream wants

    def _pull(self) -> None:
        self._runtime.wake(self._idle)

    def _cancelled(self, reason: object) -> None:
        self._abort(as_exception(reason))

    # -- ending

    @protect
    def _stop(self) -> None:
        """Listen no more."""
        if self._state is not _State.LISTENING:
            return
        self._state = _State.STOPPING
        self._gate.close()
        self._endpoint.close()
        self._runtime.wake(self._idle)
        if not self._arrivals:
            self._finish()

    def _finish(self) -> None:
        self._state = _State.CLOSED
        if self._controller._can_close_or_enqueue():
            self._controller.close()
        self._closed._fulfil(None)
        forget, self._forget_signal = self._forget_signal, None
        if forget is not None:
            forget()

    @protect
    def _abort(self, error: BaseException) -> None:
        self._stop()
        self._controller._drop()
        for arrival in self._arrivals:
            arrival.give_up()
        if self._state is not _State.CLOSED:
            self._finish()

    @protect
    def _failed(self, error: SocketError) -> None:
        _log.error("%s", error)
        self._controller.error(error)
        self._abort(error)


def _discard(socket: Socket) -> None:
    socket.close(SocketError("nobody has taken this connection", code="closed"))


def _shown(peer: object) -> str:
    try:
        return format_address(peer)
    except SocketError:
        return repr(peer)


# -- making them


def start_listening(
    base: TlsOptions,
    address: AnySocketAddress | _socket.socket | int,
    options: object,
    nursery: object,
    members: ListenMembers,
) -> ServerSocket:
    """`listen()` with the TLS options of a binding object."""
    settings = read_listen(base, options, members)
    runtime = current()
    check_nursery(runtime, nursery)
    endpoint = open_endpoint(address, settings.own)
    try:
        server = ServerSocket._make(runtime, settings, endpoint, nursery)
        server._start()
    except BaseException:
        if isinstance(address, (_socket.socket, int)):
            endpoint.socket.detach()
        else:
            endpoint.close()
        raise
    if isinstance(address, _socket.socket):
        address.detach()
    return server


_default: Final = TlsOptions()


def listen(
    address: AnySocketAddress | _socket.socket | int,
    options: object = None,
    /,
    *,
    nursery: object = None,
    **members: Unpack[ListenMembers],
) -> ServerSocket:
    """Listen for connections; from the return on, the system accepts them.

    `address` is "host:port" with a numeric host or localhost, ":port" for all
    interfaces, "unix:/path", or a stream socket (or its fd) that listens already,
    which is then the server's. Port 0 is a free one; `server.localAddress` tells it.
    With a `nursery` the server ends when that is cancelled, and the nursery waits
    for the server; the sockets are whoever's who takes them.

    Members, beside those of TlsOptions (`cert`, `key`, `psk` …):

    - `secureTransport`: "off", "on" or "starttls", which is plain until the socket's
      `startTls()`, on the server's side and with these TLS options.
    - `alpn`: the protocols spoken here; the first of them that a client offers is
      taken, a client that offers others only is refused, one that offers none is
      not, unless `alpnRequired`.
    - `clientCa`: whose certificates of clients are accepted; every client has to
      show one, or with `clientAuth` "optional" may.
    - `sniContexts`: TlsOptions with a `cert` (and at most `key`, `password`, `ca`)
      by server name, "www.example.com" or "*.example.com". Clients that ask for
      another name get `cert`.
    - `handshakeTimeout`: seconds for the handshake, and for the PROXY header (30).
      `maxHandshakes`: how many are under way at most (1024).
    - `allowHalfOpen`, `highWaterMark`, `closeTimeout`, `tolerateTruncation`: those
      of the sockets.
    - `backlog`: how many connections the system keeps until they are accepted
      (4096, but not more than net.core.somaxconn). `reusePort`: let other
      processes listen on the port too. `ipv6Only`: no IPv4 on all interfaces.
    - `proxyProtocol`: peers in `trustedProxies`, networks such as "10.0.0.0/8" and
      "unix:", begin with a PROXY header, whose address is the `remoteAddress`.
    - `signal`: closes the server, as `close(reason)` does.

    SocketError: "address", "option", and "os" (with `errno`) where the system does
    not let it listen. RuntimeError outside of an event loop.
    """
    return start_listening(_default, address, options, nursery, members)
