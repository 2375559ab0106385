"""HiEnergy's own API as a source of truth: it judges the key, and it has the records."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from contact_gateway.access.principals import (
    AnyPrincipal,
    Credential,
    ForwardedPrincipal,
    Identity,
    KeyRefusal,
)
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.ledger import Ledger
from contact_gateway.contacts.outcomes import CreateContactOutcome, ReadRefusal
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.upstream.creations import Creations
from contact_gateway.upstream.operations import Operations

T = TypeVar("T")

MAX_CALLS_AT_ONCE: Final = 10
"""How many calls one look-up of many records makes at a time."""

_LARGEST_PAGE: Final = 100
_MAX_PAGES: Final = 10
# Every caller may send one, so it is looked at in a time that grows with its length alone.
_TRAVELS: Final = re.compile("[\x20-\x7e]{1,4096}")


class UpstreamSource:
    """Implements `contacts.source.Source`: each method is one call, or as few as it takes."""

    def __init__(self, operations: Operations, ledger: Ledger) -> None:
        self._operations: Final = operations
        self._creations: Final = Creations(self._operations, ledger)

    async def close(self) -> None:
        """Finish what was accepted. The client and the ledger stay open."""
        await self._creations.close()

    async def authenticate(self, credential: Credential) -> ForwardedPrincipal | KeyRefusal:
        """Take the credential as it is, if it can travel in a header at all: upstream judges."""
        secret = credential.secret
        if not _TRAVELS.fullmatch(secret) or secret != secret.strip(" "):
            return KeyRefusal.MALFORMED
        return ForwardedPrincipal(credential)

    async def identify(self, principal: AnyPrincipal) -> Identity | ReadRefusal:
        """Return what upstream lets the key do; it tells no label."""
        return await self._operations.identify(_forwarded(principal))

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        """Carry out one creation, once for its idempotency key."""
        return await self._creations.create(
            _forwarded(creation.principal),
            creation.contact,
            creation.idempotency_key,
            dry_run=creation.dry_run,
        )

    async def contact(
        self, principal: AnyPrincipal, contact_id: int
    ) -> Contact | ReadRefusal | None:
        """Return one contact."""
        return await self._operations.contact(_forwarded(principal), contact_id)

    async def contacts(
        self, principal: AnyPrincipal, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal:
        """Return a page of contacts."""
        return await self._operations.contacts(_forwarded(principal), wanted, page)

    async def advertisers(
        self, principal: AnyPrincipal, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        """Return a page of advertisers."""
        return await self._operations.advertisers(_forwarded(principal), wanted, page)

    async def advertisers_by_id(
        self, principal: AnyPrincipal, ids: Collection[int]
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return those of the advertisers that there are: a call each, some at a time."""
        caller = _forwarded(principal)
        found = await self._each(ids, lambda an_id: self._operations.advertiser(caller, an_id))
        return {an_id: record for an_id, record in found.items() if record is not None}

    async def advertiser_by_slug(
        self, principal: AnyPrincipal, slug: str
    ) -> Advertiser | ReadRefusal | None:
        """Return the advertiser with a slug."""
        found = await self._operations.advertiser(_forwarded(principal), slug)
        # What upstream finds by an id that looks like a slug is not what was asked for.
        return None if isinstance(found, Advertiser) and found.slug != slug else found

    async def equivalents(
        self, principal: AnyPrincipal, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        """Return the network records of each of the brands: a call each, some at a time."""
        caller = _forwarded(principal)
        return await self._each(hienergy_ids, lambda an_id: self._equivalents(caller, an_id))

    async def _each(
        self, ids: Collection[int], call: Callable[[int], Awaitable[T]]
    ) -> dict[int, T]:
        """Make a call for each id, a bounded number at a time, and all in the time of one."""
        turns = asyncio.Semaphore(MAX_CALLS_AT_ONCE)

        async def in_turn(an_id: int) -> T:
            async with turns:
                return await call(an_id)

        tasks = [asyncio.create_task(in_turn(an_id)) for an_id in ids]
        try:
            async with asyncio.timeout(self._operations.timeout_seconds):
                answers = await asyncio.gather(*tasks)
        except TimeoutError:
            raise SourceUnavailable("upstream takes too long for many records") from None
        finally:
            # Where one has failed, the others' answers are of no use.
            for task in tasks:
                task.cancel()
        return dict(zip(ids, answers, strict=True))

    async def _equivalents(
        self, principal: ForwardedPrincipal, hienergy_id: int
    ) -> Sequence[Advertiser] | ReadRefusal:
        """Read the records that name a brand's; an upstream without this filter names others."""
        wanted = AdvertiserFilter(hienergy_id=hienergy_id)
        found: list[Advertiser] = []
        for number in range(1, _MAX_PAGES + 1):
            page = await self._operations.advertisers(
                principal, wanted, PageRequest(number, _LARGEST_PAGE)
            )
            if not isinstance(page, Page):
                return page
            named = [record for record in page.items if record.hienergy_id == hienergy_id]
            found += [record for record in named if record.id != hienergy_id]
            if not page.has_more or len(named) < len(page.items):
                break
        return sorted(found, key=lambda record: record.id)


def _forwarded(principal: AnyPrincipal) -> ForwardedPrincipal:
    if not isinstance(principal, ForwardedPrincipal):
        raise TypeError("upstream serves callers by their own credential")
    return principal
