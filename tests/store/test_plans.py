"""The statements of each request use indexes, so their time does not grow with the tables."""

import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, insert

from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    PageRequest,
)
from contact_gateway.store import advertisers, api_keys, contacts, idempotency
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from contact_gateway.store.tables import contacts as contacts_table
from support.contacts import submitted
from support.databases import Engine
from support.text_index import index_waiting_rows

pytestmark = pytest.mark.anyio

ADVERTISER_IDS = (1001, 2001, 1002, 3001, 404)
# The parameters of a prepared statement as a table, and the settings of the text index.
_SMALL = ("SCAN wanted", "SCAN main.contacts_text_config")


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
    # SQLite marks the statements of its own triggers and indexes as comments.
    return [statement for statement in statements if not statement.startswith("--")]


def _plan(connection: Connection, statement: str) -> list[str]:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
    return [row.detail for row in rows]


def _scans(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    """Run `work` and return the steps of its query plans that scan a whole table or index.

    Scans of the tables of a few rows do not count.
    """
    steps = [
        step for statement in _statements(connection, work) for step in _plan(connection, statement)
    ]
    assert steps
    return [
        step
        for step in steps
        if step.startswith("SCAN") and step not in _SMALL and "CONSTANT ROW" not in step
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


_LISTS: Mapping[str, ContactFilter | AdvertiserFilter] = {
    "contacts": ContactFilter(),
    "contacts of an advertiser": ContactFilter(advertiser_id=50_003),
    "contacts of an advertiser with a text": ContactFilter(advertiser_id=50_003, q="contact"),
    "contacts of a domain": ContactFilter(domain="brand3.example"),
    "contacts of a brand": ContactFilter(advertiser_name="brand 3 of"),
    "contacts of many brands": ContactFilter(advertiser_name="of many"),
    "contacts with an address": ContactFilter(email="contact3@example.com"),
    "contacts with a frequent text": ContactFilter(q="contact"),
    "contacts with a rare text": ContactFilter(q="zoe quist"),
    "contacts with a text that none has": ContactFilter(q="xyzzy"),
    "advertisers": AdvertiserFilter(),
    "advertisers with a frequent name": AdvertiserFilter(name="of many"),
    "advertisers with a rare text": AdvertiserFilter(q="brand 3 of"),
    "advertisers of a domain": AdvertiserFilter(domain="brand3.example"),
    "advertisers of a network": AdvertiserFilter(network="hienergy"),
    "advertisers of a brand": AdvertiserFilter(hienergy_id=50_003),
}


def _add_rows(connection: Connection, first: int, last: int) -> None:
    """Add brands, each with a contact."""
    numbers = range(first, last)
    advertisers.upsert(
        connection,
        [
            Advertiser(
                id=50_000 + number,
                name=f"Brand {number} of many",
                domain=f"brand{number}.example",
                network_name=HIENERGY_NETWORK,
                hienergy_id=50_000 + number,
            )
            for number in numbers
        ],
    )
    now = datetime.now(UTC)
    rows = [
        {
            "advertiser_id": 50_000 + number,
            "email": f"contact{number}@example.com",
            "email_key": f"contact{number}@example.com",
            "folded_text": f"contact{number}@example.com\n{'zoe quist' if number == 3 else ''}",
            "created_at": now,
            "updated_at": now,
        }
        for number in numbers
    ]
    connection.execute(insert(contacts_table), rows)
    for table in ("advertisers", "contacts"):
        index_waiting_rows(connection, table, 2**62)


def _steps(connection: Connection, wanted: ContactFilter | AdvertiserFilter) -> int:
    """Return how many instructions SQLite runs for a page, in hundreds."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    driver.set_progress_handler(count, 100)
    if isinstance(wanted, ContactFilter):
        contacts.page(connection, wanted, PageRequest(1, 10))
    else:
        advertisers.page(connection, wanted, PageRequest(1, 10))
    driver.set_progress_handler(None, 0)
    return steps


async def test_lists_take_as_many_steps_with_five_times_the_rows(database: Database) -> None:
    def work(connection: Connection) -> tuple[Mapping[str, int], Mapping[str, int]]:
        _add_rows(connection, 0, 2_000)
        few = {name: _steps(connection, wanted) for name, wanted in _LISTS.items()}
        _add_rows(connection, 2_000, 10_000)
        return few, {name: _steps(connection, wanted) for name, wanted in _LISTS.items()}

    few, many = await database.write(work)

    assert {name: steps for name, steps in many.items() if steps > 1.3 * few[name] + 10} == {}


async def test_a_list_that_takes_more_steps_is_found(database: Database) -> None:
    def work(connection: Connection) -> tuple[int, int]:
        _add_rows(connection, 0, 2_000)
        few = _steps(connection, ContactFilter(q="zz"))
        _add_rows(connection, 2_000, 10_000)
        return few, _steps(connection, ContactFilter(q="zz"))

    few, many = await database.write(work)

    assert many > 2 * few
