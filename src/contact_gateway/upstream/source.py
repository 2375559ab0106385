"""HiEnergy's API as the source of truth: it checks the keys and owns the records."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.ledger import Ledger
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    CreateContactOutcome,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.source import (
    HIENERGY_FILTERS,
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.upstream import lookup
from contact_gateway.upstream.batches import CreationBatch
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.creations import Creations, keyed, scope_digest
from contact_gateway.upstream.operations import DEFAULT_MAX_CALLS, CallObserver, Operations
from contact_gateway.upstream.previews import preview
from contact_gateway.upstream.traits import Traits

T = TypeVar("T")

MAX_CONCURRENT_CALLS: Final = 10
"""How many calls one lookup of several records has in flight."""

MAX_CALLS_OF_CREATION: Final = 30
"""How many calls one creation may need: its own, and lookups of the contact in several lists."""

_LARGEST_PAGE: Final = 100
_MAX_PAGES: Final = 10
# It takes linear time, because any client may send a value of any length.
_HEADER_VALUE: Final = re.compile("[\x20-\x7e]{1,4096}")


class UpstreamReads(Operations):
    """The reads of `contacts.source.Access`, with as few calls as possible."""

    async def contacts_of_brand(
        self, advertiser_id: int, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal | None:
        """Return a page of an advertiser's contacts, by upstream's own operation for it.

        Only `GET /contacts` is documented to have filters, and always exists.
        """
        if wanted == ContactFilter():
            found = await self.contacts_of_advertiser(advertiser_id, wanted, page)
            if found is not None:
                return found
        owner = await self.advertiser(advertiser_id)
        if not isinstance(owner, Advertiser):
            return owner
        return await self.contacts(wanted._replace(advertiser_id=advertiser_id), page)

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
        """Make a call for each id, a bounded number in parallel, all within one timeout.

        A refused key and an exceeded limit are those of the calls that are not made yet, too.
        """
        slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        refusals: list[T] = []

        async def call_in_slot(an_id: int) -> T:
            async with slots:
                if refusals:
                    return refusals[0]
                result = await call(an_id)
                if isinstance(result, (Unauthorized, RateLimited)):
                    refusals.append(result)
                return result

        tasks = [asyncio.create_task(call_in_slot(an_id)) for an_id in ids]
        try:
            async with asyncio.timeout(self._client.timeout_seconds):
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


class UpstreamAccess(UpstreamReads):
    """Implements `contacts.source.Access`."""

    def __init__(self, source: "UpstreamSource", credential: Credential) -> None:
        super().__init__(
            source.client, credential, max_calls=source.max_calls, observer=source.observer
        )
        self._source: Final = source
        self.filters: Final = HIENERGY_FILTERS

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        """Create a contact, at most once for each idempotency key."""
        if self._calls and self._calls + MAX_CALLS_OF_CREATION > self._max_calls:
            return self._too_many_calls()
        contact, key = creation.contact, creation.idempotency_key
        submission = None if key is None else keyed(self, contact, key)
        if creation.dry_run:
            return await preview(self._source.creations, self, contact, submission)
        if submission is None:
            return await self._source.creations.create_unkeyed(self, contact)
        return await self._source.creations.create(submission)

    async def create_contacts(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
        """Carry out the creations of a batch. The limit on calls is for each of them.

        Raises:
            SourceUnavailable: upstream does not respond to the first creation.
        """

        async def create(creation: Creation) -> CreateContactOutcome:
            access = UpstreamAccess(self._source, self.credential)
            access.principal = self.principal
            return await access.create_contact(creation)

        timeout_seconds = self._source.client.create_timeout_seconds
        return await CreationBatch(create, self.principal, timeout_seconds).run(creations)

    async def contact(self, contact_id: int) -> Contact | ReadRefusal | None:
        """Return a contact, or what the ledger has of it where HiEnergy cannot show one contact.

        Source: no official client reads a single contact, so the operation may not exist.
        """
        traits = self._source.creations.traits
        found = await super().contact(contact_id)
        if isinstance(found, Contact):
            traits.shows_single_contacts = True
        if found is not None or traits.shows_single_contacts:
            return found
        created = await self._source.ledger.contact(scope_digest(self.credential), contact_id)
        if created is None:
            return None
        # The ledger's answers need a credential that upstream accepts in this request.
        shown = await lookup.find_contacts(self, created, is_first_look=True)
        if not isinstance(shown, lookup.Found):
            return shown
        return shown.with_id(contact_id) or created


class UpstreamSource:
    """Implements `contacts.source.Source` over upstream's API."""

    def __init__(
        self,
        client: UpstreamClient,
        ledger: Ledger,
        traits: Traits,
        *,
        max_calls: int = DEFAULT_MAX_CALLS,
        observer: CallObserver | None = None,
    ) -> None:
        self.client: Final = client
        self.max_calls: Final = max_calls
        self.observer: Final = observer
        self.ledger: Final = ledger
        self.creations: Final = Creations(
            ledger,
            traits,
            read_timeout_seconds=client.timeout_seconds,
            create_timeout_seconds=client.create_timeout_seconds,
        )

    async def close(self) -> None:
        """Finish the creations in flight. The client and the ledger stay open."""
        await self.creations.close()

    async def authenticate(self, credential: Credential) -> UpstreamAccess | KeyRefusal:
        """Accept any credential that is a valid header value; upstream checks it."""
        secret = credential.secret
        if not _HEADER_VALUE.fullmatch(secret) or secret != secret.strip(" "):
            return KeyRefusal.MALFORMED
        return UpstreamAccess(self, credential)
