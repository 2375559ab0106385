"""The migrations, and what a start does with a database of each schema version."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, Connection, inspect

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.settings import sqlite_url
from contact_gateway.store import schema_version
from contact_gateway.store.schema_version import SchemaNotCurrentError, newest_revision
from contact_gateway.store.sqlite import Database
from contact_gateway.store.tables import metadata

pytestmark = pytest.mark.anyio

Shape = dict[str, object]


@pytest.fixture
def file(url: URL) -> Path:
    return Path(str(url.database))


@pytest.fixture
def empty_file(file: Path) -> Path:
    file.touch()
    return file


@pytest.fixture
def plain(file: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to the file that does not use the code under test."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def _differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, metadata))


def _shape(connection: Connection) -> Shape:
    """Return all that SQLite reports about the tables, by name."""
    inspector = inspect(connection)
    return {
        name: (
            {column["name"]: {**column, "type": str(column["type"])} for column in columns},
            inspector.get_pk_constraint(name),
            sorted(inspector.get_foreign_keys(name), key=str),
            sorted(inspector.get_unique_constraints(name), key=str),
            sorted(inspector.get_indexes(name), key=str),
            inspector.get_table_options(name),
        )
        for name in inspector.get_table_names()
        if name != "alembic_version"
        for columns in [inspector.get_columns(name)]
    }


def _sql(connection: sqlite3.Connection) -> list[object]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


async def test_the_migrations_create_the_tables_of_the_code(
    empty_database: Database,
) -> None:
    await schema_version.migrate(empty_database)

    assert await empty_database.read(_differences) == []


async def test_the_comparison_finds_a_difference(
    empty_database: Database, plain: sqlite3.Connection
) -> None:
    await schema_version.migrate(empty_database)
    plain.execute("ALTER TABLE contacts ADD COLUMN shoe_size TEXT")

    assert len(await empty_database.read(_differences)) == 1


async def test_migrated_and_created_tables_have_the_same_keys_names_and_defaults(
    empty_database: Database, tmp_path: Path
) -> None:
    await schema_version.migrate(empty_database)
    created = Database(sqlite_url(f"sqlite:///{tmp_path / 'created.db'}"))
    await created.write(metadata.create_all)

    migrated_shape = await empty_database.read(_shape)
    created_shape = await created.read(_shape)
    await created.close()

    assert set(migrated_shape) == set(metadata.tables)
    assert migrated_shape == created_shape


@pytest.mark.parametrize("table", ["contacts", "api_keys"])
async def test_an_id_is_never_reused(
    empty_database: Database, plain: sqlite3.Connection, table: str
) -> None:
    await schema_version.migrate(empty_database)

    (sql,) = plain.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()

    assert "AUTOINCREMENT" in sql


async def test_migrating_twice_changes_nothing(
    empty_database: Database, plain: sqlite3.Connection
) -> None:
    await schema_version.migrate(empty_database)
    before = _sql(plain)

    await schema_version.migrate(empty_database)

    assert _sql(plain) == before
    assert await schema_version.revision(empty_database) == newest_revision()


async def test_a_migration_that_fails_is_rolled_back(
    empty_database: Database, plain: sqlite3.Connection
) -> None:
    # The last table of the first migration exists already.
    plain.execute("CREATE TABLE idempotency_records (x)")

    with pytest.raises(SchemaNotCurrentError, match="already exists"):
        await schema_version.migrate(empty_database)

    assert [row[0] for row in plain.execute("SELECT name FROM sqlite_master")] == [
        "idempotency_records"
    ]


async def test_a_new_file_gets_the_tables(empty_database: Database) -> None:
    await schema_version.prepare(empty_database)

    assert await schema_version.is_ready(empty_database)


async def test_an_empty_file_gets_the_tables(empty_database: Database, empty_file: Path) -> None:
    assert Path(str(empty_database.url.database)) == empty_file

    await schema_version.prepare(empty_database)

    assert await schema_version.revision(empty_database) == newest_revision()


async def test_a_current_database_is_not_changed(
    database: Database, plain: sqlite3.Connection
) -> None:
    before = list(plain.iterdump())

    await schema_version.prepare(database)

    assert list(plain.iterdump()) == before


async def test_an_older_database_is_refused_and_not_changed(
    database: Database, plain: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(plain.iterdump())
    monkeypatch.setattr(schema_version, "newest_revision", lambda: "9999")

    with pytest.raises(SchemaNotCurrentError, match=r"0004, .*9999.*contact-gateway migrate"):
        await schema_version.prepare(database)

    assert list(plain.iterdump()) == before


@pytest.mark.parametrize(
    "step", [schema_version.prepare, schema_version.migrate], ids=["prepare", "migrate"]
)
async def test_a_newer_database_is_refused_and_not_changed(
    database: Database,
    plain: sqlite3.Connection,
    step: Callable[[Database], Awaitable[None]],
) -> None:
    plain.execute("UPDATE alembic_version SET version_num = '9999'")
    before = list(plain.iterdump())

    with pytest.raises(SchemaNotCurrentError, match="9999"):
        await step(database)

    assert list(plain.iterdump()) == before


@pytest.mark.parametrize(
    "step", [schema_version.prepare, schema_version.migrate], ids=["prepare", "migrate"]
)
async def test_a_file_that_cannot_be_created_is_unavailable(
    unreachable_database: Database, step: Callable[[Database], Awaitable[None]]
) -> None:
    with pytest.raises(SourceUnavailable):
        await step(unreachable_database)


async def test_a_database_without_tables_is_not_ready(empty_database: Database) -> None:
    assert not await schema_version.is_ready(empty_database)


async def test_a_database_of_another_version_is_not_ready(
    database: Database, plain: sqlite3.Connection
) -> None:
    assert await schema_version.is_ready(database)

    plain.execute("UPDATE alembic_version SET version_num = 'other'")

    assert not await schema_version.is_ready(database)


async def test_a_database_that_does_not_answer_is_not_ready(
    unreachable_database: Database,
) -> None:
    assert not await schema_version.is_ready(unreachable_database)
