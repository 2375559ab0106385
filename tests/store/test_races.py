"""Creations by two processes on one PostgreSQL server, which has no single writer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final, Self

import psycopg
import pytest
from psycopg.abc import Params, Query
from sqlalchemy import Connection

from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contacts.contact import Contact, NewContact, new_contact
from contact_gateway.contacts.outcomes import CreateContactOutcome, Created
from contact_gateway.contacts.source import Creation
from contact_gateway.database_url import PostgresqlServer
from contact_gateway.store import contacts
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from support.contacts import KEY_REUSED, conflict
from support.databases import Engine, database_at

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("engine", [Engine.POSTGRESQL], ids=str, indirect=True),
]

WITHIN_SECONDS: Final = 60


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Database]:
    """Return the same database, as another process uses it."""
    assert isinstance(database.address, PostgresqlServer)
    opened = database_at(database.address.uri)
    yield opened
    await opened.close()


def _replayed(contact: Contact) -> CreateContactOutcome:
    return Created(contact, replayed=True)


def _key_reused(_: Contact) -> CreateContactOutcome:
    return KEY_REUSED


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        pytest.param("first", "maya", _replayed, id="same key, same input"),
        pytest.param("first", "noor", _key_reused, id="same key, other input"),
        pytest.param("second", "maya", conflict, id="other key, same address"),
        pytest.param(None, "maya", conflict, id="no key, same address"),
    ],
)
async def test_a_creation_sees_what_another_process_commits_before_any_of_its_statements(
    database: Database,
    other: Database,
    admin: ApiKeyOwner,
    key: str | None,
    name: str,
    expected: Callable[[Contact], CreateContactOutcome],
) -> None:
    for statements in count():
        later_key = None if key is None else f"{key}-{statements}"
        earlier = _submitted(admin, f"maya-{statements}@example.com", f"first-{statements}")
        later = _submitted(admin, f"{name}-{statements}@example.com", later_key)
        created, outcome = await _race(database, later, other, earlier, statements)
        if created is None:
            break
        assert outcome == expected(created.contact)
    # At least the advertiser, the API key, the address, and what they decide.
    assert statements > 3


async def _race(
    database: Database, later: Submitted, other: Database, earlier: Submitted, statements: int
) -> tuple[Created | None, CreateContactOutcome]:
    """Run a creation, and another one, which is committed after some statements of the first.

    Return what both are answered; None for the other if the first had inserted its row by then.
    """
    loop = asyncio.get_running_loop()
    created: list[CreateContactOutcome] = []

    def create_earlier() -> None:
        creating = asyncio.run_coroutine_threadsafe(_create(other, earlier), loop)
        created.append(creating.result(WITHIN_SECONDS))

    def create_later(connection: Connection) -> CreateContactOutcome:
        # Work is run again after a lost race.
        number = -1 if created else statements
        with _called_before_statement(connection, number, create_earlier):
            (outcome,) = contacts.create(connection, [later])
            return outcome

    outcome = await database.write(create_later)
    if not created:
        return None, outcome
    (first,) = created
    assert isinstance(first, Created)
    return first, outcome


@contextmanager
def _called_before_statement(
    connection: Connection, number: int, call: Callable[[], None]
) -> Iterator[None]:
    """Call a function before one of the statements up to the first insertion."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    queries: list[str] = []

    class Cursor(psycopg.RawCursor[tuple[object, ...]]):
        def execute(
            self,
            query: Query,
            params: Params | None = None,
            *,
            prepare: bool | None = None,
            binary: bool | None = None,
        ) -> Self:
            assert isinstance(query, str)
            has_inserted = any("INSERT" in earlier for earlier in queries)
            if len(queries) == number and not has_inserted:
                call()
            queries.append(query)
            return super().execute(query, params, prepare=prepare, binary=binary)

    driver.cursor_factory = Cursor
    try:
        yield
    finally:
        driver.cursor_factory = psycopg.RawCursor


def _submitted(admin: ApiKeyOwner, email: str, key: str | None) -> Submitted:
    contact = new_contact({"advertiser_id": 1001, "email": email})
    assert isinstance(contact, NewContact)
    return Submitted(admin.key_id, admin.secret_hash, Creation(contact, key, dry_run=False))


async def _create(database: Database, submitted: Submitted) -> CreateContactOutcome:
    (outcome,) = await database.write(lambda connection: contacts.create(connection, [submitted]))
    return outcome
