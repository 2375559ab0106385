"""HiEnergy's API as the source of truth: it checks the keys and owns the records."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.ledger import Ledger
from contact_gateway.contacts.outcomes import CreateContactOutcome, ReadRefusal
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    Creation,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.creations import Creations
from contact_gateway.upstream.operations import Operations

T = TypeVar("T")

MAX_CONCURRENT_CALLS: Final = 10
"""How many calls one lookup of several records has in flight."""

_LARGEST_PAGE: Final = 100
_MAX_PAGES: Final = 10
# It takes linear time, because any client may send a value of any length.
_HEADER_VALUE: Final = re.compile("[\x20-\x7e]{1,4096}")


class UpstreamAccess(Operations):
    """Implements `contacts.source.Access` with as few calls as possible."""

    def __init__(
        self, client: UpstreamClient, credential: Credential, creations: Creations
    ) -> None:
        super().__init__(client, credential)
        self._creations: Final = creations

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        """Create a contact, at most once for each idempotency key."""
        return await self._creations.create(
            self, creation.contact, creation.idempotency_key, dry_run=creation.dry_run
        )

    async def advertisers_by_id(
        self, ids: Collection[int]
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return the advertisers that exist, by id: one call each, some of them in parallel."""
        found = await self._call_each(ids, self.advertiser)
        return {an_id: record for an_id, record in found.items() if record is not None}

    async def advertiser_by_slug(self, slug: str) -> Advertiser | ReadRefusal | None:
        """Return the advertiser with a slug."""
        found = await self.advertiser(slug)
        # Upstream may read a slug of digits as an id.
        return None if isinstance(found, Advertiser) and found.slug != slug else found

    async def equivalents(
        self, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        """Return the network records of each brand: one call each, some of them in parallel."""
        return await self._call_each(hienergy_ids, self._equivalents)

    async def _call_each(
        self, ids: Collection[int], call: Callable[[int], Awaitable[T]]
    ) -> dict[int, T]:
        """Make a call for each id, a bounded number in parallel, all within one timeout."""
        slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS)

        async def call_in_slot(an_id: int) -> T:
            async with slots:
                return await call(an_id)

        tasks = [asyncio.create_task(call_in_slot(an_id)) for an_id in ids]
        try:
            async with asyncio.timeout(self.timeout_seconds):
                results = await asyncio.gather(*tasks)
        except TimeoutError:
            raise SourceUnavailable("a lookup of several records timed out") from None
        finally:
            # If one call failed, the results of the others are not needed.
            for task in tasks:
                task.cancel()
        return dict(zip(ids, results, strict=True))

    async def _equivalents(self, hienergy_id: int) -> Sequence[Advertiser] | ReadRefusal:
        """Read the records that name a brand's HiEnergy record. Upstream may ignore the filter."""
        wanted = AdvertiserFilter(hienergy_id=hienergy_id)
        found: list[Advertiser] = []
        for number in range(1, _MAX_PAGES + 1):
            page = await self.advertisers(wanted, PageRequest(number, _LARGEST_PAGE))
            if not isinstance(page, Page):
                return page
            matching = [record for record in page.items if record.hienergy_id == hienergy_id]
            found += [record for record in matching if record.id != hienergy_id]
            if not page.has_more or len(matching) < len(page.items):
                break
        return sorted(found, key=lambda record: record.id)


class UpstreamSource:
    """Implements `contacts.source.Source` over upstream's API."""

    def __init__(self, client: UpstreamClient, ledger: Ledger) -> None:
        self._client: Final = client
        self._creations: Final = Creations(client.create_timeout_seconds, ledger)

    async def close(self) -> None:
        """Finish the creations in flight. The client and the ledger stay open."""
        await self._creations.close()

    async def authenticate(self, credential: Credential) -> UpstreamAccess | KeyRefusal:
        """Accept any credential that is a valid header value; upstream checks it."""
        secret = credential.secret
        if not _HEADER_VALUE.fullmatch(secret) or secret != secret.strip(" "):
            return KeyRefusal.MALFORMED
        return UpstreamAccess(self._client, credential, self._creations)
