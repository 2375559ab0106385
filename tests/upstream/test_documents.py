"""The readers of upstream's documents: each shape, each name of a field, and anything as a row."""

import tracemalloc
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.source import PageRequest
from contact_gateway.upstream.documents import (
    ADVERTISERS,
    CONTACTS,
    UnreadableError,
    advertiser_of,
    contact_of,
    page_of,
    resource_of,
)
from support.faces import Json

RECORD: Final = {"id": "7", "type": "contact", "attributes": {"advertiser_id": 1001}}
REQUESTED: Final = PageRequest(number=2, size=3)
NOON: Final = "2026-01-31T12:00:00.000Z"
NOTHING_SHOWN: Final = {**dict.fromkeys(Contact._fields), "id": 7, "advertiser_id": 1}


@pytest.mark.parametrize(
    "body",
    [
        {"data": RECORD},
        {"contact": RECORD},
        {"contact": {"data": RECORD}},
        {"contacts": {"data": RECORD}},
        {"data": {"contact": RECORD}},
        {"id": "a request", "data": RECORD},
        {"data": None, "contact": RECORD},
    ],
    ids=str,
)
def test_a_record_is_below_data_or_a_root_key_or_both(body: Json) -> None:
    assert resource_of(body, CONTACTS) == RECORD


