"""The columns of a file of contacts, and the fields that they mean."""

import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from contact_gateway.contact_files.exporting import ONLY_EXPORTED
from contact_gateway.contact_files.rows import ContactFileError, Row, UnreadableRow
from contact_gateway.contact_files.table import Format, Table
from contact_gateway.contacts.contact import ContactDetails

ADVERTISER: Final = "advertiser"
"""The field of a text that names an advertiser: an id, a slug, a domain or a name."""

FIELDS: Final = (*ContactDetails._fields, ADVERTISER)
"""The fields that a column may mean."""

LINE_COLUMN: Final = "import_line"
OUTCOME_COLUMN: Final = "import_outcome"
CONTACT_ID_COLUMN: Final = "import_contact_id"
MESSAGE_COLUMN: Final = "import_message"
PROBLEM_COLUMNS: Final[Mapping[str, str]] = {field: f"problem_{field}" for field in FIELDS}
"""The report's column for the problems of each field."""

REPORT_COLUMNS: Final = (
    LINE_COLUMN,
    OUTCOME_COLUMN,
    CONTACT_ID_COLUMN,
    MESSAGE_COLUMN,
    *PROBLEM_COLUMNS.values(),
)
"""The columns that the report of an import has in front of those of its file."""

# The names of exports of HubSpot, Salesforce, Outlook, Google Contacts, LinkedIn and Apollo. Case,
# spaces, punctuation and accents do not count. A column `URL` is as often a web site as a profile.
_NAMES: Final[Mapping[str, str]] = {
    "advertiser_id": "HiEnergy advertiser ID",
    ADVERTISER: "advertiser name, brand, brand name, company, company name",
    "email": (
        "email address, mail, work email, business email, primary email, email 1, email 1 value"
    ),
    "name": "full name, contact name, display name",
    "given_name": "first name, forename",
    "family_name": "last name, surname",
    "phone": (
        "phone number, telephone, telephone number, tel, work phone, business phone, "
        "primary phone, phone 1, phone 1 value, mobile, mobile number, mobile phone, "
        "mobile phone number, cell phone"
    ),
    "job_title": "title, position, role, job role, organization title",
    "source": "contact source, lead source, original source",
    "status": "contact status, lead status",
    "linkedin_profile_url": (
        "linkedin, linkedin url, linkedin profile, linkedin link, person linkedin url"
    ),
}
_REQUIRED: Final = (("email",), ("advertiser_id", ADVERTISER))
_MAX_LISTED: Final = 50
_MAX_NAME_LENGTH: Final = 100
# A file of JSON lines that leaves out null has many sets of columns.
_MAX_CACHED: Final = 4096


def _key(name: str) -> str:
    """Return the form that names of columns are compared by: letters and digits only."""
    compatible = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in compatible if character.isalnum())


_FIELD_OF: Final = {
    _key(name): field for field in FIELDS for name in (field, *_NAMES[field].split(", "))
}
_EXPECTED: Final = frozenset(map(_key, (*REPORT_COLUMNS, *ONLY_EXPORTED)))
_REPORTED: Final = frozenset(map(_key, REPORT_COLUMNS))


