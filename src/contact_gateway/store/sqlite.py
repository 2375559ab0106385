"""Connections to the database: one that writes, some that only read.

SQLite before 3.51.3 can, very rarely, corrupt a file when a checkpoint races another connection's
commit (https://sqlite.org/wal.html#walresetbug). So in a process one connection writes and
checkpoints, and readers do neither.

What is asked of the database is plain SQLAlchemy, done as a whole on a connection's own thread: to
go there and back for each step of each statement takes ten times as long.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final, TypeVar

import aiosqlite
from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import StaticPool

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
    """The connections to one database file. Opening is lazy: nothing is touched before it is used.

    Work that is given to a connection is a function of it. It must not keep the connection.
    """

    def __init__(self, url: URL) -> None:
        self.url: Final = url
        self._writers: Final = _Threads(url, 1, _WRITER_PRAGMAS, begin="BEGIN IMMEDIATE")
        self._readers: Final = _Threads(url, _READERS, _READER_PRAGMAS, begin="BEGIN")
        self._looking_up: Final = _Threads(url, 1, _READER_PRAGMAS, begin="BEGIN")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do some reading, all of it as of one moment, in the time that a store may take.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await _in_time(self._readers.run(work))

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        """Read some single records, which never waits for those who read and search lists.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await _in_time(self._looking_up.run(work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do some writing in a transaction, which is committed when this returns.

        The write lock is taken at the start: a transaction that turned from reading to writing
        half-way could find the database locked, whatever its time-out.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        return await self._writers.run(work)

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
        await asyncio.gather(self._readers.close(), self._looking_up.close())
        await self._writers.close()


async def _in_time(work: Coroutine[object, object, T]) -> T:
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
    except (DatabaseError, sqlite3.Error) as error:
        reason = _passing_reason(error.orig if isinstance(error, DatabaseError) else error)
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


class _Threads:
    """Some connections, each on a thread of its own. Who finds all in use waits, but not long."""

    def __init__(self, url: URL, size: int, pragmas: Sequence[str], begin: str) -> None:
        self._file: Final = str(url.database)
        self._pragmas: Final = pragmas
        self._begin: Final = begin
        self._size: Final = size
        self._free: Final = asyncio.Semaphore(size)
        self._idle: Final[list[_Thread]] = []

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            with _faults_as_unavailable():
                thread = self._idle.pop() if self._idle else await self._opened()
                try:
                    return await thread.run(work)
                finally:
                    self._idle.append(thread)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close the connections, once what uses them has ended; what hangs is left alone."""
        acquired = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_TIMEOUT_SECONDS):
                await self._close_idle()
                while acquired < self._size:
                    await self._free.acquire()
                    acquired += 1
                    await self._close_idle()
        for _ in range(acquired):
            self._free.release()

    async def _close_idle(self) -> None:
        idle, self._idle[:] = self._idle[:], ()
        await asyncio.gather(*(thread.close() for thread in idle))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise SourceUnavailable("all connections are in use") from None

    async def _opened(self) -> "_Thread":
        thread = _Thread(self._file, self._pragmas, self._begin)
        await thread.open()
        return thread


class _GivenUpError(Exception):
    """Nobody waits for the work any more."""


class _Thread(aiosqlite.Connection):
    """A connection on its thread, which is given whole pieces of work in SQLAlchemy's terms."""

    def __init__(self, file: str, pragmas: Sequence[str], begin: str) -> None:
        def connect() -> sqlite3.Connection:
            # SQLAlchemy alone begins transactions, not the driver.
            connection = sqlite3.connect(file, isolation_level=None)
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
            return connection

        super().__init__(connect, iter_chunk_size=1)
        # One that hangs must not keep the process.
        self._thread.daemon = True
        self._engine: Final = create_engine(
            "sqlite://",
            creator=lambda: self._conn,
            poolclass=StaticPool,
            pool_reset_on_return=None,
            # An exception's text, which may be logged, leaves out what callers sent.
            hide_parameters=True,
        )

        self._given_up = threading.Event()

        @event.listens_for(self._engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        @event.listens_for(self._engine, "before_cursor_execute")
        def go_on(*_: object) -> None:
            if self._given_up.is_set():
                raise _GivenUpError

    async def open(self) -> None:
        """Begin, once.

        Raises:
            sqlite3.Error: the file cannot be opened.
        """
        await self  # type: ignore[unused-awaitable]  # which is all that it gives

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction: committed at its end, or rolled back.

        So it is where nobody waits for it any more: who breaks off an import keeps nothing of it.
        """
        given_up = threading.Event()
        try:
            # What aiosqlite offers beside it is one step of one statement.
            answer: T = await self._execute(  # type: ignore[no-untyped-call]  # it has no types
                self._in_transaction, work, given_up
            )
        except asyncio.CancelledError:
            given_up.set()
            raise
        return answer

    def _in_transaction(self, work: Callable[[Connection], T], given_up: threading.Event) -> T:
        self._given_up = given_up
        try:
            with self._engine.begin() as connection:
                answer = work(connection)
                if given_up.is_set():
                    raise _GivenUpError
                return answer
        finally:
            # SQLAlchemy does not roll back where it is the commit that fails.
            if self._conn.in_transaction:
                self._conn.rollback()
