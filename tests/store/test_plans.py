"""The statements of each request use indexes, so their time does not grow with the tables."""

import sqlite3
from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contacts.source import ContactFilter, Creation, PageRequest
from contact_gateway.store import advertisers, api_keys, contacts, idempotency
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from support.contacts import submitted
from support.databases import Engine

pytestmark = pytest.mark.anyio

ADVERTISER_IDS = (1001, 2001, 1002, 3001, 404)


@pytest.fixture
def engine() -> Engine:
    """Run these tests on SQLite alone."""
    return Engine.SQLITE


def _statements(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    """Run `work` and return its statements, with their parameters filled in."""
    statements: list[str] = []
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_trace_callback(statements.append)
    work(connection)
    driver.set_trace_callback(None)
    return statements


def _plan(connection: Connection, statement: str) -> list[str]:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
    return [row.detail for row in rows]


def _scans(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    """Run `work` and return the steps of its query plans that scan a whole table or index.

    Scans of `wanted`, the parameters of a prepared statement as a table, do not count.
    """
    steps = [
        step for statement in _statements(connection, work) for step in _plan(connection, statement)
    ]
    assert steps
    return [
        step
        for step in steps
        if step.startswith("SCAN") and step != "SCAN wanted" and "CONSTANT ROW" not in step
    ]


def _creations(admin: ApiKeyOwner, *, with_key: bool) -> list[Submitted]:
    return [
        Submitted(
            admin.key_id,
            admin.secret_hash,
            Creation(
                submitted(advertiser_id=advertiser_id, email=f"{advertiser_id}@example.com"),
                f"key {advertiser_id}" if with_key else None,
                dry_run=False,
            ),
        )
        for advertiser_id in ADVERTISER_IDS
    ]


@pytest.mark.parametrize("with_key", [False, True], ids=["without a key", "with a key"])
@pytest.mark.parametrize("batch", [1, len(ADVERTISER_IDS)], ids=["alone", "in a batch"])
async def test_a_creation_scans_no_table(
    database: Database, admin: ApiKeyOwner, batch: int, *, with_key: bool
) -> None:
    """Neither for new contacts nor for duplicates."""
    creations = _creations(admin, with_key=with_key)[:batch]
    for _ in range(2):
        scans = await database.write(
            lambda connection: _scans(
                connection, lambda connection: contacts.create(connection, creations)
            )
        )

        assert scans == []


@pytest.mark.parametrize(
    "look_up",
    [
        pytest.param(lambda connection: contacts.by_id(connection, [1, 2, 3]), id="contacts"),
        pytest.param(
            lambda connection: advertisers.by_id(connection, ADVERTISER_IDS), id="advertisers"
        ),
        pytest.param(
            lambda connection: advertisers.hienergy(connection, ADVERTISER_IDS), id="brands"
        ),
        pytest.param(lambda connection: api_keys.by_lookup(connection, ["a", "b"]), id="API keys"),
    ],
)
async def test_a_lookup_scans_no_table(
    database: Database, look_up: Callable[[Connection], object]
) -> None:
    assert await database.read(lambda connection: _scans(connection, look_up)) == []


async def test_a_purge_of_idempotency_keys_scans_no_table(
    database: Database,
) -> None:
    purge = idempotency.purge

    assert await database.write(lambda connection: _scans(connection, purge)) == []


async def test_a_table_scan_is_found(database: Database) -> None:
    scans = await database.read(
        lambda connection: _scans(
            connection,
            lambda connection: contacts.page(
                connection, ContactFilter(q="maya"), PageRequest(1, 25)
            ),
        )
    )

    assert [scan for scan in scans if scan.startswith("SCAN contacts")]
