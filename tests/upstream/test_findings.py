"""Findings of answers that the fake HiEnergy does not give."""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.outcomes import Created, Previewed
from contact_gateway.upstream.calls import Call, Response
from contact_gateway.upstream.check import calls
from contact_gateway.upstream.check.answers import Answer, Reads
from contact_gateway.upstream.check.calls import check
from contact_gateway.upstream.check.findings import findings_of_reads
from contact_gateway.upstream.check.report import report_of
from contact_gateway.upstream.check.shapes import names_and_types, owner_of, row_of
from contact_gateway.upstream.check.trial import TrialContact
from contact_gateway.upstream.responses import creation_answer_of, dry_run_answer_of
from contact_gateway.variables import SettingsError
from support.contacts import submitted
from support.faces import Json

UNANSWERED: Final = Answer("GET /", reason="it was not sent")
NOW: Final = 1_900_000_000.0


def answer(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer("GET /x", Response(status, headers or {}, body), NOW)


def rows(*fields: Mapping[str, Json], **beside: Json) -> Answer:
    """Return a list whose rows have ids from 1 on."""
    data = [{"id": number, "attributes": each} for number, each in enumerate(fields, 1)]
    return answer({"data": data, **beside})


def found(
    *,
    email: str | None = None,
    advertiser_id: str | None = None,
    is_owner: bool = False,
    **answers: Answer,
) -> Mapping[str, str]:
    """Return what is found, by the question's key. The other calls are unanswered."""
    every = {
        name: answers.pop(name, UNANSWERED)
        for name in (
            "contacts",
            "next_contacts",
            "large_page",
            "contacts_by_email",
            "contacts_by_absent_email",
            "contact",
            "advertisers",
            "advertiser",
            "contacts_of_advertiser",
            "contacts_by_advertiser",
            "advertisers_by_hienergy_id",
            "absent_advertiser",
        )
    }
    assert not answers
    reads = Reads(**every, email=email, advertiser_id=advertiser_id, is_owner=is_owner)
    return {finding.key: finding.found for finding in findings_of_reads(reads)}


def test_without_answers_no_question_is_answered() -> None:
    assert {text.partition(":")[0] for key, text in found().items() if key != "rate_limit"} == {
        "not known"
    }


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        ({"data": []}, "`data`"),
        ({"contacts": {"data": []}, "meta": {}}, "`data` in a root key"),
        ({"contacts": []}, "a root key without `data`"),
        ({"data": {"contacts": []}}, "`data` in a root key"),
        ([], "not known: the answer to GET /x cannot be read"),
        ({"id": 1}, "not known: the answer to GET /x cannot be read"),
        ({"error": "x"}, "not known: the answer to GET /x cannot be read"),
        ("x", "not known: the answer to GET /x cannot be read"),
    ],
)
def test_envelopes(body: Json, envelope: str) -> None:
    assert found(contacts=answer(body))["envelope"] == envelope


def test_an_operation_with_other_methods_alone_does_not_exist() -> None:
    refused = answer(None, 405)
    findings = found(contact=refused, contacts_of_advertiser=refused)

    assert findings["single_contact"] == "no: 405 for a listed contact"
    assert findings["advertiser_contacts"] == "no: 405"
    assert findings["missing_operation"].startswith("405: ")


@pytest.mark.parametrize(
    ("fields", "rating"),
    [({"rating": 3}, "shown"), ({"rating": 0}, "shown; some listed contacts are below 1")],
)
def test_ratings(fields: Mapping[str, Json], rating: str) -> None:
    assert found(contacts=rows(fields))["rating"] == rating


@pytest.mark.parametrize(
    ("first", "second", "pages"),
    [
        (rows({}, {}, {}), rows({}, {}), "`per_page` is ignored"),
        (rows({}, {}), rows({}, {}), "`page` is ignored"),
        (rows({}, {}), rows({"name": "x"}), "obeyed"),
        (rows({}, {}), answer(None, 500), "not known: GET /x was answered with 500"),
    ],
)
def test_page_numbers(first: Answer, second: Answer, pages: str) -> None:
    assert found(contacts=first, next_contacts=second)["page_numbers"] == pages


