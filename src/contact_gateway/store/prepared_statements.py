"""Prepared statements: SQLAlchemy compiles them once, and the driver runs them directly.

SQLAlchemy takes several times as long to build a statement, its parameters and its rows as SQLite
takes to run it. Its types still convert the values. The driver's exceptions are not wrapped.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import (
    ClauseElement,
    Column,
    Connection,
    Dialect,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    column,
    literal_column,
    values,
)
from sqlalchemy.engine.interfaces import DBAPICursor

from contact_gateway.store.upserts import insert_new

Row: TypeAlias = Sequence[Any]
"""The values of a row, which have any types: SQLAlchemy's Table has no types of columns."""

_Converter: TypeAlias = Callable[[Any], Any]


class PreparedSelect:
    """Selects the rows whose key columns have one of several combinations of values.

    The statement is compiled for 1, 2, 4, 8 … combinations, and the last one is repeated to fill
    it up. Combinations are joined as a table, because SQLite uses no index for a list of tuples.
    """

    def __init__(self, statement: Select[Any], *keys: Column[Any]) -> None:
        self._statement: Final = statement
        self._keys: Final = keys
        self._compiled: Final[dict[tuple[str, int], _Statement]] = {}

    def rows(self, connection: Connection, combinations: Collection[Row]) -> Iterator[Row]:
        """Return the rows, in any order, and some of them more than once."""
        if not combinations:
            return iter(())
        wanted = list(combinations)
        size = 1 << (len(wanted) - 1).bit_length()
        wanted.extend([wanted[-1]] * (size - len(wanted)))
        cache_key = connection.dialect.name, size
        statement = self._compiled.get(cache_key)
        if statement is None:
            statement = self._compiled[cache_key] = self._compile(connection.dialect, size)
        return statement.selected(connection, list(chain.from_iterable(wanted)))

    def _compile(self, dialect: Dialect, size: int) -> "_Statement":
        columns = [column(key.name, key.type) for key in self._keys]
        parameters = [
            tuple(bindparam(f"{key.name}_{number}", type_=key.type) for key in self._keys)
            for number in range(size)
        ]
        wanted = values(*columns, name="wanted").data(parameters).cte("wanted")
        matches = and_(*(key == wanted.c[key.name] for key in self._keys))
        return _selecting(self._statement.join(wanted, matches), dialect)


class PreparedNewest:
    """Selects the rows of a statement with the greatest ids, of all or with a value in a column."""

    def __init__(self, statement: Select[Any], ids: Column[int]) -> None:
        self._statement: Final = statement
        self._ids: Final = ids
        self._compiled: Final[dict[tuple[str, _Newest], _Statement]] = {}

    def rows(
        self,
        connection: Connection,
        limit: int,
        *,
        before: int | None = None,
        where: tuple[str, object] | None = None,
    ) -> Iterator[Row]:
        """Return the first rows, newest first.

        With `before`, only those with lower ids. `where` is the name of a column of their table,
        and the value that it must have.
        """
        name, value = where or (None, None)
        wanted = _Newest(limit, name, before is not None)
        key = connection.dialect.name, wanted
        if key not in self._compiled:
            self._compiled[key] = self._compile(connection.dialect, wanted)
        given = [each for each in (value, before) if each is not None]
        return self._compiled[key].selected(connection, given)

    def _compile(self, dialect: Dialect, wanted: "_Newest") -> "_Statement":
        # PostgreSQL's planner expects a tenth of the table if the statement has no numbers.
        most, skipped = literal_column(str(wanted.limit), Integer), literal_column("0", Integer)
        query = self._statement.limit(most).offset(skipped)
        if wanted.column is not None:
            own = self._ids.table.c[wanted.column]
            query = query.where(own == bindparam("value", type_=own.type))
        if wanted.has_before:
            query = query.where(self._ids < bindparam("before", type_=self._ids.type))
        return _selecting(query.order_by(self._ids.desc()), dialect)


class _Newest(NamedTuple):
    """What the statement for the newest rows depends on."""

    limit: int
    column: str | None
    has_before: bool


