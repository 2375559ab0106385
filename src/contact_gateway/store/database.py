"""A database: work is a function of a connection, and runs in one transaction."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

from sqlalchemy import Connection

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.database_url import DatabaseAddress, SqliteFile
from contact_gateway.settings import Settings
from contact_gateway.store.connection_threads import ConnectionPool, PoolObserver

T = TypeVar("T")

ANSWER_TIMEOUT_SECONDS: Final = 10.0
"""How long a caller waits for the database, for example when a disk hangs."""

_WRITE_CHECK_SECONDS: Final = 10.0


class Database(ABC):
    """The connections to one database. They are opened by the first work that needs them.

    Work must not use its connection after it returns. It may be run more than once, until a
    transaction is committed, so it must have no other effects.

    Args:
        address: where the database is.
        writers: run transactions that write.
        readers: run transactions that read one snapshot.
        lookup_readers: run short statements, each of which may be a snapshot of its own, and no
            searches.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        writers: ConnectionPool,
        readers: ConnectionPool,
        lookup_readers: ConnectionPool,
    ) -> None:
        self.address: Final = address
        self._writers: Final = writers
        self._readers: Final = readers
        self._lookup_readers: Final = lookup_readers
        self._written_at: float | None = None

    @property
    def concurrent_writes(self) -> int:
        """How many transactions may write at the same time."""
        return self._writers.size

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` reads from one snapshot of the database.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await self._with_timeout(self._readers.run(work))

    async def search(self, work: Callable[[Connection], T], timeout_seconds: float) -> T:
        """Return what `work` reads, as `read` does. The database stops its statements in time.

        Raises:
            SearchTimedOut: the timeout passed.
            SourceUnavailable: the database does not answer in time.
        """
        return await self.read(lambda connection: self._limited(connection, work, timeout_seconds))

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        """Read single records and pages that an index has, over a connection without searches.

        Raises:
            SourceUnavailable: the database does not answer in time.
        """
        return await self._with_timeout(self._lookup_readers.run(work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns, once its transaction is committed.

        Raises:
            SourceUnavailable: the database does not answer. Nothing is stored, unless the answer to
                the commit itself was lost.
        """
        try:
            answer = await self._writers.run(work)
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
            await self._with_timeout(self.write(self._try_to_write))
        except SourceUnavailable:
            return False
        return True

    async def is_read_only(self) -> bool:
        """Return whether a server says that it takes no writes, as a standby does.

        Raises:
            SourceUnavailable: it does not answer.
        """
        return False

    def check(self) -> None:  # noqa: B027 - the first connection to a server shows it
        """Check that the database can be opened, and create its file where it has one.

        Raises:
            SourceUnavailable: it cannot be opened; the cause says why.
        """

    async def close(self) -> None:
        """Close all connections."""
        # SQLite's writer last: the last connection to close removes the WAL file.
        await asyncio.gather(self._readers.close(), self._lookup_readers.close())
        await self._writers.close()

    @abstractmethod
    def _limited(
        self, connection: Connection, work: Callable[[Connection], T], timeout_seconds: float
    ) -> T:
        """Run `work`; raise `SearchTimedOut` if one of its statements takes too long."""

    @abstractmethod
    def _try_to_write(self, connection: Connection) -> None:
        """Write something that changes nothing, but needs all that a real write needs."""

    async def _with_timeout(self, answer: Coroutine[object, object, T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                return await answer
        except TimeoutError:
            raise SourceUnavailable(f"{self.address.label}: the store timed out") from None


def open_database(
    address: DatabaseAddress,
    observer: PoolObserver | None = None,
    *,
    connections: int = 8,
    prepares_statements: bool = True,
) -> Database:
    """Return a database; nothing is opened yet.

    For a PostgreSQL server: the maximum of connections, and whether it prepares statements.
    """
    # Only one of the drivers is needed, and that of PostgreSQL is optional.
    if isinstance(address, SqliteFile):
        from contact_gateway.store.sqlite import SqliteDatabase  # noqa: PLC0415

        return SqliteDatabase(address, observer)
    from contact_gateway.store.postgresql import PostgresqlDatabase  # noqa: PLC0415

    return PostgresqlDatabase(
        address, observer, connections=connections, prepares_statements=prepares_statements
    )


def configured_database(settings: Settings, observer: PoolObserver | None = None) -> Database:
    """Return the database of the settings; nothing is opened yet."""
    return open_database(
        settings.database,
        observer,
        connections=settings.database_connections,
        prepares_statements=settings.database_prepared_statements,
    )
