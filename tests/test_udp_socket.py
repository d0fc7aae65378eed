"""UDPSocket: its life, its streams, and what ends it."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tests import loops
from tests.dialling import Names
from tests.interrupts import interrupted, ways
from tests.leaks import Snapshot, left_behind, tasks
from tests.loopback import settle
from tests.naming import named
from tests.network import in_own_network
from wsockets import (
    AbortController,
    AbortError,
    AbortSignal,
    ReadableStreamBYOBReader,
    ReadResult,
    SocketError,
    UDPMessage,
    UDPSocket,
    UDPSocketOpenInfo,
    UDPSocketOptions,
    adopt,
    deny_private,
)

pytestmark = pytest.mark.every_loop

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
LARGEST = {"127.0.0.1": 65507, "::1": 65527}


@contextlib.asynccontextmanager
async def pair(
    ip: str = "127.0.0.1", **members: Any
) -> AsyncIterator[tuple[UDPSocketOpenInfo, UDPSocketOpenInfo]]:
    """A bound socket, and one that is connected to it; what they are opened with."""
    async with UDPSocket(localAddress=ip) as server:
        bound = await server.opened
        async with UDPSocket(
            remoteAddress=ip, remotePort=bound.localPort, **members
        ) as client:
            yield bound, await client.opened


def unused_port(ip: str = "127.0.0.1") -> int:
    """A port at which nobody listens."""
    family = V6 if ":" in ip else V4
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((ip, 0))
        port: int = sock.getsockname()[1]
        return port


def fd_of(made: UDPSocket) -> int:
    assert made._datagrams is not None
    return made._datagrams.socket.fileno()


class TestOpening:
    @pytest.mark.parametrize("ip", LARGEST)
    async def test_a_bound_socket_tells_where_it_is_bound(self, ip: str) -> None:
        async with UDPSocket(localAddress=ip) as made:
            info = await made.opened
            assert info.localAddress == info.local_address == ip
            assert info.localPort == info.local_port > 0
            assert info.remoteAddress is info.remote_address is None
            assert info.remotePort is info.remote_port is None
            assert info.multicastController is not None
            assert info.multicast_controller is info.multicastController
            assert repr(made) == "<UDPSocket bound open>"
        assert repr(made) == "<UDPSocket bound closed>"

    @pytest.mark.parametrize("ip", LARGEST)
    async def test_a_connected_socket_tells_both_ends(self, ip: str) -> None:
        async with pair(ip) as (bound, connected):
            assert connected.remoteAddress == ip
            assert connected.remotePort == bound.localPort
            assert connected.localAddress == ip
            assert connected.localPort not in (0, bound.localPort)
            assert connected.multicastController is None

    async def test_the_port_is_the_one_that_was_asked_for(self) -> None:
        port = unused_port()
        async with UDPSocket({"localAddress": "127.0.0.1", "localPort": port}) as made:
            assert (await made.opened).localPort == port

    async def test_options_can_be_an_object(self) -> None:
        options = UDPSocketOptions(localAddress="127.0.0.1")
        async with UDPSocket(options, sendBufferSize=50_000) as made:
            found = made._datagrams
            assert found is not None
            size = found.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert size >= 50_000

    @pytest.mark.parametrize("where", ["bound", "connected"])
    async def test_the_sizes_of_buffers_are_set(self, where: str) -> None:
        sizes: dict[str, Any] = {"sendBufferSize": 40_000, "receiveBufferSize": 30_000}
        if where == "bound":
            made = UDPSocket(localAddress="127.0.0.1", **sizes)
        else:
            made = UDPSocket(remoteAddress="127.0.0.1", remotePort=9, **sizes)
        async with made:
            assert made._datagrams is not None
            sock = made._datagrams.socket
            for option, least in (
                (socket.SO_SNDBUF, 40_000),
                (socket.SO_RCVBUF, 30_000),
            ):
                found = sock.getsockopt(socket.SOL_SOCKET, option)
                assert least <= found <= 2 * least

    @pytest.mark.parametrize(
        "members",
        [{}, {"dnsQueryType": "ipv4"}, {"sendBufferSize": 5}, {"ipv6Only": True}],
        ids=named,
    )
    async def test_there_is_an_address_to_be_given(self, members: Any) -> None:
        with pytest.raises(SocketError, match="needs a remoteAddress") as caught:
            UDPSocket(members)
        assert caught.value.code == "option"

    async def test_mistakes_are_told_at_the_call(self) -> None:
        with pytest.raises(SocketError, match=r"nursery is .*(Nursery|TaskGroup)"):
            UDPSocket(localAddress="127.0.0.1", nursery=5)
        with pytest.raises(TypeError, match=r"UDPSocket\(\) got an unexpected"):
            UDPSocket(localaddress="127.0.0.1")  # type: ignore[call-arg]
        with pytest.raises(SocketError, match="not a str"):
            UDPSocket(localAddress=5)  # type: ignore[arg-type]

    def test_it_needs_an_event_loop(self) -> None:
        with pytest.raises(RuntimeError, match="running event loop"):
            UDPSocket(localAddress="127.0.0.1")

    async def test_what_cannot_be_bound_rejects_both_promises(self) -> None:
        async with UDPSocket(localAddress="127.0.0.1") as first:
            port = (await first.opened).localPort
            made = UDPSocket(localAddress="127.0.0.1", localPort=port)
            for promise in (made.opened, made.closed):
                with pytest.raises(SocketError, match=f"bind to 127.0.0.1:{port}") as e:
                    await promise
                assert e.value.errno == errno.EADDRINUSE
            with pytest.raises(SocketError, match="has not been open") as caught:
                await made.close()
            assert caught.value.code == "state"

    async def test_an_address_that_is_not_here_cannot_be_bound(self) -> None:
        made = UDPSocket(localAddress="192.0.2.1")
        with pytest.raises(SocketError, match=r"bind to 192\.0\.2\.1:0") as caught:
            await made.opened
        assert caught.value.code == "unreachable"

    @pytest.mark.parametrize("bound", [True, False])
    async def test_an_option_that_the_system_refuses_rejects(
        self, bound: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise SocketError("could not set sendBufferSize to 5: no", code="option")

        monkeypatch.setattr("wsockets.udp.socket.apply", refuse)
        members: dict[str, Any] = (
            {"localAddress": "127.0.0.1"}
            if bound
            else {"remoteAddress": "127.0.0.1", "remotePort": 9}
        )
        with pytest.raises(SocketError, match="could not set sendBufferSize"):
            async with UDPSocket(members):
                pass

    async def test_port_0_fails_as_connections_to_it_do(self) -> None:
        made = UDPSocket(remoteAddress="127.0.0.1", remotePort=0)
        with pytest.raises(SocketError, match="port 0 stands for no") as caught:
            await made.opened
        assert caught.value.code == "address"

    async def test_a_name_is_resolved_and_put_to_the_policy(self) -> None:
        asked: list[object] = []

        def policy(*arguments: object) -> bool:
            asked.append(arguments)
            return arguments[1] == "127.0.0.1"

        names = Names([(V6, "::1"), (V4, "127.0.0.1")])
        async with UDPSocket(
            remoteAddress="host.example", remotePort=9, policy=policy, resolver=names
        ) as made:
            assert (await made.opened).remoteAddress == "127.0.0.1"
        assert asked == [
            ("host.example", "::1", 9),
            ("host.example", "127.0.0.1", 9),
        ]
        async with UDPSocket(
            remote_address="host.example",
            remote_port=9,
            dns_query_type="ipv6",
            resolver=names,
        ) as made:
            assert (await made.opened).remoteAddress == "::1"
        made = UDPSocket(
            remoteAddress="host.example",
            remotePort=9,
            policy=deny_private(),
            resolver=names,
        )
        for promise in (made.opened, made.closed):
            with pytest.raises(SocketError) as caught:
                await promise
            assert caught.value.code == "policy"

    async def test_the_systems_resolver_is_asked_by_default(self) -> None:
        async with UDPSocket(
            remoteAddress="localhost", remotePort=9, dnsQueryType="ipv4"
        ) as made:
            assert (await made.opened).remoteAddress == "127.0.0.1"

    async def test_a_name_that_leads_nowhere_rejects(self) -> None:
        made = UDPSocket(remoteAddress="host.example", remotePort=9, resolver=Names([]))
        for promise in (made.opened, made.closed):
            with pytest.raises(SocketError, match="it has no address") as caught:
                await promise
            assert caught.value.code == "dns"


class TestMessages:
    @pytest.mark.parametrize("ip", LARGEST)
    async def test_a_question_and_an_answer(self, ip: str) -> None:
        async with pair(ip) as (bound, connected):
            writer = connected.writable.getWriter()
            await writer.write(b"question")
            value, done = await bound.readable.getReader().read()
            assert not done
            assert value == UDPMessage(b"question", ip, connected.localPort)
            await bound.writable.getWriter().write(
                {
                    "data": "answer",
                    "remoteAddress": value.remoteAddress,
                    "remotePort": value.remotePort,
                }
            )
            answer = await connected.readable.getReader().read()
            assert answer == ReadResult(UDPMessage(b"answer"), False)

    @pytest.mark.parametrize("ip", LARGEST)
    async def test_the_largest_and_the_smallest_datagram(self, ip: str) -> None:
        async with pair(ip) as (bound, connected):
            writer = connected.writable.getWriter()
            reader = bound.readable.getReader()
            for size in (LARGEST[ip], 0, 1):
                await writer.write(bytes(size))
                message = (await reader.read()).value
                assert message.data == bytes(size)
                assert not message.truncated
            with pytest.raises(SocketError) as caught:
                await writer.write(bytes(LARGEST[ip] + 1))
            assert caught.value.errno == errno.EMSGSIZE
            # It was the message's failure, not the socket's.
            await writer.write(b"still here")
            assert (await reader.read()).value.data == b"still here"

    async def test_a_bound_socket_can_be_piped_into_itself(self) -> None:
        async with pair() as (bound, connected):
            echo = bound.readable.pipeTo(bound.writable)
            writer = connected.writable.getWriter()
            reader = connected.readable.getReader()
            for number in range(20):
                await writer.write(b"%d" % number)
                assert (await reader.read()).value.data == b"%d" % number
        with pytest.raises(SocketError, match="the socket was closed"):
            await echo

    async def test_a_pipe_that_ends_sends_nothing_of_its_own(self) -> None:
        ours, theirs = socket.socketpair()
        async with adopt(ours) as source, pair() as (bound, connected):
            theirs.send(b"all there is")
            theirs.close()
            await source.readable.pipeTo(connected.writable, preventClose=True)
            await connected.writable.getWriter().write(b"and more")
            reader = bound.readable.getReader()
            got = [(await reader.read()).value.data for _ in range(2)]
            assert got == [b"all there is", b"and more"]

    async def test_messages_can_be_iterated_over(self) -> None:
        async with pair() as (bound, connected):
            writer = connected.writable.getWriter()
            for number in range(3):
                await writer.write(b"%d" % number)
            got = []
            async for message in bound.readable.values(preventCancel=True):
                got.append(message.data)
                if len(got) == 3:
                    break
            assert got == [b"0", b"1", b"2"]

    async def test_bad_chunks_reject_and_do_no_harm(self) -> None:
        async with pair() as (bound, connected):
            port = connected.localPort
            to, fro = connected.writable.getWriter(), bound.writable.getWriter()
            good = {"remoteAddress": "127.0.0.1", "remotePort": port}
            for writer, chunk in (
                (to, 5),
                (to, {}),
                (to, {"data": b"", "remotePort": 9}),
                (fro, b"no destination"),
                (fro, {"data": 5, **good}),
                (fro, {"data": b"", "remoteAddress": "127.0.0.1"}),
                (fro, {"data": b"", **good, "remotePort": 0}),
                (fro, {"data": b"", **good, "dnsQueryType": "ipv6"}),
            ):
                with pytest.raises(TypeError):
                    await writer.write(chunk)
            await to.write(b"one way")
            await fro.write({"data": b"the other", **good})
            assert (await bound.readable.getReader().read()).value.data == b"one way"
            assert (
                await connected.readable.getReader().read()
            ).value.data == b"the other"

    async def test_a_read_waits_for_its_datagram_and_loses_none_to_a_timeout(
        self,
    ) -> None:
        async with pair() as (bound, connected):
            reader = bound.readable.getReader()
            with loops.move_on_after(0) as scope:
                await reader.read()
            assert scope.cancelled_caught
            read = reader.read()
            got: list[Any] = []

            async def take() -> None:
                got.append((await read).value.data)

            async with loops.open_nursery() as nursery:
                nursery.start_soon(take)
                await settle()
                assert got == []
                await connected.writable.getWriter().write(b"at last")
            assert got == [b"at last"]

    async def test_reads_are_served_in_order(self) -> None:
        async with pair() as (bound, connected):
            reader = bound.readable.getReader()
            reads = [reader.read() for _ in range(3)]
            writer = connected.writable.getWriter()
            for number in range(4):
                await writer.write(b"%d" % number)
            got = [(await read).value.data for read in reversed(reads)]
            assert got == [b"2", b"1", b"0"]
            assert (await reader.read()).value.data == b"3"

    async def test_messages_cannot_be_read_into_buffers(self) -> None:
        async with UDPSocket(localAddress="127.0.0.1") as made:
            readable = (await made.opened).readable
            with pytest.raises(TypeError, match="only a byte stream"):
                readable.getReader(mode="byob")
            with pytest.raises(TypeError, match="only a byte stream"):
                ReadableStreamBYOBReader(readable)
            assert not readable.locked

    async def test_a_dual_socket_talks_to_both_families(self) -> None:
        async with UDPSocket(localAddress="::", ipv6Only=False) as made:
            info = await made.opened
            reader, writer = info.readable.getReader(), info.writable.getWriter()
            for ip, seen in (("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")):
                async with UDPSocket(
                    remoteAddress=ip, remotePort=info.localPort
                ) as other:
                    there = await other.opened
                    await there.writable.getWriter().write(b"hello")
                    message = (await reader.read()).value
                    assert message.remoteAddress == seen
                    answers = there.readable.getReader()
                    # Back as it came, and by the address that it stands for.
                    for address in (message.remoteAddress, ip):
                        await writer.write(
                            UDPMessage(address, address, message.remotePort)
                        )
                        assert (await answers.read()).value.data == address.encode()

    async def test_a_socket_that_leaves_out_ipv4_gets_none(self) -> None:
        async with UDPSocket(localAddress="::", ipv6Only=True) as made:
            info = await made.opened
            async with UDPSocket(
                remoteAddress="127.0.0.1", remotePort=info.localPort
            ) as other:
                there = await other.opened
                await there.writable.getWriter().write(b"hello")
                with pytest.raises(SocketError) as caught:
                    await there.readable.getReader().read()
                assert caught.value.code == "refused"

    async def test_a_name_in_a_message_is_looked_up_in_its_turn(self) -> None:
        release = loops.Event()

        async def resolver(host: str, port: int) -> Iterable[tuple[int, str]]:
            await release.wait()
            return [] if host == "nowhere.example" else [(V4, "127.0.0.1")]

        async with (
            UDPSocket(localAddress="127.0.0.1") as target,
            UDPSocket(localAddress="127.0.0.1", resolver=resolver) as made,
        ):
            there, here = await target.opened, await made.opened
            writer = here.writable.getWriter()
            port = there.localPort
            nowhere = writer.write(UDPMessage(b"0", "nowhere.example", port))
            first = writer.write(UDPMessage(b"1", "host.example", port))
            second = writer.write(UDPMessage(b"2", "127.0.0.1", port))
            assert writer.desiredSize == 65536 - 3 * 9
            await settle()
            assert second._is_pending()
            release.set()
            await second
            await first
            with pytest.raises(SocketError) as caught:
                await nowhere
            assert caught.value.code == "dns"
            reader = there.readable.getReader()
            got = [(await reader.read()).value.data for _ in range(2)]
            assert got == [b"1", b"2"]
            assert writer.desiredSize == 65536

    @pytest.mark.parametrize("runs_on", loops.LOOPS)
    def test_the_interface_of_a_link_local_address_is_told_and_taken(
        self, runs_on: str
    ) -> None:
        async def check() -> None:
            index = socket.if_nametoindex("near")
            async with UDPSocket(localAddress="::") as made:
                info = await made.opened
                async with UDPSocket(
                    remoteAddress="fe80::1%near", remotePort=info.localPort
                ) as other:
                    there = await other.opened
                    assert there.remoteAddress == f"fe80::1%{index}"
                    writer = there.writable.getWriter()
                    reader = info.readable.getReader()
                    message = None
                    while message is None:
                        # A link that is just coming up may lose it.
                        await writer.write(b"hello")
                        with loops.move_on_after(0.5):
                            message = (await reader.read()).value
                    assert message.remoteAddress == f"fe80::1%{index}"
                    await info.writable.getWriter().write(message)
                    assert (
                        await there.readable.getReader().read()
                    ).value.data == b"hello"

        in_own_network(
            [
                "ip link add near type veth peer name far",
                "ip link set near addrgenmode none",
                "ip addr add fe80::1/64 dev near nodad",
                "ip link set near up",
                "ip link set far up",
            ],
            check,
            runs_on,
        )

    @pytest.mark.parametrize("runs_on", loops.LOOPS)
    def test_a_kernel_that_takes_no_more_slows_the_writer_down(
        self, runs_on: str
    ) -> None:
        """Nothing of what was taken is lost: the queue is before the kernel's."""
        count, size = 60, 1000

        async def check() -> None:
            async with pair(highWaterMark=5_000, sendBufferSize=5_000) as (
                bound,
                connected,
            ):
                writer = connected.writable.getWriter()
                reader = bound.readable.getReader()
                waits = 0
                writes = []

                async def take() -> None:
                    for number in range(count):
                        value, _ = await reader.read()
                        assert value.data == b"%d" % number + bytes(size)

                with loops.fail_after(20):
                    async with loops.open_nursery() as nursery:
                        nursery.start_soon(take)
                        for number in range(count):
                            ready = writer.ready
                            waits += ready._is_pending()
                            await ready
                            assert (writer.desiredSize or 0) > 0
                            writes.append(writer.write(b"%d" % number + bytes(size)))
                        # desiredSize never gets below a message under 0.
                        assert (writer.desiredSize or 0) > -size - 100
                        for written in writes:
                            await written
                assert waits > 0
                assert writer.desiredSize == 5_000

        in_own_network(
            ["tc qdisc add dev lo root tbf rate 2mbit burst 2kb latency 10s"],
            check,
            runs_on,
        )


