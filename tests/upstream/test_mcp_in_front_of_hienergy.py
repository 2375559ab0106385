"""Tools in front of HiEnergy, which may not show which records belong to a brand."""

from pathlib import Path

import pytest

from support.hienergy import HiEnergy, Traits
from support.upstream import KEY, gateway_and_upstream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("shows_brands", [True, False], ids=["brands are shown", "not shown"])
@pytest.mark.parametrize(
    ("advertiser", "submitted"),
    [
        ("northwind", "1001"),
        ("northwind.example", "1001"),
        ("Northwind Outfitters", "1001"),
        ("2002", "1001 or 2002"),
        ("Northwind UK", "1001 or 2002"),
        ("Nobody", ""),
    ],
    ids=["a slug", "a domain", "a name", "an id", "a network record's name", "no name"],
)
async def test_a_contact_is_sent_for_the_one_advertiser_that_matches(
    tmp_path: Path, advertiser: str, submitted: str, *, shows_brands: bool
) -> None:
    hienergy = HiEnergy(Traits(shows_hienergy_id=shows_brands))
    async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
        answer = await gateway.mcp(
            "add_contact_for_advertiser", KEY, advertiser=advertiser, email="maya@example.com"
        )

    body = answer.json()["result"]["structuredContent"]
    sent = [str(arrival.contact["advertiser_id"]) for arrival in hienergy.creations]
    if not submitted:
        assert (body["error"]["code"], sent) == ("NOT_FOUND", [])
        return
    by_network_record, *_ = reversed(submitted.split(" or "))
    assert sent == ["1001" if shows_brands else by_network_record]
    assert body["data"]["attributes"]["advertiser_id"] == 1001


async def test_a_part_of_several_names_has_candidates(tmp_path: Path) -> None:
    hienergy = HiEnergy(Traits())
    async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
        answer = await gateway.mcp(
            "add_contact_for_advertiser", KEY, advertiser="orthwin", email="maya@example.com"
        )

    error = answer.json()["result"]["structuredContent"]["error"]
    assert error["code"] == "NOT_FOUND"
    assert [record["id"] for record in error["details"]["candidates"]] == ["1001", "2001", "2002"]
    assert hienergy.creations == []


async def test_a_key_that_hienergy_refuses_is_unauthorized(tmp_path: Path) -> None:
    hienergy = HiEnergy(Traits())
    async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
        answer = await gateway.mcp("get_advertiser", "not-a-key", id="northwind")

    assert answer.json()["result"]["structuredContent"]["error"]["code"] == "UNAUTHORIZED"
