"""Reads in front of an upstream API: the same answers, with few calls."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from openapi_spec_validator import validate

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.ledger import Ledger
from contact_gateway.contacts.outcomes import RateLimited, Unauthorized
from contact_gateway.contacts.source import HIENERGY_FILTERS, SourceUnavailable
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.source import MAX_CONCURRENT_CALLS, UpstreamAccess, UpstreamSource
from contact_gateway.upstream.traits import Traits
from support.clock import WATCHDOG_SECONDS, ManualClock
from support.databases import database_at
from support.faces import FACES, Json
from support.gateway import BIG_ID, Gateway, credentials, empty_store, running_gateway
from support.hienergy import (
    ADVERTISERS,
    DomainSearch,
    ErrorBody,
    HiEnergy,
    Mark,
    Paging,
    Rows,
    fake_hienergy,
)
from support.hienergy import Traits as HiEnergyDoes
from support.upstream import (
    KEY,
    Answering,
    Recording,
    Request,
    UpstreamGateway,
    gateway_and_upstream,
    gateway_in_front_of,
    recorded,
    recorded_upstream,
)

pytestmark = pytest.mark.anyio

PATHS: Final = (
    "/contacts",
    "/contacts?per_page=1",
    "/contacts?per_page=1&page=2",
    "/contacts?limit=1&page=3",
    "/contacts?q=MAYA",
    "/contacts?email=Maya@EXAMPLE.com",
    "/contacts?advertiser_id=2001",
    "/contacts?advertiser_id=3001",
    "/contacts?advertiser_name=outfitters",
    "/contacts?domain=northwind.example",
    "/contacts?advertiser_id=northwind",
    "/contacts?advertiser_domain=northwind.example",
    "/contacts?query=maya&dry_run=true",
    "/contacts?q=%26page%3D7",
    "/contacts?advertiserId=1001",
    "/contacts?page=0",
    "/contacts?per_page=101",
    "/contacts/999999",
    "/contacts/abc",
    "/advertisers",
    "/advertisers?q=north&per_page=2",
    "/advertisers?domain=northwind.example",
    "/advertisers?name=north",
    "/advertisers?network=cj",
    "/advertisers/search_by_domain?domain=https://www.northwind.example/a",
    "/advertisers/search_by_domain",
    "/deals?active=true",
    "/advertisers/1001/similar_advertisers",
    "/advertisers/1001",
    "/advertisers/2001",
    "/advertisers/3001",
    "/advertisers/999",
    "/advertisers/northwind",
    "/advertisers/no-such-slug",
    "/advertisers/..",
    "/advertisers/a%2Fb",
    "/advertisers/2002/contacts",
    "/advertisers/northwind/contacts?per_page=1",
    "/advertisers/999/contacts",
    f"/advertisers/{BIG_ID}",
)


@pytest.fixture
async def chain(
    tmp_path: Path, upstream: UpstreamGateway
) -> AsyncIterator[tuple[Gateway, UpstreamGateway]]:
    """Return a gateway in front of an upstream with three contacts."""
    async with running_gateway(tmp_path, upstream.store, upstream_url=upstream.url) as gateway:
        for advertiser_id, email in ((2001, "maya"), (1002, "noor"), (2002, "sam")):
            contact = {"advertiser_id": advertiser_id, "email": f"{email}@example.com"}
            await FACES["REST"].submit(gateway, contact, gateway.admin)
        yield gateway, upstream


@pytest.mark.parametrize("path", PATHS)
async def test_a_read_has_the_answer_of_upstream(
    chain: tuple[Gateway, UpstreamGateway], path: str
) -> None:
    gateway, upstream = chain
    headers = credentials(gateway.member)
    async with httpx.AsyncClient(trust_env=False, timeout=WATCHDOG_SECONDS) as client:
        there = await client.get(upstream.url + path, headers=headers)
    here = await gateway.client.get(f"/api/v1{path}", headers=headers)

    assert here.status_code == there.status_code
    assert _comparable(here) == _comparable(there)


def _comparable(response: httpx.Response) -> Json:
    body = response.json()
    error = body.get("error")
    return body if error is None else (error["code"], error["message"], error["details"])


async def test_the_rate_limit_is_that_of_upstream(chain: tuple[Gateway, UpstreamGateway]) -> None:
    gateway, _ = chain
    first = await gateway.rest("/contacts", gateway.member)
    second = await gateway.graphql("{ contacts { nodes { id } } }", gateway.member)

    assert first.headers["X-RateLimit-Limit"] == "10000"
    left = [int(answer.headers["X-RateLimit-Remaining"]) for answer in (first, second)]
    assert left[1] == left[0] - 1


@pytest.mark.parametrize(
    ("key", "role"), [("admin", "ADMIN"), ("member", "MEMBER")], ids=["admin", "member"]
)
async def test_the_role_of_the_viewer_is_that_of_upstream(
    chain: tuple[Gateway, UpstreamGateway], key: str, role: str
) -> None:
    gateway, upstream = chain
    before = upstream.contacts()
    body = (await gateway.graphql("{ viewer { label role } }", getattr(gateway, key))).json()

    assert body == {"data": {"viewer": {"label": "HiEnergy API key", "role": role}}}
    assert upstream.contacts() == before


@pytest.mark.parametrize("status", [200, 201, 400, 404, 409, 422])
async def test_the_viewer_is_an_admin_if_hienergy_checks_the_contact_or_answers_the_dry_run(
    tmp_path: Path, status: int
) -> None:
    attributes: Json = {"dry_run": True, "message": "Nothing was created."}
    document: Json = {"data": {"type": "contact", "attributes": attributes}}
    if status >= 400:
        document = {"error": {"code": "X", "message": "Contact is missing."}}
    answer = recorded(status, json.dumps(document))
    async with gateway_and_upstream(lambda _: answer, tmp_path) as (gateway, upstream):
        body = (await gateway.graphql("{ viewer { role } }", KEY)).json()

    assert body == {"data": {"viewer": {"role": "ADMIN"}}}
    assert upstream.calls() == ["POST /api/v1/contacts?dry_run=true"]


@pytest.mark.parametrize("body", [{"error": "Forbidden"}, [], ""], ids=str)
async def test_the_role_of_the_viewer_is_not_known_from_a_success_without_a_document(
    tmp_path: Path, body: object
) -> None:
    answer = recorded(200, json.dumps(body))
    async with gateway_and_upstream(lambda _: answer, tmp_path) as (gateway, _):
        response = await gateway.graphql("{ viewer { role } }", KEY)

    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("key", ["unknown", "expired", "revoked"])
async def test_a_key_that_upstream_refuses_reads_nothing(
    chain: tuple[Gateway, UpstreamGateway], key: str
) -> None:
    gateway, _ = chain
    query = '{ viewer { label } contacts { nodes { id } } advertiser(slug: "northwind") { id } }'
    body = (await gateway.graphql(query, getattr(gateway, key))).json()

    assert set(body["data"].values()) == {None}
    assert [error["extensions"]["code"] for error in body["errors"]] == ["UNAUTHORIZED"] * 3


async def test_a_brand_is_found_from_any_of_its_records(
    chain: tuple[Gateway, UpstreamGateway],
) -> None:
    gateway, _ = chain
    query = """{
      hienergy: advertiser(id: "1001") { ...Brand }
      network: advertiser(id: "2001") { ...Brand }
      slug: advertiser(slug: "northwind") { ...Brand }
      unlisted: advertiser(id: "3001") { ...Brand }
      unknown: advertiser(slug: "1001") { ...Brand }
    }
    fragment Brand on Advertiser { id hienergy { id } equivalents { id } }"""
    body = (await gateway.graphql(query, gateway.member)).json()

    canonical = {"id": "1001", "hienergy": {"id": "1001"}}
    assert body["data"] == {
        "hienergy": canonical | {"equivalents": [{"id": "2001"}, {"id": "2002"}]},
        "network": {"id": "2001", "hienergy": {"id": "1001"}, "equivalents": [{"id": "2002"}]},
        "slug": canonical | {"equivalents": [{"id": "2001"}, {"id": "2002"}]},
        "unlisted": {"id": "3001", "hienergy": None, "equivalents": []},
        "unknown": None,
    }


def _contact(number: int, advertiser_id: int) -> Json:
    moment = "2026-01-31T12:00:00Z"
    attributes = {"advertiser_id": advertiser_id, "email": f"{number}@example.com"}
    moments = {"created_at": moment, "updated_at": moment}
    return {"id": str(number), "type": "contact", "attributes": attributes | moments}


def _advertiser(an_id: int) -> Json:
    attributes = {"name": f"Brand {an_id}", "network_name": "HiEnergy", "slug": f"brand-{an_id}"}
    return {"id": str(an_id), "type": "advertiser", "attributes": attributes}


def _catalogue(request: Request) -> Recording:
    """Return 50 contacts of `q` brands, or any single record."""
    target = urlsplit(request.target)
    resource = target.path.removeprefix("/api/v1/")
    if resource == "contacts":
        brands = int(parse_qs(target.query).get("q", ["1"])[0])
        data: Json = [_contact(number, 1000 + number % brands) for number in range(1, 51)]
        return recorded(200, json.dumps({"data": data, "meta": {"has_more": False}}))
    kind, _, name = resource.partition("/")
    made = _contact(int(name), 1000) if kind == "contacts" else _advertiser(int(name))
    return recorded(200, json.dumps({"data": made}))


@pytest.mark.parametrize("brands", [1, 3, 50])
async def test_a_page_of_contacts_needs_one_call_for_each_distinct_advertiser(
    tmp_path: Path, brands: int
) -> None:
    query = f"""{{
      contacts(q: "{brands}", perPage: 50) {{
        nodes {{ id advertiser {{ name hienergy {{ id }} }} }}
      }}
    }}"""
    async with gateway_and_upstream(_catalogue, tmp_path) as (gateway, upstream):
        body = (await gateway.graphql(query, KEY)).json()

    names = {node["advertiser"]["name"] for node in body["data"]["contacts"]["nodes"]}
    assert len(names) == brands
    assert len(upstream.requests) == 1 + brands
    assert len(set(upstream.calls())) == 1 + brands


async def test_advertisers_are_read_concurrently_within_a_limit(tmp_path: Path) -> None:
    query = '{ contacts(q: "50", perPage: 50) { nodes { advertiser { name } } } }'
    async with gateway_and_upstream(_catalogue, tmp_path) as (gateway, upstream):
        upstream.crowd = MAX_CONCURRENT_CALLS

        def answering(request: Request) -> Recording:
            if "advertisers" not in request.target:
                # Advertisers now wait until the limit is reached.
                upstream.gate.clear()
            return _catalogue(request)

        upstream.answer = answering
        answer = asyncio.create_task(gateway.graphql(query, KEY))
        await upstream.is_crowded.wait()
        upstream.gate.set()
        body = (await answer).json()

    assert len(body["data"]["contacts"]["nodes"]) == 50
    assert upstream.most_in_flight == MAX_CONCURRENT_CALLS


async def test_a_document_reads_each_record_once(tmp_path: Path) -> None:
    query = """{
      a: contact(id: 7) { id advertiser { name } }
      b: contact(id: "7") { email advertiser { name } }
      c: advertiser(id: 1000) { name }
      d: contacts { nodes { id } }
      e: contacts { nodes { email } }
    }"""
    async with gateway_and_upstream(_catalogue, tmp_path) as (gateway, upstream):
        body = (await gateway.graphql(query, KEY)).json()

    assert "errors" not in body
    assert sorted(upstream.calls()) == [
        "GET /api/v1/advertisers/1000",
        "GET /api/v1/contacts/7",
        "GET /api/v1/contacts?page=1&per_page=25",
    ]


async def test_a_record_of_a_page_is_not_read_again(tmp_path: Path) -> None:
    def answering(_: Request) -> Recording:
        data = [_advertiser(1000), _advertiser(1001)]
        return recorded(200, json.dumps({"data": data, "meta": {"has_more": False}}))

    query = "{ advertisers { nodes { id hienergy { id name } } } }"
    async with gateway_and_upstream(answering, tmp_path) as (gateway, upstream):
        await gateway.graphql(query, KEY)

    assert upstream.calls() == ["GET /api/v1/advertisers?page=1&per_page=25"]


async def test_documents_share_no_records(tmp_path: Path) -> None:
    async with gateway_and_upstream(_catalogue, tmp_path) as (gateway, upstream):
        await gateway.graphql("{ contact(id: 7) { id } }", KEY)
        await gateway.graphql("{ contact(id: 7) { id } }", "another-key")

    assert [request.headers["x-api-key"] for request in upstream.requests] == [KEY, "another-key"]


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        pytest.param(recorded(401), 401, "UNAUTHORIZED", id="401"),
        pytest.param(recorded(403, '{"message": "No."}'), 403, "FORBIDDEN", id="403"),
        pytest.param(recorded(422), 422, "INVALID_INPUT", id="422"),
        pytest.param(recorded(429, headers={"Retry-After": "5"}), 429, "RATE_LIMITED", id="429"),
        pytest.param(recorded(500), 503, "SERVICE_UNAVAILABLE", id="500"),
        pytest.param(recorded(302), 503, "SERVICE_UNAVAILABLE", id="302"),
        pytest.param(recorded(204), 503, "SERVICE_UNAVAILABLE", id="204"),
        pytest.param(recorded(200, "<html>"), 503, "SERVICE_UNAVAILABLE", id="HTML"),
        pytest.param(recorded(200, '{"data": {}}'), 503, "SERVICE_UNAVAILABLE", id="no record"),
    ],
)
class TestARefusedRead:
    """What each refusal becomes on each face, for a record and for a list."""

    @pytest.mark.parametrize("path", ["/contacts/1", "/contacts", "/advertisers"])
    async def test_in_rest(
        self, tmp_path: Path, answer: Recording, status: int, code: str, path: str
    ) -> None:
        async with gateway_and_upstream(lambda _: answer, tmp_path) as (gateway, _):
            response = await gateway.rest(path, KEY)

        assert response.status_code == status
        assert response.json()["error"]["code"] == code

    @pytest.mark.parametrize(
        "field",
        [
            "contact(id: 1) { id }",
            "contacts { nodes { id } }",
            "advertiser(id: 1) { id }",
            "advertisers { nodes { id } }",
        ],
    )
    async def test_in_graphql(
        self, tmp_path: Path, answer: Recording, status: int, code: str, field: str
    ) -> None:
        async with gateway_and_upstream(lambda _: answer, tmp_path) as (gateway, _):
            response = await gateway.graphql(f"{{ {field} }}", KEY)

        body = response.json()
        assert list(body["data"].values()) == [None]
        assert body["errors"][0]["extensions"]["code"] == code
        if status in {429, 503}:
            assert response.headers["Retry-After"] in {"1", "5"}


class HangingAccess(UpstreamAccess):
    """Upstream's operations without any response."""

    def __init__(self, ledger: Ledger) -> None:
        client = UpstreamClient("http://upstream", timeout_seconds=60, max_connections=1)
        super().__init__(UpstreamSource(client, ledger, Traits()), Credential.of(KEY))
        self.begun = 0
        self.cancelled = 0
        self.is_crowded = asyncio.Event()

    async def advertiser(self, id_or_slug: int | str) -> None:
        del id_or_slug
        self.begun += 1
        if self.begun == MAX_CONCURRENT_CALLS:
            self.is_crowded.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


