"""The import of a catalogue: staged and checked first, then written in short transactions.

The file is staged in a temporary database on the disk, so that memory does not grow with the file.
Rows that equal the stored ones are neither validated nor written. A refused file changes nothing.

Each transaction is short, and a pause follows it: other processes wait for the write lock for a few
seconds, and SQLite does not queue them. So an import that is interrupted keeps what it has written,
each row complete and valid, and the next one writes the rest.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias, TypeVar

from sqlalchemy import Connection

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import (
    COLUMNS,
    CatalogueError,
    duplicate_id,
    in_use,
    not_a_hienergy_record,
    validated,
)
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store.database import Database
from contact_gateway.store.database_file import uri_of

TRANSACTION_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = 0.05
"""SQLite's waiting processes try again after 25 ms in the first 0.1 s, later after 0.1 s."""

_ROWS_STAGED_AT_ONCE: Final = 500
_ROWS_PER_STATEMENT: Final = 250
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

# The owner of a row, as it will be after the import.
_MISSING_OWNER: Final = """
SELECT changed.line, changed.hienergy_id FROM changed
LEFT JOIN changed AS owner ON owner.id = changed.hienergy_id
LEFT JOIN store.advertisers AS stored ON stored.id = changed.hienergy_id
WHERE changed.hienergy_id IS NOT NULL
AND CASE WHEN owner.id IS NULL THEN stored.network_name ELSE owner.network_name END IS NOT ?
ORDER BY changed.line LIMIT 1
"""
_DEMOTED_IN_USE: Final = """
SELECT changed.line, changed.id FROM changed WHERE changed.turn = ?
AND (
    EXISTS (SELECT 1 FROM store.contacts WHERE advertiser_id = changed.id)
    OR EXISTS (
        SELECT 1 FROM store.advertisers AS stored
        LEFT JOIN changed AS other ON other.id = stored.id
        WHERE stored.hienergy_id = changed.id AND stored.id != changed.id
        AND (other.id IS NULL OR other.hienergy_id = changed.id)
    )
)
ORDER BY changed.line LIMIT 1
"""

# In this order, each row's owner is stored before it, and a HiEnergy record is given up last.
_HIENERGY, _NETWORK, _DEMOTED = _TURNS = range(3)

T = TypeVar("T")
_Given: TypeAlias = tuple[int, Mapping[str, object]]
_Stored: TypeAlias = tuple[Any, ...]  # the driver's rows have no types


class StoreChangedError(RuntimeError):
    """Another process changed the store during the import. The message says what to do."""


class Counts(NamedTuple):
    """How many rows a catalogue has, and how many of them the store lacks or has differently."""

    rows: int
    changed: int


