"""SocketListener: the early draft's way to listen."""

from __future__ import annotations

import socket as _socket
from pathlib import Path
from typing import Any

import pytest

from tests import certificates, loops
from tests.loopback import Secure, settle
from tests.naming import named
from wsockets import (
    AbortController,
    ServerSocket,
    Socket,
    SocketAddress,
    SocketError,
    SocketEvent,
    SocketListener,
    UnixAddress,
    connect,
)

pytestmark = pytest.mark.every_loop

LOOPBACK = {"address": "127.0.0.1", "port": 0}


def members(secure: Secure) -> dict[str, Any]:
    issued = certificates.server()
    if secure == "off":
        return {"type": "tcp", "local": LOOPBACK}
    return {"type": "tls", "local": LOOPBACK, "cert": issued.chain, "key": issued.key}


def client_of(listener: SocketListener, type: str = "tcp", **more: Any) -> Socket:
    assert listener.local is not None
    return Socket(
        type=type,
        remote={"address": "localhost", "port": listener.local.port},
        ca=certificates.authority().pem,
        **more,
    )


async def test_the_drafts_echo_server_in_a_loop(secure: Secure) -> None:
    async with SocketListener(members(secure)) as listener:
        kind = "tls" if secure == "on" else "tcp"
        client = client_of(listener, kind, body="hello world")
        async for event in listener:
            assert isinstance(event, SocketEvent)
            assert event.type == "socket"
            assert event.socket.info.type == kind
            piped = event.socket.readable.pipeTo(event.socket.writable)
            break
        assert b"".join([chunk async for chunk in client.stream()]) == b"hello world"
        await piped
        await client.closed
        await event.socket.closed


async def test_the_drafts_echo_server_with_a_listener(secure: Secure) -> None:
    async with SocketListener(members(secure)) as listener:
        kind = "tls" if secure == "on" else "tcp"
        taken: list[Socket] = []

        def echo(event: SocketEvent) -> None:
            taken.append(event.socket)
            event.socket.readable.pipeTo(event.socket.writable)

        listener.addEventListener("socket", echo)
        for word in ("one", "two"):
            client = client_of(listener, kind, body=word)
            chunks = [chunk async for chunk in client.stream()]
            assert b"".join(chunks) == word.encode()
            await client.closed
        assert len(taken) == 2
        for socket in taken:
            await socket.closed


async def test_what_is_tcp_can_be_upgraded() -> None:
    issued = certificates.server()
    async with SocketListener(local=LOOPBACK) as listener:
        async with client_of(listener) as client:
            accepted = (await anext(aiter(listener))).socket
            assert accepted.secureTransport == "starttls"
            done = accepted.update(type="tls", cert=issued.chain, key=issued.key)
            await client.update(type="tls")
            await done
            await accepted.close()


async def test_the_name_of_a_protocol_is_required_of_clients() -> None:
    async with SocketListener(members("on") | {"type": "echo"}) as listener:
        async with client_of(listener, "echo") as client:
            event = await anext(aiter(listener))
            assert event.socket.info.type == client.info.type == "echo"
            await event.socket.close()
        other = client_of(listener, "other")
        with pytest.raises(SocketError):
            await other.ready


async def test_a_signal_closes_it() -> None:
    controller = AbortController()
    listener = SocketListener(local=LOOPBACK, signal=controller.signal)
    heard: list[SocketEvent] = []
    listener.addEventListener("socket", heard.append)
    await settle()
    controller.abort()
    await listener.closed
    await settle()
    assert not heard
    assert listener.close() is listener.closed


async def test_a_nursery_ends_it() -> None:
    async with loops.native_nursery() as (nursery, cancel):
        listener = SocketListener(local=LOOPBACK, nursery=nursery)
        await settle()
        cancel()
    await listener.closed


@pytest.mark.parametrize(
    "local",
    [
        {"port": 0},
        {"hostname": "::1", "port": 0},
        {"address": "localhost"},
        SocketAddress("127.0.0.1", 0),
        "127.0.0.1:0",
        None,
    ],
    ids=named,
)
async def test_its_address_has_many_forms_and_is_known_at_once(local: Any) -> None:
    async with SocketListener({"local": local}) as listener:
        assert listener.local is not None
        assert listener.local.port
        assert str(listener.local.port) in repr(listener)