async def test_many_records_share_the_timeout_of_one(
    tmp_path: Path, stopped_clock: ManualClock
) -> None:
    """Calls that still wait for their turn at the timeout are not made."""
    access = HangingAccess(SqlLedger(database_at(empty_store(tmp_path, {}).url)))
    read = asyncio.create_task(access.advertisers_by_id(range(40)))
    await access.is_crowded.wait()
    await stopped_clock.advance(60)
    with pytest.raises(SourceUnavailable, match="several records"):
        await read

    assert access.cancelled == access.begun == MAX_CONCURRENT_CALLS


@pytest.mark.parametrize(("status", "refusal"), [(401, Unauthorized), (429, RateLimited)])
async def test_no_more_records_are_read_after_a_refusal_of_all(
    tmp_path: Path, status: int, refusal: type
) -> None:
    ledger = SqlLedger(database_at(empty_store(tmp_path, {}).url))
    async with (
        recorded_upstream(lambda _: recorded(status)) as upstream,
        UpstreamClient(upstream.url, timeout_seconds=60, max_connections=10) as client,
    ):
        access = UpstreamAccess(UpstreamSource(client, ledger, Traits()), Credential.of(KEY))
        found = await access.advertisers_by_id(range(1, 41))

    assert {type(record) for record in found.values()} == {refusal}
    assert len(found) == 40
    assert len(upstream.requests) <= MAX_CONCURRENT_CALLS


