"""The indexes of text: SQLite's triggers keep one current, and PostgreSQL's is optional."""

from collections.abc import Sequence
from typing import Final

import pytest
from sqlalchemy import Connection, text

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, PageRequest
from contact_gateway.store import advertisers, contacts, schema_version, text_index
from contact_gateway.store.database import Database
from support.databases import Engine
from support.text_index import check, index_waiting_rows

pytestmark = pytest.mark.anyio

ALL = PageRequest(1, 100)
ACME = Advertiser(id=7001, name="Acme Anvils", network_name="CJ")


on_sqlite = pytest.mark.parametrize("engine", [Engine.SQLITE], indirect=True, ids=str)
on_postgresql = pytest.mark.parametrize("engine", [Engine.POSTGRESQL], indirect=True, ids=str)


def _found(connection: Connection, q: str) -> Sequence[int]:
    return [each.id for each in advertisers.page(connection, AdvertiserFilter(q=q), ALL).items]


def _insert(connection: Connection, *, is_indexed: bool) -> None:
    advertisers.upsert(connection, [ACME])
    if is_indexed:
        index_waiting_rows(connection, "advertisers", ACME.id)


@pytest.fixture(params=[True, False], ids=["indexed", "waiting"])
def is_indexed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@on_sqlite
async def test_a_text_is_found_once_it_is_stored(database: Database, *, is_indexed: bool) -> None:
    def work(connection: Connection) -> Sequence[int]:
        _insert(connection, is_indexed=is_indexed)
        check(connection, "advertisers")
        return _found(connection, "anvil")

    assert await database.write(work) == [ACME.id]


@on_sqlite
async def test_a_changed_text_is_found_instead_of_the_one_before(
    database: Database, *, is_indexed: bool
) -> None:
    def work(connection: Connection) -> tuple[Sequence[int], ...]:
        _insert(connection, is_indexed=is_indexed)
        advertisers.upsert(connection, [ACME._replace(name="Acme Hammers")])
        found = (_found(connection, "anvil"), _found(connection, "hammer"))
        check(connection, "advertisers")
        return (*found, _found(connection, "anvil"), _found(connection, "hammer"))

    assert await database.write(work) == ([], [ACME.id], [], [ACME.id])


@on_sqlite
async def test_another_change_does_not_touch_the_index(
    database: Database, *, is_indexed: bool
) -> None:
    def work(connection: Connection) -> int:
        _insert(connection, is_indexed=is_indexed)
        before = _waiting(connection)
        advertisers.upsert(connection, [ACME._replace(status="paused")])
        after = _waiting(connection)
        check(connection, "advertisers")
        return after - before

    assert await database.write(work) == 0


@on_sqlite
async def test_a_deleted_text_is_not_found(database: Database, *, is_indexed: bool) -> None:
    def work(connection: Connection) -> Sequence[int]:
        _insert(connection, is_indexed=is_indexed)
        connection.execute(text("DELETE FROM advertisers WHERE id = 7001"))
        check(connection, "advertisers")
        return _found(connection, "anvil")

    assert await database.write(work) == []


_CONTACT: Final = (
    "INSERT INTO contacts"
    " (id, advertiser_id, email, email_key, folded_text, created_at, updated_at)"
    " VALUES (?, 1001, ?, ?, 'anvil', '2026-01-31', '2026-01-31')"
)


@on_sqlite
@pytest.mark.parametrize("last_indexed", [0, 1, 3])
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE contacts SET folded_text = 'hammer' WHERE id = 1", [3]),
        ("UPDATE contacts SET status = 'paused' WHERE id = 1", [3, 1]),
        ("DELETE FROM contacts WHERE id = 3", [1]),
        # As a copy from another system may insert it.
        (_CONTACT.replace("?", "2"), [3, 2, 1]),
    ],
    ids=["changed", "changed otherwise", "deleted", "inserted below the end"],
)
async def test_the_text_of_a_contact_is_found_as_it_is_stored(
    database: Database, last_indexed: int, statement: str, found: Sequence[int]
) -> None:
    def work(connection: Connection) -> Sequence[int]:
        for an_id in (1, 3):
            connection.exec_driver_sql(_CONTACT, (an_id, an_id, an_id))
        index_waiting_rows(connection, "contacts", last_indexed)
        connection.exec_driver_sql(statement)
        items = contacts.page(connection, ContactFilter(q="anvil"), ALL).items
        check(connection, "contacts")
        assert contacts.page(connection, ContactFilter(q="anvil"), ALL).items == items
        return [each.id for each in items]

    assert await database.write(work) == found


@on_sqlite
async def test_texts_do_not_wait_for_ever(database: Database) -> None:
    def work(connection: Connection) -> int:
        # That none of them begins to index is less likely than one in 10^8.
        records = [ACME._replace(id=an_id) for an_id in range(10_001, 15_001)]
        advertisers.upsert(connection, records)
        waiting = _waiting(connection)
        check(connection, "advertisers")
        return waiting

    assert await database.write(work) < 5_000


@on_sqlite
async def test_texts_of_contacts_do_not_wait_for_ever(database: Database) -> None:
    # As above, one in 10^9.
    insert = (
        "INSERT INTO contacts"
        " (advertiser_id, email, email_key, folded_text, created_at, updated_at)"
        " WITH RECURSIVE numbers (number) AS"
        " (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 80000)"
        " SELECT 1001, number, number, 'anvil', '2026-01-31', '2026-01-31' FROM numbers"
    )

    def work(connection: Connection) -> int:
        connection.exec_driver_sql(insert)
        waiting = _waiting(connection, "contacts")
        check(connection, "contacts")
        return waiting

    assert await database.write(work) < 80_000


def _waiting(connection: Connection, table: str = "advertisers") -> int:
    query = f"SELECT count(*) FROM {table}_text_waiting"  # noqa: S608 - a constant
    count: int = connection.exec_driver_sql(query).scalar_one()
    return count


@on_postgresql
async def test_postgresql_has_an_index_or_the_operator_reads_why_not(
    empty_database: Database,
) -> None:
    report = await schema_version.migrate(empty_database)
    has_extension = await empty_database.read(
        lambda connection: connection.scalar(
            text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
        )
    )

    assert await empty_database.read(text_index.is_complete) == bool(has_extension)
    assert [line.split(",")[0] for line in report] == (
        [] if has_extension else ["Searches for text have no index"]
    )


@on_postgresql
async def test_each_migration_tries_to_create_the_missing_index(empty_database: Database) -> None:
    first = await schema_version.migrate(empty_database)

    assert await schema_version.migrate(empty_database) == first
