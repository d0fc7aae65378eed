"""Statements of `spec/clauses.toml` about `connect()` and binding objects.

They are those that no other test shows by itself. What happens once there is a
socket is in `test_socket.py`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import certificates, loops
from tests.leaks import tasks
from tests.loopback import binding, listening, server_context
from tests.network import closed_port, connections, listener
from tests.proxies import HttpProxy, echo_server, served
from tests.wires import SSLStream
from wsockets import (
    Binding,
    Socket,
    SocketAddress,
    SocketError,
    SocketOptions,
    TlsOptions,
    adopt,
    connect,
    deny_private,
)

pytestmark = pytest.mark.every_loop


async def both_failures(made: Socket) -> SocketError:
    """The error that `opened` and `closed` have in common."""
    with pytest.raises(SocketError) as opened:
        await made.opened
    with pytest.raises(SocketError) as closed:
        await made.closed
    assert closed.value is opened.value
    return opened.value


# -- calling connect()


async def test_an_address_has_three_forms_and_options_need_not_be_given() -> None:
    with listener() as server:
        host, port = server.getsockname()
        target = f"{host}:{port}"
        for of_object in (connect, Binding().connect):
            calls: list[tuple[Any, ...]] = [
                (target,),
                (target, None),
                (target, {}),
                ({"hostname": host, "port": port},),
                (SocketAddress(host, port), SocketOptions()),
            ]
            for arguments in calls:
                made = of_object(*arguments)
                assert isinstance(made, Socket)
                assert made.secureTransport == "off"
                assert (await made.opened).remoteAddress == target
                assert connections(server) == 1
                await made.close()


async def test_the_connection_is_made_after_connect_has_returned() -> None:
    with listener() as server:
        made = connect("{}:{}".format(*server.getsockname()))
        assert connections(server) == 0
        assert "pending" in repr(made.opened)
        await made.opened
        assert connections(server) == 1
        await made.close()


NO_SUCH_MODE: Any = {"verify": "some"}
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a URL": (partial(connect, "https://example.com/"), "address"),
    "a port that is none": (partial(connect, "localhost:65536"), "address"),
    "no address": (partial(connect, {"hostname": "localhost"}), "address"),
    "no such kind": (
        partial(connect, "localhost:1", {"secureTransport": "tls"}),
        "option",
    ),
    "not a bool": (partial(connect, "localhost:1", {"allowHalfOpen": "no"}), "option"),
    "ALPN without TLS": (partial(connect, "localhost:1", alpn=["h2"]), "option"),
    "options that are none": (partial(connect, "localhost:1", 5), "option"),
    "an empty sni": (
        partial(connect, "localhost:1", secureTransport="on", sni=""),
        "option",
    ),
    "an empty sni for later": (
        partial(connect, "localhost:1", secureTransport="starttls", sni=""),
        "option",
    ),
    "a member of TlsOptions": (
        partial(connect, "localhost:1", {"ca": "x", "secureTransport": "on"}),
        "option",
    ),
    "no name to verify": (
        partial(connect, "unix:/nowhere", secureTransport="on"),
        "option",
    ),
    "a policy that is none": (partial(Binding, {"policy": "private"}), "option"),
    "a verification that is none": (partial(TlsOptions, **NO_SUCH_MODE), "option"),
    "no descriptor": (partial(adopt, -1), "option"),
    "no role": (partial(adopt, -1, {"role": "both"}), "option"),
}


@pytest.mark.parametrize(("call", "code"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_right_raises_at_the_call(
    call: Callable[[], object], code: str
) -> None:
    before = tasks()
    with pytest.raises(SocketError) as caught:
        call()
    assert caught.value.code == code
    assert tasks() == before


@pytest.mark.parametrize("name", ["ca", "verify", "minVersion", "min_version"])
async def test_settings_of_tls_are_for_a_binding_object(name: str) -> None:
    as_keyword: Any = {name: "1.2"}
    calls: list[Callable[[], object]] = [
        partial(connect, "localhost:1", {"secureTransport": "on", name: "1.2"}),
        partial(connect, "localhost:1", secureTransport="on", **as_keyword),
        partial(Binding().connect, "localhost:1", as_keyword),
    ]
    for call in calls:
        with pytest.raises(SocketError, match=r"Binding\(tls=TlsOptions\(") as caught:
            call()
        assert caught.value.code == "option"


async def test_port_0_is_taken_and_fails_later() -> None:
    for target in ("127.0.0.1:0", "localhost:0", {"hostname": "::1", "port": 0}):
        error = await both_failures(connect(target))
        assert error.code == "address"


# -- what a binding object changes


async def test_an_address_that_is_blocked_rejects_both_promises() -> None:
    with listener() as server:
        target = "{}:{}".format(*server.getsockname())
        error = await both_failures(Binding(policy=deny_private()).connect(target))
        assert error.code == "policy"
        assert connections(server) == 0
        # The settings of one object are nobody else's.
        async with connect(target):
            assert connections(server) == 1


async def test_a_network_and_a_runtime_in_trouble_reject_both_promises() -> None:
    async def resolver(host: str, port: int) -> list[tuple[int, str]]:
        raise TimeoutError("the resolver has its own trouble")

    error = await both_failures(Binding(resolver=resolver).connect("a.example:80"))
    assert isinstance(error.__cause__, TimeoutError)
    with closed_port() as port:
        error = await both_failures(connect(f"127.0.0.1:{port}"))
        assert error.code == "refused"


async def test_a_binding_object_connects_through_its_proxy() -> None:
    proxy = HttpProxy()
    async with served(echo_server()) as port, served(proxy) as proxy_port:
        proxied = Binding(proxy=f"http://127.0.0.1:{proxy_port}")
        async with proxied.connect(f"127.0.0.1:{port}") as made:
            assert (await made.opened).remoteAddress == f"127.0.0.1:{proxy_port}"
            reader = made.readable.getReader()
            assert (await reader.read()).value == b"hello"
    assert proxy.asked == ["127.0.0.1"]


# -- TLS


async def test_the_default_authorities_are_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    for authority, trusted in (
        (certificates.authority(), True),
        (certificates.other_authority(), False),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.files().cert))
        async with listening() as (server, port), loops.open_nursery() as nursery:
            made = connect(f"localhost:{port}", secureTransport="on")
            tcp = await server.accept()
            stream = SSLStream(tcp, server_context(), server_side=True)

            async def shake(stream: SSLStream) -> None:
                with contextlib.suppress(
                    loops.BrokenResourceError, loops.ClosedResourceError
                ):
                    await stream.do_handshake()

            nursery.start_soon(shake, stream)
            if trusted:
                await made.opened
                details = made.tls_info()
                assert details is not None
                assert details.verified
                await made.close()
            else:
                assert (await both_failures(made)).code == "tls-verify"
            stream.close()


async def test_sni_is_sent_and_the_certificate_is_of_that_name() -> None:
    sites = {"one.example": certificates.server("one.example")}
    asked: list[str | None] = []

    def present(issued: certificates.Issued) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*issued.files())
        return context

    def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        asked.append(name)
        if name in sites:
            connection.context = present(sites[name])

    context = present(certificates.server())
    context.sni_callback = choose
    async with listening() as (server, port):
        for sni, presented in (
            ("one.example", sites["one.example"]),
            (None, certificates.server()),
        ):
            made = binding().connect(f"127.0.0.1:{port}", secureTransport="on", sni=sni)
            stream = SSLStream(await server.accept(), context, server_side=True)
            async with loops.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                await made.opened
            details = made.tls_info()
            assert details is not None
            assert details.verified
            assert details.certificates[0] == presented.der
            await made.close()
            stream.close()
    assert asked == ["one.example", None]


@pytest.mark.parametrize(
    ("offered", "listed"),
    [(["one", "two"], "'one', 'two'"), (["two", "one", "3"], "'two', 'one', '3'")],
)
async def test_the_protocols_are_offered_as_they_are_listed(
    offered: list[str], listed: str
) -> None:
    issued = certificates.server()
    async with listening() as (server, port):
        made = binding().connect(
            f"localhost:{port}", secureTransport="on", alpn=offered
        )
        theirs = adopt(
            (await server.accept()).socket.detach(),
            secureTransport="on",
            role="server",
            cert=issued.chain,
            key=issued.key,
            alpn=["something else"],
        )
        # Whoever finds no protocol to speak tells what there was to choose from.
        error = await both_failures(theirs)
        assert f"the peer offers {listed};" in str(error)
        assert (await both_failures(made)).code == "tls-alert"


async def test_an_empty_list_of_protocols_is_none() -> None:
    members: list[dict[str, Any]] = [{}, {"alpn": []}, {"alpn": None}]
    for empty in members:
        async with listening() as (server, port):
            made = binding().connect(
                f"localhost:{port}", {"secureTransport": "on", **empty}
            )
            tcp = await server.accept()
            stream = SSLStream(tcp, server_context(), server_side=True)
            async with loops.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                info = await made.opened
            # The server speaks "echo" and would have refused another offer.
            assert info.alpn is None
            assert stream.selected_alpn_protocol() is None
            await made.close()
            stream.close()
        assert (await connect_off(empty)).secureTransport == "off"


async def connect_off(members: dict[str, Any]) -> Socket:
    """An open plain socket with these options, closed again."""
    with listener() as server:
        made = connect("{}:{}".format(*server.getsockname()), members)
        await made.opened
        await made.close()
    return made


# -- what opened tells


@pytest.mark.parametrize(
    ("host", "ip", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1", "[::1]"),
        ("[0:0::0:1]", "::1", "[::1]"),
    ],
)
async def test_both_ends_are_told_as_numbers(host: str, ip: str, shown: str) -> None:
    with listener(ip) as server:
        port = server.getsockname()[1]
        made = connect(f"{host}:{port}")
        info = await made.opened
        accepted, (_, theirs, *_) = server.accept()
        accepted.close()
        assert info.remoteAddress == f"{shown}:{port}"
        assert info.localAddress == f"{shown}:{theirs}"
        assert info.alpn is None
        await made.close()


async def test_the_ends_of_a_unix_socket_are_told_by_path(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        async with connect(f"unix:{path}") as made:
            info = await made.opened
            assert info.remoteAddress == f"unix:{path}"
            assert info.localAddress == "unix:"
