"""A batch of creations has the same outcomes as the creations one by one."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select

from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import ApiKeyOwner, Role
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import Conflict, CreateContactOutcome, Created
from contact_gateway.contacts.source import Creation
from contact_gateway.store import api_keys, contacts
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.tables import contacts as contacts_table
from contact_gateway.store.tables import idempotency_records
from support.contacts import submitted

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


@contextmanager
def _copy(file: Path) -> Iterator[Connection]:
    """Return a copy of a database in memory, with the admins' keys."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection, closing(sqlite3.connect(file)) as original:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        original.backup(driver)
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        for admin, minted in zip(ADMINS, KEYS, strict=True):
            added = api_keys.add(connection, minted, role=Role.ADMIN, label=admin.label)
            assert added == admin.key_id
        yield connection
    engine.dispose()


def _one_by_one(connection: Connection, some: Sequence[Submitted]) -> list[CreateContactOutcome]:
    return [outcome for each in some for outcome in contacts.create(connection, [each])]


def _timeless(outcome: CreateContactOutcome) -> CreateContactOutcome:
    match outcome:
        case Created(contact):
            return replace(outcome, contact=_at_one_time(contact))
        case Conflict(existing=Contact() as existing):
            return replace(outcome, existing=_at_one_time(existing))
        case _:
            return outcome


def _at_one_time(contact: Contact) -> Contact:
    return contact._replace(created_at=NOW, updated_at=NOW)


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
    prepared_file: Path, earlier: list[Submitted], batch: list[Submitted]
) -> None:
    with _copy(prepared_file) as one, _copy(prepared_file) as other:
        _one_by_one(one, earlier)
        _one_by_one(other, earlier)

        together = contacts.create(one, batch)
        apart = _one_by_one(other, batch)

        assert list(map(_timeless, together)) == list(map(_timeless, apart))
        assert _stored(one) == _stored(other)