class PreparedInsert:
    """Inserts rows, without those whose unique keys are stored already.

    The statement is compiled for 1, 2, 4, 8 … rows. SQLite gets them one by one, which takes half
    the time there.

    Args:
        table: the table.
        columns: the columns of the rows, in the order of the table.
        returned: the columns to return of each row that was inserted: some of those, and the id
            that the database generates.
    """

    def __init__(
        self, table: Table, columns: Sequence[str], returned: Sequence[Column[Any]]
    ) -> None:
        if [column.name for column in table.c if column.name in columns] != [*columns]:
            raise ValueError(f"the columns are not in the order of {table.name}")
        self._table: Final = table
        self._columns: Final = tuple(columns)
        self._returned: Final = tuple(returned)
        self._places: Final = [
            columns.index(each.name) if each.name in columns else len(columns) for each in returned
        ]
        self._compiled: Final[dict[tuple[str, int], _Statement]] = {}

    def rows(self, connection: Connection, rows: Sequence[Row]) -> Sequence[Row]:
        """Insert rows; return the wanted columns of those that were inserted, in any order."""
        with closing(connection.connection.cursor()) as cursor:
            if connection.dialect.name == "sqlite":
                return list(self._inserted_one_by_one(cursor, rows, connection.dialect))
            inserted: list[Row] = []
            start = 0
            while start < len(rows):
                size = 1 << ((len(rows) - start).bit_length() - 1)
                statement = self._statement(connection.dialect, size)
                values = statement.converted(chain.from_iterable(rows[start : start + size]))
                cursor.execute(statement.sql, values)
                inserted.extend(cursor.fetchall())
                start += size
            return inserted

    def _inserted_one_by_one(
        self, cursor: DBAPICursor, rows: Iterable[Row], dialect: Dialect
    ) -> Iterator[Row]:
        """Insert rows, and take the id that SQLite generates from the driver."""
        statement = self._statement(dialect, 1)
        for row in rows:
            cursor.execute(statement.sql, statement.converted(row))
            if cursor.rowcount:
                values = (*row, cursor.lastrowid)
                yield [values[place] for place in self._places]

    def _statement(self, dialect: Dialect, size: int) -> "_Statement":
        key = dialect.name, size
        if key not in self._compiled:
            self._compiled[key] = self._compile(dialect, size)
        return self._compiled[key]

    def _compile(self, dialect: Dialect, size: int) -> "_Statement":
        parameters = [
            {
                name: bindparam(f"{name}_{number}", type_=self._table.c[name].type)
                for name in self._columns
            }
            for number in range(size)
        ]
        statement = insert_new(dialect, self._table).values(parameters)
        # SQLite's driver knows the id without it, in a tenth less of the time of an insert.
        is_returning = dialect.name != "sqlite"
        types = [self._table.c[name].type for name in self._columns]
        converters = [type_.dialect_impl(dialect).bind_processor(dialect) for type_ in types]
        # Rows that are inserted together have the same times.
        cached = [None if each is None else lru_cache(maxsize=1)(each) for each in converters]
        sql = _sql(statement.returning(*self._returned) if is_returning else statement, dialect)
        return _Statement(sql, _by_position(cached * size))


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement in one dialect, and the values to convert, of parameters or of rows."""

    sql: str
    converters: Sequence[tuple[int, _Converter]]

    def converted(self, values: Iterable[Any]) -> Row:
        """Return parameters converted for the driver."""
        converted = list(values)
        for position, convert in self.converters:
            converted[position] = convert(converted[position])
        return converted

    def selected(self, connection: Connection, parameters: Row) -> Iterator[Row]:
        """Return the rows that the statement selects."""
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(self.sql, parameters)
            rows = cursor.fetchall()
        if not rows or not self.converters:
            return iter(rows)
        # Column by column, which takes a third of the time.
        columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
        for position, convert in self.converters:
            columns[position] = map(convert, columns[position])
        return zip(*columns, strict=True)


def _selecting(statement: Select[Any], dialect: Dialect) -> _Statement:
    types = (selected.type for selected in statement.selected_columns)
    converters = (type_.dialect_impl(dialect).result_processor(dialect, None) for type_ in types)
    return _Statement(_sql(statement, dialect), _by_position(converters))


def _sql(statement: ClauseElement, dialect: Dialect) -> str:
    """Return the text of a statement, whose parameters are in the order of their appearance."""
    compiled = statement.compile(dialect=dialect)
    if getattr(compiled, "positiontup", None) is None:
        raise TypeError(f"{dialect.name} has no positional parameters")
    return str(compiled)


def _by_position(converters: Iterable[_Converter | None]) -> Sequence[tuple[int, _Converter]]:
    """Return the positions of the values that have a converter, with it."""
    return tuple(
        (position, convert) for position, convert in enumerate(converters) if convert is not None
    )
