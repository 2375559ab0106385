"""The commands `contact-gateway store`: backup, restore, copies and checks of a database."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from contact_gateway import output
from contact_gateway.command_line import existing_file, with_database
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.database_url import (
    SqliteFile,
    UnsupportedDatabaseError,
    parse_database_url,
)
from contact_gateway.settings import load_settings
from contact_gateway.store import schema_version
from contact_gateway.store.backup import back_up, reading, restore
from contact_gateway.store.checks import Report, inspect, inspect_server
from contact_gateway.store.copying import CopyError, CopyProgress, copy_database
from contact_gateway.store.database import Database, open_database
from contact_gateway.variables import PREFIX, SettingsError

store = typer.Typer(help="Back up, restore, copy and check the database.", no_args_is_help=True)


@store.command("backup")
def backup_store(
    file: Annotated[
        Path, typer.Argument(dir_okay=False, metavar="FILE", help="File to write the copy to.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Copy the database to a file, also while a gateway uses it."""
    with _progress() as show:
        back_up(_database_file(), file, overwrite=force, progress=partial(show, "Copying"))
    output.note(f"Wrote {file}.")


@store.command("restore")
def restore_store(
    file: Annotated[Path, existing_file(help="The copy.")],
) -> None:
    """Check a copy, and replace the database with it. Stop the gateway first."""
    database = _database_file()
    with _progress() as show:
        restored = restore(file, database, partial(show, "Copying"))
    output.note(f"Restored {database}.")
    if restored.kept is not None:
        output.note(
            f"The old database is kept as {restored.kept}. Delete it when it is no longer needed."
        )
    if restored.report.revision != schema_version.newest_revision():
        output.note(f"It is at revision {restored.report.revision}. Run `contact-gateway migrate`.")


@store.command("check")
def check_store(
    file: Annotated[Path | None, existing_file(help="A copy to check instead.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Check that the database is intact and consistent, and count its rows."""
    report = _checked(file)
    if json_output:
        output.write_json(
            {"revision": report.revision, "rows": report.counts, "problems": report.problems}
        )
    else:
        counts = [f"{table}: {count}" for table, count in report.counts.items()]
        problems = [f"Problem: {problem}" for problem in report.problems] or ["No problems found."]
        output.write("\n".join([f"Revision  {report.revision or '-'}", *counts, *problems, ""]))
    if report.problems:
        raise typer.Exit(1)


@store.command("copy")
def copy_store(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the database to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty database.")],
) -> None:
    """Copy a database to another, such as SQLite to PostgreSQL. Stop the gateway first.

    A copy that was interrupted is continued.
    """
    with _progress() as show:
        origin, copy = _named_database("FROM", source), _named_database("TO", target)
        counts = asyncio.run(_copy(origin, copy, show))
    rows = ", ".join(f"{table} {count}" for table, count in counts.items())
    output.note(f"Copied and verified: {rows}.")
    output.note(f"Set {PREFIX}DATABASE_URL to the new database, and start the gateway.")


async def _copy(source: Database, target: Database, progress: CopyProgress) -> Mapping[str, int]:
    try:
        return await copy_database(source, target, progress)
    finally:
        await asyncio.gather(source.close(), target.close())


def _named_database(name: str, url: str) -> Database:
    """Return the database at the URL of an argument."""
    try:
        address = parse_database_url(url)
    except UnsupportedDatabaseError as error:
        raise CopyError(f"{name}: {error}") from None
    prepares_statements = load_settings().database_prepared_statements
    return open_database(address, prepares_statements=prepares_statements)


def _checked(file: Path | None) -> Report:
    settings = load_settings()
    if file is None and not isinstance(settings.database, SqliteFile):
        try:
            return with_database(settings, inspect_server, prepares=False)
        except SourceUnavailable as error:
            raise SettingsError(f"{PREFIX}DATABASE_URL: {error.reason}") from error
    with reading(file or _database_file(), is_copy=file is not None) as connection:
        return inspect(connection)


def _database_file() -> Path:
    database = load_settings().database
    if isinstance(database, SqliteFile):
        return Path(database.path)
    raise SettingsError(
        f"{PREFIX}DATABASE_URL: this command is for SQLite files. For PostgreSQL, use pg_dump and "
        "pg_restore, or its point-in-time recovery."
    )


@contextmanager
def _progress() -> Iterator[CopyProgress]:
    """Show a bar for each phase, once it is reported for the first time."""
    bars = Progress(console=output.console)
    phases: dict[str, TaskID] = {}

    def show(phase: str, completed: int, total: int) -> None:
        if phase not in phases:
            bars.start()
            phases[phase] = bars.add_task(phase)
        bars.update(phases[phase], completed=completed, total=total)

    try:
        yield show
    finally:
        # Otherwise an error before the first phase would follow an empty line.
        if phases:
            bars.stop()
