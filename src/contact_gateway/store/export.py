"""What an export reads from a database, on behalf of the operator and not of an API key."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from contact_gateway.contact_files.exporting import ExportedPart
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
