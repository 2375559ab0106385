"""The file of a database: opening it, and noticing that it was replaced or deleted.

SQLite keeps using a file that was replaced or deleted underneath it. Its commits then succeed, and
are lost.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from contact_gateway.contacts.source import SourceUnavailable

_log = structlog.get_logger(__name__)


class DatabaseFile:
    """The file at a path, as it was when it was first opened. Threads may share it."""

    def __init__(self, path: str) -> None:
        self.path: Final = path
        # Parsing it takes longer than the system call.
        self._parsed_path: Final = Path(path)
        self._opened: tuple[int, int] | None = None
        self._is_reported = False
        self._lock: Final = Lock()

    def connect(self) -> sqlite3.Connection:
        """Open the file, and create it the first time. The driver begins no transactions.

        Raises:
            SourceUnavailable: the file was replaced since it was first opened.
            sqlite3.Error: it cannot be opened.
        """
        with self._lock:
            before = self._found()
            uri = uri_of(self.path, "rwc" if self._opened is None else "rw")
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            if self._opened is None:
                self._opened = before or self._found()
        try:
            self.check()
        except SourceUnavailable:
            connection.close()
            raise
        return connection

    def check(self) -> None:
        """Check that the path still leads to the file that was opened. This takes microseconds.

        Raises:
            SourceUnavailable: the file was replaced or deleted.
        """
        if self._opened is None:
            return
        found = self._found()
        if found == self._opened:
            self._is_reported = False
            return
        what = "deleted" if found is None else "replaced"
        reason = (
            f"{self.path} was {what} while the gateway had it open. Stop the gateway, run "
            "`contact-gateway store restore COPY`, and start it again"
        )
        with self._lock:
            is_new, self._is_reported = not self._is_reported, True
        if is_new:
            _log.error("database file lost", file=self.path, cause=reason)
        raise SourceUnavailable(reason)

    def _found(self) -> tuple[int, int] | None:
        """Return the device and the inode of the file at the path; None if there is none."""
        with suppress(OSError):
            status = self._parsed_path.stat()
            return status.st_dev, status.st_ino
        return None


def exists(file: Path) -> bool:
    """Return whether there is such a file. Since Python 3.14, `Path.exists` hides the errors.

    Raises:
        OSError: it cannot be looked at.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        file.stat()
        return True
    return False


def uri_of(path: str | Path, mode: str, *, immutable: bool = False) -> str:
    """Return SQLite's URI of a file (https://sqlite.org/uri.html)."""
    suffix = "&immutable=1" if immutable else ""
    return f"{Path(path).absolute().as_uri()}?mode={mode}{suffix}"