async def test_the_paging_of_upstream_is_passed_on(tmp_path: Path) -> None:
    """Upstream may give fewer records a page than were requested."""

    def answering(_: Request) -> Recording:
        meta = {"current_page": 2, "next_page": 3, "per_page": 10}
        return recorded(200, json.dumps({"data": [], "meta": meta}))

    async with gateway_and_upstream(answering, tmp_path) as (gateway, _):
        response = await gateway.rest("/contacts", KEY, page=2, per_page=100)

    paging = {"current_page": 2, "next_page": 3, "per_page": 10, "has_more": True}
    assert response.json()["meta"] == paging


@pytest.mark.parametrize("number", [0, -1, 2**31, None])
async def test_invalid_paging_is_replaced_by_the_requested_one(
    tmp_path: Path, number: int | None
) -> None:
    meta = {"current_page": number, "per_page": number, "has_more": False}
    answer = recorded(200, json.dumps({"data": [], "meta": meta}))
    async with gateway_and_upstream(lambda _: answer, tmp_path) as (gateway, _):
        response = await gateway.rest("/contacts", KEY, page=2, per_page=50)

    paging = {"current_page": 2, "next_page": None, "per_page": 50, "has_more": False}
    assert response.json()["meta"] == paging


@pytest.mark.parametrize(
    "answering",
    [
        pytest.param(lambda _: recorded(200, '{"data": []}'), id="no records"),
        pytest.param(
            lambda request: recorded(
                200,
                json.dumps(
                    {"data": _advertiser(1)}
                    if "?" not in request.target
                    else {"data": [_advertiser(8), _advertiser(9)], "meta": {"has_more": True}}
                ),
            ),
            id="an upstream that ignores the filter",
        ),
    ],
)
async def test_records_of_other_brands_are_not_equivalents(
    tmp_path: Path, answering: Answering
) -> None:
    async with gateway_and_upstream(answering, tmp_path) as (gateway, upstream):
        body = (await gateway.graphql("{ advertiser(id: 1) { equivalents { id } } }", KEY)).json()

    if body["data"]["advertiser"] is not None:
        assert body["data"]["advertiser"] == {"equivalents": []}
    assert len(upstream.requests) <= 2


