"""The commands `contact-gateway contacts`: where contacts come from."""

import dataclasses
from typing import Annotated

import typer
from sqlalchemy import Connection

from contact_gateway import output
from contact_gateway.command_line import exit_on_error, or_dash, timestamp, with_own_database
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.store import audit_trail

contacts = typer.Typer(help="Inspect contacts.", no_args_is_help=True)


@contacts.command("audit")
def audit_contact(
    contact_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID)],
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show which API key created a contact, through which face and in which request."""

    def find(connection: Connection) -> audit_trail.AuditRecord | None:
        return audit_trail.of_contact(connection, contact_id)

    with exit_on_error():
        record = with_own_database(lambda database: database.read(find))
        if record is None:
            output.fail(f"There is no contact {contact_id}.")
        if json_output:
            document = {**dataclasses.asdict(record), "created_at": timestamp(record.created_at)}
            output.write_json(document)
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
