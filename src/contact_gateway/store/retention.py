"""How long idempotency keys are remembered, and how the old ones are forgotten."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, delete, select, tuple_

IDEMPOTENCY_RETENTION: Final = timedelta(hours=48)
"""How long a used idempotency key is remembered; the contract promises 24 hours."""

FORGOTTEN_AT_ONCE: Final = 2_000
"""How many are deleted in one transaction: some ten milliseconds' worth, for which others wait."""


def forget_old(connection: Connection, table: Table, moment: Column[Any]) -> bool:
    """Delete rows of which a moment is past the retention, but not too many at once.

    Returns:
        Whether those were all.
    """
    oldest = datetime.now(UTC) - IDEMPOTENCY_RETENTION
    key = table.primary_key.columns
    old = select(*key).where(moment < oldest).limit(FORGOTTEN_AT_ONCE)
    deleted = connection.execute(delete(table).where(tuple_(*key).in_(old)))
    return deleted.rowcount < FORGOTTEN_AT_ONCE
