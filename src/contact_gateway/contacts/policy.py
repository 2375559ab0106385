"""Who may create a contact, and on which record.

Pure functions over plain values: nothing here waits, reads or writes.
"""

from dataclasses import dataclass

from contact_gateway.access.principals import Principal, Role
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, ContactPreview, NewContact
from contact_gateway.contacts.outcomes import (
    Conflict,
    Created,
    Forbidden,
    IdempotencyKeyReused,
    NotFound,
    Previewed,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the source knows that bears on one submission, all at one moment.

    `earlier` is what its idempotency key created, with the fingerprint of that input; `hienergy`
    is the record that the submitted advertiser names as its brand's; `existing` is the contact
    with the submitted address on that record.
    """

    earlier: tuple[bytes, Contact] | None
    hienergy: Advertiser | None
    existing: Contact | None


@dataclass(frozen=True, slots=True)
class Insert:
    """All rules hold: store this contact, on this record."""

    advertiser: Advertiser
    contact: NewContact


def may_create(principal: Principal) -> Forbidden | None:
    """Rule 2: only admins create contacts."""
    return None if principal.role is Role.ADMIN else Forbidden()


def decide(
    submitted: NewContact, facts: Facts, *, dry_run: bool
) -> Insert | Created | Previewed | IdempotencyKeyReused | NotFound | Conflict:
    """Apply rules 5 to 7, in order: replay, resolve, refuse a second contact, or insert."""
    if facts.earlier is not None:
        fingerprint, contact = facts.earlier
        if fingerprint != submitted.fingerprint():
            return IdempotencyKeyReused()
        if dry_run:
            return Previewed(ContactPreview.of_contact(contact))
        return Created(contact, replayed=True)
    if facts.hienergy is None or not facts.hienergy.is_hienergy:
        return NotFound()
    if facts.existing is not None:
        return Conflict(facts.existing)
    if dry_run:
        return Previewed(ContactPreview.of(submitted, facts.hienergy))
    return Insert(facts.hienergy, submitted)