class TestFailing:
    @pytest.mark.parametrize("ip", LARGEST)
    async def test_nobody_there_is_told_to_both_streams(self, ip: str) -> None:
        made = UDPSocket(remoteAddress=ip, remotePort=unused_port(ip))
        info = await made.opened
        writer, reader = info.writable.getWriter(), info.readable.getReader()
        pending = reader.read()
        await writer.write(b"is anybody there?")
        with pytest.raises(SocketError) as caught:
            await pending
        assert caught.value.code == "refused"
        for call in (
            reader.read,
            lambda: writer.write(b"hello?"),
            lambda: reader.closed,
            lambda: writer.closed,
            lambda: made.closed,
            made.close,
        ):
            with pytest.raises(SocketError) as again:
                await call()
            assert again.value is caught.value
        assert fd_of(made) == -1
        assert repr(made) == "<UDPSocket connected closed>"
        await made.opened

    async def test_a_write_may_be_the_one_to_notice(self) -> None:
        made = UDPSocket(remoteAddress="127.0.0.1", remotePort=unused_port())
        info = await made.opened
        writer = info.writable.getWriter()
        await writer.write(b"is anybody there?")
        with pytest.raises(SocketError) as caught:
            await writer.write(b"hello?")
        assert caught.value.code == "refused"
        with pytest.raises(SocketError):
            await info.readable.getReader().read()
        with pytest.raises(SocketError):
            await made.closed

    async def test_who_waits_for_a_read_is_told(self) -> None:
        made = UDPSocket(remoteAddress="127.0.0.1", remotePort=unused_port())
        info = await made.opened
        told: list[object] = []

        async def read() -> None:
            try:
                await info.readable.getReader().read()
            except SocketError as error:
                told.append(error.code)

        async with loops.open_nursery() as nursery:
            nursery.start_soon(read)
            await settle()
            await info.writable.getWriter().write(b"is anybody there?")
        assert told == ["refused"]

    async def test_leaving_a_socket_that_has_failed_raises_nothing(self) -> None:
        async with UDPSocket(
            remoteAddress="127.0.0.1", remotePort=unused_port()
        ) as made:
            info = await made.opened
            await info.writable.getWriter().write(b"is anybody there?")
            with pytest.raises(SocketError):
                await info.readable.getReader().read()

    async def test_a_bound_socket_outlives_peers_that_are_not_there(self) -> None:
        async with pair() as (bound, connected):
            writer = bound.writable.getWriter()
            for _ in range(2):
                await writer.write(UDPMessage(b"x", "127.0.0.1", unused_port()))
            await connected.writable.getWriter().write(b"still here")
            value, _ = await bound.readable.getReader().read()
            assert value.data == b"still here"


