"""The command line."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NoReturn

import rich.markup
import rich.progress
import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection

from contact_gateway import __version__, doctor, healthcheck, output
from contact_gateway.access.api_keys import Rotation, RotationRefusal, mint, rotate
from contact_gateway.access.principals import Credential, Role
from contact_gateway.app import app_from_environment, check_tracing, create_app
from contact_gateway.command_line import (
    admin_key,
    exit_on_error,
    or_dash,
    print_table,
    require_own_database,
    sentence,
    timestamp,
    with_database,
    with_own_database,
)
from contact_gateway.contacts.catalogue import CatalogueError, read_csv, read_jsonl
from contact_gateway.contacts.fields import MAX_ID, Email, RequiredText
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.problems import problems_of
from contact_gateway.contacts_commands import contacts
from contact_gateway.database_url import SqliteFile
from contact_gateway.demo import DemoKeys, end_demo, prepare_demo
from contact_gateway.doctor import Check, State
from contact_gateway.faces.graphql.changes import Severity, changes_since
from contact_gateway.faces.graphql.schema import schema_sdl
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.server import process, systemd
from contact_gateway.server.listeners import (
    AddressError,
    address_of,
    listen,
    listen_on_unix_socket,
)
from contact_gateway.server.stopping import Timeouts
from contact_gateway.settings import (
    PREFIX,
    Settings,
    SettingsError,
    Source,
    load_settings,
    load_settings_with_sources,
    shown_value,
)
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store import ledger as ledger_rows
from contact_gateway.store import schema_version as store_schema
from contact_gateway.store.database import Database
from contact_gateway.store.sqlite import has_wal_reset_bug
from contact_gateway.store.staged_catalogue import (
    Counts,
    StagedCatalogue,
    StagingError,
    StoreChangedError,
)
from contact_gateway.store_commands import store
from contact_gateway.telemetry.logs import configure_logging
from contact_gateway.telemetry.metrics import shared_between_workers
from contact_gateway.upstream.check.calls import Result, TrialContact, check
from contact_gateway.upstream.check.report import report_of
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.proxy import proxy_for

main = typer.Typer(
    name="contact-gateway",
    help="GraphQL and REST gateway that adds contact creation to HiEnergy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_keys = typer.Typer(help="Manage API keys.", no_args_is_help=True)
_advertisers = typer.Typer(help="Manage the catalogue of advertisers.", no_args_is_help=True)
_upstream = typer.Typer(help="Inspect HiEnergy's API.", no_args_is_help=True)
main.add_typer(_keys, name="keys")
main.add_typer(_advertisers, name="advertisers")
main.add_typer(_upstream, name="upstream")
main.add_typer(contacts, name="contacts")
_attempts = typer.Typer(
    help="Settle creations in HiEnergy whose outcome is unknown.", no_args_is_help=True
)
main.add_typer(_attempts, name="attempts")
_schema = typer.Typer(help="Print and compare the API's schemas.", no_args_is_help=True)
main.add_typer(_schema, name="schema")
main.add_typer(store, name="store")

_DEFAULTS: Final = Settings()
_ATTEMPT_ID_DIGITS: Final = 12
_LABEL: Final = TypeAdapter(RequiredText)
_EMAIL: Final = TypeAdapter(Email)
_DURATION: Final = re.compile(r"0|(?P<number>[0-9]{1,6})(?P<unit>[smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_OVERLAP: Final = timedelta(days=365)
_ROTATION_REFUSALS: Final = {
    RotationRefusal.REVOKED: "is revoked. Create another with `contact-gateway keys create`.",
    RotationRefusal.EXPIRED: "has expired. Create another with `contact-gateway keys create`.",
    RotationRefusal.OVERLAP: (
        "has two valid secrets already. Wait until the old one ends (`contact-gateway keys list`), "
        "or use --overlap 0 to end both now."
    ),
}


_JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON array.")]
_KeyId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID)]


def run() -> None:
    """Run the command line, also if standard streams are closed or cannot be written."""
    output.occupy_closed_descriptors()
    try:
        try:
            main(prog_name="contact-gateway")
        except OSError:
            # Typer prints help by itself: what is left of it fails again.
            output.write("")
            raise
    except output.OutputError as error:
        output.print_error(f"{error}.")
        sys.exit(1)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        output.write(f"contact-gateway {__version__}\n")
        raise typer.Exit


@main.callback()
def _options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    context.with_resource(exit_on_error())


def _validated_host(host: str | None) -> str | None:
    # Python would listen on all IPv4 interfaces.
    if host is not None and not host.strip():
        raise typer.BadParameter("It is empty. For all interfaces, use 0.0.0.0 or ::.")
    return host


@main.command()
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on.",
            show_default=f"CONTACT_GATEWAY_HOST, else {_DEFAULTS.host}",
            callback=_validated_host,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on; 0 selects a free one.",
            show_default=f"CONTACT_GATEWAY_PORT, else {_DEFAULTS.port}",
        ),
    ] = None,
    uds: Annotated[
        Path | None,
        typer.Option(help="Unix socket to listen on, instead of a host and a port."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    demo: Annotated[
        bool, typer.Option("--demo", help="Fill an empty database and print two API keys.")
    ] = False,
) -> None:
    """Serve GraphQL and REST until SIGTERM or Ctrl-C."""
    with ExitStack() as stack:
        if not output.is_standard_error_open():
            output.write(
                "Error: standard error is closed, and the log is written there. "
                "Redirect it to a file or to /dev/null.\n"
            )
            raise typer.Exit(1)
        settings = load_settings()
        configure_logging(settings.log_format)
        check_tracing(settings)
        if demo:
            require_own_database(settings)
        public = _public_listeners(stack, settings, host, port, uds)
        admin = None
        if settings.admin_port is not None:
            admin_host = settings.admin_host or host or settings.host
            with _address_errors_of(f"{PREFIX}ADMIN_HOST, {PREFIX}ADMIN_PORT"):
                admin = stack.enter_context(listen(admin_host, settings.admin_port))
        listeners = process.Listeners(public, admin)
        keys = with_database(settings, partial(_prepare_to_serve, settings, demo=demo))

        announcement = _announcement([*map(address_of, public)], settings, keys)
        if admin is not None:
            announcement = f"Admin port  {address_of(admin)}\n{announcement}"
        if keys is None:
            # Once the server has started, an error here would be logged as one of the application.
            output.write("\n")

        def announce() -> None:
            output.write(announcement)

        timeouts = Timeouts(
            settings.keep_alive_seconds, settings.drain_seconds, settings.shutdown_seconds
        )
        if workers == 1:
            has_started = process.serve(create_app(settings), listeners, announce, timeouts)
        else:
            _warn_of_workers(settings, workers)
            shared = shared_between_workers() if settings.metrics else nullcontext(lambda _: None)
            with shared as ended:
                announce()
                has_started = process.serve_with_workers(
                    app_from_environment, listeners, workers, timeouts, ended
                )
        if not has_started:
            # The schema may have changed since the start.
            with_database(settings, store_schema.revision)
            output.fail("The server did not start. The log has the reason.")


def _public_listeners(
    stack: ExitStack, settings: Settings, host: str | None, port: int | None, uds: Path | None
) -> Sequence[socket.socket]:
    """Listen where the options or the settings say, or on the sockets that systemd has passed."""
    options = {"--host": host, "--port": port, "--uds": uds}
    given = ", ".join(name for name, value in options.items() if value is not None)
    if uds is not None and given != "--uds":
        raise SettingsError(f"{given}: use either --uds, or --host and --port.")
    with _address_errors_of("LISTEN_FDS"):
        passed = stack.enter_context(systemd.passed_listeners())
    if passed and given:
        raise SettingsError(
            f"{given}: systemd has passed {', '.join(map(address_of, passed))} to listen on. "
            "Remove the options, or disable the socket unit."
        )
    if passed:
        return passed
    if uds is not None:
        with _address_errors_of("--uds"):
            return (stack.enter_context(listen_on_unix_socket(uds)),)
    names = (
        f"{PREFIX}HOST" if host is None else "--host",
        f"{PREFIX}PORT" if port is None else "--port",
    )
    with _address_errors_of(", ".join(names)):
        host = settings.host if host is None else host
        return (stack.enter_context(listen(host, settings.port if port is None else port)),)


@contextmanager
def _address_errors_of(name: str) -> Iterator[None]:
    try:
        yield
    except AddressError as error:
        raise SettingsError(f"{name}: {error}.") from None


async def _prepare_to_serve(
    settings: Settings, database: Database, *, demo: bool
) -> DemoKeys | None:
    """Update the keys of the demo, and warn of a server that takes no writes."""
    if await database.is_read_only():
        output.console.print(
            "[yellow]Warning[/]: the server of CONTACT_GATEWAY_DATABASE_URL is read-only, such as "
            "a standby: reads work, and creations are a 503."
        )
    if demo:
        return await prepare_demo(database, partial(output.write, "\n"))
    # In front of upstream, the database's keys are not accepted.
    if settings.upstream_url is None:
        await end_demo(database)
    return None


def _announcement(addresses: Sequence[str], settings: Settings, keys: DemoKeys | None) -> str:
    is_one_url = len(addresses) == 1 and not addresses[0].startswith("unix:")
    base = addresses[0] if is_one_url else ""
    lines = [f"GraphQL     {base}/graphql", f"REST        {base}/api/v1/contacts"]
    if settings.graphiql:
        lines[0] += "   (open it in a browser for GraphiQL)"
    if settings.rest_docs:
        lines[1] += f"   (described at {base}/docs)"
    if not is_one_url:
        lines.insert(0, f"Listening   {', '.join(addresses)}")
    if settings.upstream_url is not None:
        lines.append(
            f"Upstream    {settings.upstream_url}   (callers send their own HiEnergy API key)"
        )
        proxy = proxy_for(settings.upstream_url)
        if proxy is not None:
            lines.append(f"Proxy       {proxy.url}")
    database = settings.database
    shown = Path(database.path).absolute() if isinstance(database, SqliteFile) else database.label
    lines.append(f"Database    {shown}")
    if keys is not None:
        lines += [f"Admin key   {keys.admin}", f"Member key  {keys.member}"]
    return "\n".join([*lines, "", ""])


def _warn_of_workers(settings: Settings, workers: int) -> None:
    if isinstance(settings.database, SqliteFile) and has_wal_reset_bug():
        output.console.print(
            "[yellow]Warning[/]: this SQLite library has the WAL-reset bug "
            "(https://sqlite.org/wal.html#walresetbug): in rare cases, several processes corrupt "
            "their database file. Use one worker, or PostgreSQL."
        )
    counts_operations = settings.rate_limit_per_hour and settings.upstream_url is None
    if counts_operations and settings.rate_limit_url is None:
        output.console.print(
            f"Each of the {workers} workers counts {PREFIX}RATE_LIMIT_PER_HOUR separately. "
            f"{PREFIX}RATE_LIMIT_URL lets them share one count."
        )


def _validated_name(name: str | None) -> str | None:
    if name is None:
        return None
    bare = name.upper().removeprefix(PREFIX).lower()
    if bare not in Settings.model_fields:
        raise typer.BadParameter(f"There is no setting {name}. Leave the name out to list all.")
    return bare


@main.command("settings")
def print_settings(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Print only the value of this setting.",
            callback=_validated_name,
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, or the value as JSON.")
    ] = False,
) -> None:
    """Print all settings, where each comes from, and no passwords."""
    settings, sources = load_settings_with_sources()
    if name is not None:
        value = shown_value(settings, name)
        output.write(f"{json.dumps(value) if json_output else _text_of(value)}\n")
        return
    rows = [
        (f"{PREFIX}{each.upper()}", shown_value(settings, each), sources.get(each, Source.DEFAULT))
        for each in Settings.model_fields
    ]
    if json_output:
        names = ("name", "value", "source")
        output.write_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    table = Table("Setting", "Value", "Source", box=None)
    for setting, value, source in rows:
        table.add_row(setting, Text(_text_of(value)), source)
    print_table(table)


@main.command("doctor")
def run_doctor(json_output: _JsonOption = False) -> None:
    """Check the settings, the database and all servers, without serving."""
    try:
        settings = load_settings()
        check_tracing(settings)
    except SettingsError as error:
        remedy = "Correct the setting, or unset it."
        checks: tuple[Check, ...] = (Check("Settings", State.FAILED, str(error), remedy),)
    else:
        configure_logging(settings.log_format)
        found = f"{PREFIX}PROFILE is {settings.profile}"
        checks = (
            Check("Settings", State.OK, found),
            *asyncio.run(doctor.examine(settings)),
        )
    if json_output:
        output.write_json([check._asdict() for check in checks])
    else:
        for check in checks:
            remedy = "" if check.remedy is None else f" {check.remedy}"
            output.write(f"{check.state:<8} {check.name}: {sentence(check.found)}{remedy}\n")
    if any(check.state is State.FAILED for check in checks):
        raise typer.Exit(1)


@main.command("healthcheck")
def run_healthcheck(
    url: Annotated[
        str | None,
        typer.Option(
            help="Base URL of the gateway.",
            show_default="CONTACT_GATEWAY_HOST and CONTACT_GATEWAY_PORT",
        ),
    ] = None,
    uds: Annotated[
        str | None, typer.Option(help="Unix socket that it listens on, instead.")
    ] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask /readyz, not /healthz.")] = False,
) -> None:
    """Ask the gateway on this machine whether it is alive; exit with 1 if not."""
    # `__main__` does the same without the imports of this file.
    health = healthcheck.check(healthcheck.Options(url, uds, ready))
    if not health.is_healthy:
        output.fail(health.found)
    output.write(f"{health.found}\n")


def _text_of(value: object) -> str:
    """Return a value as it is written in a variable; an empty text if there is none."""
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


@main.command()
def migrate() -> None:
    """Migrate the database to the schema of this version."""
    for line in with_database(load_settings(), store_schema.migrate, prepares=False):
        output.write(f"{line}\n")
    output.note(f"The database is at revision {store_schema.newest_revision()}.")


@_schema.command("graphql")
def print_graphql() -> None:
    """Print the GraphQL schema (SDL)."""
    output.write(schema_sdl())


@_schema.command("openapi")
def print_openapi() -> None:
    """Print the OpenAPI document of the REST API."""
    output.write_json(openapi_document())


@_schema.command("check")
def check_schema(
    old: Annotated[
        Path,
        typer.Argument(
            metavar="OLD",
            exists=True,
            dir_okay=False,
            readable=True,
            help="An earlier schema.graphql.",
        ),
    ],
    json_output: _JsonOption = False,
) -> None:
    """List the changes that break or may break clients of an earlier GraphQL schema.

    Exits with 1 if there is a breaking change, else with 0.
    """
    try:
        changes = changes_since(old.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = "it is not in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise typer.BadParameter(
            f"{old} is not a GraphQL schema: {reason.rstrip('.')}. Use a file that "
            "`contact-gateway schema graphql` printed."
        ) from None
    if json_output:
        output.write_json([change._asdict() for change in changes])
    else:
        for change in changes:
            output.write(f"{change.severity:<9} {change.type}: {change.description}\n")
    if any(change.severity is Severity.BREAKING for change in changes):
        raise typer.Exit(1)


def _validated_label(text: str) -> str:
    try:
        return _LABEL.validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(problems_of(error)[0].message) from None


@_keys.command("create")
def create_key(
    role: Annotated[Role, typer.Option(help="Admins create contacts; members read.")],
    label: Annotated[
        str, typer.Option(help="Name of the key's owner, for lists.", callback=_validated_label)
    ],
    expires_in_days: Annotated[
        int | None,
        typer.Option(min=1, max=36500, help="Days until the key expires; never by default."),
    ] = None,
) -> None:
    """Create an API key and print it. It cannot be printed again."""
    minted = mint()
    expires_at = _days_from(datetime.now(UTC), expires_in_days)

    def add(connection: Connection) -> int:
        key_id = key_rows.add(connection, minted, role=role, label=label, expires_at=expires_at)
        # Printed before the commit, so that a key that cannot be shown is not created.
        output.write(f"{minted.text}\n")
        return key_id

    key_id = with_own_database(lambda database: database.write(add))
    output.note(f"Created key {key_id} ({role}, {label}). It is not shown again.")


def _days_from(now: datetime, days: int | None) -> datetime | None:
    return None if days is None else now + timedelta(days=days)


def _validated_overlap(text: str) -> str:
    duration = _duration(text)
    if duration is None or duration > _MAX_OVERLAP:
        raise typer.BadParameter(
            f"Use 0 or a number with a unit, such as 30m, 24h or 7d, up to {_MAX_OVERLAP.days}d."
        )
    return text


def _duration(text: str) -> timedelta | None:
    """Return the duration that a text such as `30m`, `24h` or `7d` stands for, or None."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return timedelta(**{_UNITS[match["unit"] or "s"]: int(match["number"] or 0)})


