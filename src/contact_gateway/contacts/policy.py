"""Who may create a contact, and on which record.

Pure functions over plain values: nothing here waits, reads or writes. In front of HiEnergy, its API
decides both, and its refusals become those of these rules.
"""

from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias, TypeVar

from contact_gateway.access.principals import KeyRefusal, Role
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, ContactPreview, NewContact
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    Conflict,
    Created,
    Existing,
    Forbidden,
    IdempotencyKeyReused,
    NotFound,
    Previewed,
    Unauthorized,
)

Outcome = TypeVar("Outcome", bound=BatchedOutcome)

FORBIDDEN: Final = "Only an admin's API key may create contacts."
KEY_REUSED: Final = "This idempotency key was used before with a different input."
NO_HIENERGY_ADVERTISER: Final = "The advertiser does not resolve to a HiEnergy advertiser."
ADDRESS_IS_TAKEN: Final = "The HiEnergy advertiser already has a contact with this e-mail address."

LOST_WITHOUT_KEY: Final = (
    "HiEnergy may have created the contact: its answer was lost. Look for the contact in HiEnergy "
    "before you send it again, which may create a second one. With an idempotency key, a repeat "
    "looks for the contact."
)
STILL_IN_FLIGHT: Final = (
    "HiEnergy may still be creating the contact. Repeat with the same idempotency key to learn the "
    "outcome; a repeat creates no second contact."
)
UNNAMED: Final = (
    "HiEnergy created the contact, but its answer does not show which, and no list shows the "
    "contact yet. Look for it in HiEnergy. With this idempotency key, it is not sent again."
)
UNNAMED_WITHOUT_KEY: Final = (
    "HiEnergy created the contact, but its answer does not show which, and no list shows the "
    "contact yet. Look for it in HiEnergy before you send it again, which may create a second one."
)
UNAVAILABLE: Final = (
    "The service is temporarily unavailable. Retry later, a creation with its idempotency key."
)
STOPPED_BY_OUTAGE: Final = (
    "Not tried: the service did not respond to an earlier submission of the batch. Send it later."
)
STOPPED_BY_REFUSAL: Final = (
    "Not tried: HiEnergy refused the API key for an earlier submission of the batch."
)
STOPPED_BY_TIME: Final = "Not tried: the batch took too long. Send this submission again."
_LOST: Final = (
    "HiEnergy may have created the contact: its answer was lost. Repeat with the same idempotency "
    "key to look again; a repeat creates no second contact. Or look in HiEnergy. A new key may "
    "create a second contact."
)


class OnConflict(StrEnum):
    """What a caller wants if the contact's address is taken (rule 7)."""

    REFUSE = "refuse"
    RETURN_EXISTING = "return_existing"


class Earlier(NamedTuple):
    """What an idempotency key created before, and the fingerprint of the input it came with."""

    fingerprint: bytes
    contact: Contact


class Facts(NamedTuple):
    """What the source knows about one submission, all at one moment.

    Attributes:
        earlier: what its idempotency key created before.
        hienergy: the record that the submitted advertiser names as its brand's.
        existing: the contact on that record with the submitted address.
        refusal: why its API key is no longer valid, although it was when the request arrived.
    """

    earlier: Earlier | None
    hienergy: Advertiser | None
    existing: Contact | None
    refusal: KeyRefusal | None = None


class Insert(NamedTuple):
    """Every rule holds: store this contact, on this record."""

    advertiser: Advertiser
    contact: NewContact


Decision: TypeAlias = (
    Insert | Created | Previewed | Unauthorized | IdempotencyKeyReused | NotFound | Conflict
)


def may_create(role: Role | None) -> Forbidden | None:
    """Rule 2: only admins create contacts. A role of None is for the source to decide."""
    return Forbidden(FORBIDDEN) if role is Role.MEMBER else None


def repeat(
    submitted: NewContact, earlier: Earlier, *, dry_run: bool
) -> Created | Previewed | IdempotencyKeyReused:
    """Rule 5: the same input returns what the key created; another input is refused."""
    if earlier.fingerprint != submitted.fingerprint():
        return IdempotencyKeyReused(KEY_REUSED)
    contact = earlier.contact
    if dry_run:
        return Previewed(ContactPreview(contact.details, contact.advertiser_name))
    return Created(contact, replayed=True)


def unknown_outcome_message(*, is_unnamed: bool, candidate: Contact | None) -> str:
    """Rule 8: return what a caller can do about an attempt whose outcome is unknown.

    `candidate` is a contact with the address that may be the attempt's.
    """
    message = UNNAMED if is_unnamed else _LOST
    if candidate is None:
        return message
    return f"{message} HiEnergy shows contact {candidate.id} with this address, which may be it."


def decide(submitted: NewContact, facts: Facts, *, dry_run: bool) -> Decision:
    """Apply rules 5 to 7, in order: replay, resolve, refuse a duplicate contact, or insert.

    Rule 1 comes first once more: a key may be revoked while its request's body arrives.
    """
    earlier, hienergy, existing, refusal = facts
    if refusal is not None:
        return Unauthorized(refusal)
    if earlier is not None:
        return repeat(submitted, earlier, dry_run=dry_run)
    if hienergy is None or not hienergy.is_hienergy:
        return NotFound(NO_HIENERGY_ADVERTISER)
    if existing is not None:
        return Conflict(existing, ADDRESS_IS_TAKEN)
    if dry_run:
        return Previewed(ContactPreview.of(submitted, hienergy))
    return Insert(hienergy, submitted)


def answer(outcome: Outcome, on_conflict: OnConflict) -> Outcome | Existing:
    """Return an outcome as the caller wants it: the existing contact may replace a conflict.

    Nothing about it is updated: HiEnergy has no such operation. It may refuse without the contact.
    """
    if (
        on_conflict is OnConflict.RETURN_EXISTING
        and isinstance(outcome, Conflict)
        and outcome.existing is not None
    ):
        return Existing(outcome.existing)
    return outcome
