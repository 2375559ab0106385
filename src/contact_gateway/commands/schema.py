"""The commands `contact-gateway schema`: the schemas of GraphQL and REST, and their changes."""

from pathlib import Path
from typing import Annotated

import typer

from contact_gateway import output
from contact_gateway.command_line import JsonOption, existing_file
from contact_gateway.faces.graphql.changes import Severity, changes_since
from contact_gateway.faces.graphql.schema import schema_sdl
from contact_gateway.faces.rest.openapi import openapi_document

schema = typer.Typer(help="Print and compare the API's schemas.", no_args_is_help=True)


@schema.command("graphql")
def print_graphql() -> None:
    """Print the GraphQL schema (SDL)."""
    output.write(schema_sdl())


@schema.command("openapi")
def print_openapi() -> None:
    """Print the OpenAPI document of the REST API."""
    output.write_json(openapi_document())


@schema.command("check")
def check_schema(
    old: Annotated[Path, existing_file(metavar="OLD", help="An earlier schema.graphql.")],
    json_output: JsonOption = False,
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
            "`contact-gateway schema graphql` printed.",
            param_hint="'OLD'",
        ) from None
    if json_output:
        output.write_json([change._asdict() for change in changes])
    else:
        for change in changes:
            output.write(f"{change.severity:<9} {change.type}: {change.description}\n")
    if any(change.severity is Severity.BREAKING for change in changes):
        raise typer.Exit(1)
