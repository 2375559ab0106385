"""The bodies of refusals in every format, and when they say that an address is taken."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.upstream.error_bodies import WHOLE_CONTACT, error_body_of, is_error
from support.faces import Json

INVALID = "Email is invalid"
TAKEN = "Email has already been taken"


def _paths(body: Json) -> dict[str, str]:
    """Return the messages of the problems in a body, by path."""
    return {".".join(problem.path): problem.message for problem in error_body_of(body).problems}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"details": {"problems": [{"path": "contact.email", "message": INVALID}]}}},
        {"error": {"details": {"email": [INVALID]}}},
        {"error": {"details": {"email": INVALID}}},
        {"error": {"details": {"email": {"message": INVALID}}}},
        {"error": {"details": {"contact": {"email": [INVALID]}}}},
        {"error": {"details": [{"field": "email", "message": INVALID}]}},
        {"error": {"errors": [{"field": "email", "message": INVALID}]}},
        {"error": {"email": [INVALID]}},
        {"errors": [{"source": {"pointer": "/data/attributes/email"}, "detail": INVALID}]},
        {"errors": [{"source": {"pointer": "/contact/email"}, "detail": INVALID}]},
        {"errors": [{"source": {"parameter": "contact[email]"}, "title": INVALID}]},
        {"errors": [{"field": "contact.email", "message": INVALID}]},
        {"errors": [{"field": "contact[email]", "message": INVALID}]},
        {"errors": [{"attribute": "attributes.email", "message": INVALID}]},
        {"errors": [{"field": "email", "error": INVALID}]},
        {"errors": {"email": [INVALID]}},
        {"errors": {"email": INVALID}},
        {"errors": {"contact.email": [INVALID]}},
        {"errors": {"contact": {"email": [INVALID]}}},
        {"errors": {"email": [{"error": "invalid", "message": INVALID}]}},
        {"details": [{"field": "email", "message": INVALID}]},
        {"details": {"email": [INVALID]}},
        {"email": [INVALID]},
        {"email": INVALID},
        {"contact": {"email": [INVALID]}},
        [{"field": "email", "message": INVALID}],
    ],
    ids=json.dumps,
)
def test_a_problem_has_its_path_in_every_format(body: Json) -> None:
    assert _paths(body) == {"contact.email": INVALID}


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [INVALID]},
        {"errors": INVALID},
        {"errors": {"base": [INVALID]}},
        {"errors": [{"detail": INVALID}]},
        {"error": [INVALID]},
        {"error": {"details": INVALID}},
        [INVALID],
    ],
    ids=json.dumps,
)
def test_a_problem_without_a_path_is_one_of_the_whole_contact(body: Json) -> None:
    assert _paths(body) == {"contact": INVALID}


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        {},
        {"error": {"details": {"email": "maya@example.com", "advertiser_id": 7, "hint": "Try it"}}},
        {"error": "Not found", "status": "Not Found", "source": "the API", "name": "Not Found"},
        {"data": {"email": "maya@example.com", "name": "Maya Lind"}},
        {"errors": [[[[[[INVALID]]]]]]},
        {"errors": [{}, 7, None]},
    ],
    ids=json.dumps,
)
def test_other_members_are_no_problems(body: Json) -> None:
    assert _paths(body) == {}


def test_a_field_without_a_message_is_a_problem() -> None:
    assert _paths({"errors": [{"field": "email"}]}) == {
        "contact.email": "HiEnergy refuses the value."
    }


def test_one_problem_in_two_formats_is_reported_once() -> None:
    body = {"errors": {"email": [INVALID]}, "details": {"email": [INVALID]}}

    assert len(error_body_of(body).problems) == 1


def test_the_number_of_problems_is_bounded() -> None:
    assert len(error_body_of({"errors": [f"problem {n}" for n in range(5000)]}).problems) == 100


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "Said."}}, "Said."),
        ({"error": {"code": "x"}, "message": "Said."}, "Said."),
        ({"message": "Said."}, "Said."),
        ({"error": "Said."}, "Said."),
        ({"error": "invalid_token", "error_description": "Said."}, "Said."),
        ({"title": "Unprocessable", "detail": "Said."}, "Said."),
        ({"title": "Said."}, "Said."),
        ("Said.", "Said."),
        ({"error": {"message": " "}}, None),
        ({"error": 7}, None),
    ],
)
def test_the_message_in_every_format(body: Json, message: str | None) -> None:
    assert error_body_of(body).message == message


@pytest.mark.parametrize(
    "body",
    [
        {"errors": {"email": ["has already been taken"]}},
        {"email": ["has already been taken"]},
        {"errors": [TAKEN]},
        {"errors": [{"source": {"pointer": "/data/attributes/email"}, "detail": TAKEN}]},
        {"errors": [{"field": "email", "message": "has already been taken"}]},
        {"errors": [{"field": "email", "message": "No.", "code": "TAKEN"}]},
        {"errors": {"email": [{"error": "taken", "value": "maya@example.com"}]}},
        {"errors": {"email": ["must be unique"]}},
        {"errors": {"email": ["is already in use"]}},
        {"errors": {"base": ["This address is already registered."]}},
        {"errors": ["A contact with this e-mail address already exists for this advertiser."]},
        {"errors": ["Duplicate contact"]},
    ],
    ids=json.dumps,
)
def test_an_address_is_taken(body: Json) -> None:
    problems = error_body_of(body).problems

    assert [problem.is_taken_address() for problem in problems] == [True]


@pytest.mark.parametrize(
    "body",
    [
        {"errors": {"phone": ["has already been taken"]}},
        {"errors": ["Phone has already been taken"]},
        {"errors": ["Advertiser has already been taken"]},
        {"errors": ["Validation failed: Email has already been taken, Name is too long"]},
        {"errors": [{"message": "Linkedin profile url already exists", "code": "taken"}]},
        {"errors": {"email": ["is invalid"]}},
        {"errors": ["This idempotency key was used before with a different input."]},
    ],
    ids=json.dumps,
)
def test_something_else_is_wrong(body: Json) -> None:
    problems = error_body_of(body).problems

    assert [problem.is_taken_address() for problem in problems] == [False]


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"error": "x"}, True), ("x", True), ({}, False), ("", False), (None, False), ([], False)],
)
def test_an_error_is_an_object_or_a_text(body: Json, *, expected: bool) -> None:
    assert is_error(body) is expected


_NAMES = st.sampled_from(
    (
        *("error", "errors", "details", "problems", "source", "pointer", "field", "message"),
        *("code", "contact", "data", "email", "name", "base", "title", ""),
    )
)
_BODIES = st.recursive(
    st.none() | st.integers() | st.text() | st.just(TAKEN),
    lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner),
    max_leaves=30,
)


@given(_BODIES)
def test_no_body_breaks_it(body: Json) -> None:
    error = error_body_of(body)

    assert isinstance(error.details, Mapping)
    for problem in error.problems:
        assert problem.path[:1] == WHOLE_CONTACT
        assert problem.message
        problem.is_taken_address()


@pytest.mark.parametrize("name", ["errors", "error", "details", "contact", "data"])
def test_a_deep_body_breaks_nothing(name: str) -> None:
    body: Json = TAKEN
    for _ in range(900):
        body = {name: [body]} if name == "errors" else {name: body}

    assert error_body_of(body).problems == ()
