"""The fake HiEnergy: each switch does what its name says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import pytest

from support.clock import WATCHDOG_SECONDS
from support.faces import Json
from support.hienergy import (
    MEMBER_KEY,
    DomainSearch,
    DryRun,
    Duplicates,
    ErrorBody,
    Fault,
    HiEnergy,
    Mark,
    Paging,
    Rows,
    Shown,
    Traits,
    fake_hienergy,
    jwt,
)
from support.upstream import KEY

pytestmark = pytest.mark.anyio

MAYA: Final = "maya@example.com"
NOON: Final = datetime(2026, 1, 31, 12, 20, tzinfo=UTC)
TAKEN: Final = "has already been taken"
NO_SUCH: Final = "Advertiser not found."


@dataclass(frozen=True, slots=True)
class Client:
    """A client of a fake, and the fake."""

    http: httpx.AsyncClient
    hienergy: HiEnergy

    async def create(
        self,
        email: str = MAYA,
        *,
        advertiser_id: int = 2001,
        dry_run: bool = False,
        headers: dict[str, str] | None = None,
        **fields: Json,
    ) -> httpx.Response:
        contact = {"advertiser_id": advertiser_id, "email": email, **fields}
        return await self.http.post(
            "/contacts",
            params={"dry_run": "true"} if dry_run else {},
            json={"contact": contact},
            headers=headers,
        )

    async def data(self, path: str, **query: str | int) -> Json:
        response = await self.http.get(path, params=query or None)
        assert response.status_code == 200
        return response.json()["data"]

    async def emails(self, path: str = "/contacts", **query: str | int) -> list[Json]:
        return [row["attributes"]["email"] for row in await self.data(path, **query)]


@asynccontextmanager
async def _client(hienergy: HiEnergy) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(
        base_url=hienergy.url,
        headers={"X-Api-Key": KEY},
        trust_env=False,
        timeout=WATCHDOG_SECONDS,
    ) as http:
        yield Client(http, hienergy)


@asynccontextmanager
async def _fake(**traits: Json) -> AsyncIterator[Client]:
    async with fake_hienergy(Traits(**traits)) as hienergy, _client(hienergy) as client:
        yield client


async def _created(**traits: Json) -> httpx.Response:
    """Return the answer to a creation."""
    async with _fake(**traits) as client:
        return await client.create(job_title="Buyer")


async def _data_of_list(path: str, **traits: Json) -> Json:
    """Return the `data` of a list where there is one rated contact."""
    async with _fake(**traits) as client:
        client.hienergy.add(MAYA, job_title="Buyer", created_at=NOON)
        return await client.data(path)


class TestCreations:
    async def test_a_contact_is_created_on_the_hienergy_record(self) -> None:
        async with _fake() as client:
            response = await client.create(job_title="Buyer", unheard_of="x")
            (contact,) = client.hienergy.contacts

            assert response.status_code == 201
            assert response.json()["data"] == {
                "id": "1",
                "type": "contact",
                "attributes": {
                    "advertiser_id": "1001",
                    "advertiser_name": "Northwind Outfitters",
                    "email": MAYA,
                    "name": None,
                    "given_name": None,
                    "family_name": None,
                    "phone": None,
                    "job_title": "Buyer",
                    "source": None,
                    "status": None,
                    "linkedin_profile_url": None,
                },
            }
            assert (contact.id, contact.advertiser_id, contact.email) == (1, 1001, MAYA)
            assert [arrival.contact["email"] for arrival in client.hienergy.creations] == [MAYA]
            assert len(client.hienergy.requests) == 1

    async def test_the_alias_creates_too(self) -> None:
        async with _fake() as client:
            contact = {"advertiser_id": "1002", "email": MAYA}
            response = await client.http.post("/contacts/add", json={"contact": contact})

            assert response.status_code == 201
            assert client.hienergy.contacts[0].advertiser_id == 1002

    @pytest.mark.parametrize("advertiser_id", [999, 3001, "northwind", None])
    async def test_an_advertiser_that_does_not_resolve_is_404(self, advertiser_id: Json) -> None:
        async with _fake() as client:
            response = await client.create(advertiser_id=advertiser_id)

            assert response.status_code == 404
            assert response.json()["error"]["code"] == "NOT_FOUND"
            assert client.hienergy.contacts == []

    @pytest.mark.parametrize("status", [400, 422])
    async def test_bad_input(self, status: int) -> None:
        async with _fake(status_of_bad_input=status) as client:
            assert (await client.create("no address")).status_code == status
            assert (await client.http.post("/contacts", json={})).status_code == status
            assert (await client.http.get("/contacts?page=0")).status_code == status
            assert (await client.http.post("/contacts", content="{")).status_code == 400
            assert client.hienergy.contacts == []

    @pytest.mark.parametrize(
        ("shown", "status", "text"),
        [
            (Shown.ID_ALONE, 201, '{"data": {"id": "1"}}'),
            (Shown.EMPTY_DATA, 201, '{"data": {}}'),
            (Shown.NO_CONTENT, 204, ""),
        ],
    )
    async def test_what_a_creation_shows(self, shown: Shown, status: int, text: str) -> None:
        response = await _created(creation_shows=shown)

        assert (response.status_code, response.text) == (status, text)

    async def test_a_creation_may_not_show_its_advertiser(self) -> None:
        attributes = (await _created(shows_owner=False)).json()["data"]["attributes"]

        assert attributes["email"] == MAYA
        assert not any(name.startswith("advertiser") for name in attributes)

    async def test_an_idempotency_key_is_ignored_or_honoured(self) -> None:
        async with _fake() as client:
            headers = {"Idempotency-Key": "k"}
            await client.create(headers=headers)
            again = await client.create(headers=headers)
            client.hienergy.traits.honours_idempotency_key = True
            replay = await client.create(headers=headers)
            other = await client.create(headers={"Idempotency-Key": "other"})
            reused = await client.create(email="noor@example.com", headers=headers)

            assert reused.status_code == 422
            assert [r.json()["data"]["id"] for r in (again, replay, other)] == ["2", "2", "3"]
            assert replay.status_code == 201
            assert len(client.hienergy.contacts) == 3
            assert [
                arrival.headers["idempotency-key"] for arrival in client.hienergy.creations
            ] == [
                *("k", "k", "k"),
                "other",
            ]

    async def test_a_dry_run_that_is_ignored_creates_a_contact(self) -> None:
        async with _fake() as client:
            response = await client.create(dry_run=True)

            assert (response.status_code, len(client.hienergy.contacts)) == (201, 1)

    async def test_a_dry_run_with_a_message(self) -> None:
        async with _fake(dry_run=DryRun.MESSAGE) as client:
            data = (await client.create(dry_run=True)).json()["data"]

            assert data["id"] == "1001"
            assert data["attributes"] == {
                "advertiser_id": 1001,
                "dry_run": True,
                "message": "Dry run: no contact was created.",
            }
            assert not client.hienergy.contacts
            assert not client.hienergy.creations

    async def test_a_dry_run_with_the_contact(self) -> None:
        async with _fake(dry_run=DryRun.GATEWAY) as client:
            body = (await client.create(dry_run=True)).json()

            assert (body["data"]["id"], body["meta"]) == (None, {"dry_run": True})
            assert body["data"]["attributes"]["email"] == MAYA
            assert client.hienergy.contacts == []


class TestDuplicates:
    @pytest.mark.parametrize(
        ("duplicates", "body"),
        [
            (Duplicates.TAKEN_RAILS, {"errors": {"email": [TAKEN]}}),
            (Duplicates.TAKEN_FLAT, {"email": [TAKEN]}),
            (Duplicates.TAKEN_SENTENCES, {"errors": [f"Email {TAKEN}"]}),
            (
                Duplicates.TAKEN_POINTER,
                {
                    "errors": [
                        {
                            "source": {"pointer": "/data/attributes/email"},
                            "detail": f"Email {TAKEN}",
                        }
                    ]
                },
            ),
            (Duplicates.TAKEN_FIELDS, {"errors": [{"field": "email", "message": TAKEN}]}),
        ],
    )
    async def test_a_taken_address(self, duplicates: Duplicates, body: Json) -> None:
        async with _fake(duplicates=duplicates, error_body=ErrorBody.EMPTY) as client:
            await client.create()
            response = await client.create(MAYA.upper())

            assert (response.status_code, response.json()) == (422, body)
            assert (len(client.hienergy.contacts), len(client.hienergy.creations)) == (1, 2)

    async def test_a_taken_address_in_the_envelope(self) -> None:
        async with _fake(duplicates=Duplicates.TAKEN_ENVELOPE) as client:
            await client.create()
            response = await client.create()

            assert response.status_code == 422
            assert response.json()["error"]["message"] == f"Email {TAKEN}"
            assert response.json()["error"]["details"] == {"email": [TAKEN]}

    @pytest.mark.parametrize("has_contact", [False, True])
    async def test_a_conflict(self, *, has_contact: bool) -> None:
        duplicates = Duplicates.CONFLICT_WITH_CONTACT if has_contact else Duplicates.CONFLICT
        async with _fake(duplicates=duplicates) as client:
            first = await client.create()
            response = await client.create(advertiser_id=2002)

            assert response.status_code == 409
            existing = {"existing": first.json()["data"]} if has_contact else {}
            assert response.json()["error"]["details"] == existing

    @pytest.mark.parametrize("status", [200, 201])
    @pytest.mark.parametrize(
        ("duplicates", "phone"), [(Duplicates.MERGED, "2"), (Duplicates.RETURNED, "1")]
    )
    async def test_a_repeat_is_absorbed(
        self, duplicates: Duplicates, phone: str, status: int
    ) -> None:
        async with _fake(duplicates=duplicates, status_of_repeat=status) as client:
            await client.create(phone="1", name="Maya")
            response = await client.create(phone="2")
            data = response.json()["data"]

            assert (response.status_code, data["id"]) == (status, "1")
            assert (data["attributes"]["phone"], data["attributes"]["name"]) == (phone, "Maya")
            assert [contact.fields["phone"] for contact in client.hienergy.contacts] == [phone]

    async def test_a_duplicate_is_created_again(self) -> None:
        async with _fake() as client:
            await client.create()
            await client.create()

            assert [contact.email for contact in client.hienergy.contacts] == [MAYA, MAYA]

    async def test_another_brand_may_have_the_address(self) -> None:
        async with _fake(duplicates=Duplicates.CONFLICT) as client:
            await client.create()

            assert (await client.create(advertiser_id=1002)).status_code == 201


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "status"),
        [
            (Fault.REFUSED_BEFORE, 503),
            (Fault.SERVER_ERROR_BEFORE, 500),
            (Fault.SERVER_ERROR_AFTER, 500),
            (Fault.BAD_GATEWAY_BEFORE, 502),
            (Fault.BAD_GATEWAY_AFTER, 502),
            (Fault.GATEWAY_TIMEOUT_BEFORE, 504),
            (Fault.GATEWAY_TIMEOUT_AFTER, 504),
            (Fault.ROUTER_TIMEOUT_BEFORE, 503),
            (Fault.ROUTER_TIMEOUT_AFTER, 503),
            (Fault.HTML_SUCCESS, 200),
        ],
    )
    async def test_an_answer_of_another_kind(self, fault: Fault, status: int) -> None:
        async with _fake() as client:
            client.hienergy.faults.append(fault)
            response = await client.create()

            is_json = fault.name.startswith(("REFUSED", "SERVER_ERROR"))
            assert response.status_code == status
            assert ("json" in response.headers["Content-Type"]) == is_json
            _check_effect(client, fault)

    @pytest.mark.parametrize(
        "fault",
        [
            Fault.CLOSED_BEFORE,
            Fault.CLOSED_AFTER,
            Fault.RESET_BEFORE,
            Fault.RESET_AFTER,
            Fault.TRUNCATED_AFTER,
        ],
    )
    async def test_a_lost_answer(self, fault: Fault) -> None:
        async with _fake() as client:
            client.hienergy.faults.append(fault)
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await client.create()

            _check_effect(client, fault)

    @pytest.mark.parametrize(
        "fault", [Fault.STALLED_BEFORE, Fault.STALLED_AFTER, Fault.STALLED_UNTIL_LATER]
    )
    async def test_no_answer(self, fault: Fault) -> None:
        async with _fake() as client:
            client.hienergy.faults.append(fault)
            call = asyncio.create_task(client.create())
            await client.hienergy.upstream.is_stalled.wait()
            assert not call.done()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert len(client.hienergy.contacts) == (fault is Fault.STALLED_AFTER)
            client.hienergy.process_late()

            assert len(client.hienergy.contacts) == (fault is not Fault.STALLED_BEFORE)

    async def test_a_router_answers_before_the_effect(self) -> None:
        async with _fake() as client:
            client.hienergy.faults.append(Fault.ROUTER_TIMEOUT_UNTIL_LATER)
            response = await client.create()
            assert (response.status_code, client.hienergy.contacts) == (503, [])
            client.hienergy.process_late()

            assert len(client.hienergy.contacts) == 1

    async def test_each_post_takes_one_fault(self) -> None:
        async with _fake() as client:
            client.hienergy.faults.extend([Fault.NONE, Fault.REFUSED_BEFORE])
            first = await client.create()
            await client.data("/contacts")
            second, third = await client.create(), await client.create()

            statuses = [response.status_code for response in (first, second, third)]
            assert statuses == [201, 503, 201]


def _check_effect(client: Client, fault: Fault) -> None:
    """Check that the first POST had no effect where its fault says so, and the next one has."""
    made = 0 if fault.name.endswith("_BEFORE") else 1
    assert (len(client.hienergy.contacts), len(client.hienergy.creations)) == (made, made)
    assert len(client.hienergy.requests) == 1


class TestLists:
    async def test_a_new_contact_has_no_rating(self) -> None:
        async with _fake() as client:
            await client.create()
            assert await client.emails() == []
            assert await client.emails("/advertisers/1001/contacts") == []
            client.hienergy.traits.lists_own_unrated = True
            assert await client.emails() == []
            assert await client.emails("/advertisers/1001/contacts") == [MAYA]

    async def test_a_new_contact_has_a_rating(self) -> None:
        async with _fake(rates_new_contacts=True) as client:
            await client.create()

            assert await client.emails() == [MAYA]

    async def test_a_list_lags_by_a_number_of_calls(self) -> None:
        async with _fake(rates_new_contacts=True, list_lag=2) as client:
            await client.create()
            paths = ("/contacts", "/advertisers/1001/contacts", "/contacts")

            assert [await client.emails(path) for path in paths] == [[], [], [MAYA]]

    async def test_the_order_is_by_rating_and_then_by_time(self) -> None:
        async with _fake() as client:
            add = client.hienergy.add
            add("old@example.com", created_at=NOON - timedelta(days=1))
            add("best@example.com", created_at=NOON - timedelta(days=2), rating=5)
            add("new@example.com", created_at=NOON)
            add("unrated@example.com", rating=0)

            assert [email.split("@")[0] for email in await client.emails()] == [
                "best",
                "new",
                "old",
            ]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("email=MAYA@example.com", [MAYA]),
            ("advertiser_id=1001", [MAYA]),
            ("advertiser_id=northwind", [MAYA]),
            ("advertiser_id=2001", []),
            ("advertiser_id=999", []),
            ("advertiser_id=1002&email=maya@example.com", []),
            ("advertiser_name=outfitters", [MAYA]),
            ("domain=northwind.example", [MAYA]),
            ("q=maya", [MAYA]),
            ("unheard_of=1", [MAYA, "noor@example.com"]),
        ],
    )
    async def test_filters(self, query: str, found: list[str]) -> None:
        async with _fake() as client:
            client.hienergy.add(MAYA)
            client.hienergy.add("noor@example.com", 1002, created_at=NOON)

            assert await client.emails(f"/contacts?{query}") == found

    async def test_filters_may_be_ignored(self) -> None:
        async with _fake(filters_work=False) as client:
            client.hienergy.add(MAYA)

            assert await client.emails(email="noor@example.com", advertiser_id=1002) == [MAYA]
            assert await client.emails("/advertisers/1002/contacts") == []

    async def test_a_network_record_may_find_the_contacts_of_its_brand(self) -> None:
        async with _fake(finds_by_network_record=True) as client:
            client.hienergy.add(MAYA)

            assert await client.emails(advertiser_id=2001) == [MAYA]
            assert await client.emails("/advertisers/2001/contacts") == [MAYA]
            assert await client.emails(advertiser_id=3001) == []

    @pytest.mark.parametrize("text", ["1001", "northwind", "northwind.example", "Northwind"])
    async def test_the_contacts_of_an_advertiser(self, text: str) -> None:
        async with _fake() as client:
            client.hienergy.add(MAYA)
            client.hienergy.add("noor@example.com", 1002)

            assert await client.emails(f"/advertisers/{text}/contacts") == [MAYA]

    async def test_the_list_of_an_advertiser_may_not_exist(self) -> None:
        async with _fake(has_advertiser_contacts=False) as client:
            _check_no_route(await client.http.get("/advertisers/1001/contacts"))

    async def test_a_row_may_have_no_address(self) -> None:
        async with _fake(rows_without_email=True) as client:
            assert await client.emails() == [None]
            assert await client.emails(email=MAYA) == []

    @pytest.mark.parametrize("path", ["/contacts", "/advertisers"])
    async def test_rows_may_be_unreadable(self, path: str) -> None:
        null, without_id, *_ = await _data_of_list(path, odd_rows=True)

        assert null is None
        assert "id" not in without_id

    async def test_the_contact_operation_exists_where_it_is_switched_on(self) -> None:
        async with _fake() as client:
            await client.create()
            _check_no_route(await client.http.get("/contacts/1"))
            client.hienergy.traits.has_contact_operation = True

            assert (await client.data("/contacts/1"))["attributes"]["email"] == MAYA
            missing = await client.http.get("/contacts/2")
            assert missing.json()["error"]["code"] == "NOT_FOUND"


def _check_no_route(response: httpx.Response) -> None:
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "text/html"


class TestPaging:
    @pytest.mark.parametrize(
        ("paging", "beside"),
        [
            (Paging.META, {"meta": ...}),
            (Paging.PAGINATION_IN_META, {"meta": {"pagination": ...}}),
            (Paging.PAGINATION, {"pagination": ...}),
            (Paging.HAS_MORE_ALONE, {"has_more": True}),
            (Paging.HAS_MORE_IN_META, {"meta": {"has_more": True}}),
            (Paging.LIMIT_ALONE, {"meta": {"limit": 2}}),
            (Paging.NOTHING, {}),
            (Paging.CURSOR, {"meta": {"per_page": 2, "next_cursor": "from-2"}}),
        ],
    )
    async def test_where_a_list_says_that_there_is_more(self, paging: Paging, beside: Json) -> None:
        place = {"current_page": 1, "next_page": 2, "per_page": 2, "has_more": True}
        async with _fake(paging=paging) as client:
            body = (await client.http.get("/advertisers?per_page=2")).json()

        assert [row["id"] for row in body.pop("data")] == ["1001", "1002"]
        assert body == _filled(beside, place)

    async def test_the_last_page(self) -> None:
        async with _fake() as client:
            body = (await client.http.get("/advertisers?limit=5&page=2")).json()

        assert [row["id"] for row in body["data"]] == ["2006", "3001"]
        assert body["meta"] == {
            "current_page": 2,
            "next_page": None,
            "per_page": 5,
            "has_more": False,
        }

    @pytest.mark.parametrize("name", ["cursor", "after"])
    async def test_a_cursor(self, name: str) -> None:
        async with _fake(paging=Paging.CURSOR) as client:
            body = (await client.http.get(f"/advertisers?per_page=5&{name}=from-5")).json()

        assert [row["id"] for row in body["data"]] == ["2006", "3001"]
        assert body["meta"]["next_cursor"] is None

    async def test_sizes_are_clamped(self) -> None:
        async with _fake(page_cap=3) as client:
            body = (await client.http.get("/advertisers?per_page=500")).json()

        assert (len(body["data"]), body["meta"]["per_page"]) == (3, 3)


def _filled(shape: Json, place: Json) -> Json:
    """Return a shape with a place for `...`."""
    if shape is ...:
        return place
    if isinstance(shape, dict):
        return {name: _filled(value, place) for name, value in shape.items()}
    return shape


class TestShapes:
    async def test_rows_may_be_flat(self) -> None:
        (contact,) = await _data_of_list("/contacts", rows=Rows.FLAT)
        advertiser, *_ = await _data_of_list("/advertisers", rows=Rows.FLAT)

        assert (contact["id"], contact["email"]) == ("1", MAYA)
        assert (advertiser["id"], advertiser["name"]) == ("1001", "Northwind")

    @pytest.mark.parametrize(
        ("trait", "name", "value"),
        [
            ("owner_as_slug", "advertiser_id", "northwind"),
            ("ids_as_numbers", "advertiser_id", 1001),
            ("nested_advertiser", "advertiser", {"id": "1001", "name": "Northwind Outfitters"}),
            ("nested_advertiser", "advertiser_id", None),
            ("renamed_fields", "title", "Buyer"),
            ("renamed_fields", "job_title", None),
            ("shows_times", "created_at", "2026-01-31T12:20:00.000Z"),
        ],
    )
    async def test_an_attribute_of_a_contact(self, trait: str, name: str, value: Json) -> None:
        async with _fake(**{trait: True}) as client:
            client.hienergy.now = lambda: NOON
            created = (await client.create(job_title="Buyer")).json()["data"]
            client.hienergy.contacts[0].rating = 1
            (listed,) = await client.data("/contacts")

        assert created == listed
        assert created["attributes"].get(name) == value

    async def test_times_may_be_days(self) -> None:
        async with _fake(shows_times=True, shows_days=True) as client:
            client.hienergy.now = lambda: NOON
            created = (await client.create()).json()["data"]

        assert created["attributes"]["created_at"] == "2026-01-31"

    async def test_ids_may_be_numbers(self) -> None:
        (contact,) = await _data_of_list("/contacts", ids_as_numbers=True)
        advertiser, *_ = await _data_of_list("/advertisers", ids_as_numbers=True)

        assert (contact["id"], advertiser["id"]) == (1, 1001)

    async def test_documents_may_have_a_root_key(self) -> None:
        created = (await _created(root_key=True)).json()
        async with _fake(root_key=True) as client:
            one = (await client.http.get("/advertisers/1001")).json()
            page = (await client.http.get("/contacts")).json()

        assert created["contacts"]["data"]["id"] == "1"
        assert one["advertisers"]["data"]["id"] == "1001"
        assert page["contacts"].keys() == {"data", "meta"}

    async def test_the_status_of_an_advertiser_may_have_another_name(self) -> None:
        advertiser, *_ = await _data_of_list("/advertisers", renamed_fields=True)

        assert advertiser["attributes"]["program_status"] == "active"

    async def test_the_name_of_the_advertiser_may_be_absent(self) -> None:
        (contact,) = await _data_of_list("/contacts", shows_advertiser_name=False)

        assert contact["attributes"]["advertiser_id"] == "1001"
        assert "advertiser_name" not in contact["attributes"]

    async def test_blank_attributes_may_be_absent(self) -> None:
        (contact,) = await _data_of_list("/contacts", shows_blank=False)

        assert contact["attributes"].keys() == {
            *("advertiser_id", "advertiser_name", "email", "job_title")
        }

    @pytest.mark.parametrize(
        ("style", "body"),
        [
            (ErrorBody.TEXT, {"error": NO_SUCH}),
            (
                ErrorBody.JSON_API,
                {"errors": [{"status": "404", "title": "Not found", "detail": NO_SUCH}]},
            ),
            (ErrorBody.RAILS, {"errors": {"base": [NO_SUCH]}}),
            (ErrorBody.HTML, None),
            (ErrorBody.EMPTY, None),
        ],
    )
    async def test_the_body_of_an_error(self, style: ErrorBody, body: Json) -> None:
        async with _fake(error_body=style) as client:
            response = await client.http.get("/advertisers/999")

        assert response.status_code == 404
        if body is not None:
            assert response.json() == body
        else:
            assert response.text.startswith("<!DOCTYPE html>") == (style is ErrorBody.HTML)
            assert bool(response.text) == (style is ErrorBody.HTML)

    async def test_the_envelope_of_an_error(self) -> None:
        async with _fake() as client:
            client.hienergy.now = lambda: NOON
            response = await client.http.get("/advertisers/999")

        assert response.headers["Date"] == "Sat, 31 Jan 2026 12:20:00 GMT"
        assert response.json()["error"] == {
            "code": "NOT_FOUND",
            "message": NO_SUCH,
            "details": {},
            "request_id": response.headers["X-Request-Id"],
            "timestamp": "2026-01-31T12:20:00.000Z",
        }


class TestAdvertisers:
    async def test_the_publisher_marks_a_hienergy_record(self) -> None:
        marked, network = await _marks()

        assert marked == ("HiEnergy", "Impact", None)
        assert network == ("Partner Media", "CJ", None)

    async def test_the_network_marks_a_hienergy_record(self) -> None:
        marked, network = await _marks(mark=Mark.NETWORK, shows_hienergy_id=True)

        assert marked == (None, "HiEnergy", "1001")
        assert network == (None, "CJ", "1001")

    async def test_attributes_may_lack(self) -> None:
        async with _fake(sparse_advertisers=True) as client:
            row = await client.data("/advertisers/1001")
            client.hienergy.traits.mark = Mark.NETWORK
            marked = await client.data("/advertisers/1001")

        absent = {"network_name", "display_name", "status"}
        assert not absent & row["attributes"].keys()
        assert absent & marked["attributes"].keys() == {"network_name"}

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ("name=northwind u", ["2001", "2002"]),
            ("q=outfitters", ["1001"]),
            ("search=KESTREL", ["1002"]),
            ("domain=kestrel.example", ["1002"]),
            ("url=https://kestrel.example/shop", ["1002"]),
            ("network=awin", ["2002"]),
            ("network=HiEnergy", []),
            ("status=paused", []),
            ("name=northwind&network=CJ&country=US", ["2001"]),
        ],
    )
    async def test_filters(self, query: str, ids: list[str]) -> None:
        async with _fake() as client:
            rows = await client.data(f"/advertisers?{query}")

        assert [row["id"] for row in rows] == ids

    @pytest.mark.parametrize("shape", DomainSearch, ids=lambda shape: shape.name)
    async def test_some_are_found_by_a_domain(self, shape: DomainSearch) -> None:
        async with _fake(domain_search=shape) as client:
            found = await client.http.get("/advertisers/search_by_domain?domain=kestrel.example")
            missing = await client.http.get("/advertisers/search_by_domain?domain=x.example")

        row = {"id": "1002", "type": "advertiser"}
        data: Json = None if shape is DomainSearch.ABSENT else found.json()["data"]
        if shape is DomainSearch.GROUPED:
            assert data["domain"] == "kestrel.example"
            data = data["advertisers"]
        rows = [data] if shape is DomainSearch.ONE else data or []
        assert [one | row for one in rows] == rows
        assert found.status_code == (404 if shape is DomainSearch.ABSENT else 200)
        is_empty = shape in {DomainSearch.LIST, DomainSearch.GROUPED}
        assert missing.status_code == (200 if is_empty else 404)

    async def test_one_is_found_by_id_or_slug_alone(self) -> None:
        async with _fake() as client:
            assert (await client.data("/advertisers/kestrel"))["id"] == "1002"
            missing = await client.http.get("/advertisers/kestrel.example")
            assert missing.status_code == 404


async def _marks(**traits: Json) -> list[tuple[Json, ...]]:
    """Return the attributes of a HiEnergy record and of a network record that may mark it."""
    names = ("publisher_name", "network_name", "hienergy_id")
    async with _fake(**traits) as client:
        rows = [await client.data(f"/advertisers/{number}") for number in (1001, 2001)]
    return [tuple(row["attributes"].get(name) for name in names) for row in rows]


class TestAccess:
    @pytest.mark.parametrize(
        ("headers", "read", "creation"),
        [
            ({"X-Api-Key": KEY}, 200, 201),
            ({"X-Api-Key": MEMBER_KEY}, 200, 403),
            ({"X-Api-Key": "unknown"}, 401, 401),
            ({"X-Api-Key": jwt()}, 401, 401),
            ({"Authorization": f"Bearer {jwt()}"}, 200, 201),
            ({"Authorization": f"Bearer {jwt(role='member')}"}, 200, 403),
            ({"Authorization": f"Bearer {jwt(good=False)}"}, 401, 401),
            ({"Authorization": f"Bearer {KEY}"}, 401, 401),
            ({"Authorization": "Bearer a.b.good"}, 401, 401),
            ({}, 401, 401),
        ],
        ids=lambda value: None if isinstance(value, int) else "",
    )
    async def test_credentials(self, headers: dict[str, str], read: int, creation: int) -> None:
        async with _fake() as client:
            client.http.headers.pop("X-Api-Key")
            reading = await client.http.get("/contacts", headers=headers)
            creating = await client.create(headers=headers)

            assert (reading.status_code, creating.status_code) == (read, creation)
            assert len(client.hienergy.contacts) == (creation == 201)

    async def test_a_renewed_token_is_another_text(self) -> None:
        assert jwt() == jwt() != jwt(n=2)

    async def test_other_routes_do_not_exist(self) -> None:
        async with _fake() as client:
            _check_no_route(await client.http.get("/deals"))
            _check_no_route(await client.http.delete("/contacts/1"))
            _check_no_route(await client.http.post("/advertisers"))
            assert (await client.http.get("/schema")).json()["openapi"] == "3.1.0"

    @pytest.mark.parametrize(
        ("is_relative", "reset"),
        [(False, str(int(NOON.timestamp()) + 40 * 60)), (True, str(40 * 60))],
    )
    async def test_the_rate_limit_is_per_hour(self, *, is_relative: bool, reset: str) -> None:
        async with _fake(calls_per_hour=1, reset_in_seconds_from_now=is_relative) as client:
            client.hienergy.now = lambda: NOON
            first = await client.http.get("/contacts")
            second = await client.create()
            client.hienergy.traits.sends_retry_after = True
            third = await client.create()
            client.hienergy.now = lambda: NOON + timedelta(hours=1)
            fourth = await client.create()

            answers = (first, second, third, fourth)
            assert [answer.status_code for answer in answers] == [200, 429, 429, 201]
            assert second.headers["X-RateLimit-Reset"] == reset
            assert second.headers["X-RateLimit-Remaining"] == "0"
            assert "Retry-After" not in second.headers
            assert third.headers["Retry-After"] == str(40 * 60)
            assert len(client.hienergy.contacts) == 1
