"""connect(): what it refuses, how it comes to a connection, and what ends that."""

from __future__ import annotations

import contextlib
import math
import socket as _socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from tests import loops
from tests.leaks import Snapshot, left_behind, tasks
from tests.loopback import (
    Peer,
    Secure,
    binding,
    failure,
    listening,
    server_context,
    settle,
)
from tests.naming import named
from tests.network import black_hole, closed_port, connections, listener
from tests.wires import SocketStream, SSLStream, listen_tcp, listen_unix
from wsockets import (
    AbortController,
    AbortError,
    AbortSignal,
    Binding,
    Promise,
    Socket,
    SocketAddress,
    SocketError,
    SocketOptions,
    UnixAddress,
    connect,
)
from wsockets.options import spellings
from wsockets.runtime import current
from wsockets.tls import TlsOptions

pytestmark = pytest.mark.every_loop

TASK = "wsockets connect"


async def failed(socket: Socket) -> SocketError:
    """The one error of a socket that never opened."""
    error = await failure(socket.opened)
    assert await failure(socket.closed) is error
    return error


def where(sock: _socket.socket) -> str:
    """The address of a socket on 127.0.0.1."""
    return f"127.0.0.1:{sock.getsockname()[1]}"


def refusal(*arguments: Any, **members: Any) -> SocketError:
    """What connect() raises at the call, which starts nothing."""
    with pytest.raises(SocketError) as caught:
        connect(*arguments, **members)
    return caught.value


# -- returning at once


async def test_it_returns_at_once_with_everything_there() -> None:
    with black_hole() as hole:
        with loops.assert_no_checkpoints():
            socket = connect(where(hole))
        assert socket.opened._is_pending()
        assert socket.closed._is_pending()
        assert not socket.readable.locked
        assert not socket.writable.locked
        assert socket.secureTransport == "off"
        assert not socket.upgraded
        socket.close()


async def test_its_task_is_gone_once_it_is_open(secure: Secure) -> None:
    async with listening() as (server, port):
        socket = binding().connect(f"localhost:{port}", secureTransport=secure)
        assert tasks()[TASK] == 1
        stream: Any = await server.accept()
        if secure == "on":
            stream = SSLStream(stream, server_context(), server_side=True)
            await stream.do_handshake()
        await socket.opened
        await settle()
        assert not any(name.startswith("wsockets") for name in tasks())
        await Peer(stream).close()
        await socket.close()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "form",
    [
        lambda ip, port: f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}",
        lambda ip, port: {"hostname": ip, "port": port},
        lambda ip, port: SocketAddress(ip, port),
    ],
    ids=["str", "mapping", "SocketAddress"],
)
async def test_an_address_has_several_forms(
    ip: str, form: Callable[[str, int], Any]
) -> None:
    with listener(ip) as server:
        port = server.getsockname()[1]
        socket = connect(form(ip, port))
        info = await socket.opened
        shown = f"[{ip}]" if ":" in ip else ip
        assert info.remoteAddress == f"{shown}:{port}"
        await socket.close()


async def test_a_name_is_resolved() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        socket = connect(f"localhost:{port}")
        assert (await socket.opened).remoteAddress == f"127.0.0.1:{port}"
        await socket.close()


async def test_a_connection_is_for_small_messages_and_not_inherited() -> None:
    with listener() as server:
        async with connect(where(server)) as socket:
            assert socket._connection is not None
            sock = socket._connection.socket
            assert sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY)
            assert not sock.get_inheritable()
            assert not sock.getblocking()


