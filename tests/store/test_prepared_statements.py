"""Prepared statements, over a database of each engine."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, select

from contact_gateway.store.database import Database
from contact_gateway.store.prepared_statements import PreparedInsert, Row
from contact_gateway.store.tables import api_keys

pytestmark = pytest.mark.anyio

_INSERT = PreparedInsert(
    api_keys,
    ["lookup", "secret_hash", "role", "label", "is_demo", "created_at"],
    [api_keys.c.lookup, api_keys.c.id],
)


def _row(lookup: str) -> Row:
    return (lookup, bytes(32), "admin", "A label", False, datetime(2026, 1, 31, tzinfo=UTC))


def _stored(connection: Connection, lookups: Sequence[str]) -> dict[str, int]:
    columns = api_keys.c
    query = select(columns.lookup, columns.id).where(columns.lookup.in_(lookups))
    return {row.lookup: row.id for row in connection.execute(query)}


async def test_an_insert_returns_the_generated_id_of_each_row(database: Database) -> None:
    lookups = ("first", "second", "third")

    def work(connection: Connection) -> tuple[Sequence[Row], dict[str, int]]:
        inserted = _INSERT.rows(connection, [_row(lookup) for lookup in lookups])
        return inserted, _stored(connection, lookups)

    inserted, stored = await database.write(work)

    assert stored.keys() == {*lookups}
    assert {(lookup, an_id) for lookup, an_id in inserted} == {*stored.items()}


async def test_an_insert_leaves_out_rows_whose_keys_are_stored(database: Database) -> None:
    def work(connection: Connection) -> Sequence[Row]:
        _INSERT.rows(connection, [_row("first")])
        return _INSERT.rows(connection, [_row("first"), _row("second"), _row("first")])

    inserted = await database.write(work)

    assert [lookup for lookup, _ in inserted] == ["second"]


async def test_an_insert_of_no_rows_returns_none(database: Database) -> None:
    assert await database.write(lambda connection: _INSERT.rows(connection, [])) == []
