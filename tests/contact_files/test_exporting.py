"""The text of exported contacts: a reader gets back what was stored."""

import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.contact_files.exporting import (
    COLUMNS,
    ONLY_EXPORTED,
    heading,
    row_of,
    text_of,
)
from contact_gateway.contact_files.formulas import unescaped
from contact_gateway.contact_files.table import Format
from contact_gateway.contacts.contact import Contact, ContactDetails, NewContact, new_contact
from contact_gateway.contacts.timestamps import timestamp
from support.contacts import stored, submitted

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
BIG_ID = 2**53 + 1
_texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_times = st.none() | st.datetimes(timezones=st.just(UTC)).map(timestamp)
_ids = st.integers(1, 2**63 - 1)
_contacts = st.builds(
    Contact,
    _ids,
    _ids,
    *[_texts] * (len(ContactDetails._fields) - 1),
    advertiser_name=_texts,
    created_at=_times,
    updated_at=_times,
)


def _csv_rows(text: str) -> list[dict[str, str | None]]:
    """Read CSV as an import does: unescape cells, and take empty ones for null."""
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    return [
        {name: unescaped(cell) or None for name, cell in row.items() if isinstance(cell, str)}
        for row in reader
    ]


def _values(contact: Contact) -> dict[str, object]:
    return dict(zip(COLUMNS, row_of(contact), strict=True))


@given(st.lists(_contacts))
def test_csv_keeps_every_value(contacts: list[Contact]) -> None:
    text = heading(Format.CSV) + text_of(Format.CSV, contacts)

    expected = [_values(contact) for contact in contacts]
    for row in expected:
        row["advertiser_id"] = str(row["advertiser_id"])
    assert _csv_rows(text) == expected


@given(st.lists(_contacts))
def test_json_lines_keep_every_value(contacts: list[Contact]) -> None:
    text = heading(Format.JSON_LINES) + text_of(Format.JSON_LINES, contacts)

    lines = text.split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [_values(each) for each in contacts]


@pytest.mark.parametrize("file_format", Format, ids=str)
def test_a_submission_is_read_back_from_its_export(file_format: Format) -> None:
    raw = {
        "advertiser_id": BIG_ID,
        "email": "+maya@example.com",
        "name": '=HYPERLINK("https://example.com"), "Maya"',
        "given_name": "@Maya",
        "family_name": "'-Lindqvist",
        "phone": "+46 8 123 45 67",
        "job_title": "\uff1dManager, Séoul 서울",
        "source": "- none -",
        "status": "null",
        "linkedin_profile_url": "https://www.linkedin.com/in/maya",
    }
    contact = new_contact(raw)
    assert isinstance(contact, NewContact)

    text = heading(file_format) + text_of(file_format, [stored(contact, MOMENT)])

    row = _csv_rows(text)[0] if file_format is Format.CSV else json.loads(text)
    assert new_contact(row) == contact


def test_an_import_has_no_other_columns_to_ignore() -> None:
    assert set(COLUMNS) - set(ONLY_EXPORTED) == set(ContactDetails._fields)


def test_ids_and_times_are_those_of_rest() -> None:
    moment = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
    details = submitted(advertiser_id=1001, email="maya@example.com")
    contact = stored(details, moment, id_=BIG_ID, advertiser_name="Northwind")

    row = _values(contact)

    assert (row["id"], row["advertiser_id"]) == (str(BIG_ID), 1001)
    assert row["created_at"] == row["updated_at"] == "2026-01-31T12:00:00.000Z"


def test_null_is_an_empty_cell_and_a_json_null() -> None:
    contact = stored(submitted(advertiser_id=1001, email="maya@example.com"), MOMENT)

    assert text_of(Format.CSV, [contact]).startswith("1,1001,,maya@example.com,,,")
    assert '"advertiser_name": null' in text_of(Format.JSON_LINES, [contact])


@pytest.mark.parametrize("file_format", Format, ids=str)
def test_a_lone_surrogate_is_a_question_mark(file_format: Format) -> None:
    details = submitted(advertiser_id=1001, email="maya@example.com", name="Maya \ud800")

    assert "Maya ?" in text_of(file_format, [stored(details, MOMENT)])
