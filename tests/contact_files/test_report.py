"""The report of an import, which is a file to import again."""

import csv
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.contact_files.columns import REPORT_COLUMNS
from contact_gateway.contact_files.imported_rows import Outcome, RowOutcome, invalid
from contact_gateway.contact_files.new_file import FileError
from contact_gateway.contact_files.report import Report, partial_of, report_to
from contact_gateway.contact_files.rows import Row, UnreadableRow
from contact_gateway.contact_files.table import read_table

COLUMNS = ("advertiser_id", "email", "Note")
CREATED = RowOutcome(Outcome.CREATED, 7)
_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def written(columns: Sequence[str], *rows: tuple[Row | UnreadableRow, RowOutcome]) -> str:
    text = StringIO(newline="")
    report = Report(Path("report.csv"), text, columns)
    report.add(rows)
    return text.getvalue()


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text.removeprefix("\ufeff"), newline="")))


@given(st.lists(_CELLS, min_size=2, max_size=2))
def test_the_cells_of_a_row_survive_any_number_of_reports(cells: list[str]) -> None:
    row = Row(2, COLUMNS, ["1001", *cells])

    for _ in range(2):
        table = read_table(BytesIO(written(row.columns, (row, CREATED)).encode()))
        (again,) = table.rows
        assert isinstance(again, Row)
        assert list(again.cells[len(REPORT_COLUMNS) :]) == ["1001", *cells]
        row = again


def test_problems_stand_in_the_columns_of_their_fields() -> None:
    problems = [("email", "It is too long."), ("email", "It has no @."), ("contact", "No.")]
    row = Row(5, COLUMNS, ["1001", "x", ""])

    (record,) = records(written(COLUMNS, (row, invalid(problems))))

    assert record["import_line"] == "5"
    assert record["import_outcome"] == "invalid"
    assert record["problem_email"] == "It is too long. It has no @."
    assert record["import_message"] == "No. Correct `email`."


def test_a_row_that_cannot_be_read_has_no_cells() -> None:
    outcome = RowOutcome(Outcome.INVALID, message="The row has 9 cells.")

    (record,) = records(written(COLUMNS, (UnreadableRow(3, "The row has 9 cells."), outcome)))

    assert record["import_message"] == "The row has 9 cells."
    assert record["email"] is None


def test_a_message_runs_in_no_spreadsheet() -> None:
    outcome = RowOutcome(Outcome.REFUSED, message="=HYPERLINK(1)")

    (record,) = records(written(COLUMNS, (Row(2, COLUMNS, ["1", "2", "3"]), outcome)))

    assert record["import_message"] == "'=HYPERLINK(1)"


def test_a_json_value_is_a_text() -> None:
    row = Row(2, COLUMNS, [1001, None, ["=x"]])

    (record,) = records(written(COLUMNS, (row, CREATED)))

    assert (record["advertiser_id"], record["email"], record["Note"]) == ("1001", "", '["=x"]')


class TestTheFile:
    def test_it_has_its_name_when_it_is_complete(self, tmp_path: Path) -> None:
        target = tmp_path / "report.csv"

        with report_to(target, COLUMNS) as report:
            report.add([(Row(2, COLUMNS, ["1", "2", "3"]), CREATED)])
            assert not target.exists()

        assert len(records(target.read_text(encoding="utf-8"))) == 1
        assert not partial_of(target).exists()

    def test_it_stays_partial_after_an_exception(self, tmp_path: Path) -> None:
        target = tmp_path / "report.csv"
        target.write_text("of an earlier import", encoding="utf-8")

        def fail() -> None:
            with report_to(target, COLUMNS) as report:
                report.add([(Row(2, COLUMNS, ["1", "2", "3"]), CREATED)])
                raise KeyError

        with pytest.raises(KeyError):
            fail()

        assert target.read_text(encoding="utf-8") == "of an earlier import"
        assert len(records(partial_of(target).read_text(encoding="utf-8"))) == 1

    def test_it_replaces_an_earlier_partial_one(self, tmp_path: Path) -> None:
        target = tmp_path / "report.csv"
        partial_of(target).write_text("of an earlier import", encoding="utf-8")

        with report_to(target, COLUMNS):
            pass

        assert "earlier" not in target.read_text(encoding="utf-8")

    def test_a_folder_is_no_report(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="not a regular file"), report_to(tmp_path, COLUMNS):
            pass

    def test_it_does_not_replace_a_link(self, tmp_path: Path) -> None:
        target, linked = tmp_path / "report.csv", tmp_path / "elsewhere.csv"
        linked.write_text("of an earlier import", encoding="utf-8")
        target.symlink_to(linked)

        with pytest.raises(FileError, match="not a regular file"), report_to(target, COLUMNS):
            pass

        assert target.is_symlink()

    def test_it_is_not_taken_from_another_import(self, tmp_path: Path) -> None:
        target = tmp_path / "report.csv"

        with report_to(target, COLUMNS) as report:
            report.add([(Row(2, COLUMNS, ["1", "2", "3"]), CREATED)])
            with (
                pytest.raises(FileError, match="the report of another import that is running"),
                report_to(target, COLUMNS),
            ):
                pass

        assert len(records(target.read_text(encoding="utf-8"))) == 1