@pytest.mark.parametrize(
    ("large_page", "size"),
    [
        (answer({"error": "x"}, 422), "refused with 422"),
        (answer({"data": [], "meta": {"per_page": 77_000}}), "not known"),
        (rows({}, meta={"per_page": 100, "next_page": 2}), "clamped to 1"),
        (rows({}, meta={"next_cursor": ""}), "not known"),
        (rows(*[{}] * 1000), "not clamped"),
    ],
)
def test_the_largest_page(large_page: Answer, size: str) -> None:
    assert found(large_page=large_page)["largest_page"].partition(":")[0] == size


def test_an_address_that_is_listed_and_not_found() -> None:
    result = found(
        contacts_by_email=rows(), contacts_by_absent_email=rows(), email="maya@example.com"
    )

    assert result["email_filter"] == "finds nothing, though the address is listed"


@pytest.mark.parametrize(
    ("listed", "of_one", "result"),
    [
        ("78", rows(), "finds nothing, though a contact is listed"),
        ("78", rows({"advertiser_id": 7}), "obeyed"),
        ("78", rows({"advertiser_id": 8}), "ignored"),
        ("77", rows({"advertiser_id": 7}), "not known"),
    ],
)
def test_the_filter_by_advertiser(listed: str, of_one: Answer, result: str) -> None:
    contacts = rows(*({"advertiser_id": int(owner)} for owner in listed))
    every = found(
        contacts=contacts, contacts_by_advertiser=of_one, advertiser_id="7", is_owner=True
    )

    assert every["advertiser_filter"].partition(":")[0] == result


def test_a_contact_without_an_advertiser() -> None:
    assert found(contacts=rows({"advertiser_name": "x"}))["owner"] == "missing"


@pytest.mark.parametrize(
    ("own", "general", "unrated"),
    [
        (rows({"rating": 0}), rows(), "yes: some have a rating below 1"),
        (rows({}), rows(has_more=True), "not known: the general list has more than one page"),
        (rows({}), rows(), "not known: the general list has more than one page"),
        (rows({}, {}), rows({}, has_more=False), "yes"),
        (rows({}), rows({}, {}, has_more=False), "none seen"),
    ],
)
def test_contacts_that_are_in_the_list_of_their_advertiser_alone(
    own: Answer, general: Answer, unrated: str
) -> None:
    result = found(contacts_of_advertiser=own, contacts_by_advertiser=general)

    assert result["advertiser_contacts_unrated"] == unrated


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({"publisher_name": "hienergy "}, "`publisher_name` is HiEnergy"),
        (
            {"publisher_name": "HiEnergy", "network_name": "HIENERGY"},
            "`publisher_name`, `network_name` is HiEnergy",
        ),
        ({"publisher_name": 1}, "nothing, on the advertiser of a contact"),
    ],
)
def test_marks(fields: Mapping[str, Json], mark: str) -> None:
    record = answer({"data": {"id": 1, "attributes": fields}})

    assert found(advertiser=record, is_owner=True)["mark"] == mark


def test_no_mark_on_any_advertiser_says_nothing() -> None:
    result = found(advertisers=rows({"network_name": "CJ"}))

    assert result["mark"] == "not known: no advertiser that was listed has a mark"


@pytest.mark.parametrize(
    ("filtered", "result"),
    [
        (rows({}), "obeyed"),
        (rows({}, {}), "ignored"),
        (answer({"error": "x"}, 400), "refused with 400"),
    ],
)
def test_the_filter_by_hienergy_id(filtered: Answer, result: str) -> None:
    every = found(advertisers=rows({}, {}), advertisers_by_hienergy_id=filtered)

    assert every["hienergy_id_filter"] == result


@pytest.mark.parametrize(
    ("body", "headers", "form"),
    [
        ({"email": ["is invalid"]}, {}, "404: an object of fields"),
        ({"errors": ["Email is invalid"]}, {}, "404: `errors` is a list of texts"),
        (["x"], {}, "404: other JSON"),
        (None, {"Content-Type": "text/plain"}, "404: neither JSON nor HTML"),
    ],
)
def test_bodies_of_errors(body: Json, headers: dict[str, str], form: str) -> None:
    assert found(absent_advertiser=answer(body, 404, headers))["error_body"] == form


