"""The schema version of a database: what a start and a migration do with it, on both systems.

What older SQLite files hold is in `test_migrations.py`.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final, NamedTuple, Self, TypeAlias

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Inspector, insert, inspect, select, text

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.database_url import SqliteFile
from contact_gateway.store import migrations, schema_version
from contact_gateway.store.database import Database
from contact_gateway.store.schema_version import SchemaNotCurrentError, newest_revision
from contact_gateway.store.tables import contacts
from support.advertiser_rows import insert_one
from support.clock import WATCHDOG_SECONDS
from support.databases import Engine, plain_connection, waits_for_a_lock
from support.older_database import create_tables
from support.schema_comparison import differences, is_text_index

pytestmark = pytest.mark.anyio

PROCESSES: Final = 4
LAST_THAT_CHANGED_ROWS: Final = "0006"
LAST_BEFORE_THE_INDEX_OF_ADDRESSES: Final = "0007"
CONTACT: Final = {
    "advertiser_id": 7,
    "email": "maya@example.com",
    "email_key": "maya@example.com",
    "folded_text": "maya@example.com",
    "created_at": datetime(2026, 1, 31, tzinfo=UTC),
    "updated_at": datetime(2026, 1, 31, tzinfo=UTC),
}
Step: TypeAlias = Callable[[Database], Coroutine[object, object, object]]
EITHER_STEP = pytest.mark.parametrize(
    "step", [schema_version.prepare, schema_version.migrate], ids=["prepare", "migrate"]
)


_Key: TypeAlias = tuple[str | None, ...]


class _Table(NamedTuple):
    """What a program that inserts into a table relies on."""

    columns: Mapping[str, Mapping[str, Any]]
    unique: frozenset[frozenset[str | None]]
    foreign_keys: list[object]
    indexes: frozenset[_Key]


def _tables(connection: Connection) -> dict[str, _Table]:
    inspector = inspect(connection)
    return {
        name: _Table(
            {
                column["name"]: {**column, "type": str(column["type"])}
                for column in inspector.get_columns(name)
            },
            frozenset(map(frozenset, unique)),
            sorted(inspector.get_foreign_keys(name), key=str),
            frozenset(unique).union(
                tuple(index.get("expressions", index["column_names"]))
                for index in inspector.get_indexes(name)
            ),
        )
        for name in (*inspector.get_table_names(), *inspector.get_view_names())
        for unique in [_unique_keys(inspector, name)]
    }


def _unique_keys(inspector: Inspector, table: str) -> Sequence[_Key]:
    """Return the columns of each unique key, whether a constraint or an index is it."""
    indexes = (each for each in inspector.get_indexes(table) if each["unique"])
    return [
        tuple(inspector.get_pk_constraint(table)["constrained_columns"]),
        *(tuple(each["column_names"]) for each in inspector.get_unique_constraints(table)),
        *(tuple(each["column_names"]) for each in indexes),
    ]


def _set_revision(database: Database, revision: str) -> None:
    with plain_connection(database.address) as connection:
        connection.execute(
            text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
        )


async def test_the_migrations_create_the_tables_of_the_code(empty_database: Database) -> None:
    await schema_version.migrate(empty_database)

    assert await empty_database.read(differences) == []
    assert await schema_version.revision(empty_database) == newest_revision()


async def test_the_comparison_finds_a_difference(database: Database) -> None:
    await database.write(
        lambda connection: connection.exec_driver_sql("ALTER TABLE contacts ADD COLUMN size TEXT")
    )

    assert len(await database.read(differences)) == 1


def test_the_newest_revision_is_the_last_one_of_alembic() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))

    assert scripts.get_heads() == [newest_revision()]


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    before = await database.read(_tables)

    # The server of the tests has not all extensions.
    assert not [line for line in await schema_version.migrate(database) if "pg_trgm" not in line]

    assert await database.read(_tables) == before


async def test_an_empty_database_gets_the_tables_at_the_start(empty_database: Database) -> None:
    assert not await schema_version.is_ready(empty_database)

    await schema_version.prepare(empty_database)

    assert await schema_version.is_ready(empty_database)


# Alembic works on one database at a time, so each start is a process.
_START: Final = """
import asyncio, sys
from sqlalchemy import Engine, event
from contact_gateway.store import schema_version
from support.databases import database_at

