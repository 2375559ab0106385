"""A PostgreSQL server that restarts, ends connections, and rolls transactions back."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Barrier
from typing import Final

import psycopg
import pytest
from sqlalchemy import Connection, insert, select, text, update
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from contact_gateway.contacts.source import SearchTimedOut, SourceUnavailable
from contact_gateway.store import postgresql, schema_version
from contact_gateway.store.database import Database, open_database
from contact_gateway.store.postgresql import _Connection
from contact_gateway.store.tables import advertisers
from support.clock import WATCHDOG_SECONDS
from support.databases import database_at
from support.gateway import running_gateway
from support.postgresql_cluster import DATABASE, Server, postgresql_server
from support.process import clean_environment

pytestmark = pytest.mark.anyio

STARTS: Final = 3
ROW: Final = {"network_name": "CJ", "folded_names": "tern"}
_NAMES: Final = select(advertisers.c.name).order_by(advertisers.c.id)
_PORT: Final = text("SELECT inet_server_port()")
_BACKEND: Final = text("SELECT pg_backend_pid()")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server that only these tests use."""
    with postgresql_server() as running:
        yield running


@pytest.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    opened = database_at(server.url)
    await schema_version.prepare(opened)
    await opened.write(lambda connection: connection.execute(advertisers.delete()))
    yield opened
    await opened.close()


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Database]:
    """Return the same database, as another process uses it."""
    opened = open_database(database.address)
    yield opened
    await opened.close()


@pytest.fixture
def without_standby(
    server: Server,
    database: Database,  # noqa: ARG001 - is filled before
) -> Iterator[None]:
    """Let commits wait for a standby that does not exist."""
    server.require_standby("absent")
    yield
    server.require_standby("")


def _insert(connection: Connection, row_id: int) -> None:
    connection.execute(insert(advertisers).values(id=row_id, name=f"number {row_id}", **ROW))


def _add_to_name(connection: Connection, row_id: int) -> None:
    renamed = update(advertisers).where(advertisers.c.id == row_id)
    connection.execute(renamed.values(name=advertisers.c.name + " again"))


async def _names(database: Database) -> list[str]:
    return await database.read(lambda connection: list(connection.scalars(_NAMES)))


async def _ids(database: Database) -> list[int]:
    ids = select(advertisers.c.id).order_by(advertisers.c.id)
    return await database.read(lambda connection: list(connection.scalars(ids)))


async def test_a_restarted_server_is_used_again_without_an_error(
    server: Server, database: Database
) -> None:
    await database.write(lambda connection: _insert(connection, 1))
    assert await _ids(database) == [1]

    await asyncio.to_thread(server.restart)

    await database.write(lambda connection: _insert(connection, 2))
    assert await _ids(database) == [1, 2]


async def test_a_server_that_does_not_run_is_unavailable(
    server: Server, database: Database
) -> None:
    await asyncio.to_thread(server.kill)
    try:
        with pytest.raises(SourceUnavailable, match="refused"):
            await database.write(lambda connection: _insert(connection, 1))
        assert not await schema_version.is_ready(database)
    finally:
        await asyncio.to_thread(server.start)
    assert await schema_version.is_ready(database)
    assert await _ids(database) == []


async def test_a_gateway_that_starts_while_the_server_is_down_serves_once_it_is_up(
    server: Server,
    database: Database,  # noqa: ARG001 - has the tables
    tmp_path: Path,
) -> None:
    """Such as a worker that is replaced during a failover: it must not end the others."""
    await asyncio.to_thread(server.kill)
    try:
        async with running_gateway(tmp_path, database_url=server.url) as gateway:
            assert (await gateway.client.get("/readyz")).status_code == 503
            await asyncio.to_thread(server.start)
            assert (await gateway.client.get("/readyz")).status_code == 200
    finally:
        await asyncio.to_thread(server.start)


