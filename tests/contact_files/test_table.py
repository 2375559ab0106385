import io
import json

import pytest

from contact_gateway.contact_files.rows import (
    MAX_ROW_LENGTH,
    ContactFileError,
    Row,
    UnreadableRow,
)
from contact_gateway.contact_files.table import Format, Table, format_of, read_table

OBJECT = '{"email": "zoe@example.com", "name": "Zoë"}\n'


def _table(text: str | bytes, of_format: Format | None = None) -> Table:
    data = text.encode() if isinstance(text, str) else text
    return read_table(io.BytesIO(data), of_format)


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "of_format"),
        [
            ("contacts.csv", Format.CSV),
            ("contacts.TSV", Format.CSV),
            ("contacts.csv.txt", Format.CSV),
            ("contacts.jsonl", Format.JSON_LINES),
            ("contacts.NDJSON", Format.JSON_LINES),
            ("contacts", None),
            ("-", None),
        ],
    )
    def test_the_name_of_a_file_says_its_format(self, name: str, of_format: Format | None) -> None:
        assert format_of(name) is of_format

    @pytest.mark.parametrize(
        ("text", "of_format"),
        [
            pytest.param("email,name\n", Format.CSV, id="a header"),
            pytest.param(f" {OBJECT}", Format.JSON_LINES, id="an object"),
        ],
    )
    def test_the_first_character_says_the_format_of_a_pipe(
        self, text: str, of_format: Format
    ) -> None:
        table = _table(text)

        assert (table.format, table.columns) == (of_format, ("email", "name"))

    def test_the_format_that_is_given_is_not_guessed_at(self) -> None:
        assert _table("{email},name\n", Format.CSV).columns == ("{email}", "name")
        with pytest.raises(ContactFileError, match="Line 1: The line is not a JSON object"):
            _table("email,name\n", Format.JSON_LINES)

    @pytest.mark.parametrize("of_format", [*Format, None], ids=str)
    def test_an_empty_file_is_refused(self, of_format: Format | None) -> None:
        with pytest.raises(ContactFileError, match="The file is empty"):
            _table("", of_format)

    @pytest.mark.parametrize("text", ["email,name\nz@example.com,Zoë\n", OBJECT], ids=str)
    def test_each_format_may_be_in_another_encoding(self, text: str) -> None:
        table = _table(text.encode("cp1252"))

        assert [row.cells[1] for row in table.rows if isinstance(row, Row)] == ["Zoë"]


class TestJsonLines:
    def test_an_object_is_a_row_with_its_values(self) -> None:
        value = {"id": 2**63, "email": None, "name": "'=1", "tags": ["a"], "phone": 1.5}

        (row,) = _table(json.dumps(value)).rows

        assert row == Row(1, tuple(value), list(value.values()))

    def test_a_row_may_have_many_brackets(self) -> None:
        value = {"many": [{}] * 20, "text": "[" * 20, "deep": json.loads("[" * 15 + "]" * 15)}

        (row,) = _table(json.dumps(value)).rows

        assert row == Row(1, tuple(value), list(value.values()))

    def test_rows_may_have_other_columns_than_the_first(self) -> None:
        table = _table('{"a": 1}\n\n{"b": 2, "a": 3}\r\n{}')

        assert table.columns == ("a",)
        assert list(table.rows) == [
            Row(1, ("a",), [1]),
            Row(3, ("b", "a"), [2, 3]),
            Row(4, (), []),
        ]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            pytest.param(b"[1]", "The line is not a JSON object.", id="a list"),
            pytest.param(b"null", "The line is not a JSON object.", id="null"),
            pytest.param(b'{"a": 1} {"a": 2}', "The line is not a JSON object.", id="two objects"),
            pytest.param(b'{"a": NaN}', "The line is not a JSON object.", id="NaN"),
            pytest.param(b'{"a": "\\ud800"}', "The line is not a JSON object.", id="a surrogate"),
            pytest.param(b"[" * 100_000, "The line is not a JSON object.", id="too deep"),
            pytest.param(
                b'{"a": %s1%s}' % (b"[" * 16, b"]" * 16),
                "The JSON is nested too deeply. At most 16 levels are allowed.",
                id="deep",
            ),
            pytest.param(b'{"a": "\0"}', "The line is not a JSON object.", id="NUL"),
            pytest.param(b'{"a": "caf\xe9"}', "The byte 0xE9 is not UTF-8.", id="not UTF-8"),
            pytest.param(
                b'{"a": "%s"}' % (b"a" * MAX_ROW_LENGTH),
                "The row has more than 1,048,576 characters.",
                id="too long",
            ),
        ],
    )
    def test_a_line_that_is_no_object_is_unreadable(self, line: bytes, message: str) -> None:
        rows = list(_table(OBJECT.encode() + line + b"\n" + OBJECT.encode()).rows)

        assert [type(row) for row in rows] == [Row, UnreadableRow, Row]
        assert str(rows[1]).startswith(f"Line 2: {message}")

    def test_the_first_object_may_follow_unreadable_lines(self) -> None:
        table = _table(f"[\n{OBJECT}", Format.JSON_LINES)

        assert table.columns == ("email", "name")
        assert [row.line for row in table.rows] == [1, 2]

    def test_a_file_without_an_object_on_its_first_lines_is_refused(self) -> None:
        with pytest.raises(ContactFileError, match="Line 1: The line is not a JSON object"):
            _table("[]\n" * 100 + OBJECT, Format.JSON_LINES)