@pytest.mark.parametrize(
    ("pages", "calls"), [(1, 2), (3, 4), (1000, 11)], ids=["one page", "three pages", "no end"]
)
async def test_the_equivalents_of_a_brand_are_read_from_at_most_ten_pages(
    tmp_path: Path, pages: int, calls: int
) -> None:
    def answering(request: Request) -> Recording:
        query = parse_qs(urlsplit(request.target).query)
        if not query:
            return recorded(200, json.dumps({"data": _advertiser(1)}))
        number = int(query["page"][0])
        row = {"id": number + 1, "name": "Brand", "hienergy_id": 1}
        return recorded(200, json.dumps({"data": [row], "meta": {"has_more": number < pages}}))

    async with gateway_and_upstream(answering, tmp_path) as (gateway, upstream):
        body = (await gateway.graphql("{ advertiser(id: 1) { equivalents { id } } }", KEY)).json()

    equivalents = body["data"]["advertiser"]["equivalents"]
    assert [int(one["id"]) for one in equivalents] == list(range(2, calls + 1))
    assert len(upstream.requests) == calls


async def test_refused_equivalents_are_an_error_of_their_field(tmp_path: Path) -> None:
    def answering(request: Request) -> Recording:
        if "?" in request.target:
            return recorded(403, '{"error": {"message": "No."}}')
        return recorded(200, json.dumps({"data": _advertiser(1)}))

    query = "{ advertiser(id: 1) { id equivalents { id } } }"
    async with gateway_and_upstream(answering, tmp_path) as (gateway, _):
        body = (await gateway.graphql(query, KEY)).json()

    assert body["errors"][0]["path"] == ["advertiser", "equivalents"]
    assert body["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize("path", ["1001", "northwind"])
async def test_a_refused_list_of_an_advertiser_is_that_refusal(tmp_path: Path, path: str) -> None:
    async with gateway_and_upstream(lambda _: recorded(401), tmp_path) as (gateway, _):
        response = await gateway.rest(f"/advertisers/{path}/contacts", KEY)

    assert response.status_code == 401


async def test_a_created_contact_is_returned_though_its_advertiser_cannot_be_read(
    tmp_path: Path,
) -> None:
    def answering(request: Request) -> Recording:
        if request.method == "POST":
            return recorded(201, json.dumps({"data": {"id": "1", "type": "contact"}}))
        return recorded(500)

    query = """mutation {
      createContact(input: {advertiserId: 1001, email: "1@example.com"}) {
        ... on Contact { id advertiser { name } }
      }
    }"""
    async with gateway_and_upstream(answering, tmp_path) as (gateway, _):
        body = (await gateway.graphql(query, KEY)).json()

    assert body["data"] == {"createContact": {"id": "1", "advertiser": None}}
    assert body["errors"][0]["path"] == ["createContact", "advertiser"]


EMAILS: Final = ("maya@example.com", "noor@example.com", "sam@example.com")
# Any: each trait has its own type.
HiEnergyTraits = Mapping[str, Any]


@asynccontextmanager
async def _in_front_of_hienergy(
    folder: Path, traits: HiEnergyTraits, **settings: object
) -> AsyncIterator[tuple[Gateway, HiEnergy]]:
    """Run a fake HiEnergy with three contacts, and a gateway in front of it."""
    async with fake_hienergy(HiEnergyDoes(has_contact_operation=True, **traits)) as hienergy:
        for hours, (email, advertiser_id) in enumerate(
            zip(EMAILS, (1001, 1002, 1001), strict=True)
        ):
            hienergy.add(
                email,
                advertiser_id,
                created_at=datetime(2026, 2, 1, tzinfo=UTC) - timedelta(hours=hours),
                name="Maya",
                job_title="Buyer",
                linkedin_profile_url="https://linkedin.example/maya",
            )
        async with gateway_in_front_of(hienergy.url, folder, **settings) as gateway:
            yield gateway, hienergy


HIENERGY: Final[Mapping[str, HiEnergyTraits]] = {
    "as published": {},
    "flat rows": {"rows": Rows.FLAT},
    "ids as numbers": {"ids_as_numbers": True},
    "a root key": {"root_key": True},
    "nested advertisers": {"nested_advertiser": True},
    "other names of fields": {"renamed_fields": True},
    "sparse advertisers": {"sparse_advertisers": True},
    "no blank attributes": {"shows_blank": False},
    "HiEnergy as the network": {"mark": Mark.NETWORK, "shows_hienergy_id": True},
    "times": {"shows_times": True},
    "a contact without an address": {"rows_without_email": True},
    "unreadable rows": {"odd_rows": True},
    "no list of an advertiser's contacts": {"has_advertiser_contacts": False},
    **{f"paging: {paging.name}": {"paging": paging} for paging in Paging},
    "nearly everything": {
        "rows": Rows.FLAT,
        "ids_as_numbers": True,
        "root_key": True,
        "nested_advertiser": True,
        "renamed_fields": True,
        "sparse_advertisers": True,
        "shows_blank": False,
        "rows_without_email": True,
        "odd_rows": True,
        "paging": Paging.NOTHING,
    },
}


def _emails(page: Json) -> list[str | None]:
    return [row["attributes"]["email"] for row in page["data"]]


@pytest.mark.parametrize("traits", HIENERGY.values(), ids=list(HIENERGY))
class TestEveryShapeOfHiEnergy:
    """Every list and record is readable, whatever HiEnergy turns out to do."""

    async def test_in_rest(self, tmp_path: Path, traits: HiEnergyTraits) -> None:
        async with _in_front_of_hienergy(tmp_path, traits) as (gateway, _):

            async def read(path: str) -> Json:
                response = await gateway.rest(path, KEY)
                assert response.status_code == 200, response.text
                return response.json()

            contacts = await read("/contacts")
            brand = await read("/advertisers/1001/contacts")
            by_slug = await read("/advertisers/northwind/contacts")
            contact = await read("/contacts/1")
            advertisers = await read("/advertisers")
            advertiser = await read("/advertisers/1001")

        front_desk = [None] if traits.get("rows_without_email") else []
        assert _emails(contacts) == [*EMAILS, *front_desk]
        assert _emails(brand) == [EMAILS[0], EMAILS[2], *front_desk]
        assert by_slug == brand
        assert contact["data"]["id"] == "1"
        assert contact["data"]["attributes"] | {"created_at": None, "updated_at": None} == {
            "advertiser_id": 1001,
            "advertiser_name": "Northwind Outfitters",
            "email": "maya@example.com",
            "name": "Maya",
            "given_name": None,
            "family_name": None,
            "phone": None,
            "job_title": "Buyer",
            "source": None,
            "status": None,
            "linkedin_profile_url": "https://linkedin.example/maya",
            "created_at": None,
            "updated_at": None,
        }
        skipped = 2 if traits.get("odd_rows") else None
        for page in (contacts, brand, advertisers):
            assert page["meta"].get("skipped") == skipped
        assert {int(row["id"]) for row in advertisers["data"]} == set(ADVERTISERS)
        assert advertiser["data"]["attributes"]["hienergy_id"] == "1001"

    async def test_in_graphql(self, tmp_path: Path, traits: HiEnergyTraits) -> None:
        query = """{
          contacts {
            nodes { id email jobTitle linkedinProfileUrl createdAt advertiser { id name } }
            pageInfo { hasNextPage skipped }
          }
          contact(id: 1) { email updatedAt }
          advertisers { nodes { id networkName hienergy { id } } pageInfo { hasNextPage skipped } }
          advertiser(slug: "northwind") { id status hienergy { id } equivalents { id } }
        }"""
        async with _in_front_of_hienergy(tmp_path, traits) as (gateway, _):
            body = (await gateway.graphql(query, KEY)).json()

        assert "errors" not in body, body
        data = body["data"]
        front_desk = [None] if traits.get("rows_without_email") else []
        nodes = data["contacts"]["nodes"]
        assert [node["email"] for node in nodes] == [*EMAILS, *front_desk]
        assert [node["advertiser"]["id"] for node in nodes[:3]] == ["1001", "1002", "1001"]
        assert nodes[0]["jobTitle"] == "Buyer"
        assert nodes[0]["linkedinProfileUrl"] == "https://linkedin.example/maya"
        assert (nodes[0]["createdAt"] is None) == (not traits.get("shows_times"))
        assert data["contact"]["email"] == "maya@example.com"
        assert {int(node["id"]) for node in data["advertisers"]["nodes"]} == set(ADVERTISERS)
        page_info = {"hasNextPage": False, "skipped": 2 if traits.get("odd_rows") else 0}
        assert data["contacts"]["pageInfo"] == data["advertisers"]["pageInfo"] == page_info
        equivalents = [{"id": "2001"}, {"id": "2002"}] if traits.get("shows_hienergy_id") else []
        assert data["advertiser"]["hienergy"] == {"id": "1001"}
        assert data["advertiser"]["equivalents"] == equivalents


async def test_contacts_whose_owner_is_shown_as_a_slug_are_read_by_their_owner(
    tmp_path: Path,
) -> None:
    async with _in_front_of_hienergy(tmp_path, {"owner_as_slug": True}) as (gateway, _):
        everybody = (await gateway.rest("/contacts", KEY)).json()
        brand = (await gateway.rest("/advertisers/1001/contacts", KEY)).json()
        filtered = (await gateway.rest("/contacts", KEY, advertiser_id=1001)).json()

    assert (everybody["data"], everybody["meta"]["skipped"]) == ([], 3)
    for page in (brand, filtered):
        assert _emails(page) == [EMAILS[0], EMAILS[2]]
        assert [row["attributes"]["advertiser_id"] for row in page["data"]] == [1001, 1001]
        assert "skipped" not in page["meta"]


@pytest.mark.parametrize("shape", DomainSearch, ids=lambda shape: shape.name)
@pytest.mark.parametrize("rows", Rows, ids=lambda rows: rows.name)
@pytest.mark.parametrize("root_key", [False, True], ids=["no root key", "a root key"])
async def test_advertisers_are_found_by_a_domain_in_every_shape(
    tmp_path: Path, shape: DomainSearch, rows: Rows, *, root_key: bool
) -> None:
    traits = {"domain_search": shape, "rows": rows, "root_key": root_key}
    path = "/advertisers/search_by_domain"
    async with _in_front_of_hienergy(tmp_path, traits) as (gateway, hienergy):
        url = "https://northwind.example/shoes"
        found = (await gateway.rest(path, KEY, domain=url, per_page=100)).json()
        none = (await gateway.rest(path, KEY, domain="other.example")).json()
        calls = [_path(request).partition("?")[0] for request in hienergy.requests]

    brand = ["1001"] if shape is DomainSearch.ONE else ["1001", "2001", "2002"]
    assert [record["id"] for record in found["data"]] == brand
    assert none["data"] == []
    assert found["meta"]["has_more"] is none["meta"]["has_more"] is False
    own = path.removeprefix("/")
    assert calls == ([own, "advertisers"] if shape is DomainSearch.ABSENT else [own]) * 2


async def _pages_of_rest(gateway: Gateway) -> AsyncIterator[tuple[list[str], bool]]:
    number = 1
    while True:
        page = (await gateway.rest("/contacts", KEY, page=number, per_page=10)).json()
        yield [row["id"] for row in page["data"]], page["meta"]["has_more"]
        number = page["meta"]["next_page"]


async def _pages_of_graphql(gateway: Gateway) -> AsyncIterator[tuple[list[str], bool]]:
    number = 1
    query = """query ($page: Int) {
      contacts(page: $page, perPage: 10) { nodes { id } pageInfo { nextPage hasNextPage } }
    }"""
    while True:
        page = (await gateway.graphql(query, KEY, {"page": number})).json()["data"]["contacts"]
        yield [node["id"] for node in page["nodes"]], page["pageInfo"]["hasNextPage"]
        number = page["pageInfo"]["nextPage"]


@pytest.mark.parametrize("pages_of", [_pages_of_rest, _pages_of_graphql], ids=["REST", "GraphQL"])
@pytest.mark.parametrize("paging", Paging, ids=lambda paging: paging.name)
async def test_all_pages_are_reached_however_hienergy_says_that_there_is_more(
    tmp_path: Path,
    pages_of: Callable[[Gateway], AsyncIterator[tuple[list[str], bool]]],
    paging: Paging,
) -> None:
    found: list[str] = []
    async with _in_front_of_hienergy(tmp_path, {"paging": paging}) as (gateway, hienergy):
        for number in range(21):
            hienergy.add(f"{number}@example.com")
        async for ids, has_more in pages_of(gateway):
            found += ids
            if not has_more:
                break
        pages = len(hienergy.requests)

    assert sorted(map(int, found)) == list(range(1, 25))
    assert pages == 3


@pytest.mark.parametrize(
    ("paging", "size"), [(Paging.META, 2), (Paging.LIMIT_ALONE, 2), (Paging.NOTHING, 100)]
)
async def test_a_size_that_hienergy_clamps_is_the_one_shown(
    tmp_path: Path, paging: Paging, size: int
) -> None:
    """Without a size in its answer, fewer records than requested are the last ones."""
    traits = {"paging": paging, "page_cap": 2}
    async with _in_front_of_hienergy(tmp_path, traits) as (gateway, hienergy):
        page = (await gateway.rest("/contacts", KEY, per_page=500)).json()
        (request,) = hienergy.requests

    assert request.target == "/api/v1/contacts?page=1&per_page=100"
    assert page["meta"]["per_page"] == size
    assert page["meta"]["has_more"] == (size == 2)


PAGED: Final = "page=1&per_page=25"


async def _get(gateway: Gateway, path: str) -> httpx.Response:
    return await gateway.client.get(f"/api/v1{path}", headers=credentials(KEY))


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *(
            (f"/contacts?{name}=a+b", f"{name}=a+b")
            for name in ("q", "advertiser_name", "domain", "advertiser_domain")
        ),
        *(
            (f"/contacts?{name}=a+b", f"{name}=a+b")
            for name in ("query", "search", "name", "phone")
        ),
        ("/contacts?email=Maya@EXAMPLE.com", "email=Maya@example.com"),
        ("/contacts?advertiser_id=2001", "advertiser_id=2001"),
        ("/contacts?advertiser_id=north-wind", "advertiser_id=north-wind"),
        ("/contacts?q=%26page%3D7", "q=%26page%3D7"),
        ("/advertisers?q=north", "q=north&name=north"),
        ("/advertisers?name=north", "name=north"),
        ("/advertisers?q=north&name=wind", "q=north&name=wind"),
        *(
            (f"/advertisers?{name}=a+b", f"{name}=a+b")
            for name in ("search", "domain", "url", "network", "country", "vertical", "status")
        ),
        ("/advertisers?query=north", "query=north&q=north&name=north"),
        ("/advertisers/search_by_domain?domain=north.example", "domain=north.example"),
        ("/advertisers/search_by_domain?url=north.example/a", "domain=north.example/a"),
        ("/contacts?q=a&dry_run=true", "q=a"),
        ("/contacts?q=a&dryRun=TRUE", "q=a"),
    ],
)
async def test_hienergys_filters_are_passed_on(tmp_path: Path, path: str, query: str) -> None:
    async with gateway_and_upstream(_empty, tmp_path) as (gateway, upstream):
        response = await _get(gateway, path)

    assert response.status_code == 200
    (request,) = upstream.requests
    sent = dict(parse_qsl(urlsplit(request.target).query))
    assert sent == dict(parse_qsl(f"{query}&{PAGED}"))


