"""An INSERT that is compiled once, and handed to the driver as it is.

SQLAlchemy's way to insert rows and learn their ids takes as long again as the database does. The
statement is still what it compiles, and values are converted as its types say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Dialect, Table, insert
from sqlalchemy.engine.interfaces import DBAPICursor

_Convert: TypeAlias = Callable[[Any], Any]  # from what a column holds to what a driver takes


class PreparedInsert:
    """Inserts rows with values for some columns into a table that gives each an id."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._table: Final = table
        self._columns: Final = tuple(columns)
        self._compiled: Final[dict[str, _Compiled]] = {}

    def ids(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> Sequence[int]:
        """Insert rows and return their ids, in order. What the driver raises is not wrapped."""
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = self._compile(connection.dialect)
            self._compiled[connection.dialect.name] = compiled
        cursor = connection.connection.cursor()
        try:
            return [_inserted(cursor, compiled, row) for row in rows]
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect) -> "_Compiled":
        statement = insert(self._table).returning(self._table.c.id)
        compiled = statement.compile(dialect=dialect, column_keys=self._columns)
        names = tuple(getattr(compiled, "positiontup", None) or ())
        if not names:
            raise TypeError(f"{dialect.name} does not take its parameters by their positions")
        types = (self._table.c[name].type.dialect_impl(dialect) for name in names)
        converts = ((place, each.bind_processor(dialect)) for place, each in enumerate(types))
        return _Compiled(
            str(compiled),
            names,
            tuple(
                # Rows that are inserted together share their times.
                (place, lru_cache(maxsize=1)(convert))
                for place, convert in converts
                if convert is not None
            ),
        )


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement for one driver: its parameters in their order, and which are converted how."""

    sql: str
    names: tuple[str, ...]
    converts: tuple[tuple[int, _Convert], ...]

    def values(self, row: Mapping[str, object]) -> list[object]:
        """Return the parameters for a row."""
        values = [row[name] for name in self.names]
        for place, convert in self.converts:
            values[place] = convert(values[place])
        return values


def _inserted(cursor: DBAPICursor, compiled: _Compiled, row: Mapping[str, object]) -> int:
    cursor.execute(compiled.sql, compiled.values(row))
    (an_id,) = cursor.fetchone() or (None,)
    if not isinstance(an_id, int):
        raise TypeError("an INSERT has returned no id")
    return an_id