async def test_a_unix_socket_has_no_such_address(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with SocketListener(local=UnixAddress(str(path))) as listener:
        assert listener.local is None
        async with connect(f"unix:{path}"):
            event = await anext(aiter(listener))
            assert event.socket.info.type is None
            await event.socket.close()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"type": "udp"}, "option"),
        ({"type": "Tls"}, "option"),
        ({"secureTransport": "on"}, "option"),
        ({"alpn": ["h2"]}, "option"),
        ({"local": {"address": "a", "hostname": "b", "port": 0}}, "option"),
        ({"local": {"port": "0"}}, "address"),
        ({"backlog": 0}, "option"),
        ({"ca": "x"}, "option"),
    ],
    ids=named,
)
async def test_what_cannot_be_is_refused(wrong: dict[str, Any], code: str) -> None:
    init: dict[str, Any] = {"local": LOOPBACK, **wrong}
    for mapping, keywords in ((init, {}), (None, init)):
        with pytest.raises(SocketError) as caught:
            SocketListener(mapping, **keywords)
        assert caught.value.code == code


async def test_the_options_are_a_mapping_and_keywords_are_known() -> None:
    with pytest.raises(SocketError, match="mapping"):
        SocketListener("127.0.0.1:0")
    with pytest.raises(TypeError, match="locale"):
        SocketListener(locale=LOOPBACK)  # type: ignore[call-arg]


class TestListeners:
    async def test_the_last_to_go_leaves_the_connections_to_others(self) -> None:
        async with SocketListener(local=LOOPBACK) as listener:
            heard: list[SocketEvent] = []
            listener.addEventListener("socket", heard.append)
            listener.addEventListener("socket", heard.append)
            listener.add_event_listener("other", heard.append)
            await settle()
            listener.removeEventListener("socket", heard.append)
            listener.remove_event_listener("other", heard.append)
            async with client_of(listener):
                event = await anext(aiter(listener))
                assert not heard
                await event.socket.close()

    async def test_one_for_once_gets_one(self) -> None:
        async with SocketListener(local=LOOPBACK) as listener:
            heard: list[SocketEvent] = []
            listener.addEventListener("socket", heard.append, once=True)
            async with client_of(listener), client_of(listener):
                event = await anext(aiter(listener))
                assert len(heard) == 1
                assert heard[0].socket is not event.socket
                for each in (event, heard[0]):
                    await each.socket.close()

    async def test_it_is_gone_through_or_listened_to(self) -> None:
        async with SocketListener(local=LOOPBACK) as listener:
            events = listener.values()
            with pytest.raises(SocketError, match="goes through") as caught:
                listener.addEventListener("socket", print)
            assert caught.value.code == "state"
            await events.aclose()
            listener.addEventListener("socket", print)
            with pytest.raises(TypeError, match="locked"):
                listener.values()

    async def test_a_connection_that_came_just_too_late_is_reset(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with SocketListener(local=LOOPBACK) as listener:
            heard: list[SocketEvent] = []
            listener.addEventListener("socket", heard.append)
            await settle()
            deliver = ServerSocket._deliver

            def deliver_and_stop(server: ServerSocket, socket: Socket) -> None:
                deliver(server, socket)
                listener.removeEventListener("socket", heard.append)

            monkeypatch.setattr(ServerSocket, "_deliver", deliver_and_stop)
            async with client_of(listener) as client:
                with pytest.raises(SocketError) as caught:
                    await client.readable.getReader().read()
                assert caught.value.code == "reset"
            assert not heard


def test_an_event_has_a_socket() -> None:
    with pytest.raises(TypeError, match="socket is a Socket"):
        SocketEvent("socket")
    one, other = _socket.socketpair()
    with one, other, pytest.raises(TypeError, match="socket is a Socket"):
        SocketEvent("socket", {"socket": one})
