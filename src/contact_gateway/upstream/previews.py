"""Dry runs upstream: previews by reads, since HiEnergy documents no dry run of a creation."""

from datetime import UTC, datetime
from typing import Final

from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import ContactPreview, NewContact
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    InvalidInput,
    NotFound,
    Previewed,
)
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.creations import (
    Creations,
    Keyed,
    listed_conflict,
    unknown_outcome,
)
from contact_gateway.upstream.operations import Operations
from contact_gateway.upstream.responses import Unnamed, dated

NOT_CHECKED: Final = (
    "Whether the API key may create contacts.",
    "Whether HiEnergy accepts the values.",
    "Whether a contact that no list shows has the address.",
)
"""What reads cannot show about a creation."""

OWNER_NOT_CHECKED: Final = "Which HiEnergy advertiser would own the contact."


async def preview(
    creations: Creations, caller: Operations, contact: NewContact, keyed: Keyed | None
) -> CreateContactOutcome:
    """Return what a creation would come to.

    Raises:
        SourceUnavailable: upstream or the ledger does not respond.
    """
    if keyed is not None:
        repeat = await creations.preview_of_repeat(keyed)
        if repeat is not None:
            return repeat
    if not creations.traits.honours_dry_run:
        return await _preview_by_reads(caller, contact)
    sent_at = datetime.now(UTC)
    answer = await caller.send_dry_run(contact)
    if not isinstance(answer, (Created, Unnamed)):
        return answer
    creations.traits.record_ignored_dry_run()
    if keyed is not None:
        await creations.record_created(keyed, answer)
    if isinstance(answer, Created):
        return dated(answer, sent_at)
    message = policy.UNNAMED_WITHOUT_KEY if keyed is None else policy.UNNAMED
    return unknown_outcome(message, contact, sent_at)


async def _preview_by_reads(caller: Operations, contact: NewContact) -> CreateContactOutcome:
    advertiser = await caller.advertiser(contact.advertiser_id)
    if advertiser is None:
        return NotFound(policy.NO_HIENERGY_ADVERTISER)
    if isinstance(advertiser, InvalidInput):
        raise SourceUnavailable("upstream refused to read an advertiser as invalid")
    if not isinstance(advertiser, Advertiser):
        return advertiser
    refused = await listed_conflict(caller, contact)
    if refused is not None:
        return refused
    owner = advertiser if advertiser.is_hienergy else None
    if owner is None and advertiser.hienergy_id is not None:
        found = await caller.advertiser(advertiser.hienergy_id)
        owner = found if isinstance(found, Advertiser) else None
    if owner is None:
        return Previewed(ContactPreview(contact, None, (OWNER_NOT_CHECKED, *NOT_CHECKED)))
    return Previewed(ContactPreview.of(contact, owner)._replace(not_checked=NOT_CHECKED))
