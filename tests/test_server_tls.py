"""A server's TLS: certificates by name, clients', ALPN, PSK, reload, startTls()."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests import certificates, loops
from tests.loopback import binding, settle
from tests.serving import identity, plain, port_of, served, take, visitor
from wsockets import (
    Binding,
    ServerSocket,
    SessionCache,
    Socket,
    SocketError,
    TlsOptions,
    listen,
)

pytestmark = pytest.mark.every_loop

AUTHORITY = certificates.authority().pem
CLIENT = certificates.client()
OTHER = certificates.server("localhost", subject="another one")


def leaf(socket: Socket) -> bytes:
    info = socket.tls_info()
    assert info is not None
    return info.certificates[0]


async def refused(client: Socket) -> SocketError:
    """How it is refused, at once or (TLS 1.3) with what it reads first."""
    with pytest.raises(SocketError) as caught:
        await client.opened
        await client.readable.getReader().read()
    client.close("refused")
    return caught.value


async def failed(server: ServerSocket, count: int) -> None:
    with loops.fail_after(20):
        while server.stats.failed < count:
            await loops.checkpoint()
    assert server.stats.handshaking == 0


# -- clients' certificates


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_clients_show_a_certificate_where_that_is_asked(version: Any) -> None:
    limits = {"minVersion": version, "maxVersion": version}
    async with served("on", clientCa=AUTHORITY) as server:
        client = visitor(server, tls=limits | identity(CLIENT))
        found = await take(server)
        assert leaf(found) == CLIENT.der
        info = found.tls_info()
        assert info is not None
        assert info.verified
        await client.close()
        await found.close()
        stranger = identity(certificates.client("other"))
        assert (await refused(visitor(server, tls=limits | stranger))).code == (
            "tls-alert"
        )
        assert (await refused(visitor(server, tls=limits))).code == "tls-alert"
        await failed(server, 2)


async def test_clients_may_do_without_a_certificate_where_it_is_optional() -> None:
    async with served("on", clientCa=AUTHORITY, clientAuth="optional") as server:
        for members, verified in (({}, False), (identity(CLIENT), True)):
            client = visitor(server, tls=members)
            found = await take(server)
            info = found.tls_info()
            assert info is not None
            assert info.verified is verified
            await client.close()
            await found.close()
        stranger = visitor(server, tls=identity(certificates.client("other")))
        assert (await refused(stranger)).code == "tls-alert"


# -- ALPN


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_the_servers_order_wins(version: Any) -> None:
    limits = {"minVersion": version, "maxVersion": version}
    async with served("on", alpn=["h2", "http/1.1"]) as server:
        client = visitor(server, tls=limits, alpn=["http/1.1", "h2"])
        found = await take(server)
        assert (await found.opened).alpn == "h2"
        assert (await client.opened).alpn == "h2"
        await client.close()
        await found.close()
        # Who offers nothing is let in, who offers something else is not.
        client = visitor(server, tls=limits)
        found = await take(server)
        assert (await found.opened).alpn is None
        await client.close()
        await found.close()
        error = await refused(visitor(server, tls=limits, alpn=["smtp"]))
        assert error.code == "tls-alert"
        assert "no_application_protocol" in str(error)
        await failed(server, 1)


async def test_a_client_without_a_protocol_is_refused_where_one_is_required() -> None:
    async with served("on", alpn=["h2"], alpnRequired=True) as server:
        client = visitor(server)
        await refused(client)
        await failed(server, 1)


# -- names


async def test_a_client_sees_the_certificate_of_the_name_it_asks_for() -> None:
    www = certificates.server("www.example.com")
    wild = certificates.server("*.example.com", subject="wild")
    contexts = {
        "www.example.com": TlsOptions(**identity(www)),
        "*.example.com": TlsOptions(**identity(wild)),
    }
    async with served("on", sniContexts=contexts) as server:
        for sni, expected in (
            ("www.example.com", www),
            ("mail.example.com", wild),
            (None, certificates.server()),
        ):
            client = visitor(server, sni=sni)
            found = await take(server)
            await client.opened
            assert leaf(client) == expected.der
            info = found.tls_info()
            assert info is not None
            assert info.server_name == (sni or "localhost")
            await client.close()
            await found.close()


# -- keys


async def test_a_pre_shared_key_is_looked_up_by_its_identity() -> None:
    keys = {b"sensor-7": bytes(range(32))}
    async with listen("127.0.0.1:0", secureTransport="on", psk=keys.get) as server:
        known = Binding(tls=TlsOptions(psk=(b"sensor-7", keys[b"sensor-7"])))
        client = known.connect(server.localAddress, secureTransport="on")
        found = await take(server)
        await client.opened
        await client.close()
        await found.close()
        stranger = Binding(tls=TlsOptions(psk=(b"sensor-8", bytes(32))))
        await refused(stranger.connect(server.localAddress, secureTransport="on"))
        await failed(server, 1)


# -- other certificates, later


async def test_reload_is_for_new_connections(caplog: pytest.LogCaptureFixture) -> None:
    async with served("on") as server:
        old = visitor(server)
        before = await take(server)
        slow = plain(server)
        while server.stats.handshaking < 1:
            await loops.checkpoint()
        server.reload(identity(OTHER))
        new = visitor(server)
        after = await take(server)
        await new.opened
        assert leaf(new) == OTHER.der
        # One that had begun goes on with what it began with.
        late = binding().adopt(slow, secureTransport="on", hostname="localhost")
        came = await take(server)
        await late.opened
        assert leaf(late) == certificates.server().der
        # Those that exist do not notice.
        await old.writable.getWriter().write("hello")
        assert (await before.readable.getReader().read()).value == b"hello"
        for socket in (old, before, new, after, late, came):
            await socket.close()
    assert caplog.records == []


def bad_materials(folder: Path) -> list[dict[str, Any]]:
    broken = folder / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA")
    return [
        {"cert": broken},
        {"cert": folder / "missing.pem"},
        {"cert": OTHER.chain, "key": CLIENT.key},
        {"key": CLIENT.key},
        {"clientCa": broken},
        {"sniContexts": {"x.example": TlsOptions(cert=broken)}},
        {"minVersion": "1.3", "maxVersion": "1.2"},
    ]


async def test_what_cannot_be_used_is_refused_and_the_old_kept(tmp_path: Path) -> None:
    async with served("on") as server:
        for members in bad_materials(tmp_path):
            with pytest.raises(SocketError) as caught:
                server.reload(members)
            assert caught.value.code == "option"
            client = visitor(server)
            found = await take(server)
            await client.opened
            assert leaf(client) == certificates.server().der
            await client.close()
            await found.close()


def replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


async def test_files_that_change_are_noticed_and_broken_ones_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = certificates.server()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(first.pem)
    key.write_text(first.key_pem())
    async with served("on", cert=cert, key=key) as server:

        async def shown() -> bytes:
            client = visitor(server)
            found = await take(server)
            await client.opened
            seen = leaf(client)
            await client.close()
            await found.close()
            return seen

        assert await shown() == first.der
        replace(cert, OTHER.pem)
        # Only one of the two is there yet.
        assert await shown() == first.der
        assert len(caplog.records) == 1
        with pytest.raises(SocketError, match="not the key of cert"):
            server.reload()
        replace(key, OTHER.key_pem())
        assert await shown() == OTHER.der
        server.reload()
        assert await shown() == OTHER.der
        assert len(caplog.records) == 1


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_session_does_not_outlive_what_it_was_made_with(version: Any) -> None:
    tls = {"sessions": SessionCache(), "minVersion": version, "maxVersion": version}
    bound = binding(**tls)
    async with served("on") as server:

        async def resumed() -> bool:
            address = f"localhost:{port_of(server)}"
            client = bound.connect(address, secureTransport="on")
            found = await take(server)
            await found.writable.getWriter().write("x")
            await client.readable.getReader().read()
            info = found.tls_info()
            assert info is not None
            await client.close()
            await found.close()
            return info.resumed

        assert [await resumed(), await resumed()] == [False, True]
        server.reload()
        assert [await resumed(), await resumed()] == [False, True]
        # Those let in by the old rules are asked again.
        server.reload(clientCa=AUTHORITY, clientAuth="optional")
        assert await resumed() is False


async def test_reload_needs_tls() -> None:
    async with served() as server:
        with pytest.raises(SocketError, match="reload") as caught:
            server.reload(identity())
        assert caught.value.code == "state"


# -- the server's side of an upgrade


async def ask(socket: Socket, line: str) -> bytes:
    writer, reader = socket.writable.getWriter(), socket.readable.getReader()
    await writer.write(line)
    value, _ = await reader.read()
    writer.releaseLock()
    reader.releaseLock()
    assert isinstance(value, bytes)
    return value


async def test_start_tls_takes_the_listeners_material() -> None:
    async with served(
        secureTransport="starttls",
        alpn=["mail"],
        sniContexts={"other.example": TlsOptions(**identity(OTHER))},
        clientCa=AUTHORITY,
        **identity(),
    ) as server:
        for sni, expected in (
            (None, certificates.server()),
            ("other.example", OTHER),
        ):
            plainly = visitor(
                server, tls=identity(CLIENT) | {"verify": "ca"}, alpn=["mail"]
            )
            found = await take(server)
            assert found.secureTransport == "starttls"
            writer = found.writable.getWriter()
            await writer.write("go")
            assert await ask(plainly, "starttls?") == b"go"
            value, _ = await found.readable.getReader().read()
            assert value == b"starttls?"
            secure = found.startTls()
            client = plainly.startTls(sni=sni) if sni else plainly.startTls()
            assert (await client.opened).alpn == "mail"
            info = await secure.opened
            assert info.alpn == "mail"
            assert info.remoteAddress == (await found.opened).remoteAddress
            assert leaf(client) == expected.der
            assert leaf(secure) == CLIENT.der
            await client.close()
            await secure.close()


async def test_start_tls_may_bring_its_own_material() -> None:
    async with served(secureTransport="starttls") as server:
        plainly = visitor(server)
        found = await take(server)
        with pytest.raises(SocketError, match="cert and key"):
            found.startTls()
        secure = found.startTls(identity(OTHER))
        client = plainly.startTls()
        await client.opened
        assert leaf(client) == OTHER.der
        await client.close()
        await secure.close()


async def test_plaintext_behind_the_go_ahead_fails_the_handshake() -> None:
    """What a client's attacker puts behind STARTTLS never reaches the application."""
    async with served(secureTransport="starttls", **identity()) as server:
        with plain(server) as sock:
            found = await take(server)
            sock.sendall(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n")
            reader = found.readable.getReader(mode="byob")
            line = b""
            while not line.endswith(b"\n"):
                line += bytes((await reader.read(bytearray(1))).value)
            secure = found.startTls()
            with pytest.raises(SocketError) as caught:
                await secure.opened
            assert caught.value.code == "tls"
            with pytest.raises(SocketError):
                await secure.closed
            assert (await secure.readable.getReader().read()).done


async def test_a_hello_that_came_early_is_the_handshakes() -> None:
    async with served(secureTransport="starttls", **identity()) as server:
        with plain(server) as sock:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.create_default_context(cadata=AUTHORITY)
            tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            sock.sendall(b"?" + outgoing.read())
            found = await take(server)
            reader = found.readable.getReader(mode="byob")
            assert bytes((await reader.read(bytearray(1))).value) == b"?"
            secure = found.startTls()
            await settle()
            while True:
                incoming.write(await loops.in_thread(sock.recv, 65536))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            tls.write(b"hello")
            sock.sendall(outgoing.read())
            await secure.opened
            assert (await secure.readable.getReader().read()).value == b"hello"
            secure.close("done")


# -- callbacks and secrets


async def test_a_key_function_that_raises_ends_one_handshake_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "wsockets")
    secret = b"a very secret key that nobody sees"

    def lookup(identity: bytes) -> bytes:
        if identity == b"bad":
            raise LookupError(secret)
        return secret

    async with listen("127.0.0.1:0", secureTransport="on", psk=lookup) as server:
        bad = Binding(tls=TlsOptions(psk=(b"bad", secret)))
        await refused(bad.connect(server.localAddress, secureTransport="on"))
        await failed(server, 1)
        good = Binding(tls=TlsOptions(psk=(b"good", secret)))
        client = good.connect(server.localAddress, secureTransport="on")
        found = await take(server)
        await client.opened
        await client.close()
        await found.close()
        said = caplog.text + repr(server) + repr(found) + repr(server._settings)
        assert "secret key" not in said
        assert secret.hex() not in said
        assert "LookupError" in caplog.text
