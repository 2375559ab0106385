"""The commands `contact-gateway contacts`: imports, exports, and where contacts come from."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias

import typer

from contact_gateway import output
from contact_gateway.access.principals import Credential
from contact_gateway.command_line import (
    admin_key,
    exit_on_error,
    operator_access,
    or_dash,
    timestamp,
    with_database,
    with_own_database,
)
from contact_gateway.contact_files.exporting import (
    BYTE_ORDER_MARK,
    ExportedPart,
    ExportError,
    heading,
    text_of,
)
from contact_gateway.contact_files.new_file import new_file
from contact_gateway.contact_files.report import partial_of
from contact_gateway.contact_files.table import Format
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.advertiser_lookup import advertiser_named, name_of_advertiser
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.contacts.outcomes import NotFound
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.source import Advertisers
from contact_gateway.contacts_import import (
    FAILED,
    ImportOptions,
    opened,
    run_import,
)
from contact_gateway.progress import TransferBar, counted, show_wait
from contact_gateway.server.process import tune_garbage_collector
from contact_gateway.settings import checked_base_url, load_settings
from contact_gateway.store import audit_trail
from contact_gateway.store.database import Database
from contact_gateway.store.export import exported_contacts
from contact_gateway.telemetry.logs import configure_logging
from contact_gateway.upstream import export as upstream_export
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.source import UpstreamReads

contacts = typer.Typer(help="Import, export and inspect contacts.", no_args_is_help=True)

_STANDARD_STREAM: Final = Path("-")

_Counts: TypeAlias = tuple[int, int]
"""How many contacts were exported, and how many could not be read."""


@contacts.command("audit")
def audit_contact(
    contact_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID)],
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show which API key created a contact, through which face and in which request."""
    find = partial(audit_trail.of_contact, contact_id=contact_id)
    record = with_own_database(lambda database: database.read(find))
    if record is None:
        output.fail(f"There is no contact {contact_id}.")
    if json_output:
        output.write_json({**record._asdict(), "created_at": timestamp(record.created_at)})
        return
    label = "" if record.key_label is None else f" ({record.key_label})"
    lines = (
        f"Contact     {record.contact_id}, of advertiser {record.advertiser_id}",
        f"Created     {record.created_at.isoformat(timespec='milliseconds')}",
        f"Key         {or_dash(record.key_id)}{label}",
        f"Face        {or_dash(record.face)}",
        f"Request id  {or_dash(record.request_id)}",
    )
    output.write("\n".join([*lines, ""]))


def _validated_advertiser(name: str | None) -> str | None:
    if name is None:
        return None
    text, problems = name_of_advertiser(name, "advertiser")
    if problems:
        raise typer.BadParameter(problems[0].message)
    return text


