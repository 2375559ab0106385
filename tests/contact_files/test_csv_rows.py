import csv
import io
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contact_gateway.contact_files.csv_rows import csv_rows
from contact_gateway.contact_files.encodings import HEAD_SIZE, Encoding, decoded
from contact_gateway.contact_files.formulas import escaped
from contact_gateway.contact_files.rows import (
    MAX_ROW_LENGTH,
    ContactFileError,
    Row,
    UnreadableRow,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEADER = ("email", "name", "phone")
TEXT_AFTER_A_QUOTE = (
    'A quoted cell continues after its closing quotation mark. Double marks inside: `""`.'
)


def _read(text: str | bytes) -> tuple[tuple[str, ...], list[Row | UnreadableRow]]:
    data = text.encode() if isinstance(text, str) else text
    columns, rows = csv_rows(decoded(io.BytesIO(data)))
    return columns, list(rows)


def _rows(text: str | bytes) -> list[tuple[int, list[object]]]:
    """Return the lines and the cells of a file whose rows are all readable."""
    columns, rows = _read(text)
    assert all(isinstance(row, Row) and row.columns == columns for row in rows), rows
    return [(row.line, list(row.cells)) for row in rows if isinstance(row, Row)]


class TestDelimiters:
    @pytest.mark.parametrize(
        ("header", "columns"),
        [
            pytest.param("email,name", ("email", "name"), id="commas"),
            pytest.param("email;name", ("email", "name"), id="semicolons"),
            pytest.param("email\tname", ("email", "name"), id="tabs"),
            pytest.param("email", ("email",), id="one column"),
            pytest.param('"a,b,c";email;name', ("a,b,c", "email", "name"), id="quoted commas"),
            pytest.param('"a "",""";email', ('a ","', "email"), id="doubled quotes"),
            pytest.param('"a\n,,,b";email', ("a\n,,,b", "email"), id="a quoted line break"),
            pytest.param("last, first;email", ("last, first", "email"), id="as many commas"),
            pytest.param("a;b\temail", ("a;b", "email"), id="as many semicolons as tabs"),
            pytest.param(' email , "name"', ("email", '"name"'), id="spaces"),
            pytest.param("email,,name,,", ("email", "", "name"), id="columns without a name"),
            pytest.param("\n \n\r\nemail;name", ("email", "name"), id="blank lines before it"),
            pytest.param("sep=;\nemail;name", ("email", "name"), id="Excel's line"),
            pytest.param("sep=|\r\nemail|na,me", ("email", "na,me"), id="another of Excel's"),
            pytest.param('"SEP=\t"\nemail\tname', ("email", "name"), id="Excel's line, quoted"),
            pytest.param("\ufeffsep=;\nemail;name", ("email", "name"), id="Excel's after a mark"),
            pytest.param("\temail\tname", ("", "email", "name"), id="a first column without name"),
        ],
    )
    def test_the_header_decides(self, header: str, columns: tuple[str, ...]) -> None:
        assert _read(header) == (columns, [])

    def test_the_rows_do_not_decide(self) -> None:
        assert _rows("email;name\na@example.com;b,c,d,e\n") == [(2, ["a@example.com", "b,c,d,e"])]

    def test_the_line_of_excel_counts_as_a_line(self) -> None:
        assert _rows("\nsep=;\nemail;name\na;b\n") == [(4, ["a", "b"])]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            pytest.param(b"", "The file is empty.", id="an empty file"),
            pytest.param(b"\n \n,,\n", "The file is empty.", id="blank lines"),
            pytest.param(b"sep=;\n", "The file is empty.", id="Excel's line alone"),
            pytest.param(b'\n"email,name\n', "Line 2: The quotation mark", id="an open quote"),
            pytest.param(b"e\0mail,name\n", "Line 1: The row contains a NUL", id="NUL"),
            pytest.param(b"\xc3\xa9,caf\xe9\n", "Line 1: The byte 0xE9", id="another encoding"),
            pytest.param(b"a" * (MAX_ROW_LENGTH + 1), "Line 1: ", id="a long line"),
        ],
    )
    def test_a_file_without_a_readable_header_is_refused(self, data: bytes, message: str) -> None:
        with pytest.raises(ContactFileError) as refused:
            _read(data)

        assert str(refused.value).startswith(message)