def own_columns(columns: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the columns that an earlier report has not added."""
    return tuple(place for place, name in enumerate(columns) if _key(name) not in _REPORTED)


class ContactColumns:
    """The meaning of a table's columns.

    A column has a field by its name, or because the operator chooses it, which wins. In a file with
    the ids of advertisers, a column with their names has none, unless it is chosen.
    """

    def __init__(self, table: Table, chosen: Mapping[str, str]) -> None:
        """Find the columns of the fields, some of which the operator chooses.

        Raises:
            ContactFileError: a chosen field or column does not exist, a field has two columns, or a
                required field has none.
        """
        self._chosen = {column: _chosen_field(column, field) for column, field in chosen.items()}
        self._ignored: dict[str, None] = {}
        self._unseen = dict.fromkeys(self._chosen)
        self._fields_of = lru_cache(_MAX_CACHED)(self._find_fields)
        columns = table.columns
        fields = self._fields_of(columns)
        # An object of JSON lines may leave out what is null.
        if table.format is Format.CSV and self._unseen:
            raise _unknown_column(next(iter(self._unseen)), columns)
        self.fields: Final[Mapping[str, str]] = {
            field: columns[position] for field, position in fields
        }
        """The column of each field: that of the first row in a file of JSON lines."""
        for names in _REQUIRED:
            if self.fields.keys().isdisjoint(names):
                raise _missing_column(names, columns)
        self._is_csv: Final = table.format is Format.CSV
        further = {} if self._is_csv else self._further_columns(columns)
        self._field_of: Final = {
            **{column: field for field, column in self.fields.items()},
            **further,
        }
        self.reported: Final = (*columns, *further)
        """The columns of the file in its report."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """The columns without a field, so far. Those of exports and of reports are not listed."""
        return tuple(self._ignored)

    @property
    def unseen(self) -> tuple[str, ...]:
        """The chosen columns that no row of a file of JSON lines had, so far."""
        return tuple(self._unseen)

    def contact_fields(self, row: Row) -> dict[str, object] | UnreadableRow:
        """Return the values of a row by field, without null and empty ones."""
        try:
            fields = self._fields_of(row.columns)
        except ContactFileError as error:
            return UnreadableRow(row.line, str(error))
        cells = row.cells
        return {
            field: value
            for field, position in fields
            if (value := cells[position]) is not None and value != ""
        }

    def as_reported(self, row: Row | UnreadableRow) -> Row | UnreadableRow:
        """Return a row in the columns of the report, where each of its fields has a place."""
        if self._is_csv or isinstance(row, UnreadableRow):
            return row
        by_field = self.contact_fields(row)
        if isinstance(by_field, UnreadableRow):
            return by_field
        # A file has one column for both, and names may be ids.
        advertiser = by_field.get("advertiser_id", by_field.get(ADVERTISER))
        by_field |= {"advertiser_id": advertiser, ADVERTISER: advertiser}
        by_name = dict(zip(row.columns, row.cells, strict=True))
        field_of = self._field_of
        cells = [
            by_name[column] if column in by_name else by_field.get(field_of.get(column, ""))
            for column in self.reported
        ]
        return Row(row.line, self.reported, cells)

    def _further_columns(self, columns: Sequence[str]) -> dict[str, str]:
        """Return the columns for the fields that only later rows of JSON lines may have."""
        chosen = {field: column for column, field in self._chosen.items()}
        known = {*map(_key, columns)}
        return {
            chosen.get(field, field): field
            for field in FIELDS
            if field not in {*self.fields, "advertiser_id", ADVERTISER} and _key(field) not in known
        }

    def _find_fields(self, columns: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        """Return the fields of some columns, with their positions."""
        keys = [_key(column) for column in columns]
        positions: dict[str, int] = {}
        seen: list[str] = []
        ignored: list[str] = []
        for column, field in self._chosen.items():
            key = _key(column)
            exact = [position for position, name in enumerate(columns) if name == column]
            similar = [position for position, each in enumerate(keys) if each == key and key]
            for position in exact or similar:
                seen.append(column)
                _add(positions, field, position, columns)
        by_name = dict(enumerate(map(_FIELD_OF.get, keys)))
        unwanted = {*positions}
        if "advertiser_id" in {*positions, *by_name.values()}:
            unwanted.add(ADVERTISER)
        for position in sorted(by_name.keys() - positions.values()):
            named = by_name[position]
            if named is not None and named not in unwanted:
                _add(positions, named, position, columns)
            elif columns[position] and keys[position] not in _EXPECTED:
                ignored.append(columns[position])
        # Not before: the columns of a row that cannot be read do not count.
        self._ignored.update(dict.fromkeys(ignored))
        for column in seen:
            self._unseen.pop(column, None)
        return tuple(positions.items())


def _add(positions: dict[str, int], field: str, position: int, columns: Sequence[str]) -> None:
    other = positions.setdefault(field, position)
    if other == position:
        return
    names = [_quoted(columns[each]) for each in (other, position)]
    advice = (
        "Rename one of them."
        if names[0] == names[1]
        else f"Choose one: {_map_option(columns[other], field)}."
    )
    raise ContactFileError(
        f"Columns {other + 1} and {position + 1}, {names[0]} and {names[1]}, both mean `{field}`. "
        f"{advice}"
    )


def _chosen_field(column: str, name: str) -> str:
    """Return the field that the operator names."""
    key = _key(name)
    if key in _FIELD_OF:
        return _FIELD_OF[key]
    nearest = [_FIELD_OF[each] for each in get_close_matches(key, _FIELD_OF, n=1)]
    raise ContactFileError(
        f"{_map_option(column, name)} names an unknown field. "
        f"{_advice(nearest, 'The fields are', FIELDS)}"
    )


def _unknown_column(column: str, columns: Sequence[str]) -> ContactFileError:
    by_key = {_key(each): each for each in columns}
    nearest = [by_key[each] for each in get_close_matches(_key(column), by_key, n=3)]
    return ContactFileError(
        f"The file has no column {_quoted(column)}. {_advice(nearest, 'Its columns are', columns)}"
    )


def _missing_column(fields: Sequence[str], columns: Sequence[str]) -> ContactFileError:
    names = " or ".join(f"`{field}`" for field in fields)
    if any("@" in column for column in columns):
        return ContactFileError(
            f"No column means {names}: the first row has an e-mail address. Add a row with the "
            "names of the columns above it."
        )
    return ContactFileError(
        f"No column means {names}. The file's columns are {listed(columns)}. "
        f"Choose one: {_map_option('COLUMN', fields[0])}."
    )


def _advice(nearest: Sequence[str], introduction: str, names: Sequence[str]) -> str:
    if nearest:
        return f"Did you mean {' or '.join(map(_quoted, nearest))}?"
    return f"{introduction} {listed(names)}."


def _map_option(column: str, field: str) -> str:
    """Return the option that gives a column a field, as it is written in a shell."""
    return f"--map {shlex.quote(f'{_printable(column)}={_printable(field)}')}"


def listed(names: Sequence[str]) -> str:
    """Return names of columns or fields as a message has them, safe for a terminal."""
    listed = ", ".join(map(_quoted, names[:_MAX_LISTED]))
    left_out = len(names) - _MAX_LISTED
    return f"{listed} and {left_out} more" if left_out > 0 else listed


def _quoted(name: str) -> str:
    shown = name if len(name) <= _MAX_NAME_LENGTH else f"{name[:_MAX_NAME_LENGTH]}…"
    return f"`{_printable(shown)}`"


def _printable(name: str) -> str:
    """Return a name without characters that would act on a terminal."""
    return name if name.isprintable() else repr(name)[1:-1]
