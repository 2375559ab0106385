"""Checks of a database: that it is intact, and that its rows fit together."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import sqlalchemy
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select, text

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK
from contact_gateway.store import schema_version
from contact_gateway.store.copying import last_generated_id
from contact_gateway.store.database import Database
from contact_gateway.store.tables import metadata

_MAX_SHOWN: Final = 10
_NEEDED_TABLES: Final = frozenset({"advertisers", "contacts"})

# Foreign keys lead to an existing advertiser. It must be a HiEnergy advertiser, too.
_ORPHANS: Final[Mapping[str, str]] = {
    "contacts of an advertiser that is not a HiEnergy record": (
        "SELECT contacts.id FROM contacts JOIN advertisers ON advertisers.id = advertiser_id "
        "WHERE network_name != :hienergy"
    ),
    "advertisers whose hienergy_id is not a HiEnergy record": (
        "SELECT named_by.id FROM advertisers AS named_by "
        "JOIN advertisers AS owner ON owner.id = named_by.hienergy_id "
        "WHERE owner.network_name != :hienergy"
    ),
}


class Report(NamedTuple):
    """What a check found: the revision, the rows of each table, and what is wrong."""

    revision: str | None
    counts: Mapping[str, int]
    problems: Sequence[str]


def inspect(connection: sqlite3.Connection) -> Report:
    """Check the database of a connection, in one snapshot. A damaged one is a problem, no error."""
    try:
        connection.execute("BEGIN")
        return _inspect(connection)
    except sqlite3.DatabaseError as error:
        return Report(None, {}, (str(error),))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


async def inspect_server(database: Database) -> Report:
    """Check the database on a server, in one snapshot. The server itself keeps foreign keys.

    Raises:
        SourceUnavailable: the database does not answer.
    """
    # Not `read`, which is for what answers within seconds.
    return await database.write(_inspect_server)


def _inspect_server(connection: Connection) -> Report:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.exec_driver_sql("SET LOCAL statement_timeout=0")
    found = sqlalchemy.inspect(connection).get_table_names()
    revision = MigrationContext.configure(connection).get_current_revision()
    problems = [*_schema_problems(revision, found)]
    if not problems:
        for what, query in _ORPHANS.items():
            rows = connection.execute(text(query), {"hienergy": HIENERGY_NETWORK})
            problems += _orphan_problem(what, [str(an_id) for (an_id,) in rows])
        problems += _used_ids(connection)
    counts = {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for name, table in sorted(metadata.tables.items())
        if name in found
    }
    return Report(revision, counts, problems)


def _used_ids(connection: Connection) -> Iterator[str]:
    """Yield the tables whose next ids are in use. Logical replication leaves sequences behind."""
    for table in metadata.sorted_tables:
        if table.autoincrement_column is None:
            continue
        greatest = connection.scalar(select(func.max(table.c.id)))
        last = last_generated_id(connection, table)
        if greatest is not None and greatest > (last or 0):
            yield (
                f"{table.name}: the next ids are in use, up to {greatest}. Run SELECT "
                f"setval(pg_get_serial_sequence('{table.name}', 'id'), {greatest})"
            )


def _inspect(connection: sqlite3.Connection) -> Report:
    found = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    revision = None
    if "alembic_version" in found:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        revision = None if row is None else str(row[0])
    lines = (line for (line,) in connection.execute(f"PRAGMA integrity_check({_MAX_SHOWN})"))
    problems = [
        *_schema_problems(revision, found),
        *(f"integrity: {line}" for line in lines if line != "ok"),
    ]
    if not problems:
        problems += _broken_references(connection)
    counts = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - a table's name
        for name in sorted(metadata.tables)
        if name in found
    }
    return Report(revision, counts, problems)


def _schema_problems(revision: str | None, tables: Collection[str]) -> Iterator[str]:
    if revision is None or not _NEEDED_TABLES.issubset(tables):
        yield "it is not a database of contact-gateway: tables are missing"
        return
    try:
        schema_version.require_known(revision)
    except schema_version.SchemaNotCurrentError as error:
        yield str(error)


def _broken_references(connection: sqlite3.Connection) -> Iterator[str]:
    rows = sorted(connection.execute("PRAGMA foreign_key_check"), key=_tables_of)
    for (table, parent), broken in groupby(rows, key=_tables_of):
        yield f"{table}: {len(list(broken))} rows refer to missing rows of {parent}"
    for what, query in _ORPHANS.items():
        ids = [str(an_id) for (an_id,) in connection.execute(query, {"hienergy": HIENERGY_NETWORK})]
        yield from _orphan_problem(what, ids)


def _orphan_problem(what: str, ids: Sequence[str]) -> Iterator[str]:
    if ids:
        dots = ", …" if len(ids) > _MAX_SHOWN else ""
        yield f"{len(ids)} {what}: {', '.join(ids[:_MAX_SHOWN])}{dots}"


def _tables_of(row: tuple[str, int, str, int]) -> tuple[str, str]:
    return row[0], row[2]
