"""A database in an SQLite file: one connection writes, the others only read.

Before 3.51.3, SQLite can in rare cases corrupt a file when a checkpoint races another connection's
commit (https://sqlite.org/wal.html#walresetbug). So each process writes and checkpoints over one
connection only.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from contact_gateway.contacts.source import SearchTimedOut, SourceUnavailable
from contact_gateway.database_url import SqliteFile
from contact_gateway.store.connection_threads import ConnectionPool, Driver, Failure, PoolObserver
from contact_gateway.store.database import Database
from contact_gateway.store.database_file import DatabaseFile

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS: Final = 5
"""How long SQLite retries while another process holds a lock on the database."""

_READERS: Final = 4
_NEW_FILE_MODE: Final = 0o640
_INSTRUCTIONS_BETWEEN_CHECKS: Final = 10_000
_SWITCH_PAUSE_SECONDS: Final = 0.01
_WAL_RESET_BUG_FIXED: Final = (3, 51, 3)

_PRAGMAS: Final = ("foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}")
# The pages that 512 creations change fit into 8 MB. Else SQLite writes some of them twice.
_WRITER_PRAGMAS: Final = (*_PRAGMAS, "journal_mode=WAL", "synchronous=FULL", "cache_size=-8000")
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
# It has no code of its own. An operator can restore tables while the gateway runs.
_MISSING_TABLE: Final = "no such table: "


def has_wal_reset_bug() -> bool:
    """Return whether this SQLite has the bug, so that processes should not share a file."""
    return sqlite3.sqlite_version_info < _WAL_RESET_BUG_FIXED


class SqliteDatabase(Database):
    """The connections to one database file.

    A write takes the write lock when it begins: one that took it later could fail with "database is
    locked" without a retry. So no other write comes between what it reads and what it stores.
    """

    def __init__(self, address: SqliteFile, observer: PoolObserver | None = None) -> None:
        file = DatabaseFile(address.path)
        self._file: Final = file
        writer, reader = _Driver(file, _WRITER_PRAGMAS), _Driver(file, _READER_PRAGMAS)
        super().__init__(
            address,
            writers=ConnectionPool("write", writer, 1, "BEGIN IMMEDIATE", observer),
            readers=ConnectionPool("read", reader, _READERS, "BEGIN", observer),
            lookup_readers=ConnectionPool("look up", reader, 1, "BEGIN", observer),
        )

    def check(self) -> None:
        """Open or create the file, and switch it to WAL mode. Other users cannot read a new one."""
        path = self._file.path
        # SQLite would let all users read a new file. It reports best why it cannot open one. Only a
        # new one: closing a file drops all locks that the process has on it (sqlite.org, "How To
        # Corrupt An SQLite Database File", section 2.2).
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _NEW_FILE_MODE))
        ends_at = time.monotonic() + BUSY_TIMEOUT_SECONDS
        while True:
            try:
                with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.Error as error:
                is_busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() >= ends_at:
                    raise SourceUnavailable(f"{path}: {error}") from error
                # SQLite does not wait where several processes switch a new file at once.
                time.sleep(_SWITCH_PAUSE_SECONDS)
            else:
                return

    def _limited(
        self, connection: Connection, work: Callable[[Connection], T], timeout_seconds: float
    ) -> T:
        stops_at = time.monotonic() + timeout_seconds
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError("the connection is not one of SQLite")
        driver.set_progress_handler(
            lambda: time.monotonic() >= stops_at, _INSTRUCTIONS_BETWEEN_CHECKS
        )
        try:
            return work(connection)
        except (DatabaseError, sqlite3.Error) as error:
            if getattr(_cause_of(error), "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise SearchTimedOut(timeout_seconds) from error
            raise
        finally:
            driver.set_progress_handler(None, 0)

    def _try_to_write(self, connection: Connection) -> None:
        # The value stays as it is, but SQLite writes its page, and so needs room on the disk.
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        connection.exec_driver_sql(f"PRAGMA user_version={int(version)}")


class _Driver(Driver):
    """The driver of a file. There is one writer, and others wait for it."""

    dialect = "sqlite://"
    paramstyle = "qmark"

    def __init__(self, file: DatabaseFile, pragmas: Sequence[str]) -> None:
        self.label = file.path
        self._file: Final = file
        self._pragmas: Final = pragmas

    def connect(self) -> sqlite3.Connection:
        connection = self._file.connect()
        for pragma in self._pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def check(self) -> None:
        self._file.check()

    def failure(self, error: Exception) -> Failure | None:
        cause = _cause_of(error)
        if cause is None:
            return None
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF not in _PERMANENT_ERRORS:
            return Failure(cause.sqlite_errorname)
        # It names columns and holds no values.
        return Failure(str(cause), is_temporary=str(cause).startswith(_MISSING_TABLE))


def _cause_of(error: Exception) -> sqlite3.Error | None:
    cause = error.orig if isinstance(error, DatabaseError) else error
    return cause if isinstance(cause, sqlite3.Error) else None
