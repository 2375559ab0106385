"""A database on a PostgreSQL server, over libpq. No session has state: a pooler may share it.

Many processes on many hosts write at once. Each transaction reads one snapshot. If another one has
stored or changed in the meantime what it is about to store or lock, PostgreSQL rolls it back
(40001), and it is run again.
"""

import math
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import Connection, delete, event, false, insert, select
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError

from contact_gateway.contacts.source import SearchTimedOut, SourceUnavailable
from contact_gateway.database_url import PostgresqlServer
from contact_gateway.store.connection_threads import ConnectionPool, Driver, Failure, PoolObserver
from contact_gateway.store.database import Database
from contact_gateway.store.tables import advertisers, attempts, contacts, idempotency_records

T = TypeVar("T")

STATEMENT_TIMEOUT_SECONDS: Final = 8
"""How long a statement may take, or wait for a lock: a caller waits a little longer."""

SILENCE_SECONDS: Final = 10.0
"""How long a server may not answer, until a new connection shows whether another one does."""

_OLDEST_VERSION: Final = 130_000
_TIMEOUTS: Final = (
    f"SET LOCAL statement_timeout='{STATEMENT_TIMEOUT_SECONDS}s'; "
    # Of a gateway whose host has stopped: its locks would be kept for hours.
    "SET LOCAL idle_in_transaction_session_timeout='20s'"
)
_BEGIN_WRITE: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ; {_TIMEOUTS}"
_BEGIN_READ: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {_TIMEOUTS}"

