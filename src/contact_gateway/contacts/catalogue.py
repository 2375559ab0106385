"""Reads a catalogue of advertisers from a file, and validates its rows.

One invalid row refuses the whole file. `store.staged_catalogue` compares the rows with each other
and with the stored ones.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import IO, Final, NamedTuple, TypeAlias

from pydantic import TypeAdapter, ValidationError

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser, is_named_hienergy
from contact_gateway.contacts.fields import Id, RequiredText, Text
from contact_gateway.contacts.problems import problems_of

COLUMNS: Final = Advertiser._fields
_REQUIRED_COLUMNS: Final = ("id", "name", "network_name")

Row: TypeAlias = Sequence[object]
"""The values of `COLUMNS` in a file, before they are validated. None is no value."""


class CatalogueError(ValueError):
    """The file is refused. The message has the line and the reason."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


class _Fields(NamedTuple):
    id: Id
    name: RequiredText
    display_name: Text
    slug: Text
    domain: Text
    network_name: RequiredText
    publisher_name: Text
    status: Text
    hienergy_id: Id | None


_FIELDS: Final = TypeAdapter(_Fields)


def read_csv(file: IO[str]) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a CSV file with a header, each with its line number.

    Raises:
        CatalogueError: the header or a row has the wrong columns.
    """
    reader = csv.reader(file, strict=True)
    try:
        header = tuple(next(reader, ()))
        # As spreadsheets save them where the comma is the decimal mark.
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            raise CatalogueError(1, "the columns are not separated by commas")
        for name in header:
            _check_column(1, name)
            if header.count(name) > 1:
                raise CatalogueError(1, f"duplicate column {name!r}")
        for name in _REQUIRED_COLUMNS:
            if name not in header:
                raise CatalogueError(1, f"missing column {name!r}")
        # A column that the file does not have is the empty one after the last.
        in_order = itemgetter(
            *(header.index(name) if name in header else len(header) for name in COLUMNS)
        )
        for row in reader:
            if len(row) == len(header):
                row.append("")
                yield reader.line_num, [value or None for value in in_order(row)]
            elif row:
                raise CatalogueError(reader.line_num, f"{len(header)} columns are expected")
    except csv.Error as error:
        raise CatalogueError(reader.line_num, str(error)) from None


def read_jsonl(file: IO[str]) -> Iterator[tuple[int, Row]]:
    """Yield the JSON object on each line, with its line number.

    Raises:
        CatalogueError: a line is not a JSON object, or has a field that is no column.
    """
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise CatalogueError(number, "not valid JSON") from None
        if not isinstance(row, dict):
            raise CatalogueError(number, "a JSON object is expected")
        for name in row:
            _check_column(number, name)
        yield number, [row.get(name) for name in COLUMNS]


def validated(line: int, row: Row) -> Advertiser:
    """Return the advertiser of a row.

    Raises:
        CatalogueError: the row is invalid.
    """
    try:
        fields = _FIELDS.validate_python(dict(zip(COLUMNS, row, strict=True)))
    except ValidationError as error:
        problem = problems_of(error)[0]
        raise CatalogueError(line, f"{'.'.join(problem.path)}: {problem.message}") from None
    if is_named_hienergy(fields.network_name):
        if fields.hienergy_id not in {None, fields.id}:
            raise CatalogueError(
                line, "the hienergy_id of a HiEnergy record must be empty or its own id"
            )
        # One spelling of HiEnergy, so that the records of that network are found by it.
        fields = fields._replace(network_name=HIENERGY_NETWORK, hienergy_id=fields.id)
    if fields.domain is not None:
        fields = fields._replace(domain=fields.domain.lower())
    return Advertiser(*fields)


def duplicate_id(line: int, advertiser_id: int, first_line: int) -> CatalogueError:
    """Return the error for a row whose id an earlier row has."""
    return CatalogueError(line, f"duplicate id {advertiser_id}, first on line {first_line}")


def not_a_hienergy_record(line: int, hienergy_id: int) -> CatalogueError:
    """Return the error for a row that names no HiEnergy record."""
    return CatalogueError(line, f"hienergy_id {hienergy_id} is not a {HIENERGY_NETWORK} record")


def in_use(line: int, advertiser_id: int) -> CatalogueError:
    """Return the error for a row that would turn a HiEnergy record in use into a network record.

    Contacts or network records refer to it.
    """
    return CatalogueError(
        line, f"advertiser {advertiser_id} is a HiEnergy record in use and must stay one"
    )


def _check_column(line: int, name: str) -> None:
    if name not in COLUMNS:
        raise CatalogueError(line, f"unknown column {name!r}; the columns are {','.join(COLUMNS)}")