@_keys.command("rotate")
def rotate_key(
    key_id: _KeyId,
    overlap: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long the old secret still works, such as 30m, 24h or 7d; 0 ends it now.",
            callback=_validated_overlap,
        ),
    ] = "24h",
    expires_in_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=36500,
            help="Days until the key expires; by default its date does not change.",
        ),
    ] = None,
) -> None:
    """Give an API key a new secret and print it. Everything else about the key stays the same."""
    duration = _duration(overlap) or timedelta()

    def replace(connection: Connection) -> Rotation | RotationRefusal | None:
        record = key_rows.by_id(connection, [key_id]).get(key_id)
        if record is None:
            return None
        now = datetime.now(UTC)
        rotation = rotate(record, duration, now, _days_from(now, expires_in_days))
        if isinstance(rotation, Rotation):
            key_rows.replace_secret(connection, rotation.record)
            # Before the commit, as in `keys create`.
            output.write(f"{rotation.minted.text}\n")
        return rotation

    rotation = with_own_database(lambda database: database.write(replace))
    if rotation is None:
        _fail_without_key(key_id)
    if isinstance(rotation, RotationRefusal):
        output.fail(f"Key {key_id} {_ROTATION_REFUSALS[rotation]}")
    rotated = rotation.record
    end = f"works until {_minute(rotated.old_secret_expires_at)}" if duration else "ends now"
    note = (
        f"Rotated key {rotated.id} ({rotated.role}, {rotated.label}). "
        f"The new secret is not shown again, and the old one {end}."
    )
    if rotated.expires_at is not None:
        note += f" The key expires on {_minute(rotated.expires_at)}."
    output.note(note)