# libpq's parameters (postgresql.org/docs/current/libpq-connect.html), unless the URL has others: a
# server that is gone is noticed within seconds.
_DEFAULTS: Final = {
    "application_name": "contact-gateway",
    "client_encoding": "UTF8",
    "connect_timeout": "4",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

# How dates are written: the driver reads ISO only, and a server may have another default. libpq has
# no parameter for it but `options`, which PgBouncer refuses.
_DATE_STYLE: Final = "ISO, MDY"

_READ_ONLY_PARAMETERS: Final = ("in_hot_standby", "default_transaction_read_only")

# Error codes and their classes: postgresql.org/docs/current/errcodes-appendix.html.
_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
# The connection, the credentials, resources, an operator's and a system's doing.
_TEMPORARY_CLASSES: Final = frozenset({"08", "28", "40", "53", "55", "57", "58"})
# An operator can create a database, grant a privilege and restore tables while the gateway runs.
_TEMPORARY_CODES: Final = frozenset({"3D000", "42501", "42P01"})
_CONNECTION_CLASS: Final = "08"
# The server is a standby now, has closed an idle transaction, or stops.
_LOST_CONNECTION: Final = frozenset({"25006", "25P03", "57P01", "57P02", "57P03", "57P05"})
_QUERY_CANCELED: Final = "57014"
# A prepared statement that is missing, or there already.
_STATEMENT_NAMES: Final = frozenset({"26000", "42P05"})
# A prepared statement whose table was altered. Also any feature that the server lacks.
_NOT_SUPPORTED: Final = "0A000"
_POOLED: Final = (
    ". The pooler does not track prepared statements: set "
    "CONTACT_GATEWAY_DATABASE_PREPARED_STATEMENTS=false"
)
# The server has ended the session, for whatever reason.
_FATAL: Final = "FATAL"
_WARNING: Final = "01000"
_MAX_REASON_LENGTH: Final = 300
_LIMIT_STEP_SECONDS: Final = 0.1


class PostgresqlDatabase(Database):
    """The connections to one database on a server."""

    def __init__(
        self,
        address: PostgresqlServer,
        observer: PoolObserver | None = None,
        *,
        connections: int,
        prepares_statements: bool,
    ) -> None:
        driver = _Driver(address, prepares_statements=prepares_statements)
        lookups = max(1, connections // 4)
        writers = max(1, (connections - lookups) // 2)
        readers = connections - lookups - writers
        super().__init__(
            address,
            writers=ConnectionPool("write", driver, writers, _BEGIN_WRITE, observer),
            readers=ConnectionPool("read", driver, readers, _BEGIN_READ, observer),
            # Each of its statements is a snapshot, and needs no round trips for a transaction.
            lookup_readers=ConnectionPool("look up", driver, lookups, None, observer),
        )

    async def is_read_only(self) -> bool:
        """Return what the server reports of itself, since PostgreSQL 14."""

        def reports(connection: Connection) -> bool:
            info = _driver_connection(connection).info
            return "on" in map(info.parameter_status, _READ_ONLY_PARAMETERS)

        return await self.look_up(reports)

    def _limited(
        self, connection: Connection, work: Callable[[Connection], T], timeout_seconds: float
    ) -> T:
        driver = _driver_connection(connection)
        ends_at = time.perf_counter() + timeout_seconds
        set_at = -math.inf

        def limit(*_: object) -> None:
            """Give the next statement the rest of the time."""
            nonlocal set_at
            now = time.perf_counter()
            if now >= ends_at:
                raise SearchTimedOut(timeout_seconds)
            if now - set_at >= _LIMIT_STEP_SECONDS:
                set_at = now
                milliseconds = math.ceil((ends_at - now) * 1000)
                driver.execute(
                    f"SET LOCAL statement_timeout={milliseconds}".encode(), prepare=False
                )

        event.listen(connection, "before_cursor_execute", limit)
        try:
            return work(connection)
        except (DBAPIError, psycopg.Error) as error:
            cause = _cause_of(error)
            if cause is not None and cause.sqlstate == _QUERY_CANCELED:
                raise SearchTimedOut(timeout_seconds) from error
            raise

    def _try_to_write(self, connection: Connection) -> None:
        # Privileges are checked even if no row is selected.
        owner = select(advertisers.c.id).where(false())
        connection.execute(owner.with_for_update(read=True, key_share=True))
        for table in (contacts, idempotency_records):
            nothing = select(table).where(false())
            connection.execute(insert(table).from_select(table.columns.keys(), nothing))
        # No other transaction sees this row. Its commit needs the disk, and standbys that it waits
        # for.
        key, now = secrets.token_bytes(32), datetime.now(UTC)
        connection.execute(
            insert(attempts).values(
                key=key,
                fingerprint=key,
                advertiser_id=0,
                email="",
                sent_at=now,
                holder="",
                held_until=now,
            )
        )
        connection.execute(delete(attempts).where(attempts.c.key == key))


class PlainDialect(PGDialect_psycopg):
    """SQLAlchemy's dialect, without the statements by which it explores each new connection.

    They are seven round trips, and fail on systems whose version is not PostgreSQL's.
    """

    supports_statement_cache = True
    server_version_info = (_OLDEST_VERSION // 10_000,)

    def initialize(self, connection: Connection) -> None:
        """Do nothing: what is explored is the same in all supported versions."""


registry.register("postgresql.plain", __name__, PlainDialect.__name__)


class _Driver(Driver):
    """The driver of a server."""

    dialect = "postgresql+plain://"
    paramstyle = "numeric_dollar"

    def __init__(self, address: PostgresqlServer, *, prepares_statements: bool) -> None:
        self.label = address.label
        self._conninfo: Final = make_conninfo("", **_DEFAULTS | conninfo_to_dict(address.uri))
        self._prepare_threshold: Final = 1 if prepares_statements else None
        os.environ["PGDATESTYLE"] = _DATE_STYLE

    def connect(self) -> "_Connection":
        """Open a connection, to the first host that suits."""
        try:
            connection = _Connection.connect(
                self._conninfo,
                autocommit=True,
                prepare_threshold=self._prepare_threshold,
                # PostgreSQL's own parameters: the driver would parse long statements each time.
                cursor_factory=psycopg.RawCursor,
            )
        except psycopg.Error as error:
            raise SourceUnavailable(f"{self.label}: {_text_of(error)}") from None
        if "," in self.label:
            connection.conninfo = self._conninfo
        # Else each mix of small and large numbers would be a statement of its own to prepare.
        connection.adapters.register_dumper(int, Int8Dumper)
        encoding = connection.info.parameter_status("server_encoding")
        reason = None
        if connection.info.server_version < _OLDEST_VERSION:
            reason = f"PostgreSQL {_OLDEST_VERSION // 10_000} or newer is needed"
        elif encoding not in {None, "UTF8"}:
            reason = f"the database is in {encoding}; create one with ENCODING 'UTF8'"
        if reason is not None:
            connection.close()
            raise SourceUnavailable(f"{self.label}: {reason}")
        return connection

    def failure(self, error: Exception) -> Failure | None:
        """Return what an error means, with its text but not its details, which hold values."""
        cause = _cause_of(error)
        if cause is None:
            return None
        code, text = cause.sqlstate or "", _text_of(cause)
        is_lost = (
            code.startswith(_CONNECTION_CLASS)
            or code in _LOST_CONNECTION
            or cause.diag.severity_nonlocalized == _FATAL
            or (not code and isinstance(cause, psycopg.OperationalError))
        )
        if is_lost:
            return Failure(text, "lost connection")
        if code in _ROLLED_BACK:
            return Failure(text, "rolled back")
        if code[:2] in _TEMPORARY_CLASSES or code in _TEMPORARY_CODES:
            return Failure(text)
        advice = _POOLED if code in _STATEMENT_NAMES else ""
        return Failure(
            f"{cause.sqlstate}: {text}{advice}",
            "lost connection" if code == _NOT_SUPPORTED else None,
            is_temporary=False,
        )


class _Connection(psycopg.Connection):
    """A connection that notices if another server has taken the place of its own."""

    # With which connections are opened, if it names several hosts.
    conninfo: str | None = None

    def wait(
        self,
        gen: PQGen[T],
        *arguments: Any,  # noqa: ANN401 - versions of the driver differ
        **options: Any,  # noqa: ANN401
    ) -> T:
        """Wait for the server. A server that hangs would be waited for without end.

        Raises:
            OperationalError: it does not answer, and a new connection reaches another one.
        """
        watched = gen if self.conninfo is None else self._watched(gen, self.conninfo)
        return super().wait(watched, *arguments, **options)

    def _watched(self, gen: PQGen[T], conninfo: str) -> PQGen[T]:
        """Do what `gen` does. The driver resumes it every 0.1 s if nothing arrives."""
        look_at = time.monotonic() + SILENCE_SECONDS
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= look_at:
                    if self._is_replaced(conninfo):
                        self.close()
                        raise psycopg.OperationalError("the server hangs, and another is in use")
                    look_at = time.monotonic() + SILENCE_SECONDS
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _is_replaced(self, conninfo: str) -> bool:
        """Return whether a new connection reaches another server.

        If it reaches the same one, or none, this one may still answer: a commit waits as long as
        its standby is away.
        """
        try:
            with psycopg.connect(conninfo) as other:
                return (other.info.host, other.info.port) != (self.info.host, self.info.port)
        except psycopg.Error:
            return False

    def commit(self) -> None:
        """Commit, and wait for the synchronous standbys.

        If somebody cancels that wait, PostgreSQL answers with success and a warning
        (postgresql.org/docs/current/warm-standby.html, "Planning for High Availability").

        Raises:
            OperationalError: the standbys may not have the commit.
        """
        warnings: list[str] = []

        def keep(notice: Diagnostic) -> None:
            # Afterwards it has no texts.
            if notice.sqlstate == _WARNING:
                warnings.append(notice.message_primary or "")

        self.add_notice_handler(keep)
        try:
            super().commit()
        finally:
            self.remove_notice_handler(keep)
        if warnings:
            raise psycopg.OperationalError(warnings[0])


def _driver_connection(connection: Connection) -> psycopg.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the connection is not one of PostgreSQL")
    return driver


def _cause_of(error: Exception) -> psycopg.Error | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause if isinstance(cause, psycopg.Error) else None


def _text_of(error: psycopg.Error) -> str:
    """Return an error's text on one line, without the details, which may hold values."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split())[:_MAX_REASON_LENGTH]
