"""The migrations of SQLite files, and of the rows that older versions left in them."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from contact_gateway.access.api_keys import mint
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    PageRequest,
)
from contact_gateway.store import advertisers, api_keys, checks, contacts, schema_version
from contact_gateway.store.database import Database
from contact_gateway.store.schema_version import SchemaNotCurrentError, newest_revision
from contact_gateway.store.tables import metadata
from support.databases import Engine, database_at
from support.older_database import NOW, add_advertisers, add_contact, create_tables
from support.schema_comparison import differences, is_text_index
from support.text_index import check as check_text_index
from support.text_index import index_waiting_rows

pytestmark = pytest.mark.anyio

Shape = dict[str, object]


@pytest.fixture
def engine() -> Engine:
    """Run these tests on SQLite alone."""
    return Engine.SQLITE


@pytest.fixture
def empty_file(empty_database: Database) -> Path:
    file = Path(empty_database.address.label)
    file.touch()
    return file


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection to the file that does not use the code under test."""
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as connection:
        yield connection


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
        if name != "alembic_version" and not is_text_index(name)
        for columns in [inspector.get_columns(name)]
    }


def _sql(connection: sqlite3.Connection) -> list[object]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


async def test_the_migrations_create_the_tables_of_the_code(
    empty_database: Database,
) -> None:
    await schema_version.migrate(empty_database)

    assert await empty_database.read(differences) == []


async def test_the_comparison_finds_a_difference(
    empty_database: Database, plain: sqlite3.Connection
) -> None:
    await schema_version.migrate(empty_database)
    plain.execute("ALTER TABLE contacts ADD COLUMN shoe_size TEXT")

    assert len(await empty_database.read(differences)) == 1


async def test_migrated_and_created_tables_have_the_same_keys_names_and_defaults(
    empty_database: Database, tmp_path: Path
) -> None:
    await schema_version.migrate(empty_database)
    created = database_at(f"sqlite:///{tmp_path / 'created.db'}")
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
    assert Path(empty_database.address.label) == empty_file

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

    with pytest.raises(SchemaNotCurrentError, match=r"0010, .*9999.*contact-gateway migrate"):
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


@pytest.fixture
async def older(empty_database: Database, plain: sqlite3.Connection) -> sqlite3.Connection:
    """Return a database of the version before the folded columns, with two brands."""
    await empty_database.write(create_tables)
    add_advertisers(plain)
    return plain


def _keys(plain: sqlite3.Connection) -> list[str]:
    return [row[0] for row in plain.execute("SELECT email_key FROM contacts ORDER BY id")]


async def test_rows_of_an_older_version_are_found_by_their_folded_text(
    empty_database: Database, older: sqlite3.Connection
) -> None:
    add_contact(older, "maya@b\u00fccher.example")

    report = await schema_version.migrate(empty_database)

    def found(connection: Connection) -> tuple[object, ...]:
        first = PageRequest(1, 25)
        return (
            len(contacts.page(connection, ContactFilter(q="JOS\u00c9"), first).items),
            len(contacts.page(connection, ContactFilter(q="xn--bcher"), first).items),
            len(
                contacts.page(connection, ContactFilter(domain="b\u00fccher.example"), first).items
            ),
            len(advertisers.page(connection, AdvertiserFilter(q="caf\u00e9"), first).items),
            advertisers.by_slug(connection, "CAF\u00c9") is not None,
        )

    assert await empty_database.read(found) == (1, 1, 1, 1, True)
    assert _keys(older) == ["maya@xn--bcher-kva.example"]
    assert await empty_database.read(differences) == []
    assert len(report) == 1
    assert "Advertiser 3 has the network 'hienergy'" in report[0]


async def test_a_start_refuses_an_older_database(
    empty_database: Database, older: sqlite3.Connection
) -> None:
    add_contact(older, "maya@example.com")
    before = list(older.iterdump())

    with pytest.raises(SchemaNotCurrentError, match=r"0004, .*0010.*contact-gateway migrate"):
        await schema_version.prepare(empty_database)

    assert list(older.iterdump()) == before


async def test_a_migrated_row_equals_one_that_is_stored_now(
    empty_database: Database, older: sqlite3.Connection
) -> None:
    await schema_version.migrate(empty_database)
    columns = "SELECT slug_key, domain_key, folded_names, folded_text FROM advertisers WHERE id = 1"
    migrated = older.execute(columns).fetchone()

    await empty_database.write(
        lambda connection: advertisers.upsert(
            connection, advertisers.by_id(connection, [1]).values()
        )
    )

    assert older.execute(columns).fetchone() == migrated