@pytest.mark.parametrize(
    "path",
    [
        "/contacts?offset=25",
        "/contacts?cursor=x",
        "/contacts?advertiser_slug=x",
        "/contacts?rating=1",
        "/contacts?q=",
        "/contacts?q=a&q=b",
        "/contacts?advertiser_id=-5",
        "/contacts?advertiser_id=%2e%2e",
        "/advertisers?hienergy_id=1001",
        "/advertisers?email=x",
        "/advertisers/1001/contacts?advertiser_id=2001",
        "/advertisers/search_by_domain",
        "/advertisers/search_by_domain?domain=a.example&url=a.example",
        "/advertisers/search_by_domain?domain=a.example&name=a",
        "/contacts?dry_run=maybe",
        "/contacts?dry_run=true&dryRun=true",
    ],
)
async def test_no_other_parameter_is_passed_on_or_ignored(tmp_path: Path, path: str) -> None:
    async with gateway_and_upstream(_empty, tmp_path) as (gateway, upstream):
        response = await _get(gateway, path)

    if path.endswith("q="):
        assert upstream.calls() == [f"GET /api/v1/contacts?{PAGED}"]
        return
    assert response.json()["error"]["code"] == "INVALID_INPUT"
    assert upstream.calls() == []


def _empty(_: Request) -> Recording:
    return recorded(200, '{"data": []}')


