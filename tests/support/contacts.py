"""Contacts and outcomes for tests, with null for every field that a test leaves out."""

from datetime import datetime

from contact_gateway.contacts import policy
from contact_gateway.contacts.contact import Contact, ContactDetails, NewContact
from contact_gateway.contacts.outcomes import Conflict, Forbidden, IdempotencyKeyReused, NotFound
from contact_gateway.contacts.timestamps import timestamp

FORBIDDEN = Forbidden(policy.FORBIDDEN)
KEY_REUSED = IdempotencyKeyReused(policy.KEY_REUSED)
NOT_FOUND = NotFound(policy.NO_HIENERGY_ADVERTISER)


def conflict(existing: Contact | None) -> Conflict:
    """Return the conflict with a contact."""
    return Conflict(existing, policy.ADDRESS_IS_TAKEN)


def submitted(
    *, advertiser_id: int, email: str, name: str | None = None, phone: str | None = None
) -> NewContact:
    """Return a valid submission."""
    return NewContact(
        advertiser_id=advertiser_id,
        email=email,
        name=name,
        given_name=None,
        family_name=None,
        phone=phone,
        job_title=None,
        source=None,
        status=None,
        linkedin_profile_url=None,
    )


def stored(
    details: ContactDetails[str],
    moment: datetime,
    *,
    id_: int = 1,
    advertiser_name: str | None = None,
) -> Contact:
    """Return a contact that was created at a moment."""
    time = timestamp(moment)
    return Contact(id_, *details, advertiser_name, created_at=time, updated_at=time)
