"""Dry runs and single contacts in front of HiEnergy: reads, and what the ledger adds to them."""

import json
from pathlib import Path
from typing import Final

import pytest

from support.faces import FACES, Face, Json
from support.gateway import Gateway
from support.hienergy import DryRun, HiEnergy, Shown, Traits, jwt
from support.upstream import KEY, Recording, Request, gateway_and_upstream, recorded

pytestmark = pytest.mark.anyio

MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com", "name": "Maya"}
REST: Final = FACES["REST"]
FORWARDED: Final = {"upstream_honours_dry_run": "yes"}


@pytest.fixture(params=list(FACES.values()), ids=list(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    chosen: Face = request.param
    return chosen


async def _not_checked(gateway: Gateway, contact: dict[str, Json]) -> list[str]:
    response = await gateway.client.post(
        "/api/v1/contacts?dry_run=true", json={"contact": contact}, headers={"X-Api-Key": KEY}
    )
    assert response.json()["meta"]["dry_run"] is True
    listed: list[str] = response.json()["meta"]["not_checked"]
    return listed


class TestAPreviewByReads:
    async def test_shows_the_hienergy_record_if_hienergy_does(
        self, tmp_path: Path, face: Face
    ) -> None:
        hienergy = HiEnergy(Traits(shows_hienergy_id=True))
        async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
            answer = await face.submit(gateway, MAYA, KEY, dry_run=True)
            not_checked = await _not_checked(gateway, MAYA)

        assert answer.outcome == "PREVIEW"
        assert answer.contact is not None
        assert (answer.contact["advertiser_id"], answer.contact["name"]) == ("1001", "Maya")
        assert not any("Which HiEnergy advertiser" in sentence for sentence in not_checked)

    async def test_says_that_the_owner_is_not_known(self, tmp_path: Path) -> None:
        async with gateway_and_upstream(HiEnergy().answer, tmp_path) as (gateway, _):
            not_checked = await _not_checked(gateway, MAYA)

        assert "Which HiEnergy advertiser would own the contact." in not_checked

    async def test_of_a_hienergy_record_is_on_that_record(self, tmp_path: Path, face: Face) -> None:
        async with gateway_and_upstream(HiEnergy().answer, tmp_path) as (gateway, _):
            answer = await face.submit(gateway, {**MAYA, "advertiser_id": 1001}, KEY, dry_run=True)

        assert answer.contact is not None
        assert answer.contact["advertiser_id"] == "1001"

    async def test_of_an_unknown_advertiser_is_not_found(self, tmp_path: Path, face: Face) -> None:
        async with gateway_and_upstream(HiEnergy().answer, tmp_path) as (gateway, _):
            answer = await face.submit(gateway, {**MAYA, "advertiser_id": 4}, KEY, dry_run=True)

        assert answer.outcome == "NOT_FOUND"

    async def test_of_a_taken_address_is_a_conflict(self, tmp_path: Path, face: Face) -> None:
        hienergy = HiEnergy(Traits(shows_hienergy_id=True))
        hienergy.add("maya@example.com")
        async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
            answer = await face.submit(gateway, MAYA, KEY, dry_run=True)

        assert answer.outcome == "CONFLICT"

    @pytest.mark.parametrize(
        ("advertiser", "lists", "outcome"),
        [
            (401, 200, "UNAUTHORIZED"),
            (429, 200, "RATE_LIMITED"),
            (422, 200, "SERVICE_UNAVAILABLE"),
            (200, 401, "UNAUTHORIZED"),
            (200, 429, "RATE_LIMITED"),
            (200, 403, "PREVIEW"),
            (200, 500, "PREVIEW"),
        ],
    )
    async def test_is_what_the_reads_are_refused_with(
        self, tmp_path: Path, face: Face, advertiser: int, lists: int, outcome: str
    ) -> None:
        record: Json = {"data": {"id": "2001", "attributes": {"name": "Northwind US"}}}

        def answer(request: Request) -> Recording:
            is_list = "contacts" in request.target
            status = lists if is_list else advertiser
            body: Json = {"data": []} if is_list else record
            refusal = {"error": {"code": "X", "message": "No."}}
            return recorded(status, json.dumps(body if status == 200 else refusal))

        async with gateway_and_upstream(answer, tmp_path) as (gateway, _):
            previewed = await face.submit(gateway, MAYA, KEY, dry_run=True)

        assert previewed.outcome == outcome


class TestAForwardedDryRun:
    @pytest.mark.parametrize("style", [DryRun.MESSAGE, DryRun.GATEWAY], ids=lambda one: one.name)
    async def test_is_a_preview_in_either_style(
        self, tmp_path: Path, face: Face, style: DryRun
    ) -> None:
        hienergy = HiEnergy(Traits(dry_run=style))
        async with gateway_and_upstream(hienergy.answer, tmp_path, **FORWARDED) as (gateway, _):
            answer = await face.submit(gateway, MAYA, KEY, dry_run=True)

        assert answer.outcome == "PREVIEW"
        assert answer.contact is not None
        assert answer.contact["advertiser_id"] == "1001"
        assert hienergy.contacts == []

    @pytest.mark.parametrize("key", ["k", None], ids=["with a key", "without a key"])
    async def test_that_created_an_unnamed_contact_is_unknown(
        self, tmp_path: Path, face: Face, key: str | None
    ) -> None:
        hienergy = HiEnergy(Traits(creation_shows=Shown.EMPTY_DATA))
        async with gateway_and_upstream(hienergy.answer, tmp_path, **FORWARDED) as (gateway, _):
            previewed = await face.submit(gateway, MAYA, KEY, idempotency_key=key, dry_run=True)
            created = await face.submit(gateway, MAYA, KEY, idempotency_key="k")

        assert previewed.outcome == "OUTCOME_UNKNOWN"
        assert previewed.message is not None
        assert ("is not sent again" in previewed.message) == (key is not None)
        if key is not None:
            assert created.outcome == "OUTCOME_UNKNOWN"
            assert len(hienergy.contacts) == 1

    async def test_that_created_a_contact_keeps_it_for_the_key(
        self, tmp_path: Path, face: Face
    ) -> None:
        hienergy = HiEnergy(Traits())
        async with gateway_and_upstream(hienergy.answer, tmp_path, **FORWARDED) as (gateway, _):
            await gateway.client.post(
                "/api/v1/contacts?dry_run=true",
                json={"contact": MAYA},
                headers={"X-Api-Key": KEY, "Idempotency-Key": "k"},
            )
            created = await face.submit(gateway, MAYA, KEY, idempotency_key="k")

        assert created.outcome == "CONTACT"
        assert len(hienergy.contacts) == 1


class TestASingleContact:
    """HiEnergy has no operation for one, unless a test says so."""

    @pytest.mark.parametrize("is_rated", [False, True], ids=["in no list", "in a list"])
    async def test_is_the_ledgers_for_the_person_that_created_it(
        self, tmp_path: Path, *, is_rated: bool
    ) -> None:
        hienergy = HiEnergy(Traits(rates_new_contacts=is_rated))
        async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
            await REST.submit(gateway, MAYA, jwt("maya"), idempotency_key="k")
            statuses = [
                (await gateway.rest("/contacts/1", token)).status_code
                for token in (jwt("maya", n=2), jwt("maya", good=False), jwt("noor"))
            ]
            unknown = await gateway.rest("/contacts/2", jwt("maya"))

        assert statuses == [200, 401, 404]
        assert unknown.status_code == 404

    async def test_is_hienergys_where_it_has_the_operation(self, tmp_path: Path) -> None:
        hienergy = HiEnergy(Traits(has_contact_operation=True))
        hienergy.add("noor@example.com")
        async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
            await REST.submit(gateway, MAYA, KEY, idempotency_key="k")
            shown = await gateway.rest("/contacts/1", KEY)
            del hienergy.contacts[1]
            deleted = await gateway.rest("/contacts/2", KEY)

        assert shown.json()["data"]["attributes"]["email"] == "noor@example.com"
        assert deleted.status_code == 404

    async def test_is_the_ledgers_where_hienergy_has_only_other_methods_for_it(
        self, tmp_path: Path
    ) -> None:
        hienergy = HiEnergy()

        def answer(request: Request) -> Recording:
            is_single = request.target.startswith("/api/v1/contacts/")
            return recorded(405) if is_single else hienergy.answer(request)

        async with gateway_and_upstream(answer, tmp_path) as (gateway, _):
            await REST.submit(gateway, MAYA, KEY, idempotency_key="k")
            created, unknown = [await gateway.rest(f"/contacts/{n}", KEY) for n in (1, 2)]

        assert (created.status_code, unknown.status_code) == (200, 404)

    async def test_is_unavailable_where_hienergy_is(self, tmp_path: Path) -> None:
        async with gateway_and_upstream(lambda _: recorded(503), tmp_path) as (gateway, _):
            response = await gateway.rest("/contacts/1", KEY)

        assert response.status_code == 503