@pytest.mark.parametrize(
    ("path", "calls"),
    [
        pytest.param("1001/contacts", ["advertisers/1001/contacts?{}"], id="id"),
        pytest.param(
            "northwind/contacts",
            ["advertisers/northwind", "advertisers/1001/contacts?{}"],
            id="slug",
        ),
        pytest.param(
            "1001/contacts?email=sam@example.com",
            ["advertisers/1001", "contacts?email=sam%40example.com&advertiser_id=1001&{}"],
            id="filter",
        ),
    ],
)
async def test_the_contacts_of_an_advertiser_are_hienergys_own_list(
    tmp_path: Path, path: str, calls: list[str]
) -> None:
    """Its own list has no documented filters, so a filtered one is the list of all contacts."""
    async with _in_front_of_hienergy(tmp_path, {}) as (gateway, hienergy):
        response = await _get(gateway, f"/advertisers/{path}")

    assert _emails(response.json())[-1] == EMAILS[2]
    expected = [parse_qsl(call.format(PAGED)) for call in calls]
    assert [parse_qsl(_path(request)) for request in hienergy.requests] == expected


def _path(request: Request) -> str:
    return request.target.removeprefix("/api/v1/")


@pytest.mark.parametrize("has_operation", [True, False])
@pytest.mark.parametrize("error_body", ErrorBody, ids=lambda body: body.name)
async def test_the_list_of_all_contacts_stands_in_for_a_missing_operation(
    tmp_path: Path, error_body: ErrorBody, *, has_operation: bool
) -> None:
    traits = {"has_advertiser_contacts": has_operation, "error_body": error_body}
    async with _in_front_of_hienergy(tmp_path, traits) as (gateway, hienergy):
        there = await gateway.rest("/advertisers/1001/contacts", KEY)
        calls = [_path(request).partition("?")[0] for request in hienergy.requests]
        unknown = await gateway.rest("/advertisers/999/contacts", KEY)

    assert _emails(there.json()) == [EMAILS[0], EMAILS[2]]
    own = ["advertisers/1001/contacts"]
    assert calls == (own if has_operation else [*own, "advertisers/1001", "contacts"])
    is_clear = error_body not in {ErrorBody.HTML, ErrorBody.EMPTY}
    assert unknown.json()["error"]["code"] == ("NOT_FOUND" if is_clear else "SERVICE_UNAVAILABLE")


