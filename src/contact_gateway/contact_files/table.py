"""A file of contacts as a table, whatever its format and encoding."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from pathlib import PurePath
from typing import BinaryIO, Final, NamedTuple

from contact_gateway.contact_files.csv_rows import csv_rows
from contact_gateway.contact_files.encodings import DecodedFile, decoded
from contact_gateway.contact_files.json_rows import json_rows
from contact_gateway.contact_files.rows import Row, UnreadableRow


class Format(StrEnum):
    """The format of a file."""

    CSV = "csv"
    JSON_LINES = "jsonl"


_JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})


class Table(NamedTuple):
    """The rows of a file, which are read as they are iterated, and once.

    The rows of CSV have the columns of the table. Each row of JSON lines has its own; those of the
    table are the first row's.
    """

    format: Format
    columns: tuple[str, ...]
    rows: Iterator[Row | UnreadableRow]


def format_of(name: str) -> Format | None:
    """Return the format that the name of a file says, or None."""
    suffix = PurePath(name).suffix.lower()
    if suffix in _JSON_SUFFIXES:
        return Format.JSON_LINES
    return Format.CSV if suffix in {".csv", ".tsv", ".txt"} else None


def read_table(file: BinaryIO, of_format: Format | None = None) -> Table:
    """Return the table of a file that may be a pipe. The caller closes the file.

    Without a format, a file whose first character is `{` is JSON lines.

    Raises:
        ContactFileError: the file is no table, or has no columns.
    """
    text = decoded(file)
    first = next(text.lines, "")
    text = DecodedFile(text.encoding, chain([first] if first else (), text.lines))
    if of_format is None:
        of_format = Format.JSON_LINES if first.lstrip().startswith("{") else Format.CSV
    columns, rows = (json_rows if of_format is Format.JSON_LINES else csv_rows)(text)
    return Table(of_format, columns, rows)
