"""The import of a catalogue: staged and checked first, then written.

The file is staged in a temporary SQLite database on the disk, so that memory does not grow with the
file. Rows that equal the stored ones are neither validated nor written. A refused file changes
nothing.

PostgreSQL stores all rows in one transaction, while others read and write. SQLite has one writer,
and others wait for it at most a few seconds. There, many rows are written in short transactions,
with a pause after each, because SQLite does not queue those that wait. An interrupted import keeps
what it has written, each row complete and valid, and the next one writes the rest.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Connection

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import (
    COLUMNS,
    CatalogueError,
    Row,
    duplicate_id,
    in_use,
    not_a_hienergy_record,
    validated,
)
from contact_gateway.contacts.fields import id_of
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store.database import Database

TRANSACTION_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = 0.05
"""SQLite's waiting processes try again after 25 ms in the first 0.1 s, later after 0.1 s."""

MAX_ROWS_AT_ONCE: Final = 10_000
"""So many rows are written in one transaction of SQLite, too: it takes less than a second."""

_LOCK_TIMEOUT_MINUTES: Final = 30
_ROWS_STAGED_AT_ONCE: Final = 512
_ROWS_PER_STATEMENT: Final = 500
_LISTED: Final = ", ".join(COLUMNS)
_INSERT_CHANGED: Final = f"INSERT INTO changed VALUES ({', '.join('?' * len(COLUMNS))}, ?, ?)"  # noqa: S608 - constants
_CACHE_KIB: Final = 8192

_TABLES: Final = f"""
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
PRAGMA cache_size=-{_CACHE_KIB};
CREATE TABLE seen (id INTEGER PRIMARY KEY, line INTEGER NOT NULL);
CREATE TABLE changed (
    {_LISTED.replace("id,", "id INTEGER PRIMARY KEY,", 1)}, line INTEGER, turn INTEGER
);
"""

_NETWORK_OWNER: Final = """
SELECT changed.line, owner.id FROM changed JOIN changed AS owner ON owner.id = changed.hienergy_id
WHERE owner.network_name != ? ORDER BY changed.line LIMIT 1
"""
_UNSTAGED_OWNERS: Final = """
SELECT changed.hienergy_id, min(changed.line) FROM changed
LEFT JOIN changed AS owner ON owner.id = changed.hienergy_id
WHERE changed.hienergy_id IS NOT NULL AND owner.id IS NULL GROUP BY changed.hienergy_id
"""
_DEMOTED_ROWS: Final = "SELECT id, line FROM changed WHERE turn = ? ORDER BY line"
# In this order, each row's owner is stored before it, and a HiEnergy record is given up last.
_HIENERGY, _NETWORK, _DEMOTED = range(3)
_ORDER: Final = "CREATE TABLE ordered AS SELECT id FROM changed ORDER BY turn, id"
_NEXT_ROWS: Final = f"""
SELECT turn, {_LISTED} FROM ordered JOIN changed USING (id)
WHERE ordered.rowid > ? ORDER BY ordered.rowid LIMIT ?
"""  # noqa: S608 - constants

_Given: TypeAlias = tuple[int, Advertiser]


class StagingError(RuntimeError):
    """There is no room for the temporary database. The message says where."""


class StoreChangedError(RuntimeError):
    """Another process changed the store during the import. The message says what to do."""


class Counts(NamedTuple):
    """How many rows a catalogue has, and how many of them the store lacks or has differently."""

    rows: int
    new: int
    changed: int


