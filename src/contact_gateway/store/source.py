"""The SQL store as a source of truth."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from contact_gateway.access.principals import (
    AnyPrincipal,
    Credential,
    Identity,
    KeyRefusal,
    Principal,
)
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import CreateContactOutcome
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
)
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store import contacts as contact_rows
from contact_gateway.store.batched_reads import BatchedReader
from contact_gateway.store.caches import AdvertiserCache, ApiKeyCache, Clock
from contact_gateway.store.group_commit import MAX_QUEUED, CommitObserver, GroupCommit
from contact_gateway.store.sqlite import Database


class SqlSource:
    """Implements `contacts.source.Source`: each method is a part of one transaction."""

    def __init__(
        self,
        database: Database,
        observer: CommitObserver | None = None,
        max_queued: int = MAX_QUEUED,
        clock: Clock = time.monotonic,
    ) -> None:
        self._database: Final = database
        self._writer: Final = GroupCommit(
            database,
            contact_rows.create,
            contact_rows.purge_idempotency_keys,
            observer,
            max_queued,
        )
        self._contacts: Final = BatchedReader(database, contact_rows.by_id)
        self._advertisers: Final = AdvertiserCache(
            BatchedReader(database, advertiser_rows.by_id), clock
        )
        self._keys: Final = ApiKeyCache(BatchedReader(database, key_rows.by_lookup), clock)

    async def close(self) -> None:
        """Finish what was accepted. The database stays open."""
        await self._writer.close()

    async def authenticate(self, credential: Credential) -> Principal | KeyRefusal:
        """Return whom a key speaks for; a malformed one costs no look-up."""
        return await self._keys.authenticate(credential)

    async def identify(self, principal: AnyPrincipal) -> Identity:
        """Return what was found when the key was authenticated."""
        if not isinstance(principal, Principal):
            raise TypeError("the store serves the owners of its own keys")
        return Identity(label=principal.label, role=principal.role)

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        """Carry out one creation, in a transaction with those that wait beside it."""
        return await self._writer.write(creation)

    async def contact(self, _: AnyPrincipal, contact_id: int) -> Contact | None:
        """Return one contact."""
        return await self._contacts.get(contact_id)

    async def contacts(
        self, _: AnyPrincipal, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact]:
        """Return a page of contacts."""
        return await self._database.read(
            lambda connection: contact_rows.page(connection, wanted, page)
        )

    async def advertisers(
        self, _: AnyPrincipal, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser]:
        """Return a page of advertisers."""
        return await self._database.read(
            lambda connection: advertiser_rows.page(connection, wanted, page)
        )

    async def advertisers_by_id(
        self, _: AnyPrincipal, ids: Collection[int]
    ) -> Mapping[int, Advertiser]:
        """Return those of the advertisers that there are."""
        return await self._advertisers.by_id(ids)

    async def advertiser_by_slug(self, _: AnyPrincipal, slug: str) -> Advertiser | None:
        """Return the advertiser with a slug."""
        return await self._database.read(
            lambda connection: advertiser_rows.by_slug(connection, slug)
        )

    async def equivalents(
        self, _: AnyPrincipal, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser]]:
        """Return the network records of each of the brands."""
        return await self._database.read(
            lambda connection: advertiser_rows.equivalents(connection, hienergy_ids)
        )
