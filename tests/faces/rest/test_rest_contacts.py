"""The REST API: HiEnergy's resources, headers and reads."""

from collections.abc import Mapping
from typing import cast

import pytest
from starlette.datastructures import ImmutableMultiDict, QueryParams

from contact_gateway.faces.rest.openapi import openapi_document
from support.gateway import BIG_ID, Gateway, credentials

pytestmark = pytest.mark.anyio


async def _create(gateway: Gateway, email: str, advertiser_id: int = 1001, **more: str) -> int:
    response = await gateway.client.post(
        "/api/v1/contacts",
        json={"contact": {"advertiser_id": advertiser_id, "email": email, **more}},
        headers=credentials(gateway.admin),
    )
    assert response.status_code == 201
    return int(response.json()["data"]["id"])


async def test_a_created_contact_can_be_read_at_its_location(gateway: Gateway) -> None:
    response = await gateway.client.post(
        "/api/v1/contacts",
        json={
            "contact": {
                "advertiser_id": "2006",
                "email": "Maya@EXAMPLE.com",
                "given_name": " Maya ",
                "family_name": "Lindqvist",
                "job_title": "",
                "linkedin_profile_url": "https://www.linkedin.com/in/maya",
            }
        },
        headers=credentials(gateway.admin),
    )

    assert response.status_code == 201
    created = response.json()
    attributes = dict(created["data"]["attributes"])
    assert created["data"]["type"] == "contact"
    assert created["meta"] == {}
    assert attributes.pop("created_at") == attributes.pop("updated_at")
    assert attributes == {
        "advertiser_id": BIG_ID,
        "advertiser_name": "Meridian",
        "email": "Maya@example.com",
        "name": "Maya Lindqvist",
        "given_name": "Maya",
        "family_name": "Lindqvist",
        "phone": None,
        "job_title": None,
        "source": None,
        "status": None,
        "linkedin_profile_url": "https://www.linkedin.com/in/maya",
    }
    location = response.headers["Location"]
    assert location == f"/api/v1/contacts/{created['data']['id']}"
    read = await gateway.client.get(location, headers=credentials(gateway.member))
    assert read.json()["data"] == created["data"]


async def test_the_alias_creates_a_contact(gateway: Gateway) -> None:
    response = await gateway.client.post(
        "/api/v1/contacts/add",
        json={"contact": {"advertiser_id": 1001, "email": "maya@example.com"}},
        headers={"Authorization": f"bearer {gateway.admin}"},
    )

    assert response.status_code == 201


async def test_unknown_fields_are_ignored_and_listed(gateway: Gateway) -> None:
    response = await gateway.client.post(
        "/api/v1/contacts",
        content=b'{"x": 1, "contact": {"advertiser_id": 1001, "email": "m@example.com",'
        b' "nickname": "M", "\\ud800": 1}}',
        headers={"Content-Type": "application/json", **credentials(gateway.admin)},
    )

    assert response.status_code == 201
    assert response.json()["meta"]["ignored_fields"] == ["x", "contact.nickname", "contact.?"]


@pytest.mark.parametrize("name", ["dry_run", "dryRun"])
async def test_a_dry_run_by_either_name_creates_nothing(gateway: Gateway, name: str) -> None:
    before = await gateway.contact_rows()
    response = await gateway.client.post(
        f"/api/v1/contacts?{name}=true",
        json={"contact": {"advertiser_id": 1001, "email": "maya@example.com"}},
        headers=credentials(gateway.admin),
    )

    assert (response.status_code, response.json()["meta"]) == (200, {"dry_run": True})
    assert await gateway.contact_rows() == before


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k-1"}, {"Idempotency-Key": '"k-1"'}])
async def test_an_idempotency_key_in_the_query_is_that_of_the_header(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    contact = {"contact": {"advertiser_id": 1001, "email": "maya@example.com"}}
    admin = credentials(gateway.admin)
    created, replayed = [
        await gateway.client.post(path, json=contact, headers=admin | sent)
        for path, sent in (
            ("/api/v1/contacts?idempotency_key=k-1", headers),
            ("/api/v1/contacts", {"Idempotency-Key": "k-1"}),
        )
    ]

    assert (created.status_code, replayed.status_code) == (201, 201)
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert replayed.json()["data"] == created.json()["data"]


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        ("dryrun=true", "Did you mean `dry_run`?"),
        ("idempotencyKey=k", "Did you mean `idempotency_key`?"),
        ("x=1", "The parameters are `dry_run`, `idempotency_key`, `on_conflict`."),
    ],
)
async def test_an_unknown_parameter_is_refused_with_the_nearest_known_one(
    gateway: Gateway, query: str, advice: str
) -> None:
    response = await gateway.client.post(
        f"/api/v1/contacts?{query}",
        json={"contact": {"advertiser_id": 1001, "email": "maya@example.com"}},
        headers=credentials(gateway.admin),
    )

    (problem,) = response.json()["error"]["details"]["problems"]
    assert problem["message"] == f"Unknown parameter. {advice}"