@pytest.mark.parametrize(
    ("emails", "keys", "pairs"),
    [
        pytest.param(
            ["\u017fam@example.com", "sam@example.com"],
            ["sam@example.com", "sam@example.com #2"],
            [(1, 2)],
            id="the key of the older one changes",
        ),
        pytest.param(
            ["sam@example.com", "\u017fam@example.com"],
            ["sam@example.com", "sam@example.com #2"],
            [(1, 2)],
            id="the key of the newer one changes",
        ),
        pytest.param(
            ["\u017fa\u017f@example.com", "\u017fas@example.com", "sas@example.com"],
            ["sas@example.com", "sas@example.com #2", "sas@example.com #3"],
            [(1, 3), (1, 2)],
            id="three",
        ),
        pytest.param(
            ["\u00df@example.com", "\uff53s@example.com", "other@example.com"],
            ["ss@example.com", "ss@example.com #2", "other@example.com"],
            [(1, 2)],
            id="both keys change",
        ),
    ],
)
async def test_contacts_that_became_equal_are_kept_and_reported(
    empty_database: Database,
    older: sqlite3.Connection,
    emails: list[str],
    keys: list[str],
    pairs: list[tuple[int, int]],
) -> None:
    for email in emails:
        add_contact(older, email)
    add_contact(older, emails[0], advertiser_id=2)

    report = await schema_version.migrate(empty_database)

    assert _keys(older) == [*keys, keys[0]]
    assert [row[0] for row in older.execute("SELECT email FROM contacts")][:-1] == emails
    assert [line.split(" have ")[0] for line in report[1:]] == [
        f"Contacts {first} and {second} of advertiser 1" for first, second in pairs
    ]
    assert not any("@" in line for line in report)


async def test_contacts_that_became_equal_are_both_found_by_their_address(
    empty_database: Database, older: sqlite3.Connection
) -> None:
    for email in ("\u017fam@example.com", "sam@example.com", "sam@example.com.example"):
        add_contact(older, email)
    await schema_version.migrate(empty_database)

    def found(connection: Connection) -> list[int]:
        wanted = ContactFilter(email="SAM@example.com")
        page = contacts.page(connection, wanted, PageRequest(1, 25))
        return [contact.id for contact in page.items]

    assert await empty_database.read(found) == [2, 1]


async def test_many_rows_are_migrated(empty_database: Database, older: sqlite3.Connection) -> None:
    older.execute("BEGIN")
    for number in range(2_500):
        add_contact(older, f"\u00df{number}@example.com")
    older.execute("COMMIT")

    await schema_version.migrate(empty_database)

    assert _keys(older) == [f"ss{number}@example.com" for number in range(2_500)]


async def test_stored_idempotency_keys_lose_their_quotes_unless_both_were_used(
    empty_database: Database, older: sqlite3.Connection
) -> None:
    add_contact(older, "maya@example.com")
    older.execute(
        "INSERT INTO api_keys (id, lookup, secret_hash, role, label, created_at)"
        " VALUES (1, 'x', x'00', 'admin', 'ci', ?)",
        (NOW,),
    )
    older.executemany(
        "INSERT INTO idempotency_records VALUES (1, ?, x'00', 1, ?)",
        [(key, NOW) for key in ('"k-1"', '"k-2"', "k-2", '"k-3', "k-4")],
    )

    await schema_version.migrate(empty_database)

    rows = older.execute("SELECT idempotency_key FROM idempotency_records")
    assert {row[0] for row in rows} == {"k-1", '"k-2"', "k-2", '"k-3', "k-4"}


async def test_a_new_database_has_nothing_to_report(empty_database: Database) -> None:
    assert await schema_version.migrate(empty_database) == []


async def test_keys_of_an_older_version_keep_their_secret_and_have_no_known_use(
    empty_database: Database, older: sqlite3.Connection
) -> None:
    minted = mint()
    older.execute(
        "INSERT INTO api_keys (id, lookup, secret_hash, role, label, created_at, revoked_at)"
        " VALUES (1, ?, ?, 'admin', 'ci', ?, NULL)",
        (minted.lookup, minted.secret_hash, NOW),
    )

    await schema_version.migrate(empty_database)

    (key,) = await empty_database.read(api_keys.all_keys)
    assert (key.lookup, key.secret_hash) == (minted.lookup, minted.secret_hash)
    assert (key.old_secret_hash, key.old_secret_expires_at, key.last_used_on) == (None,) * 3


