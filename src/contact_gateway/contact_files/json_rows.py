"""Rows of files of JSON lines: one object a line."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import orjson

from contact_gateway.contact_files.encodings import DecodedFile, why_undecodable
from contact_gateway.contact_files.rows import (
    MAX_ROW_LENGTH,
    ROW_TOO_LONG,
    ContactFileError,
    Row,
    UnreadableRow,
)

_NOT_AN_OBJECT: Final = "The line is not a JSON object. Write one object on each line."
_MAX_LINES_BEFORE_AN_OBJECT: Final = 100
# Reports and requests write the values again, and gateways refuse requests of more than 32 levels.
_MAX_DEPTH: Final = 16
_TOO_DEEP: Final = f"The JSON is nested too deeply. At most {_MAX_DEPTH} levels are allowed."


def json_rows(file: DecodedFile) -> tuple[tuple[str, ...], Iterator[Row | UnreadableRow]]:
    """Return the columns of the first object, and the rows. Later rows may have other columns.

    Raises:
        ContactFileError: the file has no object, or none on its first 100 lines.
    """
    rows = _rows(file)
    before: list[Row | UnreadableRow] = []
    for row in islice(rows, _MAX_LINES_BEFORE_AN_OBJECT):
        before.append(row)
        if isinstance(row, Row):
            return row.columns, chain(before, rows)
    raise ContactFileError(str(before[0]) if before else "The file is empty.")


def _rows(file: DecodedFile) -> Iterator[Row | UnreadableRow]:
    for number, line in enumerate(file.lines, start=1):
        if line.isspace():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        # Counting brackets is quick, and few rows have so many.
        brackets = line.count("[") + line.count("{")
        if brackets > _MAX_DEPTH and _is_deeper_than(_MAX_DEPTH, value):
            yield UnreadableRow(number, _TOO_DEEP)
        elif isinstance(value, dict):
            yield Row(number, tuple(value), list(value.values()))
        elif len(line) > MAX_ROW_LENGTH:
            yield UnreadableRow(number, ROW_TOO_LONG)
        else:
            yield UnreadableRow(number, why_undecodable(line, file.encoding) or _NOT_AN_OBJECT)


def _is_deeper_than(max_depth: int, value: object) -> bool:
    if not isinstance(value, dict | list):
        return False
    members = value.values() if isinstance(value, dict) else value
    return max_depth == 0 or any(_is_deeper_than(max_depth - 1, each) for each in members)
