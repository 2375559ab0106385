"""Idempotency records in SQL: which input an idempotency key came with, and what it created."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from contact_gateway.contacts.policy import Earlier
from contact_gateway.store.connection_threads import LostRaceError
from contact_gateway.store.prepared_statements import PreparedInsert, PreparedSelect
from contact_gateway.store.retention import purge_expired
from contact_gateway.store.tables import idempotency_records

_record: Final = idempotency_records.c
BY_KEY: Final = PreparedSelect(
    select(_record.api_key_id, _record.idempotency_key, _record.fingerprint, _record.contact_id),
    _record.api_key_id,
    _record.idempotency_key,
)
"""Selects the keys that were used, each with its fingerprint and the id of its contact."""

_INSERT: Final = PreparedInsert(
    idempotency_records,
    [column.name for column in idempotency_records.c],
    [_record.api_key_id],
)


class ScopedKey(NamedTuple):
    """An idempotency key of one API key."""

    api_key_id: int
    key: str


def remember(connection: Connection, used: Mapping[ScopedKey, Earlier]) -> None:
    """Store what idempotency keys created.

    Raises:
        LostRaceError: one of them was used in the meantime.
    """
    now = datetime.now(UTC)
    rows = [
        (*key, earlier.fingerprint, earlier.contact.id, now)
        # In one order, so that transactions that meet never wait for each other.
        for key, earlier in sorted(used.items())
    ]
    if len(_INSERT.rows(connection, rows)) < len(rows):
        raise LostRaceError


def purge(connection: Connection) -> bool:
    """Delete a bounded number of expired records; return whether none are left."""
    return purge_expired(connection, idempotency_records, _record.created_at)