def _fail_without_key(key_id: int) -> NoReturn:
    output.fail(f"There is no key {key_id}. Run `contact-gateway keys list`.")


@_keys.command("list")
def list_keys(json_output: _JsonOption = False) -> None:
    """List all API keys, without their secrets."""
    keys = with_own_database(lambda database: database.read(key_rows.all_keys))
    if json_output:
        output.write_json(
            [
                {
                    "id": key.id,
                    "role": key.role,
                    "label": key.label,
                    "created_at": timestamp(key.created_at),
                    "last_used_on": key.last_used_on and key.last_used_on.isoformat(),
                    "expires_at": timestamp(key.expires_at),
                    "old_secret_expires_at": timestamp(key.old_secret_expires_at),
                    "revoked_at": timestamp(key.revoked_at),
                }
                for key in keys
            ]
        )
        return
    table = Table("ID", "Role", "Label", "Created", "Last used", box=None)
    for heading in ("Expires", "Old secret until", "Revoked"):
        table.add_column(heading)
    for key in keys:
        table.add_row(
            str(key.id),
            key.role,
            Text(key.label),
            _minute(key.created_at),
            or_dash(key.last_used_on),
            _minute(key.expires_at),
            _minute(key.old_secret_expires_at),
            _minute(key.revoked_at),
        )
    print_table(table)


