"""Misbehaviours on purpose: implementations that are wrong in one way each.

A suite that cannot tell a wrong implementation from a right one is worth nothing.
Each mutant is the library of this repository with a few of its parts replaced; it
names a scenario that has to notice. A request that names a mutant is answered by it
(see on_python.py), and `tests/test_conformance_mutants.py` runs them all.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar, final

import attrs

import wsockets
from wsockets import (
    Binding,
    Promise,
    ReadableStreamDefaultReader,
    ReadResult,
    Socket,
    SocketError,
    SocketInfo,
    WritableStreamDefaultWriter,
)
from wsockets.connection import TlsConnection
from wsockets.runtime import current

__all__ = ["MUTANTS", "Mutant", "World", "mutated"]

F = TypeVar("F", bound=Callable[..., object])


@final
class World:
    """What a mutant may replace; everything is put back afterwards."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def patch(self, owner: object, name: str, value: object) -> None:
        """Replace an attribute of a class or a module."""
        self._stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def options(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Have the options of each connect() changed."""
        connect = Binding.connect

        def changed(binding: Any, address: Any, options: Any = None, **_: Any) -> Any:
            given = dict(options) if isinstance(options, Mapping) else options
            if given is None or isinstance(given, dict):
                given = given or {}
                change(given)
            return connect(binding, address, given)

        self.patch(Binding, "connect", changed)

    def tls(self, **members: Any) -> None:
        """Have members of TlsOptions set, whatever a binding object says."""
        connect = Binding.connect

        def changed(binding: Any, address: Any, *options: Any, **_: Any) -> Any:
            changes = attrs.evolve(binding.tls, **members)
            return connect(Binding(tls=changes), address, *options)

        self.patch(Binding, "connect", changed)

    def promise(self, name: str, change: Callable[[Socket], Promise[Any]]) -> None:
        """Have an attribute of a socket hold another promise, one and the same."""
        found: dict[Socket, Promise[Any]] = {}

        def get(socket: Socket) -> Promise[Any]:
            if socket not in found:
                found[socket] = change(socket)
            return found[socket]

        self.patch(Socket, name, property(get))

    def reads(self, change: Callable[[Promise[ReadResult]], Promise[Any]]) -> None:
        """Have what read() returns changed."""
        read = ReadableStreamDefaultReader.read
        self.patch(
            ReadableStreamDefaultReader, "read", lambda reader: change(read(reader))
        )


@attrs.frozen
class Mutant:
    """One misbehaviour, and the scenario that notices it first."""

    name: str
    about: str
    noticed_by: str
    apply: Callable[[World], None]


MUTANTS: Final[dict[str, Mutant]] = {}


def _mutant(noticed_by: str) -> Callable[[F], F]:
    def register(apply: F) -> F:
        name = apply.__name__.removeprefix("_").replace("_", "-")
        about = (apply.__doc__ or "").strip()
        MUTANTS[name] = Mutant(name, about, noticed_by, apply)  # type: ignore[arg-type]
        return apply

    return register


@contextlib.contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """While inside, the library misbehaves as a mutant says; None leaves it alone."""
    with contextlib.ExitStack() as stack:
        if name is not None:
            MUTANTS[name].apply(World(stack))
        yield


# -- addresses and options


@_mutant("address.malformed.a-word-for-a-port")
def _another_error_for_addresses(world: World) -> None:
    """A malformed address is a ValueError."""
    connect = Binding.connect

    def changed(*given: Any, **_: Any) -> Any:
        try:
            return connect(*given)
        except SocketError as error:
            raise ValueError(str(error)) from error

    world.patch(Binding, "connect", changed)


@_mutant("address.not-a-url.a-space-in-front")
def _repairs_addresses(world: World) -> None:
    """Spaces round an address are taken away."""
    connect = Binding.connect

    def changed(binding: Any, address: Any, *options: Any, **_: Any) -> Any:
        if isinstance(address, str):
            address = address.strip()
        return connect(binding, address, *options)

    world.patch(Binding, "connect", changed)


@_mutant("options.secure-transport-values.another-word")
def _takes_any_secure_transport(world: World) -> None:
    """Unknown values of secureTransport mean off."""

    def change(options: dict[str, Any]) -> None:
        if options.get("secureTransport", "off") not in ("off", "on", "starttls"):
            options["secureTransport"] = "off"

    world.options(change)


@_mutant("options.tls-members-without-tls.alpn")
def _ignores_alpn_without_tls(world: World) -> None:
    """alpn is ignored with secureTransport off."""

    def change(options: dict[str, Any]) -> None:
        if options.get("secureTransport", "off") == "off":
            options.pop("alpn", None)

    world.options(change)


@_mutant("options.on")
def _speaks_plain_text(world: World) -> None:
    """secureTransport on is plain text."""
    world.options(lambda options: options.update(secureTransport="off"))


@_mutant("options.starttls")
def _secures_at_once(world: World) -> None:
    """secureTransport starttls is TLS from the first byte."""

    def change(options: dict[str, Any]) -> None:
        if options.get("secureTransport") == "starttls":
            options["secureTransport"] = "on"

    world.options(change)


@_mutant("half-open.still-writes")
def _ignores_allow_half_open(world: World) -> None:
    """allowHalfOpen is always false."""
    world.options(lambda options: options.update(allowHalfOpen=False))


@_mutant("fin.closes-the-socket.by-default")
def _is_always_half_open(world: World) -> None:
    """allowHalfOpen is always true."""
    world.options(lambda options: options.update(allowHalfOpen=True))


# -- the instance


@_mutant("shape.read-only.upgraded")
def _has_attributes_that_can_be_set(world: World) -> None:
    """upgraded can be set."""
    values: dict[Socket, Any] = {}
    world.patch(
        Socket,
        "upgraded",
        property(lambda socket: values.get(socket, False), values.__setitem__),
    )


@_mutant("shape.attributes-are-stable")
def _makes_promises_anew(world: World) -> None:
    """closed is another promise each time."""
    closed = _getter("closed")
    world.patch(
        Socket, "closed", property(lambda socket: closed(socket).then(lambda _: None))
    )


# -- opened and closed


def _getter(name: str) -> Callable[[Socket], Promise[Any]]:
    found: Callable[[Socket], Promise[Any]] = getattr(Socket, name).fget
    return found


def _never() -> Promise[Any]:
    """A promise that stays pending."""
    return Promise(current())


@_mutant("opened.waits-for-the-handshake")
def _opens_too_early(world: World) -> None:
    """opened resolves at once."""
    world.promise("opened", lambda _: Promise.resolve(SocketInfo()))


@_mutant("closed.pending-while-open")
def _resolves_closed_early(world: World) -> None:
    """closed resolves at once."""
    world.promise("closed", lambda _: Promise.resolve())


@_mutant("closed.rejects-at-all")
def _never_rejects_closed(world: World) -> None:
    """closed stays pending where connecting fails."""
    closed = _getter("closed")
    world.promise("closed", lambda socket: closed(socket).catch(lambda _: _never()))


@_mutant("opened.rejects-at-all")
def _never_rejects_opened(world: World) -> None:
    """opened stays pending where connecting fails."""
    opened = _getter("opened")
    world.promise("opened", lambda socket: opened(socket).catch(lambda _: _never()))


@_mutant("opened.one-error.connecting")
def _has_two_errors(world: World) -> None:
    """opened and closed reject with errors of their own."""
    opened = _getter("opened")

    def again(error: BaseException) -> None:
        raise SocketError("another", code="os")

    world.promise("opened", lambda socket: opened(socket).catch(again))


@_mutant("error.message.of-closed")
def _speaks_without_prefix(world: World) -> None:
    """The message of a SocketError does not begin with its name."""
    world.patch(SocketError, "__str__", lambda error: error.args[0][13:])


@_mutant("error.is-a-type-error")
def _rejects_with_other_errors(world: World) -> None:
    """closed rejects with an OSError."""
    closed = _getter("closed")

    def again(error: BaseException) -> None:
        raise OSError(str(error))

    world.promise("closed", lambda socket: closed(socket).catch(again))


@_mutant("opened.failure-cancels-the-readable")
def _fails_reads_instead_of_ending_them(world: World) -> None:
    """Where there is no more to read, read() rejects."""

    def change(result: ReadResult) -> ReadResult:
        if result.done:
            raise SocketError("there is no more", code="closed")
        return result

    world.reads(lambda promise: promise.then(change))


@_mutant("opened.failure-refuses-later-writes")
def _writes_into_the_void(world: World) -> None:
    """Writes resolve, whatever becomes of them."""
    write = WritableStreamDefaultWriter.write

    def changed(writer: Any, chunk: Any) -> Promise[None]:
        return write(writer, chunk).catch(lambda _: None)

    world.patch(WritableStreamDefaultWriter, "write", changed)


@_mutant("unhandled.refused")
def _reports_what_nobody_handled(world: World) -> None:
    """A rejection that nobody looks at is reported."""
    connect = Binding.connect

    def changed(*given: Any, **_: Any) -> Socket:
        socket: Socket = connect(*given)
        socket.opened.catch(logging.getLogger("wsockets").error)
        return socket

    world.patch(Binding, "connect", changed)


@_mutant("info.remote-address.by-number")
def _tells_its_own_address(world: World) -> None:
    """remoteAddress and localAddress are the wrong way round."""
    opened = _getter("opened")
    world.promise(
        "opened",
        lambda socket: opened(socket).then(
            lambda info: SocketInfo(info.localAddress, info.remoteAddress, info.alpn)
        ),
    )


# -- data


@_mutant("data.much-down")
def _loses_bytes(world: World) -> None:
    """The last byte of a large chunk is lost."""

    def change(result: ReadResult) -> ReadResult:
        if result.value is not None and len(result.value) > 1000:
            return ReadResult(result.value[:-1], False)
        return result

    world.reads(lambda promise: promise.then(change))


@_mutant("data.writes-in-order")
def _swaps_writes(world: World) -> None:
    """A chunk that ends with a space is sent after the next one."""
    write = WritableStreamDefaultWriter.write
    held: list[Any] = []

    def changed(writer: Any, chunk: Any) -> Promise[None]:
        if chunk[-1:] == b" ":
            held.append(chunk)
            return Promise.resolve()
        sent = write(writer, chunk)
        while held:
            sent = write(writer, held.pop())
        return sent

    world.patch(WritableStreamDefaultWriter, "write", changed)


@_mutant("data.a-string")
def _takes_bytes_only(world: World) -> None:
    """A string cannot be written."""
    write = WritableStreamDefaultWriter.write

    def changed(writer: Any, chunk: Any) -> Promise[None]:
        return write(writer, 0 if isinstance(chunk, str) else chunk)

    world.patch(WritableStreamDefaultWriter, "write", changed)


@_mutant("pressure.a-write-waits")
def _resolves_writes_early(world: World) -> None:
    """A write resolves before it is sent."""
    write = WritableStreamDefaultWriter.write

    def changed(writer: Any, chunk: Any) -> Promise[None]:
        write(writer, chunk)
        return Promise.resolve()

    world.patch(WritableStreamDefaultWriter, "write", changed)


@_mutant("pressure.desired-size")
def _queues_without_end(world: World) -> None:
    """There is always room in the writable."""
    world.patch(
        WritableStreamDefaultWriter, "ready", property(lambda _: Promise.resolve())
    )


@_mutant("rst.fails-the-read")
def _takes_a_reset_for_an_end(world: World) -> None:
    """Whatever ends a connection is an end."""
    world.reads(lambda promise: promise.catch(lambda _: ReadResult(None, True)))


# -- closing


@_mutant("close.returns-closed")
def _returns_another_promise(world: World) -> None:
    """close() returns a promise of its own."""
    close = Socket.close
    world.patch(Socket, "close", lambda *given: close(*given).then(lambda _: None))


@_mutant("reason.reaches-the-writer")
def _ignores_the_reason(world: World) -> None:
    """close(reason) is close()."""
    close = Socket.close
    world.patch(Socket, "close", lambda socket, *_: close(socket))


@_mutant("close.flushes")
def _loses_the_queue(world: World) -> None:
    """close() is close(reason)."""
    close = Socket.close
    closed = SocketError("closed", code="closed")
    world.patch(Socket, "close", lambda socket, reason=closed: close(socket, reason))


@_mutant("close.closes-the-connection")
def _does_not_close(world: World) -> None:
    """close() is forgotten."""
    world.patch(Socket, "close", lambda socket, *_: socket.closed)


@_mutant("close.tls")
def _drops_close_notify(world: World) -> None:
    """TLS is ended without close_notify."""
    world.patch(TlsConnection, "finish", TlsConnection.cut)


# -- TLS


@_mutant("tls.not-trusted.self-signed")
def _trusts_anybody(world: World) -> None:
    """Certificates are not verified."""
    world.tls(verify="none")


@_mutant("name.hostname.another-name")
def _does_not_compare_names(world: World) -> None:
    """A certificate for any name will do."""
    world.tls(verify="ca")


@_mutant("tls.old-versions")
def _speaks_old_versions(world: World) -> None:
    """TLS 1.1 is spoken."""
    world.tls(minVersion="1.0", ciphers="DEFAULT@SECLEVEL=0")


@_mutant("sni.is-sent")
def _does_not_send_sni(world: World) -> None:
    """sni is ignored."""
    world.options(lambda options: options.pop("sni", None))


@_mutant("alpn.is-offered")
def _offers_protocols_backwards(world: World) -> None:
    """alpn is offered in another order."""
    world.options(lambda options: options.update(alpn=options.get("alpn", [])[::-1]))


@_mutant("alpn.is-told")
def _keeps_the_protocol_to_itself(world: World) -> None:
    """alpn of the SocketInfo is always null."""
    opened = _getter("opened")
    world.promise(
        "opened",
        lambda socket: opened(socket).then(lambda info: attrs.evolve(info, alpn=None)),
    )


@_mutant("tls-end.truncation")
def _tolerates_truncation(world: World) -> None:
    """A FIN without close_notify is an end."""
    world.options(lambda options: options.update(tolerateTruncation=True))


@_mutant("binding.client-certificate.1-3")
def _hides_its_certificate(world: World) -> None:
    """A client's certificate is not shown."""
    world.tls(cert=None, key=None)


@_mutant("binding.blocked")
def _lets_everything_through(world: World) -> None:
    """The policy of a binding object is not asked."""
    world.patch(wsockets, "deny_private", lambda: None)


# -- the upgrade


@_mutant("starttls.marks-the-old")
def _forgets_that_it_was_upgraded(world: World) -> None:
    """upgraded stays false."""
    world.patch(Socket, "upgraded", property(lambda _: False))


@_mutant("starttls.new-object")
def _returns_the_old_socket(world: World) -> None:
    """startTls() returns the socket that it was called on."""
    start_tls = Socket.startTls

    def changed(socket: Socket, *options: Any) -> Socket:
        start_tls(socket, *options)
        return socket

    world.patch(Socket, "startTls", changed)


@_mutant("starttls.not-on-plain.off")
def _upgrades_whatever_it_is(world: World) -> None:
    """startTls() does not refuse."""
    start_tls = Socket.startTls

    def changed(socket: Socket, *options: Any) -> Socket:
        try:
            return start_tls(socket, *options)
        except SocketError:
            return socket

    world.patch(Socket, "startTls", changed)


@_mutant("starttls.closes-the-old")
def _leaves_the_old_socket_open(world: World) -> None:
    """closed of the old socket stays pending."""
    closed = _getter("closed")
    world.promise(
        "closed",
        lambda socket: closed(socket).then(
            lambda _: _never() if socket.upgraded else None
        ),
    )


@_mutant("starttls.upgrades")
def _connects_again(world: World) -> None:
    """startTls() makes a connection of its own."""
    made: dict[Socket, Any] = {}
    connect = Binding.connect

    def connected(binding: Any, address: Any, *options: Any, **_: Any) -> Socket:
        socket: Socket = connect(binding, address, *options)
        made[socket] = address
        return socket

    def changed(socket: Socket, *options: Any) -> Socket:
        again: Socket = connect(Binding(), made[socket], {"secureTransport": "on"})
        return again

    world.patch(Binding, "connect", connected)
    world.patch(Socket, "startTls", changed)


@_mutant("corners.injected-plaintext")
def _delivers_injected_plaintext(world: World) -> None:
    """What was received before an upgrade is read after it."""
    start_tls, read = Socket.startTls, ReadableStreamDefaultReader.read
    injected: dict[int, bytes] = {}

    def changed(socket: Socket, *options: Any) -> Socket:
        assert socket._connection is not None
        data = socket._connection.socket.recv(1000)
        secure = start_tls(socket, *options)
        injected[id(secure.readable)] = data
        return secure

    def read_injected(reader: Any) -> Promise[ReadResult]:
        data = injected.pop(id(reader._stream), b"")
        return Promise.resolve(ReadResult(data, False)) if data else read(reader)

    world.patch(Socket, "startTls", changed)
    world.patch(ReadableStreamDefaultReader, "read", read_injected)
