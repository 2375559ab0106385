"""The database's URL: an SQLite file, or a PostgreSQL server as libpq names it."""

import importlib.util
import re
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from contact_gateway.extras import needs_extra

_POSTGRESQL: Final = re.compile(r"postgres(?:ql(?:\+(?:asyncpg|psycopg))?)?://", re.IGNORECASE)
_UNKNOWN_OPTION: Final = re.compile(r'invalid URI query parameter: "([a-z_]+)"')
_DEFAULT_PORT: Final = "5432"


class UnsupportedDatabaseError(ValueError):
    """The URL names no database that the gateway can use. The message says what to write."""


class SqliteFile(NamedTuple):
    """A database in an SQLite file."""

    path: str

    @property
    def label(self) -> str:
        """The name of the database in messages."""
        return self.path


class PostgresqlServer(NamedTuple):
    """A database on a PostgreSQL server, or on the first of several that accepts connections.

    `uri` is libpq's connection URI. `label` names the database in messages, without the password.
    """

    uri: str
    label: str


DatabaseAddress: TypeAlias = SqliteFile | PostgresqlServer


def parse_database_url(text: str) -> DatabaseAddress:
    """Return what a URL names.

    Raises:
        UnsupportedDatabaseError: it is not such a URL, or the driver is not installed.
    """
    scheme = _POSTGRESQL.match(text)
    if scheme is None:
        return SqliteFile(_sqlite_path(text))
    uri = f"postgresql://{text[scheme.end() :]}"
    return PostgresqlServer(uri, _postgresql_label(uri))


def _sqlite_path(text: str) -> str:
    """Return the path in `sqlite+aiosqlite:///FILE`, or in `sqlite:///FILE`, which is the same."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UnsupportedDatabaseError(
            "not a database URL; use sqlite+aiosqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if url.drivername not in {"sqlite", "sqlite+aiosqlite"}:
        raise UnsupportedDatabaseError(
            "only sqlite+aiosqlite:///FILE and postgresql://USER@HOST/DATABASE are supported"
        )
    file = str(url.database or "")
    if url.host is not None:
        # SQLAlchemy reads the first part of the path as a host, and SQLite has none.
        path = "/".join(filter(None, (url.host, file)))
        raise UnsupportedDatabaseError(
            f"the file comes after three slashes; use {url.drivername}:///{path}"
        )
    if file in {"", ":memory:"} or file.startswith("file:"):
        raise UnsupportedDatabaseError("it must name a file, for example sqlite+aiosqlite:///gw.db")
    if url.query or text.endswith("?"):
        raise UnsupportedDatabaseError(
            "remove the query; neither options nor a ? in the file's name are supported"
        )
    if not file.isprintable():
        raise UnsupportedDatabaseError(
            "the file's name has control characters; write % as %25 in the URL"
        )
    return file


def _postgresql_label(uri: str) -> str:
    """Return the hosts and the database of a connection URI, once libpq has accepted it."""
    if importlib.util.find_spec("psycopg") is None:
        raise UnsupportedDatabaseError(f"PostgreSQL {needs_extra('postgresql')}")
    # The driver comes with that extra.
    from psycopg import ProgrammingError  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        options = conninfo_to_dict(uri)
    except ProgrammingError as error:
        # Any other message of libpq may contain the password.
        unknown = _UNKNOWN_OPTION.search(str(error))
        if unknown is not None:
            raise UnsupportedDatabaseError(
                f"libpq has no option {unknown[1]}; see "
                "https://www.postgresql.org/docs/current/libpq-connect.html"
            ) from None
        raise UnsupportedDatabaseError(
            "not a URL of PostgreSQL; use postgresql://USER:PASSWORD@HOST:5432/DATABASE, and write "
            "special characters of the password in percent-encoding"
        ) from None
    hosts = str(options.get("host") or options.get("hostaddr") or "").split(",")
    ports = str(options.get("port") or "").split(",")
    if not all(port.isdecimal() or not port for port in ports):
        raise UnsupportedDatabaseError(
            "the port is not a number; write @, / and % of a password as %40, %2F and %25"
        )
    # One port is that of all hosts.
    ports *= len(hosts) if len(ports) == 1 else 1
    addresses = (
        f"[{host}]:{port or _DEFAULT_PORT}" if ":" in host else f"{host}:{port or _DEFAULT_PORT}"
        for host, port in zip(hosts, ports, strict=False)
    )
    return f"{','.join(addresses)}/{options.get('dbname') or ''}"
