"""What an export reads from a database, on behalf of the operator and not of an API key."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from contact_gateway.contact_files.exporting import ExportedPart
from contact_gateway.contacts.contact import Contact
from contact_gateway.store.contacts import SELECT
from contact_gateway.store.database import Database
from contact_gateway.store.tables import contacts

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
    owned = () if advertiser_id is None else (contacts.c.advertiser_id == advertiser_id,)
    greatest = select(func.max(contacts.c.id)).where(*owned)
    end = await database.read(lambda connection: connection.scalar(greatest)) or 0
    wanted = SELECT.where(contacts.c.id <= end, *owned).order_by(contacts.c.id)
    wanted = wanted.limit(CONTACTS_AT_A_TIME)
    position = 0
    while position < end:
        found = await database.read(partial(_read, query=wanted.where(contacts.c.id > position)))
        position = found[-1].id if found else end
        yield ExportedPart(found, position=position, end=end)


def _read(connection: Connection, query: Select[Any]) -> Sequence[Contact]:
    return [Contact._make(row) for row in connection.execute(query)]
