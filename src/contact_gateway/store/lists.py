"""Lists, newest first, in a time that does not depend on the size of their tables.

A list is read in the order of an index, until its page is full. If other conditions leave too few
of the newest rows, the index of their text finds the rest. What neither index answers is bounded by
the timeout of the search.

On PostgreSQL, the order of these steps is fixed here: its planner chooses between them by an
estimate of how frequent a text is, and takes seconds when it errs.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Subquery,
    Table,
    and_,
    column,
    func,
    literal_column,
    select,
    union_all,
    values,
)

from contact_gateway.contacts.text import folded
from contact_gateway.store import text_index
from contact_gateway.store.prepared_statements import PreparedNewest, Row
from contact_gateway.store.search import contains_folded

Condition: TypeAlias = Callable[[FromClause], ColumnElement[bool]]
"""A condition on a row of a table, or of a subquery of one."""

NEWEST: Final = 500
"""How many of the newest rows are read before an index of text is. Most pages are full by then."""

MAX_GROUPS: Final = 500
"""How many groups a list may have, and whose newest rows are read."""

FEW: Final = 10_000
"""How many rows of one owner are read likewise: most have fewer, and few have the text."""

_LEAST_ID: Final = -(2**63)


class Part(NamedTuple):
    """The part of a list to read: `limit` rows after `offset`, of those with ids below `before`."""

    limit: int
    offset: int = 0
    before: int | None = None


class Group(NamedTuple):
    """The rows whose column has one of some values, and which an index has in the order of ids.

    The index of addresses has another order: an address has few contacts, which are sorted.
    """

    column: str
    values: Sequence[object]

    def holds(self, rows: FromClause) -> ColumnElement[bool]:
        """Return the condition that a row is in the group."""
        own = rows.c[self.column]
        return own == self.values[0] if len(self.values) == 1 else own.in_(self.values)


class List(NamedTuple):
    """The rows of a table that a list has.

    Args:
        table: the table, with an `id` and a `folded_text`.
        group: what an index selects; without it, all rows.
        texts: folded texts, which the folded text contains.
        conditions: what holds, too.
        is_narrow: whether the group has few rows, of which more are read before the index of text.
    """

    table: Table
    group: Group | None = None
    texts: Sequence[str] = ()
    conditions: Sequence[Condition] = ()
    is_narrow: bool = False

    def holds(self, rows: FromClause) -> ColumnElement[bool]:
        """Return what the group does not say about a row."""
        texts = (contains_folded(rows.c.folded_text, text) for text in self.texts)
        return and_(*texts, *(condition(rows) for condition in self.conditions))

    @property
    def read_first(self) -> int:
        """Return how many of the newest rows are read before the index of text."""
        return FEW if self.is_narrow else NEWEST

    @property
    def is_ordered(self) -> bool:
        """Return whether an index has exactly these rows, in the order of their ids."""
        return not self.texts and not self.conditions


def folded_texts(*texts: str | None) -> Sequence[str]:
    """Return the folded forms of those texts that are not None."""
    return [folded(text) for text in texts if text is not None]


def newest(connection: Connection, wanted: List, part: Part) -> Sequence[int]:
    """Return the ids of a part of a list, newest first, as far as its newest rows have it."""
    return _run(connection, _walk(wanted, part, wanted.read_first))


def ordered_rows(
    connection: Connection, rows: PreparedNewest, wanted: List, part: Part
) -> Iterable[Row] | None:
    """Return a part of a list as an index has it; None if no index begins with this part."""
    group = wanted.group
    if not wanted.is_ordered or part.offset or (group is not None and len(group.values) != 1):
        return None
    where = None if group is None else (group.column, group.values[0])
    return rows.rows(connection, part.limit, before=part.before, where=where)


def ids(connection: Connection, wanted: List, part: Part) -> Sequence[int]:
    """Return the ids of a part of a list, newest first."""
    if wanted.group is not None and len(wanted.group.values) != 1:
        several = _of_several_groups(wanted, part)
        return _run(connection, several) if wanted.group.values else ()
    if wanted.is_ordered:
        return _run(connection, _walk(wanted, part))
    found = newest(connection, wanted, part)
    if len(found) == part.limit or not _has_more_than(connection, wanted, part, wanted.read_first):
        return found
    if not text_index.can_find(connection, wanted.table, wanted.texts):
        return _run(connection, _walk(wanted, part))
    trigrams = text_index.rare_trigrams(connection, wanted.table, wanted.texts)
    if connection.dialect.name == "sqlite":
        return _run(connection, _by_text_on_sqlite(wanted, part, trigrams))
    if found:
        # Of a text that the newest rows have at all, more of them fill the page sooner.
        enough = 2 * wanted.read_first * (part.offset + part.limit) // len(found)
        # A power of two, so that the statements are few.
        found = _run(connection, _walk(wanted, part, 1 << enough.bit_length()))
        if len(found) == part.limit:
            return found
    connection.exec_driver_sql("SET LOCAL enable_seqscan=off")
    return _run(connection, _by_text_on_postgresql(wanted, part, trigrams))


def _by_text_on_postgresql(wanted: List, part: Part, trigrams: Sequence[str]) -> Select[int]:
    """Return the query that reads all rows with a text by its index, and sorts them then."""
    table = wanted.table
    query = _rows(wanted, part, select(table.c.id)).where(
        text_index.on_postgresql(table, wanted.texts, trigrams),
        *(condition(table) for condition in wanted.conditions),
    )
    rows = query.offset(0).subquery()
    return _newest(select(rows.c.id), rows, part)


def _by_text_on_sqlite(wanted: List, part: Part, trigrams: Sequence[str]) -> Select[int]:
    """Return the query that reads the index of text from its newest row on."""
    table = wanted.table
    holds = wanted.holds(table)
    if wanted.group is not None:
        holds = and_(holds, wanted.group.holds(table))

    def of_those(query: Select[int]) -> Subquery:
        (row_id,) = query.selected_columns
        # A subquery, so that SQLite looks up each row of the index and not the reverse.
        is_wanted = select(holds).where(table.c.id == row_id).scalar_subquery()
        query = query.where(is_wanted).order_by(row_id.desc())
        if part.before is not None:
            query = query.where(row_id < part.before)
        return query.limit(part.offset + part.limit).subquery()

    indexed, waiting = map(of_those, text_index.on_sqlite(table, trigrams))
    found = union_all(select(indexed.c.id), select(waiting.c.id)).subquery()
    return _newest(select(found.c.id), found, part)


def _walk(wanted: List, part: Part, newest: int | None = None) -> Select[int]:
    """Return the query that reads a group, or its newest rows, in the order of an index."""
    rows: FromClause = wanted.table
    query = _rows(wanted, part, select(rows.c.id))
    if newest is not None:
        # A limit that PostgreSQL's planner cannot move conditions into. It plans many rows without
        # its number, and compiles such a plan to machine code for 150 ms.
        limit = literal_column(str(newest), Integer)
        query = _rows(wanted, part, select(rows)).order_by(rows.c.id.desc()).limit(limit)
        rows = query.subquery("newest")
        query = select(rows.c.id)
    if not wanted.is_ordered:
        query = query.where(wanted.holds(rows))
    return _newest(query, rows, part)


def _of_several_groups(wanted: List, part: Part) -> Select[int]:
    """Return the query for the rows of several values, each of which has its own order.

    Without other conditions, only the newest rows of each value can be on the page.
    """
    rows, group = wanted.table, wanted.group
    if group is None or not wanted.is_ordered:
        return _walk(wanted, part)
    own = rows.c[group.column]
    given = values(column("value", own.type)).data([(value,) for value in group.values])
    each, others = given.cte("given"), rows.alias("others")
    last = select(others.c.id).where(others.c[group.column] == each.c.value)
    if part.before is not None:
        last = last.where(others.c.id < part.before)
    last = last.order_by(others.c.id.desc()).limit(1).offset(part.offset + part.limit - 1)
    query = select(rows.c.id).join(each, own == each.c.value)
    query = query.where(rows.c.id >= func.coalesce(last.scalar_subquery(), _LEAST_ID))
    if part.before is not None:
        query = query.where(rows.c.id < part.before)
    return _newest(query, rows, part)


def _rows(wanted: List, part: Part, query: Select[Any]) -> Select[Any]:
    """Restrict a query to the group, and to ids before the part."""
    if wanted.group is not None:
        query = query.where(wanted.group.holds(wanted.table))
    return query if part.before is None else query.where(wanted.table.c.id < part.before)


def _newest(query: Select[int], rows: FromClause, part: Part) -> Select[int]:
    return query.order_by(rows.c.id.desc()).limit(part.limit).offset(part.offset)


def _has_more_than(connection: Connection, wanted: List, part: Part, rows: int) -> bool:
    own_id = wanted.table.c.id
    query = _rows(wanted, part, select(own_id)).order_by(own_id.desc())
    return connection.scalar(query.limit(1).offset(rows)) is not None


def _run(connection: Connection, query: Select[int]) -> Sequence[int]:
    return connection.scalars(query).all()
