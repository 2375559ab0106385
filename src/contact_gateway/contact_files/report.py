"""The report of an import: each row of the file, with its outcome in front of it."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import orjson

from contact_gateway.contact_files.columns import PROBLEM_COLUMNS, REPORT_COLUMNS, own_columns
from contact_gateway.contact_files.exporting import BYTE_ORDER_MARK
from contact_gateway.contact_files.formulas import escaped
from contact_gateway.contact_files.imported_rows import RowOutcome
from contact_gateway.contact_files.new_file import NewFileError
from contact_gateway.contact_files.rows import Row, UnreadableRow

_NO_PROBLEMS: Final = ("",) * len(PROBLEM_COLUMNS)


class Report:
    """Writes a report in the columns of a file, without those of an earlier report.

    Rows of JSON lines may have further fields, which are left out.
    """

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        file.write(BYTE_ORDER_MARK)
        self._write: Final = csv.writer(file).writerow
        self._columns: Final = columns
        self._places: Final = own_columns(columns)
        self._write([*REPORT_COLUMNS, *(escaped(columns[place]) for place in self._places)])

    def add(self, row: Row | UnreadableRow, outcome: RowOutcome) -> None:
        """Write a row."""
        name, contact_id, message, problems = outcome
        texts = [problems.get(field, "") for field in PROBLEM_COLUMNS] if problems else _NO_PROBLEMS
        cells = self._cells(row) if isinstance(row, Row) else ()
        self._write([row.line, name.value, contact_id, escaped(message), *texts, *cells])

    def _cells(self, row: Row) -> Sequence[str]:
        cells = row.cells
        if row.columns is self._columns:
            return [_text(cells[place]) for place in self._places]
        by_name = dict(zip(row.columns, cells, strict=True))
        return [_text(by_name.get(self._columns[place])) for place in self._places]


def _text(cell: object) -> str:
    """Return a cell as a spreadsheet shows it."""
    if not cell and not isinstance(cell, (int, float)):
        return ""
    return escaped(cell if isinstance(cell, str) else orjson.dumps(cell).decode())


@contextmanager
def report_to(target: Path, columns: Sequence[str]) -> Iterator[Report]:
    """Write a report to a file that gets its name when it is complete.

    Until then it is `partial_of(target)`, also after an exception. Only its owner may read it.

    Raises:
        NewFileError: the file cannot be written.
    """
    if target.exists() and not target.is_file():
        raise NewFileError(f"{target} is not a regular file. Name another file")
    partial = partial_of(target)
    file = _open(partial)
    with file:
        yield Report(file, columns)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


def partial_of(target: Path) -> Path:
    """Return the name of a report that is not complete."""
    return target.with_name(f"{target.name}.partial")


def _open(file: Path) -> IO[str]:
    try:
        return file.open("w", encoding="utf-8", errors="replace", newline="")
    except OSError as error:
        raise NewFileError(f"{file}: {error.strerror}") from error