class StagedCatalogue:
    """The rows of a catalogue file, compared with those of a database. It is a context manager.

    Args:
        file: the file of the database.
    """

    def __init__(self, file: str) -> None:
        self._file: Final = file
        self._rows = self._changed = 0
        # SQLite keeps it in a temporary file, without a name. The rows are read by the writer's
        # thread too, but never at the same time.
        self._staging: Final = sqlite3.connect(
            "", isolation_level=None, uri=True, check_same_thread=False
        )
        self._staging.executescript(_TABLES)
        self._staging.execute("ATTACH ? AS store", (uri_of(file, "rw"),))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Delete the temporary database."""
        self._staging.close()

    @property
    def counts(self) -> Counts:
        """How many rows are staged, and how many of them are to be written."""
        return Counts(self._rows, self._changed)

    def add(self, rows: Iterable[_Given]) -> None:
        """Stage all rows of a file, each with its line, and check them.

        Raises:
            CatalogueError: a row is invalid, its id is not new, it names a HiEnergy record that
                does not exist, or it would demote a HiEnergy record that is in use.
            SourceUnavailable: the database does not answer, or there is no room for the rows.
        """
        try:
            for batch in _batches(iter(rows), _ROWS_STAGED_AT_ONCE):
                # A short transaction, because it holds a snapshot of the store.
                self._staging.execute("BEGIN")
                self._add_batch(batch)
                self._staging.execute("COMMIT")
            owner = self._staging.execute(_MISSING_OWNER, (HIENERGY_NETWORK,)).fetchone()
            demoted = self._staging.execute(_DEMOTED_IN_USE, (_DEMOTED,)).fetchone()
        except sqlite3.Error as error:
            raise SourceUnavailable(
                f"{self._file}, or the folder for temporary files that SQLITE_TMPDIR names: {error}"
            ) from error
        errors = [
            *([] if owner is None else [not_a_hienergy_record(*owner)]),
            *([] if demoted is None else [in_use(*demoted)]),
        ]
        if errors:
            raise min(errors, key=lambda error: error.line)

    async def write(self, database: Database, progress: Callable[[int], object]) -> None:
        """Write the rows that are new or changed, and report how many after each transaction.

        Raises:
            StoreChangedError: a row is no longer valid in the store.
            SourceUnavailable: the database does not answer.
        """
        batches = self._batches_in_turn()

        def write_some(connection: Connection) -> int:
            ends_at = time.monotonic() + TRANSACTION_SECONDS
            written = 0
            for batch in batches:
                advertiser_rows.upsert(connection, batch)
                # Since the check of the file, another process may have written.
                wrong = advertiser_rows.misplaced(connection, [each.id for each in batch])
                if wrong is not None:
                    raise StoreChangedError(
                        f"advertiser {wrong} no longer fits the store, which another process "
                        "changed during the import. Some advertisers were imported; run the "
                        "import again"
                    )
                written += len(batch)
                if time.monotonic() >= ends_at:
                    break
            return written

        with closing(batches):
            while written := await database.write(write_some):
                progress(written)
                await asyncio.sleep(PAUSE_SECONDS)

    def _add_batch(self, batch: Sequence[_Given]) -> None:
        ids = [_id_of(row) for _, row in batch]
        usual_ids = [an_id for an_id in ids if an_id is not None]
        marks = ", ".join("?" * len(usual_ids))
        rows = self._staging.execute(
            f"SELECT {_LISTED} FROM store.advertisers WHERE id IN ({marks})",  # noqa: S608 - constants
            usual_ids,
        )
        stored: dict[int, _Stored] = {row[0]: row for row in rows}
        seen: list[tuple[int, int]] = []
        changed: list[tuple[object, ...]] = []
        for an_id, (line, row) in zip(ids, batch, strict=True):
            before = None if an_id is None else stored.get(an_id)
            if before is not None and _equals(row, before):
                seen.append((before[0], line))
                continue
            advertiser = validated(line, row)
            seen.append((advertiser.id, line))
            after = tuple(getattr(advertiser, name) for name in COLUMNS)
            if after != before:
                changed.append((*after, line, _turn(advertiser, before)))
        try:
            self._staging.executemany("INSERT INTO seen VALUES (?, ?)", seen)
        except sqlite3.IntegrityError:
            raise self._duplicate(seen) from None
        self._staging.executemany(_INSERT_CHANGED, changed)
        self._rows += len(seen)
        self._changed += len(changed)

    def _duplicate(self, seen: Iterable[tuple[int, int]]) -> CatalogueError:
        """Return the error for the first row whose id is staged with another line."""
        for an_id, line in seen:
            (first,) = self._staging.execute(
                "SELECT line FROM seen WHERE id = ?", (an_id,)
            ).fetchone()
            if first != line:
                return duplicate_id(line, an_id, first)
        raise LookupError("no id is staged twice")

    def _batches_in_turn(self) -> Generator[Sequence[Advertiser], None, None]:
        query = f"SELECT {_LISTED} FROM changed WHERE turn = ? ORDER BY id"  # noqa: S608 - constants
        for turn in _TURNS:
            with closing(self._staging.execute(query, (turn,))) as rows:
                records = (Advertiser(**dict(zip(COLUMNS, row, strict=True))) for row in rows)
                yield from _batches(records, _ROWS_PER_STATEMENT)


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch


def _id_of(row: Mapping[str, object]) -> int | None:
    """Return the id of a row that may be invalid, if it is a usual one."""
    value = row.get("id")
    if (
        isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) < len(str(MAX_ID))
    ):
        return int(value)
    return value if type(value) is int and 0 < value <= MAX_ID else None


def _equals(row: Mapping[str, object], stored: _Stored) -> bool:
    """Return whether a row of a file, as it is, says what is stored under its id."""
    _, *texts, owner = map(row.get, COLUMNS)
    stored_id, *stored_texts, stored_owner = stored
    if texts != stored_texts or not _COLUMN_NAMES.issuperset(row):
        return False
    if owner is None:
        # A HiEnergy record need not name itself.
        is_hienergy = stored_owner == stored_id and row["network_name"] == HIENERGY_NETWORK
        return stored_owner is None or is_hienergy
    return str(owner) == str(stored_owner)


_COLUMN_NAMES: Final = frozenset(COLUMNS)


def _turn(advertiser: Advertiser, before: _Stored | None) -> int:
    if advertiser.is_hienergy:
        return _HIENERGY
    was_hienergy = before is not None and before[COLUMNS.index("network_name")] == HIENERGY_NETWORK
    return _DEMOTED if was_hienergy else _NETWORK
