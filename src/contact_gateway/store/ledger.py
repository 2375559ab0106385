"""The ledger of creations sent to another system, in SQL."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Connection, Row, delete, select

from contact_gateway.contacts import ledger
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.timestamps import Timestamp, timestamp
from contact_gateway.store.batched_reads import BatchedReader
from contact_gateway.store.connection_threads import LostRaceError
from contact_gateway.store.database import Database
from contact_gateway.store.group_commit import MAX_QUEUED, CommitObserver, GroupCommit
from contact_gateway.store.prepared_statements import PreparedInsert
from contact_gateway.store.retention import OPEN_ATTEMPT_RETENTION, purge_expired
from contact_gateway.store.tables import attempts
from contact_gateway.store.upserts import upsert

_SELECT: Final = select(attempts.c.key, *(attempts.c[field] for field in Attempt._fields))
_COLUMNS: Final = [column.name for column in attempts.c]
_INSERT: Final = PreparedInsert(attempts, _COLUMNS, [attempts.c.key])

_Entry: TypeAlias = Attempt | None


class _Job(NamedTuple):
    """A change of the entry under a key, as a function of the entry that is found there."""

    key: bytes
    change: Callable[[_Entry], _Entry]


class SqlLedger:
    """Implements `contacts.ledger.Ledger`; writes share a commit, lookups a statement."""

    def __init__(
        self,
        database: Database,
        observer: CommitObserver | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._database: Final = database
        self._reader: Final = BatchedReader(database, _entries)
        self._writer: Final = GroupCommit(database, _run, _purge, observer, max_queued)

    async def close(self) -> None:
        """Finish the queued writes. The database stays open."""
        await self._writer.close()

    async def find(self, key: bytes) -> Attempt | None:
        """Return the attempt under a key."""
        return await self._reader.get(key)

    async def claim(self, key: bytes, wanted: Attempt) -> Attempt:
        """Claim an attempt; return the entry after that."""
        found = await self._writer.write(_Job(key, partial(ledger.claim, wanted=wanted)))
        if found is None:
            raise TypeError("a claim must leave an entry in the ledger")
        return found

    async def put(self, key: bytes, holder: str, attempt: Attempt | None) -> bool:
        """Replace or delete an open entry that `holder` holds."""

        def replaced(found: _Entry) -> _Entry:
            return attempt if found is not None and ledger.may_put(found, holder) else found

        return await self._writer.write(_Job(key, replaced)) == attempt

    async def has_contact(self, contact_id: int) -> bool:
        """Return whether an attempt created a contact with this id."""
        query = select(attempts.c.key).where(attempts.c.contact_id == contact_id).limit(1)
        return await self._database.read(lambda connection: connection.scalar(query) is not None)

    async def contact(self, scope: bytes, contact_id: int) -> Contact | None:
        """Return a contact that a person created, as it was then."""
        query = select(attempts.c.contact).where(
            attempts.c.contact_id == contact_id, attempts.c.scope == scope
        )
        document = await self._database.read(lambda connection: connection.scalar(query.limit(1)))
        return None if document is None else _contact(document)


class OpenAttempt(NamedTuple):
    """An attempt whose outcome is unknown. `key` is the digest of a person and their key."""

    key: bytes
    attempt: Attempt


def open_attempts(connection: Connection) -> tuple[OpenAttempt, ...]:
    """Return the attempts whose outcome is unknown, the oldest first, also those in flight."""
    query = _SELECT.where(attempts.c.contact.is_(None)).order_by(attempts.c.sent_at)
    return tuple(OpenAttempt(row.key, _attempt(row)) for row in connection.execute(query))


def settle(connection: Connection, opened: OpenAttempt, contact_id: int | None) -> None:
    """Close an attempt with the id of its contact upstream, or delete it if it created none.

    Raises:
        LostRaceError: it is no longer as it was read.
    """
    key, attempt = opened
    if _entries(connection, {key}, locked=True).get(key) != attempt:
        raise LostRaceError
    if contact_id is None:
        connection.execute(delete(attempts).where(attempts.c.key == key))
        return
    contact = Contact(
        id=contact_id,
        advertiser_id=attempt.advertiser_id,
        email=attempt.email,
        name=None,
        given_name=None,
        family_name=None,
        phone=None,
        job_title=None,
        source=None,
        status=None,
        linkedin_profile_url=None,
        advertiser_name=None,
        created_at=None,
        updated_at=None,
    )
    # The time for which it is stored begins now.
    closed = attempt._replace(contact=contact, held_until=datetime.now(UTC))
    connection.execute(upsert(connection.dialect.name, attempts), [_row(key, closed)])


def _run(connection: Connection, jobs: Sequence[_Job]) -> Sequence[_Entry]:
    """Read all entries once, apply the jobs in order, and write the entries that changed.

    Raises:
        LostRaceError: another process claimed a key in the meantime.
    """
    before = _entries(connection, {job.key for job in jobs}, locked=True)
    entries: dict[bytes, _Entry] = dict(before)
    answers = []
    for key, change in jobs:
        entries[key] = change(entries.get(key))
        answers.append(entries[key])
    # In one order, as the locks are taken.
    changed = [(key, entries[key]) for key in sorted(entries) if entries[key] != before.get(key)]
    deleted = [key for key, entry in changed if entry is None]
    rows = [_row(key, entry) for key, entry in changed if entry is not None]
    new = [[row[name] for name in _COLUMNS] for row in rows if row["key"] not in before]
    replaced = [row for row in rows if row["key"] in before]
    if deleted:
        connection.execute(delete(attempts).where(attempts.c.key.in_(deleted)))
    if len(_INSERT.rows(connection, new)) < len(new):
        raise LostRaceError
    if replaced:
        connection.execute(upsert(connection.dialect.name, attempts), replaced)
    return answers


def _purge(connection: Connection) -> bool:
    expiry = attempts.c.held_until
    are_closed_gone = purge_expired(connection, attempts, expiry, attempts.c.contact.is_not(None))
    are_open_gone = purge_expired(
        connection,
        attempts,
        expiry,
        attempts.c.contact.is_(None),
        retention=OPEN_ATTEMPT_RETENTION,
    )
    return are_closed_gone and are_open_gone


def _entries(
    connection: Connection, keys: Collection[bytes], *, locked: bool = False
) -> Mapping[bytes, Attempt]:
    """Return the entries that exist, by key; if locked, only this transaction can change them.

    All take their locks in the same order, and so never wait for each other.
    """
    query = _SELECT.where(attempts.c.key.in_(keys)).order_by(attempts.c.key)
    rows = connection.execute(query.with_for_update() if locked else query)
    return {row.key: _attempt(row) for row in rows}


def _row(key: bytes, attempt: Attempt) -> dict[str, object]:
    contact = attempt.contact
    return {
        "key": key,
        **attempt._asdict(),
        "contact": None if contact is None else json.dumps(contact._asdict()),
        "contact_id": None if contact is None else contact.id,
    }


def _attempt(row: Row[Any]) -> Attempt:
    """Return the attempt of a row of `_SELECT`."""
    return Attempt._make(row[1:])._replace(
        # Null in rows of earlier versions.
        scope=row.scope or b"",
        contact=None if row.contact is None else _contact(row.contact),
    )


def _time(text: str | None) -> Timestamp | None:
    # Earlier versions wrote an offset.
    return None if text is None else timestamp(datetime.fromisoformat(text))


def _contact(document: str) -> Contact:
    values = json.loads(document)
    # A later version may have stored more.
    contact = Contact(**{field: values[field] for field in Contact._fields})
    return contact._replace(
        created_at=_time(contact.created_at), updated_at=_time(contact.updated_at)
    )
