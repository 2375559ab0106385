"""The source as one document sees it: what it asks for twice is read once, and together.

The same record or page is asked for once, however often a document names it, and advertisers named
side by side are asked for in one look-up. The records of a page are not read again.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Final, TypeAlias, TypeVar

from strawberry.dataloader import DataLoader

from contact_gateway.access.principals import AnyPrincipal, Credential, Identity, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import CreateContactOutcome, ReadRefusal
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    Source,
)
from contact_gateway.faces.graphql.single_flight import SingleFlight

_Found: TypeAlias = Advertiser | ReadRefusal | None
_Equivalents: TypeAlias = Sequence[Advertiser] | ReadRefusal
_ContactsKey: TypeAlias = tuple[ContactFilter, PageRequest]
_AdvertisersKey: TypeAlias = tuple[AdvertiserFilter, PageRequest]
_Record = TypeVar("_Record")


class DocumentSource:
    """Implements `contacts.source.Source` for one document, and so for one caller."""

    def __init__(self, source: Source) -> None:
        self._source: Final = source

    @cached_property
    def _identity(self) -> SingleFlight[None, Identity | ReadRefusal]:
        return SingleFlight()

    @cached_property
    def _contact(self) -> SingleFlight[int, Contact | ReadRefusal | None]:
        return SingleFlight()

    @cached_property
    def _contacts(self) -> SingleFlight[_ContactsKey, Page[Contact] | ReadRefusal]:
        return SingleFlight()

    @cached_property
    def _advertisers(self) -> SingleFlight[_AdvertisersKey, Page[Advertiser] | ReadRefusal]:
        return SingleFlight()

    @cached_property
    def _slug(self) -> SingleFlight[str, _Found]:
        return SingleFlight()

    @cached_property
    def _advertiser(self) -> DataLoader[tuple[AnyPrincipal, int], _Found]:
        return DataLoader(load_fn=self._load_advertisers)

    @cached_property
    def _equivalents(self) -> DataLoader[tuple[AnyPrincipal, int], _Equivalents]:
        return DataLoader(load_fn=self._load_equivalents)

    async def authenticate(self, credential: Credential) -> AnyPrincipal | KeyRefusal:
        """Return whom a credential speaks for."""
        return await self._source.authenticate(credential)

    async def identify(self, principal: AnyPrincipal) -> Identity | ReadRefusal:
        """Return what the caller's key says of its owner."""
        return await self._identity.get(None, lambda: self._source.identify(principal))

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        """Carry out one creation."""
        return await self._source.create_contact(creation)

    async def contact(
        self, principal: AnyPrincipal, contact_id: int
    ) -> Contact | ReadRefusal | None:
        """Return one contact."""
        return await self._contact.get(
            contact_id, lambda: self._source.contact(principal, contact_id)
        )

    async def contacts(
        self, principal: AnyPrincipal, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal:
        """Return a page of contacts."""
        found = await self._contacts.get(
            (wanted, page), lambda: self._source.contacts(principal, wanted, page)
        )
        if isinstance(found, Page):
            self._contact.know({item.id: item for item in found.items})
        return found

    async def advertisers(
        self, principal: AnyPrincipal, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        """Return a page of advertisers."""
        found = await self._advertisers.get(
            (wanted, page), lambda: self._source.advertisers(principal, wanted, page)
        )
        if isinstance(found, Page):
            self._remember(principal, found.items)
        return found

    async def advertisers_by_id(
        self, principal: AnyPrincipal, ids: Collection[int]
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return those of the advertisers that there are."""
        found = await _loaded(self._advertiser, principal, ids)
        return {
            an_id: record for an_id, record in zip(ids, found, strict=True) if record is not None
        }

    async def advertiser_by_slug(self, principal: AnyPrincipal, slug: str) -> _Found:
        """Return the advertiser with a slug."""
        found = await self._slug.get(slug, lambda: self._source.advertiser_by_slug(principal, slug))
        if isinstance(found, Advertiser):
            self._remember(principal, (found,))
        return found

    async def equivalents(
        self, principal: AnyPrincipal, hienergy_ids: Collection[int]
    ) -> Mapping[int, _Equivalents]:
        """Return the network records of each of the brands."""
        found = await _loaded(self._equivalents, principal, hienergy_ids)
        for records in found:
            if isinstance(records, Sequence):
                self._remember(principal, records)
        return dict(zip(hienergy_ids, found, strict=True))

    def _remember(self, principal: AnyPrincipal, records: Sequence[Advertiser]) -> None:
        self._advertiser.prime_many({(principal, record.id): record for record in records})

    async def _load_advertisers(self, keys: list[tuple[AnyPrincipal, int]]) -> list[_Found]:
        found = await self._source.advertisers_by_id(keys[0][0], [an_id for _, an_id in keys])
        return [found.get(an_id) for _, an_id in keys]

    async def _load_equivalents(self, keys: list[tuple[AnyPrincipal, int]]) -> list[_Equivalents]:
        found = await self._source.equivalents(keys[0][0], [an_id for _, an_id in keys])
        return [found.get(an_id, ()) for _, an_id in keys]


async def _loaded(
    loader: DataLoader[tuple[AnyPrincipal, int], _Record],
    principal: AnyPrincipal,
    ids: Collection[int],
) -> list[_Record]:
    # Others may wait for the same records: who no longer does must not take them back.
    return await asyncio.shield(loader.load_many([(principal, an_id) for an_id in ids]))