@_keys.command("revoke")
def revoke_key(key_id: _KeyId) -> None:
    """Revoke an API key permanently, with both secrets of a rotation."""
    revoke = partial(key_rows.revoke, key_id=key_id)
    before = with_own_database(lambda database: database.write(revoke))
    if before is None:
        _fail_without_key(key_id)
    message = (
        f"Revoked key {key_id}."
        if before.revoked_at is None
        else f"Key {key_id} was already revoked on {_minute(before.revoked_at)}."
    )
    output.note(message)


@_advertisers.command("import")
def import_advertisers(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            readable=True,
            metavar="FILE",
            help="FILE.csv or FILE.jsonl.",
        ),
    ],
) -> None:
    """Insert or replace the advertisers in a file, by id. If one is invalid, none is imported."""
    read = {".csv": read_csv, ".jsonl": read_jsonl}.get(file.suffix.lower())
    if read is None:
        raise typer.BadParameter("Use a file that ends in .csv or .jsonl.")

    async def stage_and_write(database: Database) -> Counts:
        with StagedCatalogue(database) as staged:
            with rich.progress.open(
                file,
                "r",
                encoding="utf-8-sig",
                newline="",
                description="Reading",
                console=output.console,
            ) as text:
                await staged.add(read(text))
            with rich.progress.Progress(console=output.console) as progress:
                counts = staged.counts
                writing = progress.add_task("Writing", total=counts.new + counts.changed)
                await staged.write(lambda written: progress.update(writing, completed=written))
            return counts

    try:
        counts = with_own_database(stage_and_write)
    except CatalogueError as error:
        output.fail(f"{file}: {str(error).rstrip('.')}. No advertiser was imported.")
    except UnicodeDecodeError:
        output.fail(f"{file}: not UTF-8. Save the file in UTF-8. No advertiser was imported.")
    except (StagingError, StoreChangedError) as error:
        output.fail(f"{file}: {error}.")
    unchanged = counts.rows - counts.new - counts.changed
    output.note(
        f"Imported {counts.rows} advertisers: {counts.new} new, {counts.changed} changed, "
        f"{unchanged} unchanged."
    )


