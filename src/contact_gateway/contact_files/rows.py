"""The rows of a file of contacts."""

from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_ROW_LENGTH: Final = 2**20
"""Characters of a row. A longer one is unreadable, so that memory is bounded."""

ROW_TOO_LONG: Final = f"The row has more than {MAX_ROW_LENGTH:,} characters. Shorten it."


class ContactFileError(ValueError):
    """The file is refused. The message is a sentence that says what to do."""


class Row(NamedTuple):
    """A row, with the number of the line that it starts on.

    The columns and the cells have the same order. The cells of CSV are strings, and those of JSON
    lines any JSON value.
    """

    line: int
    columns: tuple[str, ...]
    cells: Sequence[object]


class UnreadableRow(NamedTuple):
    """A row that cannot be read, and the sentence that says why. The rows after it can be read."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.message}"
