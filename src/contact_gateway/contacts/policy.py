"""Who may create a contact, and on which record.

Pure functions over plain values: nothing here waits, reads or writes.
"""

from dataclasses import dataclass
from typing import TypeAlias

from contact_gateway.access.principals import AnyPrincipal, ForwardedPrincipal, KeyRefusal, Role
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, ContactPreview, NewContact
from contact_gateway.contacts.outcomes import (
    Conflict,
    Created,
    Forbidden,
    IdempotencyKeyReused,
    NotFound,
    Previewed,
    Unauthorized,
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an idempotency key created before, and the fingerprint of the input it came with."""

    fingerprint: bytes
    contact: Contact


@dataclass(frozen=True, slots=True)
class Facts:
    """What the source knows that bears on one submission, all at one moment.

    `earlier` is what its idempotency key created; `hienergy` is the record that the submitted
    advertiser names as its brand's; `existing` is the contact with the submitted address on it;
    `refusal` is why its API key, which was good when it was looked at, is so no more.
    """

    earlier: Earlier | None
    hienergy: Advertiser | None
    existing: Contact | None
    refusal: KeyRefusal | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """All rules hold: store this contact, on this record."""

    advertiser: Advertiser
    contact: NewContact


Decision: TypeAlias = (
    Insert | Created | Previewed | Unauthorized | IdempotencyKeyReused | NotFound | Conflict
)


def may_create(principal: AnyPrincipal) -> Forbidden | None:
    """Rule 2: only admins create contacts; of a forwarded credential, the source judges."""
    if isinstance(principal, ForwardedPrincipal) or principal.role is Role.ADMIN:
        return None
    return Forbidden()


def repeat(
    submitted: NewContact, earlier: Earlier, *, dry_run: bool
) -> Created | Previewed | IdempotencyKeyReused:
    """Rule 5: the same input returns what the key created, another one is refused."""
    if earlier.fingerprint != submitted.fingerprint():
        return IdempotencyKeyReused()
    if dry_run:
        return Previewed(ContactPreview.of_contact(earlier.contact))
    return Created(earlier.contact, replayed=True)


def decide(submitted: NewContact, facts: Facts, *, dry_run: bool) -> Decision:
    """Apply rules 5 to 7, in order: replay, resolve, refuse a second contact, or insert.

    Before them, once more, rule 1: a body may take its time, and a key be revoked meanwhile.
    """
    if facts.refusal is not None:
        return Unauthorized(facts.refusal)
    if facts.earlier is not None:
        return repeat(submitted, facts.earlier, dry_run=dry_run)
    if facts.hienergy is None or not facts.hienergy.is_hienergy:
        return NotFound()
    if facts.existing is not None:
        return Conflict(facts.existing)
    if dry_run:
        return Previewed(ContactPreview.of(submitted, facts.hienergy))
    return Insert(facts.hienergy, submitted)
