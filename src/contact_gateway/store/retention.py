"""How long idempotency keys are stored, and how expired ones are purged."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select, tuple_

OPEN_ATTEMPT_RETENTION: Final = timedelta(days=90)
"""How long an attempt is stored whose outcome is unknown."""

IDEMPOTENCY_RETENTION: Final = timedelta(hours=48)
"""How long an idempotency key is stored. The contract promises 24 hours."""

PURGE_BATCH_SIZE: Final = 2_000
"""How many rows one transaction deletes: about 10 ms, for which other writes are queued."""


def purge_expired(
    connection: Connection,
    table: Table,
    time: Column[Any],
    *conditions: ColumnElement[bool],
    retention: timedelta = IDEMPOTENCY_RETENTION,
) -> bool:
    """Delete up to `PURGE_BATCH_SIZE` rows older than the retention; return whether none are left.

    `time` is the column that a row's age is counted from. Only rows that meet all `conditions`
    expire.
    """
    oldest = datetime.now(UTC) - retention
    key = table.primary_key.columns
    expired = select(*key).where(time < oldest, *conditions).limit(PURGE_BATCH_SIZE)
    deleted = connection.execute(delete(table).where(tuple_(*key).in_(expired)))
    return deleted.rowcount < PURGE_BATCH_SIZE
