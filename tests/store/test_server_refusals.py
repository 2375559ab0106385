"""Databases on a PostgreSQL server that refuse connections or statements: each says why."""

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, text

from contact_gateway.contacts.source import SearchTimedOut, SourceUnavailable
from contact_gateway.database_url import PostgresqlServer
from contact_gateway.store import postgresql, schema_version
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.database import Database
from support.databases import Engine, database_at, databases_on, plain_connection, server

pytestmark = pytest.mark.anyio

LONG = text("SELECT pg_sleep(60)")
WEAK = f"weak_{os.getpid()}"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Run these tests on PostgreSQL alone."""
    with databases_on(Engine.POSTGRESQL):
        yield Engine.POSTGRESQL


def _one(connection: Connection) -> object:
    return connection.scalar(text("SELECT 1"))


async def _refusal(url: str) -> str:
    database = database_at(url)
    with pytest.raises(SourceUnavailable) as refused:
        await database.read(_one)
    assert not await schema_version.is_ready(database)
    await database.close()
    return refused.value.reason


async def test_a_missing_database_is_unavailable(engine: Engine) -> None:
    assert engine is Engine.POSTGRESQL

    assert "does not exist" in await _refusal(server().url("no_such_database"))


async def test_a_missing_user_is_unavailable_and_no_password_is_shown(
    database: Database,
) -> None:
    assert isinstance(database.address, PostgresqlServer)
    options = conninfo_to_dict(database.address.uri) | {"user": "nobody", "password": "a-secret"}

    reason = await _refusal(f"postgresql:///?{urlencode(options)}")

    assert "nobody" in reason
    assert "a-secret" not in reason


async def test_a_database_in_another_encoding_is_refused(engine: Engine) -> None:
    assert engine is Engine.POSTGRESQL
    name = f"in_ascii_{os.getpid()}"
    server().execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")

    reason = await _refusal(server().url(name))
    server().drop(name)

    assert reason.endswith("the database is in SQL_ASCII; create one with ENCODING 'UTF8'")


async def test_a_statement_that_takes_too_long_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    timeout = "SET LOCAL statement_timeout='50ms'"
    monkeypatch.setattr(postgresql, "_BEGIN_READ", f"{postgresql._BEGIN_READ}; {timeout}")  # noqa: SLF001
    impatient = database_at(database.address)

    with pytest.raises(SourceUnavailable, match="canceling statement due to statement timeout"):
        await impatient.read(lambda connection: connection.execute(LONG))

    # The connection is still of use.
    assert await impatient.read(_one) == 1
    await impatient.close()


@pytest.fixture
def timed(database: Database) -> Database:
    """A database whose server has `transaction_timeout`, which ends the session."""
    with plain_connection(database.address) as connection:
        version = connection.scalar(text("SHOW server_version_num"))
    if int(version) < 170_000:
        pytest.skip("transaction_timeout needs PostgreSQL 17")
    return database


def _exceed_timeout(connection: Connection) -> None:
    connection.execute(text("SET LOCAL transaction_timeout = 1"))
    connection.execute(LONG)


async def test_a_transaction_that_the_server_ends_is_repeated(timed: Database) -> None:
    attempts = []

    def work(connection: Connection) -> int:
        attempts.append(connection)
        if len(attempts) == 1:
            _exceed_timeout(connection)
        return len(attempts)

    assert await timed.write(work) == 2


async def test_a_transaction_that_the_server_ends_each_time_is_unavailable(timed: Database) -> None:
    # On a busy machine, the session ends before the long statement is sent.
    with pytest.raises(SourceUnavailable, match=r"transaction timeout|closed the connection"):
        await timed.write(_exceed_timeout)


async def test_a_search_that_takes_too_long_is_stopped(database: Database) -> None:
    with pytest.raises(SearchTimedOut):
        await database.search(lambda connection: connection.execute(LONG), 0.05)

    assert await database.search(_one, 60) == 1


async def test_a_search_that_is_wrong_is_a_fault(database: Database) -> None:
    with pytest.raises(DatabaseFault, match="42703"):
        await database.search(lambda connection: connection.execute(text("SELECT nothing")), 60)


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(SourceUnavailable, match="read-only transaction"):
        await database.read(lambda connection: connection.execute(text("DELETE FROM contacts")))


async def test_a_database_that_became_read_only_is_not_ready(database: Database) -> None:
    """Such as a standby."""
    assert isinstance(database.address, PostgresqlServer)
    name = conninfo_to_dict(database.address.uri)["dbname"]
    assert await schema_version.is_ready(database)
    await database.close()

    # New sessions only have it.
    server().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    other = database_at(database.address)
    assert await other.read(_one) == 1
    assert not await schema_version.is_ready(other)

    server().execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert await schema_version.is_ready(other)
    await other.close()


@pytest.fixture
async def weak(database: Database) -> AsyncIterator[Database]:
    """The database, as a role without privileges uses it."""
    assert isinstance(database.address, PostgresqlServer)
    options = conninfo_to_dict(database.address.uri) | {"options": f"-c role={WEAK}"}
    server().execute(f"CREATE ROLE {WEAK}")
    weak = database_at(f"postgresql:///?{urlencode(options, quote_via=quote)}")
    yield weak
    await database.write(lambda connection: connection.execute(text(f"DROP OWNED BY {WEAK}")))
    await weak.close()
    server().execute(f"DROP ROLE {WEAK}")


async def test_a_role_without_a_privilege_is_unavailable_until_it_is_granted(
    database: Database, weak: Database
) -> None:
    with pytest.raises(SourceUnavailable, match="permission denied for table alembic_version"):
        await schema_version.revision(weak)
    assert not await schema_version.is_ready(weak)

    await database.write(_grant_all)
    assert await schema_version.is_ready(weak)


@pytest.mark.parametrize(
    "privilege",
    [
        "SELECT ON contacts",
        "INSERT ON contacts",
        "INSERT ON idempotency_records",
        "UPDATE ON advertisers",
        "INSERT ON attempts",
    ],
)
async def test_a_role_that_cannot_create_contacts_is_not_ready(
    database: Database, weak: Database, privilege: str
) -> None:
    """Such as after another role has restored or migrated the tables."""
    await database.write(_grant_all)
    revoke = text(f"REVOKE {privilege} FROM {WEAK}")
    await database.write(lambda connection: connection.execute(revoke))

    assert not await schema_version.is_ready(weak)


def _grant_all(connection: Connection) -> None:
    connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {WEAK}"))


async def test_a_server_whose_dates_are_not_in_iso_format_is_used(database: Database) -> None:
    assert isinstance(database.address, PostgresqlServer)
    name = conninfo_to_dict(database.address.uri)["dbname"]
    server().execute(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
    server().execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
    other = database_at(database.address)
    new_year = datetime(2027, 1, 2, tzinfo=UTC)

    query = text("SELECT CAST(:then AS timestamptz)").bindparams(then=new_year)
    assert await other.read(lambda connection: connection.scalar(query)) == new_year
    await other.close()


async def test_a_table_is_altered_while_it_is_used(database: Database) -> None:
    """A prepared statement cannot return another type than before."""
    query = text("SELECT label FROM api_keys")
    for use in (database.look_up, database.read, database.write):
        for _ in range(2):
            await use(lambda connection: connection.execute(query).all())

    with plain_connection(database.address) as connection:
        connection.execute(text("ALTER TABLE api_keys ALTER COLUMN label TYPE varchar(1000)"))

    for use in (database.look_up, database.read, database.write):
        assert await use(lambda connection: connection.execute(query).all()) == []


async def test_what_a_server_does_not_support_is_a_fault(database: Database) -> None:
    query = text("SELECT max(id) FROM contacts FOR UPDATE")

    with pytest.raises(DatabaseFault, match="0A000"):
        await database.write(lambda connection: connection.execute(query))
