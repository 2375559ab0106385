"""The export of HiEnergy's contacts: every page once, as slowly as HiEnergy asks for."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import pytest

from contact_gateway.access.principals import Credential
from contact_gateway.contact_files.exporting import ExportError
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.export import (
    MAX_OUTAGES,
    MAX_PAGES_OF_KNOWN_CONTACTS,
    exported_contacts,
)
from contact_gateway.upstream.source import UpstreamReads
from support.clock import WATCHDOG_SECONDS
from support.hienergy import HiEnergy, Paging, Traits, fake_hienergy
from support.upstream import KEY, Answering, Recording, Request, recorded, recorded_upstream

pytestmark = pytest.mark.anyio

NORTHWIND: Final = Advertiser(id=1001, name="Northwind", hienergy_id=1001)
NORTHWIND_US: Final = Advertiser(id=2001, name="Northwind US", hienergy_id=1001)
DOWN: Final = recorded(503, "", headers={"Retry-After": "7"})


class Waits(list[tuple[int, str]]):
    """Records the waits, and takes no time; `then` is what happens meanwhile."""

    then: Callable[[], object] = staticmethod(lambda: None)

    async def __call__(self, seconds: int, reason: str) -> None:
        self.append((seconds, reason))
        self.then()


@pytest.fixture
def waits() -> Waits:
    return Waits()


@asynccontextmanager
async def reads_of(url: str) -> AsyncIterator[UpstreamReads]:
    async with UpstreamClient(url, timeout_seconds=WATCHDOG_SECONDS, max_connections=1) as client:
        yield UpstreamReads(client, Credential.of(KEY))


async def export(url: str, waits: Waits, advertiser: Advertiser | None = None) -> list[Contact]:
    async with reads_of(url) as reads:
        parts = [part async for part in exported_contacts(reads, advertiser, waits)]
    return [contact for part in parts for contact in part.contacts]


def emails(contacts: list[Contact]) -> list[str]:
    return sorted(contact.email or "" for contact in contacts)


def fill(hienergy: HiEnergy, count: int = 7, advertiser_id: int = 1001) -> list[str]:
    added = [f"a{advertiser_id}-{number}@example.com" for number in range(count)]
    for email in added:
        hienergy.add(email, advertiser_id)
    return sorted(added)


def page_of(request: Request) -> int:
    return int(dict(parse_qsl(urlsplit(request.target).query))["page"])


def numbered(has_more: Callable[[int], bool], first_id: Callable[[int], int]) -> Answering:
    """Return an upstream with one contact on each page."""

    def answer(request: Request) -> Recording:
        page = page_of(request)
        row = {"id": first_id(page), "advertiser_id": 1001, "email": "maya@example.com"}
        return recorded(200, json.dumps({"data": [row], "meta": {"has_more": has_more(page)}}))

    return answer


async def test_it_reads_every_page_once(waits: Waits) -> None:
    async with fake_hienergy(Traits(page_cap=3)) as hienergy:
        added = fill(hienergy)
        exported = await export(hienergy.url, waits)

        assert emails(exported) == added
        assert [page_of(request) for request in hienergy.requests] == [1, 2, 3]
    assert waits == []


@pytest.mark.parametrize("paging", Paging, ids=lambda paging: paging.name)
async def test_it_reads_every_page_of_a_list_that_says_little_of_its_pages(
    waits: Waits, paging: Paging
) -> None:
    async with fake_hienergy(Traits(page_cap=3, paging=paging)) as hienergy:
        added = fill(hienergy)

        assert emails(await export(hienergy.url, waits)) == added


@pytest.mark.parametrize("status", [400, 404, 416, 422])
async def test_it_ends_where_a_page_that_was_tried_on_a_guess_is_refused(
    waits: Waits, status: int
) -> None:
    row = {"id": 1, "advertiser_id": 1001, "email": "maya@example.com"}
    only = recorded(200, json.dumps({"data": [row]}))
    refused = recorded(status, json.dumps({"error": {"code": "X", "message": "No such page."}}))
    async with recorded_upstream(lambda r: only if page_of(r) == 1 else refused) as upstream:
        assert [contact.id for contact in await export(upstream.url, waits)] == [1]
    assert waits == []


async def test_it_goes_on_after_a_page_whose_rows_cannot_be_read(waits: Waits) -> None:
    def answer(request: Request) -> Recording:
        row = {"id": page_of(request), "advertiser_id": 1001, "email": "maya@example.com"}
        pages: dict[int, list[object]] = {1: [row], 2: [{"email": "odd"}], 3: [row]}
        return recorded(200, json.dumps({"data": pages.get(page_of(request), [])}))

    async with recorded_upstream(answer) as upstream:
        assert [contact.id for contact in await export(upstream.url, waits)] == [1, 3]


async def test_it_ends_where_the_number_of_a_page_is_ignored(waits: Waits) -> None:
    row = {"id": 1, "advertiser_id": 1001, "email": "maya@example.com"}
    page = recorded(200, json.dumps({"data": [row]}))
    async with recorded_upstream(lambda _: page) as upstream:
        assert [contact.id for contact in await export(upstream.url, waits)] == [1]


async def test_an_empty_list_has_no_contacts(waits: Waits) -> None:
    async with fake_hienergy() as hienergy:
        assert await export(hienergy.url, waits) == []


async def test_a_contact_that_a_page_has_twice_is_exported_once(waits: Waits) -> None:
    row = {"id": 1, "advertiser_id": 1001, "email": "maya@example.com"}
    page = recorded(200, json.dumps({"data": [row, row], "meta": {"has_more": False}}))
    async with recorded_upstream(lambda _: page) as upstream:
        assert [contact.id for contact in await export(upstream.url, waits)] == [1]


@pytest.mark.parametrize(
    "traits",
    [
        Traits(page_cap=3),
        Traits(page_cap=3, has_advertiser_contacts=False),
        Traits(page_cap=3, has_advertiser_contacts=False, filters_work=False),
    ],
    ids=["own list", "filter", "ignored filter"],
)
@pytest.mark.parametrize("record", [NORTHWIND, NORTHWIND_US], ids=lambda record: str(record.id))
async def test_it_has_the_contacts_of_one_brand_alone(
    waits: Waits, traits: Traits, record: Advertiser
) -> None:
    async with fake_hienergy(traits) as hienergy:
        added = fill(hienergy)
        fill(hienergy, advertiser_id=1002)

        assert emails(await export(hienergy.url, waits, record)) == added


async def test_many_pages_of_other_brands_do_not_end_it(waits: Waits) -> None:
    traits = Traits(page_cap=1, has_advertiser_contacts=False, filters_work=False)
    async with fake_hienergy(traits) as hienergy:
        added = fill(hienergy, 1)
        fill(hienergy, MAX_PAGES_OF_KNOWN_CONTACTS + 1, advertiser_id=1002)

        assert emails(await export(hienergy.url, waits, NORTHWIND)) == added


async def test_rows_that_cannot_be_read_are_counted(waits: Waits) -> None:
    async with fake_hienergy(Traits(odd_rows=True)) as hienergy:
        fill(hienergy, 1)
        async with reads_of(hienergy.url) as reads:
            parts = [part async for part in exported_contacts(reads, None, waits)]

    assert [(len(part.contacts), part.skipped) for part in parts] == [(1, 2)]
    assert parts[0].end is None


async def test_it_waits_as_long_as_a_429_says(waits: Waits) -> None:
    async with fake_hienergy(Traits(page_cap=3)) as hienergy:
        added = fill(hienergy)

        def answer(request: Request) -> Recording:
            if page_of(request) == 2 and not waits:
                return recorded(429, "", headers={"Retry-After": "1800"})
            return hienergy.answer(request)

        async with recorded_upstream(answer) as upstream:
            exported = await export(upstream.url, waits)

    assert emails(exported) == added
    assert waits == [(1800, "HiEnergy limits the rate")]


async def test_contacts_that_are_created_meanwhile_repeat_none(waits: Waits) -> None:
    async with fake_hienergy(Traits(page_cap=3)) as hienergy:
        added = fill(hienergy)
        waits.then = lambda: fill(hienergy, 8, 1002)

        def answer(request: Request) -> Recording:
            if page_of(request) == 2 and not waits:
                return recorded(429, "", headers={"Retry-After": "1"})
            return hienergy.answer(request)

        async with recorded_upstream(answer) as upstream:
            exported = await export(upstream.url, waits)

    assert len({contact.id for contact in exported}) == len(exported)
    assert set(added) <= set(emails(exported))


async def test_an_outage_between_pages_is_waited_for(waits: Waits) -> None:
    async with fake_hienergy(Traits(page_cap=3)) as hienergy:
        added = fill(hienergy)

        def answer(request: Request) -> Recording:
            is_down = page_of(request) == 2 and len(waits) < 2
            return DOWN if is_down else hienergy.answer(request)

        async with recorded_upstream(answer) as upstream:
            exported = await export(upstream.url, waits)

    assert emails(exported) == added
    assert waits == [(7, "HiEnergy does not answer")] * 2


@pytest.mark.parametrize(("page", "waited"), [(1, 0), (2, MAX_OUTAGES)])
async def test_an_outage_that_does_not_end_is_an_error(
    waits: Waits, page: int, waited: int
) -> None:
    answer = numbered(has_more=lambda _: True, first_id=lambda number: number)

    async with recorded_upstream(
        lambda request: DOWN if page_of(request) == page else answer(request)
    ) as upstream:
        with pytest.raises(SourceUnavailable):
            await export(upstream.url, waits)

    assert len(waits) == waited


async def test_a_wrong_key_is_an_error(waits: Waits) -> None:
    message = json.dumps({"error": {"code": "UNAUTHORIZED", "message": "Invalid API key."}})
    async with recorded_upstream(lambda _: recorded(401, message)) as upstream:
        with pytest.raises(ExportError, match=r"HiEnergy refuses page 1: Invalid API key\."):
            await export(upstream.url, waits)


async def test_an_advertiser_that_was_deleted_is_an_error(waits: Waits) -> None:
    async with fake_hienergy() as hienergy:
        with pytest.raises(ExportError, match="does not have this advertiser any more"):
            await export(hienergy.url, waits, Advertiser(id=77, name="Gone"))


async def test_pages_that_repeat_without_end_are_an_error(waits: Waits) -> None:
    same = numbered(has_more=lambda _: True, first_id=lambda _: 1)
    async with recorded_upstream(same) as upstream:
        with pytest.raises(ExportError, match="have the contacts of earlier pages"):
            await export(upstream.url, waits)

        assert len(upstream.requests) == 1 + MAX_PAGES_OF_KNOWN_CONTACTS


async def test_an_empty_page_is_the_last(waits: Waits) -> None:
    empty = json.dumps({"data": [], "meta": {"has_more": True}})
    async with recorded_upstream(lambda _: recorded(200, empty)) as upstream:
        assert await export(upstream.url, waits) == []
        assert len(upstream.requests) == 1
