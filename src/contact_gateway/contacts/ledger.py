"""The ledger of creations sent to another system, so that no retry creates a second contact.

An attempt is written before the call and closed after the response. A retry that finds an open
attempt, because the process died or the response was lost, looks the contact up first.
"""

from datetime import datetime
from typing import NamedTuple, Protocol

from contact_gateway.contacts.contact import Contact


class Attempt(NamedTuple):
    """A creation under an idempotency key, written just before its call. Times are aware, in UTC.

    Attributes:
        fingerprint: the fingerprint of the submission.
        advertiser_id: the submitted advertiser.
        email: the submitted address.
        sent_at: when the call started.
        holder: the id of the worker that may call, or wait for the response, until `held_until`.
        held_until: when another worker may take over.
        contact: what was created; None until a response was seen.
    """

    fingerprint: bytes
    advertiser_id: int
    email: str
    sent_at: datetime
    holder: str
    held_until: datetime
    contact: Contact | None = None


def claim(found: Attempt | None, wanted: Attempt) -> Attempt:
    """Return the ledger's entry after a worker claims it with its own attempt.

    The new attempt if there was none; an answered or held one unchanged; an abandoned one with the
    new worker as its holder.
    """
    if found is None:
        return wanted
    if found.contact is not None or found.held_until > wanted.sent_at:
        return found
    return found._replace(holder=wanted.holder, held_until=wanted.held_until)


class Ledger(Protocol):
    """Stores attempts durably, each under a digest of the caller and its idempotency key."""

    async def find(self, key: bytes, /) -> Attempt | None:
        """Return the attempt under a key.

        Raises:
            SourceUnavailable: the ledger does not respond.
        """
        ...

    async def claim(self, key: bytes, wanted: Attempt, /) -> Attempt:
        """Apply `claim` in one transaction; return the entry after it.

        Raises:
            SourceUnavailable: the ledger does not respond; nothing was written.
        """
        ...

    async def put(self, key: bytes, holder: str, attempt: Attempt | None, /) -> bool:
        """Replace or, with None, delete an entry; return False if `holder` no longer holds it.

        Raises:
            SourceUnavailable: the ledger does not respond.
        """
        ...
