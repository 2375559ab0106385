"""One index of addresses instead of two: each creation writes all of them, at random places.

The unique key begins with the address, so it also finds the contacts that have one. No statement
names the indexes that it replaces, so the version before can serve in the meantime.

SQLite drops a constraint only with its table (https://sqlite.org/lang_altertable.html). So the
contacts are copied there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# Triggers of any table may name the contacts, which does not exist for a moment. A table that
# refers to the contacts would lose its rows with them: SQLite lets no transaction switch foreign
# keys off.
_NAMING_CONTACTS: Final = (
    "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND "
    "(type IN ('trigger', 'view') OR tbl_name = 'idempotency_records') ORDER BY rowid"
)


def upgrade() -> None:
    """Upgrade the schema."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        _replace_indexes()
        return
    with _last_id_kept(connection), _nothing_naming_contacts(connection):
        _replace_indexes()


def _replace_indexes() -> None:
    with op.batch_alter_table("contacts", table_kwargs={"sqlite_autoincrement": True}) as contacts:
        # First what needs PostgreSQL's strongest lock: a creation reads the contacts before it
        # writes, so that a weaker lock that grew would be a deadlock with it.
        contacts.drop_constraint("uq_contacts_advertiser_id_email_key", type_="unique")
        contacts.drop_index("ix_contacts_email_key")
        contacts.create_index(
            "ix_contacts_email_key_advertiser_id", ["email_key", "advertiser_id"], unique=True
        )


@contextmanager
def _nothing_naming_contacts(connection: sa.Connection) -> Iterator[None]:
    """Drop what names the table of contacts; then create it again as it was."""
    dropped = connection.exec_driver_sql(_NAMING_CONTACTS).all()
    connection.exec_driver_sql("CREATE TABLE kept_records AS SELECT * FROM idempotency_records")
    for kind, name, _ in reversed(dropped):
        connection.exec_driver_sql(f'DROP {kind} "{name}"')
    yield
    for _, _, statement in dropped:
        connection.exec_driver_sql(statement)
        if statement.startswith("CREATE TABLE"):
            connection.exec_driver_sql("INSERT INTO idempotency_records SELECT * FROM kept_records")
    connection.exec_driver_sql("DROP TABLE kept_records")


@contextmanager
def _last_id_kept(connection: sa.Connection) -> Iterator[None]:
    """Keep the last id that was generated: a copy has that of its last row."""
    last_id = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'contacts'")
    rows = last_id.all()
    yield
    connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'contacts'")
    for (seq,) in rows:
        connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES ('contacts', ?)", (seq,))
