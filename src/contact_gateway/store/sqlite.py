"""The connections to the SQLite database: one writes, the others only read.

Before 3.51.3, SQLite can in rare cases corrupt a file when a checkpoint races another connection's
commit (https://sqlite.org/wal.html#walresetbug). So each process writes and checkpoints over one
connection only.

Each connection has a thread, which runs a whole transaction of plain SQLAlchemy at a time: a switch
of threads for every step of every statement takes ten times as long.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool

from contact_gateway.contacts.source import SearchTimedOut, SourceUnavailable
from contact_gateway.store.database_file import DatabaseFile

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS: Final = 5
"""How long SQLite retries while another process holds a lock on the database.

Also how long a caller waits for a free connection, and closing for the connections in use.
"""

ANSWER_TIMEOUT_SECONDS: Final = 10.0
"""How long a caller waits for the database, for example when a disk hangs."""

_READERS: Final = 4
_NEW_FILE_MODE: Final = 0o640
_WRITE_CHECK_SECONDS: Final = 10.0
_INSTRUCTIONS_BETWEEN_CHECKS: Final = 10_000
_WAL_RESET_BUG_FIXED: Final = (3, 51, 3)

_PRAGMAS: Final = ("foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}")
_WRITER_PRAGMAS: Final = (*_PRAGMAS, "journal_mode=WAL", "synchronous=FULL")
_READER_PRAGMAS: Final = (*_PRAGMAS, "query_only=ON", "wal_autocheckpoint=0")

# The primary result codes (sqlite.org/rescode.html) of statements that fail at every retry.
_PERMANENT_ERRORS: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


def has_wal_reset_bug() -> bool:
    """Return whether this SQLite has the bug, so that processes should not share a file."""
    return sqlite3.sqlite_version_info < _WAL_RESET_BUG_FIXED


class Database:
    """The connections to one database file. They are opened by the first work that needs them.

    Work is a function of a connection. It runs in one transaction, and must not use the connection
    after it returns.
    """

    def __init__(self, url: URL) -> None:
        self.url: Final = url
        file = DatabaseFile(str(url.database))
        self.file: Final = file
        self._written_at: float | None = None
        self._writer: Final = _ConnectionPool(file, 1, _WRITER_PRAGMAS, begin="BEGIN IMMEDIATE")
        self._readers: Final = _ConnectionPool(file, _READERS, _READER_PRAGMAS, begin="BEGIN")
        self._lookup_reader: Final = _ConnectionPool(file, 1, _READER_PRAGMAS, begin="BEGIN")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` reads from one snapshot of the database.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await self._with_timeout(self._readers.run(work))

    async def search(self, work: Callable[[Connection], T], timeout_seconds: float) -> T:
        """Return what `work` reads, as `read` does. SQLite stops its statements after a timeout.

        Raises:
            SearchTimedOut: the timeout passed.
            SourceUnavailable: the database does not answer in time.
        """

        def limited(connection: Connection) -> T:
            stops_at = time.monotonic() + timeout_seconds
            driver = connection.connection.driver_connection
            if not isinstance(driver, sqlite3.Connection):
                raise TypeError("the connection is not one of SQLite")
            driver.set_progress_handler(
                lambda: time.monotonic() >= stops_at, _INSTRUCTIONS_BETWEEN_CHECKS
            )
            try:
                return work(connection)
            except DatabaseError as error:
                if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                    raise SearchTimedOut(timeout_seconds) from error
                raise
            finally:
                driver.set_progress_handler(None, 0)

        return await self._with_timeout(self._readers.run(limited))

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        """Read single records, over a connection that no list or search occupies.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await self._with_timeout(self._lookup_reader.run(work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, once its transaction is committed.

        The transaction takes the write lock when it begins: one that took it later could fail with
        "database is locked" without a retry.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        try:
            answer = await self._writer.run(work)
        except SourceUnavailable:
            self._written_at = None
            raise
        self._written_at = time.monotonic()
        return answer

    async def can_write(self) -> bool:
        """Return whether writes are committed, by the last one or else by a trial.

        A trial follows a failed write, such as on a full disk, and ten seconds without a write.
        """
        written_at = self._written_at
        if written_at is not None and time.monotonic() - written_at < _WRITE_CHECK_SECONDS:
            return True
        try:
            await self._with_timeout(self.write(_rewrite_first_page))
        except SourceUnavailable:
            return False
        return True

    def check(self) -> None:
        """Open or create the file, and switch it to WAL mode. Other users cannot read a new one.

        Raises:
            SourceUnavailable: it cannot be opened, or is not a database; the cause says why.
        """
        # SQLite would let all users read a new file. It reports best why it cannot open one. Only a
        # new one: closing a file drops all locks that the process has on it (sqlite.org, "How To
        # Corrupt An SQLite Database File", section 2.2).
        with suppress(OSError):
            os.close(os.open(self.file.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _NEW_FILE_MODE))
        try:
            with closing(
                sqlite3.connect(self.file.path, timeout=BUSY_TIMEOUT_SECONDS)
            ) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise SourceUnavailable(f"{self.file.path}: {error}") from error

    async def close(self) -> None:
        """Close all connections, the writer's last: the last one to close removes the WAL file."""
        await asyncio.gather(self._readers.close(), self._lookup_reader.close())
        await self._writer.close()

    async def _with_timeout(self, answer: Coroutine[object, object, T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                return await answer
        except TimeoutError:
            raise SourceUnavailable(f"{self.file.path}: the store timed out") from None


def _rewrite_first_page(connection: Connection) -> None:
    # The value stays as it is, but SQLite writes its page, and so needs room on the disk.
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version={int(version)}")


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[T]):
    """Work for a thread of a pool, and the future that its caller awaits."""

    work: Callable[[Connection], T]
    future: asyncio.Future[T]
    free_threads: asyncio.Semaphore

    def succeed(self, answer: T) -> None:
        """Answer the caller, on the event loop."""
        self.free_threads.release()
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Raise an error at the caller, on the event loop."""
        self.free_threads.release()
        if not self.future.done():
            self.future.set_exception(error)


# The jobs' answers have any types. A future without a job asks a thread to close its connection.
_Queue: TypeAlias = SimpleQueue[_Job[Any] | asyncio.Future[None]]


class _ConnectionPool:
    """Connections with the same pragmas, each on a thread. The threads share a queue of jobs.

    A job is queued only when a thread is free, so that a caller waits a bounded time for one.
    """

    def __init__(self, file: DatabaseFile, size: int, pragmas: Sequence[str], begin: str) -> None:
        self._file: Final = file
        self._size: Final = size
        self._pragmas: Final = pragmas
        self._begin: Final = begin
        self._free_threads: Final = asyncio.Semaphore(size)
        self._threads = 0
        self._queue = _Queue()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction: roll it back if `work` fails or the caller is cancelled.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        if self._threads < self._size:
            _ConnectionThread(self._queue, self._file, self._pragmas, self._begin).start()
            self._threads += 1
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_SECONDS):
                await self._free_threads.acquire()
        except TimeoutError:
            raise SourceUnavailable(f"{self._file.path}: all connections are in use") from None
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(work, future, self._free_threads))
        try:
            return await future
        except (DatabaseError, sqlite3.Error) as error:
            reason = _temporary_reason(error)
            if reason is None:
                error.add_note(f"Database file: {self._file.path}")
                raise
            raise SourceUnavailable(f"{self._file.path}: {reason}") from error

    async def close(self) -> None:
        """Close the connections after their jobs in flight; do not wait for those that hang."""
        loop = asyncio.get_running_loop()
        closed = [loop.create_future() for _ in range(self._threads)]
        for future in closed:
            self._queue.put(future)
        self._threads, self._queue = 0, _Queue()
        if closed:
            await asyncio.wait(closed, timeout=BUSY_TIMEOUT_SECONDS)


def _temporary_reason(error: DatabaseError | sqlite3.Error) -> str | None:
    """Return SQLite's name for why it cannot answer now; None if the statement is wrong."""
    cause = error.orig if isinstance(error, DatabaseError) else error
    if not isinstance(cause, sqlite3.Error):
        return None
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    is_permanent = code & 0xFF in _PERMANENT_ERRORS
    return None if is_permanent else getattr(cause, "sqlite_errorname", str(cause))


class _CancelledError(Exception):
    """The caller was cancelled, so its transaction is rolled back."""


class _ConnectionThread(Thread):
    """A thread that runs jobs on a connection, which it opens for the first one."""

    def __init__(
        self, queue: _Queue, file: DatabaseFile, pragmas: Sequence[str], begin: str
    ) -> None:
        # A disk that hangs must not keep the process from ending.
        super().__init__(name=f"sqlite {begin}", daemon=True)
        self._queue: Final = queue
        self._file: Final = file
        self._job: _Job[Any] | None = None

        def connect() -> sqlite3.Connection:
            connection = file.connect()
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
            return connection

        self._engine: Final = create_engine(
            "sqlite://",
            creator=connect,
            poolclass=StaticPool,
            pool_reset_on_return=None,
            # The text of an exception may be logged; it must not hold what callers sent.
            hide_parameters=True,
        )
        event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        event.listen(self._engine, "before_cursor_execute", self._raise_if_cancelled)

    def run(self) -> None:
        """Run jobs until the connection is to be closed."""
        while isinstance(job := self._queue.get(), _Job):
            self._job = job
            try:
                answer = self._run_in_transaction(job.work)
            except BaseException as error:  # noqa: BLE001 - the caller awaits an answer or an error
                _call(job.future, job.fail, error)
            else:
                _call(job.future, job.succeed, answer)
        self._engine.dispose()
        _call(job, job.set_result, None)

    def _run_in_transaction(self, work: Callable[[Connection], T]) -> T:
        self._file.check()
        with self._engine.connect() as connection:
            try:
                with connection.begin():
                    answer = work(connection)
                    self._raise_if_cancelled()
            except BaseException:
                # SQLAlchemy does not roll back after a commit that fails.
                connection.connection.rollback()
                raise
        # A commit to a file that is no longer at its path is lost.
        self._file.check()
        return answer

    def _raise_if_cancelled(self, *_: object) -> None:
        # Another thread may read a future's state, but not set it.
        if self._job is not None and self._job.future.cancelled():
            raise _CancelledError


def _call(future: asyncio.Future[Any], callback: Callable[[T], None], value: T) -> None:
    """Call `callback` on a future's event loop, unless the loop has been closed."""
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(callback, value)
