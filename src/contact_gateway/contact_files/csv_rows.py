"""Rows of CSV files, as spreadsheets and CRM systems write them."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from contact_gateway.contact_files.encodings import DecodedFile, why_undecodable
from contact_gateway.contact_files.formulas import unescaped
from contact_gateway.contact_files.rows import (
    MAX_ROW_LENGTH,
    ROW_TOO_LONG,
    ContactFileError,
    Row,
    UnreadableRow,
)

# The order decides a tie: texts contain commas more often than semicolons, and seldom tabs.
_DELIMITERS: Final = "\t;,"
_DEFAULT_DELIMITER: Final = ","
# Excel reads and writes this line in front of the header.
_DELIMITER_LINE: Final = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"')
# The messages of the standard library's reader, in its order of checks.
_REASONS: Final = (
    ("unexpected end", "The quotation mark of a cell is not closed."),
    (
        "field larger",
        f"A cell has more than {csv.field_size_limit():,} characters. Close its quotation mark.",
    ),
    ("'", 'A quoted cell continues after its closing quotation mark. Double marks inside: `""`.'),
)

_Record: TypeAlias = tuple[int, int, list[str]]
"""The numbers of the first and the last line, and the cells."""


def csv_rows(file: DecodedFile) -> tuple[tuple[str, ...], Iterator[Row | UnreadableRow]]:
    """Return the columns of a CSV file, and its rows, without those that are blank.

    The header decides the delimiter: a comma, a semicolon or a tab. A row may lack empty cells at
    its end, or have more of them: Excel writes both.

    Raises:
        ContactFileError: the file has no header, or one that cannot be read.
    """
    records = _Records(file)
    header = next(records.read(), None)
    if header is None:
        raise ContactFileError("The file is empty. Its first line must name the columns.")
    if isinstance(header, UnreadableRow):
        raise ContactFileError(str(header))
    _, _, names = header
    columns = tuple(name.strip() for name in _without_empty_end(names))
    return columns, _rows(records.read(), columns)


def _rows(
    records: Iterator[_Record | UnreadableRow], columns: tuple[str, ...]
) -> Iterator[Row | UnreadableRow]:
    width = len(columns)
    for record in records:
        if isinstance(record, UnreadableRow):
            yield record
            continue
        line, last_line, cells = record
        if len(cells) != width:
            present = _without_empty_end(cells)
            # One cell is the rest of a row with a stray line end, a remark or a total.
            if len(present) > width or len(cells) == 1:
                upto = f", which ends on line {last_line}," if last_line > line else ""
                count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
                message = f"The row{upto} has {count}. The header has {width}."
                yield UnreadableRow(line, message)
                continue
            cells = present + [""] * (width - len(present))
        yield Row(line, columns, cells)


class _Records:
    """The records of a file. Reading continues after one that is unreadable."""

    def __init__(self, file: DecodedFile) -> None:
        self._encoding = file.encoding
        self._lines = file.lines
        self._again: deque[str] = deque()
        self._pending: list[str] = []
        self._line = 1
        self._delimiter = self._find_delimiter()

    def read(self) -> Iterator[_Record | UnreadableRow]:
        """Yield each record that is not blank."""
        while True:
            reader = csv.reader(self._feed(), delimiter=self._delimiter, strict=True)
            try:
                for cells in reader:
                    text = "".join(self._pending)
                    line = self._line
                    self._line += len(self._pending)
                    self._pending.clear()
                    if reason := self._why_unreadable(text):
                        yield UnreadableRow(line, reason)
                    elif any(map(str.strip, cells)):
                        own = [unescaped(each) for each in cells] if "'" in text else cells
                        yield line, self._line - 1, own
            except csv.Error as error:
                yield self._unreadable(str(error))
            else:
                return

    def _feed(self) -> Iterator[str]:
        size = 0
        while line := self._again.popleft() if self._again else next(self._lines, ""):
            size = size + len(line) if self._pending else len(line)
            self._pending.append(line)
            if size > MAX_ROW_LENGTH:
                raise csv.Error(ROW_TOO_LONG)
            yield line

    def _unreadable(self, error: str) -> UnreadableRow:
        """Return the unreadable row. Only its first line is lost, and the others are read again.

        Otherwise a quotation mark that is not closed would swallow the rows after it.
        """
        first, *others = self._pending
        reason = self._why_unreadable(first) or next(
            (reason for start, reason in _REASONS if error.startswith(start)), error
        )
        problem = UnreadableRow(self._line, reason)
        self._again.extendleft(reversed(others))
        self._line += 1
        self._pending.clear()
        return problem

    def _why_unreadable(self, text: str) -> str | None:
        if "\0" in text:
            return "The row contains a NUL character. Save the file as CSV (UTF-8)."
        return why_undecodable(text, self._encoding)

    def _find_delimiter(self) -> str:
        """Return the delimiter of the header, which is read again."""
        header = ""
        for line in self._lines:
            self._again.append(line)
            if not header and (found := _DELIMITER_LINE.fullmatch(line)):
                self._line += len(self._again)
                self._again.clear()
                return found[1]
            header += line if header or line.strip() else ""
            if header and (len(header) > MAX_ROW_LENGTH or header.count('"') % 2 == 0):
                break
        unquoted = re.split(r"[\r\n]", _QUOTED.sub("", header), maxsplit=1)[0]
        delimiter = max(_DELIMITERS, key=unquoted.count)
        return delimiter if delimiter in unquoted else _DEFAULT_DELIMITER


def _without_empty_end(cells: Sequence[str]) -> list[str]:
    size = len(cells)
    while size and not cells[size - 1].strip():
        size -= 1
    return list(cells[:size])
