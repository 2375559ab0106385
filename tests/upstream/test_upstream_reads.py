"""Reads in front of an upstream API: the same answers, with few calls."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.ledger import Ledger
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.settings import sqlite_url
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.store.sqlite import Database
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.creations import Creations
from contact_gateway.upstream.source import MAX_CONCURRENT_CALLS, UpstreamAccess
from support.clock import WATCHDOG_SECONDS, ManualClock
from support.faces import FACES, Json
from support.gateway import BIG_ID, Gateway, credentials, empty_store, running_gateway
from support.upstream import (
    KEY,
    Answering,
    Recording,
    Request,
    UpstreamGateway,
    gateway_and_upstream,
    recorded,
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
    "/contacts?q=%26page%3D7&unknown=1",
    "/contacts?page=0",
    "/contacts?per_page=101",
    "/contacts/999999",
    "/contacts/abc",
    "/advertisers",
    "/advertisers?q=north&per_page=2",
    "/advertisers?domain=northwind.example",
    "/advertisers?hienergy_id=1001",
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
        super().__init__(client, Credential(KEY), Creations(client.timeout_seconds, ledger))
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
    access = HangingAccess(SqlLedger(Database(sqlite_url(empty_store(tmp_path, {}).url))))
    read = asyncio.create_task(access.advertisers_by_id(range(40)))
    await access.is_crowded.wait()
    await stopped_clock.advance(access.timeout_seconds)
    with pytest.raises(SourceUnavailable, match="several records"):
        await read

    assert access.cancelled == access.begun == MAX_CONCURRENT_CALLS


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


async def test_a_created_contact_is_returned_though_its_advertiser_cannot_be_read(
    tmp_path: Path,
) -> None:
    def answering(request: Request) -> Recording:
        if request.method == "POST":
            return recorded(201, json.dumps({"data": _contact(1, 1001)}))
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
