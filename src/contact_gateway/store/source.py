"""The SQL store as the source of truth."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Connection

from contact_gateway.access.principals import (
    ApiKeyOwner,
    Credential,
    Identity,
    KeyRefusal,
    Operator,
)
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    CreateContactOutcome,
    NotTried,
    Unavailable,
)
from contact_gateway.contacts.source import (
    OWN_FILTERS,
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    SearchTimedOut,
    SourceUnavailable,
)
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store import contacts as contact_rows
from contact_gateway.store import idempotency
from contact_gateway.store.batched_reads import BatchedReader
from contact_gateway.store.caches import AdvertiserCache, ApiKeyCache, Clock, utc_now
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from contact_gateway.store.group_commit import MAX_QUEUED, CommitObserver, GroupCommit
from contact_gateway.store.key_use import KeyUse
from contact_gateway.store.paging import (
    Filter,
    Listed,
    PageStarts,
    WantedPage,
    is_in_order_of_an_index,
)
from contact_gateway.store.turns import take_turn

SEARCH_TIMEOUT_SECONDS: Final = 2.0
MAX_SEARCHES_PER_KEY: Final = 2
"""How many searches one API key may run at once, in each process; others wait their turn."""

PAGES_AT_ONCE: Final = 16
"""How many pages that an index has are read together. A lookup waits for them: about 2 ms."""

MAX_CREATIONS_PER_TRANSACTION: Final = 1024
"""How many creations of one batch share a transaction. Other writes wait for it: about 50 ms."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class SqlSource:
    """Implements `contacts.source.Source` over one database.

    Creations share commits, lookups by id share statements, and keys and advertisers are cached.
    """

    def __init__(
        self,
        database: Database,
        observer: CommitObserver | None = None,
        max_queued: int = MAX_QUEUED,
        clock: Clock = time.monotonic,
        search_timeout_seconds: float = SEARCH_TIMEOUT_SECONDS,
    ) -> None:
        self.database: Final = database
        self._search_timeout_seconds: Final = search_timeout_seconds
        self._searches: Final[WeakValueDictionary[int, asyncio.Semaphore]] = WeakValueDictionary()
        self.creations: Final = GroupCommit(
            database, contact_rows.create, idempotency.purge, observer, max_queued
        )
        self.contacts: Final = BatchedReader(database, contact_rows.by_id)
        self.advertisers: Final = AdvertiserCache(
            BatchedReader(database, advertiser_rows.by_id), clock
        )
        self.contact_pages: Final = BatchedReader(
            database, partial(_pages, contact_rows.page), PAGES_AT_ONCE
        )
        self.advertiser_pages: Final = BatchedReader(
            database, partial(_pages, advertiser_rows.page), PAGES_AT_ONCE
        )
        self.page_starts: Final = PageStarts(clock)
        self._key_use: Final = KeyUse(database, clock)
        self._keys: Final = ApiKeyCache(
            BatchedReader(database, key_rows.by_lookup), clock, on_read=self._key_use.record
        )

    async def warn_of_expiring_keys(self) -> None:
        """Log the API keys that expire soon.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        await self._key_use.warn_of_expiring_keys(utc_now())

    async def close(self) -> None:
        """Finish the creations in flight. The database stays open."""
        await self.creations.close()
        await self._key_use.close()

    async def authenticate(self, credential: Credential) -> "StoreAccess | KeyRefusal":
        """Return the access of an API key; a malformed one costs no lookup."""
        owner = await self._keys.authenticate(credential)
        return owner if isinstance(owner, KeyRefusal) else StoreAccess(self, owner)

    async def search(self, key_id: int, work: Callable[[Connection], T]) -> T:
        """Return what `work` reads for an API key. Its further searches wait for a free turn.

        Raises:
            SearchTimedOut: the search, or the wait for a turn, took too long.
            SourceUnavailable: the database does not answer.
        """
        turns = self._searches.get(key_id)
        if turns is None:
            turns = self._searches[key_id] = asyncio.Semaphore(MAX_SEARCHES_PER_KEY)
        try:
            await take_turn(turns, self._search_timeout_seconds)
        except TimeoutError:
            raise SearchTimedOut(self._search_timeout_seconds) from None
        try:
            return await self.database.search(work, self._search_timeout_seconds)
        finally:
            turns.release()


class StoreAccess:
    """Implements `contacts.source.Access` for the owner of an API key, or for the operator.

    The operator's submissions have no idempotency keys, which belong to API keys.
    """

    def __init__(self, store: SqlSource, owner: ApiKeyOwner | Operator) -> None:
        self._store: Final = store
        self.principal: Final = owner
        self.filters: Final = OWN_FILTERS

    async def identify(self) -> Identity:
        """Return the label and the role of the key."""
        return Identity(self.principal.label, self.principal.role)

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        """Carry out one creation, in a transaction shared with the others in the queue."""
        owner = self.principal
        submitted = Submitted(owner.key_id, owner.secret_hash, creation)
        return await self._store.creations.write(submitted)

    async def create_contacts(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
        """Carry out the creations of a batch, many in each transaction.

        Raises:
            SourceUnavailable: the database does not answer to the first transaction.
        """
        outcomes: list[BatchedOutcome] = []
        key_id, secret_hash = self.principal.key_id, self.principal.secret_hash
        for start in range(0, len(creations), MAX_CREATIONS_PER_TRANSACTION):
            part = creations[start : start + MAX_CREATIONS_PER_TRANSACTION]
            jobs = [Submitted(key_id, secret_hash, creation) for creation in part]
            try:
                outcomes += await self._store.creations.write_together(jobs)
            except SourceUnavailable as error:
                if not outcomes:
                    raise
                _log.warning("source unavailable", cause=error.reason)
                unavailable = Unavailable(policy.UNAVAILABLE, error.retry_after_seconds)
                outcomes += [unavailable] * len(part)
                rest = len(creations) - len(outcomes)
                return [*outcomes, *[NotTried(policy.STOPPED_BY_OUTAGE)] * rest]
        return outcomes

    async def contact(self, contact_id: int) -> Contact | None:
        """Return one contact, or None."""
        return await self._store.contacts.get(contact_id)

    async def contacts(self, wanted: ContactFilter, page: PageRequest) -> Page[Contact]:
        """Return a page of contacts."""
        return await self._page(self._store.contact_pages, wanted, page)

    async def contacts_of_brand(
        self, advertiser_id: int, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | None:
        """Return a page of the contacts of an advertiser's brand, or None."""
        if not await self.advertisers_by_id((advertiser_id,)):
            return None
        return await self.contacts(wanted._replace(advertiser_id=advertiser_id), page)

    async def advertisers(self, wanted: AdvertiserFilter, page: PageRequest) -> Page[Advertiser]:
        """Return a page of advertisers."""
        return await self._page(self._store.advertiser_pages, wanted, page)

    async def advertisers_by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        """Return the advertisers that exist, by id."""
        return await self._store.advertisers.by_id(ids)

    async def advertiser_by_slug(self, slug: str) -> Advertiser | None:
        """Return the advertiser with a slug."""
        return await self._store.database.read(
            lambda connection: advertiser_rows.by_slug(connection, slug)
        )

    async def equivalents(
        self, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser]]:
        """Return the network records of each brand, by the id of its HiEnergy record."""
        return await self._store.database.read(
            lambda connection: advertiser_rows.equivalents(connection, hienergy_ids)
        )

    async def _page(
        self,
        pages: BatchedReader[WantedPage[Filter], Page[Listed]],
        wanted: Filter,
        request: PageRequest,
    ) -> Page[Listed]:
        """Read a page of a list from where the page before it ended, if that is known.

        A page that an index has costs as much as a record or two, so it needs no turn to search.
        """
        starts, key_id = self._store.page_starts, self.principal.key_id
        page = WantedPage(wanted, request, starts.before(key_id, wanted, request))
        found = await pages.get(page) if is_in_order_of_an_index(page) else None
        if found is None:
            found = await self._store.search(
                key_id, lambda connection: pages.read(connection, (page,))[page]
            )
        starts.remember(key_id, wanted, found)
        return found


def _pages(
    read: Callable[[Connection, Filter, PageRequest, int | None], Page[Listed]],
    connection: Connection,
    wanted: Collection[WantedPage[Filter]],
) -> Mapping[WantedPage[Filter], Page[Listed]]:
    return {page: read(connection, *page) for page in wanted}
