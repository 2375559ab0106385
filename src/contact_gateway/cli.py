"""The command line."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NoReturn, TypeVar

import rich.markup
import rich.progress
import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection

from contact_gateway.access.api_keys import KeyRecord, mint
from contact_gateway.access.principals import Role
from contact_gateway.app import create_app
from contact_gateway.contacts.catalogue import CatalogueError, advertisers, read_csv, read_jsonl
from contact_gateway.contacts.fields import MAX_ID, RequiredText
from contact_gateway.contacts.problems import problems_of
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.demo import DemoKeys, NotADemoDatabaseError, end_demo, prepare_demo
from contact_gateway.faces.graphql.schema import schema_sdl
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.server import process
from contact_gateway.settings import Settings, SettingsError, load_settings
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store import audit_trail
from contact_gateway.store import schema_version as store_schema
from contact_gateway.store.sqlite import Database, has_wal_reset_bug, sqlite_url
from contact_gateway.telemetry.logs import configure_logging
from contact_gateway.telemetry.metrics import shared_between_workers

T = TypeVar("T")

main = typer.Typer(
    name="contact-gateway",
    help="The GraphQL gateway that adds contact creation to HiEnergy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_keys = typer.Typer(help="API keys.", no_args_is_help=True)
_advertisers = typer.Typer(help="The advertisers' catalogue.", no_args_is_help=True)
_contacts = typer.Typer(help="Where contacts came from.", no_args_is_help=True)
main.add_typer(_keys, name="keys")
main.add_typer(_advertisers, name="advertisers")
main.add_typer(_contacts, name="contacts")

_errors = Console(stderr=True, soft_wrap=True, highlight=False)
_BATCH = 500
_LABEL: Final = TypeAdapter(RequiredText)


class SchemaKind(StrEnum):
    """The documents that describe the faces."""

    GRAPHQL = "graphql"
    OPENAPI = "openapi"


def _label(text: str) -> str:
    try:
        return _LABEL.validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(problems_of(error)[0].message) from None


@main.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="How many processes serve.")] = 1,
    demo: Annotated[
        bool, typer.Option("--demo", help="Fill an empty database and print two keys.")
    ] = False,
) -> None:
    """Serve both faces until SIGTERM or Ctrl-C."""
    with _told(), process.listen(host, port) as listener:
        settings = load_settings()
        configure_logging(settings.log_format)
        keys = _run(settings, _what_becomes_of_demo_keys(settings, demo=demo))

        def announce() -> None:
            _announce(process.address_of(listener), settings, keys)

        if workers == 1:
            if not process.serve(create_app(settings), listener, announce):
                _stop("the server did not start; the log says why")
            return
        if has_wal_reset_bug():
            _errors.print(
                "[yellow]Warning[/]: this SQLite library has the WAL-reset bug "
                "(https://sqlite.org/wal.html#walresetbug): very rarely, several processes on one "
                "file corrupt it. Serve with one worker, or use PostgreSQL once it is supported."
            )
        if settings.rate_limit_per_hour and settings.upstream_url is None:
            _errors.print(
                f"Each of the {workers} workers counts CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR by "
                "itself."
            )
        with shared_between_workers() if settings.metrics else nullcontext():
            process.serve_with_workers(listener, workers, announce)


@main.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    with _told():
        revision = _run(load_settings(), store_schema.revision, prepare=store_schema.migrate)
        typer.echo(f"The database is at revision {revision}.", err=True)


@main.command("schema")
def print_schema(
    kind: Annotated[SchemaKind, typer.Argument(help="Which face's.")],
) -> None:
    """Print a face's schema: GraphQL's SDL, or the OpenAPI document."""
    if kind is SchemaKind.GRAPHQL:
        typer.echo(schema_sdl(), nl=False)
    else:
        typer.echo(json.dumps(openapi_document(), indent=2, ensure_ascii=False))


@_keys.command("create")
def create_key(
    role: Annotated[Role, typer.Option(help="Admins create contacts; members read.")],
    label: Annotated[
        str, typer.Option(help="Whose key it is, to tell it from others.", callback=_label)
    ],
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36500, help="It never expires unless said.")
    ] = None,
) -> None:
    """Make a key and print it, this once."""
    minted = mint()
    expires_at = (
        None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    )

    async def add(database: Database) -> int:
        return await database.write(
            lambda connection: key_rows.add(
                connection, minted, role=role, label=label, expires_at=expires_at
            )
        )

    with _told():
        settings = load_settings()
        _refuse_in_front_of_upstream(settings, "keys are kept in")
        key_id = _run(settings, add)
        typer.echo(f"Key {key_id} ({role}, {label}) is made; it is shown only here:", err=True)
        typer.echo(minted.text)


@_keys.command("list")
def list_keys() -> None:
    """List the keys, without their secrets."""

    async def every(database: Database) -> tuple[KeyRecord, ...]:
        return await database.read(key_rows.all_keys)

    with _told():
        settings = load_settings()
        _refuse_in_front_of_upstream(settings, "keys are kept in")
        table = Table("ID", "Role", "Label", "Created", "Expires", "Revoked", box=None)
        for key in _run(settings, every):
            table.add_row(
                str(key.id),
                key.role,
                Text(key.label),
                _day(key.created_at),
                _day(key.expires_at),
                _day(key.revoked_at),
            )
        Console(soft_wrap=not sys.stdout.isatty()).print(table)


@_keys.command("revoke")
def revoke_key(key_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID)]) -> None:
    """Revoke a key, for good."""

    async def revoke(database: Database) -> key_rows.Revocation | None:
        return await database.write(lambda connection: key_rows.revoke(connection, key_id))

    with _told():
        settings = load_settings()
        _refuse_in_front_of_upstream(settings, "keys are kept in")
        revocation = _run(settings, revoke)
        if revocation is None:
            _stop(f"there is no key {key_id}; see `contact-gateway keys list`")
        said = "is revoked" if revocation.now else "was revoked before, on"
        moment = "" if revocation.now else f" {_day(revocation.revoked_at)}"
        typer.echo(f"Key {key_id} {said}{moment}.", err=True)


@_advertisers.command("import")
def import_advertisers(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="FILE.csv or .jsonl")
    ],
) -> None:
    """Insert the advertisers of a file, or replace those with their ids. All of it or nothing."""
    readers = {".csv": read_csv, ".jsonl": read_jsonl}
    read = readers.get(file.suffix.lower())
    if read is None:
        raise typer.BadParameter("a file ending in .csv or .jsonl is expected")

    async def upsert(database: Database) -> int:
        with rich.progress.open(
            file, "r", encoding="utf-8-sig", newline="", description="Reading", console=_errors
        ) as text:
            known = await database.read(advertiser_rows.known)
            records = advertisers(read(text), known)

        def write(connection: Connection) -> None:
            batches = range(0, len(records), _BATCH)
            for start in rich.progress.track(batches, "Writing", console=_errors):
                advertiser_rows.upsert(connection, records[start : start + _BATCH])

        await database.write(write)
        return len(records)

    with _told():
        settings = load_settings()
        _refuse_in_front_of_upstream(settings, "advertisers are imported into")
        try:
            count = _run(settings, upsert)
        except CatalogueError as error:
            _stop(f"{file}: {str(error).rstrip('.')}. Nothing is imported.")
        except UnicodeDecodeError:
            _stop(f"{file}: the file is not in UTF-8. Nothing is imported.")
        typer.echo(f"{count} advertisers are imported.", err=True)


@_contacts.command("audit")
def audit_contact(
    contact_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID)],
) -> None:
    """Tell which key created a contact, through which face, under which request id."""

    async def find(database: Database) -> audit_trail.AuditRecord | None:
        return await database.read(
            lambda connection: audit_trail.of_contact(connection, contact_id)
        )

    with _told():
        settings = load_settings()
        _refuse_in_front_of_upstream(settings, "contacts are kept in")
        record = _run(settings, find)
        if record is None:
            _stop(f"there is no contact {contact_id}")
        label = "" if record.key_label is None else f" ({record.key_label})"
        typer.echo(f"Contact     {record.contact_id}, of advertiser {record.advertiser_id}")
        typer.echo(f"Created     {record.created_at.isoformat(timespec='milliseconds')}")
        typer.echo(f"Key         {_or_dash(record.key_id)}{label}")
        typer.echo(f"Face        {_or_dash(record.face)}")
        typer.echo(f"Request id  {_or_dash(record.request_id)}")


def _refuse_in_front_of_upstream(settings: Settings, what: str) -> None:
    """Refuse what would change a store that is not asked for anything."""
    if settings.upstream_url is not None:
        raise SettingsError(
            f"CONTACT_GATEWAY_UPSTREAM_URL: {what} the gateway's own database, and with this "
            "setting HiEnergy's API is asked instead. Unset it for this command."
        )


def _what_becomes_of_demo_keys(
    settings: Settings, *, demo: bool
) -> Callable[[Database], Awaitable[DemoKeys | None]]:
    if demo:
        _refuse_in_front_of_upstream(settings, "the demo fills")
        return prepare_demo
    # In front of an upstream no key of the store's is asked for.
    return end_demo if settings.upstream_url is None else _nothing_more


async def _nothing_more(_: Database) -> None:
    """Do nothing more than preparing the database."""


def _run(
    settings: Settings,
    work: Callable[[Database], Awaitable[T]],
    *,
    prepare: Callable[[Database], Awaitable[None]] = store_schema.prepare,
) -> T:
    """Prepare the database, do some work with it, and close it."""

    async def run() -> T:
        database = Database(sqlite_url(settings.database_url))
        try:
            await prepare(database)
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def _announce(address: str, settings: Settings, keys: DemoKeys | None) -> None:
    lines = [f"GraphQL     {address}/graphql", f"REST        {address}/api/v1/contacts"]
    if settings.graphiql:
        lines[0] += "   (open it in a browser for GraphiQL)"
    if settings.upstream_url is not None:
        lines.append(f"Upstream    {settings.upstream_url}   (callers send their own key for it)")
    if keys is not None:
        lines += [f"Admin key   {keys.admin}", f"Member key  {keys.member}"]
    typer.echo("\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()


@contextmanager
def _told() -> Iterator[None]:
    """Tell an operator's mistake in a sentence, and exit with 1."""
    try:
        yield
    except SettingsError as error:
        _stop(str(error))
    except store_schema.SchemaNotCurrentError as error:
        _stop(f"CONTACT_GATEWAY_DATABASE_URL: {error}")
    except NotADemoDatabaseError as error:
        _stop(f"--demo: {error}. Set CONTACT_GATEWAY_DATABASE_URL to another file.")
    except process.AddressError as error:
        _stop(f"--host, --port: {error}.")
    except SourceUnavailable as error:
        _stop(f"CONTACT_GATEWAY_DATABASE_URL: the database does not answer: {error.reason}")


def _stop(sentence: str) -> NoReturn:
    _errors.print(f"[red]Error[/]: {rich.markup.escape(sentence)}")
    raise typer.Exit(1)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M")
