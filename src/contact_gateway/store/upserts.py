"""INSERT … ON CONFLICT, which SQLAlchemy has for each dialect but not for all."""

from functools import cache
from typing import TypeAlias

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite

_Insert: TypeAlias = postgresql.Insert | sqlite.Insert


def insert_new(dialect: Dialect, table: Table) -> _Insert:
    """Return an INSERT that leaves out the rows whose unique keys are stored already."""
    return _insert(dialect.name, table).on_conflict_do_nothing()


@cache
def upsert(dialect_name: str, table: Table) -> _Insert:
    """Return an INSERT that replaces the rows whose primary keys are stored already."""
    statement = _insert(dialect_name, table)
    keys = table.primary_key.columns
    replaced = {
        column.name: statement.excluded[column.name] for column in table.c if not column.primary_key
    }
    return statement.on_conflict_do_update(index_elements=list(keys), set_=replaced)


def _insert(dialect_name: str, table: Table) -> _Insert:
    return postgresql.insert(table) if dialect_name == "postgresql" else sqlite.insert(table)
