"""The indexes that find text: trigrams, by FTS5 on SQLite and by pg_trgm on PostgreSQL.

An index finds candidates, whose text is then compared. It has no trigram of a text that is shorter
than three characters. FTS5 yields the newest rows first, one by one, apart from some thousands that
wait for it. PostgreSQL collects all rows before it sorts them.

PostgreSQL's is optional, because the extension may be missing or not allowed. Without it, searches
read the newest rows first, until the page is full or the time is over.
"""

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    column,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.exc import DatabaseError

from contact_gateway.store.search import contains_folded
from contact_gateway.store.tables import advertisers, contacts

_EXTENSION: Final = "pg_trgm"
_TRIGRAM: Final = 3
_TRIGRAMS: Final = 4
_SAMPLE: Final = 500
# pg_trgm has trigrams of letters and digits only.
_WORD: Final = re.compile(r"[^\W_]{3}")
_INDEXED: Final = (contacts, advertisers)

_MISSING: Final = (
    "Searches for text have no index, and are stopped after a time: {reason}. Create PostgreSQL's "
    "extension pg_trgm in this database, and run `contact-gateway migrate` again."
)


def create(connection: Connection) -> Sequence[str]:
    """Create PostgreSQL's indexes that are missing, and their extension if that is allowed.

    It may exist later: each migration tries again.

    Returns:
        What the operator should know, in sentences; empty if there is nothing.
    """
    if connection.dialect.name != "postgresql":
        return ()
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS {_EXTENSION}")
    except DatabaseError as error:
        reason = str(error.orig).partition("\n")[0]
        return (_MISSING.format(reason=reason),)
    # Only the owner of a table may name its indexes here, even those that exist.
    for each in (rows for rows in _INDEXED if not _is_valid(connection, rows)):
        connection.exec_driver_sql(
            f"CREATE INDEX IF NOT EXISTS {_name(each)} ON {each.name} "
            "USING gin (folded_text gin_trgm_ops)"
        )
    return ()


def can_exist(connection: Connection) -> bool:
    """Return whether a server has the extension for the indexes; SQLite always has it."""
    if connection.dialect.name == "sqlite":
        return True
    extension = table("pg_available_extensions", column("name"))
    query = select(extension.c.name).where(extension.c.name == _EXTENSION)
    return connection.scalar(query) is not None


def is_complete(connection: Connection) -> bool:
    """Return whether all indexes exist; on SQLite, they always do."""
    return connection.dialect.name == "sqlite" or all(
        _is_valid(connection, each) for each in _INDEXED
    )


def can_find(connection: Connection, rows: Table, texts: Sequence[str]) -> bool:
    """Return whether the index of a table finds rows with all of the folded `texts`."""
    if connection.dialect.name == "sqlite":
        return any(len(each) >= _TRIGRAM for each in texts)
    return any(_WORD.search(each) for each in texts) and _is_valid(connection, rows)


def on_sqlite(rows: Table, trigrams: Sequence[str]) -> tuple[Select[int], Select[int]]:
    """Return queries for the ids of rows that may have all of the trigrams, on SQLite.

    The first is for those in the index, in the order of their ids, as far as they are read; the
    second for those that wait for it.
    """
    name = f"{rows.name}_text"
    indexed = table(name, column("rowid", rows.c.id.type)).c.rowid
    terms = " ".join('"' + each.replace('"', '""') + '"' for each in trigrams)
    matches = literal_column(name).op("MATCH")(terms)
    waiting = table(f"{name}_waiting", column("id", rows.c.id.type)).c.id
    return select(indexed.label("id")).where(matches), select(waiting)


def on_postgresql(
    rows: Table, texts: Sequence[str], trigrams: Sequence[str]
) -> ColumnElement[bool]:
    """Return the condition that rows have texts, which the index finds by those trigrams only."""
    text = rows.c.folded_text
    return and_(
        *(text.contains(each) for each in trigrams if _WORD.fullmatch(each)),
        # An expression, which is not in the index.
        *(contains_folded(text + "", each) for each in texts),
    )


def rare_trigrams(connection: Connection, rows: Table, texts: Sequence[str]) -> Sequence[str]:
    """Return the trigrams of texts that are the rarest in the newest rows.

    The time of a search is that of its rarest trigram, times the number of trigrams: rows with the
    others alone are not looked at.
    """
    newest = select(rows.c.folded_text).order_by(rows.c.id.desc()).limit(_SAMPLE)
    sample = "\n".join(filter(None, connection.scalars(newest)))
    found = {
        each[start : start + _TRIGRAM]
        for each in texts
        for start in range(len(each) - _TRIGRAM + 1)
    }
    # PostgreSQL's index has only those of letters and digits.
    return sorted(found, key=lambda each: (not _WORD.fullmatch(each), sample.count(each), each))[
        :_TRIGRAMS
    ]


def _name(rows: Table) -> str:
    return f"ix_{rows.name}_folded_text_trigrams"


def _is_valid(connection: Connection, rows: Table) -> bool:
    """Return whether PostgreSQL has the index of a table, and has finished it."""
    index = table("pg_index", column("indexrelid"), column("indisvalid"))
    query = select(index.c.indisvalid).where(index.c.indexrelid == func.to_regclass(_name(rows)))
    return bool(connection.scalar(query))
