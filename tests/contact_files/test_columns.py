import io
import json
from collections.abc import Mapping

import pytest

from contact_gateway.contact_files.columns import (
    FIELDS,
    PROBLEM_COLUMNS,
    REPORT_COLUMNS,
    ContactColumns,
)
from contact_gateway.contact_files.rows import ContactFileError, Row, UnreadableRow
from contact_gateway.contact_files.table import Table, read_table

NOTHING_CHOSEN: Mapping[str, str] = {}


def _table(*columns: str) -> Table:
    return read_table(io.BytesIO(",".join(columns).encode()))


def _columns(*columns: str, **chosen: str) -> ContactColumns:
    return ContactColumns(_table(*columns), chosen)


def _refusal(*columns: str, chosen: Mapping[str, str] = NOTHING_CHOSEN) -> str:
    with pytest.raises(ContactFileError) as refused:
        ContactColumns(_table(*columns), chosen)
    return str(refused.value)


def _objects(*values: object) -> Table:
    return read_table(io.BytesIO("\n".join(map(json.dumps, values)).encode()))


class TestNames:
    @pytest.mark.parametrize(
        ("columns", "fields"),
        [
            pytest.param(FIELDS[:-1], FIELDS[:-1], id="the API's"),
            pytest.param(
                (
                    "advertiserId",
                    "email",
                    "name",
                    "givenName",
                    "familyName",
                    "phone",
                    "jobTitle",
                    "source",
                    "status",
                    "linkedinProfileUrl",
                ),
                FIELDS[:-1],
                id="GraphQL's",
            ),
            pytest.param(
                (
                    "First Name",
                    "Last Name",
                    "Email",
                    "Phone Number",
                    "Job Title",
                    "Company Name",
                    "Lead Status",
                    "Original Source",
                    "LinkedIn URL",
                ),
                (
                    "given_name",
                    "family_name",
                    "email",
                    "phone",
                    "job_title",
                    "advertiser",
                    "status",
                    "source",
                    "linkedin_profile_url",
                ),
                id="HubSpot's",
            ),
            pytest.param(
                ("Brand", "FirstName", "LastName", "Title", "Email", "MobilePhone", "LeadSource"),
                (
                    "advertiser",
                    "given_name",
                    "family_name",
                    "job_title",
                    "email",
                    "phone",
                    "source",
                ),
                id="Salesforce's",
            ),
            pytest.param(
                (
                    "First Name",
                    "Last Name",
                    "Company",
                    "Job Title",
                    "Business Phone",
                    "E-mail Address",
                ),
                ("given_name", "family_name", "advertiser", "job_title", "phone", "email"),
                id="Outlook's",
            ),
            pytest.param(
                (
                    "Name",
                    "Given Name",
                    "Family Name",
                    "E-mail 1 - Value",
                    "Phone 1 - Value",
                    "Organization Title",
                    "Advertiser",
                ),
                (
                    "name",
                    "given_name",
                    "family_name",
                    "email",
                    "phone",
                    "job_title",
                    "advertiser",
                ),
                id="Google's",
            ),
            pytest.param(
                ("First Name", "Last Name", "Email Address", "Company", "Position"),
                ("given_name", "family_name", "email", "advertiser", "job_title"),
                id="LinkedIn's",
            ),
            pytest.param(
                ("ADVERTISER-ID", " É_Mail ", "full.name", "SURNAME", "Mobile"),
                ("advertiser_id", "email", "name", "family_name", "phone"),
                id="case, accents and punctuation",
            ),
        ],
    )
    def test_usual_names_of_columns_have_their_fields(
        self, columns: tuple[str, ...], fields: tuple[str, ...]
    ) -> None:
        found = _columns(*columns)

        assert found.fields == {
            field: column.strip() for field, column in zip(fields, columns, strict=True)
        }
        assert found.ignored == ()

    def test_other_columns_are_listed_as_ignored(self) -> None:
        found = _columns("advertiser_id", "email", "Fax", "", "URL", "Fax")

        assert found.ignored == ("Fax", "URL")

    def test_columns_of_exports_and_reports_are_ignored_silently(self) -> None:
        exported = ("id", "advertiser_id", "advertiser_name", "email", "created_at", "updated_at")

        found = _columns(*REPORT_COLUMNS, *exported)

        assert found.fields == {"advertiser_id": "advertiser_id", "email": "email"}
        assert found.ignored == ()

    def test_a_report_has_a_column_for_the_problems_of_each_field(self) -> None:
        assert [PROBLEM_COLUMNS[field] for field in FIELDS] == list(REPORT_COLUMNS[4:])
        assert REPORT_COLUMNS[:5] == (
            "import_line",
            "import_outcome",
            "import_contact_id",
            "import_message",
            "problem_advertiser_id",
        )

    def test_names_of_advertisers_are_ignored_beside_their_ids(self) -> None:
        found = _columns("Company", "Brand", "advertiser_id", "email")

        assert found.fields == {"advertiser_id": "advertiser_id", "email": "email"}
        assert found.ignored == ("Company", "Brand")