@pytest.fixture
async def with_two_indexes(
    empty_database: Database, plain: sqlite3.Connection
) -> sqlite3.Connection:
    """Return a database of the version before the one index of addresses.

    Its newest contact is deleted. The oldest was created with an idempotency key.
    """
    await empty_database.write(partial(create_tables, revision="0007"))
    add_advertisers(plain)
    for email in ("maya@example.com", "omar@example.com", "gone@example.com"):
        add_contact(plain, email)
    plain.execute("DELETE FROM contacts WHERE id = 3")
    plain.execute(
        "INSERT INTO api_keys (id, lookup, secret_hash, role, label, created_at)"
        " VALUES (1, 'x', x'00', 'admin', 'ci', ?)",
        (NOW,),
    )
    plain.execute("INSERT INTO idempotency_records VALUES (1, 'k-1', x'ff00', 1, ?)", (NOW,))
    return plain


def _rows(connection: sqlite3.Connection) -> dict[str, list[object]]:
    """Return the rows of all tables but the index of text."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {
        name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=str)  # noqa: S608 - names of tables
        for (name,) in names
        if name != "alembic_version"
        and (not is_text_index(name) or name == "advertisers_text_waiting")
    }


@pytest.mark.parametrize("kept", [2, 0], ids=["contacts", "no contacts"])
async def test_contacts_that_are_copied_keep_their_ids_their_records_and_the_next_id(
    empty_database: Database, with_two_indexes: sqlite3.Connection, kept: int
) -> None:
    if kept == 0:
        with_two_indexes.execute("DELETE FROM idempotency_records")
        with_two_indexes.execute("DELETE FROM contacts")
    before = _rows(with_two_indexes)
    assert len(before["contacts"]) == kept

    await schema_version.migrate(empty_database)

    assert _rows(with_two_indexes) == before
    assert checks.inspect(with_two_indexes).problems == []
    add_contact(with_two_indexes, "new@example.com")
    assert with_two_indexes.execute("SELECT max(id) FROM contacts").fetchone() == (4,)


async def test_contacts_that_are_copied_keep_their_index_of_text(
    empty_database: Database, with_two_indexes: sqlite3.Connection
) -> None:
    def index(connection: Connection) -> None:
        index_waiting_rows(connection, "contacts", 1)

    await empty_database.write(index)

    await schema_version.migrate(empty_database)

    with_two_indexes.execute("UPDATE contacts SET folded_text = 'auk' WHERE id = 1")
    with_two_indexes.execute("DELETE FROM contacts WHERE id = 2")
    add_contact(with_two_indexes, "new@example.com")
    await empty_database.write(partial(check_text_index, table="contacts"))


async def test_a_contact_that_was_copied_is_deleted_with_its_idempotency_records(
    empty_database: Database, with_two_indexes: sqlite3.Connection
) -> None:
    await schema_version.migrate(empty_database)

    with_two_indexes.execute("PRAGMA foreign_keys=ON")
    with_two_indexes.execute("DELETE FROM contacts WHERE id = 1")

    assert _rows(with_two_indexes)["idempotency_records"] == []


async def test_views_and_triggers_of_operators_are_kept(
    empty_database: Database, with_two_indexes: sqlite3.Connection
) -> None:
    with_two_indexes.execute("CREATE VIEW addresses AS SELECT email FROM contacts")
    with_two_indexes.execute(
        "CREATE TRIGGER kept INSTEAD OF DELETE ON addresses BEGIN SELECT RAISE(IGNORE); END"
    )
    own = "SELECT name, sql FROM sqlite_schema WHERE name IN ('addresses', 'kept')"
    before = with_two_indexes.execute(own).fetchall()

    await schema_version.migrate(empty_database)

    assert with_two_indexes.execute(own).fetchall() == before


async def test_a_copy_of_the_contacts_that_fails_is_rolled_back(
    empty_database: Database, with_two_indexes: sqlite3.Connection
) -> None:
    # It is created after the copy.
    with_two_indexes.execute("CREATE INDEX ix_contacts_email_key_advertiser_id ON advertisers (id)")
    before = list(with_two_indexes.iterdump())

    with pytest.raises(SchemaNotCurrentError, match="already exists"):
        await schema_version.migrate(empty_database)

    assert list(with_two_indexes.iterdump()) == before
