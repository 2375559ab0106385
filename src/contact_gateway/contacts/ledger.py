"""The ledger of creations sent to another system, so that no repeat creates a second contact.

An attempt is written before the call and closed after the response. An attempt stays open if its
response was lost: only a lookup that shows the contact, or the operator, closes it.
"""

from datetime import datetime
from typing import Final, NamedTuple, Protocol

from contact_gateway.contacts.contact import Contact

NO_HOLDER: Final = ""
"""The holder of an attempt that is not in flight: its response was lost."""


class Attempt(NamedTuple):
    """A creation under an idempotency key, written just before its call. Times are aware, in UTC.

    Attributes:
        scope: a digest of the person that the idempotency key belongs to.
        fingerprint: the fingerprint of the submission.
        advertiser_id: the submitted advertiser.
        email: the submitted address.
        sent_at: when the first call started.
        holder: the id of the worker whose call is in flight, or `NO_HOLDER`.
        held_until: when the other system surely no longer processes the call.
        contact: what was created; None until it is known.
        is_unnamed: whether the other system answered that it created the contact, without its id.
    """

    scope: bytes
    fingerprint: bytes
    advertiser_id: int
    email: str
    sent_at: datetime
    holder: str
    held_until: datetime
    contact: Contact | None = None
    is_unnamed: bool = False

    def is_in_flight(self, now: datetime) -> bool:
        """Return whether a worker may still be waiting for the response."""
        return self.contact is None and self.holder != NO_HOLDER and self.held_until > now


def claim(found: Attempt | None, wanted: Attempt) -> Attempt:
    """Return the ledger's entry after a worker claims it with its own attempt.

    The new attempt if there was none; a closed one, or one that may still be processed, unchanged;
    an older one with the new worker as its holder.
    """
    if found is None:
        return wanted
    if found.contact is not None or found.is_unnamed or found.held_until > wanted.sent_at:
        return found
    return found._replace(holder=wanted.holder, held_until=wanted.held_until)


def may_put(found: Attempt, holder: str) -> bool:
    """Return whether `holder` may replace or delete an entry: a closed one stays as it is.

    A caller may have got its contact.
    """
    return found.holder == holder and found.contact is None


class Ledger(Protocol):
    """Stores attempts durably, each under a digest of the person and the idempotency key.

    Every method raises `SourceUnavailable` if the ledger does not respond. A claim may be written
    all the same.
    """

    async def find(self, key: bytes, /) -> Attempt | None:
        """Return the attempt under a key."""
        ...

    async def claim(self, key: bytes, wanted: Attempt, /) -> Attempt:
        """Apply `claim` in one transaction; return the entry after it."""
        ...

    async def put(self, key: bytes, holder: str, attempt: Attempt | None, /) -> bool:
        """Replace or, with None, delete an open entry; return whether the ledger has `attempt`.

        It does nothing if the entry is closed, or `holder` does not hold it.
        """
        ...

    async def has_contact(self, contact_id: int, /) -> bool:
        """Return whether an attempt created a contact with this id."""
        ...

    async def contact(self, scope: bytes, contact_id: int, /) -> Contact | None:
        """Return a contact that a person created, as it was then."""
        ...
