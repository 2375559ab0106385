"""Statements that are compiled once, and handed to the driver as they are.

To work out a statement, its parameters and its rows anew each time takes SQLAlchemy several times
as long as SQLite takes to carry it out. Here it compiles statements, and its types convert values,
but nothing stands between them and the driver, whose exceptions are not wrapped.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    CTE,
    ClauseElement,
    Column,
    Connection,
    Dialect,
    Select,
    Table,
    and_,
    bindparam,
    column,
    insert,
    values,
)
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.types import TypeEngine

Row: TypeAlias = Sequence[Any]
"""The values of a row's columns, which have any types."""

_Convert: TypeAlias = Callable[[Any], Any]
_Converts: TypeAlias = tuple[tuple[int, _Convert], ...]


class PreparedSelect:
    """Selects the rows that have one of some combinations of values in some columns.

    It is compiled for 1, 2, 4 combinations and so on; the last one is repeated to fill up. They
    are joined as a table: SQLite compares combinations with a list of them without an index.
    """

    def __init__(self, statement: Select[Any], *by: Column[Any]) -> None:
        self._statement: Final = statement
        self._by: Final = by
        self._compiled: Final[dict[tuple[str, int], _Compiled]] = {}

    def rows(self, connection: Connection, combinations: Collection[Row]) -> Iterator[Row]:
        """Return the rows, in no order; some may come more than once."""
        if not combinations:
            return iter(())
        wanted = list(combinations)
        size = 1 << (len(wanted) - 1).bit_length()
        wanted.extend([wanted[-1]] * (size - len(wanted)))
        key = connection.dialect.name, size
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(connection.dialect, size)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(compiled.sql, list(chain.from_iterable(wanted)))
            rows = cursor.fetchall()
        finally:
            cursor.close()
        return (_converted(row, compiled.converts) for row in rows)

    def _compile(self, dialect: Dialect, size: int) -> "_Compiled":
        wanted = self._wanted(size)
        having = (each == wanted.c[each.name] for each in self._by)
        sql, names = _compiled(self._statement.join(wanted, and_(*having)), dialect)
        columns = self._statement.selected_columns
        types = (_on_this(column.type, dialect) for column in columns)
        return _Compiled(
            sql, names, _numbered(type_.result_processor(dialect, None) for type_ in types)
        )

    def _wanted(self, size: int) -> CTE:
        columns = [column(each.name, each.type) for each in self._by]
        combinations = [
            tuple(bindparam(f"{each.name}_{number}", type_=each.type) for each in self._by)
            for number in range(size)
        ]
        return values(*columns, name="wanted").data(combinations).cte("wanted")


class PreparedInsert:
    """Inserts rows with values for some columns into a table that gives each an id."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._table: Final = table
        self._columns: Final = tuple(columns)
        self._compiled: Final[dict[str, _Compiled]] = {}

    def ids(self, connection: Connection, rows: Iterable[Mapping[str, object]]) -> Sequence[int]:
        """Insert rows and return their ids, in order."""
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = self._compile(dialect)
        cursor = connection.connection.cursor()
        try:
            return [_inserted(cursor, compiled, row) for row in rows]
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect) -> "_Compiled":
        statement = insert(self._table).returning(self._table.c.id)
        sql, names = _compiled(statement, dialect, self._columns)
        types = (_on_this(self._table.c[name].type, dialect) for name in names)
        converts = _numbered(type_.bind_processor(dialect) for type_ in types)
        # Rows that are inserted together share their times.
        cached = ((position, lru_cache(maxsize=1)(convert)) for position, convert in converts)
        return _Compiled(sql, names, tuple(cached))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement for one driver: the names of its parameters, and which values to convert."""

    sql: str
    names: tuple[str, ...]
    converts: _Converts


def _compiled(
    statement: ClauseElement, dialect: Dialect, columns: Sequence[str] | None = None
) -> tuple[str, tuple[str, ...]]:
    """Return a statement's text, and the names of its parameters in their order."""
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    names = getattr(compiled, "positiontup", None)
    if names is None:
        raise TypeError(f"{dialect.name} does not take its parameters by their positions")
    return str(compiled), tuple(names)


def _on_this(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return type_.dialect_impl(dialect)


def _numbered(converts: Iterable[_Convert | None]) -> _Converts:
    """Return those that there are, with their positions."""
    return tuple(
        (position, convert) for position, convert in enumerate(converts) if convert is not None
    )


def _converted(row: Row, converts: _Converts) -> Row:
    values = list(row)
    for position, convert in converts:
        values[position] = convert(values[position])
    return values


def _inserted(cursor: DBAPICursor, compiled: _Compiled, row: Mapping[str, object]) -> int:
    values = _converted([row[name] for name in compiled.names], compiled.converts)
    cursor.execute(compiled.sql, values)
    (an_id,) = cursor.fetchone() or (None,)
    if not isinstance(an_id, int):
        raise TypeError("an INSERT has returned no id")
    return an_id
