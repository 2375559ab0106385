"""Rule 4: the valid values of a contact's fields, and every problem with invalid ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.contacts.contact import (
    ContactDetails,
    NewContact,
    field_description,
    new_contact,
    unknown_fields,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from support.contacts import submitted

MINIMAL = {"advertiser_id": 1001, "email": "maya@example.com"}
TEXT_FIELDS = ("name", "given_name", "family_name", "phone", "job_title", "source", "status")
OPTIONAL_FIELDS = (*TEXT_FIELDS, "linkedin_profile_url")
LONGEST_EMAIL = f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.ex"
TOO_BIG = 2**63


def _valid(**given_fields: object) -> NewContact:
    contact = new_contact(MINIMAL | given_fields)
    assert isinstance(contact, NewContact), contact
    return contact


def _problems(raw: object) -> list[tuple[str, str]]:
    found = new_contact(raw)
    assert not isinstance(found, NewContact), found
    assert all(problem.message for problem in found)
    return [(".".join(problem.path), problem.code) for problem in found]


def test_an_advertiser_and_an_email_are_enough() -> None:
    assert _valid() == submitted(advertiser_id=1001, email="maya@example.com")


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ("advertiserId", "advertiser_id"),
        ("Advertiser-ID", "advertiser_id"),
        ("E-Mail", "email"),
    ],
)
def test_a_required_field_in_another_spelling_is_named(sent: str, field: str) -> None:
    raw = {sent if name == field else name: value for name, value in MINIMAL.items()}

    assert new_contact(raw) == (
        Problem(
            ("contact", field),
            ProblemCode.REQUIRED,
            f"A value is required. The field is called `{field}`, not `{sent}`.",
        ),
    )


def test_every_field_of_the_published_reference_is_taken() -> None:
    raw: dict[str, Any] = {
        "advertiser_id": 1001,
        "email": "maya@example.com",
        "name": "Maya L.",
        "given_name": "Maya",
        "family_name": "Lindqvist",
        "phone": "+46 8 123 45 67",
        "job_title": "Affiliate Manager",
        "source": "conference",
        "status": "active",
        "linkedin_profile_url": "https://www.linkedin.com/in/maya",
    }

    assert tuple(raw) == ContactDetails._fields
    assert _valid(**raw)._asdict() == raw


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(None, "REQUIRED", id="nothing"),
        pytest.param([], "INVALID_TYPE", id="a list"),
        pytest.param([MINIMAL], "INVALID_TYPE", id="a list of one"),
        pytest.param("maya@example.com", "INVALID_TYPE", id="a text"),
        pytest.param(42, "INVALID_TYPE", id="a number"),
        pytest.param(False, "INVALID_TYPE", id="a boolean"),
    ],
)
def test_a_value_that_is_not_an_object_is_refused(raw: object, code: str) -> None:
    assert _problems(raw) == [("contact", code)]


def test_an_empty_contact_lacks_both_required_fields() -> None:
    assert _problems({}) == [
        ("contact.advertiser_id", "REQUIRED"),
        ("contact.email", "REQUIRED"),
    ]


@pytest.mark.parametrize(
    ("raw", "advertiser_id"),
    [
        pytest.param(1, 1, id="the smallest"),
        pytest.param("1002", 1002, id="a text of digits"),
        pytest.param("0001002", 1002, id="digits with leading zeros"),
        pytest.param(2**53 + 1, 2**53 + 1, id="beyond what a double holds"),
        pytest.param(str(2**53 + 1), 2**53 + 1, id="beyond what a double holds, as digits"),
        pytest.param(TOO_BIG - 1, TOO_BIG - 1, id="the largest"),
        pytest.param(str(TOO_BIG - 1), TOO_BIG - 1, id="the largest, as digits"),
    ],
)
def test_an_advertiser_id_is_a_number_or_digits(raw: object, advertiser_id: int) -> None:
    assert _valid(advertiser_id=raw).advertiser_id == advertiser_id


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(None, "REQUIRED", id="null"),
        pytest.param(0, "OUT_OF_RANGE", id="zero"),
        pytest.param("0", "OUT_OF_RANGE", id="the digit zero"),
        pytest.param(-1, "OUT_OF_RANGE", id="negative"),
        pytest.param(TOO_BIG, "OUT_OF_RANGE", id="above 64 bits"),
        pytest.param(str(TOO_BIG), "OUT_OF_RANGE", id="digits above 64 bits"),
        pytest.param(10**5000, "OUT_OF_RANGE", id="a huge number"),
        pytest.param("9" * 5000, "OUT_OF_RANGE", id="very many digits"),
        pytest.param(True, "INVALID_TYPE", id="a boolean"),
        pytest.param(1002.0, "INVALID_TYPE", id="a float"),
        pytest.param(float("nan"), "INVALID_TYPE", id="not a number"),
        pytest.param("-1", "OUT_OF_RANGE", id="a text with a sign"),
        pytest.param(" 1002", "INVALID_TYPE", id="a text with a space"),
        pytest.param("1e3", "INVALID_TYPE", id="a text with an exponent"),
        pytest.param("\u0661\u0662", "INVALID_TYPE", id="digits of another script"),
        pytest.param("acme", "INVALID_TYPE", id="a word"),
        pytest.param([1002], "INVALID_TYPE", id="a list"),
        pytest.param({}, "INVALID_TYPE", id="an object"),
    ],
)
def test_anything_else_is_no_advertiser_id(raw: object, code: str) -> None:
    assert _problems(MINIMAL | {"advertiser_id": raw}) == [("contact.advertiser_id", code)]


@pytest.mark.parametrize(
    ("raw", "email"),
    [
        pytest.param("Maya@EXAMPLE.com", "Maya@example.com", id="the domain in small letters"),
        pytest.param("a@xn--bcher-kva.example", "a@bücher.example", id="IDNA in its own script"),
        pytest.param("jose\u0301@example.com", "jos\xe9@example.com", id="composed characters"),
        pytest.param("maya+ads@example.com", "maya+ads@example.com", id="a tag stays"),
        pytest.param(LONGEST_EMAIL, LONGEST_EMAIL, id="the longest"),
    ],
)
def test_an_email_is_normalised_by_the_library(raw: str, email: str) -> None:
    assert _valid(email=raw).email == email


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(None, "REQUIRED", id="null"),
        pytest.param(5, "INVALID_TYPE", id="a number"),
        pytest.param(["a@example.com"], "INVALID_TYPE", id="a list"),
        pytest.param("maya", "INVALID_EMAIL", id="no at sign"),
        pytest.param("@example.com", "INVALID_EMAIL", id="nothing before the at sign"),
        pytest.param("maya@", "INVALID_EMAIL", id="nothing after the at sign"),
        pytest.param("a@b@example.com", "INVALID_EMAIL", id="two at signs"),
        pytest.param("maya@localhost", "INVALID_EMAIL", id="no top-level domain"),
        pytest.param("maya@example.test", "INVALID_EMAIL", id="a reserved domain"),
        pytest.param("maya@[127.0.0.1]", "INVALID_EMAIL", id="an IP address"),
        pytest.param("Maya <maya@example.com>", "INVALID_EMAIL", id="a display name"),
        pytest.param('"a b"@example.com', "INVALID_EMAIL", id="a quoted local part"),
        pytest.param("a..b@example.com", "INVALID_EMAIL", id="two dots"),
        pytest.param("a" * 243 + "@example.com", "TOO_LONG", id="255 characters"),
        pytest.param("ma\nya@example.com", "INVALID_CHARACTERS", id="a line break"),
        pytest.param(" \u200b\n", "REQUIRED", id="invisible characters only"),
        pytest.param("ma\x00ya@example.com", "INVALID_CHARACTERS", id="NUL"),
        pytest.param("\ud800@example.com", "INVALID_CHARACTERS", id="a lone surrogate"),
    ],
)
def test_an_undeliverable_address_is_refused(raw: object, code: str) -> None:
    assert _problems(MINIMAL | {"email": raw}) == [("contact.email", code)]


def test_the_longest_email_has_254_characters_at_most() -> None:
    assert len(LONGEST_EMAIL) <= 254 < len("a" * 243 + "@example.com")


@pytest.mark.parametrize("name", OPTIONAL_FIELDS)
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param(" \u00a0 \r\n", id="blank"),
        pytest.param("\u3164\u200b\ufe0f", id="invisible"),
        None,
    ],
)
def test_an_empty_text_becomes_null(name: str, raw: str | None) -> None:
    assert getattr(_valid(**{name: raw}), name) is None


@pytest.mark.parametrize("name", TEXT_FIELDS)
def test_a_text_is_trimmed(name: str) -> None:
    assert getattr(_valid(**{name: "  A  B \u00a0"}), name) == "A  B"


BLANKS = (
    " ",
    "\t",
    "\n",
    "\r\n",
    "\x85",
    "\u00a0",
    "\u2003",
    "\u2028",
    "\u3000",
    "\u200b",
    "\ufeff",
)


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", "maya@example.com"),
        ("name", "Maya L."),
        ("linkedin_profile_url", "https://example.com/in/maya"),
    ],
)
def test_blanks_of_every_kind_are_trimmed(name: str, value: str, blank: str) -> None:
    assert getattr(_valid(**{name: f"{blank}{value}{blank} {blank}"}), name) == value


@pytest.mark.parametrize("name", TEXT_FIELDS)
def test_a_text_is_stored_composed(name: str) -> None:
    assert getattr(_valid(**{name: "Jose\u0301"}), name) == "Jos\u00e9"
    assert getattr(_valid(**{name: "e\u0301" * 255}), name) == "\u00e9" * 255


def test_a_text_that_is_far_too_long_is_not_normalised() -> None:
    marks = "\u0301\u0323" * 10_000

    assert _problems(MINIMAL | {"name": f"e{marks}"}) == [("contact.name", "TOO_LONG")]


def test_a_url_is_stored_as_written() -> None:
    url = "https://example.com/in/jose\u0301"

    assert _valid(linkedin_profile_url=url).linkedin_profile_url == url


@pytest.mark.parametrize("name", TEXT_FIELDS)
def test_a_text_has_255_characters_at_most_once_trimmed(name: str) -> None:
    longest = "\U0001f600" * 255

    assert getattr(_valid(**{name: f" {longest} "}), name) == longest
    assert _problems(MINIMAL | {name: longest + "x"}) == [(f"contact.{name}", "TOO_LONG")]


@pytest.mark.parametrize("name", OPTIONAL_FIELDS)
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("a\x00b", id="NUL"),
        pytest.param("a\tb", id="tab"),
        pytest.param("a\nb", id="line break"),
        pytest.param("a\x7f", id="delete"),
        pytest.param("a\x85b", id="C1 control"),
        pytest.param("a\ud800", id="lone high surrogate"),
        pytest.param("\udfffa", id="lone low surrogate"),
    ],
)
def test_control_characters_and_lone_surrogates_are_refused(name: str, raw: str) -> None:
    assert _problems(MINIMAL | {name: raw}) == [(f"contact.{name}", "INVALID_CHARACTERS")]


@pytest.mark.parametrize("name", OPTIONAL_FIELDS)
@pytest.mark.parametrize("raw", [0, 1.5, False, [], ["a"], {}])
def test_a_text_is_a_text(name: str, raw: object) -> None:
    assert _problems(MINIMAL | {name: raw}) == [(f"contact.{name}", "INVALID_TYPE")]


@pytest.mark.parametrize(
    "url",
    [
        "https://www.linkedin.com/in/maya",
        "http://linkedin.com",
        "HTTPS://Linkedin.com/in/Maya?x=1#top",
        "https://linkedin.com:8443/in/maya",
        "https://linkedin.com/in/j\xf6rg",
        "https://b\xfccher.example/",
        "http://[2001:db8::1]/",
        f"https://linkedin.com/{'a' * 2027}",
    ],
)
def test_an_absolute_http_url_with_a_host_is_not_changed(url: str) -> None:
    assert _valid(linkedin_profile_url=f" {url} ").linkedin_profile_url == url


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("linkedin.com/in/maya", "INVALID_URL"),
        ("/in/maya", "INVALID_URL"),
        ("//linkedin.com/in/maya", "INVALID_URL"),
        ("ftp://linkedin.com/", "INVALID_URL"),
        ("javascript:alert(1)", "INVALID_URL"),
        ("https:linkedin.com", "INVALID_URL"),
        ("https://", "INVALID_URL"),
        ("https:///in/maya", "INVALID_URL"),
        ("https://?host", "INVALID_URL"),
        ("https://:443/", "INVALID_URL"),
        ("https://maya@/", "INVALID_URL"),
        ("https://linkedin.com:99999/", "INVALID_URL"),
        ("https://linked in.com/", "INVALID_URL"),
        ("https://linkedin.com/in/maya lindqvist", "INVALID_URL"),
        ("https:\\\\linkedin.com", "INVALID_URL"),
        ("http://[2001:db8::1/", "INVALID_URL"),
        pytest.param(f"https://linkedin.com/{'a' * 2028}", "TOO_LONG", id="2049 characters"),
    ],
)
def test_anything_else_is_no_url(raw: object, code: str) -> None:
    assert _problems(MINIMAL | {"linkedin_profile_url": raw}) == [
        ("contact.linkedin_profile_url", code)
    ]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        pytest.param({"given_name": " Maya ", "family_name": "L"}, "Maya L", id="both, joined"),
        pytest.param({"given_name": "Maya"}, "Maya", id="given alone"),
        pytest.param({"family_name": "Lindqvist"}, "Lindqvist", id="family alone"),
        pytest.param({"name": " ", "given_name": "Maya"}, "Maya", id="instead of an empty one"),
        pytest.param({"name": "M", "given_name": "Maya"}, "M", id="not instead of a given one"),
        pytest.param({"given_name": " ", "family_name": ""}, None, id="nothing to join"),
        pytest.param({}, None, id="nothing given"),
    ],
)
def test_the_name_defaults_to_given_and_family_name_joined(
    raw: dict[str, str], name: str | None
) -> None:
    assert _valid(**raw).name == name


def test_a_joined_name_has_255_characters_at_most() -> None:
    fits = _valid(given_name="a" * 127, family_name="b" * 127)

    assert len(fits.name or "") == 255
    assert _problems(MINIMAL | {"given_name": "a" * 128, "family_name": "b" * 127}) == [
        ("contact.name", "TOO_LONG")
    ]


def test_a_given_name_need_not_be_as_short_as_a_joined_one() -> None:
    contact = _valid(name="A B", given_name="a" * 255, family_name="b" * 255)

    assert contact.name == "A B"


def test_the_length_of_a_joined_name_is_that_of_its_stored_form() -> None:
    raw = {"email": "maya", "given_name": "e\u0301" * 127, "family_name": "e\u0301" * 127}

    assert _problems(MINIMAL | raw) == [("contact.email", "INVALID_EMAIL")]


@pytest.mark.parametrize("name", [None, "", " \u200b\n"], ids=ascii)
def test_a_joined_name_that_is_too_long_is_reported_with_the_other_problems(
    name: str | None,
) -> None:
    raw = {"email": "maya", "name": name, "given_name": "a" * 200, "family_name": "b" * 200}

    assert set(_problems(MINIMAL | raw)) == {
        ("contact.email", "INVALID_EMAIL"),
        ("contact.name", "TOO_LONG"),
    }


def test_all_problems_are_reported_in_the_order_of_the_fields() -> None:
    raw = {
        "linkedin_profile_url": "linkedin.com",
        "phone": 123,
        "name": "a" * 256,
        "job_title": "a\x00",
        "email": "maya",
        "advertiser_id": 0,
        "given_name": "Maya",
    }

    assert _problems(raw) == [
        ("contact.advertiser_id", "OUT_OF_RANGE"),
        ("contact.email", "INVALID_EMAIL"),
        ("contact.name", "TOO_LONG"),
        ("contact.phone", "INVALID_TYPE"),
        ("contact.job_title", "INVALID_CHARACTERS"),
        ("contact.linkedin_profile_url", "INVALID_URL"),
    ]


def test_unknown_fields_are_ignored_and_can_be_named() -> None:
    raw = {"twitter": "@maya", **MINIMAL, "id": 7, "created_at": None}

    assert new_contact(raw) == _valid()
    assert unknown_fields(raw) == ("twitter", "id", "created_at")


@pytest.mark.parametrize("raw", [None, [], "text", MINIMAL, {}])
def test_where_no_field_is_unknown_none_is_named(raw: object) -> None:
    assert unknown_fields(raw) == ()


@pytest.mark.parametrize("name", ContactDetails._fields)
def test_every_field_has_a_sentence_that_describes_it(name: str) -> None:
    assert field_description(name).endswith(".")


@pytest.mark.parametrize("code", ProblemCode)
def test_every_problem_code_has_a_meaning(code: ProblemCode) -> None:
    assert code.meaning.endswith(".")


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
_TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=120)
_LIKELY = st.fixed_dictionaries(
    {
        "advertiser_id": st.integers(1, TOO_BIG - 1).flatmap(
            lambda number: st.sampled_from([number, str(number)])
        ),
        "email": st.emails() | st.sampled_from(["Maya@Example.COM", "jos\xe9@b\xfccher.example"]),
    },
    optional={name: st.none() | _TEXTS for name in TEXT_FIELDS}
    | {"linkedin_profile_url": st.sampled_from([None, "", " https://x.example/a ", "http://x"])},
)


@given(raw=_JSON | st.dictionaries(st.sampled_from((*ContactDetails._fields, "other")), _JSON))
def test_any_input_is_a_contact_or_has_problems(raw: object) -> None:
    found = new_contact(raw)

    if not isinstance(found, NewContact):
        assert found
        assert all(isinstance(problem, Problem) for problem in found)
        assert all(problem.path[0] == "contact" for problem in found)
        assert len({problem.path for problem in found}) == len(found)


@given(raw=_LIKELY)
def test_a_contact_is_a_valid_input(raw: dict[str, object]) -> None:
    found = new_contact(raw)

    if isinstance(found, NewContact):
        again = new_contact(found._asdict())
        assert again == found
        assert isinstance(again, NewContact)
        assert again.fingerprint() == found.fingerprint()
    else:  # only of an address may Hypothesis think otherwise than the e-mail library
        assert {problem.path for problem in found} == {("contact", "email")}


DETAILED = {"email": "maya@example.com", "advertiser_id": "1002", "name": "Maya", "phone": "1"}


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(DETAILED | {"advertiser_id": 1002}, id="the id as a number"),
        pytest.param(dict(reversed(DETAILED.items())), id="the fields in another order"),
        pytest.param(DETAILED | {"name": "  Maya "}, id="spaces around a text"),
        pytest.param(DETAILED | {"email": "\tmaya@example.com\n"}, id="blanks around the address"),
        pytest.param(DETAILED | {"email": "maya@EXAMPLE.com"}, id="the domain in capitals"),
        pytest.param(DETAILED | {"source": None, "status": ""}, id="null and empty fields"),
        pytest.param(DETAILED | {"twitter": "@maya"}, id="an unknown field"),
    ],
)
def test_the_same_input_has_the_same_fingerprint(same: dict[str, object]) -> None:
    assert _valid(**same).fingerprint() == _valid(**DETAILED).fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"advertiser_id": 1003}, id="advertiser"),
        pytest.param({"email": "Maya@example.com"}, id="e-mail"),
        pytest.param({"name": "maya"}, id="name"),
        pytest.param({"phone": None}, id="one field less"),
        pytest.param({"source": "web"}, id="one field more"),
        pytest.param({"phone": None, "source": "1"}, id="the same value in another field"),
    ],
)
def test_another_input_has_another_fingerprint(other: dict[str, object]) -> None:
    assert _valid(**DETAILED | other).fingerprint() != _valid(**DETAILED).fingerprint()


def test_a_fingerprint_has_32_bytes_whatever_the_input() -> None:
    contact = _valid()._replace(name="\U0001f600" * 255)

    assert len(contact.fingerprint()) == 32


@pytest.mark.parametrize("name", ["email", "advertiser_id"])
@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_required_field_is_reported_as_missing(name: str, empty: str | None) -> None:
    assert _problems(MINIMAL | {name: empty}) == [(f"contact.{name}", "REQUIRED")]


@pytest.mark.parametrize(
    "url", ["http://.", "http://-", "https://user:password@example.com/", "https://u@example.com"]
)
def test_a_url_without_a_real_host_or_with_credentials_is_refused(url: str) -> None:
    found = _problems(MINIMAL | {"linkedin_profile_url": url})

    assert found == [("contact.linkedin_profile_url", "INVALID_URL")]
