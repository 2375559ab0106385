"""The report of an import: each row of the file, with its outcome in front of it."""

import csv
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import orjson

from contact_gateway.contact_files.columns import PROBLEM_COLUMNS, REPORT_COLUMNS, own_columns
from contact_gateway.contact_files.exporting import BYTE_ORDER_MARK
from contact_gateway.contact_files.formulas import escaped
from contact_gateway.contact_files.imported_rows import RowOutcome
from contact_gateway.contact_files.new_file import FileError, check_target, complete, errors_of
from contact_gateway.contact_files.rows import Row, UnreadableRow

_NO_PROBLEMS: Final = ("",) * len(PROBLEM_COLUMNS)


class Report:
    """Writes a report of rows with these columns, without those of an earlier report."""

    def __init__(self, target: Path, file: IO[str], columns: Sequence[str]) -> None:
        file.write(BYTE_ORDER_MARK)
        self._target: Final = target
        self._places: Final = own_columns(columns)
        self._writer: Final = csv.writer(file)
        self._writer.writerow(
            [*REPORT_COLUMNS, *(escaped(columns[place]) for place in self._places)]
        )

    def add(self, rows: Iterable[tuple[Row | UnreadableRow, RowOutcome]]) -> None:
        """Write rows.

        Raises:
            FileError: the file cannot be written.
        """
        with errors_of(self._target):
            self._writer.writerows(self._record(row, outcome) for row, outcome in rows)

    def _record(self, row: Row | UnreadableRow, outcome: RowOutcome) -> Sequence[str]:
        name, contact_id, message, problems = outcome
        texts = [problems.get(field, "") for field in PROBLEM_COLUMNS] if problems else _NO_PROBLEMS
        cells = [row.cells[place] for place in self._places] if isinstance(row, Row) else ()
        # The writer takes twice as long for numbers.
        line, an_id = str(row.line), "" if contact_id is None else str(contact_id)
        message = escaped(message) if message else ""
        shown = [escaped(cell if isinstance(cell, str) else _text(cell)) for cell in cells]
        return [line, name, an_id, message, *texts, *shown]


def _text(cell: object) -> str:
    """Return a JSON value as a spreadsheet shows it."""
    return "" if cell is None else orjson.dumps(cell).decode()


@contextmanager
def report_to(target: Path, columns: Sequence[str]) -> Iterator[Report]:
    """Write a report to a file that gets its name when it is complete.

    Until then it is `partial_of(target)`, also after an exception. Only its owner may read it.

    Raises:
        FileError: the file cannot be written, is no regular file, or another import writes it.
    """
    partial = partial_of(target)
    with errors_of(target):
        check_target(target, overwrite=True)
        _refuse_if_in_use(partial)
        partial.unlink(missing_ok=True)
        file = open(  # noqa: SIM115 - with permissions; closed below
            partial,
            "x",
            encoding="utf-8",
            errors="replace",
            newline="",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield Report(target, file, columns)
        with errors_of(target):
            complete(file, partial, target)
    finally:
        with errors_of(target):
            file.close()


def partial_of(target: Path) -> Path:
    """Return the name of a report that is not complete."""
    return target.with_name(f"{target.name}.partial")


def _refuse_if_in_use(partial: Path) -> None:
    """Refuse a report that another import is writing: at its end, it would rename this one."""
    try:
        descriptor = os.open(partial, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(
            f"{partial} is the report of another import that is running. Name another file"
        ) from None
    finally:
        os.close(descriptor)
