"""Pagination by page numbers. A page is read with a row more, to know whether another follows.

Its last id is remembered, so that the next page begins there: a walk through the pages takes the
same time for each, and returns no row twice although rows are added. Any other page
is counted from the newest row.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, Page, PageRequest
from contact_gateway.store.lists import Part

PAGE_START_SECONDS: Final = 600.0
"""How long a process remembers where the next page of a list begins."""

MAX_PAGE_STARTS: Final = 4096
"""How many such pages it remembers, of all lists."""

Listed = TypeVar("Listed", Contact, Advertiser)
Filter = TypeVar("Filter", ContactFilter, AdvertiserFilter)

# The filters that select what an index has in the order of the lists.
_OWNERS: Final = frozenset({"advertiser_id", "advertiser_slug", "hienergy_id"})


class WantedPage(NamedTuple, Generic[Filter]):
    """A page of a list; `before` is the last id of the page before it, if that is known."""

    wanted: Filter
    request: PageRequest
    before: int | None


def is_in_order_of_an_index(page: WantedPage[Filter]) -> bool:
    """Return whether an index has all rows of a page, one after the other, and no others.

    Such a page takes a tenth of a millisecond in a database of any size.
    """
    wanted, request, before = page
    return (before is not None or request.number == 1) and all(
        value is None or name in _OWNERS for name, value in zip(wanted._fields, wanted, strict=True)
    )


_PageOfList: TypeAlias = tuple[int, type, ContactFilter | AdvertiserFilter, PageRequest]
"""A page of one caller's list: the API key, the kind of the filter, the filter and the page."""


class _Start(NamedTuple):
    before: int
    expires_at: float


class PageStarts:
    """Where the pages begin that follow those which were read, for each API key and filter."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        # In the order of their time.
        self._starts: Final[dict[_PageOfList, _Start]] = {}

    def before(
        self, key_id: int, wanted: ContactFilter | AdvertiserFilter, request: PageRequest
    ) -> int | None:
        """Return the id below which a page begins, or None if that is not known."""
        start = self._starts.get((key_id, type(wanted), wanted, request))
        return None if start is None or start.expires_at <= self._clock() else start.before

    def remember(
        self, key_id: int, wanted: ContactFilter | AdvertiserFilter, page: Page[Listed]
    ) -> None:
        """Remember where the page after one begins. The oldest start is forgotten for it."""
        if not page.has_more:
            return
        request = page.request._replace(number=page.request.number + 1)
        following = key_id, type(wanted), wanted, request
        self._starts.pop(following, None)
        expires_at = self._clock() + PAGE_START_SECONDS
        self._starts[following] = _Start(page.items[-1].id, expires_at)
        if len(self._starts) > MAX_PAGE_STARTS:
            del self._starts[next(iter(self._starts))]


def part_of(request: PageRequest, before: int | None) -> Part:
    """Return the part of a list that a page needs; `before` is the last id of the page before."""
    offset = 0 if before is not None else (request.number - 1) * request.size
    return Part(request.size + 1, offset, before)


def page_of(request: PageRequest, records: Iterable[Listed]) -> Page[Listed]:
    """Return the page of records that were read with a row more."""
    found = tuple(records)
    return Page(found[: request.size], request, has_more=len(found) > request.size)