async def test_a_connection_that_is_lost_before_the_commit_is_opened_again(
    server: Server, database: Database
) -> None:
    lost: list[int] = []

    def insert_and_lose_the_connection(connection: Connection) -> None:
        if not lost:
            lost.append(connection.scalars(_BACKEND).one())
            server.execute(f"SELECT pg_terminate_backend({lost[0]}, 60000)")
        _insert(connection, 1)

    await database.write(insert_and_lose_the_connection)

    assert lost
    assert await _ids(database) == [1]


@pytest.mark.usefixtures("without_standby")
async def test_a_connection_that_is_lost_during_the_commit_is_unavailable_and_not_repeated(
    server: Server, database: Database
) -> None:
    """Whether the row is stored is unknown. Here it is, since only the answer was lost."""
    runs: list[int] = []

    def insert_once(connection: Connection) -> None:
        _insert(connection, 1)
        runs.append(connection.scalars(_BACKEND).one())

    writing = asyncio.create_task(database.write(insert_once))
    await asyncio.to_thread(_end_the_wait_for_a_standby, server, "pg_terminate_backend")

    with pytest.raises(SourceUnavailable):
        await writing
    assert len(runs) == 1
    assert await _ids(database) == [1]


@pytest.mark.usefixtures("without_standby")
async def test_a_commit_whose_wait_for_a_standby_is_cancelled_is_unavailable(
    server: Server, database: Database
) -> None:
    """PostgreSQL answers it with success, though a failover would lose it."""
    writing = asyncio.create_task(database.write(lambda connection: _insert(connection, 1)))
    await asyncio.to_thread(_end_the_wait_for_a_standby, server, "pg_cancel_backend")

    with pytest.raises(SourceUnavailable, match="synchronous replication"):
        await writing


@retry(
    retry=retry_if_result(lambda ended: not ended),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(WATCHDOG_SECONDS),
)
def _end_the_wait_for_a_standby(server: Server, function: str) -> list[tuple[object, ...]]:
    return server.execute(
        f"SELECT {function}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"  # noqa: S608
    )


async def test_a_deadlock_is_repeated(database: Database, other: Database) -> None:
    await database.write(lambda connection: _insert(connection, 1))
    await database.write(lambda connection: _insert(connection, 2))
    each_holds_one = Barrier(2)
    runs: list[int] = []

    def rename(connection: Connection, first: int, second: int) -> None:
        runs.append(first)
        _add_to_name(connection, first)
        if runs.count(first) == 1:
            each_holds_one.wait(WATCHDOG_SECONDS)
        _add_to_name(connection, second)

    await asyncio.gather(
        database.write(lambda connection: rename(connection, 1, 2)),
        other.write(lambda connection: rename(connection, 2, 1)),
    )

    assert len(runs) > 2
    assert await _names(database) == ["number 1 again again", "number 2 again again"]


async def test_a_transaction_that_meets_a_later_change_is_repeated(
    database: Database, other: Database
) -> None:
    await database.write(lambda connection: _insert(connection, 1))
    loop = asyncio.get_running_loop()
    runs: list[list[str]] = []

    def rename(connection: Connection) -> None:
        runs.append(list(connection.scalars(_NAMES)))
        if len(runs) == 1:
            changing = other.write(lambda connection: _add_to_name(connection, 1))
            asyncio.run_coroutine_threadsafe(changing, loop).result(WATCHDOG_SECONDS)
        _add_to_name(connection, 1)

    await database.write(rename)

    assert runs == [["number 1"], ["number 1 again"]]
    assert await _names(database) == ["number 1 again again"]


async def test_a_transaction_that_is_rolled_back_each_time_is_unavailable(
    database: Database, other: Database
) -> None:
    await database.write(lambda connection: _insert(connection, 1))
    loop = asyncio.get_running_loop()

    def rename(connection: Connection) -> None:
        connection.scalars(_NAMES).all()
        changing = other.write(lambda connection: _add_to_name(connection, 1))
        asyncio.run_coroutine_threadsafe(changing, loop).result(WATCHDOG_SECONDS)
        _add_to_name(connection, 1)

    with pytest.raises(SourceUnavailable, match="concurrent update"):
        await database.write(rename)


