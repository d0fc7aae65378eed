"""The PostgreSQL driver of the examples, with a PostgreSQL server."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from docs.examples import postgres
from docs.examples.postgres import Postgres, PostgresError, Result
from tests import loops
from tests.servers import PostgreSQL
from tests.servers.tls import TlsFiles
from wsockets import AbortError, Binding, SocketError, TlsOptions

ROOT = Path(__file__).parents[2]

# One worker, one cluster.
pytestmark = [pytest.mark.every_loop, pytest.mark.xdist_group("postgresql")]


async def open_session(
    server: PostgreSQL,
    tls: TlsFiles,
    *,
    password: str | None = None,
    database: str | None = None,
) -> Postgres:
    return await Postgres.open(
        server.address,
        user=server.user,
        password=server.password if password is None else password,
        database=database or server.database,
        tls={"ca": tls.root.read_text()},
    )


@asynccontextmanager
async def session_with(server: PostgreSQL, tls: TlsFiles) -> AsyncIterator[Postgres]:
    session = await open_session(server, tls)
    yield session
    await session.close()


async def test_a_login_and_a_query(postgresql: PostgreSQL, tls_files: TlsFiles) -> None:
    async with session_with(postgresql, tls_files) as session:
        assert await session.query("select 6 * 7 as answer, null as nothing, ''") == [
            Result("SELECT 1", ("answer", "nothing", "?column?"), [("42", None, "")])
        ]
        (result,) = await session.query(
            "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"
        )
        assert result.rows == [("t", "TLSv1.3")]


async def test_several_statements_have_several_results(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    async with session_with(postgresql, tls_files) as session:
        results = await session.query(
            "create temp table cities (name text);"
            "insert into cities values ('Łódź'), ('東京');"
            "select name from cities order by name;"
        )
        assert [result.command for result in results] == [
            "CREATE TABLE",
            "INSERT 0 2",
            "SELECT 2",
        ]
        assert results[2].rows == [("Łódź",), ("東京",)]
        assert await session.query("") == []


async def test_much_data_goes_both_ways(
    postgresql: PostgreSQL, tls_files: TlsFiles, rng: random.Random
) -> None:
    text = rng.randbytes(1 << 20).hex()
    async with session_with(postgresql, tls_files) as session:
        (result,) = await session.query(f"select '{text}', length('{text}')")
        assert result.rows == [(text, str(len(text)))]
        (result,) = await session.query("select generate_series(1, 20000)")
        assert result.rows == [(str(number),) for number in range(1, 20001)]


async def test_an_error_is_raised_and_the_session_goes_on(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    async with session_with(postgresql, tls_files) as session:
        with pytest.raises(PostgresError, match="division by zero") as caught:
            await session.query("select 1 / 0")
        assert caught.value.code == "22012"
        with pytest.raises(PostgresError, match="nothing to copy"):
            await session.query("copy pg_class from stdin")
        with pytest.raises(ValueError, match="NUL"):
            await session.query("select '\0'")
        assert (await session.query("select 1"))[0].rows == [("1",)]


async def test_a_session_that_the_server_ends_is_over(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    async with session_with(postgresql, tls_files) as killer:
        victim = await open_session(postgresql, tls_files)
        (result,) = await victim.query("select pg_backend_pid()")
        await killer.query(f"select pg_terminate_backend({result.rows[0][0]})")
        with pytest.raises(PostgresError, match="administrator command") as caught:
            await victim.query("select 1")
        assert caught.value.fatal
        with pytest.raises(AbortError):
            await victim.query("select 1")


async def test_an_interrupted_query_ends_the_session(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    async with session_with(postgresql, tls_files) as watcher:
        sleeper = await open_session(postgresql, tls_files)
        asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        async with loops.open_nursery() as nursery:
            nursery.start_soon(sleeper.query, "select pg_sleep(60)")
            while not (await watcher.query(asleep))[0].rows:
                pass
            nursery.cancel_scope.cancel()
        with pytest.raises(AbortError):
            await sleeper.query("select 1")


@pytest.mark.parametrize("password", ["wrong", ""])
async def test_a_wrong_password_is_refused(
    password: str, postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    with pytest.raises(PostgresError, match="authentication failed") as caught:
        await open_session(postgresql, tls_files, password=password)
    assert caught.value.code == "28P01"


async def test_a_database_that_is_not_there_is_reported(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    with pytest.raises(PostgresError, match="nowhere") as caught:
        await open_session(postgresql, tls_files, database="nowhere")
    assert caught.value.code == "3D000"


async def test_a_server_that_is_not_trusted_gets_no_password(
    postgresql: PostgreSQL,
) -> None:
    with pytest.raises(SocketError) as caught:
        await Postgres.open(
            postgresql.address, user=postgresql.user, password=postgresql.password
        )
    assert caught.value.code == "tls-verify"


async def test_without_tls_there_is_no_session(postgresql: PostgreSQL) -> None:
    # PostgreSQL has no TLS on its unix socket, and answers "N" there.
    with pytest.raises(PostgresError, match="does not offer TLS"):
        await Postgres.open(
            postgresql.unix_address, user=postgresql.user, password=postgresql.password
        )


async def test_many_sessions_at_once(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    connect = Binding(tls=TlsOptions(ca=tls_files.root)).connect
    answers: dict[int, str | None] = {}

    async def ask(number: int) -> None:
        session = await Postgres.open(
            postgresql.address,
            user=postgresql.user,
            password=postgresql.password,
            database=postgresql.database,
            connect=connect,
        )
        (result,) = await session.query(f"select {number} * 2")
        answers[number] = result.rows[0][0]
        await session.close()

    async with loops.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert answers == {number: str(number * 2) for number in range(20)}


def test_the_example_runs_as_a_program(
    postgresql: PostgreSQL, tls_files: TlsFiles
) -> None:
    assert postgres.__file__ is not None
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", postgres.__file__),
            *(postgresql.address, postgresql.user, "select 1 as one, 2 as two"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PGPASSWORD": postgresql.password,
            "SSL_CERT_FILE": str(tls_files.root),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("SELECT 1\none\ntwo\n('1', '2')\n", "")