def _validated_trial(given: tuple[int, str] | None) -> tuple[int, str] | None:
    if given is None:
        return None
    advertiser_id, email = given
    if not 1 <= advertiser_id <= MAX_ID:
        raise typer.BadParameter(f"ADVERTISER is an id from 1 to {MAX_ID}.")
    try:
        return advertiser_id, _EMAIL.validate_python(email)
    except ValidationError as error:
        raise typer.BadParameter(problems_of(error)[0].message) from None


def _validated_report(file: Path | None) -> Path | None:
    # A test contact cannot be created again, so the file is checked before.
    if file is not None and not file.parent.is_dir():
        raise typer.BadParameter(f"The folder {file.parent} does not exist.")
    return file


@_upstream.command("check")
def check_upstream(
    create_test_contact: Annotated[
        tuple[int, str] | None,
        typer.Option(
            metavar="ADVERTISER EMAIL",
            help="Also create a contact, and the same again. Use an address that is new.",
            callback=_validated_trial,
        ),
    ] = None,
    try_dry_run: Annotated[
        bool,
        typer.Option("--try-dry-run", help="Also send a dry run, which may create a contact."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Create without asking.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write a report without keys, names, addresses and ids.",
            dir_okay=False,
            writable=True,
            callback=_validated_report,
        ),
    ] = None,
) -> None:
    """Call HiEnergy's API and show what its documentation leaves open.

    The key is read from HIENERGY_API_KEY, or asked for.
    """
    if try_dry_run and create_test_contact is None:
        raise typer.BadParameter("--try-dry-run needs --create-test-contact.")
    settings = load_settings()
    url = settings.upstream_url
    if url is None:
        output.fail(
            "CONTACT_GATEWAY_UPSTREAM_URL is not set. For HiEnergy it is "
            "https://app.hienergy.ai/api/v1."
        )
    credential = admin_key("HiEnergy")
    trial = None
    if create_test_contact is not None:
        trial = TrialContact(*create_test_contact, tries_dry_run=try_dry_run)
        addresses = f"{trial.email}, twice"
        if try_dry_run:
            addresses += f", and {trial.dry_run_email} as a dry run"
        output.note(
            f"This creates contacts on advertiser {trial.advertiser_id} at {url}: "
            f"{addresses}. Delete them in HiEnergy afterwards."
        )
        if not yes:
            typer.confirm("Create them?", abort=True, err=True)
    result = asyncio.run(_checked(settings, url, credential, trial))
    _print_result(result)
    if report is not None:
        document = json.dumps(report_of(result, url), indent=2)
        try:
            report.write_text(f"{document}\n", encoding="utf-8")
        except OSError as error:
            output.fail(f"--report: {error.strerror}: {report}")


