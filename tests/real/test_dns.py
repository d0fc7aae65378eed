"""dig asks a name server that is written on UDPSocket (RFC 1035)."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests import loops
from wsockets import UDPMessage, UDPSocket, UDPSocketOpenInfo

pytestmark = pytest.mark.every_loop

ADDRESS = bytes((192, 0, 2, 7))
A, TXT = 1, 16
# RFC 1035, section 4.1.1: an authoritative response, and its code.
RESPONSE, NO_SUCH_NAME = 0x8400, 0x0003
RECURSION_WANTED = 0x0100
# One string of TXT; many of them make an answer as long as one likes.
STRING = bytes((255,)) + b"x" * 255


def question_of(query: bytes) -> tuple[list[bytes], int, bytes]:
    """The labels of the name, the type that is asked for, the question as it is."""
    labels, offset = [], 12
    while length := query[offset]:
        labels.append(query[offset + 1 : offset + 1 + length])
        offset += 1 + length
    (kind,) = struct.unpack_from("!H", query, offset + 1)
    return labels, kind, query[12 : offset + 5]


def answer_to(query: bytes) -> bytes:
    number, flags = struct.unpack_from("!HH", query)
    labels, kind, question = question_of(query)
    flags = RESPONSE | flags & RECURSION_WANTED
    records = b""
    if labels[-1] != b"example":
        flags |= NO_SUCH_NAME
    elif kind == A:
        records = record(A, ADDRESS)
    elif kind == TXT:
        records = record(TXT, STRING * int(labels[0]))
    header = struct.pack("!HHHHHH", number, flags, 1, bool(records), 0, 0)
    return header + question + records


def record(kind: int, data: bytes) -> bytes:
    # 0xC00C: the name is that of the question.
    return struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data


async def serve(info: UDPSocketOpenInfo) -> None:
    writer = info.writable.getWriter()
    async for query in info.readable:
        await writer.write(
            UDPMessage(answer_to(query.data), query.remoteAddress, query.remotePort)
        )


@asynccontextmanager
async def name_server(ip: str) -> AsyncIterator[int]:
    async with loops.open_nursery() as nursery, UDPSocket(localAddress=ip) as server:
        info = await server.opened
        nursery.start_soon(serve, info)
        yield info.localPort


async def dig(program: str, ip: str, port: int, *arguments: str) -> str:
    command = [
        *(program, "-r", f"@{ip}", "-p", str(port)),
        *("+tries=1", "+time=10", "+ignore", *arguments),
    ]
    done = await loops.run_process(command)
    return done.stdout.decode()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_an_address_is_told(peer: Callable[[str], str], ip: str) -> None:
    async with name_server(ip) as port:
        said = await dig(peer("dig"), ip, port, "+short", "host.example", "A")
    assert said == "192.0.2.7\n"


async def test_no_such_name(peer: Callable[[str], str]) -> None:
    async with name_server("127.0.0.1") as port:
        said = await dig(peer("dig"), "127.0.0.1", port, "host.test", "A")
    assert "status: NXDOMAIN" in said


async def test_many_ask_at_the_same_time(peer: Callable[[str], str]) -> None:
    said: list[str] = []

    async def ask(port: int) -> None:
        said.append(
            await dig(peer("dig"), "127.0.0.1", port, "+short", "host.example", "A")
        )

    async with name_server("127.0.0.1") as port, loops.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask, port)
    assert said == ["192.0.2.7\n"] * 8


async def test_an_answer_of_tens_of_thousands_of_bytes(
    peer: Callable[[str], str],
) -> None:
    async with name_server("127.0.0.1") as port:
        said = await dig(
            peer("dig"), "127.0.0.1", port, "+bufsize=65535", "200.example", "TXT"
        )
    assert said.count('"' + "x" * 255 + '"') == 200
    assert "MSG SIZE  rcvd: 51241" in said
