"""What commands share: the database of the settings, and how tables and errors are printed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, Literal, TextIO, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contact_gateway import output
from contact_gateway.access.principals import Credential, Operator
from contact_gateway.contact_files.exporting import ExportError
from contact_gateway.contact_files.new_file import FileError
from contact_gateway.contact_files.rows import ContactFileError
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.demo import NotADemoDatabaseError
from contact_gateway.settings import Settings, load_settings
from contact_gateway.store import schema_version
from contact_gateway.store.copying import CopyError
from contact_gateway.store.database import (
    ANSWER_TIMEOUT_SECONDS,
    Database,
    configured_database,
)
from contact_gateway.store.source import SqlSource, StoreAccess
from contact_gateway.telemetry.metrics import MetricsFolderError
from contact_gateway.upstream.calls import UpstreamUnavailable
from contact_gateway.variables import PREFIX, SettingsError

T = TypeVar("T")

_MAX_LINE_LENGTH: Final = 1000

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON array.")]
existing_file: Final = partial(
    typer.Argument, exists=True, dir_okay=False, readable=True, metavar="FILE"
)
"""The argument of a command that reads a file."""


def with_own_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Do work on the gateway's own database.

    Raises:
        SettingsError: the gateway uses HiEnergy's API instead.
    """
    settings = load_settings()
    require_own_database(settings, "this command")
    return with_database(settings, work)


def require_own_database(settings: Settings, what: str) -> None:
    """Check that the gateway uses its own database, which is needed for `what`.

    Raises:
        SettingsError: it uses HiEnergy's API instead.
    """
    if settings.upstream_url is not None:
        raise SettingsError(
            f"{PREFIX}UPSTREAM_URL: {what} is for the gateway's own database, and "
            "with this setting the gateway uses HiEnergy's API instead. Unset it."
        )


def with_database(
    settings: Settings, work: Callable[[Database], Awaitable[T]], *, prepares: bool = True
) -> T:
    """Open the database of the settings, prepare it by default, do the work, and close it."""

    async def run() -> T:
        database = configured_database(settings)
        try:
            if prepares:
                await schema_version.prepare(database)
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


@asynccontextmanager
async def operator_access(database: Database) -> AsyncIterator[StoreAccess]:
    """Yield the operator's access to a database. A search may take as long as any other read."""
    source = SqlSource(database, search_timeout_seconds=ANSWER_TIMEOUT_SECONDS)
    try:
        yield StoreAccess(source, Operator())
    finally:
        await source.close()


def admin_key(owner: Literal["HiEnergy", "gateway"]) -> Credential:
    """Return the key of HIENERGY_API_KEY or GATEWAY_API_KEY, or ask for it in a terminal.

    A variable with the prefix of the settings would be refused as an unknown setting.

    Raises:
        SettingsError: there is none.
    """
    variable = f"{owner.upper()}_API_KEY"
    key = os.environ.get(variable, "").strip()
    stdin: TextIO | None = sys.stdin
    if not key and stdin is not None and stdin.isatty():
        key = typer.prompt(f"{owner} API key", hide_input=True, err=True).strip()
    if not key:
        raise SettingsError(f"{variable} is not set. Put the API key of a {owner} admin into it.")
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{variable}: the key has characters other than printable ASCII.")
    return Credential.of(key)


@contextmanager
def exit_on_error(status: int = 1) -> Iterator[None]:
    """Print errors that the operator can correct, and exit with a status."""
    try:
        yield
    except (
        SettingsError,
        ContactFileError,
        CopyError,
        ExportError,
        MetricsFolderError,
        FileError,
        output.OutputError,
    ) as error:
        message = str(error)
    except schema_version.SchemaNotCurrentError as error:
        message = f"{PREFIX}DATABASE_URL: {error}"
    except NotADemoDatabaseError as error:
        other = f"Set {PREFIX}DATABASE_URL to another file, or start without --demo."
        message = f"--demo: {error}. {other}"
    except UpstreamUnavailable as error:
        message = f"{PREFIX}UPSTREAM_URL: HiEnergy does not answer: {error.reason}"
    except SourceUnavailable as error:
        reason = f"the database does not answer: {sentence(error.reason)}"
        message = f"{PREFIX}DATABASE_URL: {reason} Run `contact-gateway doctor`."
    else:
        return
    output.fail(sentence(message), status)


def sentence(text: str) -> str:
    """Return a text with a full stop, unless it ends with a mark."""
    return text if text.endswith((".", "?")) else f"{text}."


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, with one row on each line unless it is for a terminal."""
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=None if output.is_terminal() else _MAX_LINE_LENGTH)
    with console.capture() as capture:
        console.print(table)
    output.write(capture.get())


def or_dash(value: object) -> str:
    """Return a value as text, or a dash for None."""
    return "-" if value is None else str(value)


def timestamp(moment: datetime | None) -> str | None:
    """Return a time in UTC to the second, for programs."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def minute(moment: datetime | None) -> str:
    """Return a time in UTC to the minute, for tables; a dash for None."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M")
