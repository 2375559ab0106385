"""The database's URL: which are accepted, and what any other one is refused with."""

import pytest

from contact_gateway.database_url import (
    PostgresqlServer,
    SqliteFile,
    UnsupportedDatabaseError,
    parse_database_url,
)


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("sqlite+aiosqlite:///gw.db", "gw.db"),
        ("sqlite:///gw.db", "gw.db"),
        ("sqlite+aiosqlite:////var/lib/gw.db", "/var/lib/gw.db"),
    ],
)
def test_an_sqlite_url_names_a_file(given: str, file: str) -> None:
    assert parse_database_url(given) == SqliteFile(file)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param("", "not a database URL", id="empty"),
        pytest.param("gw.db", "not a database URL", id="a path"),
        pytest.param("sqlite+aiosqlite://", "must name a file", id="no file"),
        pytest.param("sqlite://", "must name a file", id="no file, plain"),
        pytest.param("sqlite+aiosqlite:///:memory:", "must name a file", id="memory"),
        pytest.param("mysql+aiomysql://h/db", "only sqlite", id="MySQL"),
        pytest.param("sqlite+pysqlcipher:///gw.db", "only sqlite", id="another driver"),
    ],
)
def test_any_other_url_is_refused_with_a_reason(given: str, reason: str) -> None:
    with pytest.raises(UnsupportedDatabaseError, match=reason):
        parse_database_url(given)


@pytest.mark.parametrize(
    ("given", "uri", "label"),
    [
        pytest.param("postgresql://h/db", "postgresql://h/db", "h:5432/db", id="plain"),
        pytest.param("postgres://h/db", "postgresql://h/db", "h:5432/db", id="platforms"),
        pytest.param(
            "postgresql+asyncpg://u:p@h:6432/db",
            "postgresql://u:p@h:6432/db",
            "h:6432/db",
            id="asyncpg",
        ),
        pytest.param("postgresql+psycopg://h/db", "postgresql://h/db", "h:5432/db", id="psycopg"),
        pytest.param(
            "postgresql://u@a,b:5433/db?target_session_attrs=read-write",
            "postgresql://u@a,b:5433/db?target_session_attrs=read-write",
            "a:5432,b:5433/db",
            id="several hosts",
        ),
        pytest.param(
            "postgresql://[::1]:5433/db", "postgresql://[::1]:5433/db", "[::1]:5433/db", id="IPv6"
        ),
        pytest.param(
            "postgresql:///db?host=/run/postgresql",
            "postgresql:///db?host=/run/postgresql",
            "/run/postgresql:5432/db",
            id="a socket",
        ),
    ],
)
def test_a_postgresql_url_is_that_of_libpq(given: str, uri: str, label: str) -> None:
    assert parse_database_url(given) == PostgresqlServer(uri, label)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param("postgresql://h/db?ssl=require", "libpq has no option ssl", id="an option"),
        pytest.param("postgresql://u:secret%ZZ@h/db", "not a URL of PostgreSQL", id="an escape"),
        pytest.param("postgresql://u:secret@h:port/db", "port is not a number", id="a port"),
        pytest.param("postgresql://u:se/cret@h/db", "of a password as %40, %2F", id="a slash"),
    ],
)
def test_an_invalid_postgresql_url_is_refused_without_its_password(given: str, reason: str) -> None:
    with pytest.raises(UnsupportedDatabaseError, match=reason) as refused:
        parse_database_url(given)

    assert "secret" not in str(refused.value)