class TestClosing:
    async def test_close_is_idempotent_and_returns_closed(self) -> None:
        made = UDPSocket(localAddress="127.0.0.1")
        info = await made.opened
        closed = made.close()
        assert closed is made.closed
        await closed
        assert made.close() is closed
        assert fd_of(made) == -1
        assert await info.readable.getReader().read() == (None, True)
        with pytest.raises(SocketError, match="the socket was closed") as caught:
            await info.writable.getWriter().write(UDPMessage(b"", "127.0.0.1", 9))
        assert caught.value.code == "closed"

    @pytest.mark.parametrize("which", ["readable", "writable"])
    async def test_close_refuses_while_a_stream_is_locked(self, which: str) -> None:
        async with UDPSocket(localAddress="127.0.0.1") as made:
            info = await made.opened
            stream = getattr(info, which)
            lock = stream.getReader() if which == "readable" else stream.getWriter()
            refused = made.close()
            assert refused is not made.closed
            with pytest.raises(SocketError, match="its streams are locked") as caught:
                await refused
            assert caught.value.code == "state"
            assert made.closed._is_pending()
            lock.releaseLock()
            await made.close()

    async def test_close_refuses_before_the_socket_is_open(self) -> None:
        async with UDPSocket(remoteAddress="127.0.0.1", remotePort=9) as made:
            pass
        made = UDPSocket(remoteAddress="127.0.0.1", remotePort=9)
        with pytest.raises(SocketError, match="has not been open") as caught:
            await made.close()
        assert caught.value.code == "state"
        await made.opened
        await made.close()

    async def test_close_with_a_reason_ends_it_while_it_is_read_and_written(
        self,
    ) -> None:
        async with pair() as (bound, _):
            reader, results = bound.readable.getReader(), []

            async def read() -> None:
                results.append(await reader.read())

            async def resolver(host: str, port: int) -> Iterable[tuple[int, str]]:
                await loops.sleep_forever()
                raise AssertionError

            made = UDPSocket(localAddress="127.0.0.1", resolver=resolver)
            info = await made.opened
            reader = info.readable.getReader()
            writer = info.writable.getWriter()
            queued = writer.write(UDPMessage(b"", "host.example", 9))
            async with loops.open_nursery() as nursery:
                nursery.start_soon(read)
                await settle()
                closed = made.close("enough")
                assert closed is made.closed
            assert results == [(None, True)]
            await closed
            for promise in (queued, writer.closed, writer.write(b"")):
                with pytest.raises(AbortError, match="enough"):
                    await promise
            # A reason that comes too late changes nothing.
            assert made.close("more") is closed

    async def test_leaving_the_block_closes_whoever_holds_the_streams(self) -> None:
        async with UDPSocket(localAddress="127.0.0.1") as made:
            info = await made.opened
            reader = info.readable.getReader()
            pending = reader.read()
            writer = info.writable.getWriter()
        assert await pending == (None, True)
        with pytest.raises(SocketError, match="was closed"):
            await writer.closed
        await made.closed
        assert fd_of(made) == -1

    @pytest.mark.parametrize("order", [("cancel", "close"), ("abort", "cancel")])
    async def test_it_closes_once_both_streams_have_ended(
        self, order: tuple[str, str]
    ) -> None:
        made = UDPSocket(localAddress="127.0.0.1")
        info = await made.opened
        calls: dict[str, Any] = {
            "cancel": info.readable.cancel,
            "close": info.writable.close,
            "abort": lambda: info.writable.abort(ValueError("mine")),
        }
        first, second = order
        await calls[first]()
        await settle()
        assert made.closed._is_pending()
        assert fd_of(made) >= 0
        await calls[second]()
        await made.closed
        assert fd_of(made) == -1

    async def test_one_stream_lives_on_without_the_other(self) -> None:
        async with pair() as (bound, connected):
            await bound.readable.cancel()
            writer = bound.writable.getWriter()
            await writer.write(
                UDPMessage(b"still sent", "127.0.0.1", connected.localPort)
            )
            assert (
                await connected.readable.getReader().read()
            ).value.data == b"still sent"
            await connected.writable.close()
            await writer.close()
            with pytest.raises(TypeError, match="closed before"):
                await connected.writable.getWriter().write(b"")

    async def test_a_signal_ends_it(self) -> None:
        controller = AbortController()
        made = UDPSocket(localAddress="127.0.0.1", signal=controller.signal)
        info = await made.opened
        pending = info.readable.getReader().read()
        controller.abort(ValueError("mine"))
        assert await pending == (None, True)
        with pytest.raises(ValueError, match="mine"):
            await info.writable.getWriter().write(UDPMessage(b"", "::1", 9))
        await made.closed
        # It has let go of the signal.
        controller = AbortController()
        async with UDPSocket(localAddress="127.0.0.1", signal=controller.signal):
            pass
        controller.abort("too late")

    @pytest.mark.parametrize("bound", [True, False])
    async def test_a_signal_that_is_aborted_already_opens_nothing(
        self, bound: bool
    ) -> None:
        members: dict[str, Any] = (
            {"localAddress": "127.0.0.1"}
            if bound
            else {"remoteAddress": "host.example", "remotePort": 9}
        )
        names = Names([])
        made = UDPSocket(members, signal=AbortSignal.abort("no"), resolver=names)
        with pytest.raises(AbortError, match="no"):
            await made.opened
        await made.closed
        await settle()
        assert names.asked == []

    async def test_a_signal_of_another_make_will_do(self) -> None:
        class Signal:
            aborted = False
            reason = "enough"

            def addEventListener(self, *arguments: Any, **_: Any) -> None:
                self.arguments = arguments

        signal = Signal()
        made = UDPSocket(localAddress="127.0.0.1", signal=signal)
        info = await made.opened
        signal.arguments[1](None)
        await made.closed
        with pytest.raises(AbortError, match="enough"):
            await info.writable.getWriter().closed

    async def test_a_nursery_that_is_cancelled_ends_it(self) -> None:
        async with loops.native_nursery() as (nursery, cancel):
            made = UDPSocket(localAddress="127.0.0.1", nursery=nursery)
            await made.opened
            await settle()
            cancel()
        await made.closed
        assert fd_of(made) == -1
        with pytest.raises(SocketError, match="nursery was cancelled"):
            await (await made.opened).writable.getWriter().closed

    async def test_a_nursery_waits_for_the_end_of_the_socket(self) -> None:
        with loops.fail_after(5):
            async with loops.native_nursery() as (nursery, _):
                made = UDPSocket(localAddress="127.0.0.1", nursery=nursery)
                await settle()
                await made.close()
            async with loops.native_nursery() as (nursery, _):
                failed = UDPSocket(localAddress="192.0.2.1", nursery=nursery)
        with pytest.raises(SocketError):
            await failed.opened

    @pytest.mark.parametrize("how", ["reason", "cancel", "signal", "nursery"])
    async def test_a_lookup_that_takes_too_long_can_be_given_up(self, how: str) -> None:
        asked, ended = loops.Event(), loops.Event()

        async def resolver(host: str, port: int) -> Iterable[tuple[int, str]]:
            asked.set()
            try:
                await loops.sleep_forever()
            finally:
                ended.set()
            raise AssertionError

        controller = AbortController()
        async with loops.native_nursery() as (nursery, cancel):
            made = UDPSocket(
                remoteAddress="host.example",
                remotePort=9,
                resolver=resolver,
                signal=controller.signal,
                nursery=nursery if how == "nursery" else None,
            )
            await asked.wait()
            if how == "reason":
                await made.close("enough")
            elif how == "signal":
                controller.abort("enough")
            elif how == "nursery":
                cancel()
            else:
                with loops.move_on_after(0):
                    async with made:
                        raise AssertionError
        with pytest.raises((AbortError, SocketError)):
            await made.opened
        await made.closed
        with loops.fail_after(5):
            await ended.wait()

    async def test_a_name_that_resolves_after_the_end_opens_nothing(self) -> None:
        async def resolver(host: str, port: int) -> Iterable[tuple[int, str]]:
            made.close("enough")
            return [(V4, "127.0.0.1")]

        made = UDPSocket(remoteAddress="host.example", remotePort=9, resolver=resolver)
        with pytest.raises(AbortError):
            await made.opened
        await settle()
        assert made._datagrams is None