@pytest.mark.parametrize("body", [None, [], "data", RECORD, {"meta": {}}, {"advertiser": RECORD}])
def test_any_other_document_has_no_record(body: Json) -> None:
    with pytest.raises(UnreadableError):
        contact_of(resource_of(body, CONTACTS))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"job_title": "Buyer", "title": "Ms"}, {"job_title": "Buyer"}),
        ({"job_title": "", "title": "Buyer"}, {"job_title": "Buyer"}),
        ({"title": "Buyer"}, {"job_title": "Buyer"}),
        ({"linkedin_profile_url": "a"}, {"linkedin_profile_url": "a"}),
        ({"linkedin_url": "a"}, {"linkedin_profile_url": "a"}),
        ({"linkedin": "a"}, {"linkedin_profile_url": "a"}),
        ({"advertiser_id": "1001"}, {"advertiser_id": 1001}),
        ({"advertiser_id": "northwind"}, {}),
        ({"advertiser_id": 2**63}, {}),
        ({"advertiser_id": True}, {}),
        (
            {"advertiser": {"id": "1001", "name": "Northwind"}},
            {"advertiser_id": 1001, "advertiser_name": "Northwind"},
        ),
        (
            {"advertiser_id": "northwind", "advertiser": {"id": 1001}},
            {"advertiser_id": 1001},
        ),
        ({"advertiser": "Northwind"}, {}),
        (
            {"relationships": {"advertiser": {"data": {"type": "advertiser", "id": "1001"}}}},
            {"advertiser_id": 1001},
        ),
        ({"relationships": {"advertiser": {"data": None}}}, {}),
        ({"relationships": "advertiser"}, {}),
        ({"phone": 4681234567}, {"phone": "4681234567"}),
        ({"phone": True}, {}),
        ({"name": " "}, {}),
        ({"name": ["Maya"], "email": {"work": "maya@example.com"}}, {}),
        ({"created_at": "2026-01-31T13:00:00+01:00"}, {"created_at": NOON}),
        ({"created_at": "2026-01-31 12:00:00"}, {"created_at": NOON}),
        ({"created_at": "yesterday", "updated_at": [1]}, {}),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, {}),
        ({"created_at": "2026-01-31", "updated_at": 20260131}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_flat", [True, False], ids=["flat", "attributes"])
def test_a_field_is_known_by_each_of_its_names(
    shown: Json, expected: dict[str, Json], *, is_flat: bool
) -> None:
    row = {"id": 7, **shown} if is_flat else {"id": "7", "type": "contact", "attributes": shown}

    contact = contact_of(row, advertiser_id=1)

    assert contact._asdict() == {**NOTHING_SHOWN, **expected}


def test_the_owner_of_a_contact_may_be_given() -> None:
    of_another = {"id": 7, "advertiser_id": 1002}

    assert contact_of({"id": 7}, advertiser_id=1001).advertiser_id == 1001
    assert contact_of(of_another, advertiser_id=1001).advertiser_id == 1002


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"advertiser_id": 1}, "id"),
        ({"id": "x", "advertiser_id": 1}, "id"),
        ({"id": 7}, "advertiser_id"),
    ],
)
def test_a_contact_needs_an_id_and_an_owner(row: Json, field: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        contact_of(row)

    assert caught.value.fields == (field,)


@pytest.mark.parametrize(
    ("shown", "hienergy_id"),
    [
        ({"network_name": "HiEnergy"}, 7),
        ({"network_name": "HIENERGY"}, 7),
        ({"network_name": "Impact", "publisher_name": "HiEnergy"}, 7),
        ({"publisher_name": " hienergy "}, 7),
        ({"network_name": "HiEnergy", "hienergy_id": 8}, 7),
        ({"network_name": "Impact", "hienergy_id": "8"}, 8),
        ({"network_name": "Impact", "publisher_name": "HiEnergy Media"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_hienergy_record_is_marked_by_its_network_or_its_publisher(
    shown: Json, hienergy_id: int | None
) -> None:
    record = advertiser_of({"id": "7", "attributes": {"name": "Northwind", **shown}})

    assert record.hienergy_id == hienergy_id
    assert record.is_hienergy == (hienergy_id == 7)


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ({"name": "a", "display_name": "b", "slug": "c"}, "a"),
        ({"display_name": "b", "slug": "c"}, "b"),
        ({"slug": "c"}, "c"),
    ],
)
def test_an_advertiser_is_named_by_what_it_shows(shown: Json, name: str) -> None:
    assert advertiser_of({"id": 7, **shown}).name == name


@pytest.mark.parametrize("row", [None, [], {"name": "a"}, {"id": 7}])
def test_an_advertiser_needs_an_id_and_a_name(row: Json) -> None:
    with pytest.raises(UnreadableError):
        advertiser_of(row)


def _rows(count: int) -> list[Json]:
    return [{"id": number, "advertiser_id": 1001} for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("beside", "number", "size", "has_more"),
    [
        pytest.param({"meta": {"has_more": True}}, 2, 3, True, id="has_more"),
        pytest.param({"meta": {"has_more": False, "next_page": 3}}, 2, 3, False, id="no more"),
        pytest.param({"meta": {"next_page": 3}}, 2, 3, True, id="next_page"),
        pytest.param({"meta": {"next_page": None}}, 2, 3, False, id="no next_page"),
        pytest.param({"meta": {"next_cursor": "x"}}, 2, 3, True, id="next_cursor"),
        pytest.param({"meta": {"next_cursor": None}}, 2, 3, False, id="no next_cursor"),
        pytest.param({"has_more": False}, 2, 3, False, id="beside data"),
        pytest.param({"pagination": {"current_page": "4"}}, 4, 3, True, id="pagination"),
        pytest.param({"meta": {"pagination": {"per_page": 9}}}, 2, 9, False, id="in meta"),
        pytest.param({"meta": {"limit": 4}}, 2, 4, False, id="limit"),
        pytest.param({"meta": {"current_page": 0, "per_page": 2**31}}, 2, 3, True, id="invalid"),
        pytest.param({"meta": {"current_page": "x", "has_more": "x"}}, 2, 3, True, id="texts"),
        pytest.param({"meta": ["x"], "pagination": 1}, 2, 3, True, id="odd types"),
        pytest.param({}, 2, 3, True, id="a full page"),
    ],
)
@pytest.mark.parametrize("root", [None, "contacts"])
def test_the_paging_is_read_wherever_it_is(
    beside: Json, number: int, size: int, root: str | None, *, has_more: bool
) -> None:
    body = {"data": _rows(3), **beside}
    page = page_of(body if root is None else {root: body}, CONTACTS, REQUESTED, contact_of)

    assert page.request == PageRequest(number, size)
    assert page.has_more == has_more
    assert [contact.id for contact in page.items] == [1, 2, 3]


def test_one_record_is_a_page_of_one() -> None:
    (row,) = _rows(1)

    assert [one.id for one in page_of({"data": row}, CONTACTS, REQUESTED, contact_of).items] == [1]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_page_that_is_not_full_is_the_last(rows: int) -> None:
    assert not page_of({"data": _rows(rows)}, CONTACTS, REQUESTED, contact_of).has_more


def test_rows_that_are_left_out_count_for_a_full_page() -> None:
    page = page_of({"data": [*_rows(2), None]}, CONTACTS, REQUESTED, contact_of)

    assert (len(page.items), page.skipped, page.has_more) == (2, 1, True)


def test_the_log_has_the_fields_of_unreadable_rows_and_no_values() -> None:
    rows = [{"id": "secret-1", "advertiser_id": 1}, {"id": 7, "advertiser_id": "secret-2"}]
    with capture_logs() as lines:
        page_of({"data": [*rows, *rows]}, CONTACTS, REQUESTED, contact_of)
        page_of({"data": _rows(1)}, CONTACTS, REQUESTED, contact_of)

    (line,) = lines
    assert line["rows"] == 4
    assert line["missing"] == ["advertiser_id", "id"]
    assert "secret" not in str(line)


def test_rows_that_are_left_out_take_no_memory() -> None:
    """Each exception takes a kilobyte, and a page of 4 MiB may have two million rows."""
    body = {"data": [None] * 10_000}

    tracemalloc.start()
    try:
        page = page_of(body, CONTACTS, REQUESTED, contact_of)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert page.skipped == 10_000
    assert peak < 1_000_000


_NAMES = st.sampled_from(
    (
        *Contact._fields,
        "attributes",
        "relationships",
        "data",
        "advertiser",
        "network_name",
        "meta",
        "contacts",
    )
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(_NAMES | st.text(), children),
    max_leaves=10,
)


@given(odd=_JSON)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_anything_as_a_row_leaves_the_others_of_its_page(odd: Json) -> None:
    body = {"data": [{"id": 8, "advertiser_id": 1001, "name": "Maya"}, odd]}
    contacts = page_of(body, CONTACTS, REQUESTED, contact_of)
    advertisers = page_of(body, ADVERTISERS, REQUESTED, advertiser_of)

    assert contacts.items[0].id == advertisers.items[0].id == 8
    assert len(contacts.items) + contacts.skipped == 2
    assert len(advertisers.items) + advertisers.skipped == 2


@given(body=_JSON)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_anything_as_a_document_is_a_page_or_unreadable(body: Json) -> None:
    for odd in (body, {"data": [], "meta": body}, {"contacts": body}):
        try:
            page = page_of(odd, CONTACTS, REQUESTED, contact_of)
        except UnreadableError:
            continue
        assert page.request.number >= 1
        assert page.request.size >= 1
