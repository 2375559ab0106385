"""A batch of creations has the same outcomes as the creations one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import ApiKeyOwner, Role
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import Conflict, CreateContactOutcome, Created
from contact_gateway.contacts.source import Creation
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.store import api_keys, contacts
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from contact_gateway.store.tables import contacts as contacts_table
from contact_gateway.store.tables import idempotency_records
from support.contacts import submitted
from support.databases import plain_connection, set_next_id

# The fixture of the database is asynchronous.
pytestmark = pytest.mark.usefixtures("anyio_backend")

NOW = datetime.now(UTC)
KEYS = (mint(), mint())
ADMINS = tuple(
    ApiKeyOwner(key_id, "ci", Role.ADMIN, minted.secret_hash)
    for key_id, minted in enumerate(KEYS, start=1)
)

submissions = st.builds(
    submitted,
    # Two of one brand, one of another, one without a brand, and one that does not exist.
    advertiser_id=st.sampled_from([1001, 2001, 1002, 3001, 404]),
    email=st.sampled_from(["a@example.com", "A@example.com", "b@example.com", "c@example.com"]),
    name=st.sampled_from([None, "Maya"]),
)
creations = st.builds(
    lambda admin, **creation: Submitted(admin.key_id, admin.secret_hash, Creation(**creation)),
    admin=st.sampled_from(ADMINS),
    contact=submissions,
    idempotency_key=st.sampled_from([None, "k", "K", "l"]),
    dry_run=st.sampled_from([False, False, True]),
)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """Return a connection to a database with the admins' keys."""
    with plain_connection(database.address) as connection:
        for admin, minted in zip(ADMINS, KEYS, strict=True):
            added = api_keys.add(connection, minted, role=Role.ADMIN, label=admin.label)
            assert added == admin.key_id
        yield connection


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    """Begin a transaction, with the same next id each time, and roll it back."""
    set_next_id(connection, "contacts", 1)
    connection.exec_driver_sql("BEGIN")
    try:
        yield
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _one_by_one(connection: Connection, some: Sequence[Submitted]) -> list[CreateContactOutcome]:
    return [outcome for each in some for outcome in contacts.create(connection, [each])]


def _timeless(outcome: CreateContactOutcome) -> CreateContactOutcome:
    match outcome:
        case Created(contact):
            return outcome._replace(contact=_at_one_time(contact))
        case Conflict(existing=Contact() as existing):
            return replace(outcome, existing=_at_one_time(existing))
        case _:
            return outcome


def _at_one_time(contact: Contact) -> Contact:
    return contact._replace(created_at=timestamp(NOW), updated_at=timestamp(NOW))


def _stored(connection: Connection) -> list[tuple[object, ...]]:
    """Return all rows, without their times."""
    return [
        tuple(row)
        for table in (contacts_table, idempotency_records)
        for row in connection.execute(
            select(*(column for column in table.c if not column.name.endswith("_at"))).order_by(
                *table.primary_key
            )
        )
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(creations, max_size=3), st.lists(creations, min_size=1, max_size=12))
def test_a_batch_has_the_same_outcomes_as_one_by_one(
    connection: Connection, earlier: list[Submitted], batch: list[Submitted]
) -> None:
    with _rolled_back(connection):
        _one_by_one(connection, earlier)
        together = contacts.create(connection, batch)
        stored_together = _stored(connection)
    with _rolled_back(connection):
        _one_by_one(connection, earlier)
        apart = _one_by_one(connection, batch)
        stored_apart = _stored(connection)

    assert list(map(_timeless, together)) == list(map(_timeless, apart))
    assert stored_together == stored_apart