statements = []
event.listen(Engine, "after_cursor_execute", lambda *args: statements.append(args[2]))
database = database_at(sys.argv[1])
print("ready", flush=True)
input()
asyncio.run(getattr(schema_version, sys.argv[2])(database))
print(sum("CREATE TABLE contacts " in statement for statement in statements))
"""


class _Start:
    """A process that is about to start on a database."""

    def __init__(self, url: str, step: str) -> None:
        self._process: Final = subprocess.Popen(
            (sys.executable, "-c", _START, url, step),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("now\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def created_tables(self) -> int:
        """Wait for the end; return how often it created the contacts' table."""
        output, _ = self._process.communicate(timeout=WATCHDOG_SECONDS)
        assert self._process.returncode == 0
        return int(output)


@EITHER_STEP
async def test_of_many_that_start_on_an_empty_database_one_migrates_it_and_all_start(
    empty_database: Database, step: Step
) -> None:
    address = empty_database.address
    url = f"sqlite:///{address.path}" if isinstance(address, SqliteFile) else address.uri
    with ExitStack() as stack:
        starts = [stack.enter_context(_Start(url, step.__name__)) for _ in range(PROCESSES)]
        for start in starts:
            start.wait_until_ready()
        for start in starts:
            start.go()
        created = [start.created_tables() for start in starts]

    assert sorted(created) == [0] * (PROCESSES - 1) + [1]
    assert await empty_database.read(differences) == []
    assert await schema_version.is_ready(empty_database)


async def test_a_migration_that_fails_is_rolled_back(empty_database: Database) -> None:
    # The last table of the first migration exists already.
    await empty_database.write(
        lambda connection: connection.exec_driver_sql("CREATE TABLE idempotency_records (x TEXT)")
    )

    with pytest.raises(SchemaNotCurrentError, match="already exists"):
        await schema_version.migrate(empty_database)

    assert set(await empty_database.read(_tables)) == {"idempotency_records"}


async def test_a_start_refuses_an_older_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_version, "newest_revision", lambda: "9999")

    with pytest.raises(SchemaNotCurrentError, match=r"9999.*contact-gateway migrate"):
        await schema_version.prepare(database)

    assert not await schema_version.is_ready(database)


@EITHER_STEP
async def test_a_newer_database_is_refused_and_not_changed(database: Database, step: Step) -> None:
    before = await database.read(_tables)
    _set_revision(database, "9999")

    with pytest.raises(SchemaNotCurrentError, match=r"9999.*Upgrade contact-gateway"):
        await step(database)

    assert await database.read(_tables) == before
    assert await schema_version.revision(database) == "9999"


async def test_a_version_that_serves_stays_ready_while_a_newer_one_migrates(
    database: Database,
) -> None:
    """Migrations only add, or replace an index by one that finds the same rows."""
    assert await schema_version.is_ready(database)

    _set_revision(database, "9999")

    assert await schema_version.is_ready(database)


async def test_a_database_that_was_put_back_to_an_older_version_is_not_ready(
    database: Database,
) -> None:
    _set_revision(database, "0001")

    assert not await schema_version.is_ready(database)


@EITHER_STEP
async def test_an_unreachable_database_is_unavailable(
    unreachable_database: Database, step: Step
) -> None:
    with pytest.raises(SourceUnavailable):
        await step(unreachable_database)

    assert not await schema_version.is_ready(unreachable_database)


