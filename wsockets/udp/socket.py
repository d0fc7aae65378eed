"""UDPSocket: Direct Sockets' object over a descriptor of datagrams.

https://wicg.github.io/direct-sockets/#udpsocket-interface

    OPENING --> OPEN --> CLOSED
         |                 ^
         +-----------------+

A bound socket is open, or has failed, when its constructor returns; a connected
one has a task that resolves the name. In OPEN there is no task: whoever reads
and writes does the work (see streams.channel), unless something is queued.

Four things end a socket, each a method here:

    _refused(error)   it could not be opened: opened and closed reject
    _failed(error)    it broke: both streams raise, closed rejects
    _abort(error)     close(), a signal, a cancelled nursery: closed resolves
    _ended()          both streams were ended by their users: closed resolves

What ends it closes the descriptor at once, for there is nothing to be sent first
that the kernel does not have already.
"""

from __future__ import annotations

import enum
import socket as _socket
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import attrs

from ..abort import when_aborted
from ..address import SocketAddress
from ..datagram import Datagrams
from ..dial import connect_udp, open_udp, tcp_target
from ..errors import SocketError, as_exception, os_error
from ..options import check_nursery, read_members
from ..promise import Promise, rejected
from ..runtime import Runtime, Scope, current, protect
from ..runtime.gate import Gate
from ..runtime.guard import guard
from ..socket_options import apply
from ..streams import ReadableStream, WritableStream
from ..streams.direct_readable import DirectReadable
from ..streams.message_writable import MessageWritable
from .messages import BoundInbox, ConnectedInbox
from .multicast import MulticastController, prepare_multicast
from .options import (
    UDPSocketOptions,
    UDPSocketOptionsMembers,
    family_of,
    local_of,
    remote_of,
    system_options_of,
)
from .outgoing import BoundOutbox, ConnectedOutbox

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

__all__ = ["UDPSocket", "UDPSocketOpenInfo"]


class _State(enum.Enum):
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


@attrs.frozen(eq=False)
class UDPSocketOpenInfo:
    """What `opened` resolves to.

    `readable` gives UDPMessages and `writable` takes them. Addresses are numeric,
    without brackets. `remoteAddress` and `remotePort` are None on a bound socket,
    and `multicastController` is None on a connected one.
    https://wicg.github.io/direct-sockets/#udpsocketopeninfo-dictionary
    """

    readable: ReadableStream
    writable: WritableStream
    remoteAddress: str | None
    remotePort: int | None
    localAddress: str
    localPort: int
    multicastController: MulticastController | None

    @property
    def remote_address(self) -> str | None:
        """`remoteAddress`."""
        return self.remoteAddress

    @property
    def remote_port(self) -> int | None:
        """`remotePort`."""
        return self.remotePort

    @property
    def local_address(self) -> str:
        """`localAddress`."""
        return self.localAddress

    @property
    def local_port(self) -> int:
        """`localPort`."""
        return self.localPort

    @property
    def multicast_controller(self) -> MulticastController | None:
        """`multicastController`."""
        return self.multicastController


