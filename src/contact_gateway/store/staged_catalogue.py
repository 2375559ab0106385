"""The import of a catalogue: staged and checked first, then written.

The file is staged in a temporary SQLite database on the disk, so that memory does not grow with the
file. Rows that equal the stored ones are not written. A refused file changes nothing.

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
from typing import Final, NamedTuple, TypeAlias

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
_NEXT_ROWS: Final = f"SELECT {_LISTED} FROM changed WHERE turn = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608 - constants

# In this order, each row's owner is stored before it, and a HiEnergy record is given up last.
_HIENERGY, _NETWORK, _DEMOTED = _TURNS = range(3)

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


class _Position(NamedTuple):
    """The last row that is written, and how many are."""

    turn: int
    id: int
    written: int


class StagedCatalogue(AbstractContextManager["StagedCatalogue"]):
    """The rows of a catalogue file, compared with those of a database."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database
        self._rows = self._new = self._changed = 0
        # SQLite keeps it in a temporary file, without a name. The rows are read by the writer's
        # thread too, but never at the same time.
        self._staging: Final = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._staging.executescript(_TABLES)

    def __exit__(self, *_: object) -> None:
        """Delete the temporary database."""
        self._staging.close()

    @property
    def counts(self) -> Counts:
        """How many rows are staged, and how many of them are to be written."""
        return Counts(self._rows, self._new, self._changed)

    async def add(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Stage all rows of a file, each with its line, and check them.

        Raises:
            CatalogueError: a row is invalid, its id is not new, it names a HiEnergy record that
                does not exist, or it would demote a HiEnergy record that is in use.
            StagingError: there is no room for the rows.
            SourceUnavailable: the database does not answer.
        """
        given = ((line, validated(line, row)) for line, row in rows)
        with _staging_errors():
            while batch := list(islice(given, _ROWS_STAGED_AT_ONCE)):
                ids = [advertiser.id for _, advertiser in batch]
                stored = await self._database.read(partial(advertiser_rows.by_id, ids=ids))
                self._staging.execute("BEGIN")
                self._add_batch(batch, stored)
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
            SourceUnavailable: the database does not answer.
        """
        position = _Position(_HIENERGY, 0, 0)
        while position.written < self._new + self._changed:
            position = await self._database.write(
                partial(self._write_some, after=position, progress=progress)
            )
            await asyncio.sleep(PAUSE_SECONDS)

    def _write_some(
        self, connection: Connection, after: _Position, progress: Callable[[int], object]
    ) -> _Position:
        """Write rows in one transaction, and return the last one. It may be run again."""
        ends_at = None
        if connection.dialect.name == "postgresql":
            # What is stored while this waits for a lock must be seen once it has the lock.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            # An import that came first keeps its rows locked until it ends.
            connection.exec_driver_sql(f"SET LOCAL statement_timeout='{_LOCK_TIMEOUT_MINUTES}min'")
        elif self._new + self._changed > MAX_ROWS_AT_ONCE:
            ends_at = time.monotonic() + TRANSACTION_SECONDS
        position = after
        for turn, records in self._batches_after(after):
            ids = [advertiser.id for advertiser in records]
            if turn == _DEMOTED:
                # A creation locks the HiEnergy record until its contact is stored.
                advertiser_rows.lock(connection, ids)
            advertiser_rows.upsert(connection, records)
            # Since the check of the file, another process may have written.
            wrong = advertiser_rows.misplaced(connection, records)
            if wrong is not None:
                imported = "Some advertisers were" if after.written else "No advertiser was"
                raise StoreChangedError(
                    f"advertiser {wrong} no longer fits the store, which another process changed "
                    f"during the import. {imported} imported; run the import again"
                )
            position = _Position(turn, ids[-1], position.written + len(ids))
            progress(position.written)
            if ends_at is not None and time.monotonic() >= ends_at:
                break
        return position

    def _add_batch(self, batch: Sequence[_Given], stored: Mapping[int, Advertiser]) -> None:
        seen: list[tuple[int, int]] = []
        changed: list[tuple[object, ...]] = []
        for line, advertiser in batch:
            seen.append((advertiser.id, line))
            before = stored.get(advertiser.id)
            if before is None:
                self._new += 1
            elif advertiser != before:
                self._changed += 1
            else:
                continue
            changed.append((*advertiser, line, _turn(advertiser, before)))
        try:
            self._staging.executemany("INSERT INTO seen VALUES (?, ?)", seen)
        except sqlite3.IntegrityError:
            raise self._duplicate(seen) from None
        self._staging.executemany(_INSERT_CHANGED, changed)
        self._rows += len(seen)

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

    def _batches_after(self, position: _Position) -> Iterator[tuple[int, Sequence[Advertiser]]]:
        """Yield the rows to write after a position, in batches, each with its turn."""
        last_id = position.id
        for turn in _TURNS[position.turn :]:
            while records := self._records(turn, last_id):
                yield turn, records
                last_id = records[-1].id
            last_id = 0

    def _records(self, turn: int, last_id: int) -> Sequence[Advertiser]:
        with _staging_errors():
            rows = self._staging.execute(_NEXT_ROWS, (turn, last_id, _ROWS_PER_STATEMENT))
            return [Advertiser._make(row) for row in rows]


@contextmanager
def _staging_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StagingError(
            "the rows cannot be kept in the folder for temporary files, which SQLITE_TMPDIR "
            f"names: {error}"
        ) from error


def _turn(advertiser: Advertiser, before: Advertiser | None) -> int:
    if advertiser.is_hienergy:
        return _HIENERGY
    was_hienergy = before is not None and before.network_name == HIENERGY_NETWORK
    return _DEMOTED if was_hienergy else _NETWORK