async def test_only_the_first_of_many_unknown_parameters_have_advice(gateway: Gateway) -> None:
    query = "&".join(f"p{number}=1" for number in range(1_000))
    response = await gateway.client.get(
        f"/api/v1/contacts?{query}", headers=credentials(gateway.member)
    )

    messages = [each["message"] for each in response.json()["error"]["details"]["problems"]]
    assert len(messages) == 1_000
    assert sum(message != "Unknown parameter." for message in messages) == 10


async def test_no_parameter_of_a_query_is_looked_up_by_itself(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lookup reads the whole query, and anyone may send one of thousands of names."""
    lookups: list[str] = []
    getlist = ImmutableMultiDict.getlist

    def counted(parameters: QueryParams, name: str) -> list[str]:
        lookups.append(name)
        return getlist(parameters, name)

    monkeypatch.setattr(ImmutableMultiDict, "getlist", counted)
    query = "&".join(f"p{number}=1" for number in range(100))
    response = await gateway.client.get(f"/api/v1/contacts?{query}")

    assert response.status_code == 401
    assert lookups == []


async def test_a_dry_run_returns_a_preview_without_an_id(gateway: Gateway) -> None:
    response = await gateway.client.post(
        "/api/v1/contacts?dry_run=true",
        json={"contact": {"advertiser_id": 2001, "email": "maya@example.com"}},
        headers=credentials(gateway.admin),
    )

    assert response.status_code == 200
    body = response.json()
    assert body["meta"] == {"dry_run": True}
    assert body["data"]["id"] is None
    assert body["data"]["attributes"]["created_at"] is None
    assert body["data"]["attributes"]["advertiser_id"] == 1001
    assert await gateway.contact_rows() == 0


async def test_a_replay_is_marked(gateway: Gateway) -> None:
    request = {"contact": {"advertiser_id": 1001, "email": "maya@example.com"}}
    headers = credentials(gateway.admin) | {"Idempotency-Key": "k"}
    first = await gateway.client.post("/api/v1/contacts", json=request, headers=headers)
    again = await gateway.client.post("/api/v1/contacts", json=request, headers=headers)

    assert "Idempotent-Replayed" not in first.headers
    assert again.status_code == 201
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()


async def test_contacts_are_paged_newest_first(gateway: Gateway) -> None:
    ids = [await _create(gateway, f"c{number}@example.com") for number in range(3)]

    first = (await gateway.rest("/contacts", gateway.member, limit=2)).json()
    second = (await gateway.rest("/contacts", gateway.member, per_page=2, page=2)).json()

    assert [int(item["id"]) for item in first["data"]] == [ids[2], ids[1]]
    assert first["meta"] == {"current_page": 1, "next_page": 2, "per_page": 2, "has_more": True}
    assert [int(item["id"]) for item in second["data"]] == [ids[0]]
    assert second["meta"] == {
        "current_page": 2,
        "next_page": None,
        "per_page": 2,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "MÜLLER"}, {"anna@example.com"}),
        ({"q": "%"}, set()),
        ({"email": "ANNA@example.com"}, {"anna@example.com"}),
        ({"email": "anna"}, set()),
        ({"email": "carl@XN--BCHER-KVA.example"}, {"carl@bücher.example"}),
        ({"advertiser_id": 2001}, {"anna@example.com"}),
        ({"advertiser_id": 3001}, set()),
        ({"advertiser_id": "Northwind"}, {"anna@example.com"}),
        ({"advertiser_id": "no-such-slug"}, set()),
        ({"query": "müller"}, {"anna@example.com"}),
        ({"search": "müller"}, {"anna@example.com"}),
        ({"q": "müller", "query": "buyer"}, set()),
        ({"advertiser_domain": "NORTHWIND.example"}, {"anna@example.com"}),
        ({"advertiser_domain": "northwind.example", "domain": "kestrel.example"}, set()),
        ({"q": "müller", "dry_run": "true"}, {"anna@example.com"}),
        ({"advertiser_name": "outfit"}, {"anna@example.com"}),
        ({"domain": "northwind.example"}, {"anna@example.com"}),
        ({"q": "example.com", "advertiser_id": 1002}, {"ben@example.com"}),
        ({"q": "example.com", "advertiser_name": "northwind"}, {"anna@example.com"}),
        ({"advertiser_name": "northwind.example"}, set()),
    ],
    ids=lambda value: ", ".join(
        sorted(map(str, value.items() if isinstance(value, dict) else value))
    ),
)
async def test_contacts_are_filtered(
    gateway: Gateway, query: dict[str, str | int], expected: set[str]
) -> None:
    await _create(gateway, "anna@example.com", family_name="Müller")
    await _create(gateway, "ben@example.com", 1002)
    await _create(gateway, "carl@bücher.example", 1002, job_title="Buyer")

    found = (await gateway.rest("/contacts", gateway.member, **query)).json()["data"]

    assert {item["attributes"]["email"] for item in found} == expected


@pytest.mark.parametrize("record", [1001, 2001, 2002])
async def test_a_brands_contacts_are_those_of_its_hienergy_record(
    gateway: Gateway, record: int
) -> None:
    contact_id = await _create(gateway, "anna@example.com", 2002)

    found = (await gateway.rest(f"/advertisers/{record}/contacts", gateway.member)).json()

    assert [item["id"] for item in found["data"]] == [str(contact_id)]


async def test_advertisers_are_listed_and_read(gateway: Gateway) -> None:
    found = (await gateway.rest("/advertisers", gateway.member, q="NORTHWIND")).json()["data"]
    one = (await gateway.rest("/advertisers/2001", gateway.member)).json()["data"]

    assert [item["id"] for item in found] == ["2002", "2001", "1001"]
    assert one["attributes"]["network_name"] == "CJ"
    assert one["attributes"]["hienergy_id"] == "1001"


@pytest.mark.parametrize(
    "query",
    [
        "domain=northwind.example",
        "domain=NORTHWIND.example",
        "domain=www.northwind.example",
        "domain=https://www.northwind.example:443/shoes?size=9",
        "url=https://northwind.example/",
        "url=northwind.example/shoes&limit=5&dry_run=true",
    ],
)
async def test_advertisers_are_found_by_a_domain_or_a_url(gateway: Gateway, query: str) -> None:
    found, listed = [
        (await gateway.client.get(f"/api/v1{path}", headers=credentials(gateway.member))).json()
        for path in (
            f"/advertisers/search_by_domain?{query}",
            "/advertisers?domain=northwind.example",
        )
    ]

    assert [record["id"] for record in found["data"]] == ["1001"]
    assert found["data"] == listed["data"]
    assert found["meta"].keys() == listed["meta"].keys()


async def test_every_64_bit_id_has_a_form_that_javascript_does_not_round(gateway: Gateway) -> None:
    await _create(gateway, "noor@example.com", 2006)
    contacts = (await gateway.rest("/contacts", gateway.member)).json()["data"]
    record = (await gateway.rest("/advertisers/2006", gateway.member)).json()["data"]
    request = {"contact": {"advertiser_id": 2006, "email": "ola@example.com"}}
    headers = credentials(gateway.admin)
    path = "/api/v1/contacts?dry_run=true"
    preview = (await gateway.client.post(path, json=request, headers=headers)).json()["data"]

    owner = {"advertiser": {"data": {"type": "advertiser", "id": str(BIG_ID)}}}
    assert [contact["relationships"] for contact in contacts] == [owner]
    assert preview["relationships"] == owner
    assert record["attributes"]["hienergy_id"] == str(BIG_ID)


@pytest.mark.parametrize(
    "path",
    [
        "/contacts",
        "/contacts/1",
        "/advertisers",
        "/advertisers/search_by_domain?domain=a.example",
        "/advertisers/1001",
        "/advertisers/1001/contacts",
    ],
)
async def test_a_read_needs_a_key_and_counts_as_one_operation(
    new_gateway: Gateway, path: str
) -> None:
    refused = await new_gateway.rest(path, None)
    expired = await new_gateway.rest(path, new_gateway.expired)
    allowed = await new_gateway.rest(path, new_gateway.member)

    assert (refused.status_code, expired.status_code) == (401, 401)
    assert allowed.headers["X-RateLimit-Remaining"] == "9999"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize(
    "path", ["/deals", "/advertisers/1001/similar_advertisers", "/", "/contacts/", "/a%2F..%2Fb"]
)
async def test_an_unknown_operation_is_a_404_that_lists_those_of_the_gateway(
    gateway: Gateway, method: str, path: str
) -> None:
    headers = credentials(gateway.member)
    response = await gateway.client.request(method, f"/api/v1{path}", headers=headers)

    paths = cast("Mapping[str, Mapping[str, object]]", openapi_document()["paths"])
    documented = {f"{method.upper()} /api/v1{path}" for path in paths for method in paths[path]}
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "NOT_FOUND"
    assert set(error["details"]["operations"]) == documented


@pytest.mark.parametrize("path", ["/contacts/{}", "/advertisers/1001", "/advertisers/northwind"])
@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("include=x", ("include", "UNKNOWN_PARAMETER")),
        ("page=1", ("page", "UNKNOWN_PARAMETER")),
        ("dry_run=true", None),
        ("dryRun=1", None),
        ("dry_run=x", ("dry_run", "INVALID_TYPE")),
        ("", None),
    ],
)
async def test_a_record_has_no_parameter_that_is_ignored(
    gateway: Gateway, path: str, query: str, problem: tuple[str, str] | None
) -> None:
    contact_id = await _create(gateway, "anna@example.com")
    headers = credentials(gateway.member)
    url = f"/api/v1{path.format(contact_id)}?{query}"
    response = await gateway.client.get(url, headers=headers)

    if problem is None:
        assert response.status_code == 200
    else:
        (found,) = response.json()["error"]["details"]["problems"]
        assert (found["path"], found["code"]) == problem


async def test_head_has_the_status_of_get(gateway: Gateway) -> None:
    response = await gateway.client.head("/api/v1/contacts", headers=credentials(gateway.member))

    assert response.status_code == 200
