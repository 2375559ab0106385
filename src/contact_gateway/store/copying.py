"""The copy of a database into an empty one, also of another kind, such as SQLite to PostgreSQL.

Rows keep their ids. They are copied in the order of their keys, in short transactions, so an
interrupted copy continues after its last row. Checksums of both databases are compared at the
end: they also show whether the source was written to meanwhile.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Select,
    Table,
    and_,
    func,
    not_,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.exc import DatabaseError

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.database_url import DatabaseAddress, SqliteFile
from contact_gateway.store import schema_version
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.database import Database
from contact_gateway.store.prepared_statements import PreparedSelect
from contact_gateway.store.tables import metadata
from contact_gateway.store.upserts import insert_new

CopyProgress: TypeAlias = Callable[[str, int, int], None]
"""Receives the name of a phase, the number of rows that are done, and that of all rows."""

_OWN: Final = "SELECT pg_postmaster_start_time(), current_database()"
_ROWS_AT_A_TIME: Final = 512
_KEYS_AT_A_TIME: Final = 20_000
# Each after those that it refers to.
_TABLES: Final = metadata.sorted_tables
_BY_KEY: Final = {table: PreparedSelect(select(table), *table.primary_key) for table in _TABLES}

T = TypeVar("T")
_Row: TypeAlias = tuple[Any, ...]  # SQLAlchemy's Table has no types of columns
_Key: TypeAlias = tuple[Any, ...]  # likewise
_Report: TypeAlias = Callable[[int], None]


class CopyError(RuntimeError):
    """A database was not copied. The message names FROM or TO, and says what to do."""


class _Part(NamedTuple):
    """Some rows of a table, which may refer to other tables and to earlier parts."""

    table: Table
    condition: ColumnElement[bool]


class _Content(NamedTuple):
    """The number of rows of a table, and a checksum that does not depend on their order."""

    rows: int
    checksum: int


async def copy_database(
    source: Database, target: Database, progress: CopyProgress
) -> Mapping[str, int]:
    """Copy all rows, and return how many each table has.

    Raises:
        CopyError: a database cannot be used, the target has other rows, or the copy differs.
    """
    origin, copy = _Side("FROM", source), _Side("TO", target)
    await origin.require_current()
    with copy.errors():
        await schema_version.prepare(target)
    identity = await origin.read(_identity)
    if identity is not None and identity == await copy.read(_identity):
        raise CopyError("FROM and TO are the same database")
    parts = [*_parts()]
    counts = [await _count(origin, part) for part in parts]
    copied = [await _count(copy, part) for part in parts]
    if any(copied):
        await _refuse_other_rows(origin, copy, _phase(progress, "Comparing", sum(copied)))
    report = _phase(progress, "Copying", sum(counts))
    for part, rows in zip(parts, copied, strict=True):
        await _copy_part(part, rows, origin, copy, report)
    for table in _TABLES:
        if table.autoincrement_column is not None:
            last_id = await origin.read(partial(last_generated_id, table=table))
            await copy.write(partial(_set_last_id, table=table, last_id=last_id))
    return await _verify(origin, copy, _phase(progress, "Verifying", 2 * sum(counts)))


class _Side:
    """One of the two databases, by the name that it has in messages."""

    def __init__(self, name: str, database: Database) -> None:
        self.name: Final = name
        self._database: Final = database

    async def require_current(self) -> None:
        """Check that the database has the tables of this version; create no file."""
        if _is_missing(self._database.address):
            raise CopyError(f"{self.name}: {self._database.address.label} does not exist")
        with self.errors():
            revision = await schema_version.revision(self._database)
            schema_version.require_known(revision)
        newest = schema_version.newest_revision()
        if revision is None:
            raise CopyError(
                f"{self.name}: {self._database.address.label} is not a database of the gateway"
            )
        if revision != newest:
            raise CopyError(
                f"{self.name}: the database is at revision {revision}, and this version needs "
                f"{newest}. Set CONTACT_GATEWAY_DATABASE_URL to it, and run "
                "`contact-gateway migrate`"
            )

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` reads."""
        with self.errors():
            return await self._database.read(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, once its transaction is committed."""
        with self.errors():
            return await self._database.write(work)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Name the database in its errors."""
        try:
            yield
        except SourceUnavailable as error:
            raise CopyError(f"{self.name}: the database does not answer: {error.reason}") from error
        except (DatabaseFault, schema_version.SchemaNotCurrentError) as error:
            raise CopyError(f"{self.name}: {error}") from error


def _identity(connection: Connection) -> tuple[Any, ...] | None:
    """Return what no other database has: a host or a file may have several names.

    Returns:
        None on a system that only speaks PostgreSQL's protocol, and does not know.
    """
    if connection.dialect.name == "sqlite":
        main, *_ = connection.exec_driver_sql("PRAGMA database_list")
        status = Path(main.file).stat()
        return status.st_dev, status.st_ino
    try:
        with connection.begin_nested():
            return tuple(connection.exec_driver_sql(_OWN).one())
    except DatabaseError:
        return None


def _is_missing(address: DatabaseAddress) -> bool:
    # Before Python 3.14, Path.exists() raises an error for a folder without rights.
    return isinstance(address, SqliteFile) and not os.access(address.path, os.F_OK)


def _phase(progress: CopyProgress, name: str, total: int) -> _Report:
    """Return the function that reports that something is done for further rows."""
    completed = 0

    def report(rows: int) -> None:
        nonlocal completed
        completed += rows
        progress(name, completed, total)

    return report


async def _refuse_other_rows(origin: _Side, copy: _Side, report: _Report) -> None:
    """Check that all rows of the copy are those of an earlier, interrupted one."""
    for table in _TABLES:
        async for rows in _pages(copy, _Part(table, true())):
            keys = [_key_of(table, row) for row in rows]
            expected = await origin.read(partial(_rows_of, table=table, keys=keys))
            if not expected.issuperset(rows):
                raise CopyError(
                    f"TO has rows of {table.name} that FROM does not have, or has differently. "
                    "Name an empty database"
                )
            report(len(rows))


async def _count(side: _Side, part: _Part) -> int:
    """Return the number of rows; one statement for all of them might take too long."""
    return sum([len(keys) async for keys in _pages(side, part, only_keys=True)])


async def _copy_part(part: _Part, copied: int, origin: _Side, copy: _Side, report: _Report) -> None:
    after = None
    if _is_ordered_alike(part.table):
        after = await copy.read(partial(_last_key, part=part))
        report(copied)
    async for rows in _pages(origin, part, after):
        await copy.write(partial(_insert, table=part.table, rows=rows))
        report(len(rows))


async def _verify(origin: _Side, copy: _Side, report: _Report) -> Mapping[str, int]:
    counts = {}
    for table in _TABLES:
        expected, found = await asyncio.gather(
            _content(origin, table, report), _content(copy, table, report)
        )
        if found != expected:
            what = (
                f"FROM has {expected.rows} rows of {table.name}, and TO has {found.rows}"
                if found.rows != expected.rows
                else f"FROM and TO have different rows of {table.name}"
            )
            raise CopyError(
                f"{what}. Stop all gateways and commands that use them, and copy again. If that "
                "does not help, name an empty database as TO"
            )
        counts[table.name] = found.rows
    return counts


async def _content(side: _Side, table: Table, report: _Report) -> _Content:
    rows = checksum = 0
    async for page in _pages(side, _Part(table, true())):
        rows += len(page)
        checksum += sum(map(_checksum, page))
        report(len(page))
    return _Content(rows, checksum)


async def _pages(
    side: _Side, part: _Part, after: _Key | None = None, *, only_keys: bool = False
) -> AsyncIterator[Sequence[_Row]]:
    """Yield the rows, or the keys, after a key, in their order, each page by a read of its own."""
    query = select(part.table).limit(_ROWS_AT_A_TIME)
    if only_keys:
        query = select(*part.table.primary_key.columns).limit(_KEYS_AT_A_TIME)
    while rows := await side.read(partial(_next, part=part, after=after, query=query)):
        yield rows
        after = rows[-1] if only_keys else _key_of(part.table, rows[-1])


def _checksum(row: _Row) -> int:
    """Return a number for the values of a row, which are the same Python objects on any engine."""
    digest = blake2b(repr(row).encode(), digest_size=16)
    return int.from_bytes(digest.digest(), "big")


def _parts() -> Iterator[_Part]:
    """Yield all rows in an order in which each can be inserted.

    The rows of a table that others of the same table refer to refer to themselves.
    """
    for table in _TABLES:
        own = next((key for key in table.foreign_keys if key.column.table is table), None)
        if own is None:
            yield _Part(table, true())
        else:
            is_first = or_(own.parent.is_(None), own.parent == own.column)
            yield _Part(table, is_first)
            yield _Part(table, not_(is_first))


def _is_ordered_alike(table: Table) -> bool:
    """Return whether all engines order the keys alike: numbers and bytes, not texts."""
    keys = table.primary_key.columns.values()
    return len(keys) == 1 and isinstance(keys[0].type, Integer | LargeBinary)


def _key_of(table: Table, row: _Row) -> _Key:
    names = table.columns.keys()
    return tuple(row[names.index(key.name)] for key in table.primary_key.columns)


def _next(
    connection: Connection, part: _Part, after: _Key | None, query: Select[Any]
) -> Sequence[_Row]:
    keys = part.table.primary_key.columns.values()
    query = query.where(part.condition).order_by(*keys)
    if after is None:
        return [tuple(row) for row in connection.execute(query)]
    # First the rows that have all but the last column in common. SQLite uses only the first column
    # of an index to compare tuples.
    for length in range(len(keys), 0, -1):
        *common, last = zip(keys[:length], after, strict=False)
        is_next = and_(*(key == value for key, value in common), last[0] > last[1])
        if rows := [tuple(row) for row in connection.execute(query.where(is_next))]:
            return rows
    return ()


def _rows_of(connection: Connection, table: Table, keys: Sequence[_Key]) -> frozenset[_Row]:
    return frozenset(map(tuple, _BY_KEY[table].rows(connection, keys)))


def _last_key(connection: Connection, part: _Part) -> _Key | None:
    (key,) = part.table.primary_key.columns
    query = select(key).where(part.condition).order_by(key.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else tuple(row)


def _insert(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    names = table.columns.keys()
    connection.execute(
        insert_new(connection.dialect, table),
        [dict(zip(names, row, strict=True)) for row in rows],
    )


def last_generated_id(connection: Connection, table: Table) -> int | None:
    """Return the last id that a table generated: that of a deleted row is never used again."""
    query = (
        "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:name, 'id') AS regclass))"
        if connection.dialect.name == "postgresql"
        else "SELECT seq FROM sqlite_sequence WHERE name = :name"
    )
    generated: int | None = connection.execute(text(query), {"name": table.name}).scalar()
    return generated


def _set_last_id(connection: Connection, table: Table, last_id: int | None) -> None:
    """Let a table generate the ids after this one and after those of its rows."""
    greatest = connection.execute(select(func.max(table.c.id))).scalar()
    last = max(last_id or 0, greatest or 0)
    if not last:
        return
    statements = [
        "DELETE FROM sqlite_sequence WHERE name = :name",
        "INSERT INTO sqlite_sequence VALUES (:name, :last)",
    ]
    if connection.dialect.name == "postgresql":
        statements = ["SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"]
    for statement in statements:
        connection.execute(text(statement), {"name": table.name, "last": last})