async def test_a_read_that_is_refused_without_a_message_says_nothing_of_creations(
    tmp_path: Path,
) -> None:
    async with gateway_and_upstream(lambda _: recorded(403), tmp_path) as (gateway, _):
        messages = [
            (await gateway.rest(path, KEY)).json()["error"]["message"]
            for path in ("/contacts", "/advertisers/1001")
        ]

    assert messages == ["HiEnergy refuses the request with status 403."] * 2


async def test_the_list_of_all_contacts_stands_in_for_an_operation_with_other_methods(
    tmp_path: Path,
) -> None:
    def answer(request: Request) -> Recording:
        is_own_list = "/advertisers/1000/contacts" in request.target
        return recorded(405) if is_own_list else _catalogue(request)

    async with gateway_and_upstream(answer, tmp_path) as (gateway, _):
        response = await gateway.rest("/advertisers/1000/contacts", KEY)

    assert len(response.json()["data"]) == 50


async def test_the_calls_of_one_document_are_limited(tmp_path: Path) -> None:
    query = '{ contacts(q: "50", perPage: 50) { nodes { advertiser { name } } } }'
    limits = {"upstream_max_calls_per_request": 30}
    async with gateway_and_upstream(_catalogue, tmp_path, **limits) as (gateway, upstream):
        response = await gateway.graphql(query, KEY)
        calls = len(upstream.requests)
        again = await gateway.graphql("{ contacts { nodes { id } } }", KEY)

    body = response.json()
    advertisers = [node["advertiser"] for node in body["data"]["contacts"]["nodes"]]
    assert response.status_code == 200
    assert calls == 30
    assert len([one for one in advertisers if one is not None]) == 29
    assert len(body["errors"]) == 21
    message = "The request needs more than 30 calls to HiEnergy. Ask for fewer records."
    for error in body["errors"]:
        assert error["message"] == message
        assert error["extensions"]["code"] == "INVALID_INPUT"
    assert "errors" not in again.json()