class TestChosenColumns:
    def test_they_win_over_names(self) -> None:
        found = _columns("advertiser_id", "Email", "Work", "Phone", Work="email", Email="source")

        assert found.fields == {
            "email": "Work",
            "source": "Email",
            "advertiser_id": "advertiser_id",
            "phone": "Phone",
        }

    def test_they_decide_between_two_columns(self) -> None:
        found = _columns("advertiser_id", "email", "Phone", "Mobile", Mobile="phone")

        assert found.fields["phone"] == "Mobile"
        assert found.ignored == ("Phone",)

    def test_they_may_name_advertisers_beside_ids(self) -> None:
        found = _columns("advertiser_id", "Company", "email", Company="advertiser")

        assert found.fields["advertiser"] == "Company"

    @pytest.mark.parametrize(
        ("column", "field"),
        [
            pytest.param("work e-mail", "email", id="column in another case"),
            pytest.param("Work E-Mail", "E-Mail", id="field in another case"),
            pytest.param("Work E-Mail", "email address", id="another name of a field"),
        ],
    )
    def test_their_names_are_compared_as_those_of_the_file(self, column: str, field: str) -> None:
        found = ContactColumns(_table("advertiser_id", "Work E-Mail", "Email"), {column: field})

        assert found.fields["email"] == "Work E-Mail"

    def test_the_exact_name_comes_before_similar_ones(self) -> None:
        found = _columns("advertiser_id", "E-Mail", "email", email="email")

        assert found.fields["email"] == "email"


class TestRefusals:
    def test_two_columns_of_a_field_are_refused(self) -> None:
        assert _refusal("advertiser_id", "E-mail", "Email address") == (
            "Columns 2 and 3, `E-mail` and `Email address`, both mean `email`. "
            "Choose one: --map E-mail=email."
        )
        assert _refusal("advertiser_id", "email", "Email Address", "email address").startswith(
            "Columns 2 and 3, "
        )

    def test_two_columns_of_one_name_are_refused(self) -> None:
        assert _refusal("advertiser_id", "email", "email") == (
            "Columns 2 and 3, `email` and `email`, both mean `email`. Rename one of them."
        )

    def test_two_chosen_columns_of_a_field_are_refused(self) -> None:
        message = _refusal("advertiser_id", "A a", "B", chosen={"A a": "email", "B": "email"})

        assert message == (
            "Columns 2 and 3, `A a` and `B`, both mean `email`. Choose one: --map 'A a=email'."
        )

    def test_a_file_without_addresses_is_refused(self) -> None:
        assert _refusal("advertiser_id", "Contact\u202e") == (
            "No column means `email`. The file's columns are `advertiser_id`, `Contact\\u202e`. "
            "Choose one: --map COLUMN=email."
        )

    def test_a_file_without_advertisers_is_refused(self) -> None:
        assert _refusal("email", "Account") == (
            "No column means `advertiser_id` or `advertiser`. The file's columns are `email`, "
            "`Account`. Choose one: --map COLUMN=advertiser_id."
        )

    def test_at_most_50_columns_are_listed(self) -> None:
        message = _refusal(*(f"c{number}" for number in range(60)))

        assert "`c49` and 10 more." in message

    def test_a_long_name_of_a_column_is_cut(self) -> None:
        assert f"`{'c' * 100}…`" in _refusal("c" * 101)

    def test_a_file_without_a_header_is_refused(self) -> None:
        message = _refusal("1001", "zoe@example.com", "Zoë")

        assert "the first row has an e-mail address" in message
        assert "zoe@" not in message

    @pytest.mark.parametrize(
        ("field", "advice"),
        [
            pytest.param("emial", "Did you mean `email`?", id="a near name"),
            pytest.param("firstnam", "Did you mean `given_name`?", id="near another name"),
            pytest.param("xyz", f"The fields are `{'`, `'.join(FIELDS)}`.", id="no near name"),
        ],
    )
    def test_an_unknown_field_is_refused(self, field: str, advice: str) -> None:
        assert _refusal("advertiser_id", "Work", chosen={"Work": field}) == (
            f"--map Work={field} names an unknown field. {advice}"
        )

    @pytest.mark.parametrize(
        ("column", "advice"),
        [
            pytest.param("???", "Did you mean `...`?", id="no letters"),
            pytest.param("Work mial", "Did you mean `Work Mail`?", id="a near name"),
            pytest.param(
                "xyz", "Its columns are `advertiser_id`, `...`, `Work Mail`.", id="no near name"
            ),
        ],
    )
    def test_a_column_that_the_file_does_not_have_is_refused(
        self, column: str, advice: str
    ) -> None:
        assert _refusal("advertiser_id", "...", "Work Mail", chosen={column: "email"}) == (
            f"The file has no column `{column}`. {advice}"
        )


