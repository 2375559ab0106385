"""`createContact`: its rules in their order, for every face.

Rules 1 to 4 are here. Rules 5 to 7 depend on what is stored: they are `policy.decide`, which the
source calls once it has the facts. If another system is the source of truth, it judges the key and
the facts, and its refusals become the rules' own; the input is still validated first.
"""

from collections.abc import Awaitable, Callable

from contact_gateway.contacts import policy
from contact_gateway.contacts.admission import Submission, authenticated, options_of, within_quota
from contact_gateway.contacts.contact import NewContact, new_contact
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    InvalidInput,
    RateLimited,
    Unauthorized,
)
from contact_gateway.contacts.source import ContactCaller, Creation


async def create_contact(
    caller: ContactCaller, read: Callable[[], Awaitable[Submission]]
) -> CreateContactOutcome:
    """Create a contact on the HiEnergy record of the submitted advertiser, or return why not.

    Args:
        caller: the sender of the request.
        read: reads the submission. Called only for a caller that may create contacts, so no other
            caller learns anything from the body. May raise errors of the face.

    Raises:
        SourceUnavailable: the source does not respond. The submission may be repeated.
    """
    access = await authenticated(caller)
    if isinstance(access, (Unauthorized, RateLimited)):
        return access
    if (forbidden := policy.may_create(access.principal.role)) is not None:
        return forbidden
    if (rate_limited := await within_quota(caller, access)) is not None:
        return rate_limited
    submission = await read()
    contact = new_contact(submission.raw)
    idempotency_key, dry_run, problems = options_of(submission)
    if not isinstance(contact, NewContact):
        return InvalidInput((*contact, *problems))
    if problems:
        return InvalidInput(problems)
    return await access.create_contact(
        Creation(contact, idempotency_key, dry_run, submission.origin)
    )