async def test_a_creation_starts_only_if_enough_calls_are_left(tmp_path: Path) -> None:
    def create(name: str) -> str:
        given = f'advertiserId: 1001, email: "{name}@example.com"'
        return f"{name}: createContact(input: {{{given}}}) {{ ...Result }}"

    query = f"""mutation {{ {create("a")} {create("b")} }}
    fragment Result on CreateContactResult {{
      __typename
      ... on InvalidInputError {{ message problems {{ path code }} }}
    }}"""
    limits = {"upstream_max_calls_per_request": 30}
    async with _in_front_of_hienergy(tmp_path, {}, **limits) as (gateway, hienergy):
        body = (await gateway.graphql(query, KEY)).json()
        created = [contact.email for contact in hienergy.contacts[3:]]

    assert body["data"]["a"] == {"__typename": "Contact"}
    assert body["data"]["b"] == {
        "__typename": "InvalidInputError",
        "message": "The request needs more than 30 calls to HiEnergy. Ask for fewer records.",
        "problems": [{"path": "request", "code": "TOO_MANY_CALLS"}],
    }
    assert created == ["a@example.com"]


async def test_calls_and_rows_left_out_are_counted(tmp_path: Path) -> None:
    traits = {"odd_rows": True}
    async with _in_front_of_hienergy(tmp_path, traits, metrics=True) as (gateway, _):
        await gateway.rest("/contacts", KEY)
        await gateway.rest("/advertisers/northwind/contacts", KEY)
        metrics = (await gateway.client.get("/metrics")).text

    counted = dict(
        line.removeprefix("contact_gateway_upstream_").rsplit(" ", 1)
        for line in metrics.splitlines()
        if line.startswith("contact_gateway_upstream_") and "_created" not in line
    )
    assert counted == {
        'calls_total{operation="list_contacts"}': "1.0",
        'calls_total{operation="get_advertiser"}': "1.0",
        'calls_total{operation="list_contacts_of_advertiser"}': "1.0",
        "rows_skipped_total": "4.0",
    }


async def test_the_openapi_document_has_hienergys_filters(tmp_path: Path) -> None:
    async with gateway_and_upstream(_empty, tmp_path) as (gateway, _):
        served = (await gateway.rest("/schema")).json()

    assert served["paths"] == openapi_document(HIENERGY_FILTERS)["paths"]
    validate(served)
    lists = {
        path: {parameter["$ref"].rpartition("/")[2] for parameter in item["get"]["parameters"]}
        for path, item in served["paths"].items()
        if path in {"/contacts", "/advertisers", "/advertisers/{id}/contacts"}
    }
    assert {"phone", "advertiser_id"} < lists["/contacts"]
    assert "hienergy_id" not in lists["/advertisers"]
    assert {"name", "vertical"} < lists["/advertisers"]
    assert "phone" in lists["/advertisers/{id}/contacts"]