def test_a_missing_operation_with_json() -> None:
    result = found(contact=answer({"error": "no route"}, 404))

    assert result["missing_operation"] == "404: `error` is a text"


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("3600", "seconds left"),
        ("1900000000", "seconds since 1970"),
        ("1900000000000", "milliseconds since 1970"),
        ("500000", "not known: the number is in no known unit"),
        ("soon", "not known: it is not a number"),
    ],
)
def test_units_of_the_reset(value: str, unit: str) -> None:
    result = found(contacts=answer({"data": []}, headers={"X-RateLimit-Reset": value}))

    assert result["rate_limit_reset"] == unit


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({}, "no `X-RateLimit-Limit`"),
        ({"X-RateLimit-Limit": "1000, 1000;w=3600"}, "not a number"),
        ({"X-RateLimit-Limit": "1000"}, "1000 calls"),
    ],
)
def test_rate_limits(headers: dict[str, str], limit: str) -> None:
    assert found(contacts=answer({"data": []}, headers=headers))["rate_limit"] == limit


@pytest.mark.parametrize(
    ("date", "clock"),
    [
        (formatdate(NOW, usegmt=True), "within 2 s of this machine"),
        (formatdate(NOW + 60, usegmt=True), "60 s ahead of this machine"),
        (formatdate(NOW - 60, usegmt=True), "60 s behind this machine"),
        ("noon", "not known: `Date` is not a date"),
    ],
)
def test_clocks(date: str, clock: str) -> None:
    assert found(contacts=answer({"data": []}, headers={"Date": date}))["clock"] == clock


def test_types_of_a_deep_document_are_few() -> None:
    deep: Json = []
    for _ in range(900):
        deep = [{"data": deep}]
    wide = {f"name_{number}": 1 for number in range(10_000)}

    assert len(names_and_types({"data": deep})) < 20
    assert len(names_and_types({"data": wide})) == 200


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "error", "errors", "id"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELD_NAMES: Final = (
    "advertiser",
    "advertiser_id",
    "created_at",
    "dry_run",
    "email",
    "hienergy_id",
    "name",
    "network_name",
    "rating",
    "updated_at",
)
FIELDS: Final = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELD_NAMES, JSON))
ROW: Final = (
    st.builds(lambda id_, fields: {"id": id_, **fields}, JSON, FIELDS)
    | st.fixed_dictionaries({"id": st.integers() | st.text(max_size=3), "attributes": FIELDS})
    | JSON
)
BESIDE: Final = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("has_more", "meta", "next_page", "pagination", "per_page"), JSON),
)
DOCUMENT: Final = (
    st.builds(lambda data, beside: {"data": data, **beside}, st.lists(ROW, max_size=3), BESIDE)
    | st.builds(lambda data, beside: {"data": data, **beside}, ROW, BESIDE)
    | st.builds(lambda data: {"contacts": data}, st.lists(ROW, max_size=3))
    | JSON
)


@pytest.mark.anyio
@settings(max_examples=60)
@given(
    responses=st.lists(
        st.builds(
            Response,
            st.sampled_from([*[200] * 12, 201, 204, 302, 400, 401, 404, 409, 422, 429, 500]),
            st.dictionaries(
                st.sampled_from(["Date", "Retry-After", "X-RateLimit-Reset"]), st.text(max_size=9)
            ),
            DOCUMENT,
        ),
        min_size=12,
        max_size=24,
    )
)
async def test_no_answer_breaks_the_check(responses: list[Response]) -> None:
    count = 0

    async def send(_: Call) -> Response:
        nonlocal count
        count += 1
        return responses[count % len(responses)]

    trial = TrialContact(2001, "maya@example.com", tries_dry_run=True)
    try:
        result = await check(send, Credential.of("key"), trial)
    except SettingsError:
        return
    assert report_of(result, "https://app.hienergy.ai/api/v1")


