"""How times are shown, in documents and in files: RFC 3339 in UTC with milliseconds."""

from datetime import UTC, datetime
from typing import NewType

Timestamp = NewType("Timestamp", str)
"""The text of a time, such as `2026-01-31T12:00:00.000Z`. Earlier ones are lesser."""


def timestamp(moment: datetime) -> Timestamp:
    """Return the text of a time."""
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    # An aware time takes twice as long to write, for its offset.
    return Timestamp(f"{in_utc.date().isoformat()}T{in_utc.time().isoformat('milliseconds')}Z")
