"""The use of API keys: the last day of each, and warnings of keys and secrets that end soon."""

import asyncio
import time
from contextvars import Context
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from contact_gateway.access.api_keys import KeyRecord, end_of
from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store.caches import Clock
from contact_gateway.store.database import ANSWER_TIMEOUT_SECONDS, Database

WARNING_PERIOD: Final = timedelta(days=7)
"""How long before a key expires the log warns of it."""

RETRY_SECONDS: Final = 60.0
"""How long no day of use is stored after one that could not be stored."""

_log = structlog.get_logger(__name__)


class KeyUse:
    """Stores the last day in UTC on which each API key was accepted, and logs a warning once a day.

    No request waits for it or fails by it. The days that become known during a write share the next
    one. A key is written once a day, unless a write fails or is slower than the next read of the
    key.
    """

    def __init__(self, database: Database, clock: Clock = time.monotonic) -> None:
        self._database: Final = database
        self._clock: Final = clock
        self._warned_on: Final[dict[tuple[int, bool], date]] = {}
        self._queue: Final[dict[int, date]] = {}
        self._task: asyncio.Task[None] | None = None
        self._retry_at = 0.0

    async def warn_of_expiring_keys(self, now: datetime) -> None:
        """Log each key that expires within a week, whether it is used or not.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        until = now + WARNING_PERIOD
        for record in await self._database.read(
            lambda connection: key_rows.expiring(connection, now, until)
        ):
            self._warn(record, record.secret_hash, now)

    def record(self, record: KeyRecord, owner: ApiKeyOwner, now: datetime) -> None:
        """Record that a key was read from the database and accepted."""
        self._warn(record, owner.secret_hash, now)
        today = now.date()
        is_stored = record.last_used_on is not None and record.last_used_on >= today
        if is_stored or self._clock() < self._retry_at:
            return
        self._queue[record.id] = today
        if self._task is None or self._task.done():
            # It serves all callers, so its log lines must not carry the first one's request id.
            self._task = asyncio.create_task(self._write_queued(), context=Context())

    async def close(self) -> None:
        """Wait until the queue is empty, or the database times out."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=ANSWER_TIMEOUT_SECONDS)

    async def _write_queued(self) -> None:
        while self._queue:
            days = dict(self._queue)
            self._queue.clear()
            try:
                await self._database.write(partial(key_rows.set_last_used, days=days))
            except Exception as error:  # noqa: BLE001 - no caller awaits it
                # The next use after a while stores it.
                self._retry_at = self._clock() + RETRY_SECONDS
                self._queue.clear()
                _log.warning(
                    "last use of API keys not stored; retrying in a minute",
                    keys=len(days),
                    cause=error.reason if isinstance(error, SourceUnavailable) else repr(error),
                )

    def _warn(self, record: KeyRecord, secret_hash: bytes, now: datetime) -> None:
        """Log, once a day, that a key expires soon, or that its old secret is still in use."""
        is_old = secret_hash != record.secret_hash
        ends_at = end_of(record, secret_hash)
        if ends_at is None or not (is_old or ends_at - now <= WARNING_PERIOD):
            return
        if self._warned_on.get((record.id, is_old)) == now.date():
            return
        self._warned_on[record.id, is_old] = now.date()
        _log.warning(
            "old secret of an API key in use" if is_old else "API key expires soon",
            key_id=record.id,
            expires_at=ends_at.isoformat(timespec="seconds"),
            days_left=(ends_at - now).days,
        )
