"""What an export reads from a database, on behalf of the operator and not of an API key."""

from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from typing import Final

from contact_gateway.contact_files.exporting import ExportedPart
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store import contacts as contact_rows
from contact_gateway.store.database import Database

CONTACTS_AT_A_TIME: Final = 500
"""How many contacts an export holds in memory."""


async def exported_contacts(
    database: Database, advertiser_id: int | None = None
) -> AsyncIterator[ExportedPart]:
    """Yield all contacts, or those of a HiEnergy advertiser, in the order of their ids.

    Each part is a read of its own, because a long transaction would keep SQLite's write-ahead log
    and PostgreSQL's dead rows from being cleaned up. Contacts with ids after the last one at the
    start are left out, so that it ends however many are created meanwhile.
    """
    end = await database.read(partial(contact_rows.last_id, advertiser_id=advertiser_id))
    position = 0
    while position < end:
        contacts = await database.read(
            partial(
                contact_rows.between,
                after=position,
                end=end,
                limit=CONTACTS_AT_A_TIME,
                advertiser_id=advertiser_id,
            )
        )
        position = contacts[-1].id if contacts else end
        yield ExportedPart(contacts, position=position, end=end)


class StoredAdvertisers:
    """Implements `contacts.advertiser_lookup.Advertisers` over a database."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def advertisers_by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        """Return the advertisers that exist, by id."""
        return await self._database.read(partial(advertiser_rows.by_id, ids=ids))

    async def advertiser_by_slug(self, slug: str) -> Advertiser | None:
        """Return the advertiser with a slug."""
        return await self._database.read(partial(advertiser_rows.by_slug, slug=slug))

    async def advertisers(self, wanted: AdvertiserFilter, page: PageRequest) -> Page[Advertiser]:
        """Return a page of advertisers."""
        return await self._database.read(partial(advertiser_rows.page, wanted=wanted, request=page))
