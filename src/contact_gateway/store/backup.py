"""Backup and restore of the database's file.

A copy is complete before it gets its name, so that a copy that is broken off leaves nothing.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from contact_gateway.contact_files.new_file import FileError, check_target, errors_of
from contact_gateway.store.checks import Report, inspect
from contact_gateway.store.database_file import exists, uri_of
from contact_gateway.store.sqlite import BUSY_TIMEOUT_SECONDS

Progress: TypeAlias = Callable[[int, int], None]
"""Receives the number of copied pages, and of all pages."""

_PAGES_PER_STEP: Final = 1000
_WRITE_ERRORS: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})

# Each open connection in WAL mode holds shared locks on these bytes of the database, and of the
# index of its write-ahead log. The latter also shows a gateway whose database was replaced. The
# system releases the locks of a process that ends. Source: SQLite's src/os.h (SHARED_FIRST) and
# src/os_unix.c (UNIX_SHM_DMS).
_DATABASE_LOCK: Final = (0x40000002, 510)
_LOG_INDEX_LOCK: Final = (128, 1)


class Restored(NamedTuple):
    """A restored database: what is in it, and where the database that it replaced is kept."""

    report: Report
    kept: Path | None


def back_up(file: Path, target: Path, *, overwrite: bool, progress: Progress) -> None:
    """Copy a database that may be in use. The copy is one snapshot of it.

    Raises:
        FileError: the database cannot be read, or the copy cannot be written.
    """
    with errors_of(target):
        if target.exists():
            _refuse_same(file, target)
        check_target(target, overwrite=overwrite)
    with (
        errors_of(target),
        reading(file) as source,
        _exclusive(target),
        _copied(source, target, "partial", progress) as copy,
    ):
        copy.chmod(file.stat().st_mode & 0o777)
        for stale in _companions(target):
            stale.unlink(missing_ok=True)
        copy.replace(target)
        _sync(target.parent)


def restore(copy: Path, file: Path, progress: Progress) -> Restored:
    """Replace a database that is not in use by a copy, once the copy is checked.

    Raises:
        FileError: the copy is damaged or not a database of contact-gateway, the database is in
            use, or it cannot be written.
    """
    # A link stays, and what is set aside is the database.
    file = file.resolve()
    with errors_of(file):
        if exists(file):
            _refuse_same(copy, file)
    with (
        errors_of(file),
        _exclusive(file),
        reading(copy, is_copy=True) as source,
        _copied(source, file, "restoring", progress) as checked,
    ):
        with reading(checked, is_copy=True) as connection:
            report = inspect(connection)
        if report.problems:
            reasons = "; ".join(report.problems)
            raise FileError(f"{copy} was not restored: {reasons.rstrip('.')}")
        _keep_owner(file, checked)
        kept = _set_aside(file)
        checked.replace(file)
        _sync(file.parent)
    return Restored(report, kept)


@contextmanager
def reading(file: Path, *, is_copy: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a database for reading: one that may be in use, or a copy.

    Raises:
        FileError: it cannot be opened, or an SQLite error is raised inside.
    """
    with errors_of(file):
        if not exists(file):
            raise FileError(f"{file} does not exist")
    log, _ = _companions(file)
    # Without a write-ahead log, nothing is written beside a copy. A database is not opened
    # read-only: the last connection to close removes its log.
    uri = uri_of(file, "ro", immutable=not log.exists()) if is_copy else uri_of(file, "rw")
    try:
        with closing(
            sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS)
        ) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            yield connection
    except sqlite3.Error as error:
        raise FileError(f"{file}: {error}") from error


@contextmanager
def _exclusive(file: Path) -> Iterator[None]:
    """Hold SQLite's locks on a database, so that no connection to it is open or can be opened."""
    _, log_index = _companions(file)
    with ExitStack() as stack:
        for locked, (start, length) in ((file, _DATABASE_LOCK), (log_index, _LOG_INDEX_LOCK)):
            try:
                descriptor = os.open(locked, os.O_RDWR)
            except FileNotFoundError:
                continue
            stack.callback(os.close, descriptor)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            except (BlockingIOError, PermissionError):
                raise FileError(
                    f"{file} is in use. Stop the gateway, and close other programs that have it "
                    "open"
                ) from None
        yield


@contextmanager
def _copied(
    source: sqlite3.Connection, target: Path, suffix: str, progress: Progress
) -> Iterator[Path]:
    """Copy a database durably into a new file beside the target, and yield the file.

    After an error, also inside, the file is deleted.
    """
    partial = target.with_name(f"{target.name}.{suffix}")
    partial.unlink(missing_ok=True)
    # It has names and addresses.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        # Inside a transaction, each step copies from the same snapshot. Otherwise a commit of
        # another process between two steps would start the copy again.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        try:
            with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                copy.execute("PRAGMA journal_mode=OFF")
                copy.execute("PRAGMA synchronous=OFF")
                source.backup(
                    copy,
                    pages=_PAGES_PER_STEP,
                    progress=lambda _, remaining, total: progress(total - remaining, total),
                )
        except sqlite3.Error as error:
            # The source is only read.
            if getattr(error, "sqlite_errorcode", None) in _WRITE_ERRORS:
                raise FileError(f"{target}: {error}") from error
            raise
        finally:
            source.execute("ROLLBACK")
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _set_aside(file: Path) -> Path | None:
    """Keep a database under another name, with its write-ahead log, and return the name.

    The file keeps its own name as well, until it is replaced: at no moment is there none. A log
    that stayed would be applied to the file that replaces it.
    """
    kept = file.with_name(f"{file.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    if file.exists():
        kept.hardlink_to(file)
    for companion, kept_companion in zip(_companions(file), _companions(kept), strict=True):
        if companion.exists():
            companion.rename(kept_companion)
    return kept if kept.exists() else None


def _companions(file: Path) -> tuple[Path, Path]:
    """Return the write-ahead log of a database, and its index."""
    return file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")


def _keep_owner(file: Path, copy: Path) -> None:
    """Give a copy the owner and the permissions of the file that it replaces."""
    if not file.exists():
        return
    status = file.stat()
    with suppress(PermissionError):
        os.chown(copy, status.st_uid, status.st_gid)
    copy.chmod(status.st_mode & 0o777)


def _refuse_same(copy: Path, file: Path) -> None:
    if copy.exists() and copy.samefile(file):
        raise FileError(f"{copy} is the database itself. Name another file")


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