@contacts.command("export")
def export_contacts(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="FILE.csv or FILE.jsonl to write; - is standard output."
        ),
    ],
    advertiser: Annotated[
        str | None,
        typer.Option(
            help="Export only the contacts of this brand: an id, slug, domain or name.",
            callback=_validated_advertiser,
        ),
    ] = None,
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="The format on standard output; csv by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write all contacts to a file, as CSV or as JSON lines.

    In front of HiEnergy, the key is read from HIENERGY_API_KEY; in a terminal, the command asks for
    it.
    """
    known_format = _format_of(file, file_format)
    settings = load_settings()
    # Standard output may be the file.
    configure_logging(settings.log_format)
    url = settings.upstream_url
    credential = None if url is None else admin_key("HiEnergy")
    tune_garbage_collector()
    # The contacts may go to the terminal of the bar.
    bar = TransferBar("contact", is_shown=file != _STANDARD_STREAM or not output.is_terminal())
    with _written_to(file, known_format, force=force) as write, bar:
        export = _Export(known_format, advertiser, write, bar)
        if url is None or credential is None:
            exported, skipped = with_database(settings, export.from_database)
        else:
            client = UpstreamClient(
                url, timeout_seconds=settings.upstream_timeout_seconds, max_connections=1
            )
            exported, skipped = asyncio.run(export.from_hienergy(client, credential))
    output.note(f"Exported {counted(exported, 'contact')}.")
    if skipped:
        output.note(f"Left out {counted(skipped, 'row')} without an id or an advertiser.")


def _format_of(file: Path, given: Format | None) -> Format:
    if file == _STANDARD_STREAM:
        return given or Format.CSV
    if given is not None:
        raise typer.BadParameter(
            "It is for standard output. Name FILE.csv or FILE.jsonl.", param_hint="'--format'"
        )
    try:
        return Format(file.suffix.lower().removeprefix("."))
    except ValueError:
        raise typer.BadParameter(
            "Use a file that ends in .csv or .jsonl, or - for standard output.",
            param_hint="'FILE'",
        ) from None


@contextmanager
def _written_to(
    file: Path, file_format: Format, *, force: bool
) -> Iterator[Callable[[str], object]]:
    """Return the function that writes to the file."""
    if file == _STANDARD_STREAM:
        # It has the encoding of the locale, which may lack characters.
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield output.write
        return
    with new_file(file, overwrite=force) as opened:
        if file_format is Format.CSV:
            opened.write(BYTE_ORDER_MARK)
        yield opened.write


def _validated_file(file: Path) -> Path:
    # Typer would look for a file of this name.
    if file != _STANDARD_STREAM and not os.access(file, os.R_OK):
        raise typer.BadParameter(f"{file} does not exist, or cannot be read.")
    if file.is_dir():
        raise typer.BadParameter(f"{file} is a folder.")
    return file


def _validated_maps(given: list[str]) -> list[str]:
    columns = set()
    for each in given:
        column, _, field = each.rpartition("=")
        if not column or not field:
            raise typer.BadParameter(f"{each}: write COLUMN=FIELD.")
        if column in columns:
            raise typer.BadParameter(f"{each}: the column has another field already.")
        columns.add(column)
    return given


def _validated_gateway(url: str) -> str:
    try:
        return checked_base_url(url, example="https://contacts.example")
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


def _validated_report(context: typer.Context, report: Path | None) -> Path | None:
    if report is None:
        return None
    if report.suffix.lower() != ".csv":
        raise typer.BadParameter("Use a file that ends in .csv.")
    file: Path = context.params["file"]
    for each in (report, partial_of(report)):
        # Opening the report says why it cannot be looked at.
        with suppress(OSError):
            if each.samefile(file):
                raise typer.BadParameter("It is the file that is imported. Name another file.")
    return report


class _OnConflict(StrEnum):
    """The values of `--on-conflict`."""

    REFUSE = "refuse"
    RETURN_EXISTING = "return-existing"


@contacts.command("import")
def import_contacts(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="FILE.csv or FILE.jsonl to read; - is standard input.",
            callback=_validated_file,
            is_eager=True,
        ),
    ],
    maps: Annotated[
        list[str],
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Choose the field of a column. May be repeated.",
            callback=_validated_maps,
        ),
    ] = [],  # noqa: B006 - Typer does not change it
    resolve_names: Annotated[
        bool,
        typer.Option("--resolve-names", help="Accept names of advertisers that match one brand."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every row, and create nothing.")
    ] = False,
    on_conflict: Annotated[
        _OnConflict,
        typer.Option(help="What to do if another contact has the address of a row."),
    ] = _OnConflict.REFUSE,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Write each row with its outcome, contact id and problems.",
            dir_okay=False,
            callback=_validated_report,
        ),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Import through the running gateway at this URL, not into the database.",
            parser=_validated_gateway,
        ),
    ] = None,
    file_format: Annotated[
        Format | None,
        typer.Option("--format", help="The format of FILE, if its name does not say it."),
    ] = None,
) -> None:
    """Create a contact for each row of a file. Repeat the command to continue an import.

    In front of HiEnergy, the key is read from HIENERGY_API_KEY, with --through from
    GATEWAY_API_KEY; in a terminal, the command asks for it. Exit status: 0 if no row was refused, 1
    if some were, 2 if the import failed.
    """
    chosen = {column: field for column, _, field in (each.rpartition("=") for each in maps)}
    options = ImportOptions(
        chosen,
        resolves_names=resolve_names,
        dry_run=dry_run,
        on_conflict=OnConflict(on_conflict.replace("-", "_")),
    )
    with exit_on_error(FAILED):
        settings = load_settings()
        # HiEnergy may refuse thousands of rows, each with a line. The report has them.
        configure_logging(settings.log_format, least=logging.WARNING)
        with opened(file, file_format) as source:
            status = run_import(settings, source, options, report, through)
    raise typer.Exit(status)


class _Export(NamedTuple):
    """An export: what is wanted, and where it is written and shown."""

    file_format: Format
    advertiser: str | None
    write: Callable[[str], object]
    bar: TransferBar

    async def from_database(self, database: Database) -> _Counts:
        """Export the contacts of the gateway's own database."""
        async with operator_access(database) as access:
            owner = await self._advertiser(access)
        if owner is not None and owner.hienergy_id is None:
            raise ExportError(
                f"Advertiser {owner.id} has no HiEnergy advertiser, so it has no contacts"
            )
        return await self._from(exported_contacts(database, owner and owner.hienergy_id))

    async def from_hienergy(self, client: UpstreamClient, credential: Credential) -> _Counts:
        """Export the contacts of HiEnergy."""
        async with client:
            reads = UpstreamReads(client, credential, max_calls=sys.maxsize)
            owner = await self._advertiser(reads)
            return await self._from(upstream_export.exported_contacts(reads, owner, _wait))

    async def _advertiser(self, advertisers: Advertisers) -> Advertiser | None:
        if self.advertiser is None:
            return None
        found = await advertiser_named(advertisers, self.advertiser)
        if isinstance(found, Advertiser):
            return found
        for each in found.candidates if isinstance(found, NotFound) else ():
            known = (str(each.id), each.title, each.network_name, each.domain)
            output.note("  ".join(filter(None, known)))
        raise ExportError(f"--advertiser: {found.message}")

    async def _from(self, parts: AsyncIterator[ExportedPart]) -> _Counts:
        exported = skipped = 0
        self.write(heading(self.file_format))
        async for part in parts:
            self.write(text_of(self.file_format, part.contacts))
            exported, skipped = exported + len(part.contacts), skipped + part.skipped
            self.bar.show(exported, part.position, part.end)
        return exported, skipped


async def _wait(seconds: int, reason: str) -> None:
    show_wait(seconds, reason)
    await asyncio.sleep(seconds)