class TestRows:
    def test_the_values_of_a_row_are_those_of_its_fields_without_empty_ones(self) -> None:
        table = read_table(io.BytesIO(b"Fax,Email,advertiser_id,Phone,name\n1,a@b.example,7,, \n"))
        (row,) = table.rows
        assert isinstance(row, Row)

        assert ContactColumns(table, {}).contact_fields(row) == {
            "email": "a@b.example",
            "advertiser_id": "7",
            "name": " ",
        }

    def test_objects_may_have_fields_that_the_first_does_not_have(self) -> None:
        table = _objects(
            {"email": "a@b.example", "advertiserId": 7, "name": None},
            {"phone": "1", "e-mail": "c@d.example", "work": "2", "fax": "3", "name": ""},
        )
        columns = ContactColumns(table, {"work": "source", "home": "status"})
        before = (columns.unseen, columns.ignored)

        rows = [columns.contact_fields(row) for row in table.rows if isinstance(row, Row)]

        assert rows == [
            {"email": "a@b.example", "advertiser_id": 7},
            {"phone": "1", "email": "c@d.example", "source": "2"},
        ]
        assert before == (("work", "home"), ())
        assert (columns.unseen, columns.ignored) == (("home",), ("fax",))

    def test_the_columns_of_an_unreadable_object_are_not_noted(self) -> None:
        table = _objects(
            {"email": "a@b.example", "advertiser_id": 7},
            {"fax": "3", "work": "2", "email": "c@d.example", "e-mail": "e@f.example"},
        )
        columns = ContactColumns(table, {"work": "source"})

        *_, unreadable = (columns.contact_fields(row) for row in table.rows if isinstance(row, Row))

        assert isinstance(unreadable, UnreadableRow)
        assert (columns.unseen, columns.ignored) == (("work",), ())

    def test_an_object_with_two_values_of_a_field_is_unreadable(self) -> None:
        table = _objects(
            {"email": "a@b.example", "advertiser_id": 7},
            {"email": "a@b.example", "advertiser_id": 7, "Phone": "1", "Mobile": "2"},
        )
        columns = ContactColumns(table, {})
        _, second = table.rows
        assert isinstance(second, Row)

        assert columns.contact_fields(second) == UnreadableRow(
            2,
            "Columns 3 and 4, `Phone` and `Mobile`, both mean `phone`. "
            "Choose one: --map Phone=phone.",
        )

    def test_the_first_object_must_have_the_required_fields(self) -> None:
        with pytest.raises(ContactFileError, match="No column means `email`"):
            ContactColumns(_objects({"advertiser_id": 7}), {})


class TestReported:
    def test_rows_of_csv_are_reported_as_they_are(self) -> None:
        table = read_table(io.BytesIO(b"Fax,Email,advertiser_id\n1,a@b.example,7\n"))
        (row,) = table.rows
        columns = ContactColumns(table, {})

        assert columns.reported == table.columns
        assert columns.as_reported(row) is row

    def test_an_object_keeps_the_fields_that_the_first_does_not_have(self) -> None:
        table = _objects(
            {"E-Mail": "a@b.example", "company": "Kestrel", "status": 1, "role": "x"},
            {"email": "c@d.example", "advertiserId": 7, "mobile": "1", "Quelle": "2", "fax": "3"},
        )
        columns = ContactColumns(table, {"Quelle": "source", "role": "name"})
        first, second = map(columns.as_reported, table.rows)
        assert isinstance(first, Row)
        assert isinstance(second, Row)

        assert first.columns == second.columns == columns.reported
        assert columns.reported == (
            *("E-Mail", "company", "status", "role"),
            *("given_name", "family_name", "phone", "job_title", "Quelle"),
            "linkedin_profile_url",
        )
        assert first.cells == ["a@b.example", "Kestrel", 1, "x", *[None] * 6]
        assert second.cells == [
            *("c@d.example", 7, None, None),
            *(None, None, "1", None, "2", None),
        ]

    def test_a_further_field_has_no_column_that_means_another(self) -> None:
        table = _objects({"email": "a@b.example", "advertiser_id": 7, "Name": "x"})

        assert "name" not in ContactColumns(table, {"Name": "given_name"}).reported

    def test_an_object_that_is_unreadable_has_no_cells(self) -> None:
        table = _objects(
            {"email": "a@b.example", "advertiser_id": 7},
            {"email": "a@b.example", "advertiser_id": 7, "Phone": "1", "Mobile": "2"},
        )
        _, second = table.rows

        assert isinstance(ContactColumns(table, {}).as_reported(second), UnreadableRow)