@final
class UDPSocket:
    """A socket for datagrams, connected to one peer or bound to a local address.

    `options`, a mapping or a UDPSocketOptions, and the keywords have the members of
    UDPSocketOptions; with `remoteAddress` and `remotePort` the socket is connected,
    with `localAddress` bound. With a `nursery` it ends when that is cancelled, and
    the nursery waits for it.

    SocketError (code "option" or "address") for what cannot be right; RuntimeError
    outside of an event loop. All other failures arrive through `opened` and
    `closed`.
    https://wicg.github.io/direct-sockets/#udpsocket-interface
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_datagrams",
        "_gate",
        "_multicast",
        "_on_end",
        "_opened",
        "_options",
        "_read_over",
        "_readable",
        "_runtime",
        "_scope",
        "_state",
        "_writable",
        "_write_over",
    )

    def __init__(
        self,
        options: object = None,
        /,
        *,
        nursery: object = None,
        **members: Unpack[UDPSocketOptionsMembers],
    ) -> None:
        wanted = read_members(UDPSocketOptions, options, members, where="UDPSocket()")
        remote = remote_of(wanted)
        if remote is None and wanted.localAddress is None:
            raise SocketError(
                "a UDPSocket needs a remoteAddress and a remotePort, or a localAddress",
                code="option",
            )
        self._runtime: Runtime = current()
        check_nursery(self._runtime, nursery)
        self._options = wanted
        self._state = _State.OPENING
        self._datagrams: Datagrams | None = None
        self._gate = Gate(self._runtime)
        self._scope: Scope | None = None
        self._multicast: MulticastController | None = None
        self._readable: DirectReadable | None = None
        self._writable: MessageWritable | None = None
        self._read_over = False
        self._write_over = False
        self._opened: Promise[UDPSocketOpenInfo] = Promise(self._runtime)
        self._closed: Promise[None] = Promise(self._runtime)
        self._on_end: list[Callable[[], object]] = []
        if wanted.signal is not None:
            forget = when_aborted(wanted.signal, self._abort)
            if forget is not None:
                self._on_end.append(forget)
        if self._state is _State.OPENING:
            if remote is None:
                self._bind()
            else:
                self._runtime.spawn(self._connect, remote, name="wsockets UDP connect")
        if nursery is not None:
            self._runtime.spawn(
                self._guard, nursery=nursery, name="wsockets UDP socket"
            )

    # -- the specification's members

    @property
    def opened(self) -> Promise[UDPSocketOpenInfo]:
        """Resolves once the socket is bound or connected, with its streams."""
        return self._opened

    @property
    def closed(self) -> Promise[None]:
        """Resolves when the socket was closed; rejects if it failed.

        Once both streams have ended the socket is closed, too.
        """
        return self._closed

    @protect
    def close(self, reason: object = None) -> Promise[None]:
        """Close the socket; returns `closed`.

        Without a reason that is refused (it rejects with a SocketError of the code
        "state") unless the socket is open and neither of its streams is locked.
        With a reason the socket is given up as it is. Either way reads are done, and
        what is still queued is dropped: await the writes, or the writer's close(),
        first. Writes reject with the reason (an AbortError round one that is not an
        exception).
        https://wicg.github.io/direct-sockets/#close-method-0
        """
        if reason is not None:
            self._abort(as_exception(reason))
            return self._closed
        readable, writable = self._readable, self._writable
        if readable is None or writable is None:
            return self._refuse("it has not been open: close(reason) gives it up")
        if self._state is _State.OPEN:
            if readable.stream.locked or writable.stream.locked:
                return self._refuse(
                    "its streams are locked: release reader and writer first, or say "
                    "close(reason)"
                )
            self._abort(_was_closed())
        return self._closed

    def _refuse(self, why: str) -> Promise[None]:
        error = SocketError(f"the socket cannot be closed: {why}", code="state")
        return rejected(self._runtime, error)

    # -- ours

    async def __aenter__(self) -> Self:
        """Wait until the socket is open."""
        try:
            await self._opened
        except BaseException:
            self._abort(_was_closed())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the socket, whoever still holds its streams."""
        self._abort(_was_closed())
        await self._runtime.checkpoint()

    def __repr__(self) -> str:
        mode = "bound" if self._options.remoteAddress is None else "connected"
        return f"<UDPSocket {mode} {self._state.value}>"

    # -- opening

    def _prepare(self, sock: _socket.socket) -> None:
        apply(sock, system_options_of(self._options))
        prepare_multicast(sock, self._options)

    def _bind(self) -> None:
        options = self._options
        family, ip, port = local_of(options)
        where = SocketAddress(ip, port)
        try:
            sock = open_udp(family)
            try:
                if options.ipv6Only is not None:
                    sock.setsockopt(
                        _socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, options.ipv6Only
                    )
                self._prepare(sock)
                sock.bind(tcp_target(ip, port))
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            self._refused(os_error(f"bind to {where}", error))
        except SocketError as error:
            self._refused(error)
        else:
            self._open(sock)

    async def _connect(self, remote: SocketAddress) -> None:
        options = self._options
        if self._state is not _State.OPENING:
            return
        try:
            with self._runtime.scope() as self._scope:
                self._open(
                    await connect_udp(
                        self._runtime,
                        remote,
                        self._prepare,
                        family=family_of(options.dnsQueryType),
                        policy=options.policy,
                        resolver=options.resolver,
                    )
                )
        except SocketError as error:
            self._refused(error)

    @protect
    def _open(self, sock: _socket.socket) -> None:
        connected = self._options.remoteAddress is not None
        datagrams = Datagrams(sock, connected=connected)
        if self._state is not _State.OPENING:
            datagrams.close()
            return
        runtime, options = self._runtime, self._options
        inbox: ConnectedInbox | BoundInbox
        outbox: ConnectedOutbox | BoundOutbox
        if connected:
            inbox, outbox = ConnectedInbox(datagrams), ConnectedOutbox(datagrams)
        else:
            inbox = BoundInbox(datagrams)
            outbox = BoundOutbox(runtime, datagrams, options.policy, options.resolver)
            self._multicast = MulticastController._make(runtime, sock)
        self._datagrams = datagrams
        self._readable = DirectReadable(runtime, self._gate, self, messages=True)
        self._writable = MessageWritable(
            runtime, self._gate, self, options.highWaterMark, outbox.take
        )
        self._gate.open(sock.fileno())
        self._readable.open(inbox)
        self._state = _State.OPEN
        remote = _end_of(sock.getpeername()) if connected else (None, None)
        local = _end_of(sock.getsockname())
        self._opened._fulfil(
            UDPSocketOpenInfo(
                readable=self._readable.stream,
                writable=self._writable.stream,
                remoteAddress=remote[0],
                remotePort=remote[1],
                localAddress=local[0],
                localPort=local[1],
                multicastController=self._multicast,
            )
        )

    # -- ending

    @protect
    def _refused(self, error: SocketError) -> None:
        if self._state is _State.OPENING:
            error.__traceback__ = None
            self._opened._reject(error)
            self._closed._reject(error)
            self._end()

    @protect
    def _failed(self, error: SocketError) -> None:
        if self._state is _State.OPEN:
            error.__traceback__ = None
            self._let_go()
            assert self._readable is not None
            assert self._writable is not None
            self._readable.stream._fail(error)
            self._writable.stream._fail(error)
            self._closed._reject(error)
            self._end()

    @protect
    def _abort(self, error: BaseException) -> None:
        if self._state is _State.CLOSED:
            return
        self._opened._reject(error)
        if self._scope is not None:
            self._scope.cancel()
        self._let_go()
        if self._readable is not None and self._writable is not None:
            self._readable.stream._close()
            self._writable.stream._fail(error)
        self._closed._fulfil(None)
        self._end()

    def _ended(self) -> None:
        if self._read_over and self._write_over and self._state is _State.OPEN:
            self._let_go()
            self._closed._fulfil(None)
            self._end()

    def _let_go(self) -> None:
        self._gate.close()
        if self._multicast is not None:
            self._multicast._close()
        if self._datagrams is not None:
            self._datagrams.close()

    def _end(self) -> None:
        self._state = _State.CLOSED
        hooks, self._on_end = self._on_end, []
        for hook in hooks:
            hook()

    # -- what the streams notice

    def _read_ended(self) -> None:
        raise AssertionError("datagrams have no end")

    def _read_cancelled(self) -> None:
        self._read_over = True
        self._ended()

    def _write_ended(self) -> None:
        self._write_over = True
        self._ended()

    # -- who else may end it

    def _guard(self) -> Coroutine[Any, Any, None]:
        return guard(
            self._runtime,
            lambda: self._state is _State.CLOSED,
            self._on_end.append,
            lambda: self._abort(
                SocketError("the socket's nursery was cancelled", code="closed")
            ),
        )


def _was_closed() -> SocketError:
    return SocketError("the socket was closed", code="closed")


def _end_of(sockname: Any) -> tuple[str, int]:
    """Address and port of what getsockname() or getpeername() returned."""
    host, port, *rest = sockname
    if rest and rest[1]:
        host = f"{host}%{rest[1]}"
    return host, port
