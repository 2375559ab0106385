"""The command `contact-gateway upstream check`."""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contact_gateway import output
from contact_gateway.access.principals import Credential
from contact_gateway.command_line import admin_key
from contact_gateway.contacts.fields import MAX_ID, Email
from contact_gateway.contacts.problems import problems_of
from contact_gateway.settings import Settings, load_settings
from contact_gateway.upstream.check.calls import Result, check
from contact_gateway.upstream.check.report import report_of
from contact_gateway.upstream.check.trial import TrialContact
from contact_gateway.upstream.client import UpstreamClient

upstream = typer.Typer(help="Inspect HiEnergy's API.", no_args_is_help=True)

_EMAIL: Final = TypeAdapter(Email)


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
    if file is not None and not os.access(file.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"The folder {file.parent} does not exist, or cannot be written.")
    return file


@upstream.command("check")
def check_upstream(
    create_test_contact: Annotated[
        tuple[int, str] | None,
        typer.Option(
            metavar="ADVERTISER EMAIL",
            help="Also create this contact, twice. Use an address that HiEnergy does not have.",
            callback=_validated_trial,
        ),
    ] = None,
    try_dry_run: Annotated[
        bool,
        typer.Option("--try-dry-run", help="Also send a dry run, which may create a contact."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Create contacts without asking.")] = False,
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

    The key is read from HIENERGY_API_KEY; in a terminal, the command asks for it.
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
    if output.is_terminal():
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