SAYS: Final[Json] = {"dry_run": True}
MAYA: Final[Json] = {"id": 7, "attributes": {"email": "maya+dry-run@example.com"}}
DRY_RUNS: Final[Mapping[str, Json]] = {
    "beside data": {"data": MAYA, **SAYS},
    "in meta beside data": {"data": MAYA, "meta": SAYS},
    "in the record": {"data": {**MAYA, **SAYS}},
    "in meta of the record": {"data": {**MAYA, "meta": SAYS}},
    "in attributes": {"data": {"id": 7, "attributes": SAYS}},
    "in a flat record": {"data": {"id": 7, **SAYS}},
    "beside data in a root key": {"contact": {"data": MAYA, **SAYS}},
    "in meta beside data in a root key": {"contact": {"data": MAYA, "meta": SAYS}},
    "in meta of the root key": {"contact": {**MAYA, "meta": SAYS}},
    "in meta beside a root key": {"contact": {"data": MAYA}, "meta": SAYS},
}


@pytest.mark.anyio
@pytest.mark.parametrize("body", DRY_RUNS.values(), ids=list(DRY_RUNS))
@pytest.mark.parametrize("status", [200, 201])
async def test_the_check_and_the_gateway_read_one_dry_run_alike(body: Json, status: int) -> None:
    response = Response(status, {}, body)
    listed: Json = {"data": []}

    async def send(call: Call) -> Response:
        return response if call.query == {"dry_run": "true"} else Response(200, {}, listed)

    trial = TrialContact(2001, "maya@example.com", tries_dry_run=True)
    result = await check(send, Credential.of("key"), trial)

    finding = next(each for each in result.findings if each.key == "dry_run")
    assert finding.found == f"honoured: {status} says `dry_run`"
    contact = submitted(advertiser_id=2001, email="maya+dry-run@example.com")
    assert isinstance(dry_run_answer_of(response, contact), Previewed)


UUID: Final = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


@pytest.mark.anyio
async def test_no_contact_is_created_for_an_address_that_one_with_an_unreadable_id_has() -> None:
    listed: Json = {"data": [{"id": UUID, "attributes": {"email": "maya@example.com"}}]}
    methods = []

    async def send(call: Call) -> Response:
        methods.append(call.method)
        return Response(200, {}, listed)

    trial = TrialContact(2001, "maya@example.com", tries_dry_run=False)
    await check(send, Credential.of("key"), trial)

    assert set(methods) == {"GET"}


@pytest.mark.parametrize(
    "owner",
    [
        {"relationships": {"advertiser": {"data": {"id": "1001"}}}},
        {"advertiser_id": "northwind", "advertiser": {"id": 1001}},
    ],
    ids=["in relationships", "beside a slug"],
)
def test_the_check_and_the_gateway_read_one_owner_alike(owner: Json) -> None:
    row = row_of({"id": 7, "email": "maya@example.com", **owner})

    assert row is not None
    assert owner_of(row) == "1001"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("record", "rows", "creation"),
    [
        (
            {"id": UUID, "attributes": {"email": "maya@example.com"}},
            "some rows are no object with a numeric id",
            "201 without a numeric id",
        ),
        (
            {"attributes": {"id": 7, "email": "maya@example.com"}, "created_at": "2026-01-31"},
            "`id`, `type`, `attributes`",
            "201 with the contact",
        ),
    ],
    ids=["an id that the gateway cannot read", "an id in attributes"],
)
async def test_the_check_and_the_gateway_read_one_record_alike(
    record: Json, rows: str, creation: str
) -> None:
    list_of_it: Json = {"data": [record]}

    async def send(call: Call) -> Response:
        is_creation = call.method == "POST"
        return Response(*((201, {}, {"data": record}) if is_creation else (200, {}, list_of_it)))

    trial = TrialContact(2001, "noor@example.com", tries_dry_run=False)
    result = await check(send, Credential.of("key"), trial)
    answered = creation_answer_of(
        Response(201, {}, {"data": record}),
        submitted(advertiser_id=2001, email="noor@example.com"),
    )

    findings = {each.key: each.found for each in result.findings}
    assert (findings["rows"], findings["creation"]) == (rows, creation)
    assert isinstance(answered, Created) == (creation == "201 with the contact")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a new contact three times without pauses."""
    monkeypatch.setattr(calls, "LOOK_AFTER_SECONDS", (0.0, 0.0, 0.0))
