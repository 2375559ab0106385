"""Contacts as the text of a file: CSV for spreadsheets, or JSON lines."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from typing import Final, NamedTuple

from contact_gateway.contact_files.formulas import escaped
from contact_gateway.contact_files.table import Format
from contact_gateway.contacts.contact import Contact, ContactDetails

COLUMNS: Final = (
    "id",
    "advertiser_id",
    "advertiser_name",
    *ContactDetails._fields[1:],
    "created_at",
    "updated_at",
)
"""The columns of an exported contact, in their order."""

ONLY_EXPORTED: Final = ("id", "advertiser_name", "created_at", "updated_at")
"""The columns that no submission has. An import ignores them, so that it reads an exported file."""

BYTE_ORDER_MARK: Final = "\ufeff"
"""Begins a CSV file: without it, spreadsheets do not read UTF-8."""


class ExportError(RuntimeError):
    """Contacts were not exported. The message says why."""


class ExportedPart(NamedTuple):
    """Some of the contacts of an export, in its order.

    `skipped` is how many could not be read, and are missing between them. `position` of `end` is
    how far the export is, if its source can know that.
    """

    contacts: Sequence[Contact]
    skipped: int = 0
    position: int = 0
    end: int | None = None


def row_of(contact: Contact) -> tuple[str | int | None, ...]:
    """Return the values of the columns of a contact, with ids and times as REST has them."""
    return (
        str(contact.id),
        contact.advertiser_id,
        contact.advertiser_name,
        *contact.details[1:],
        contact.created_at,
        contact.updated_at,
    )


def heading(file_format: Format) -> str:
    """Return the text before the first contact: the line with the names of the columns, if any."""
    return _csv([COLUMNS]) if file_format is Format.CSV else ""


def text_of(file_format: Format, contacts: Sequence[Contact]) -> str:
    """Return the lines of some contacts, with question marks for lone surrogates, as in REST."""
    rows = [row_of(contact) for contact in contacts]
    text = _csv(rows) if file_format is Format.CSV else _json_lines(rows)
    # HiEnergy's JSON can contain them, and UTF-8 cannot encode them.
    return text.encode(errors="replace").decode()


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = StringIO(newline="")
    csv.writer(text).writerows(
        [escaped(value) if isinstance(value, str) else value for value in row] for row in rows
    )
    return text.getvalue()


def _json_lines(rows: Sequence[Sequence[object]]) -> str:
    objects = (dict(zip(COLUMNS, row, strict=True)) for row in rows)
    return "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in objects)
