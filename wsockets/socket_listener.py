"""SocketListener: listening as the early draft has it, on `listen()`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .address import SocketAddress, UnixAddress, parse_address
from .early.init import read_type
from .errors import SocketError
from .events import Event, EventTarget
from .options import given_members, option_error, spellings
from .promise import Promise
from .runtime import protect
from .server import ListenMembers, listen
from .socket import Socket
from .streams import ReadableStreamAsyncIterator

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

__all__ = ["SocketEvent", "SocketListener", "SocketListenerMembers"]


class SocketListenerMembers(ListenMembers, total=False):
    """The members of `SocketListener()`, in either spelling."""

    type: str | None
    local: SocketAddress | UnixAddress | Mapping[str, object] | str | None


@attrs.frozen
class _OwnInit:
    type: str = "tcp"
    local: Any = None


# What a type says already.
_BY_TYPE: Final = ("secureTransport", "secure_transport", "alpn", "alpnRequired")


@final
class SocketEvent(Event):
    """The event "socket" of a SocketListener: somebody has connected.

    Made like any event, with `socket` among its options.
    """

    __slots__ = ("_socket",)

    def __init__(
        self,
        type: str,
        options: Mapping[str, object] | None = None,
        /,
        *,
        cancelable: bool = False,
        socket: Socket | None = None,
    ) -> None:
        super().__init__(type, options, cancelable=cancelable)
        given = (options or {}).get("socket", socket)
        if not isinstance(given, Socket):
            raise TypeError(f"socket is a Socket, not {given!r:.80}")
        self._socket = given

    @property
    def socket(self) -> Socket:
        """The connection, open."""
        return self._socket


@final
class SocketEvents:
    """The connections of a listener as events, for `async for`."""

    __slots__ = ("_sockets",)

    def __init__(self, sockets: ReadableStreamAsyncIterator) -> None:
        self._sockets = sockets

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SocketEvent:
        return SocketEvent("socket", socket=await self._sockets.__anext__())

    async def aclose(self) -> None:
        """End the iteration now; the listener goes on."""
        await self._sockets.aclose()


@final
class SocketListener(EventTarget):
    """Listens, and gives what connects as events "socket".

    Members of the draft:

    - `type`: "tcp", "tls", or the name of a protocol, for TLS on which every client
      that names protocols has to name that one. What is "tcp" can be upgraded, with
      `startTls()` and `update()`.
    - `local`: where: {"address", "port"}, or any address that `listen()` takes; port
      0 is a free one, and `local` of the listener tells it. All interfaces by
      default.
    - `signal`: closes the listener when it is aborted.

    The other members are those of `listen()`, `cert` and `key` among them.

    `async for event in listener` gives each connection as `event.socket`, and so
    does the event "socket", to whoever listens. One or the other: both take the
    connections away, as listening to "data" takes those of a socket; listening while
    somebody goes through them is a SocketError (code "state").

    SocketError like `listen()`; RuntimeError outside of an event loop.
    """

    __slots__ = ("_pump", "_server")

    def __init__(
        self,
        init: object = None,
        /,
        *,
        nursery: object = None,
        **members: Unpack[SocketListenerMembers],
    ) -> None:
        super().__init__()
        own, rest, keywords = _read(init, members)
        self._server = listen(_address(own.local), rest, nursery=nursery, **keywords)
        self._pump: _Pump | None = None

    @property
    def local(self) -> SocketAddress | None:
        """Where it listens; None on a unix socket."""
        address = parse_address(self._server.localAddress)
        return address if isinstance(address, SocketAddress) else None

    @property
    def closed(self) -> Promise[None]:
        """Resolves when it listens no more and the last handshake is over."""
        return self._server.closed

    def close(self, reason: object = None) -> Promise[None]:
        """Stop listening, as `ServerSocket.close()` does; returns `closed`."""
        return self._server.close(reason)

    def values(self) -> SocketEvents:
        """What `async for` goes through. Ending it early leaves the listener."""
        return SocketEvents(self._server.readable.values(preventCancel=True))

    def __aiter__(self) -> AsyncIterator[SocketEvent]:
        return self.values()

    async def __aenter__(self) -> Self:
        """The listener, which listens already."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the listener; connections that nobody has taken are reset."""
        await self._server.__aexit__(None, None, None)

    def _heard(self, type: str) -> None:
        if type == "socket":
            self._pump = _Pump(self)

    def _unheard(self, type: str) -> None:
        if type == "socket" and self._pump is not None:
            self._pump.stop()
            self._pump = None

    def __repr__(self) -> str:
        return f"<SocketListener on {self._server!r}>"


@final
class _Pump:
    """Takes the connections of a listener for those who listen to it."""

    __slots__ = ("_listener", "_reader", "_runtime", "_scope", "_stopped")

    def __init__(self, listener: SocketListener) -> None:
        server = listener._server
        if server.readable.locked:
            raise SocketError(
                'somebody goes through the listener; the event "socket" would take '
                "the connections away",
                code="state",
            )
        self._listener = listener
        self._reader = server.readable.getReader()
        self._runtime = server._runtime
        self._scope = self._runtime.scope()
        self._stopped = False
        self._runtime.spawn(self._run, name="wsockets socket events")

    @protect
    def stop(self) -> None:
        self._stopped = True
        self._scope.cancel()
        self._reader.releaseLock()

    @protect
    async def _run(self) -> None:
        with self._scope:
            while not self._stopped:
                try:
                    value, done = await self._reader.read()
                except Exception:
                    return  # stop(), or the listener's failure, which is logged
                if done:
                    return
                if self._stopped:
                    # Nobody listens any more, and nobody else will ever have it.
                    value.close(
                        SocketError("nobody has taken this connection", code="closed")
                    )
                    return
                self._listener.dispatchEvent(SocketEvent("socket", socket=value))


# -- reading


def _read(
    init: object, members: Mapping[str, Any]
) -> tuple[_OwnInit, Mapping[str, object], Any]:
    """Our own members, and what is for listen(): as a mapping, and as keywords."""
    if init is not None and not isinstance(init, Mapping):
        raise SocketError(
            f"the options are a mapping or None, not {type(init).__name__}",
            code="option",
        )
    known = spellings(_OwnInit)
    mine = {name: value for name, value in members.items() if name in known}
    rest = {name: value for name, value in (init or {}).items() if name not in known}
    keywords = {name: value for name, value in members.items() if name not in known}
    for name in _BY_TYPE:
        if rest.get(name) is not None or keywords.get(name) is not None:
            raise SocketError(f"{name} follows from the type", code="option")
    own = _OwnInit(**given_members(_OwnInit, init, mine, where="SocketListener()"))
    secure, alpn = read_type(own.type)
    keywords["secureTransport"] = "on" if secure else "starttls"
    if alpn:
        keywords |= {"alpn": alpn, "alpnRequired": True}
    return own, rest, keywords


def _address(local: Any) -> SocketAddress | UnixAddress:
    if local is None:
        return SocketAddress("", 0)
    if not isinstance(local, Mapping):
        return parse_address(local, listening=True)
    hosts = [local[name] for name in ("address", "hostname") if local.get(name)]
    if len(set(map(str, hosts))) > 1:
        raise option_error("local", local, "with an address or a hostname")
    port = local.get("port")
    return SocketAddress(hosts[0] if hosts else "", 0 if port is None else port)
