"""Validates a catalogue of advertisers from a file. One invalid row refuses the whole file.

Pure functions: what the store already contains is an argument.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Final

from pydantic import TypeAdapter, ValidationError

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser, is_named_hienergy
from contact_gateway.contacts.fields import Id, RequiredText, Text
from contact_gateway.contacts.problems import problems_of

COLUMNS: Final = (
    "id",
    "name",
    "display_name",
    "slug",
    "domain",
    "network_name",
    "publisher_name",
    "status",
    "hienergy_id",
)
_REQUIRED_COLUMNS: Final = ("id", "name", "network_name")


class CatalogueError(ValueError):
    """The file is refused. The message has the line and the reason."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Known:
    """What the store already contains.

    Attributes:
        hienergy_ids: the HiEnergy records.
        owners: the records that own contacts.
        named_by: for each HiEnergy record, the network records that name it.
    """

    hienergy_ids: frozenset[int] = frozenset()
    owners: frozenset[int] = frozenset()
    named_by: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    id: Id
    name: RequiredText
    display_name: Text = None
    slug: Text = None
    domain: Text = None
    network_name: RequiredText
    publisher_name: Text = None
    status: Text = None
    hienergy_id: Id | None = None


_ROW: Final = TypeAdapter(_Row)


def read_csv(file: IO[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield the rows of a CSV file with a header, each with its line number.

    Raises:
        CatalogueError: the header or a row has the wrong columns.
    """
    reader = csv.DictReader(file, strict=True)
    try:
        header = reader.fieldnames or ()
        _check_header(header)
        for row in reader:
            if None in row or None in row.values():
                raise CatalogueError(reader.line_num, f"{len(header)} columns are expected")
            yield reader.line_num, {name: value or None for name, value in row.items()}
    except csv.Error as error:
        raise CatalogueError(reader.reader.line_num, str(error)) from None


def read_jsonl(file: IO[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield the JSON object on each line, with its line number.

    Raises:
        CatalogueError: a line is not a JSON object.
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
        yield number, row


def advertisers(rows: Iterable[tuple[int, Mapping[str, object]]], known: Known) -> list[Advertiser]:
    """Return the advertisers of a catalogue, HiEnergy records first.

    Raises:
        CatalogueError: a row is invalid, names a HiEnergy record that does not exist, or would
            demote a HiEnergy record that is in use.
    """
    read: dict[int, Advertiser] = {}
    lines: dict[int, int] = {}
    for line, row in rows:
        advertiser = _advertiser(line, row)
        if advertiser.id in read:
            first = lines[advertiser.id]
            raise CatalogueError(line, f"duplicate id {advertiser.id}, first on line {first}")
        read[advertiser.id] = advertiser
        lines[advertiser.id] = line
    hienergy = {record.id for record in read.values() if record.network_name == HIENERGY_NETWORK}
    for advertiser in read.values():
        owner = advertiser.hienergy_id
        line = lines[advertiser.id]
        is_there = owner in hienergy or (owner in known.hienergy_ids and owner not in read)
        if owner is not None and not is_there:
            raise CatalogueError(line, f"hienergy_id {owner} is not a {HIENERGY_NETWORK} record")
        if not advertiser.is_hienergy:
            _check_replaceable(line, advertiser, read, known)
    return sorted(read.values(), key=lambda advertiser: not advertiser.is_hienergy)


def _check_header(header: Iterable[str]) -> None:
    names = tuple(header)
    for name in names:
        _check_column(1, name)
        if names.count(name) > 1:
            raise CatalogueError(1, f"duplicate column {name!r}")
    for name in _REQUIRED_COLUMNS:
        if name not in names:
            raise CatalogueError(1, f"missing column {name!r}")


def _check_column(line: int, name: str) -> None:
    if name not in COLUMNS:
        raise CatalogueError(line, f"unknown column {name!r}; the columns are {','.join(COLUMNS)}")


def _advertiser(line: int, row: Mapping[str, object]) -> Advertiser:
    for name in row:
        _check_column(line, name)
    try:
        record = _ROW.validate_python(row)
    except ValidationError as error:
        problem = problems_of(error)[0]
        raise CatalogueError(line, f"{'.'.join(problem.path)}: {problem.message}") from None
    is_hienergy = is_named_hienergy(record.network_name)
    if is_hienergy and record.hienergy_id not in {None, record.id}:
        raise CatalogueError(
            line, "the hienergy_id of a HiEnergy record must be empty or its own id"
        )
    return Advertiser(
        id=record.id,
        name=record.name,
        display_name=record.display_name,
        slug=record.slug,
        domain=None if record.domain is None else record.domain.lower(),
        # One spelling of HiEnergy, so that the records of that network are found by it.
        network_name=HIENERGY_NETWORK if is_hienergy else record.network_name,
        publisher_name=record.publisher_name,
        status=record.status,
        hienergy_id=record.id if is_hienergy else record.hienergy_id,
    )


def _check_replaceable(
    line: int, advertiser: Advertiser, read: Mapping[int, Advertiser], known: Known
) -> None:
    """Refuse to turn a HiEnergy record that is in use into a network record."""
    still_named = any(
        dependant not in read or read[dependant].hienergy_id == advertiser.id
        for dependant in known.named_by.get(advertiser.id, ())
    )
    if still_named or advertiser.id in known.owners:
        raise CatalogueError(
            line, f"advertiser {advertiser.id} is a HiEnergy record in use and must stay one"
        )
