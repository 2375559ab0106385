"""The command line."""

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from contact_gateway import __version__, doctor, healthcheck, output
from contact_gateway.app import app_from_environment, check_tracing, create_app
from contact_gateway.command_line import (
    JsonOption,
    exit_on_error,
    print_table,
    require_own_database,
    sentence,
    with_database,
)
from contact_gateway.commands.advertisers import advertisers
from contact_gateway.commands.attempts import attempts
from contact_gateway.commands.contacts import contacts
from contact_gateway.commands.keys import keys
from contact_gateway.commands.schema import schema
from contact_gateway.commands.store import store
from contact_gateway.commands.upstream import upstream
from contact_gateway.database_url import SqliteFile
from contact_gateway.demo import DemoKeys, end_demo, prepare_demo
from contact_gateway.doctor import Check, State
from contact_gateway.server import process, systemd
from contact_gateway.server.listeners import (
    AddressError,
    address_of,
    listen,
    listen_on_unix_socket,
)
from contact_gateway.server.stopping import Timeouts
from contact_gateway.settings import (
    Settings,
    load_settings,
    load_settings_with_sources,
    shown_value,
)
from contact_gateway.store import schema_version as store_schema
from contact_gateway.store.database import Database
from contact_gateway.store.sqlite import has_wal_reset_bug
from contact_gateway.telemetry.logs import configure_logging
from contact_gateway.telemetry.metrics import shared_between_workers
from contact_gateway.upstream.proxy import proxy_for
from contact_gateway.variables import PREFIX, SettingsError, Source

main = typer.Typer(
    name="contact-gateway",
    help="Create HiEnergy's contacts over GraphQL, REST and MCP.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
main.add_typer(keys, name="keys")
main.add_typer(advertisers, name="advertisers")
main.add_typer(upstream, name="upstream")
main.add_typer(contacts, name="contacts")
main.add_typer(attempts, name="attempts")
main.add_typer(schema, name="schema")
main.add_typer(store, name="store")

_DEFAULTS: Final = Settings()
# Without a request, a worker has up to 28 open files.
_MIN_OPEN_FILES: Final = 64


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
    """Serve GraphQL, REST and MCP until SIGTERM or Ctrl-C."""
    with ExitStack() as stack:
        if not output.is_standard_error_open():
            output.write(
                "Error: standard error is closed, and the log is written there. "
                "Redirect it to a file or to /dev/null.\n"
            )
            raise typer.Exit(1)
        _check_open_files()
        settings = load_settings()
        configure_logging(settings.log_format)
        check_tracing(settings)
        if demo:
            require_own_database(settings, "--demo")
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
        announce = partial(output.write, announcement)
        timeouts = Timeouts(
            settings.keep_alive_seconds, settings.drain_seconds, settings.shutdown_seconds
        )
        if workers == 1:
            has_started = process.serve(create_app(settings), listeners, announce, timeouts)
        else:
            _warn_of_workers(settings, workers)
            shared = shared_between_workers() if settings.metrics else nullcontext(lambda _: None)
            with shared as ended:
                has_started = process.serve_with_workers(
                    app_from_environment,
                    listeners,
                    announce,
                    timeouts,
                    workers=workers,
                    ended=ended,
                )
        if not has_started:
            # The schema may have changed since the start.
            with_database(settings, store_schema.revision)
            output.fail("The server did not start. The log has the reason.")


def _check_open_files() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < _MIN_OPEN_FILES:
        raise SettingsError(
            f"The limit on open files is {limit}. The gateway needs {_MIN_OPEN_FILES}, and one for "
            "each connection. Raise it: `ulimit -n 4096` in a shell, LimitNOFILE in systemd."
        )


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


def _validated_name(name: str) -> str:
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
            parser=_validated_name,
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, or the value as JSON.")
    ] = False,
) -> None:
    """Print all settings and where each comes from, without passwords."""
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
    shown = ((setting, _text_of(value), source) for setting, value, source in rows)
    print_table(("Setting", "Value", "Source"), shown)


@main.command("doctor")
def run_doctor(json_output: JsonOption = False) -> None:
    """Check all that a gateway needs, such as its database and HiEnergy, without serving."""
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
        str | None, typer.Option(help="Unix socket of the gateway, instead of a URL.")
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