class TestRows:
    @pytest.mark.parametrize(
        ("text", "rows"),
        [
            pytest.param("e,n\na,b", [(2, ["a", "b"])], id="no line end at the end"),
            pytest.param("e,n\r\na,b\r\nc,d\r\n", [(2, ["a", "b"]), (3, ["c", "d"])], id="CRLF"),
            pytest.param("e,n\ra,b\rc,d\r", [(2, ["a", "b"]), (3, ["c", "d"])], id="CR"),
            pytest.param(
                "e,n\n\n  \n,\n , \na,b\n\n", [(6, ["a", "b"])], id="blank rows of every kind"
            ),
            pytest.param(
                'e,n\n"a\nb\r\nc","d""e"\nf,g\n',
                [(2, ["a\nb\r\nc", 'd"e']), (5, ["f", "g"])],
                id="quoted line ends and quotes",
            ),
            pytest.param("e,n\na,b,,\n", [(2, ["a", "b"])], id="empty cells too many"),
            pytest.param("e,n,p\na,b\n", [(2, ["a", "b", ""])], id="empty cells left out"),
            pytest.param("e,n,p\na,\n", [(2, ["a", "", ""])], id="a delimiter left out"),
            pytest.param("e,n,p,,\na,b,c\n", [(2, ["a", "b", "c"])], id="a header with more"),
            pytest.param("e\na\n\nb\n", [(2, ["a"]), (4, ["b"])], id="one column"),
            pytest.param('e,n\n5" tube,b\n', [(2, ['5" tube', "b"])], id="a quote within a cell"),
            pytest.param("e,n\n'+46 8,'=1\n", [(2, ["+46 8", "=1"])], id="escaped formulas"),
            pytest.param("e,n\n'Tis,O'Neil\n", [(2, ["'Tis", "O'Neil"])], id="other apostrophes"),
        ],
    )
    def test_files_are_read_as_they_are_usually_written(
        self, text: str, rows: list[tuple[int, list[object]]]
    ) -> None:
        assert _rows(text) == rows

    @given(
        dialect=st.sampled_from(
            [
                (delimiter, line_end, quoting)
                for delimiter in ",;\t"
                for line_end in ("\n", "\r", "\r\n")
                for quoting in (csv.QUOTE_ALL, csv.QUOTE_MINIMAL)
                # The writer quotes only those line ends that its dialect has.
                if quoting == csv.QUOTE_ALL or line_end == "\r\n"
            ]
        ),
        encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
        cells=st.lists(
            st.lists(
                st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
                | st.text(",;\t\r\n\"' =é", max_size=8),
                min_size=3,
                max_size=3,
            ).filter(lambda row: any(map(str.strip, row))),
            max_size=6,
        ),
    )
    def test_what_a_csv_writer_writes_is_read(
        self, dialect: tuple[str, str, int], encoding: str, cells: list[list[str]]
    ) -> None:
        delimiter, line_end, quoting = dialect
        written = io.StringIO(newline="")
        writer = csv.writer(
            written,
            delimiter=delimiter,
            lineterminator=line_end,
            quoting=csv.QUOTE_ALL if quoting == csv.QUOTE_ALL else csv.QUOTE_MINIMAL,
        )
        writer.writerow(HEADER)
        writer.writerows([[escaped(cell) for cell in row] for row in cells])

        columns, rows = _read(written.getvalue().encode(encoding))

        assert columns == HEADER
        assert [list(row.cells) for row in rows if isinstance(row, Row)] == cells