async def test_a_search_of_many_short_statements_is_stopped_after_its_timeout(
    database: Database,
) -> None:
    statements: list[int] = []

    def read_often(connection: Connection) -> None:
        for number in range(1000):
            statements.append(number)
            connection.execute(text("SELECT pg_sleep(0.05)"))

    with pytest.raises(SearchTimedOut):
        await database.search(read_often, 0.2)

    assert len(statements) < 1000
    assert await database.search(lambda connection: connection.scalar(text("SELECT 1")), 5) == 1


async def test_a_server_that_hangs_is_left_if_another_one_has_taken_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgresql, "SILENCE_SECONDS", 0.0)
    with postgresql_server() as old, postgresql_server() as new:
        # libpq tries the hosts in this order, and waits for at least two seconds.
        hosts = f"127.0.0.1:{old.port},127.0.0.1:{new.port}"
        database = database_at(f"postgresql://postgres@{hosts}/{DATABASE}?connect_timeout=2")

        def port_after_freezing(connection: Connection) -> object:
            port = connection.scalar(_PORT)
            if port == old.port:
                old.freeze()
            return connection.scalar(_PORT)

        assert await database.read(port_after_freezing) == new.port
        await database.close()


async def test_a_server_that_is_slow_is_waited_for(
    server: Server,
    database: Database,  # noqa: ARG001 - has the tables
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new connection reaches the same server, so this one may still answer."""
    monkeypatch.setattr(postgresql, "SILENCE_SECONDS", 0.0)
    looks: list[bool] = []
    is_replaced = _Connection._is_replaced  # noqa: SLF001 - it is watched, and done as before

    with psycopg.connect(server.url) as locking:
        locking.execute("LOCK TABLE advertisers")

        def look(connection: _Connection, conninfo: str) -> bool:
            looks.append(is_replaced(connection, conninfo))
            locking.rollback()
            return looks[-1]

        monkeypatch.setattr(_Connection, "_is_replaced", look)
        # Nothing listens at the second host.
        of_two_hosts = database_at(server.url.replace("/gateway", ",127.0.0.1:1/gateway"))
        assert await _ids(of_two_hosts) == []
        await of_two_hosts.close()

    assert looks
    assert not any(looks)


def test_processes_that_start_together_on_an_empty_database_migrate_it_once(
    tmp_path: Path,
) -> None:
    with postgresql_server() as server:
        with psycopg.connect(server.url) as first:
            # Another process that has begun to migrate, and ends without a commit.
            first.execute("CREATE TABLE alembic_version (version_num text)")
            processes = [_list_keys(server, tmp_path) for _ in range(STARTS)]
            _wait_for_lock(server)
            first.rollback()
        outputs = [process.communicate(timeout=WATCHDOG_SECONDS) for process in processes]

        assert [process.returncode for process in processes] == [0] * STARTS, outputs
        assert server.execute("SELECT version_num FROM alembic_version") == [
            (schema_version.newest_revision(),)
        ]


def _list_keys(server: Server, folder: Path) -> subprocess.Popen[str]:
    """Run a command that needs the tables."""
    return subprocess.Popen(
        (sys.executable, "-m", "contact_gateway", "keys", "list"),
        cwd=folder,
        env={**clean_environment(), "CONTACT_GATEWAY_DATABASE_URL": server.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


@retry(
    retry=retry_if_result(lambda waiting: waiting != [(STARTS,)]),
    wait=wait_fixed(0.05),
    stop=stop_after_delay(WATCHDOG_SECONDS),
)
def _wait_for_lock(server: Server) -> list[tuple[object, ...]]:
    """Wait until all processes wait for the first one's table."""
    return server.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