async def _checked(
    settings: Settings, url: str, credential: Credential, trial: TrialContact | None
) -> Result:
    async with UpstreamClient(
        url, timeout_seconds=settings.upstream_timeout_seconds, max_connections=1
    ) as client:
        return await check(
            client.send,
            credential,
            trial,
            create_timeout_seconds=settings.upstream_create_timeout_seconds,
        )


def _print_result(result: Result) -> None:
    """Print a table in a terminal, else a line for each finding."""
    if sys.stdout.isatty():
        # Folded, because the middle of a path would be cut off otherwise.
        table = Table(show_lines=True)
        for heading in ("Question", "Found", "Means"):
            table.add_column(heading, overflow="fold")
        for finding in result.findings:
            found = Text(finding.found, style="" if finding.is_known else "yellow")
            table.add_row(Text(finding.question), found, Text(finding.means))
        Console().print(table)
    else:
        lines = (" | ".join(filter(None, finding[1:4])) for finding in result.findings)
        output.write("".join(f"{line}\n" for line in lines))
    settings = "".join(f"{name}={value}\n" for name, value in result.settings.items())
    output.write(f"\nSettings that follow:\n{settings}")


@_attempts.command("list")
def list_attempts(
    show_addresses: Annotated[
        bool, typer.Option("--show-addresses", help="Show the contacts' e-mail addresses.")
    ] = False,
    json_output: _JsonOption = False,
) -> None:
    """List the creations in HiEnergy whose outcome is unknown, the oldest first."""
    now = datetime.now(UTC)
    attempts = with_database(
        load_settings(), lambda database: database.read(ledger_rows.open_attempts)
    )
    if json_output:
        output.write_json(
            [
                {
                    "id": key.hex()[:_ATTEMPT_ID_DIGITS],
                    "sent_at": timestamp(attempt.sent_at),
                    "advertiser_id": attempt.advertiser_id,
                    "state": _state(attempt, now),
                    **({"email": attempt.email} if show_addresses else {}),
                }
                for key, attempt in attempts
            ]
        )
        return
    table = Table("ID", "Sent", "Age", "Advertiser", "State", box=None)
    if show_addresses:
        table.add_column("Address")
    for key, attempt in attempts:
        address = (Text(attempt.email),) if show_addresses else ()
        table.add_row(
            key.hex()[:_ATTEMPT_ID_DIGITS],
            _minute(attempt.sent_at),
            _age(now - attempt.sent_at),
            str(attempt.advertiser_id),
            _state(attempt, now),
            *address,
        )
    print_table(table)


