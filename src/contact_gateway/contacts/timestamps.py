"""How times are written in documents and files: RFC 3339 in UTC with milliseconds."""

from datetime import UTC, datetime


def timestamp(moment: datetime) -> str:
    """Return the text of a time, such as `2026-01-31T12:00:00.000Z`."""
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    # An aware time takes twice as long to write, for its offset.
    return f"{in_utc.date().isoformat()}T{in_utc.time().isoformat('milliseconds')}Z"


def timestamp_or_none(moment: datetime | None) -> str | None:
    """Return the text of a time; None if it is unknown."""
    return None if moment is None else timestamp(moment)
