"""The schema version of the database, and its migrations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, func, select, table

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import text_index
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.database import Database

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# The names of the files begin with them, in their order. Alembic itself takes a tenth of the start.
_REVISIONS: Final = sorted(
    file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py")
)
_ALEMBIC_TABLE: Final = table("alembic_version", column("version_num"))


class SchemaNotCurrentError(RuntimeError):
    """The database has another schema version than this code. The message says what to do."""


def newest_revision() -> str:
    """Return the revision that this version of the code needs."""
    return _REVISIONS[-1]


async def revision(database: Database) -> str | None:
    """Return the revision of the database, or None if it is empty.

    Raises:
        SourceUnavailable: the database does not answer.
    """
    return await database.read(stored_revision)


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of a connection's database, or None if it is empty."""
    if not connection.dialect.has_table(connection, _ALEMBIC_TABLE.name):
        return None
    return connection.scalar(select(_ALEMBIC_TABLE.c.version_num))


def may_create_tables(connection: Connection) -> bool:
    """Return whether the user of a connection may create tables. SQLite has no users."""
    if connection.dialect.name != "postgresql":
        return True
    privilege = func.has_schema_privilege(func.current_schema(), "CREATE")
    return connection.scalar(select(privilege)) is True


async def migrate(database: Database) -> Sequence[str]:
    """Migrate the database to the newest revision, in one transaction.

    Returns:
        What the operator should know, in sentences; empty if there is nothing.

    Raises:
        SchemaNotCurrentError: its revision is unknown, or a migration failed.
        SourceUnavailable: the database does not answer.
    """
    database.check()
    require_known(await revision(database))
    return await _upgrade(database)


async def prepare(database: Database) -> None:
    """Create the tables of an empty database; check that any other is current.

    A database in use is migrated by its operator only.

    Raises:
        SchemaNotCurrentError: the database has another revision.
        SourceUnavailable: the database does not answer.
    """
    database.check()
    found, newest = await revision(database), newest_revision()
    if found is None:
        await _upgrade(database)
    elif found != newest:
        require_known(found)
        raise SchemaNotCurrentError(
            f"the database is at revision {found}, and this version needs {newest}. "
            "Run `contact-gateway migrate`."
        )


async def is_ready(database: Database) -> bool:
    """Return whether the database answers, commits writes, and has all that this version needs.

    A newer version may have migrated it in the meantime: that takes nothing that this one uses.
    """
    try:
        found = await revision(database)
        is_migrated = found == newest_revision() or (found is not None and found not in _REVISIONS)
        return is_migrated and await database.can_write()
    except SourceUnavailable:
        return False


def require_known(found: str | None) -> None:
    """Refuse the revision of a newer version. None is an empty database.

    Raises:
        SchemaNotCurrentError: this version does not know the revision.
    """
    if found is not None and found not in _REVISIONS:
        raise SchemaNotCurrentError(
            f"the database is at revision {found}, which this version does not know: "
            "a newer one created it. Upgrade contact-gateway."
        )


async def _upgrade(database: Database) -> Sequence[str]:
    """Migrate to the newest revision. Of several processes that do so at once, one succeeds.

    The others fail, or wait for the first one's tables and then fail, which changes nothing.
    """
    from alembic import command  # noqa: PLC0415 - only migrations need it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    def upgrade(connection: Connection) -> Sequence[str]:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout=0")
        report: list[str] = []
        config = Config(attributes={"connection": connection, "report": report})
        # Alembic's parser reads % as the start of a variable.
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        command.upgrade(config, "head")
        return [*report, *text_index.create(connection)]

    try:
        return await database.write(upgrade)
    except (DatabaseFault, CommandError) as error:
        if await revision(database) == newest_revision():
            return ()
        raise SchemaNotCurrentError(f"the database cannot be migrated: {error}") from error
