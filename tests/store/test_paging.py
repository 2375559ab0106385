"""A walk through the pages of a list: each begins where the one before it ended."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, Creation, PageRequest
from contact_gateway.store import paging
from contact_gateway.store.database import Database
from contact_gateway.store.paging import PAGE_START_SECONDS
from contact_gateway.store.source import PAGES_AT_ONCE, SqlSource, StoreAccess
from support.clock import ManualClock
from support.contacts import submitted

pytestmark = pytest.mark.anyio

ALL = ContactFilter()

T = TypeVar("T")


class Walk:
    """Pages of two contacts, read by one API key."""

    def __init__(self, source: SqlSource, owner: ApiKeyOwner) -> None:
        self._access = StoreAccess(source, owner)
        self._added = 0

    async def add(self, contacts: int = 1) -> None:
        """Create contacts, which get the ids 1, 2, 3 …"""
        for _ in range(contacts):
            self._added += 1
            contact = submitted(advertiser_id=1001, email=f"{self._added}@example.com")
            await self._access.create_contact(Creation(contact, None, dry_run=False))

    async def page(self, number: int, wanted: ContactFilter = ALL, size: int = 2) -> list[int]:
        page = await self._access.contacts(wanted, PageRequest(number, size))
        return [contact.id for contact in page.items]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def source(database: Database, clock: ManualClock) -> SqlSource:
    return SqlSource(database, clock=clock)


@pytest.fixture
async def walk(source: SqlSource, admin: ApiKeyOwner) -> Walk:
    walk = Walk(source, admin)
    await walk.add(7)
    return walk


async def test_a_walk_sees_each_contact_once_though_others_are_added(walk: Walk) -> None:
    seen = []
    for number in (1, 2, 3, 4):
        seen += await walk.page(number)
        await walk.add(3)

    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_pages_are_the_same_when_read_one_by_one_and_by_their_numbers(
    walk: Walk, other_admin: ApiKeyOwner, source: SqlSource
) -> None:
    other = Walk(source, other_admin)
    in_order = [await walk.page(number) for number in (1, 2, 3, 4, 5)]

    assert [await other.page(number) for number in (5, 4, 3, 2, 1)] == in_order[::-1]


async def test_pages_that_are_asked_for_at_once_share_transactions(
    database: Database, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, transactions = database.look_up, 0

    async def counted(work: Callable[[Connection], T]) -> T:
        nonlocal transactions
        transactions += 1
        return await look_up(work)

    monkeypatch.setattr(database, "look_up", counted)
    sizes = range(1, 2 * PAGES_AT_ONCE + 1)

    pages = await asyncio.gather(*(walk.page(1, size=size) for size in sizes))

    assert pages == [[7, 6, 5, 4, 3, 2, 1][:size] for size in sizes]
    assert transactions == 2


async def test_a_page_that_follows_none_is_counted_from_the_newest_contact(walk: Walk) -> None:
    assert await walk.page(3) == [3, 2]

    await walk.add(1)

    assert await walk.page(3) == [4, 3]


async def test_a_new_walk_begins_with_the_newest_contact(walk: Walk) -> None:
    await walk.page(1)
    await walk.add(1)

    assert await walk.page(1) == [8, 7]
    assert await walk.page(2) == [6, 5]


async def test_a_page_can_be_read_again_and_is_the_same(walk: Walk) -> None:
    await walk.page(1)
    await walk.add(5)

    assert [await walk.page(2), await walk.page(2)] == [[5, 4], [5, 4]]


@pytest.mark.parametrize(
    ("wanted", "size"),
    [
        pytest.param(ContactFilter(advertiser_id=1001), 2, id="another filter"),
        pytest.param(ALL, 1, id="another size"),
    ],
)
async def test_another_list_has_its_own_pages(walk: Walk, wanted: ContactFilter, size: int) -> None:
    await walk.page(1)
    await walk.add(4)

    assert await walk.page(2, wanted, size) == [11 - size, 10 - size][:size]


async def test_another_key_has_its_own_pages(
    walk: Walk, source: SqlSource, other_admin: ApiKeyOwner
) -> None:
    await walk.page(1)
    await walk.add(4)

    assert await Walk(source, other_admin).page(2) == [9, 8]


async def test_the_start_of_a_page_is_forgotten_after_a_time(
    walk: Walk, clock: ManualClock
) -> None:
    await walk.page(1)
    await walk.add(1)
    await clock.advance(PAGE_START_SECONDS)

    assert await walk.page(2) == [6, 5]
    assert await walk.page(3) == [4, 3]


async def test_so_many_starts_are_remembered(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_PAGE_STARTS", 2)
    for size in (1, 2, 3):
        await walk.page(1, size=size)
    await walk.add(1)

    assert await walk.page(2, size=1) == [7]
    assert await walk.page(2, size=3) == [4, 3, 2]


async def test_advertisers_are_walked_through_too(source: SqlSource, admin: ApiKeyOwner) -> None:
    access = StoreAccess(source, admin)
    pages = [
        await access.advertisers(AdvertiserFilter(), PageRequest(number, 3)) for number in (1, 2, 3)
    ]

    ids = [advertiser.id for page in pages for advertiser in page.items]
    assert ids == sorted(ids, reverse=True)
    assert [(len(page.items), page.has_more) for page in pages] == [
        (3, True),
        (3, True),
        (1, False),
    ]
