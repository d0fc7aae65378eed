"""createBridge(): a bridge of parts that exist already."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests import certificates, loops
from tests.loopback import Peer, connected
from tests.wires import SocketStream
from wsockets import (
    SocketError,
    TlsOptions,
    adopt,
    create_bridge,
    createBridge,
)

Pair = tuple[socket.socket, SocketStream]

pytestmark = pytest.mark.every_loop


def streams(
    ends: tuple[socket.socket, socket.socket],
) -> Pair:
    return ends[0], SocketStream(ends[1])


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection, and the stream at its other side."""
    near, far = socket.socketpair()
    with near, far:
        yield streams((near, far))


@pytest.fixture
def sink() -> Iterator[Pair]:
    """A sink, and the stream at its other side."""
    near, far = socket.socketpair()
    with near, far:
        yield streams((near, far))


CREDENTIALS: dict[str, Any] = {"ca": certificates.authority().pem}


@pytest.mark.parametrize("as_fd", [False, True], ids=["socket", "fd"])
async def test_a_connection_is_adopted_and_closed_at_the_end(
    as_fd: bool, pair: Pair, sink: Pair
) -> None:
    near, far = pair
    bridge = createBridge(
        {"socket": near.detach() if as_fd else near, "sink": sink[0]},
        closeSink=True,
    )
    bridge.start()
    await far.send_all(b"down")
    assert await sink[1].receive_some() == b"down"
    await far.send_eof()
    assert await sink[1].receive_some() == b""
    await sink[1].send_eof()
    assert await far.receive_some() == b""
    assert (await bridge.closed).reason == "eof"
    await bridge.socket.closed
    assert sink[0].fileno() == -1


@pytest.mark.parametrize(
    "security",
    [{"credentials": CREDENTIALS}, {"secure_context": TlsOptions(**CREDENTIALS)}],
    ids=["credentials", "secureContext"],
)
async def test_with_credentials_it_is_secured_first(
    security: dict[str, Any], pair: Pair, sink: Pair
) -> None:
    bridge = create_bridge(
        socket=pair[0], sink=sink[0], hostname="localhost", alpn=["echo"], **security
    )
    bridge.start()
    peer = Peer(pair[1])
    await peer.secure()
    assert (await bridge.handshake()).alpn == "echo"
    await peer.send(b"down")
    assert await sink[1].receive_some() == b"down"
    await bridge.stop()
    # It was stopped, so the connection is there for whoever asks.
    await bridge.socket.writable.getWriter().write(b"by hand")
    assert await peer.receive_exactly(7) == b"by hand"
    await bridge.socket.close(ValueError("enough"))


async def test_it_can_be_the_server(sink: Pair) -> None:
    issued = certificates.server()
    near, far = socket.socketpair()
    client = adopt(far, CREDENTIALS, secureTransport="on", hostname="localhost")
    bridge = createBridge(
        socket=near,
        sink=sink[0],
        role="server",
        credentials={"cert": issued.chain, "key": issued.key},
    )
    bridge.start()
    await client.writable.getWriter().write(b"down")
    assert await sink[1].receive_some() == b"down"
    await client.close(ValueError("enough"))
    await bridge.closed


async def test_a_failed_handshake_is_reported(pair: Pair, sink: Pair) -> None:
    errors: list[BaseException] = []
    closed: list[bool] = []
    bridge = createBridge(
        socket=pair[0],
        sink=sink[0],
        hostname="localhost",
        credentials={},
        onError=errors.append,
        onClose=lambda: closed.append(True),
    )
    bridge.start()
    with pytest.raises(loops.BrokenResourceError):
        await Peer(pair[1]).secure()
    with pytest.raises(SocketError) as caught:
        await bridge.handshake()
    assert caught.value.code == "tls-verify"
    end = await bridge.closed
    assert (end.reason, end.error) == ("closed", caught.value)
    assert errors == [caught.value]
    assert closed == [True]


async def test_a_Socket_is_bridged_as_it_is(sink: Pair) -> None:
    async with connected() as (near, peer):
        async with createBridge(socket=near, sink=sink[0]) as bridge:
            assert bridge.socket is near
            await peer.send(b"down")
            assert await sink[1].receive_some() == b"down"


async def test_a_Socket_with_starttls_is_upgraded(sink: Pair) -> None:
    near, far = streams(socket.socketpair())
    socket_ = adopt(near, secureTransport="starttls")
    bridge = createBridge(
        socket=socket_,
        sink=sink[0],
        credentials=CREDENTIALS,
        hostname="localhost",
        alpn=["echo"],
    )
    bridge.start()
    peer = Peer(far)
    await peer.secure()
    assert socket_.upgraded
    assert bridge.socket.secureTransport == "on"
    await peer.send(b"down")
    assert await sink[1].receive_some() == b"down"
    await bridge.stop()
    await bridge.socket.close(ValueError("enough"))
    await peer.close()


async def test_what_makes_no_sense_is_refused_at_the_call(
    pair: Pair, sink: Pair
) -> None:
    def refused(code: str, match: str, **members: Any) -> None:
        with pytest.raises(SocketError, match=match) as caught:
            createBridge(**members)
        assert caught.value.code == code

    refused("option", "needs a socket", sink=sink[0])
    refused("option", "not both", socket=pair[0], sink=sink[0], credentials={},
            secureContext=TlsOptions())  # fmt: skip
    refused("option", "TlsOptions", socket=pair[0], sink=sink[0], secureContext="x")
    refused("option", "credentials", socket=pair[0], sink=sink[0], alpn=["echo"])
    refused("option", "name", socket=pair[0], sink=sink[0], credentials={})
    refused("option", "direction", socket=pair[0], sink=sink[0], direction="up")
    refused("option", "twice", socket=pair[0], sink=sink[0], closeSink=True,
            close_sink=True)  # fmt: skip
    with pytest.raises(SocketError, match="mapping"):
        createBridge("sink")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        createBridge(nonsense=1)  # type: ignore[call-arg]
    assert pair[0].fileno() >= 0  # still the caller's
    async with connected("on") as (near, _):
        refused("option", "too late", socket=near, sink=sink[0], credentials={})
        refused("option", "adopted", socket=near, sink=sink[0], role="server",
                credentials={})  # fmt: skip
        refused("option", "adopted", socket=near, sink=sink[0], nursery=1)
    async with connected() as (near, _):
        refused("state", "starttls", socket=near, sink=sink[0], credentials={})


async def test_a_connection_without_a_usable_sink_is_closed(pair: Pair) -> None:
    with pytest.raises(SocketError, match="sink"):
        createBridge(socket=pair[0], sink="tun0")
    with pytest.raises(loops.BrokenResourceError):
        while await pair[1].receive_some():
            pass
        raise loops.BrokenResourceError("closed")
