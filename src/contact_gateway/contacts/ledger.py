"""The ledger of creations that another system carries out, so that no repeat makes a second one.

An attempt is written before the call and closed after its answer. Who finds one that was never
closed, because the process died or the answer got lost, looks first whether the contact is there.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from contact_gateway.contacts.contact import Contact


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A creation under an idempotency key, from just before its call. Times are aware, in UTC.

    `fingerprint`, `advertiser_id` and `email` are the submission's. `holder` is who may call, or
    wait for the answer, until `held_until`; then another may take over. `contact` is what was
    created; while it is None, the answer was not seen.
    """

    fingerprint: bytes
    advertiser_id: int
    email: str
    sent_at: datetime
    holder: str
    held_until: datetime
    contact: Contact | None = None


def claim(found: Attempt | None, wanted: Attempt) -> Attempt:
    """Return what stands in the ledger after somebody came with an attempt of their own.

    The new attempt where there was none; an answered one, or one that is held, as it was; one that
    nobody holds any more with the newcomer as its holder.
    """
    if found is None:
        return wanted
    if found.contact is not None or found.held_until > wanted.sent_at:
        return found
    return replace(found, holder=wanted.holder, held_until=wanted.held_until)


class Ledger(Protocol):
    """Keeps attempts, each under the digest of whose idempotency key it is. All is durable."""

    async def find(self, key: bytes, /) -> Attempt | None:
        """Return the attempt under a key.

        Raises:
            SourceUnavailable: the ledger does not answer.
        """
        ...

    async def claim(self, key: bytes, wanted: Attempt, /) -> Attempt:
        """Do `claim` in one transaction, and return what stands in the ledger then.

        Raises:
            SourceUnavailable: the ledger does not answer, and nothing was written.
        """
        ...

    async def put(self, key: bytes, holder: str, attempt: Attempt | None, /) -> bool:
        """Replace what `holder` holds, None to forget it; False where it is not theirs any more.

        Raises:
            SourceUnavailable: the ledger does not answer.
        """
        ...