class TestUnreadableRows:
    def test_each_is_reported_with_its_line_and_the_rows_after_it_are_read(self) -> None:
        data = b"\n".join(
            [
                "email;name;phone;Zoë".encode(),
                b"a;b;c;d;e",
                b"a",
                b'a;"b"c;d',
                b"a;\0;c",
                b"a;caf\xe9;c",
                b'a;"b',
                b'a;"' + b"b" * csv.field_size_limit() + b'b"',
                b"a;" + b"b;" * (MAX_ROW_LENGTH // 2),
                b'"a\n',
                b'b";c;d;e;f',
                b"good;row;at;last",
                b'"end',
            ]
        )

        _, rows = _read(data)

        assert [str(row) if isinstance(row, UnreadableRow) else row.cells for row in rows] == [
            "Line 2: The row has 5 cells. The header has 4.",
            "Line 3: The row has 1 cell. The header has 4.",
            f"Line 4: {TEXT_AFTER_A_QUOTE}",
            "Line 5: The row contains a NUL character. Save the file as CSV (UTF-8).",
            "Line 6: The byte 0xE9 is not UTF-8. Save the file as UTF-8.",
            f"Line 7: {TEXT_AFTER_A_QUOTE}",
            "Line 8: A cell has more than 131,072 characters. Close its quotation mark.",
            "Line 9: The row has more than 1,048,576 characters. Shorten it.",
            "Line 10: The row, which ends on line 12, has 5 cells. The header has 4.",
            ["good", "row", "at", "last"],
            "Line 14: The quotation mark of a cell is not closed.",
        ]

    def test_a_quote_that_is_not_closed_costs_one_row(self) -> None:
        text = 'email,name\n"a,b\n' + "c,d\n" * 100_000

        (first, *rows) = _read(text)[1]

        assert (first.line, type(first)) == (2, UnreadableRow)
        assert [row.line for row in rows] == list(range(3, 100_003))
        assert {type(row) for row in rows} == {Row}

    def test_many_quotes_that_are_not_closed_cost_one_row_each(self) -> None:
        text = "email,name\n" + 'a,"b\nc,d\n' * 1_000

        rows = _read(text)[1]

        assert [type(row) for row in rows] == [UnreadableRow, Row] * 1_000

    @given(
        st.text("ab,;\t\r\n\"'=\0é", max_size=60).map(str.encode)
        | st.binary(max_size=60)
        | st.text("ab,\n\"'\udce9", max_size=60).map(
            lambda text: b"email,name\n" + text.encode(errors="surrogateescape")
        )
    )
    @example(b'a,b\n"\r"\n')
    def test_no_file_is_anything_but_rows_or_refused(self, data: bytes) -> None:
        try:
            columns, rows = _read(data)
        except ContactFileError:
            return

        lines = [row.line for row in rows]
        assert lines == sorted(set(lines))
        assert all(len(row.cells) == len(columns) for row in rows if isinstance(row, Row))


class _ManyRows(io.RawIOBase):
    """A pipe of so many rows, which counts the rows read of it."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pending = b"email,name,phone\n"
        self.rows_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        if not self._pending and self.rows_read < self._rows:
            self.rows_read += 1
            self._pending = f'zoe{self.rows_read}@example.com,"Zoë\nMüller",\n'.encode()
        data, self._pending = self._pending[: len(view)], self._pending[len(view) :]
        view[: len(data)] = data
        return len(data)


class TestLargeFiles:
    def test_rows_are_read_as_they_are_iterated_in_bounded_memory(self) -> None:
        file = _ManyRows(100_000)

        tracemalloc.start()
        try:
            _, rows = csv_rows(decoded(io.BufferedReader(file)))
            first = next(rows)
            rows_for_the_first = file.rows_read
            others = sum(isinstance(row, Row) for row in rows)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert (first.line, others) == (2, 99_999)
        assert rows_for_the_first < 40_000
        # All rows at once would take 40 MiB.
        assert peak < 8 * HEAD_SIZE

    def test_a_wrong_byte_far_behind_the_first_ones_is_reported_with_its_line(self) -> None:
        line = "zoe@example.com,Zoë\n".encode()
        lines = 4 * HEAD_SIZE // len(line)
        data = b"email,name\n" + line * lines + b"jos@example.com,Jos\xe9\n" + line

        file = decoded(io.BytesIO(data))
        _, rows = csv_rows(file)
        unreadable = [row for row in rows if isinstance(row, UnreadableRow)]

        assert file.encoding is Encoding.UTF_8
        assert [row.line for row in unreadable] == [lines + 2]
