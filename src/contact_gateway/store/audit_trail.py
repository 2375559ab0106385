"""The audit trail: which API key created a contact, through which face and in which request."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from contact_gateway.store.tables import api_keys, contacts


class AuditRecord(NamedTuple):
    """How a contact was created. The last four are None if it is older than the audit trail."""

    contact_id: int
    advertiser_id: int
    created_at: datetime
    key_id: int | None
    key_label: str | None
    face: str | None
    request_id: str | None


def of_contact(connection: Connection, contact_id: int) -> AuditRecord | None:
    """Return how the contact with this id was created, or None."""
    row = connection.execute(
        # In the order of the record's fields.
        select(
            contacts.c.id,
            contacts.c.advertiser_id,
            contacts.c.created_at,
            contacts.c.created_by_key_id,
            api_keys.c.label,
            contacts.c.created_through,
            contacts.c.created_by_request_id,
        )
        .outerjoin_from(contacts, api_keys, api_keys.c.id == contacts.c.created_by_key_id)
        .where(contacts.c.id == contact_id)
    ).one_or_none()
    return None if row is None else AuditRecord._make(row)
