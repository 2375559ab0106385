"""Connections to the database: one that writes, some that only read.

SQLite before 3.51.3 can, very rarely, corrupt a file when a checkpoint races another connection's
commit (https://sqlite.org/wal.html#walresetbug). So in a process one connection writes and
checkpoints, and readers do neither.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Final, TypeVar

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from contact_gateway.contacts.source import SourceUnavailable

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS: Final = 5
ANSWERS_WITHIN_SECONDS: Final = 10.0
"""What takes longer is given up: a disk that hangs would have its callers wait for ever."""

_READERS: Final = 4
_WAL_RESET_BUG_MENDED: Final = (3, 51, 3)


class UnsupportedDatabaseError(ValueError):
    """The database URL names something that this version cannot keep its data in."""


def sqlite_url(text: str) -> URL:
    """Read a database URL.

    Raises:
        UnsupportedDatabaseError: it is not the URL of an SQLite file.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise UnsupportedDatabaseError("it is not a database URL") from None
    if url.get_backend_name() == "postgresql":
        raise UnsupportedDatabaseError(
            "PostgreSQL is not supported yet; use sqlite+aiosqlite:///FILE"
        )
    if url.drivername not in {"sqlite", "sqlite+aiosqlite"}:
        raise UnsupportedDatabaseError("only sqlite+aiosqlite:///FILE is supported")
    if url.database in {None, "", ":memory:"} or str(url.database).startswith("file:"):
        raise UnsupportedDatabaseError("it must name a file, for example sqlite+aiosqlite:///gw.db")
    return url.set(drivername="sqlite+aiosqlite")


def has_wal_reset_bug() -> bool:
    """Tell whether several processes had better not share one file with this SQLite."""
    return sqlite3.sqlite_version_info < _WAL_RESET_BUG_MENDED


class Database:
    """The two pools of one database file. Opening is lazy: nothing is touched before it is used."""

    def __init__(self, url: URL) -> None:
        self.url: Final = url
        self._writer: Final = _engine(url, size=1, pragmas=_WRITER_PRAGMAS)
        self._readers: Final = _engine(url, size=_READERS, pragmas=_READER_PRAGMAS)
        event.listen(self._writer.sync_engine, "begin", _begin_immediate)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection that only reads.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        with _faults_as_unavailable():
            async with self._readers.connect() as connection:
                yield connection

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do some reading on a connection, in the time that a store may take.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await in_time(self._read(work))

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self.reading() as connection:
            return await work(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Lend the connection that writes, in a transaction that commits at the end.

        The write lock is taken at the start: a transaction that turned from reading to writing
        half-way could find the database locked, whatever its time-out.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        with _faults_as_unavailable():
            async with self._writer.begin() as connection:
                yield connection

    def check(self) -> None:
        """See that the file can be opened, or made, and is a database; keep its log beside it.

        Raises:
            SourceUnavailable: it is not; the cause says why.
        """
        try:
            with closing(
                sqlite3.connect(str(self.url.database), timeout=BUSY_TIMEOUT_SECONDS)
            ) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise SourceUnavailable(str(error)) from error

    async def close(self) -> None:
        """Close all connections; the writer's last, as the last to go tidies up the log."""
        await self._readers.dispose()
        await self._writer.dispose()


async def in_time(work: Coroutine[object, object, T]) -> T:
    """Wait as long as a store may take. The work goes on, since a thread cannot be stopped.

    Raises:
        SourceUnavailable: it takes longer.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=ANSWERS_WITHIN_SECONDS)
    finally:
        if not task.done():
            task.add_done_callback(_heed)
    if not task.done():
        raise SourceUnavailable("the store takes too long")
    return task.result()


def _heed(task: asyncio.Task[T]) -> None:
    """Take what came of a task that nobody waits for, so that it is not reported as lost."""
    if not task.cancelled():
        task.exception()


@contextmanager
def _faults_as_unavailable() -> Iterator[None]:
    """Tell a database that cannot answer now from a mistake in a statement."""
    try:
        yield
    except PoolTimeoutError as error:
        raise SourceUnavailable("all connections are in use") from error
    except DatabaseError as error:
        reason = _passing_reason(error.orig)
        if reason is None:
            raise
        raise SourceUnavailable(reason) from error


def _passing_reason(error: BaseException | None) -> str | None:
    """Name what keeps the database from answering; None where the statement is at fault."""
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    mistaken = code & 0xFF in _MISTAKES_IN_STATEMENTS
    return None if mistaken else getattr(error, "sqlite_errorname", str(error))


# The primary result codes (sqlite.org/rescode.html) of statements that can never succeed.
_MISTAKES_IN_STATEMENTS: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)

_SHARED_PRAGMAS: Final = ("foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}")
_WRITER_PRAGMAS: Final = (*_SHARED_PRAGMAS, "journal_mode=WAL", "synchronous=FULL")
_READER_PRAGMAS: Final = (*_SHARED_PRAGMAS, "query_only=ON", "wal_autocheckpoint=0")


def _engine(url: URL, *, size: int, pragmas: tuple[str, ...]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        # An exception's text, which may be logged, leaves out what callers sent.
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _prepare(pragmas))
    return engine


def _prepare(pragmas: tuple[str, ...]) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # SQLAlchemy alone begins transactions, not the driver.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return prepare


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
