"""The advertisers that rows of a file name."""

import pytest

from contact_gateway.contact_files.advertiser_cells import AdvertiserCells
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
)
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.outcomes import Forbidden, InvalidInput, RateLimited, ReadRefusal
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from support.gateway import CATALOGUE

pytestmark = pytest.mark.anyio

EMAIL = {"email": "maya@example.com"}


class Counted:
    """The catalogue, by slug alone, or a refusal of every read."""

    def __init__(self, refusal: ReadRefusal | None = None) -> None:
        self.refusal = refusal
        self.calls = 0

    async def advertisers(
        self, _: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        self.calls += 1
        return self.refusal or Page((), page, has_more=False)

    async def advertisers_by_id(self, ids: object) -> dict[int, Advertiser | ReadRefusal]:
        raise AssertionError(ids)

    async def advertiser_by_slug(self, slug: str) -> Advertiser | ReadRefusal | None:
        self.calls += 1
        return self.refusal or next((each for each in CATALOGUE if each.slug == slug), None)


async def test_an_advertiser_is_looked_up_once() -> None:
    advertisers = Counted()
    cells = AdvertiserCells(advertisers, accepts_names=True)

    found = [
        await cells.contact_of({"advertiser": name, **EMAIL})
        for name in ("northwind", " Northwind", "northwind")
    ]

    assert found == [{**EMAIL, "advertiser_id": 1001}] * 3
    assert advertisers.calls == 1


async def test_a_missing_advertiser_is_looked_up_once() -> None:
    advertisers = Counted()
    cells = AdvertiserCells(advertisers, accepts_names=True)

    first = await cells.contact_of({"advertiser": "nowhere", **EMAIL})
    calls = advertisers.calls
    second = await cells.contact_of({"advertiser": "nowhere", **EMAIL})

    assert first == second
    assert isinstance(first, RowOutcome)
    assert first.outcome is Outcome.NOT_FOUND
    assert advertisers.calls == calls


@pytest.mark.parametrize("an_id", ["2001", 2001, " 02001 "], ids=["text", "number", "padded"])
async def test_an_id_is_not_looked_up(an_id: object) -> None:
    cells = AdvertiserCells(Counted(), accepts_names=False)

    contact = await cells.contact_of({"advertiser": an_id, **EMAIL})

    assert contact == {**EMAIL, "advertiser_id": 2001}


async def test_all_problems_of_a_row_without_an_advertiser_are_reported() -> None:
    cells = AdvertiserCells(Counted(), accepts_names=False)

    outcome = await cells.contact_of({"advertiser": "nowhere", "email": "x", "phone": "\0"})

    assert isinstance(outcome, RowOutcome)
    assert outcome.outcome is Outcome.INVALID
    assert set(outcome.problems) == {"advertiser", "email", "phone"}


async def test_a_limited_lookup_postpones_the_row_and_is_not_cached() -> None:
    advertisers = Counted(RateLimited(20))
    cells = AdvertiserCells(advertisers, accepts_names=True)
    row = {"advertiser": "northwind", **EMAIL}

    assert await cells.contact_of(row) == Postponed(20)
    advertisers.refusal = None
    assert await cells.contact_of(row) == {**EMAIL, "advertiser_id": 1001}


async def test_a_refused_lookup_stops_the_import() -> None:
    cells = AdvertiserCells(Counted(Forbidden("The key may not read.")), accepts_names=True)

    with pytest.raises(ImportStoppedError, match="The key may not read"):
        await cells.contact_of({"advertiser": "northwind", **EMAIL})


async def test_a_name_that_the_source_refuses_is_invalid() -> None:
    problem = Problem(("query",), ProblemCode.REFUSED, "Too short.")
    cells = AdvertiserCells(Counted(InvalidInput((problem,), "Too short.")), accepts_names=True)

    outcome = await cells.contact_of({"advertiser": "x", **EMAIL})

    assert isinstance(outcome, RowOutcome)
    assert outcome.problems == {"advertiser": "Too short."}