def _later_revisions() -> list[str]:
    """Return the migrations that run while the version before serves, in order."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    scripts = ScriptDirectory.from_config(config)
    revisions = [script.revision for script in scripts.walk_revisions()]
    return sorted(revision for revision in revisions if revision > LAST_THAT_CHANGED_ROWS)


def _check_that_it_only_adds(before: _Table, after: _Table) -> None:
    """Check that the statements of the version before still do what they did.

    The exception is an index: each creation writes all of them, and no statement names one. It may
    be replaced by another that finds the same rows by its first columns.
    """
    assert before.columns.items() <= after.columns.items()
    assert after.unique == before.unique
    assert after.foreign_keys == before.foreign_keys
    for key in before.indexes:
        assert any(set(key) == set(each[: len(key)]) for each in after.indexes), key
    for name in after.columns.keys() - before.columns.keys():
        added = after.columns[name]
        assert added["nullable"] or added["default"] is not None, name


async def test_migrations_only_add_so_that_the_version_before_can_serve(
    empty_database: Database,
) -> None:
    await empty_database.write(partial(create_tables, revision=LAST_THAT_CHANGED_ROWS))
    before = await empty_database.read(_tables)
    for revision in _later_revisions():
        await empty_database.write(partial(create_tables, revision=revision))
        after = await empty_database.read(_tables)
        assert before.keys() <= after.keys()
        for name, table in before.items():
            # Only triggers write to the indexes of text.
            if not is_text_index(name):
                _check_that_it_only_adds(table, after[name])
        before = after

    assert await schema_version.revision(empty_database) == newest_revision()


def _files(connection: Connection) -> Mapping[str, int]:
    """Return the number of the file of each table, which PostgreSQL replaces to rewrite it."""
    rows = connection.execute(
        text(
            "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = CAST('public' AS regnamespace)"
        )
    )
    return {row.relname: row.relfilenode for row in rows}


ON_POSTGRESQL = pytest.mark.parametrize("engine", [Engine.POSTGRESQL], ids=str, indirect=True)


@ON_POSTGRESQL
async def test_later_migrations_rewrite_no_table_on_postgresql(empty_database: Database) -> None:
    """The version before waits for a table that is rewritten, longer with more rows."""
    await empty_database.write(partial(create_tables, revision=LAST_THAT_CHANGED_ROWS))
    before = await empty_database.read(_files)
    for revision in _later_revisions():
        await empty_database.write(partial(create_tables, revision=revision))
        after = await empty_database.read(_files)
        assert before.items() <= after.items(), revision
        before = after


@ON_POSTGRESQL
async def test_a_table_that_is_rewritten_is_found(database: Database) -> None:
    before = await database.read(_files)

    await database.write(
        lambda connection: connection.exec_driver_sql(
            "ALTER TABLE contacts ALTER COLUMN created_through TYPE integer USING 0"
        )
    )
    after = await database.read(_files)

    assert before.keys() == after.keys()
    assert dict(before.items() - after.items()).keys() == {"contacts"}


async def test_a_creation_in_flight_is_stored_while_another_version_migrates(
    empty_database: Database,
) -> None:
    await empty_database.write(partial(create_tables, revision=LAST_BEFORE_THE_INDEX_OF_ADDRESSES))
    await insert_one(empty_database, network_name=HIENERGY_NETWORK, folded_text="")
    has_read, is_migrated = Event(), Event()

    def create(connection: Connection) -> None:
        """Read the contacts and then add one, as a creation does."""
        connection.execute(select(contacts.c.id)).all()
        has_read.set()
        # SQLite's migration has not begun: there is one writer.
        if connection.dialect.name == "postgresql":
            while not waits_for_a_lock(connection):
                assert not is_migrated.is_set()
            connection.exec_driver_sql("SET LOCAL lock_timeout='1ms'")
        connection.execute(insert(contacts).values(CONTACT))

    creation = asyncio.create_task(empty_database.write(create))
    await asyncio.to_thread(has_read.wait, WATCHDOG_SECONDS)
    try:
        await schema_version.migrate(empty_database)
    finally:
        is_migrated.set()

    await creation
    assert await empty_database.read(lambda connection: connection.scalar(select(contacts.c.id)))


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX ix_contacts_advertiser_id_id",
        "DROP INDEX ix_contacts_email_key_advertiser_id",
        "CREATE UNIQUE INDEX one_name ON contacts (name)",
        "ALTER TABLE contacts RENAME COLUMN phone TO telephone",
    ],
)
async def test_a_change_that_does_more_than_add_is_found(database: Database, change: str) -> None:
    before = await database.read(_tables)

    await database.write(lambda connection: connection.exec_driver_sql(change))
    after = await database.read(_tables)

    with pytest.raises(AssertionError):
        _check_that_it_only_adds(before["contacts"], after["contacts"])


async def test_a_new_column_that_older_versions_cannot_fill_is_found(database: Database) -> None:
    contacts = (await database.read(_tables))["contacts"]
    columns = {**contacts.columns, "size": {"nullable": False, "default": None}}

    with pytest.raises(AssertionError, match="size"):
        _check_that_it_only_adds(contacts, contacts._replace(columns=columns))