class StagedCatalogue(AbstractContextManager["StagedCatalogue"]):
    """The rows of a catalogue file, compared with those of a database."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database
        self.counts = Counts(0, 0, 0)
        # SQLite keeps it in a temporary file, without a name. The rows are read by the writer's
        # thread too, but never at the same time.
        self._staging: Final = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._staging.executescript(_TABLES)

    def __exit__(self, *_: object) -> None:
        """Delete the temporary database."""
        self._staging.close()

    async def add(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Stage all rows of a file, each with its line, and check them.

        Raises:
            CatalogueError: a row is invalid, its id is not new, it names a HiEnergy record that
                does not exist, or it would demote a HiEnergy record that is in use.
            StagingError: there is no room for the rows.
            SourceUnavailable: the database does not answer.
        """
        remaining = iter(rows)
        with _staging_errors():
            while batch := list(islice(remaining, _ROWS_STAGED_AT_ONCE)):
                ids = [id_of(row[0]) or 0 for _, row in batch]
                stored = await self._database.read(partial(advertiser_rows.by_id, ids=ids))
                given = [
                    (line, _same(row, stored.get(an_id)) or validated(line, row))
                    for an_id, (line, row) in zip(ids, batch, strict=True)
                ]
                self._staging.execute("BEGIN")
                self._add_batch(given, stored)
                self._staging.execute("COMMIT")
            first: CatalogueError | None = None
            async for error in self._errors():
                if first is None or error.line < first.line:
                    first = error
        if first is not None:
            raise first

    async def write(self, progress: Callable[[int], object]) -> None:
        """Write the rows that are new or changed; report on any thread how many are written.

        Raises:
            StoreChangedError: a row is no longer valid in the store.
            StagingError: there is no room for the order of the rows.
            SourceUnavailable: the database does not answer.
        """
        with _staging_errors():
            self._staging.execute(_ORDER)
        written = 0
        while written < self.counts.new + self.counts.changed:
            written = await self._database.write(
                partial(self._write_some, before=written, progress=progress)
            )
            await asyncio.sleep(PAUSE_SECONDS)

    def _write_some(
        self, connection: Connection, before: int, progress: Callable[[int], object]
    ) -> int:
        """Write more rows in one transaction; return how many are written. It may be run again."""
        ends_at = None
        if connection.dialect.name == "postgresql":
            # What is stored while this waits for a lock must be seen once it has the lock.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            # An import that came first keeps its rows locked until it ends.
            connection.exec_driver_sql(f"SET LOCAL statement_timeout='{_LOCK_TIMEOUT_MINUTES}min'")
        elif self.counts.new + self.counts.changed > MAX_ROWS_AT_ONCE:
            ends_at = time.monotonic() + TRANSACTION_SECONDS
        written = before
        while rows := self._rows_after(written):
            records = [Advertiser._make(row) for _, *row in rows]
            demoted = [an_id for turn, an_id, *_ in rows if turn == _DEMOTED]
            if demoted:
                # A creation locks the HiEnergy record until its contact is stored.
                advertiser_rows.lock(connection, demoted)
            advertiser_rows.upsert(connection, records)
            # Since the check of the file, another process may have written.
            wrong = advertiser_rows.misplaced(connection, records)
            if wrong is not None:
                imported = "Some advertisers were" if before else "No advertiser was"
                raise StoreChangedError(
                    f"advertiser {wrong} no longer fits the store, which another process changed "
                    f"during the import. {imported} imported; run the import again"
                )
            written += len(rows)
            progress(written)
            if ends_at is not None and time.monotonic() >= ends_at:
                break
        return written

    def _add_batch(self, batch: Sequence[_Given], stored: Mapping[int, Advertiser]) -> None:
        seen = [(advertiser.id, line) for line, advertiser in batch]
        changed = [
            (*advertiser, line, _turn(advertiser, before))
            for line, advertiser in batch
            if advertiser != (before := stored.get(advertiser.id))
        ]
        try:
            self._staging.executemany("INSERT INTO seen VALUES (?, ?)", seen)
        except sqlite3.IntegrityError:
            raise self._duplicate(seen) from None
        self._staging.executemany(_INSERT_CHANGED, changed)
        rows, new, replaced = self.counts
        known = sum(an_id in stored for an_id, *_ in changed)
        self.counts = Counts(rows + len(seen), new + len(changed) - known, replaced + known)

    def _duplicate(self, seen: Iterable[tuple[int, int]]) -> CatalogueError:
        """Return the error for the first row whose id is staged with another line."""
        for an_id, line in seen:
            (first,) = self._staging.execute(
                "SELECT line FROM seen WHERE id = ?", (an_id,)
            ).fetchone()
            if first != line:
                return duplicate_id(line, an_id, first)
        raise LookupError("no id is staged twice")

    async def _errors(self) -> AsyncIterator[CatalogueError]:
        """Yield the errors of rows that do not fit the others, as they will be stored."""
        wrong = self._staging.execute(_NETWORK_OWNER, (HIENERGY_NETWORK,)).fetchone()
        if wrong is not None:
            yield not_a_hienergy_record(*wrong)
        owners = self._staging.execute(_UNSTAGED_OWNERS)
        while batch := owners.fetchmany(_ROWS_STAGED_AT_ONCE):
            ids = [owner for owner, _ in batch]
            found = await self._database.read(partial(advertiser_rows.by_id, ids=ids))
            for owner, line in batch:
                if owner not in found or not found[owner].is_hienergy:
                    yield not_a_hienergy_record(line, owner)
        demoted = self._staging.execute(_DEMOTED_ROWS, (_DEMOTED,))
        while batch := demoted.fetchmany(_ROWS_STAGED_AT_ONCE):
            ids = [an_id for an_id, _ in batch]
            owning = await self._database.read(partial(advertiser_rows.with_contacts, ids=ids))
            naming = await self._database.read(
                partial(advertiser_rows.equivalents, hienergy_ids=ids)
            )
            for an_id, line in batch:
                names = (self._will_name(record.id, an_id) for record in naming[an_id])
                if an_id in owning or any(names):
                    yield in_use(line, an_id)

    def _will_name(self, record: int, owner: int) -> bool:
        """Return whether a stored record, which names an owner, does so after the import."""
        row = self._staging.execute(
            "SELECT hienergy_id FROM changed WHERE id = ?", (record,)
        ).fetchone()
        return row is None or row[0] == owner

    def _rows_after(self, written: int) -> Sequence[tuple[Any, ...]]:
        """Return the next rows to write, each after its turn."""
        with _staging_errors():
            return self._staging.execute(_NEXT_ROWS, (written, _ROWS_PER_STATEMENT)).fetchall()


@contextmanager
def _staging_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StagingError(
            "the rows cannot be kept in the folder for temporary files, which SQLITE_TMPDIR "
            f"names: {error}"
        ) from error


def _same(row: Row, before: Advertiser | None) -> Advertiser | None:
    """Return the stored advertiser of a row's id if the row repeats it as it is; it is valid."""
    if before is None or tuple(row[1:-1]) != before[1:-1]:
        return None
    owner, stored_owner = row[-1], before.hienergy_id
    if owner is None:
        # A HiEnergy record need not name itself.
        return before if stored_owner is None or before.is_hienergy else None
    return before if stored_owner is not None and str(owner) == str(stored_owner) else None


def _turn(advertiser: Advertiser, before: Advertiser | None) -> int:
    if advertiser.is_hienergy:
        return _HIENERGY
    was_hienergy = before is not None and before.network_name == HIENERGY_NETWORK
    return _DEMOTED if was_hienergy else _NETWORK