class TestCancellation:
    async def test_cancelled_at_every_step_it_leaves_nothing(self) -> None:
        async def resolver(host: str, port: int) -> Iterable[tuple[int, str]]:
            await loops.checkpoint()
            return [(V4, "127.0.0.1")]

        async def scenario() -> None:
            async with UDPSocket(localAddress="127.0.0.1", resolver=resolver) as one:
                bound = await one.opened
                port = bound.localPort
                async with UDPSocket(
                    remoteAddress="host.example", remotePort=port, resolver=resolver
                ) as other:
                    there = await other.opened
                    reader = there.readable.getReader()
                    writer = there.writable.getWriter()
                    back = bound.writable.getWriter()
                    await writer.ready
                    async with loops.open_nursery() as nursery:

                        async def answer() -> None:
                            await loops.checkpoint()
                            message = (await bound.readable.getReader().read()).value
                            await back.write(
                                UDPMessage(
                                    message.data, "host.example", message.remotePort
                                )
                            )

                        nursery.start_soon(answer)
                        await writer.write(b"question")
                        value, done = await reader.read()
                        assert not done
                        assert value.data == b"question"
                    await writer.close()
                    await back.close()
                    await reader.cancel()
                    await other.closed

        before, running = Snapshot.take(), tasks()
        for way in ways():
            for steps in itertools.count(1):
                interrupter = await interrupted(steps, scenario, way=way)
                await settle()
                assert left_behind(before) == []
                assert tasks() == running
                if interrupter.left > 0:
                    break
            assert steps > 10

    async def test_an_open_socket_has_no_task(self) -> None:
        running = tasks()
        async with pair() as (_, connected):
            await connected.writable.getWriter().write(b"x")
            await settle()
            assert tasks() == running

    async def test_a_socket_that_nobody_holds_is_the_garbage_collectors(self) -> None:
        made = UDPSocket(localAddress="127.0.0.1")
        await made.opened
        fd = fd_of(made)
        del made
        with pytest.warns(ResourceWarning, match="unclosed"):
            gc.collect()
        with pytest.raises(OSError, match="Bad file"):
            socket.fromfd(fd, V4, socket.SOCK_DGRAM)
