"""The database's schema version: what it is, what it should be, and how it gets there."""

from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store.sqlite import Database

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class SchemaNotCurrentError(RuntimeError):
    """The database was made by another version. The message says what to do."""


@cache
def newest_revision() -> str:
    """Return the revision that this version of the code works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("there are no migrations")
    return revision


async def revision(database: Database) -> str | None:
    """Return the revision of the database; None where it is empty.

    Raises:
        SourceUnavailable: the database does not answer.
    """
    return await database.read(_revision)


async def migrate(database: Database) -> None:
    """Bring the database to the newest revision, or leave it as it was.

    Raises:
        SchemaNotCurrentError: the database was made by a newer version, or by something else.
        SourceUnavailable: the database does not answer.
    """
    database.check()
    _refuse_unknown(await revision(database))
    await _upgrade(database)


async def prepare(database: Database) -> None:
    """Make the tables of an empty database; see that any other is current.

    Migrating a database that is in use is left to the operator.

    Raises:
        SchemaNotCurrentError: the database is of another version.
        SourceUnavailable: the database does not answer.
    """
    database.check()
    found, wanted = await revision(database), newest_revision()
    if found is None:
        await _upgrade(database)
    elif found != wanted:
        _refuse_unknown(found)
        raise SchemaNotCurrentError(
            f"the database is at revision {found}, and this version needs {wanted}. "
            "Run `contact-gateway migrate`."
        )


async def is_ready(database: Database) -> bool:
    """Tell whether the database answers and is current."""
    try:
        return await revision(database) == newest_revision()
    except SourceUnavailable:
        return False


def _refuse_unknown(found: str | None) -> None:
    scripts = ScriptDirectory.from_config(_config())
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise SchemaNotCurrentError(
            f"the database is at revision {found}, which this version does not know: "
            "it was made by a newer one"
        )


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def _upgrade(database: Database) -> None:
    try:
        await database.write(_run_migrations)
    except DatabaseError as error:
        raise SchemaNotCurrentError(f"the database cannot be migrated: {error.orig}") from error


def _run_migrations(connection: Connection) -> None:
    command.upgrade(_config(connection), "head")