@_attempts.command("settle")
def settle_attempt(
    attempt_id: Annotated[str, typer.Argument(metavar="ID", help="As `attempts list` shows it.")],
    contact: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_ID, help="The id of the contact that it created in HiEnergy."),
    ] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="It created no contact in HiEnergy.")
    ] = False,
) -> None:
    """Record what became of a creation whose outcome is unknown. Look for it in HiEnergy first."""
    if (contact is None) != not_created:
        raise typer.BadParameter("Use either --contact UPSTREAM_ID or --not-created.")

    def settle(connection: Connection) -> str | None:
        """Settle the attempt, or return why it cannot be settled."""
        now = datetime.now(UTC)
        opened = [
            each
            for each in ledger_rows.open_attempts(connection)
            if each.key.hex().startswith(attempt_id.lower())
        ]
        if not opened:
            return f"No open attempt {attempt_id}. Run `contact-gateway attempts list`."
        if len(opened) > 1:
            return f"Several attempts begin with {attempt_id}. Use more digits."
        attempt = opened[0].attempt
        if attempt.is_in_flight(now) or (contact is None and attempt.held_until > now):
            return (
                f"HiEnergy may still be processing attempt {attempt_id}. Try again in two minutes."
            )
        ledger_rows.settle(connection, opened[0], contact)
        return None

    problem = with_database(load_settings(), lambda database: database.write(settle))
    if problem is not None:
        output.fail(problem)
    message = (
        f"Settled attempt {attempt_id}: no contact was created. Its key may create one now."
        if contact is None
        else f"Settled attempt {attempt_id}: it created contact {contact}."
    )
    output.note(message)


def _state(attempt: Attempt, now: datetime) -> str:
    if attempt.is_unnamed:
        return "created, id unknown"
    return "in flight" if attempt.is_in_flight(now) else "answer lost"


def _age(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"


def _minute(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M")