class TestUnixSockets:
    @pytest.mark.parametrize("form", [str, UnixAddress])
    async def test_they_are_addressed_by_path(
        self, form: Callable[[str], Any], tmp_path: Path
    ) -> None:
        path = str(tmp_path / "socket")
        with _socket.socket(_socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            async with connect(f"unix:{path}" if form is str else form(path)) as socket:
                info = await socket.opened
                assert info.remoteAddress == f"unix:{path}"
                assert info.localAddress == "unix:"
                peer, _ = server.accept()
                with peer:
                    await socket.writable.getWriter().write(b"hello")
                    assert peer.recv(10) == b"hello"

    async def test_where_nobody_listens_it_is_refused(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        error = await failed(connect(f"unix:{missing}"))
        assert error.code == "refused"
        assert str(missing) in str(error)

    async def test_tls_needs_a_name(self) -> None:
        error = refusal("unix:/run/x", secureTransport="on")
        assert error.code == "option"
        assert "name" in str(error)
        with pytest.raises(SocketError):
            Binding(tls=TlsOptions(verify="full")).connect(
                "unix:/run/x", secureTransport="on"
            )
        # Whether there is one is known with startTls().
        for members in ({"secureTransport": "starttls"}, {}):
            await failed(connect("unix:/missing", members))

    async def test_tls_takes_it_from_sni(self, tmp_path: Path) -> None:
        listeners = [listen_unix(tmp_path / "socket")]
        socket = binding().connect(
            f"unix:{tmp_path / 'socket'}", secureTransport="on", sni="localhost"
        )
        server = SSLStream(
            await listeners[0].accept(), server_context(), server_side=True
        )
        await server.do_handshake()
        await socket.opened
        info = socket.tls_info()
        assert info is not None
        assert info.verified
        await socket.close()
        server.close()
        await listeners[0].aclose()


# -- refusing at the call


@pytest.mark.parametrize(
    "address",
    [
        "example.com",
        "https://example.com:443",
        "user@example.com:443",
        "example.com:443/path",
        "example.com:65536",
        "exa mple.com:443",
        "example.com:443\r\n",
        "::1:443",
        "unix:",
        "",
        b"example.com:443",
        None,
        443,
        {"hostname": "example.com"},
        {"hostname": "example.com", "port": "443"},
    ],
    ids=named,
)
async def test_a_malformed_address_raises_at_the_call(address: Any) -> None:
    assert refusal(address).code == "address"
    await settle()
    assert not tasks()[TASK]


async def test_port_0_fails_in_the_connecting() -> None:
    error = await failed(connect("127.0.0.1:0"))
    assert error.code == "address"


@pytest.mark.parametrize(
    "members",
    [
        {"secureTransport": "tls"},
        {"secureTransport": True},
        {"allowHalfOpen": 1},
        {"sni": "example.com"},
        {"alpn": ["h2"]},
        {"secureTransport": "on", "sni": ""},
        {"secureTransport": "on", "sni": "192.0.2.1"},
        {"secureTransport": "on", "alpn": "h2"},
        {"secureTransport": "on", "alpn": [""]},
        {"secureTransport": "on", "alpnRequired": True},
        {"highWaterMark": 0},
        {"highWaterMark": "65536"},
        {"signal": "now"},
        {"connectTimeout": 0},
        {"handshakeTimeout": -1},
        {"closeTimeout": math.nan},
        {"tolerateTruncation": None, "allowHalfOpen": "yes"},
    ],
    ids=named,
)
@pytest.mark.parametrize("form", ["mapping", "keywords"])
async def test_a_wrong_option_raises_at_the_call(
    members: dict[str, Any], form: str
) -> None:
    if form == "mapping":
        error = refusal("example.com:443", members)
    else:
        error = refusal("example.com:443", **members)
    assert error.code == "option"
    await settle()
    assert not tasks()[TASK]


async def test_options_are_a_mapping_or_SocketOptions() -> None:
    for wrong in (5, "off", ["off"], TlsOptions()):
        error = refusal("example.com:443", wrong)
        assert error.code == "option"
        assert type(wrong).__name__ in str(error)
    options = SocketOptions(connectTimeout=3, secureTransport="starttls")
    with closed_port() as port:
        for more in ({}, {"allow_half_open": True}):
            socket = connect(f"127.0.0.1:{port}", options, **more)  # type: ignore[arg-type]
            assert socket.secureTransport == "starttls"
            await failed(socket)


async def test_a_member_has_two_spellings_and_is_given_once() -> None:
    with listener() as server:
        address = where(server)
        for members in (
            {"secure_transport": "starttls"},
            {"secureTransport": "starttls"},
        ):
            for socket in (
                connect(address, members),
                connect(address, **members),  # type: ignore[arg-type]
            ):
                assert socket.secureTransport == "starttls"
                await socket.opened
                await socket.close()
        for error in (
            refusal(address, {"secureTransport": "off", "secure_transport": "off"}),
            refusal(address, {"secureTransport": "off"}, secureTransport="off"),
        ):
            assert error.code == "option"
            assert "secureTransport is given twice" in str(error)


async def test_unknown_members_of_a_mapping_are_ignored_and_keywords_are_not() -> None:
    with listener() as server:
        address = where(server)
        socket = connect(address, {"rejectUnauthorized": False, "servername": "x"})
        await socket.opened
        await socket.close()
        with pytest.raises(TypeError, match=r"connect\(\).*'servername'") as caught:
            connect(address, servername="x")  # type: ignore[call-arg]
        assert not isinstance(caught.value, SocketError)


@pytest.mark.parametrize("name", spellings(TlsOptions))
async def test_TLS_settings_belong_to_a_Binding(name: str) -> None:
    for error in (
        refusal("example.com:443", {name: object()}),
        refusal("example.com:443", secureTransport="on", **{name: object()}),
    ):
        assert error.code == "option"
        assert f"Binding(tls=TlsOptions({name}=" in str(error)
    # None is not given.
    with closed_port() as port:
        await failed(connect(f"127.0.0.1:{port}", {name: None}))


def test_outside_of_an_event_loop_it_is_a_RuntimeError() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        connect("example.com:443")
    # What is wrong with the arguments is found anywhere.
    assert refusal("example.com").code == "address"


# -- failing later


async def test_a_refused_connection_is_one_error_on_opened_and_closed() -> None:
    before = Snapshot.take()
    with closed_port() as port:
        socket = connect(f"127.0.0.1:{port}")
        error = await failed(socket)
        assert error.code == "refused"
        assert error.errno is not None
        assert isinstance(error.__cause__, OSError)
        assert f"127.0.0.1:{port}" in str(error)
        assert await socket.readable.getReader().read() == (None, True)
        assert await failure(socket.writable.getWriter().write(b"x")) is error
    assert not left_behind(before)


@pytest.mark.parametrize("seconds", [None, 7])
async def test_a_target_that_does_not_answer_is_given_up(
    seconds: float | None, autojump_clock: trio.testing.MockClock
) -> None:
    with black_hole() as hole:
        address = where(hole)
        start = loops.current_time()
        error = await failed(connect(address, connect_timeout=seconds))
        assert error.code == "timeout"
        assert f"{address} within {seconds or 30} s (connectTimeout)" in str(error)
        assert loops.current_time() - start == pytest.approx(seconds or 30)


async def test_without_a_limit_it_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with black_hole() as hole:
        socket = connect(where(hole), connectTimeout=math.inf)
        await loops.sleep(80_000)
        assert socket.opened._is_pending()
        socket.close()


async def test_a_silent_server_is_given_up_in_the_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with listener() as server:
        address = where(server)
        socket = connect(address, secureTransport="on", connectTimeout=1)
        error = await failed(socket)
        assert error.code == "timeout"
        assert "30 s (handshakeTimeout)" in str(error)


@pytest.mark.parametrize("secure", ["off", "on", "starttls"])
async def test_closing_while_it_connects_returns_promptly(secure: Any) -> None:
    before = Snapshot.take()
    with black_hole() as hole:
        address = where(hole)
        for reason in (None, KeyError("mine"), "a word"):
            socket = connect(address, secureTransport=secure)
            reading = socket.readable.getReader().read()
            await settle()
            await socket.close(reason)
            with pytest.raises((SocketError, KeyError, AbortError)) as caught:
                await socket.opened
            if isinstance(reason, KeyError):
                assert caught.value is reason
            elif reason is None:
                assert isinstance(caught.value, SocketError)
                assert caught.value.code == "closed"
            assert await reading == (None, True)
    await settle()
    assert not left_behind(before)


# -- signals


async def test_a_signal_that_is_aborted_already_dials_nobody() -> None:
    with listener() as server:
        address = where(server)
        error = KeyError("mine")
        socket = connect(address, signal=AbortSignal.abort(error))
        assert not tasks()[TASK]
        with pytest.raises(KeyError) as caught:
            await socket.opened
        assert caught.value is error
        await socket.closed
        await settle()
        assert connections(server) == 0


@pytest.mark.parametrize("phase", ["connecting", "handshaking", "open"])
async def test_a_signal_ends_it_at_any_time(phase: str) -> None:
    before = Snapshot.take()
    controller = AbortController()
    error = KeyError("mine")
    with black_hole() if phase == "connecting" else listener() as server:
        socket = connect(
            where(server),
            {"signal": controller.signal},
            secureTransport="on" if phase == "handshaking" else "off",
        )
        await settle()
        assert socket.opened._is_pending() == (phase != "open")
        controller.abort(error)
        assert not socket.closed._is_pending()
        await socket.closed
        if phase == "open":
            await socket.opened
        else:
            with pytest.raises(KeyError) as caught:
                await socket.opened
            assert caught.value is error
        with pytest.raises(KeyError):
            await socket.writable.getWriter().write(b"x")
        if phase == "open":
            peer, _ = server.accept()
            with peer, pytest.raises(ConnectionResetError):
                peer.recv(1)
    await settle()
    assert not tasks()[TASK]
    assert not left_behind(before)


async def test_a_signal_that_is_aborted_after_the_end_changes_nothing() -> None:
    controller = AbortController()
    with listener() as server:
        async with connect(where(server), signal=controller.signal) as socket:
            pass
        controller.abort("late")
        await socket.opened
        await socket.closed
    with closed_port() as port:
        controller = AbortController()
        socket = connect(f"127.0.0.1:{port}", signal=controller.signal)
        error = await failed(socket)
        assert not controller.signal._listeners
        controller.abort("late")
        assert await failed(socket) is error


async def test_a_signal_may_be_of_another_make() -> None:
    listeners: list[Callable[[object], None]] = []
    signal = SimpleNamespace(
        aborted=False,
        reason="theirs",
        addEventListener=lambda kind, listener, **_: listeners.append(listener),
    )
    with black_hole() as hole:
        socket = connect(where(hole), signal=signal)
        (abort,) = listeners
        abort(None)
        with pytest.raises(AbortError) as caught:
            await socket.opened
        assert caught.value.reason == "theirs"


# -- nurseries


async def test_cancelling_its_nursery_aborts_it_at_any_time(secure: Secure) -> None:
    before = Snapshot.take()
    with listener() as server, black_hole() as hole:
        async with loops.native_nursery() as (nursery, cancel):
            found = [
                connect(where(place), secureTransport=secure, nursery=nursery)
                for place in (server, hole)
            ]
            await settle()
            assert tasks()["wsockets socket"] == 2
            cancel()
        for socket in found:
            assert not socket.closed._is_pending()
            await socket.closed
            if not socket.opened._is_rejected():
                await socket.opened
                continue
            error = await failure(socket.opened)
            assert error.code == "closed"
            assert "nursery" in str(error)
        peer, _ = server.accept()
        with peer, contextlib.suppress(ConnectionResetError):
            while peer.recv(1000):
                pass
    await settle()
    assert not left_behind(before)


async def test_its_nursery_waits_for_it() -> None:
    with listener() as server:
        left = loops.Event()
        made: list[Socket] = []

        async def use() -> None:
            async with loops.native_nursery() as (nursery, _):
                made.append(connect(where(server), nursery=nursery))
            left.set()

        async with loops.open_nursery() as outer:
            outer.start_soon(use)
            await settle()
            (socket,) = made
            await socket.opened
            assert not left.is_set()
            await socket.close()
            await left.wait()


async def test_a_socket_that_cannot_open_does_not_keep_its_nursery() -> None:
    with closed_port() as port:
        async with loops.native_nursery() as (nursery, _):
            socket = connect(f"127.0.0.1:{port}", nursery=nursery)
        assert (await failed(socket)).code == "refused"


@pytest.mark.parametrize("wrong", [object(), trio.CancelScope(), True], ids=type)
async def test_another_nursery_is_refused(wrong: object) -> None:
    error = refusal("127.0.0.1:1", nursery=wrong)
    assert error.code == "option"
    assert current().name in str(error)
    assert type(wrong).__name__ in str(error)


async def test_a_nursery_that_is_over_is_a_RuntimeError() -> None:
    with listener() as server:
        async with loops.native_nursery() as (nursery, _):
            pass
        with pytest.raises(RuntimeError, match=r"closed|finished"):
            connect(where(server), nursery=nursery)
        await settle()
        assert not tasks()[TASK]
        assert connections(server) == 0


# -- many


async def test_many_at_once_leave_nothing_behind(secure: Secure) -> None:
    before = Snapshot.take()

    async def serve(stream: SocketStream) -> None:
        peer: Any = stream
        if secure == "on":
            peer = SSLStream(stream, server_context(), server_side=True)
        async for chunk in peer:
            await peer.send_all(chunk)
        await peer.aclose()

    async def use(port: int, number: int) -> None:
        async with binding().connect(
            f"localhost:{port}", secureTransport=secure
        ) as socket:
            message = b"%d" % number
            await socket.writable.getWriter().write(message)
            assert (await socket.readable.getReader().read()).value == message

    async with loops.open_nursery() as nursery:
        server, port = listen_tcp()
        nursery.start_soon(server.serve, serve)
        async with loops.open_nursery() as users:
            for number in range(30):
                users.start_soon(use, port, number)
        nursery.cancel_scope.cancel()
    assert not left_behind(before)


async def test_a_promise_may_be_awaited_by_many() -> None:
    with listener() as server:
        socket = connect(where(server))
        found: list[object] = []

        async def wait(promise: Promise[Any]) -> None:
            found.append(await promise)

        async with loops.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait, socket.opened)
        assert found[0] is found[1] is found[2]
        with contextlib.closing(server.accept()[0]):
            await socket.close()
