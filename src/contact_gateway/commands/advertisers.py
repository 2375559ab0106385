"""The command `contact-gateway advertisers import`."""

from pathlib import Path
from typing import Annotated

import rich.progress
import typer

from contact_gateway import output
from contact_gateway.command_line import existing_file, with_own_database
from contact_gateway.contacts.catalogue import CatalogueError, read_csv, read_jsonl
from contact_gateway.store.database import Database
from contact_gateway.store.staged_catalogue import (
    Counts,
    StagedCatalogue,
    StagingError,
    StoreChangedError,
)

advertisers = typer.Typer(help="Manage the catalogue of advertisers.", no_args_is_help=True)


@advertisers.command("import")
def import_advertisers(
    file: Annotated[Path, existing_file(help="FILE.csv or FILE.jsonl.")],
) -> None:
    """Insert or replace the advertisers in a file, by id. If one is invalid, none is imported."""
    read = {".csv": read_csv, ".jsonl": read_jsonl}.get(file.suffix.lower())
    if read is None:
        raise typer.BadParameter("Use a file that ends in .csv or .jsonl.", param_hint="'FILE'")

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
