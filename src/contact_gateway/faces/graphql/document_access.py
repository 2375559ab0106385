"""Deduplicates the reads of one GraphQL document, and limits the records of its result.

Each record and page is read once, however often a document selects it. Advertisers that are
selected side by side are read in one lookup, and those of a page are not read again. The result has
a record as often as the document selects it.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Final, TypeAlias, TypeVar

from strawberry.dataloader import DataLoader

from contact_gateway.access.principals import Identity
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import ReadRefusal
from contact_gateway.contacts.source import (
    Access,
    AdvertiserFilter,
    ContactFilter,
    Page,
    PageRequest,
)
from contact_gateway.faces.graphql.limits import DocumentLimits
from contact_gateway.faces.graphql.single_flight import SingleFlight

_MaybeAdvertiser: TypeAlias = Advertiser | ReadRefusal | None
_Equivalents: TypeAlias = Sequence[Advertiser] | ReadRefusal
_Record = TypeVar("_Record")


class DocumentAccess:
    """Implements `contacts.source.Access` for one document, over the access of its caller.

    Its reads of records raise a `GraphQLError` beyond the limit of records.
    """

    def __init__(self, access: Access, limits: DocumentLimits) -> None:
        self._access: Final = access
        self._limits: Final = limits
        self._records = 0
        self._reads: Final = SingleFlight()
        self.principal: Final = access.principal
        self.filters: Final = access.filters
        self.create_contact: Final = access.create_contact
        self.create_contacts: Final = access.create_contacts
        self.contacts_of_brand: Final = access.contacts_of_brand

    @cached_property
    def _advertiser(self) -> DataLoader[int, _MaybeAdvertiser]:
        async def load(ids: list[int]) -> list[_MaybeAdvertiser]:
            found = await self._access.advertisers_by_id(ids)
            return [found.get(an_id) for an_id in ids]

        return DataLoader(load_fn=load)

    @cached_property
    def _equivalents(self) -> DataLoader[int, _Equivalents]:
        async def load(ids: list[int]) -> list[_Equivalents]:
            found = await self._access.equivalents(ids)
            return [found.get(an_id, ()) for an_id in ids]

        return DataLoader(load_fn=load)

    async def identify(self) -> Identity | ReadRefusal:
        """Return the label and the role of the credential."""
        return await self._reads.get(self._access.identify)

    async def contact(self, contact_id: int) -> Contact | ReadRefusal | None:
        """Return one contact, or None."""
        self._count(1)
        return await self._reads.get(self._access.contact, contact_id)

    async def contacts(
        self, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal:
        """Return a page of contacts."""
        found = await self._reads.get(self._access.contacts, wanted, page)
        if isinstance(found, Page):
            self._count(len(found.items))
        return found

    async def advertisers(
        self, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        """Return a page of advertisers."""
        found = await self._reads.get(self._access.advertisers, wanted, page)
        if isinstance(found, Page):
            self._count(len(found.items))
            self._prime(found.items)
        return found

    async def advertisers_by_id(
        self, ids: Collection[int]
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return the advertisers that exist, by id."""
        self._count(len(ids))
        found = await _load(self._advertiser, ids)
        return {
            an_id: record for an_id, record in zip(ids, found, strict=True) if record is not None
        }

    async def advertiser_by_slug(self, slug: str) -> _MaybeAdvertiser:
        """Return the advertiser with a slug."""
        self._count(1)
        found = await self._reads.get(self._access.advertiser_by_slug, slug)
        if isinstance(found, Advertiser):
            self._prime((found,))
        return found

    async def equivalents(self, hienergy_ids: Collection[int]) -> Mapping[int, _Equivalents]:
        """Return the network records of each brand, by the id of its HiEnergy record."""
        found = await _load(self._equivalents, hienergy_ids)
        for records in found:
            if isinstance(records, Sequence):
                self._count(len(records))
                self._prime(records)
        return dict(zip(hienergy_ids, found, strict=True))

    def _count(self, records: int) -> None:
        self._records += records
        if self._records > self._limits.records:
            raise self._limits.too_many_records()

    def _prime(self, records: Sequence[Advertiser]) -> None:
        self._advertiser.prime_many({record.id: record for record in records})


async def _load(loader: DataLoader[int, _Record], ids: Collection[int]) -> list[_Record]:
    # Shielded: other fields may wait for the same records, so a cancelled one must not cancel them.
    return await asyncio.shield(loader.load_many(ids))
