"""Checks of a database: that it is intact, and that its rows are consistent."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import sqlalchemy
from sqlalchemy import Connection, StaticPool, create_engine, func, select, text
from sqlalchemy.exc import DatabaseError

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
    """Check the database of a connection, in one snapshot. Damage is a problem, not an error."""
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    try:
        with engine.connect() as wrapped:
            wrapped.exec_driver_sql("BEGIN")
            return _inspect(wrapped)
    except DatabaseError as error:
        return Report(None, {}, (str(error.orig),))


async def inspect_server(database: Database) -> Report:
    """Check the database on a server, in one snapshot. The server itself keeps foreign keys.

    Raises:
        SourceUnavailable: the database does not answer.
    """

    def work(connection: Connection) -> Report:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.exec_driver_sql("SET LOCAL statement_timeout=0")
        return _inspect(connection)

    # Not `read`, which is for what answers within seconds.
    return await database.write(work)


def _inspect(connection: Connection) -> Report:
    is_file = connection.dialect.name == "sqlite"
    found = sqlalchemy.inspect(connection).get_table_names()
    revision = schema_version.stored_revision(connection)
    problems = [*_schema_problems(revision, found)]
    if is_file:
        problems += _damage_on_sqlite(connection)
    if not problems:
        if is_file:
            problems += _missing_rows_on_sqlite(connection)
        problems += _orphans(connection)
        if not is_file:
            problems += _used_ids(connection)
    counts = {
        name: connection.scalar(select(func.count()).select_from(table)) or 0
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


def _schema_problems(revision: str | None, tables: Collection[str]) -> Iterator[str]:
    if revision is None or not _NEEDED_TABLES.issubset(tables):
        yield "it is not a database of contact-gateway: tables are missing"
        return
    try:
        schema_version.require_known(revision)
    except schema_version.SchemaNotCurrentError as error:
        yield str(error)


def _damage_on_sqlite(connection: Connection) -> Iterator[str]:
    lines = connection.exec_driver_sql(f"PRAGMA integrity_check({_MAX_SHOWN})").scalars()
    yield from (f"integrity: {line}" for line in lines if line != "ok")


def _missing_rows_on_sqlite(connection: Connection) -> Iterator[str]:
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check")
    broken = Counter((row.table, row.parent) for row in rows)
    for (table, parent), count in sorted(broken.items()):
        yield f"{table}: {count} rows refer to missing rows of {parent}"


def _orphans(connection: Connection) -> Iterator[str]:
    for what, query in _ORPHANS.items():
        ids = connection.scalars(text(query), {"hienergy": HIENERGY_NETWORK}).all()
        if ids:
            shown = ", ".join(map(str, ids[:_MAX_SHOWN]))
            yield f"{len(ids)} {what}: {shown}{', …' if len(ids) > _MAX_SHOWN else ''}"
